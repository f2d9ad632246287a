//! Whether this kernel can carry the driver: it is built, and one connection comes, is heard, answered and closed (N9).

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode};
use moongate_io::{Bytes, Chain, Driver, Event, Inbound, ListenerId, Segment};

use super::{TokioUring, TokioUringConfig};
use crate::bell::EventBell;
use crate::listener::bind;
use crate::probe::{Feature, Missing};
use crate::socket::SocketOptions;
use crate::uring::SetupError;

/// How long the trial may take.
const PATIENCE: Duration = Duration::from_secs(2);

const CONFIG: TokioUringConfig = TokioUringConfig {
    ring_entries: 16,
    completion_entries: 32,
    recv_buffers: 1,
    recv_buffer_size: 64,
    slots: 4,
    cpu: None,
    outbound: OPTIONS,
};

const OPTIONS: SocketOptions =
    SocketOptions { notsent_lowat: 1 << 16, user_timeout: Duration::from_secs(10), backlog: 4 };

/// Tries everything that [`TokioUring`] needs.
pub(crate) fn probe() -> Result<(), Missing> {
    // A runtime belongs to its thread, and so does what it leaves behind.
    match thread::Builder::new().name("probe".into()).spawn(try_everything) {
        Ok(thread) => thread.join().expect("a probe reports instead of panicking"),
        Err(error) => Err(Missing::new(Feature::PlainRing, &error)),
    }
}

fn try_everything() -> Result<(), Missing> {
    enter().map_err(|error| Missing::new(Feature::PlainRing, &error))?;
    let missing = |error: io::Error| Missing::new(Feature::PlainOperations, &error);
    let bell = EventBell::new().map_err(missing)?;
    let (address, listeners) = bind((Ipv4Addr::LOCALHOST, 0).into(), 1, true, &OPTIONS)
        .map_err(|error| missing(error.into_inner()))?;
    let mut driver = TokioUring::new(&CONFIG, listeners, &bell).map_err(|error| match error {
        SetupError::Missing(missing) => missing,
        SetupError::Config { .. } | SetupError::Pin { .. } => unreachable!("the trial's numbers are right"),
    })?;
    driver.listen(ListenerId(0));
    let mut client = TcpStream::connect(address).map_err(missing)?;
    client.write_all(b"moon").map_err(missing)?;
    if converse(&mut driver) {
        return Ok(());
    }
    // Its end would wait for operations that may never complete. What it holds is little, and this happens once.
    std::mem::forget(driver);
    Err(missing(io::Error::from_raw_os_error(libc::ENOSYS)))
}

/// Whether a ring can be built and entered: `tokio-uring` passes over it in silence when it cannot be.
fn enter() -> io::Result<()> {
    let mut ring = IoUring::new(2)?;
    // SAFETY: an operation that does nothing points to no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.expect("the ring is empty");
    ring.submit_and_wait(1).map(drop)
}

/// Whether somebody comes, is heard, answered and closed.
fn converse(driver: &mut TokioUring) -> bool {
    let end = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        driver.wait(Some(left), 16, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Accepted { conn, .. } => driver.recv(conn),
                Event::Received { conn, inbound: Inbound::Bytes(lease) } => {
                    driver.release(lease);
                    driver.send(conn, Chain::One(Segment::whole(Bytes::fixed(b"gate"))));
                }
                Event::Sent { conn, outcome: Ok(_), .. } => driver.close(conn),
                Event::Closed { .. } => return true,
                Event::Received { .. } | Event::Sent { .. } | Event::Connected { .. } => return false,
                Event::Bell => {}
            }
        }
    }
    false
}
