//! A server whose every WebSocket echoes, for proxies to lead to. One thread; what comes is sent back as it is read, with
//! the mask taken off.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use clap::Args;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use moongate_wire::accept::accept_key;
use moongate_wire::frame::{Decoder, Item, Limits, Opcode, encode, reply_to_close};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that may wait for a peer that does not read; past them it is not read from either.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long a head may be.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long a message may be.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

const LISTENER: Token = Token(usize::MAX);

#[derive(Args)]
pub(crate) struct UpstreamArgs {
    /// Where to listen; port 0 takes a free one, which the first line of output says
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Serves until it is killed.
pub(crate) fn serve(args: &UpstreamArgs) -> Result<(), String> {
    if !args.listen.ip().is_loopback() {
        return Err(format!(
            "{} is not a loopback address, which an upstream for tests listens on",
            args.listen
        ));
    }
    let listener = TcpListener::bind(args.listen).map_err(|error| format!("{}: {error}", args.listen))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("listening {address}");
    io::stdout().flush().map_err(|error| error.to_string())?;
    Server { listener, peers: HashMap::new(), next: 0, buffer: vec![0; READ_BYTES] }
        .run()
        .map_err(|error| format!("serving: {error}"))
}

struct Server {
    listener: TcpListener,
    peers: HashMap<usize, Peer>,
    next: usize,
    buffer: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    /// The head of its request, until it is answered.
    head: Option<Vec<u8>>,
    decoder: Decoder,
    out: Vec<u8>,
    /// Whether it is over once all is sent.
    ending: bool,
    /// Whether there may be more to read, which was left there because too much waited.
    readable: bool,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
        poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        loop {
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(&poll)?,
                    Token(index) => {
                        let Some(peer) = self.peers.get_mut(&index) else { continue };
                        peer.readable |= event.is_readable() || event.is_read_closed();
                        if !peer.go_on(&mut self.buffer) {
                            self.peers.remove(&index);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // One that was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(self.next), interest)?;
            let peer = Peer {
                stream,
                head: Some(Vec::new()),
                decoder: Decoder::default(),
                out: Vec::new(),
                ending: false,
                readable: false,
            };
            self.peers.insert(self.next, peer);
            self.next += 1;
        }
    }
}

impl Peer {
    /// Reads and answers as far as it goes; whether it lives on. An error is the same as an end: whoever is at the other
    /// end says what is wrong.
    fn go_on(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            if self.flush().is_err() || (self.ending && self.out.is_empty()) {
                return false;
            }
            if !self.readable || self.ending || self.out.len() > WAITING_BYTES_MAX {
                return true;
            }
            match self.stream.read(buffer) {
                Ok(0) => self.ending = true,
                Ok(count) => {
                    if self.take(&mut buffer[..count]).is_none() {
                        self.ending = true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut gone = 0;
        while gone < self.out.len() {
            match self.stream.write(&self.out[gone..]) {
                Ok(count) => gone += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..gone);
        Ok(())
    }

    /// Takes what came; nothing, if that is the end.
    fn take(&mut self, bytes: &mut [u8]) -> Option<()> {
        let Some(head) = &mut self.head else { return self.echo(bytes) };
        head.extend_from_slice(bytes);
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
            return (head.len() <= HEAD_BYTES_MAX).then_some(());
        };
        let mut rest = head.split_off(end + 4);
        let text = String::from_utf8_lossy(head).into_owned();
        self.head = None;
        let key = text.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("Sec-WebSocket-Key").then(|| value.trim().as_bytes())
        });
        let Some(key) = key.and_then(|key| key.try_into().ok()) else {
            self.out.extend_from_slice(
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nonly WebSockets are served here\n",
            );
            return None;
        };
        // The alphabet of base64 is ASCII.
        let accept = accept_key(key);
        let accept = String::from_utf8_lossy(&accept);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.out.extend_from_slice(answer.as_bytes());
        self.echo(&mut rest)
    }

    fn echo(&mut self, mut bytes: &mut [u8]) -> Option<()> {
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, fragment_overhead: 1, deflate: false };
        while !bytes.is_empty() {
            let step = self.decoder.step(bytes, &limits).ok()?;
            let consumed = step.consumed;
            match step.item {
                Some(Item::Text(payload)) => encode(Opcode::Text, &payload, &mut self.out),
                Some(Item::Binary(payload)) => encode(Opcode::Binary, &payload, &mut self.out),
                Some(Item::Ping(payload)) => encode(Opcode::Pong, &payload, &mut self.out),
                Some(Item::Close(close)) => {
                    reply_to_close(&close, &mut self.out);
                    return None;
                }
                Some(Item::Pong | Item::Compressed(..)) | None => {}
            }
            bytes = &mut bytes[consumed..];
        }
        Some(())
    }
}
