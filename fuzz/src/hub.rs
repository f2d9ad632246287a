//! Several hubs in one mesh, and anything that can be done to them, in any order.
//!
//! Shards tick one phase at a time, so that what others do, and what connections do, comes between the parts of a
//! fan-out; lanes are as short as one entry; sends go out in parts, late or never. See [`listener`] for what each
//! subscriber checks, and [`ledger`] for what every message must come to.

mod ledger;
mod listener;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{
    Ask, Bell, Config, ControlPort, Encode, Form, Gap, HashKey, HistoryLimits, Hub, Joined, Kind, Mesh,
    Message, Name, OutboxLimits, OutboxPolicy, Patience, Publish, Published, Start, Subscribed, Tell, Token,
};
use moongate_io::{Bytes, CHAIN_SEGMENTS_MAX, ConnId, Meter, Time};

use crate::source::Source;
use ledger::Ledger;
use listener::{Listener, encode_own};
use stream::{encode_ended, encode_gap, encode_joined, encode_message, encode_payload};

const SLOTS: usize = 4;
const TOPICS: usize = 3;
/// Operations of one input at most: enough to fill and drain every lane several times.
const OPERATIONS_MAX: usize = 2000;

/// Any operations on one to three hubs.
pub fn hub(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new(&mut source);
    for _ in 0..OPERATIONS_MAX {
        if source.is_empty() {
            break;
        }
        world.operate(&mut source);
    }
    world.settle();
    world.check_end();
}

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

struct Plain;

impl Encode for Plain {
    fn encode(&mut self, form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        encode_message(form, message, out);
    }

    fn joined(&mut self, form: Form, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
        encode_joined(form, name, joined, out);
    }

    fn gap(&mut self, form: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
        encode_gap(form, gap, out);
    }
}

/// What topics keep: nothing, little, or all of a few milliseconds.
fn history(key: u8) -> HistoryLimits {
    let ttl = Duration::from_millis(15);
    match key % 3 {
        0 => HistoryLimits::OFF,
        1 => HistoryLimits { messages_max: 2, bytes_max: 600, ttl },
        _ => HistoryLimits { messages_max: 64, bytes_max: 1 << 20, ttl },
    }
}

/// Which part of its tick a shard has done last.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Phase {
    Begun,
    Exchanged,
    Sealed,
    Finished,
}

struct Shard {
    hub: Hub<Plain>,
    meter: Meter,
    phase: Phase,
    /// Whether it had something to do in this tick, or says that it will at once.
    busy: bool,
    listeners: [Listener; SLOTS],
}

struct World {
    shards: Vec<Shard>,
    control: ControlPort,
    now: Time,
    policy: OutboxPolicy,
    outbox_bytes_max: usize,
    topics_max: usize,
    ledger: Ledger,
    own_drawn: u32,
}

impl World {
    fn new(source: &mut Source<'_>) -> World {
        let count = source.below(3) + 1;
        let capacity = source.pick(&[1, 2, 3, 16]);
        let topics_max = source.pick(&[8, 1]);
        // Outboxes with room for everything, or for very little.
        let policies = [OutboxPolicy::Cut, OutboxPolicy::DropOldest, OutboxPolicy::Latest];
        let policy = source.pick(&policies);
        let slow_reader_timeout = Duration::from_millis(10);
        let outbox_bytes_max = source.pick(&[1 << 26, 2000, 300, 1 << 26, 8000, 300]);
        let outbox = OutboxLimits { outbox_bytes_max, policy, slow_reader_timeout };
        let key = source.byte();
        let config =
            Config { topics_max, topic_linger: Duration::from_millis(20), history: history(key), outbox };
        let bells = (0..count).map(|_| Arc::new(Silent) as Arc<dyn Bell>).collect();
        let mesh = Mesh::new(bells, Arc::new(Silent), capacity, HashKey::new([key; 16]));
        let shard = |port| {
            let meter = Meter::default();
            let hub = Hub::new(&config, Plain, port, meter.clone(), 77);
            Shard { hub, meter, phase: Phase::Finished, busy: false, listeners: Default::default() }
        };
        World {
            shards: mesh.shards.into_iter().map(shard).collect(),
            control: mesh.control,
            now: Time::ZERO,
            policy: if outbox_bytes_max > 1 << 20 { OutboxPolicy::Cut } else { policy },
            outbox_bytes_max: outbox_bytes_max as usize,
            topics_max,
            ledger: Ledger::default(),
            own_drawn: 0,
        }
    }

    fn operate(&mut self, source: &mut Source<'_>) {
        let operation = source.below(16);
        let place = source.byte();
        let shard = usize::from(place >> 4) % self.shards.len();
        let slot = u32::from(place) % SLOTS as u32;
        match operation {
            0 => self.connect(shard, slot),
            1 => self.subscribe(shard, slot, source.byte()),
            2 => self.unsubscribe(shard, slot, usize::from(place >> 2)),
            3..=5 => self.publish(shard, source.byte(), (place & 0xc == 0xc).then_some(slot)),
            6..=8 => self.advance(shard, source),
            9 => (0..=slot).for_each(|_| self.send(shard)),
            10 | 11 => self.complete(shard, slot, source.byte()),
            12 => self.say(shard, slot, source.byte()),
            13 => match source.byte() % 4 {
                0 => self.abort(shard, slot),
                1 => self.leave(shard, slot),
                2 => self.fail(shard, slot),
                _ => self.tick_all(),
            },
            14 => self.now = self.now + Duration::from_millis(source.below(32) as u64),
            _ => self.control(shard, source.byte()),
        }
        self.check_account(shard);
    }

    // What connections do.

    fn connect(&mut self, shard: usize, slot: u32) {
        let Shard { hub, listeners, .. } = &mut self.shards[shard];
        if listeners[slot as usize].move_in() {
            hub.outboxes.open(slot);
        }
    }

    fn subscribe(&mut self, shard: usize, slot: u32, what: u8) {
        let Shard { hub, meter, listeners, .. } = &mut self.shards[shard];
        let listener = &mut listeners[slot as usize];
        let topic = what % TOPICS as u8;
        if !listener.is_open() || listener.hears(topic) {
            return;
        }
        let form = (what >> 4) % 2;
        let name = hub.name(&format!("topic{topic}"));
        let conn = ConnId::new(slot, listener.generation);
        // Where it begins: after what it has heard, if it knows what that is.
        let has_all = listener.has_all(hub.outboxes.is_idle(slot));
        let last = listener.last_place(topic, form).filter(|_| has_all);
        let start = match (what >> 5 & 3, last) {
            (2, _) => Start::AllKept,
            (3, Some((epoch, offset))) => Start::After { epoch, offset },
            _ => Start::Now,
        };
        let (id, joined) = match hub.subscribe(conn, name.clone(), Form(form), start) {
            Subscribed::Now(joined) => {
                let mut word = Vec::new();
                encode_joined(Form(form), &name, &joined, &mut word);
                hub.outboxes.push(slot, Bytes::own(word, meter));
                (joined.subscription, true)
            }
            Subscribed::Later(id) => (id, false),
        };
        assert_eq!(hub.subscribed_name(id), Some(name));
        assert!(!joined || start == Start::Now, "only the home knows what is kept");
        listener.subscribed((id, joined), topic, form, start);
        listener.look_for_room(self.outbox_bytes_max);
        // The answer to a handshake waits until the topic's home has said yes.
        if !joined && what & 0x80 != 0 && listener.held.is_none() {
            hub.outboxes.hold(slot);
            listener.held = Some(id);
        }
    }

    /// Ends one of its subscriptions.
    fn unsubscribe(&mut self, shard: usize, slot: u32, which: usize) {
        let Shard { hub, meter, listeners, .. } = &mut self.shards[shard];
        let listener = &mut listeners[slot as usize];
        let Some(id) = listener.subscription(which) else { return };
        let ((topic, form, joined), held) = listener.unsubscribed(id);
        hub.unsubscribe(id);
        hub.unsubscribe(id);
        assert_eq!(hub.subscribed_name(id), None);
        let word = encode_ended(form, topic, joined, self.ledger.next_id());
        hub.outboxes.push(slot, Bytes::own(word, meter));
        if held {
            hub.outboxes.let_go(slot);
        }
    }

    fn unsubscribe_from_all(&mut self, shard: usize, slot: u32) {
        while self.shards[shard].listeners[slot as usize].subscription(0).is_some() {
            self.unsubscribe(shard, slot, 0);
        }
    }

    /// A message, perhaps one that the connection in the slot `excluded` is to be left out of.
    fn publish(&mut self, shard: usize, what: u8, excluded: Option<u32>) {
        let topic = what % TOPICS as u8;
        let id = self.ledger.publish(shard, topic);
        let listeners = &mut self.shards[shard].listeners;
        let excluded = excluded.filter(|slot| listeners[*slot as usize].is_open()).map(|slot| {
            let listener = &mut listeners[slot as usize];
            listener.left_out_of(topic, id);
            ConnId::new(slot, listener.generation)
        });
        for Shard { listeners, .. } in &mut self.shards {
            listeners.iter_mut().for_each(|listener| listener.published(topic, id));
        }
        let payload = encode_payload(topic, id, usize::from(what >> 4) * 40);
        let hub = &mut self.shards[shard].hub;
        let name = hub.name(&format!("topic{topic}"));
        let patience = [Patience::Waits, Patience::Leaves][usize::from(what >> 7)];
        match hub.publish(Token::new(u64::from(id)), &name, Kind::Binary, &payload, patience, excluded) {
            Published::Pending => {}
            Published::Rejected(_) => self.ledger.rejected(shard, Token::new(u64::from(id))),
        }
        self.hear(shard);
    }

    /// Bytes of the connection's own, or a pong.
    fn say(&mut self, shard: usize, slot: u32, what: u8) {
        let Shard { hub, meter, listeners, .. } = &mut self.shards[shard];
        let listener = &mut listeners[slot as usize];
        if !listener.is_open() {
            return;
        }
        self.own_drawn += 1;
        let pong = what % 2 == 1;
        let bytes = encode_own(pong, self.own_drawn);
        if pong {
            hub.outboxes.push_pong(slot, &bytes, meter);
        } else {
            hub.outboxes.push(slot, Bytes::own(bytes, meter));
        }
        listener.said(pong, self.own_drawn);
        listener.look_for_room(self.outbox_bytes_max);
    }

    /// The connection is gone at once; a send under way comes back later.
    fn abort(&mut self, shard: usize, slot: u32) {
        if !self.shards[shard].listeners[slot as usize].is_open() {
            return;
        }
        self.unsubscribe_from_all(shard, slot);
        let Shard { hub, listeners, .. } = &mut self.shards[shard];
        hub.outboxes.seal(slot);
        hub.outboxes.clear(slot);
        listeners[slot as usize].move_out(true);
    }

    /// The connection is sent away with a last word.
    fn leave(&mut self, shard: usize, slot: u32) {
        if !self.shards[shard].listeners[slot as usize].is_open() {
            return;
        }
        self.unsubscribe_from_all(shard, slot);
        self.own_drawn += 1;
        let Shard { hub, meter, listeners, .. } = &mut self.shards[shard];
        hub.outboxes.cut(slot);
        hub.outboxes.push_last(slot, Bytes::own(encode_own(false, self.own_drawn), meter));
        listeners[slot as usize].move_out(false);
    }

    // What the driver does.

    fn send(&mut self, shard: usize) {
        let Shard { hub, listeners, .. } = &mut self.shards[shard];
        let Some((slot, chain)) = hub.outboxes.next_send() else { return };
        assert!((1..=CHAIN_SEGMENTS_MAX).contains(&chain.segments().len()) && !chain.is_empty());
        let listener = &mut listeners[slot as usize];
        assert!(listener.held.is_none(), "what is held does not go out");
        assert!(listener.flight.replace(chain).is_none(), "one send at a time");
        listener.look_for_room(self.outbox_bytes_max);
    }

    fn complete(&mut self, shard: usize, slot: u32, part: u8) {
        let Shard { hub, listeners, .. } = &mut self.shards[shard];
        let listener = &mut listeners[slot as usize];
        let Some(chain) = listener.flight.take() else { return };
        let count = (chain.len() * (usize::from(part) + 1)).div_ceil(256);
        listener.arrived(&chain, count, self.policy, &mut self.ledger);
        if listener.is_aborted() {
            return hub.outboxes.failed(slot);
        }
        hub.outboxes.sent(slot, chain, count);
        listener.idle(hub.outboxes.is_idle(slot));
    }

    fn fail(&mut self, shard: usize, slot: u32) {
        if self.shards[shard].listeners[slot as usize].flight.take().is_none() {
            return;
        }
        self.unsubscribe_from_all(shard, slot);
        let Shard { hub, listeners, .. } = &mut self.shards[shard];
        hub.outboxes.failed(slot);
        hub.outboxes.seal(slot);
        listeners[slot as usize].move_out(true);
    }

    // What shards do.

    /// One phase of a shard's tick.
    fn advance(&mut self, shard: usize, source: &mut Source<'_>) {
        let budget = source.pick(&[100, 0, 1, 2]);
        self.phase(shard, budget);
    }

    fn phase(&mut self, shard: usize, budget: usize) {
        let Shard { hub, phase, busy, .. } = &mut self.shards[shard];
        *phase = match *phase {
            Phase::Finished => {
                *busy = !hub.park();
                if !*busy {
                    hub.unpark();
                }
                hub.begin(self.now);
                Phase::Begun
            }
            Phase::Begun => {
                hub.exchange(budget);
                Phase::Exchanged
            }
            Phase::Exchanged => {
                hub.seal();
                Phase::Sealed
            }
            Phase::Sealed => {
                let soon = self.now + Duration::from_millis(1);
                *busy |= hub.finish().is_some_and(|due| due <= soon) || hub.is_unsealed();
                Phase::Finished
            }
        };
        self.hear(shard);
    }

    fn tick_all(&mut self) {
        for shard in 0..self.shards.len() {
            loop {
                self.phase(shard, 100);
                if self.shards[shard].phase == Phase::Finished {
                    break;
                }
            }
        }
    }

    /// Acts on what came of a phase, as a shard does at once.
    fn hear(&mut self, shard: usize) {
        let Shard { hub, listeners, .. } = &mut self.shards[shard];
        for Joined { conn, subscription, .. } in hub.take_joined() {
            let listener = &mut listeners[conn.slot() as usize];
            if listener.generation == conn.generation() && listener.joined(subscription) {
                hub.outboxes.let_go(conn.slot());
            }
        }
        for (conn, id, _) in hub.take_refused() {
            assert!(self.topics_max < TOPICS, "there is room for all topics");
            let listener = &mut listeners[conn.slot() as usize];
            assert_eq!(listener.generation, conn.generation(), "who has left is not refused");
            let (_, held) = listener.unsubscribed(id);
            assert_eq!(hub.subscribed_name(id), None, "it has ended");
            if held {
                hub.outboxes.let_go(conn.slot());
            }
        }
        for ordered in hub.take_ordered() {
            self.ledger.ordered(shard, &ordered, ordered.bytes as usize);
        }
        for (token, _, _) in hub.take_rejected() {
            self.ledger.rejected(shard, token);
        }
        for slot in self.shards[shard].hub.take_overflowed() {
            assert_eq!(self.policy, OutboxPolicy::Cut);
            self.leave(shard, slot);
        }
    }

    /// The control thread reads a few tells, asks for topics, or publishes.
    fn control(&mut self, shard: usize, what: u8) {
        for _ in 0..what % 4 {
            self.hear_control();
        }
        match what >> 6 {
            0 => {}
            1 => {
                // A lane that is full says so, and takes nothing.
                let _ = self.control.ask(shard, Ask::Topics(0));
            }
            _ => {
                let topic = what >> 2 & 0xf;
                let topic = topic % TOPICS as u8;
                let name = self.control.name(&format!("topic{topic}"));
                let home = name.home(self.shards.len());
                let id = self.ledger.next_id();
                let payload = encode_payload(topic, id, 0).into();
                let (token, patience) = (Token::new(u64::from(id)), Patience::Leaves);
                let ask = Ask::Publish(Publish {
                    name,
                    kind: Kind::Text,
                    payload,
                    token,
                    patience,
                    excluded: None,
                });
                if self.control.ask(home, ask).is_ok() {
                    self.ledger.publish(self.shards.len(), topic);
                    for Shard { listeners, .. } in &mut self.shards {
                        listeners.iter_mut().for_each(|listener| listener.published(topic, id));
                    }
                }
            }
        }
    }

    fn hear_control(&mut self) -> Option<Tell> {
        let publisher = self.shards.len();
        let (_, tell) = self.control.next_tell()?;
        match &tell {
            Tell::Ordered(ordered) => self.ledger.ordered(publisher, ordered, ordered.bytes as usize),
            Tell::Rejected { token, .. } => self.ledger.rejected(publisher, *token),
            Tell::Topics(_) => {}
            other => panic!("nobody asked for {other:?}"),
        }
        Some(tell)
    }

    /// Bytes that wait are counted as they are.
    fn check_account(&self, shard: usize) {
        let Shard { hub, listeners, .. } = &self.shards[shard];
        let waiting = |(slot, listener): (usize, &Listener)| {
            let bytes = if listener.is_known() { hub.outboxes.bytes(slot as u32) as usize } else { 0 };
            (bytes - listener.flight.as_ref().map_or(0, |chain| chain.len())) as u64
        };
        let total: u64 = listeners.iter().enumerate().map(waiting).sum();
        assert_eq!(hub.outboxes.waiting_bytes(), total);
    }

    // The end.

    /// Lets everything come to rest: whole sends, whole ticks, a control thread that reads.
    fn settle(&mut self) {
        let (mut quiet, mut rounds) = (0, 0);
        // Long enough for a publisher that is held back for 10 ms.
        while quiet < 12 {
            rounds += 1;
            assert!(rounds < 100_000, "it never comes to rest");
            let before = self.ledger.settled();
            self.tick_all();
            let mut moved = self.shards.iter().any(|shard| shard.busy);
            while self.hear_control().is_some() {
                moved = true;
            }
            for shard in 0..self.shards.len() {
                for slot in 0..SLOTS as u32 {
                    self.complete(shard, slot, 255);
                }
                while self.shards[shard].hub.outboxes.is_dirty() {
                    self.send(shard);
                    moved = true;
                }
            }
            self.now = self.now + Duration::from_millis(1);
            quiet = if moved || self.ledger.settled() != before { 0 } else { quiet + 1 };
        }
    }

    fn check_end(&mut self) {
        self.ledger.check();
        for Shard { listeners, .. } in &mut self.shards {
            for listener in listeners {
                listener.check_end(self.policy, &self.ledger);
            }
        }
        // When everybody has left, nothing is left.
        for shard in 0..self.shards.len() {
            for slot in 0..SLOTS as u32 {
                self.abort(shard, slot);
            }
        }
        self.settle();
        self.now = self.now + Duration::from_millis(100);
        self.settle();
        for shard in 0..self.shards.len() {
            self.control.ask(shard, Ask::Topics(0)).expect("the lane has room");
            let mut answer = None;
            for _ in 0..4 {
                self.tick_all();
                answer = self.hear_control().or(answer);
            }
            let Some(Tell::Topics(page)) = answer else { panic!("a shard answers") };
            assert!(page.topics.is_empty() && page.next.is_none(), "{:?}", page.topics);
            assert_eq!(self.shards[shard].meter.get(), 0, "bytes are let go");
            assert_eq!(self.shards[shard].hub.outboxes.waiting_bytes(), 0);
        }
    }
}
