//! One WebSocket: how it is opened, and what waits on it in both directions.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use moongate_wire::accept::accept_key;
use moongate_wire::frame::{Opcode, ServerFrames, encode_masked};
use socket2::{Domain, Protocol, Socket, Type};

/// How long an answer to the handshake may be.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A connection.
pub(crate) struct Link {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) state: State,
    /// What has come of frames that are not complete; most have none.
    pub(crate) partial: Option<Box<Partial>>,
    out: Vec<u8>,
    /// How much of `out` is gone.
    gone: usize,
    /// Whether it is listed as having something to send.
    pub(crate) dirty: bool,
    random: Random,
}

/// Where a link is in its life.
pub(crate) enum State {
    Connecting,
    Upgrading(Box<Upgrading>),
    Open,
    /// Close was sent: nothing more goes out.
    Closing,
    Gone,
}

/// Frames, or messages, of which a part has come.
#[derive(Default)]
pub(crate) struct Partial {
    pub(crate) frames: ServerFrames,
    /// How many bytes of them lie in `frames`.
    pub(crate) pending: usize,
    /// The message whose fragments come.
    pub(crate) message: Option<(Opcode, Vec<u8>)>,
}

impl Partial {
    pub(crate) fn is_empty(&self) -> bool {
        self.pending == 0 && self.message.is_none()
    }
}

/// The handshake, while its answer comes.
pub(crate) struct Upgrading {
    key: [u8; 24],
    answer: Vec<u8>,
}

impl Link {
    /// Starts to connect to `server`.
    pub(crate) fn connect(server: SocketAddr, source: Option<IpAddr>, number: u32) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&server.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        Ok(Link {
            stream: Some(TcpStream::from_std(socket.into())),
            state: State::Connecting,
            partial: None,
            out: Vec::new(),
            gone: 0,
            dirty: false,
            random: Random(number),
        })
    }

    /// Asks for the upgrade, now that the connection stands.
    pub(crate) fn ask(&mut self, path: &str, host: SocketAddr) {
        let key = self.random.key();
        // The alphabet of base64 is ASCII.
        let text = String::from_utf8_lossy(&key);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {text}\r\n\r\n"
        );
        self.out.extend_from_slice(request.as_bytes());
        self.state = State::Upgrading(Box::new(Upgrading { key, answer: Vec::new() }));
    }

    /// Adds a frame to what is to be sent.
    pub(crate) fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        encode_masked(opcode, true, self.random.next().to_le_bytes(), payload, &mut self.out);
    }

    /// How many bytes wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len() - self.gone
    }

    /// Sends what the kernel takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.gone < self.out.len() {
            match stream.write(&self.out[self.gone..]) {
                Ok(count) => self.gone += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.gone = 0;
        self.out.clear();
        Ok(())
    }

    /// Reads into `buffer`; `None`: there is nothing now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        loop {
            match stream.read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Upgrading {
    /// Takes bytes of the answer. Once it is complete and right: what follows it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.answer.extend_from_slice(bytes);
        let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            let too_long = self.answer.len() > ANSWER_BYTES_MAX;
            return if too_long { Err("its answer has no end".to_owned()) } else { Ok(None) };
        };
        let rest = self.answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&self.answer);
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101 ") {
            let body = String::from_utf8_lossy(&rest);
            return Err(format!("it answered {status:?}: {}", body.trim_end()));
        }
        let accept = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("Sec-WebSocket-Accept").then(|| value.trim())
        });
        if accept.map(str::as_bytes) != Some(&accept_key(&self.key)) {
            return Err(format!("it answered 101 with Sec-WebSocket-Accept {accept:?}"));
        }
        Ok(Some(rest))
    }
}

/// Numbers that look random. No secret hangs on them: this tool speaks to servers of one's own.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        // A Weyl sequence, mixed (splitmix32): any seed will do.
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        let mixed = (self.0 ^ (self.0 >> 16)).wrapping_mul(0x21F0_AAAD);
        let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x735A_2D97);
        mixed ^ (mixed >> 15)
    }

    /// 16 bytes in base64: 22 digits, the last of which ends in four zero bits, and the padding.
    fn key(&mut self) -> [u8; 24] {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::array::from_fn(|place| match place {
            0..=20 => DIGITS[self.next() as usize % 64],
            21 => b"AQgw"[self.next() as usize % 4],
            _ => b'=',
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn answered(answer: &str) -> Result<Option<Vec<u8>>, String> {
        // The key of RFC 6455 §1.3.
        let mut upgrading = Upgrading { key: *b"dGhlIHNhbXBsZSBub25jZQ==", answer: Vec::new() };
        let mut rest = Ok(None);
        for byte in answer.as_bytes().chunks(7) {
            match &mut rest {
                Ok(None) => rest = upgrading.take(byte),
                Ok(Some(rest)) => rest.extend_from_slice(byte),
                Err(_) => break,
            }
        }
        rest
    }

    #[test]
    fn only_the_right_answer_opens() {
        assert_eq!(answered(&format!("{RIGHT}frames")), Ok(Some(b"frames".to_vec())));
        assert_eq!(answered(&RIGHT[..RIGHT.len() - 1]), Ok(None));
        assert!(answered(&RIGHT.replace("s3p", "s4p")).is_err_and(|why| why.contains("s4p")));
        assert!(answered("HTTP/1.1 503 Busy\r\n\r\n").is_err_and(|why| why.contains("503 Busy")));
        assert!(answered(&"x".repeat(20_000)).is_err());
    }

    #[test]
    fn keys_are_sixteen_bytes_and_differ() {
        let mut keys: Vec<[u8; 24]> = (0..1000).map(|number| Random(number).key()).collect();
        assert!(keys.iter().all(|key| key.ends_with(b"==") && b"AQgw".contains(&key[21])));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 1000);
    }
}
