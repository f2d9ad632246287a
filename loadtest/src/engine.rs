//! The loop of one thread: opens its links, reads them, lets its scenario speak, sends, closes.
//!
//! On mio rather than polling: it is edge-triggered from the ground up, which saves a system call per event, and the
//! gateway's control thread brings it along anyway.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::{self, Timer};
use crate::control::{Control, Progress, Stage};
use crate::dialect::{Desk, Ear, Heard};
use crate::limits;
use crate::link::{self, State};
use crate::links::{Links, Order};
use crate::report::Part;
use crate::scenario::{End, Place, Scenario, Scene};

/// Handshakes of a thread that are under way at a time before the run begins.
const HANDSHAKES_MAX: u32 = 128;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// How often in a row a link is read before others have their turn.
const READS_MAX: u32 = 4;

/// Events taken at a time.
const EVENTS: usize = 1024;

/// How long the server gets to answer a goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

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
    /// Links that were opened before the run began, or are about to be.
    dialed: u32,
    /// How many handshakes of those are under way.
    handshakes: u32,
    /// How often a link was opened, for keys and source addresses.
    dials: u32,
    /// Links that have opened and were not told of.
    opened: u64,
    finished: bool,
    settled: bool,
    /// When the run began, by the clock and in computing time of this thread.
    began: Option<(u64, u64)>,
    buffer: Box<[u8]>,
    desk: Desk,
    reply: Vec<u8>,
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
            links: Links::new(place.count()),
            scenario,
            part: Part::default(),
            dialed: 0,
            handshakes: 0,
            dials: 0,
            opened: 0,
            finished: false,
            settled: false,
            began: None,
            buffer: vec![0; READ_BYTES].into(),
            desk: Desk::default(),
            reply: Vec::new(),
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
            // Before the turn too: what waited and is gone now makes room for more.
            self.flush();
            let wake_at = self.turn(stage);
            // What was done here may be what the scenario waits for, and no event tells of it.
            let obeyed = self.obey();
            self.flush();
            let busy = self.read_on() || obeyed || wake_at.is_some_and(|at| at <= clock::now());
            if !busy {
                self.timer.set(wake_at)?;
            }
            self.wait(&mut events, busy.then_some(Duration::ZERO))?;
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
        let Engine { links, control, part, .. } = self;
        let turn = self.scenario.turn(stage, &mut Scene { links, control, part, now: clock::now() });
        let finished = turn.finished && stage == Stage::Run && !mem::replace(&mut self.finished, true);
        let settled = turn.settled && stage == Stage::Settle && !mem::replace(&mut self.settled, true);
        let opened = mem::take(&mut self.opened);
        let (finished, settled) = (finished.into(), settled.into());
        self.control.add(Progress { opened, finished, settled, ..Progress::default() });
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
        while self.handshakes < HANDSHAKES_MAX && self.dialed < wanted {
            self.handshakes += 1;
            self.dialed += 1;
            self.connect(self.dialed - 1, clock::now());
        }
    }

    /// Does what the scenario has asked for, if it has.
    fn obey(&mut self) -> bool {
        let orders = self.links.take_orders();
        let any = !orders.is_empty();
        for order in orders {
            match order {
                Order::Open { link, due } => self.connect(link, due),
                Order::Leave { link, abruptly } => {
                    // A goodbye that needs no answer goes out before the end.
                    let _ = self.links.get(link).flush();
                    self.gone(link, End::Left, abruptly);
                }
                Order::Vanish(links) => self.vanish(links),
            }
        }
        any
    }

    /// Resets many links, on a thread of their own: the kernel takes its time for each, in which others must have theirs.
    fn vanish(&mut self, links: Vec<u32>) {
        let mut streams = Vec::with_capacity(links.len());
        for index in links {
            streams.extend(self.links.get(index).stream.take());
            self.gone(index, End::Left, false);
        }
        let reset = move || {
            for stream in streams {
                link::reset(stream);
            }
        };
        if let Err(error) = thread::Builder::new().name("vanish".to_owned()).spawn(reset) {
            self.control.fail(format!("starting a thread: {error}"));
        }
    }

    fn connect(&mut self, index: u32, due: u64) {
        let number = self.place.number(index);
        let turn = self.dials;
        self.dials += 1;
        let source = if self.began.is_none() {
            limits::source(self.server.ip(), number, self.place.links + self.place.publishers)
        } else {
            // Ports of connections that ended stay taken for a while.
            limits::source(self.server.ip(), turn * self.place.threads + self.place.thread, u32::MAX)
        };
        let opening = self.scenario.opening(number);
        let link = self.links.get(index);
        let mut connected = link.connect(self.server, source, &opening, number.wrapping_add(turn << 16));
        link.due = due;
        if let (Ok(()), Some(stream)) = (&connected, &mut link.stream) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            connected = self.poll.registry().register(stream, Token(index as usize), interest);
        }
        if let Err(error) = connected {
            self.links.get(index).state = State::Connecting;
            self.ended(index, &format!("connecting: {error}"));
        }
    }

    /// A link that could not be opened ends the run: nothing it would show is worth showing.
    fn give_up(&mut self, index: u32, why: &str) {
        let server = self.server;
        self.control.fail(format!("connection {} to {server}: {why}", self.place.number(index)));
    }

    fn opened(&mut self, index: u32, now: u64) {
        self.handshakes = self.handshakes.saturating_sub(1);
        self.opened += 1;
        let link = self.links.get(index);
        link.state = State::Open;
        let since = link.due;
        let Engine { links, control, part, .. } = self;
        self.scenario.opened(index, since, &mut Scene { links, control, part, now });
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
        let link = self.links.get(index);
        if let (State::Connecting, Some(stream)) = (link.state, &link.stream) {
            match stream.take_error().and_then(|error| error.map_or(Ok(()), Err)) {
                Ok(()) => link.ask(),
                Err(error) => return self.ended(index, &error.to_string()),
            }
        }
        if link.waiting() > 0 {
            self.links.mark(index);
        }
    }

    /// Reads on where more may lie than was read, if it may anywhere: what came may be what the scenario waits for.
    fn read_on(&mut self) -> bool {
        let ready = self.links.take_ready();
        let any = !ready.is_empty();
        for index in ready {
            self.links.get(index).readable = false;
            self.read(index, true);
        }
        any
    }

    /// Reads; `closing`: the end of the stream may be due, so that a short read is not the last.
    fn read(&mut self, index: u32, closing: bool) {
        // Taken out so that it can be read while the scenario sends.
        let mut buffer = mem::take(&mut self.buffer);
        if let Err(why) = self.read_into(index, closing, &mut buffer) {
            self.ended(index, &why);
        }
        self.buffer = buffer;
    }

    fn read_into(&mut self, index: u32, closing: bool, buffer: &mut [u8]) -> Result<(), String> {
        for _ in 0..READS_MAX {
            let link = self.links.get(index);
            let most = link.allowance.map_or(buffer.len(), |allowed| allowed.min(buffer.len()));
            if most == 0 {
                link.readable = true;
                return Ok(());
            }
            let count = match link.read(&mut buffer[..most]).map_err(|error| error.to_string())? {
                None => return Ok(()),
                Some(0) => return Err("the server closed it".to_owned()),
                Some(count) => count,
            };
            if let Some(allowed) = &mut link.allowance {
                *allowed -= count;
            }
            self.take(index, &buffer[..count])?;
            if count < most && !closing {
                return Ok(());
            }
        }
        self.links.make_ready(index);
        Ok(())
    }

    /// Takes what came: together with what came before and was not complete.
    fn take(&mut self, index: u32, bytes: &[u8]) -> Result<(), String> {
        let now = clock::now();
        let link = self.links.get(index);
        let Some(mut ear) = link.ear.take() else { return Ok(()) };
        let mut rest = mem::take(&mut link.rest);
        if rest.is_empty() {
            let consumed = self.hear(index, &mut *ear, bytes, now)?;
            rest.extend_from_slice(&bytes[consumed..]);
        } else {
            rest.extend_from_slice(bytes);
            let consumed = self.hear(index, &mut *ear, &rest, now)?;
            rest.drain(..consumed);
        }
        let link = self.links.get(index);
        link.ear = Some(ear);
        // Most have none most of the time: memory would be taken for nothing.
        link.rest = if rest.is_empty() { Vec::new() } else { rest };
        Ok(())
    }

    /// Hears all that is complete, and says how many bytes that was.
    fn hear(&mut self, index: u32, ear: &mut dyn Ear, bytes: &[u8], now: u64) -> Result<usize, String> {
        let mut at = 0;
        loop {
            let step = ear.hear(&bytes[at..], &mut self.desk, &mut self.reply)?;
            at += step.consumed;
            match step.heard {
                Heard::Part => break,
                Heard::Nothing => {}
                Heard::Open => self.opened(index, now),
                Heard::Message(format, payload) => {
                    let Engine { links, control, part, .. } = self;
                    part.last_heard = Some(now);
                    self.scenario.hear(index, format, payload, &mut Scene { links, control, part, now });
                }
                Heard::End(why) => {
                    self.tell(index, ear, now);
                    return Err(why);
                }
            }
        }
        self.tell(index, ear, now);
        if !self.reply.is_empty() {
            self.links.get(index).reply(&self.reply);
            self.reply.clear();
            self.links.mark(index);
        }
        Ok(at)
    }

    /// Tells the scenario what else was heard on a link.
    fn tell(&mut self, index: u32, ear: &mut dyn Ear, now: u64) {
        while let Some(told) = ear.tell() {
            let Engine { links, control, part, .. } = self;
            self.scenario.told(index, told, &mut Scene { links, control, part, now });
        }
    }

    /// A link is over, by the server's doing or in answer to a goodbye.
    fn ended(&mut self, index: u32, why: &str) {
        let end = match self.links.get(index).state {
            State::Gone => return,
            State::Connecting | State::Asking => End::Refused(why),
            State::Open => End::Cut(why),
            State::Closing => End::Left,
        };
        self.gone(index, end, false);
    }

    fn gone(&mut self, index: u32, end: End<'_>, abruptly: bool) {
        self.links.get(index).end(abruptly);
        self.reply.clear();
        if self.control.stage() == Stage::Close {
            return;
        }
        let Engine { links, control, part, .. } = self;
        if self.scenario.ended(index, end, &mut Scene { links, control, part, now: clock::now() }) {
            return;
        }
        match end {
            End::Refused(why) => self.give_up(index, why),
            End::Cut(why) => {
                let number = self.place.number(index);
                self.part.faults.closed += 1;
                self.part.faults.name(|| format!("closed: connection {number}: {why}"));
            }
            End::Left => {}
        }
    }

    // Sending.

    fn flush(&mut self) {
        for index in self.links.take_dirty() {
            let link = self.links.get(index);
            link.dirty = false;
            if let Err(error) = link.flush() {
                // What the server said before may still lie there, and says more than the error.
                self.read(index, true);
                self.ended(index, &error.to_string());
            }
        }
    }

    // Closing.

    /// Says goodbye everywhere and waits a while for the answers.
    fn close(&mut self, events: &mut Events) -> io::Result<()> {
        for index in 0..self.links.count() {
            let link = self.links.get(index);
            match link.state {
                // Who reads slowly would also read this slowly.
                State::Gone | State::Closing => {}
                State::Open if link.allowance.is_none() => {
                    if link.bid_farewell() {
                        self.links.mark(index);
                    } else {
                        link.end(false);
                    }
                }
                State::Open | State::Connecting | State::Asking => link.end(true),
            }
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while self.links.is_any_left() {
            self.flush();
            let ready = self.read_on();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.wait(events, Some(if ready { Duration::ZERO } else { left }))?;
        }
        Ok(())
    }
}
