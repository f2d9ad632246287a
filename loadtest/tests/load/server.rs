//! A WebSocket server of a few lines, with a thread for each connection, that can be told to do one thing wrong.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use moongate_wire::accept::Template;
use moongate_wire::frame::{Decoder, Item, Limits, Opcode, encode, encode_close, reply_to_close};

/// What it does wrong, with one delivery to the second connection on a topic, or to every one on `/echo`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Mischief {
    Nothing,
    Lose,
    /// Loses that one and all that follow.
    Stop,
    Double,
    /// Sends it after the next one.
    Swap,
    /// Changes its last byte.
    Corrupt,
    /// Sends text as bytes or bytes as text.
    OtherKind,
    /// Says Close 1013 instead.
    Cut,
    /// Answers every handshake 503.
    Refuse,
    /// Answers every handshake with a wrong accept key.
    WrongKey,
}

/// Starts a server that lives as long as the tests and does something wrong with the 20th delivery.
pub(crate) fn start(mischief: Mischief) -> SocketAddr {
    start_at(20, mischief)
}

/// As [`start`], with the delivery of number `wrong`, counted from 1.
pub(crate) fn start_at(wrong: u64, mischief: Mischief) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let server = Arc::new(Server { mischief, wrong, topics: Mutex::default() });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            // The client is told by the end of its connection if anything fails here.
            thread::spawn(move || server.serve(stream).ok());
        }
    });
    address
}

struct Server {
    mischief: Mischief,
    wrong: u64,
    topics: Mutex<HashMap<String, Topic>>,
}

/// Those who listen; locked while one message goes to all of them, so that there is one order.
type Topic = Arc<Mutex<Vec<Peer>>>;

struct Peer {
    stream: TcpStream,
    /// Deliveries so far.
    count: u64,
    /// One that goes after the next.
    held: Vec<u8>,
    /// Which delivery goes wrong; none does for most.
    wrong: Option<u64>,
}

impl Server {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let head = read_head(&mut stream)?;
        let path = head.split(' ').nth(1).ok_or(io::ErrorKind::InvalidData)?.to_owned();
        if self.mischief == Mischief::Refuse {
            return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno room here");
        }
        let key = head.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.as_bytes().first_chunk());
        let mut key: [u8; 24] = *key.ok_or(io::ErrorKind::InvalidData)?;
        if self.mischief == Mischief::WrongKey {
            key[0] ^= 1;
        }
        let mut answer = Vec::new();
        Template::new("").write(&key, None, None, &mut answer);
        let topic = self.topic(&path);
        if path != "/echo" {
            let mut peers = lock(&topic);
            let wrong = (peers.len() == 1).then_some(self.wrong);
            peers.push(Peer { stream: stream.try_clone()?, count: 0, held: Vec::new(), wrong });
        }
        let mut echo =
            Peer { stream: stream.try_clone()?, count: 0, held: Vec::new(), wrong: Some(self.wrong) };
        stream.write_all(&answer)?;
        self.converse(stream, &path, &topic, &mut echo)
    }

    fn topic(&self, path: &str) -> Topic {
        Arc::clone(lock(&self.topics).entry(path.to_owned()).or_default())
    }

    fn converse(&self, mut stream: TcpStream, path: &str, topic: &Topic, echo: &mut Peer) -> io::Result<()> {
        let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 4096]);
        let limits = Limits { message_bytes_max: 1 << 20, fragment_overhead: 1, deflate: false };
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let mut input = &mut buffer[..count];
            while !input.is_empty() {
                let step = decoder.step(input, &limits).map_err(io::Error::other)?;
                let consumed = step.consumed;
                match step.item {
                    Some(Item::Text(payload)) => self.publish(Opcode::Text, &payload, path, topic, echo)?,
                    Some(Item::Binary(payload)) => {
                        self.publish(Opcode::Binary, &payload, path, topic, echo)?
                    }
                    Some(Item::Close(close)) => {
                        let mut reply = Vec::new();
                        reply_to_close(&close, &mut reply);
                        return stream.write_all(&reply);
                    }
                    Some(Item::Ping(_) | Item::Pong | Item::Compressed(..)) | None => {}
                }
                input = &mut input[consumed..];
            }
        }
    }

    fn publish(
        &self,
        opcode: Opcode,
        payload: &[u8],
        path: &str,
        topic: &Topic,
        echo: &mut Peer,
    ) -> io::Result<()> {
        if path == "/echo" {
            return echo.deliver(self.mischief, opcode, payload);
        }
        for peer in lock(topic).iter_mut() {
            // One that is gone says so in its own thread.
            let _ = peer.deliver(self.mischief, opcode, payload);
        }
        Ok(())
    }
}

impl Peer {
    fn deliver(&mut self, mischief: Mischief, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        self.count += 1;
        let mut frame = Vec::new();
        encode(opcode, payload, &mut frame);
        let is_wrong = self
            .wrong
            .is_some_and(|wrong| self.count == wrong || (self.count > wrong && mischief == Mischief::Stop));
        match mischief {
            _ if !is_wrong => {}
            Mischief::Nothing | Mischief::Refuse | Mischief::WrongKey => {}
            Mischief::Lose | Mischief::Stop => frame.clear(),
            Mischief::Double => frame.extend_from_within(..),
            Mischief::Swap => {
                self.held = frame;
                return Ok(());
            }
            Mischief::Corrupt => *frame.last_mut().expect("not empty") ^= 1,
            Mischief::OtherKind => frame[0] ^= 3,
            Mischief::Cut => {
                frame.clear();
                encode_close(1013, "too slow", &mut frame);
            }
        }
        frame.append(&mut self.held);
        self.stream.write_all(&frame)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics with it")
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
