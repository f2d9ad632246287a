//! One connection: how it is opened and ended, and what waits on it in both directions.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::ValueEnum;
use mio::net::TcpStream;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::dialect::{self, Ear, Format, Mouth, Opening};

/// How much may lie before what waits to be sent, until it is moved to the front.
const GONE_BYTES_MAX: usize = 64 * 1024;

/// A connection, or the place for one.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) state: State,
    /// Understands what comes; taken out while it does.
    pub(crate) ear: Option<Box<dyn Ear>>,
    mouth: Option<Box<dyn Mouth>>,
    /// What has come and is not complete; most have none.
    pub(crate) rest: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` is gone.
    gone: usize,
    /// Whether it is listed as having something to send.
    pub(crate) dirty: bool,
    /// Whether there may be something to read that nobody tells of again.
    pub(crate) readable: bool,
    /// Bytes that may be read now, where the link reads slowly.
    pub(crate) allowance: Option<usize>,
    /// When it was to be opened.
    pub(crate) due: u64,
}

/// Where a link is in its life.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum State {
    #[default]
    Gone,
    /// The connection is on its way, or about to be.
    Connecting,
    /// The connection stands, and what it is for was asked.
    Asking,
    Open,
    /// Goodbye was said: nothing more goes out.
    Closing,
}

/// How a link is ended from here.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Leave {
    /// With a goodbye, which the server answers.
    Politely,
    /// By closing the connection.
    Silently,
    /// By resetting it, as if the machine had vanished and come back.
    Abruptly,
}

/// Closes a connection with a RST.
pub(crate) fn reset(stream: TcpStream) {
    // Refused for a connection that is not one any more, which then needs none.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

impl Link {
    /// Starts to connect to `server`.
    pub(crate) fn connect(
        &mut self,
        server: SocketAddr,
        source: Option<IpAddr>,
        opening: &Opening,
        seed: u32,
    ) -> io::Result<()> {
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
        let (ear, mouth) = dialect::begin(opening, server, seed);
        *self = Link {
            stream: Some(TcpStream::from_std(socket.into())),
            state: State::Connecting,
            ear: Some(ear),
            mouth: Some(mouth),
            dirty: self.dirty,
            due: self.due,
            ..Link::default()
        };
        Ok(())
    }

    /// Says what the link is for, now that the connection stands.
    pub(crate) fn ask(&mut self) {
        if let Some(mouth) = &mut self.mouth {
            mouth.ask(&mut self.out);
        }
        self.state = State::Asking;
    }

    /// Adds a message to what is to be sent.
    pub(crate) fn say(&mut self, format: Format, payload: &[u8]) {
        if let (State::Open, Some(mouth)) = (self.state, &mut self.mouth) {
            mouth.say(format, payload, &mut self.out);
        }
    }

    /// Adds an answer to what came.
    pub(crate) fn reply(&mut self, bytes: &[u8]) {
        if self.state == State::Open {
            self.out.extend_from_slice(bytes);
        }
    }

    /// Adds a goodbye. Whether the server is to end the link after it.
    pub(crate) fn bid_farewell(&mut self) -> bool {
        self.state = State::Closing;
        self.mouth.as_mut().is_some_and(|mouth| mouth.bid_farewell(&mut self.out))
    }

    /// Closes the connection, if there is one. Dropping it also takes it off the poll.
    pub(crate) fn end(&mut self, abruptly: bool) {
        let dirty = self.dirty;
        if let (true, Some(stream)) = (abruptly, self.stream.take()) {
            reset(stream);
        }
        *self = Link { dirty, ..Link::default() };
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.gone > GONE_BYTES_MAX {
                        self.out.drain(..self.gone);
                        self.gone = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.gone = 0;
        self.out.clear();
        Ok(())
    }

    /// Reads into `buffer`, as much as it may; `None`: there is nothing now.
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
