//! A server of a few lines, with a thread for each connection, that can be told to do one thing wrong. It speaks
//! WebSocket, compressed where it is asked for, event streams in chunks or without, and takes messages by POST. It keeps
//! what was said for who comes back, and forgets it when it is asked to start again.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use moongate_wire::Kind;
use moongate_wire::accept::accept_key;
use moongate_wire::deflate::Deflater;
use moongate_wire::event;
use moongate_wire::frame::{
    Decoder, Item, Limits, Opcode, encode, encode_close, encode_compressed, reply_to_close,
};

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
    /// Ends the connection instead, a WebSocket by Close 1013.
    Cut,
    /// Answers every handshake 503.
    Refuse,
    /// Answers every handshake with a wrong accept key.
    WrongKey,
    /// Answers 503 from the connection of that number on: no place is ever free again.
    Fill,
    /// Lets connections from that number on hear nothing until a while after their handshake was answered.
    JoinLate,
    /// Says a word of its own instead of nothing.
    Chatter,
    /// Who comes back does not hear the first message it missed.
    SkipMissed,
    /// Who comes back hears the last message before those it missed again.
    RepeatHeard,
    /// Who comes back is told that it has missed something, and has not.
    TellOfNoGap,
    /// Who comes back from before the server started again is not told that nobody knows its place.
    TellOfNothing,
}

/// Starts a server that lives as long as the tests and does something wrong with the 20th delivery.
pub(crate) fn start(mischief: Mischief) -> SocketAddr {
    start_at(20, mischief)
}

/// As [`start`], with the delivery of number `wrong`, counted from 1.
pub(crate) fn start_at(wrong: u64, mischief: Mischief) -> SocketAddr {
    start_with(wrong, mischief, false)
}

/// As [`start_at`], with event streams in chunks.
pub(crate) fn start_with(wrong: u64, mischief: Mischief, chunked: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let (topics, epoch) = (Mutex::default(), AtomicU64::new(1));
    let server = Arc::new(Server { mischief, wrong, chunked, topics, epoch });
    thread::spawn(move || {
        for (turn, stream) in (1..).zip(listener.incoming().flatten()) {
            // Connections begin one after the other, so that it is known which of them is the second. The client is told
            // by the end of its connection if anything fails here.
            if let Ok(Some(mut conversation)) = server.begin(stream, turn) {
                let server = Arc::clone(&server);
                thread::spawn(move || conversation.go_on(&server).ok());
            }
        }
    });
    address
}

struct Server {
    mischief: Mischief,
    wrong: u64,
    /// Whether event streams come in chunks.
    chunked: bool,
    topics: Mutex<HashMap<String, Topic>>,
    /// How often it was started.
    epoch: AtomicU64,
}

/// Locked while one message goes to all who listen, so that there is one order.
type Topic = Arc<Mutex<Board>>;

/// What a topic is made of.
#[derive(Default)]
struct Board {
    /// Those who listen.
    peers: Vec<Peer>,
    /// All that was said.
    said: Vec<(Opcode, Vec<u8>)>,
}

/// A connection that goes on after its request was answered.
struct Conversation {
    stream: TcpStream,
    path: String,
    topic: Topic,
    echo: Peer,
}

struct Peer {
    stream: TcpStream,
    form: Form,
    /// Deliveries so far.
    count: u64,
    /// One that goes after the next.
    held: Vec<u8>,
    /// Which delivery goes wrong; none does for most.
    wrong: Option<u64>,
}

/// How a message travels.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Form {
    Frames,
    Compressed,
    Events,
    /// Events in chunks, cut where it is least convenient.
    Chunks,
}

impl Server {
    /// Answers a request. Nothing, if that was all.
    fn begin(&self, mut stream: TcpStream, turn: u64) -> io::Result<Option<Conversation>> {
        stream.set_nodelay(true)?;
        let head = read_head(&mut stream)?;
        let path = head.split(' ').nth(1).ok_or(io::ErrorKind::InvalidData)?.to_owned();
        if self.mischief == Mischief::Refuse || (self.mischief == Mischief::Fill && turn >= self.wrong) {
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\nno room here")?;
            return Ok(None);
        }
        if path == "/restart" {
            self.restart();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            return Ok(None);
        }
        let (path, since) = match path.split_once("?since=") {
            Some((path, since)) => (path.to_owned(), Some(since.to_owned())),
            None => (path, None),
        };
        let topic = self.topic(&path);
        if head.starts_with("POST ") {
            self.take_post(stream, &head, &topic)?;
            return Ok(None);
        }
        let form = match field(&head, "Sec-WebSocket-Extensions") {
            _ if field(&head, "Accept") == Some("text/event-stream") && self.chunked => Form::Chunks,
            _ if field(&head, "Accept") == Some("text/event-stream") => Form::Events,
            Some(_) => Form::Compressed,
            None => Form::Frames,
        };
        let mut answer = self.answer(&head, form)?;
        let peer = |stream: &TcpStream, wrong| -> io::Result<Peer> {
            Ok(Peer { stream: stream.try_clone()?, form, count: 0, held: Vec::new(), wrong })
        };
        let is_late = self.mischief == Mischief::JoinLate && turn >= self.wrong;
        if is_late {
            stream.write_all(answer.as_bytes())?;
            thread::sleep(Duration::from_millis(100));
        }
        let mut echo = peer(&stream, Some(self.wrong))?;
        // Nothing may be said before the answer, and nothing said after it may be missed.
        let mut board = lock(&topic);
        let missed = since.map(|since| self.missed(&since, &board, form, &mut answer));
        if !is_late {
            stream.write_all(answer.as_bytes())?;
        }
        if let Form::Events | Form::Chunks = form {
            let place = format!("id: {:016x}-{}\n\n", self.epoch(), board.said.len());
            stream.write_all(&form.cut(place.into_bytes()))?;
        }
        stream.write_all(&missed.unwrap_or_default())?;
        if path != "/echo" {
            let wrong = (board.peers.len() == 1).then_some(self.wrong);
            board.peers.push(peer(&stream, wrong)?);
        }
        drop(board);
        if self.mischief == Mischief::Chatter {
            echo.stream.write_all(&form.encode((1, 1), Opcode::Text, b"hello, newcomer"))?;
        }
        Ok(Some(Conversation { stream, path, topic, echo }))
    }

    fn answer(&self, head: &str, form: Form) -> io::Result<String> {
        let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
        match form {
            Form::Events => return Ok(format!("{stream}\r\nretry: 3000\n\n")),
            Form::Chunks => {
                return Ok(format!("{stream}Transfer-Encoding: chunked\r\n\r\nd\r\nretry: 3000\n\n\r\n"));
            }
            Form::Frames | Form::Compressed => {}
        }
        let key = field(head, "Sec-WebSocket-Key").and_then(|key| key.as_bytes().first_chunk());
        let mut key: [u8; 24] = *key.ok_or(io::ErrorKind::InvalidData)?;
        if self.mischief == Mischief::WrongKey {
            key[0] ^= 1;
        }
        let accept = String::from_utf8_lossy(&accept_key(&key)).into_owned();
        let extensions = match form {
            Form::Compressed => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
            }
            _ => "",
        };
        Ok(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{extensions}\r\n"
        ))
    }

    fn take_post(&self, mut stream: TcpStream, head: &str, topic: &Topic) -> io::Result<()> {
        let len = field(head, "Content-Length").and_then(|len| len.parse().ok());
        let mut body = vec![0; len.ok_or(io::ErrorKind::InvalidData)?];
        stream.read_exact(&mut body)?;
        let text = field(head, "Content-Type").is_some_and(|media| media.starts_with("text/"));
        self.publish(if text { Opcode::Text } else { Opcode::Binary }, &body, topic);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    }

    fn topic(&self, path: &str) -> Topic {
        Arc::clone(lock(&self.topics).entry(path.to_owned()).or_default())
    }

    fn publish(&self, opcode: Opcode, payload: &[u8], topic: &Topic) {
        let mut board = lock(topic);
        board.said.push((opcode, payload.to_vec()));
        let place = (self.epoch(), board.said.len() as u64);
        for peer in &mut board.peers {
            // One that is gone says so in its own thread.
            let _ = peer.deliver(self.mischief, place, opcode, payload);
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// What was said since, and before it, or in the answer, whether that is all.
    fn missed(&self, since: &str, board: &Board, form: Form, answer: &mut String) -> Vec<u8> {
        let (epoch, offset) = since.split_once('-').expect("a place");
        let known = u64::from_str_radix(epoch, 16) == Ok(self.epoch());
        let offset: usize = offset.parse().expect("an offset");
        let recovered = match self.mischief {
            Mischief::TellOfNoGap => false,
            Mischief::TellOfNothing => true,
            _ => known,
        };
        let from = match self.mischief {
            _ if !known => 0,
            Mischief::SkipMissed => offset + 1,
            Mischief::RepeatHeard => offset.saturating_sub(1),
            _ => offset,
        };
        let mut out = Vec::new();
        if matches!(form, Form::Frames | Form::Compressed) {
            answer.truncate(answer.len() - 2);
            *answer += &format!("Moongate-Recovered: {recovered}\r\n\r\n");
        } else if !recovered {
            out = form.cut(b"event: gap\ndata: {}\n\n".to_vec());
        }
        for (offset, (opcode, payload)) in (1..).zip(&board.said).skip(from) {
            out.extend_from_slice(&form.encode((self.epoch(), offset), *opcode, payload));
        }
        out
    }

    /// Ends all connections and forgets what was said, as if it were another server.
    fn restart(&self) {
        for (_, topic) in lock(&self.topics).drain() {
            for peer in &lock(&topic).peers {
                // One that has gone needs no end.
                let _ = peer.stream.shutdown(Shutdown::Both);
            }
        }
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

impl Conversation {
    fn go_on(&mut self, server: &Server) -> io::Result<()> {
        let Conversation { stream, path, topic, echo } = self;
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
                let mut say = |opcode, payload: &[u8]| match path.as_str() {
                    "/echo" => echo.deliver(server.mischief, (1, 1), opcode, payload),
                    _ => {
                        server.publish(opcode, payload, topic);
                        Ok(())
                    }
                };
                match step.item {
                    Some(Item::Text(payload)) => say(Opcode::Text, &payload)?,
                    Some(Item::Binary(payload)) => say(Opcode::Binary, &payload)?,
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
}

impl Peer {
    fn deliver(
        &mut self,
        mischief: Mischief,
        place: (u64, u64),
        mut opcode: Opcode,
        payload: &[u8],
    ) -> io::Result<()> {
        self.count += 1;
        let mut payload = payload.to_vec();
        let is_wrong = self
            .wrong
            .is_some_and(|wrong| self.count == wrong || (self.count > wrong && mischief == Mischief::Stop));
        let (mut times, mut hold) = (1, false);
        match mischief {
            _ if !is_wrong => {}
            Mischief::Lose | Mischief::Stop => times = 0,
            Mischief::Double => times = 2,
            Mischief::Swap => hold = true,
            Mischief::Corrupt => *payload.last_mut().expect("not empty") ^= 1,
            Mischief::OtherKind => {
                opcode = if opcode == Opcode::Text { Opcode::Binary } else { Opcode::Text };
            }
            Mischief::Cut => {
                let mut goodbye = Vec::new();
                if matches!(self.form, Form::Frames | Form::Compressed) {
                    encode_close(1013, "too slow", &mut goodbye);
                }
                self.stream.write_all(&goodbye)?;
                return self.stream.shutdown(Shutdown::Both);
            }
            Mischief::Nothing
            | Mischief::Refuse
            | Mischief::WrongKey
            | Mischief::Fill
            | Mischief::JoinLate
            | Mischief::Chatter
            | Mischief::SkipMissed
            | Mischief::RepeatHeard
            | Mischief::TellOfNoGap
            | Mischief::TellOfNothing => {}
        }
        let mut bytes = self.form.encode(place, opcode, &payload).repeat(times);
        if hold {
            self.held = bytes;
            return Ok(());
        }
        bytes.append(&mut self.held);
        self.stream.write_all(&bytes)
    }
}

impl Form {
    /// One message; `place`: its epoch and offset, which only events tell.
    fn encode(self, place: (u64, u64), opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let kind = if opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
        match self {
            Form::Frames => encode(opcode, payload, &mut out),
            Form::Compressed => {
                let mut compressed = Vec::new();
                if Deflater::default().deflate(payload, 15, &mut compressed) {
                    encode_compressed(opcode, &compressed, &mut out);
                } else {
                    encode(opcode, payload, &mut out);
                }
            }
            Form::Events | Form::Chunks => {
                event::encode(place.0, place.1, kind, payload, &mut out);
                out = self.cut(out);
            }
        }
        out
    }

    /// Events as they travel.
    fn cut(self, events: Vec<u8>) -> Vec<u8> {
        if self != Form::Chunks {
            return events;
        }
        let mut out = Vec::new();
        for part in events.chunks(40) {
            out.extend_from_slice(format!("{:X}\r\n", part.len()).as_bytes());
            out.extend_from_slice(part);
            out.extend_from_slice(b"\r\n");
        }
        out
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics with it")
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find_map(|(field, value)| (field == name).then_some(value))
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
