//! One thread: its ring, its connections, its loop.
//!
//! A turn seals what has come into runs, puts up to 512 sends into the ring, submits them, and takes what has completed.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use moongate_io::Bell as _;
use moongate_sys::{EventBell, Listener};
use moongate_wire::accept::Template;
use moongate_wire::frame::{Item, Limits, Opcode, encode};

use crate::figures::{self, Figures};
use crate::group::{GONE, Group};
use crate::kernel::{Completion, Kernel, Operation};
use crate::options::{Pace, pace_of};
use crate::peer::{Ending, Mode, Peer, Sending};
use crate::speech::{self, Request};

/// How long a window may stay incomplete while nobody says or is sent anything: only what is said last waits so long.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many times a turn asks the kernel for what else is ready, so that it goes out together.
const GATHER_MAX: u32 = 16;

const LIMITS: Limits = Limits { message_bytes_max: 16 << 20, fragment_overhead: 1, deflate: false };

/// The path on which everybody hears just what they said.
const ECHO: &str = "/echo";

/// A run on the path of this number, for the other threads.
pub(crate) type News = (u32, Arc<Vec<u8>>);

/// A thread, as the others see it.
pub(crate) struct Neighbour {
    inbox: mpsc::Sender<News>,
    bell: EventBell,
    asleep: AtomicBool,
}

impl Neighbour {
    pub(crate) fn new(inbox: mpsc::Sender<News>, bell: EventBell) -> Neighbour {
        Neighbour { inbox, bell, asleep: AtomicBool::new(false) }
    }

    fn tell(&self, news: News) {
        // A thread that is gone takes the process with it.
        let _ = self.inbox.send(news);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }
}

/// The numbers of all paths.
#[derive(Default)]
pub(crate) struct Paths(Mutex<HashMap<String, u32>>);

impl Paths {
    fn number(&self, path: String) -> u32 {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.len() as u32;
        *numbers.entry(path).or_insert(next)
    }
}

/// What a worker is made from.
pub(crate) struct Setup {
    pub(crate) index: usize,
    pub(crate) pace: Pace,
    pub(crate) neighbours: Arc<[Neighbour]>,
    pub(crate) paths: Arc<Paths>,
    pub(crate) figures: Arc<[Figures]>,
}

pub(crate) struct Worker {
    setup: Setup,
    kernel: Kernel,
    inbox: mpsc::Receiver<News>,
    template: Template,
    /// By slot.
    peers: Vec<Peer>,
    /// By the number of the path.
    groups: Vec<Group>,
    /// Groups in which something was said that is not sealed.
    spoken: Vec<u32>,
    /// Since when one of them waits for its window to be complete, and nothing else happens.
    incomplete_since: Option<Instant>,
    /// Groups that are swept, one after the other.
    sweeping: VecDeque<u32>,
    /// Peers that may have something to send apart from the sweep.
    ready: VecDeque<u32>,
    /// Peers whose receive ended because the pool was empty.
    thirsty: Vec<u32>,
    completions: Vec<Completion>,
}

impl Worker {
    pub(crate) fn new(setup: Setup, listener: Listener, inbox: mpsc::Receiver<News>) -> io::Result<Worker> {
        let kernel = Kernel::new(listener, setup.neighbours[setup.index].bell.clone())?;
        let mut peers = Vec::new();
        peers.resize_with(kernel.slots as usize, Peer::default);
        Ok(Worker {
            setup,
            kernel,
            inbox,
            template: Template::new(""),
            peers,
            groups: Vec::new(),
            spoken: Vec::new(),
            incomplete_since: None,
            sweeping: VecDeque::new(),
            ready: VecDeque::new(),
            thirsty: Vec::new(),
            completions: Vec::new(),
        })
    }

    /// Goes on until something cannot be.
    pub(crate) fn run(mut self) -> Result<(), String> {
        self.kernel.accept();
        self.kernel.read_bell();
        loop {
            self.hear_neighbours()?;
            self.seal()?;
            self.fill();
            self.wait()?;
            self.complete()?;
        }
    }

    fn hear_neighbours(&mut self) -> Result<(), String> {
        while let Ok((path, bytes)) = self.inbox.try_recv() {
            self.add_run(path, bytes)?;
        }
        Ok(())
    }

    /// Makes runs of what was said, for here and for the others.
    fn seal(&mut self) -> Result<(), String> {
        let hurry = self.incomplete_since.is_some_and(|since| since.elapsed() >= PATIENCE);
        let (mut waiting, mut collecting) = (Vec::new(), false);
        for path in std::mem::take(&mut self.spoken) {
            let group = &mut self.groups[path as usize];
            // What is said during a sweep goes out together after it.
            if group.pace == Pace::Turn && group.is_sweeping() {
                waiting.push(path);
                continue;
            }
            let sealed = group.seal(hurry);
            if group.is_pending() {
                collecting = true;
                waiting.push(path);
            }
            let figures = &self.setup.figures[self.setup.index];
            figures.runs.add(sealed.len() as u64);
            figures.incomplete.add(u64::from(hurry && !sealed.is_empty()));
            for bytes in sealed {
                for (index, neighbour) in self.setup.neighbours.iter().enumerate() {
                    if index != self.setup.index {
                        neighbour.tell((path, Arc::clone(&bytes)));
                    }
                }
                self.add_run(path, bytes)?;
            }
        }
        self.incomplete_since = match self.incomplete_since {
            Some(since) if collecting && !hurry && self.sweeping.is_empty() => Some(since),
            _ => collecting.then(Instant::now),
        };
        self.spoken = waiting;
        Ok(())
    }

    fn add_run(&mut self, path: u32, bytes: Arc<Vec<u8>>) -> Result<(), String> {
        let group = group(&mut self.groups, path);
        if group.has_gaps() {
            for (new_place, slot) in group.close_ranks().iter().enumerate() {
                if let Mode::Member { place, .. } = &mut self.peers[*slot as usize].mode {
                    *place = new_place;
                }
            }
        }
        let was_sweeping = group.is_sweeping();
        group.add(bytes)?;
        if !was_sweeping {
            self.sweeping.push_back(path);
        }
        Ok(())
    }

    /// Puts sends into the ring until a batch is full or everybody has one.
    fn fill(&mut self) {
        let Worker { kernel, peers, groups, ready, sweeping, setup, .. } = self;
        let mut batch = kernel.batch();
        let mut sends = 0;
        while batch.has_room() {
            let Some(slot) = ready.pop_front() else { break };
            let peer = &mut peers[slot as usize];
            if peer.sending != Sending::Nothing {
                continue;
            }
            if let Some(bytes) = peer.send_next(groups) {
                // SAFETY: what is in flight stays until the completion: of a peer's own because `Own::flight` is only
                // touched by `Peer::sent`, of a run because the group keeps it until this member has had it.
                unsafe { batch.send(slot, bytes) };
                sends += u64::from(peer.sending == Sending::Run);
            }
        }
        while batch.has_room() {
            let Some(&path) = sweeping.front() else { break };
            let group = &mut groups[path as usize];
            let Some(&slot) = group.members.get(group.cursor) else {
                group.end_sweep();
                sweeping.pop_front();
                sweeping.extend(group.is_sweeping().then_some(path));
                continue;
            };
            group.cursor += 1;
            if slot == GONE {
                continue;
            }
            let peer = &mut peers[slot as usize];
            if peer.next != group.swept || peer.sending != Sending::Nothing {
                peer.due = group.swept + 1;
                continue;
            }
            peer.sending = Sending::Run;
            // SAFETY: the group keeps a run until every member has had it, and this one only does at the completion.
            unsafe { batch.send(slot, group.bytes(group.swept)) };
            sends += 1;
        }
        setup.figures[setup.index].sends.add(sends);
    }

    /// Submits, and sleeps if there is nothing to do. What is ready then comes along.
    fn wait(&mut self) -> Result<(), String> {
        let busy = |worker: &Worker| {
            !(worker.ready.is_empty() && worker.sweeping.is_empty() && worker.thirsty.is_empty())
        };
        let setup = &self.setup;
        let asleep = (setup.neighbours.len() > 1 && !busy(self)).then(|| Arc::clone(&setup.neighbours));
        let me = setup.index;
        if let Some(neighbours) = &asleep {
            neighbours[me].asleep.store(true, Ordering::SeqCst);
            // Who told something before that saw no reason to ring.
            self.hear_neighbours()?;
        }
        let patience = |since: Instant| PATIENCE.saturating_sub(since.elapsed());
        let timeout = if busy(self) { Some(Duration::ZERO) } else { self.incomplete_since.map(patience) };
        self.kernel.pool.publish();
        self.kernel.enter(timeout);
        for _ in 0..GATHER_MAX {
            if !self.kernel.reap(&mut self.completions) {
                break;
            }
            self.kernel.enter(Some(Duration::ZERO));
        }
        if let Some(neighbours) = asleep {
            neighbours[me].asleep.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), String> {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match completion.operation {
                Operation::Send => self.sent(completion.slot, completion.result),
                Operation::Receive => self.received(completion),
                Operation::Accept => self.accepted(completion)?,
                Operation::Shutdown => {
                    // Whether FIN went out shows in what the other side does.
                    self.peers[completion.slot as usize].fin_under_way = false;
                    self.settle(completion.slot);
                }
                Operation::Close => self.peers[completion.slot as usize] = Peer::default(),
                Operation::Bell => self.kernel.read_bell(),
            }
        }
        self.completions = completions;
        for slot in std::mem::take(&mut self.thirsty) {
            if self.kernel.pool.free > 0 { self.kernel.receive(slot) } else { self.thirsty.push(slot) }
        }
        Ok(())
    }

    fn accepted(&mut self, completion: Completion) -> Result<(), String> {
        match completion.result {
            slot @ 0.. => {
                self.peers[slot as usize].mode = Mode::Head(Vec::new());
                self.kernel.receive(slot as u32);
            }
            error if matches!(-error, libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO) => {}
            error => return Err(format!("cannot accept: {}", io::Error::from_raw_os_error(-error))),
        }
        if !completion.more {
            self.kernel.accept();
        }
        Ok(())
    }

    fn received(&mut self, completion: Completion) {
        let Completion { slot, result, more, buffer, .. } = completion;
        if let Some(buffer) = buffer {
            self.kernel.pool.take();
            if result > 0 {
                self.hear(slot, buffer, result as usize);
            }
            self.kernel.pool.put(buffer);
        }
        let peer = &mut self.peers[slot as usize];
        match -result {
            _ if more => {}
            bytes if bytes < 0 => self.kernel.receive(slot),
            libc::ENOBUFS => self.thirsty.push(slot),
            _ => peer.ending = peer.ending.max(Ending::Over),
        }
        self.settle(slot);
    }

    /// Takes the bytes in `buffer`.
    fn hear(&mut self, slot: u32, buffer: u16, len: usize) {
        let peer = &mut self.peers[slot as usize];
        if peer.ending != Ending::Open {
            return;
        }
        let mut rest;
        let mut input = self.kernel.pool.bytes(buffer, len);
        if let Mode::Head(head) = &mut peer.mode {
            head.extend_from_slice(input);
            let Some((request, end)) = speech::read_head(head, &self.template) else { return };
            rest = head.split_off(end);
            input = &mut rest;
            let answer = match request {
                Request::Upgrade { path, answer } if path == ECHO => {
                    peer.mode = Mode::Echo;
                    answer
                }
                Request::Upgrade { path, answer } => {
                    let pace = pace_of(&path).unwrap_or(self.setup.pace);
                    let path = self.setup.paths.number(path);
                    let group = group(&mut self.groups, path);
                    group.pace = pace;
                    peer.next = group.end();
                    peer.mode = Mode::Member { path, place: group.join(slot) };
                    answer
                }
                Request::Other => {
                    peer.mode = Mode::Nothing;
                    peer.ending = Ending::Leaving;
                    speech::plain_answer(&figures::text(&self.setup.figures))
                }
            };
            peer.own.get_or_insert_default().waiting = answer;
            self.ready.push_back(slot);
        }
        while !input.is_empty() && peer.ending == Ending::Open {
            let Ok(step) = peer.decoder.step(input, &LIMITS) else {
                peer.ending = Ending::Leaving;
                return;
            };
            let consumed = step.consumed;
            let (to_all, opcode, payload) = match &step.item {
                Some(Item::Text(payload)) => (true, Opcode::Text, &payload[..]),
                Some(Item::Binary(payload)) => (true, Opcode::Binary, &payload[..]),
                Some(Item::Ping(payload)) => (false, Opcode::Pong, &payload[..]),
                Some(Item::Close(_)) => {
                    peer.ending = Ending::Leaving;
                    (false, Opcode::Close, &[][..])
                }
                Some(Item::Compressed(..) | Item::Pong) | None => {
                    input = &mut input[consumed..];
                    continue;
                }
            };
            match peer.mode {
                Mode::Member { path, .. } if to_all => {
                    let group = &mut self.groups[path as usize];
                    if !group.is_pending() {
                        self.spoken.push(path);
                    }
                    self.incomplete_since = None;
                    group.say(opcode, payload);
                    self.setup.figures[self.setup.index].messages.add(1);
                }
                _ => {
                    if !peer.has_own() {
                        self.ready.push_back(slot);
                    }
                    encode(opcode, payload, &mut peer.own.get_or_insert_default().waiting);
                }
            }
            input = &mut input[consumed..];
        }
    }

    fn sent(&mut self, slot: u32, result: i32) {
        let peer = &mut self.peers[slot as usize];
        let was_run = peer.sending == Sending::Run;
        match usize::try_from(result) {
            Ok(count) => {
                if peer.sent(count, &mut self.groups) && was_run {
                    self.setup.figures[self.setup.index].short_sends.add(1);
                }
            }
            Err(_) => {
                // It is gone; its receive ends too.
                peer.sending = Sending::Nothing;
                peer.own = None;
                peer.offset = 0;
                peer.ending = peer.ending.max(Ending::Left);
            }
        }
        let behind = match peer.mode {
            Mode::Member { path, .. } => peer.next < self.groups[path as usize].swept.max(peer.due),
            _ => false,
        };
        if peer.offset > 0 || behind || peer.has_own() {
            self.ready.push_back(slot);
        }
        if peer.ending != Ending::Open {
            self.settle(slot);
        }
    }

    /// Goes on with the end of a peer, as far as nothing is in flight.
    fn settle(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if peer.ending == Ending::Open || peer.sending != Sending::Nothing || peer.fin_under_way {
            return;
        }
        let begun = peer.ending == Ending::Leaving && (peer.offset > 0 || peer.has_own());
        if begun {
            return;
        }
        if let Mode::Member { path, place } = std::mem::take(&mut peer.mode) {
            self.groups[path as usize].leave(place, peer.next);
        }
        match peer.ending {
            Ending::Leaving => {
                peer.ending = Ending::Left;
                peer.fin_under_way = true;
                self.kernel.shutdown_write(slot);
            }
            Ending::Over => {
                peer.ending = Ending::Closing;
                peer.own = None;
                self.kernel.close(slot);
            }
            Ending::Open | Ending::Left | Ending::Closing => {}
        }
    }
}

/// The group of this number, made if it is new.
fn group(groups: &mut Vec<Group>, path: u32) -> &mut Group {
    let index = path as usize;
    if groups.len() <= index {
        groups.resize_with(index + 1, Group::default);
    }
    &mut groups[index]
}
