//! What the rivals share, so that they differ only in the library they show: the command line, the rooms, and a writer
//! that sends several frames at once.
//!
//! A room is a list of queues, one for each connection, with room for 1,024 messages. When one is full, whoever speaks
//! waits until it has room again: nothing is lost, and the wait reaches the speaker through TCP.

mod cork;

pub use cork::Corked;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// How many messages may wait for one connection.
const QUEUE_MESSAGES_MAX: usize = 1024;

/// How many messages are taken out of a queue at a time, to be written at once.
pub const BATCH_MESSAGES_MAX: usize = 256;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 65_535;

/// Something to be sent to one connection.
#[derive(Clone, Debug)]
pub enum Item {
    /// A message of text.
    Text(Bytes),
    /// A message of bytes.
    Binary(Bytes),
    /// An answer to a ping.
    Pong(Bytes),
    /// A goodbye, with the payload of the frame; nothing comes after it.
    Close(Bytes),
}

/// Puts what is for one connection into its queue.
pub type Sender = mpsc::Sender<Item>;

/// The queue of a connection.
pub fn queue() -> (Sender, mpsc::Receiver<Item>) {
    mpsc::channel(QUEUE_MESSAGES_MAX)
}

/// A topic and all who hear it.
#[derive(Default, Debug)]
pub struct Room(Mutex<Vec<Sender>>);

impl Room {
    /// Adds someone, who hears everything from here on until their queue is dropped.
    pub fn join(&self, member: Sender) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(member);
    }

    /// Says something to everybody, and waits for those whose queue is full.
    pub async fn say(&self, item: Item) {
        let mut full = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|member| {
            match member.try_send(item.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    full.push(member.clone());
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
        for member in full {
            // Who went meanwhile needs nothing.
            let _ = member.send(item.clone()).await;
        }
    }
}

/// All topics there ever were, by path.
#[derive(Default, Debug)]
pub struct Rooms(Mutex<HashMap<String, Arc<Room>>>);

impl Rooms {
    /// The room of a path.
    pub fn room(&self, path: &str) -> Arc<Room> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rooms.get(path) {
            Some(room) => Arc::clone(room),
            None => Arc::clone(rooms.entry(path.to_owned()).or_default()),
        }
    }
}

/// The path on which everybody hears just what they said.
pub const ECHO: &str = "/echo";

/// What the command line asks for.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether the library is used with the settings that it comes with.
    pub as_it_comes: bool,
}

impl Options {
    fn parse(words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), as_it_comes: false };
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            match (word.as_str(), words.peek()) {
                ("--as-it-comes", _) => options.as_it_comes = true,
                ("--listen", Some(address)) => {
                    options.listen = address.parse().map_err(|error| format!("{address}: {error}"))?;
                    words.next();
                }
                _ => return Err("usage: [--listen 127.0.0.1:0] [--as-it-comes]".to_owned()),
            }
        }
        Ok(options)
    }
}

/// Serves with one thread until it is killed: `serve` is called with every connection.
pub fn run(serve: impl Fn(TcpStream, Arc<Rooms>, Options)) -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1)).and_then(|options| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
        runtime.block_on(accept(options, serve)).map_err(|error| format!("{}: {error}", options.listen))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

async fn accept(options: Options, serve: impl Fn(TcpStream, Arc<Rooms>, Options)) -> io::Result<()> {
    let listener = listen(options.listen)?;
    println!("listening on {}", listener.local_addr()?);
    let rooms = Arc::default();
    loop {
        // A connection that is gone before it is accepted, or a table of files that is full for now.
        let Ok((stream, _)) = listener.accept().await else { continue };
        if stream.set_nodelay(true).is_ok() {
            serve(stream, Arc::clone(&rooms), options);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
