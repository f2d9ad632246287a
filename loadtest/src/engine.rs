//! The loop of one thread: opens its links, reads them, lets its scenario speak, sends, closes.
//!
//! On mio rather than polling: it is edge-triggered from the ground up, which saves a system call per event, and the
//! gateway's control thread brings it along anyway.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use moongate_wire::frame::{Opcode, ServerFrame, ServerFrames};

use crate::clock::{self, Timer};
use crate::control::{Control, Progress, Stage};
use crate::limits;
use crate::link::{Link, Partial, State};
use crate::report::Part;
use crate::scenario::{Place, Scenario};

/// Handshakes of a thread that are under way at a time.
const HANDSHAKES_MAX: u32 = 128;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Events taken at a time.
const EVENTS: usize = 1024;

/// How long the server gets to answer Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// A thread's connections, by index.
#[derive(Default)]
pub(crate) struct Links {
    list: Vec<Link>,
    /// Those with something to send that was not tried yet.
    dirty: Vec<u32>,
}

impl Links {
    /// Sends a frame on `link` at the end of the turn.
    pub(crate) fn send(&mut self, link: u32, opcode: Opcode, payload: &[u8]) {
        self.list[link as usize].push(opcode, payload);
        self.mark(link);
    }

    /// How many bytes wait to be sent on `link`.
    pub(crate) fn waiting(&self, link: u32) -> usize {
        self.list[link as usize].waiting()
    }

    fn mark(&mut self, link: u32) {
        if !mem::replace(&mut self.list[link as usize].dirty, true) {
            self.dirty.push(link);
        }
    }
}

/// A thread's loop and all it owns.
pub(crate) struct Engine {
    poll: Poll,
    timer: Timer,
    control: Arc<Control>,
    place: Place,
    server: SocketAddr,
    links: Links,
    scenario: Box<dyn Scenario>,
    part: Part,
    handshakes: u32,
    opened: u64,
    open: u32,
    finished: bool,
    /// When the run began, by the clock and in computing time of this thread.
    began: Option<(u64, u64)>,
    buffer: Box<[u8]>,
    /// For a link that has nothing partial, so that most need none of their own.
    spare: Option<Box<Partial>>,
}

impl Engine {
    pub(crate) fn new(
        place: Place,
        server: SocketAddr,
        scenario: Box<dyn Scenario>,
        control: Arc<Control>,
    ) -> io::Result<Engine> {
        let (poll, timer) = (Poll::new()?, Timer::new()?);
        poll.registry().register(&mut SourceFd(&timer.raw()), TIMER, Interest::READABLE)?;
        Ok(Engine {
            poll,
            timer,
            control,
            place,
            server,
            links: Links::default(),
            scenario,
            part: Part::default(),
            handshakes: 0,
            opened: 0,
            open: 0,
            finished: false,
            began: None,
            buffer: vec![0; READ_BYTES].into(),
            spare: None,
        })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Runs until the stage is [`Stage::Close`] and returns what was found.
    pub(crate) fn run(mut self) -> Part {
        if let Err(error) = self.work() {
            self.control.fail(format!("waiting for events: {error}"));
        }
        self.scenario.report(&self.control, &mut self.part);
        self.part
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let stage = self.control.stage();
            self.measure(stage);
            if stage == Stage::Close || self.control.failure().is_some() {
                return self.close(&mut events);
            }
            self.dial();
            let wake_at = self.turn(stage);
            self.flush();
            self.timer.set(wake_at)?;
            self.wait(&mut events, None)?;
        }
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in events.iter().filter(|event| event.token().0 < TIMER.0) {
            self.handle(event);
        }
        Ok(())
    }

    /// Lets the scenario speak, and tells the others how far it has come.
    fn turn(&mut self, stage: Stage) -> Option<u64> {
        let turn = self.scenario.turn(stage, &mut self.links, &self.control, &mut self.part);
        let finished = turn.finished && stage == Stage::Run && !mem::replace(&mut self.finished, true);
        let opened = mem::take(&mut self.opened);
        self.control.add(Progress { opened, finished: finished.into(), ..Progress::default() });
        turn.wake_at
    }

    /// Notes what share of a core the thread takes from the beginning of the run to its end.
    fn measure(&mut self, stage: Stage) {
        match (stage, self.began) {
            (Stage::Run, None) => self.began = Some((clock::now(), clock::thread_cpu())),
            (Stage::Close, Some((at, cpu))) => {
                let span = (clock::now() - at).max(1) as f64;
                self.part.busiest_thread = (clock::thread_cpu() - cpu) as f64 / span;
            }
            _ => {}
        }
    }

    // Opening.

    fn dial(&mut self) {
        let wanted = self.place.count_below(self.control.target());
        while self.handshakes < HANDSHAKES_MAX && (self.links.list.len() as u32) < wanted {
            let index = self.links.list.len() as u32;
            if let Err(error) = self.connect(index) {
                return self.give_up(index, &format!("connecting: {error}"));
            }
            self.handshakes += 1;
        }
    }

    fn connect(&mut self, index: u32) -> io::Result<()> {
        let number = self.place.number(index);
        let source = limits::source(self.server.ip(), number, self.place.links);
        let mut link = Link::connect(self.server, source, number)?;
        if let Some(stream) = &mut link.stream {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(stream, Token(index as usize), interest)?;
        }
        self.links.list.push(link);
        Ok(())
    }

    /// A link that could not be opened ends the run: nothing it would show is worth showing.
    fn give_up(&mut self, index: u32, why: &str) {
        let server = self.server;
        self.control.fail(format!("connection {} to {server}: {why}", self.place.number(index)));
    }

    fn opened(&mut self, index: u32) {
        self.handshakes -= 1;
        self.opened += 1;
        self.open += 1;
        self.links.list[index as usize].state = State::Open;
    }

    // Reading.

    fn handle(&mut self, event: &Event) {
        let index = event.token().0 as u32;
        if event.is_writable() {
            self.writable(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    fn writable(&mut self, index: u32) {
        let link = &mut self.links.list[index as usize];
        if let (State::Connecting, Some(stream)) = (&link.state, &link.stream) {
            match stream.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
                Ok(()) => link.ask(&self.scenario.path(self.place.number(index)), self.server),
                Err(error) => return self.ended(index, &error.to_string()),
            }
        }
        if link.waiting() > 0 {
            self.links.mark(index);
        }
    }

    /// Reads until there is nothing more; `closing`: the end of the stream is due, so that a short read is not the last.
    fn read(&mut self, index: u32, closing: bool) {
        loop {
            let link = &mut self.links.list[index as usize];
            match link.read(&mut self.buffer) {
                Ok(None) => return,
                Ok(Some(0)) => return self.ended(index, "the server closed it"),
                Ok(Some(count)) => {
                    if let Err(why) = self.take(index, count) {
                        return self.ended(index, &why);
                    }
                    if count < self.buffer.len() && !closing {
                        return;
                    }
                }
                Err(error) => return self.ended(index, &error.to_string()),
            }
        }
    }

    /// Takes the first `count` bytes of the buffer.
    fn take(&mut self, index: u32, count: usize) -> Result<(), String> {
        let now = clock::now();
        let link = &mut self.links.list[index as usize];
        if let State::Upgrading(upgrading) = &mut link.state {
            let Some(rest) = upgrading.take(&self.buffer[..count])? else { return Ok(()) };
            self.opened(index);
            return self.frames(index, &rest, now);
        }
        // Taken out so that it can be read while the scenario sends.
        let buffer = mem::take(&mut self.buffer);
        let taken = self.frames(index, &buffer[..count], now);
        self.buffer = buffer;
        taken
    }

    fn frames(&mut self, index: u32, bytes: &[u8], now: u64) -> Result<(), String> {
        let own = self.links.list[index as usize].partial.take();
        let mut partial = own.or_else(|| self.spare.take()).unwrap_or_default();
        let Partial { frames, pending, message } = &mut *partial;
        frames.push(bytes);
        *pending += bytes.len();
        let taken = self.each_frame(index, frames, pending, message, now);
        if taken.is_ok() && partial.is_empty() {
            self.spare = Some(partial);
        } else {
            self.links.list[index as usize].partial = Some(partial);
        }
        taken
    }

    fn each_frame(
        &mut self,
        index: u32,
        frames: &mut ServerFrames,
        pending: &mut usize,
        message: &mut Option<(Opcode, Vec<u8>)>,
        now: u64,
    ) -> Result<(), String> {
        while let Some(frame) =
            frames.next_frame().map_err(|fault| format!("its frames are wrong: {fault}"))?
        {
            *pending -= frame_bytes(frame.payload.len());
            match (frame.opcode, frame.fin) {
                (Opcode::Ping, _) => self.links.send(index, Opcode::Pong, frame.payload),
                (Opcode::Pong, _) => {}
                (Opcode::Close, _) => return Err(said_goodbye(frame)),
                (Opcode::Text | Opcode::Binary, true) => self.hear(index, frame.opcode, frame.payload, now),
                (Opcode::Text | Opcode::Binary, false) => {
                    *message = Some((frame.opcode, frame.payload.to_vec()));
                }
                (Opcode::Continuation, fin) => {
                    let Some((_, collected)) = message else { continue };
                    collected.extend_from_slice(frame.payload);
                    if let Some((opcode, payload)) = message.take_if(|_| fin) {
                        self.hear(index, opcode, &payload, now);
                    }
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, index: u32, opcode: Opcode, payload: &[u8], now: u64) {
        self.scenario.hear(&mut self.links, index, opcode, payload, now, &mut self.part);
        self.part.last_heard = Some(now);
    }

    /// A link is over. That is wrong at any time but the end.
    fn ended(&mut self, index: u32, why: &str) {
        let link = &mut self.links.list[index as usize];
        // Dropping it closes the socket, which also takes it off the poll.
        link.stream = None;
        link.partial = None;
        match mem::replace(&mut link.state, State::Gone) {
            State::Gone => {}
            State::Connecting | State::Upgrading(_) => self.give_up(index, why),
            State::Closing => self.open -= 1,
            State::Open => {
                self.open -= 1;
                if self.control.stage() != Stage::Close {
                    let number = self.place.number(index);
                    self.part.faults.closed += 1;
                    self.part.faults.name(|| format!("closed: connection {number}: {why}"));
                }
            }
        }
    }

    // Sending.

    fn flush(&mut self) {
        for index in mem::take(&mut self.links.dirty) {
            let link = &mut self.links.list[index as usize];
            link.dirty = false;
            if let Err(error) = link.flush() {
                self.ended(index, &error.to_string());
            }
        }
    }

    // Closing.

    /// Says Close everywhere and waits a while for the answers.
    fn close(&mut self, events: &mut Events) -> io::Result<()> {
        for index in 0..self.links.list.len() as u32 {
            let link = &mut self.links.list[index as usize];
            if matches!(link.state, State::Open) {
                link.push(Opcode::Close, &moongate_wire::frame::code::NORMAL.to_be_bytes());
                link.state = State::Closing;
                self.links.mark(index);
            }
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while self.open > 0 {
            self.flush();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.wait(events, Some(left))?;
        }
        Ok(())
    }
}

/// How many bytes the frame of a server takes (RFC 6455 §5.2).
fn frame_bytes(payload: usize) -> usize {
    payload
        + if payload < 126 {
            2
        } else if payload < 1 << 16 {
            4
        } else {
            10
        }
}

/// What a Close says.
fn said_goodbye(frame: ServerFrame<'_>) -> String {
    match frame.payload.split_first_chunk() {
        Some((code, reason)) => {
            let reason = String::from_utf8_lossy(reason);
            format!("the server said Close {} {reason:?}", u16::from_be_bytes(*code))
        }
        None => "the server said Close".to_owned(),
    }
}
