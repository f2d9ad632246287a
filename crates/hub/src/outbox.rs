//! What waits for each connection: references to runs, and the few bytes that are its own.
//!
//! An outbox that is *dirty* (something waits, no send is in flight) stands once in a first-in first-out queue that
//! spans ticks. Taking it from there hands everything that waits to one send; the completion says how much went, and
//! what is left goes first the next time. Nothing ever goes between the parts of a message that has begun.

use std::collections::VecDeque;
use std::time::Duration;

use moongate_io::{Bytes, CHAIN_SEGMENTS_MAX, Chain, Meter, Segment, Time};

use crate::gap::TellGap;
use crate::room::{self, Made};

/// What happens to a subscriber whose outbox is full.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum OutboxPolicy {
    /// It is sent away: what it has heard stays an unbroken prefix.
    Cut,
    /// The oldest messages that have not begun are dropped until the new ones fit.
    DropOldest,
    /// All messages that have not begun are dropped but the newest of each topic; of those too the oldest, if they do not
    /// fit.
    Latest,
}

/// The limits of every outbox.
#[derive(Copy, Clone, Debug)]
pub struct OutboxLimits {
    /// How many bytes may wait or be in flight for one subscriber. An empty outbox takes any one run.
    pub outbox_bytes_max: u32,
    /// What happens past that.
    pub policy: OutboxPolicy,
    /// How long the kernel may take nothing for a subscriber that is behind, before nobody waits for it any more.
    pub slow_reader_timeout: Duration,
}

/// What policies dropped.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Drops {
    /// Whole messages, one per subscriber that missed it.
    pub messages: u64,
    /// Their encoded bytes.
    pub bytes: u64,
}

/// What became of a run offered to an outbox.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Delivered {
    /// It waits.
    Taken,
    /// It waits, and with it the subscriber has fallen behind: more than half of what may wait does.
    Behind,
    /// The outbox is full and the policy is [`OutboxPolicy::Cut`]: nothing was added.
    Overflow,
    /// The outbox takes nothing any more.
    Sealed,
}

/// How many bytes of pongs wait for one connection: those of the longest one there can be (RFC 6455 §5.5).
const PONGS_BYTES_MAX: usize = 2 + 125;

/// What a piece that waits costs beside its bytes: two counts, a few pointers and two allocations.
const SEGMENT_OVERHEAD_BYTES: u32 = 128;

#[derive(Default)]
struct Outbox {
    waiting: Waiting,
    waiting_bytes: u32,
    flight_bytes: u32,
    /// When the kernel was last given bytes or last took some, in milliseconds of the driver's time.
    moved_millis: u32,
    pace: Pace,
    queued: bool,
    held: bool,
    sealed: bool,
}

/// Whether a subscriber keeps up, which is to have no more than half of what may wait.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
enum Pace {
    #[default]
    KeepsUp,
    /// It does not, and publishers wait for it.
    Behind,
    /// It does not, and nobody waits for it any more.
    GivenUp,
}

#[derive(Default)]
enum Waiting {
    #[default]
    Nothing,
    One(Segment),
    Many(Box<Many>),
}

#[derive(Default)]
struct Many {
    segments: VecDeque<Segment>,
    /// The pongs that are due, oldest first, in at most [`PONGS_BYTES_MAX`].
    pongs: Option<Bytes>,
    /// How many segments at the front came back from sends, at most, and perhaps more than there are; older pongs are perhaps
    /// among them.
    returned: usize,
}

/// The outboxes of a shard's connections, by slot.
pub struct Outboxes {
    table: Vec<Outbox>,
    dirty: VecDeque<u32>,
    limits: OutboxLimits,
    drops: Drops,
    waiting_bytes: u64,
    sends: Sends,
    /// The driver's time.
    now_millis: u32,
}

/// What was handed to the driver.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sends {
    pub(crate) sends: u64,
    pub(crate) segments: u64,
}

impl Outboxes {
    pub(crate) fn new(limits: OutboxLimits) -> Outboxes {
        Outboxes {
            table: Vec::new(),
            dirty: VecDeque::new(),
            limits,
            drops: Drops::default(),
            waiting_bytes: 0,
            sends: Sends::default(),
            now_millis: 0,
        }
    }

    /// Begins a tick at `now`.
    pub(crate) fn begin(&mut self, now: Time) {
        self.now_millis = (now.as_nanos() / 1_000_000) as u32;
    }

    /// Sets room aside for so many slots. It is not touched before it is used; but tables that grow by being copied leave
    /// their earlier selves behind in the allocator.
    pub fn reserve(&mut self, slots: u32) {
        self.table.reserve_exact((slots as usize).saturating_sub(self.table.len()));
    }

    /// Makes sure `slot` has an empty outbox; called when a connection moves in.
    pub fn open(&mut self, slot: u32) {
        let index = slot as usize;
        if index >= self.table.len() {
            self.table.resize_with(index + 1, Outbox::default);
        }
        self.clear(slot);
        let outbox = &mut self.table[index];
        *outbox = Outbox { queued: outbox.queued, ..Outbox::default() };
    }

    /// Adds bytes of the connection's own behind all that waits. Ignored once the outbox is sealed.
    pub fn push(&mut self, slot: u32, bytes: Bytes) {
        if !self.table[slot as usize].sealed && !bytes.is_empty() {
            self.append(slot, Segment::whole(bytes));
        }
    }

    /// Adds bytes of the connection's own before all that waits in an outbox that is held: the answer to a request, whose
    /// text hangs on what the topic's home says.
    pub fn push_first(&mut self, slot: u32, bytes: Bytes) {
        let outbox = &mut self.table[slot as usize];
        debug_assert!(outbox.held && outbox.flight_bytes == 0, "nothing can go before what has begun");
        if outbox.sealed || bytes.is_empty() {
            return;
        }
        outbox.waiting_bytes += bytes.len() as u32;
        self.waiting_bytes += bytes.len() as u64;
        match &mut outbox.waiting {
            nothing @ Waiting::Nothing => nothing.push(Segment::whole(bytes)),
            waiting => waiting.many().segments.push_front(Segment::whole(bytes)),
        }
    }

    /// Adds the connection's last words behind all that waits, pongs that are due included, and seals the outbox.
    pub fn push_last(&mut self, slot: u32, bytes: Bytes) {
        let outbox = &mut self.table[slot as usize];
        if let Waiting::Many(many) = &mut outbox.waiting {
            many.segments.extend(many.pongs.take().map(Segment::whole));
        }
        self.push(slot, bytes);
        self.seal(slot);
    }

    /// Adds a pong, one whole frame. Those that wait already stay while there is room for all in [`PONGS_BYTES_MAX`];
    /// else it replaces them, since only the newest ping must be answered (RFC 6455 §5.5.3).
    pub fn push_pong(&mut self, slot: u32, pong: &[u8], meter: &Meter) {
        let outbox = &mut self.table[slot as usize];
        if outbox.sealed {
            return;
        }
        if outbox.flight_bytes == 0 && matches!(outbox.waiting, Waiting::Nothing) {
            return self.append(slot, Segment::whole(Bytes::own(pong, meter)));
        }
        let pongs = &mut outbox.waiting.many().pongs;
        let before = pongs.take();
        let before = before.as_ref().map_or(&[][..], Bytes::as_slice);
        let kept = if before.len() + pong.len() <= PONGS_BYTES_MAX { before } else { &[] };
        let after = Bytes::own([kept, pong].concat(), meter);
        let (added, removed) = (after.len() as u32, before.len() as u32);
        *pongs = Some(after);
        outbox.waiting_bytes = outbox.waiting_bytes + added - removed;
        self.waiting_bytes = self.waiting_bytes + u64::from(added) - u64::from(removed);
        self.mark_dirty(slot);
    }

    /// Adds nothing more to this outbox: what is pushed later is ignored. What waits still goes out.
    pub fn seal(&mut self, slot: u32) {
        self.table[slot as usize].sealed = true;
    }

    /// Keeps what waits from going out until [`Outboxes::let_go`].
    pub fn hold(&mut self, slot: u32) {
        self.table[slot as usize].held = true;
    }

    /// Ends [`Outboxes::hold`].
    pub fn let_go(&mut self, slot: u32) {
        self.table[slot as usize].held = false;
        self.mark_dirty(slot);
    }

    /// Forgets what waits, as when a subscriber is cut, but for a message that has begun or, if they come first, bytes of
    /// the connection's own: nothing can be said before the answer to its request. What is in flight stays.
    pub fn cut(&mut self, slot: u32) {
        let outbox = &mut self.table[slot as usize];
        let before = outbox.waiting_bytes;
        let rest = match std::mem::take(&mut outbox.waiting) {
            Waiting::Nothing => None,
            Waiting::One(segment) => Some(segment),
            Waiting::Many(mut many) => many.segments.pop_front(),
        };
        outbox.waiting_bytes = 0;
        if let Some(mut kept) = rest.filter(|segment| !segment.is_run() || !segment.at_message_start()) {
            kept.truncate(kept.first_message_len());
            outbox.waiting_bytes = kept.len() as u32;
            outbox.waiting = Waiting::One(kept);
        }
        self.waiting_bytes -= u64::from(before - outbox.waiting_bytes);
    }

    /// Forgets all that waits, begun or not: the connection cannot send any more.
    pub fn clear(&mut self, slot: u32) {
        let outbox = &mut self.table[slot as usize];
        self.waiting_bytes -= u64::from(outbox.waiting_bytes);
        outbox.waiting_bytes = 0;
        outbox.waiting = Waiting::Nothing;
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_idle(&self, slot: u32) -> bool {
        let outbox = &self.table[slot as usize];
        outbox.flight_bytes == 0 && outbox.waiting_bytes == 0
    }

    /// Bytes that wait or are in flight.
    pub fn bytes(&self, slot: u32) -> u32 {
        let outbox = &self.table[slot as usize];
        outbox.waiting_bytes + outbox.flight_bytes
    }

    /// The same, with what it takes to keep the bytes that wait in pieces: many small ones are more than their sum.
    pub fn weight(&self, slot: u32) -> u32 {
        let pieces = match &self.table[slot as usize].waiting {
            Waiting::Nothing => 0,
            Waiting::One(_) => 1,
            Waiting::Many(many) => many.segments.len() as u32,
        };
        self.bytes(slot).saturating_add(pieces.saturating_mul(SEGMENT_OVERHEAD_BYTES))
    }

    /// Whether more than half of what may wait does.
    pub fn past_half(&self, slot: u32) -> bool {
        self.bytes(slot) > self.limits.outbox_bytes_max / 2
    }

    /// Whether more than a quarter of it does.
    pub fn past_quarter(&self, slot: u32) -> bool {
        self.bytes(slot) > self.limits.outbox_bytes_max / 4
    }

    /// Takes the next dirty outbox: its slot, and all that waits there, or as much as fits one send.
    pub fn next_send(&mut self) -> Option<(u32, Chain)> {
        loop {
            let slot = self.dirty.pop_front()?;
            let outbox = &mut self.table[slot as usize];
            outbox.queued = false;
            if outbox.held || outbox.flight_bytes > 0 {
                continue;
            }
            let Some(chain) = outbox.waiting.take_chain() else { continue };
            let bytes = chain.len() as u32;
            outbox.waiting_bytes -= bytes;
            outbox.flight_bytes = bytes;
            outbox.moved_millis = self.now_millis;
            self.waiting_bytes -= u64::from(bytes);
            self.sends.sends += 1;
            self.sends.segments += chain.segments().len() as u64;
            return Some((slot, chain));
        }
    }

    /// Whether [`Outboxes::next_send`] may have more.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How many outboxes stand in the queue.
    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// The send in flight took `count` bytes of `chain`; what it left goes first the next time.
    pub fn sent(&mut self, slot: u32, chain: Chain, count: usize) {
        let outbox = &mut self.table[slot as usize];
        outbox.flight_bytes = 0;
        outbox.moved_millis = self.now_millis;
        let left = chain.len() - count;
        if left > 0 {
            outbox.waiting_bytes += left as u32;
            self.waiting_bytes += left as u64;
            outbox.waiting.put_back(chain, count);
        }
        if outbox.pace == Pace::GivenUp && outbox.waiting_bytes <= self.limits.outbox_bytes_max / 2 {
            outbox.pace = Pace::KeepsUp;
        }
        self.mark_dirty(slot);
    }

    /// Whether publishers still have to wait for a subscriber that fell behind. They do not once it has caught up, nor
    /// when the kernel took nothing for it for too long. What this shard has yet to hand to the kernel, for it has many
    /// others to look after, is not held against it.
    pub(crate) fn is_behind(&mut self, slot: u32) -> bool {
        let outbox = &mut self.table[slot as usize];
        if outbox.pace != Pace::Behind {
            return false;
        }
        let still = self.now_millis.wrapping_sub(outbox.moved_millis);
        if outbox.sealed || outbox.waiting_bytes + outbox.flight_bytes <= self.limits.outbox_bytes_max / 2 {
            outbox.pace = Pace::KeepsUp;
        } else if outbox.flight_bytes > 0 && u128::from(still) >= self.limits.slow_reader_timeout.as_millis()
        {
            outbox.pace = Pace::GivenUp;
        }
        outbox.pace == Pace::Behind
    }

    /// The send in flight failed; nothing of it will go out.
    pub fn failed(&mut self, slot: u32) {
        self.table[slot as usize].flight_bytes = 0;
        self.clear(slot);
    }

    /// Bytes that wait in all outboxes, shared ones counted for each.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// The limits of every outbox.
    pub(crate) fn limits(&self) -> &OutboxLimits {
        &self.limits
    }

    /// What was handed to the driver so far.
    pub(crate) fn sends(&self) -> Sends {
        self.sends
    }

    /// What policies dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Offers `run` to the subscriber in `slot`, within its limit and by the policy. In place of what that drops come the
    /// words of `teller`.
    pub(crate) fn deliver(&mut self, slot: u32, run: Segment, teller: &mut impl TellGap) -> Delivered {
        let outbox = &mut self.table[slot as usize];
        if outbox.sealed {
            return Delivered::Sealed;
        }
        let waiting = outbox.waiting_bytes + outbox.flight_bytes;
        let limit = self.limits.outbox_bytes_max;
        if waiting > 0 && waiting as usize + run.len() > limit as usize {
            match self.limits.policy {
                OutboxPolicy::Cut => return Delivered::Overflow,
                OutboxPolicy::DropOldest | OutboxPolicy::Latest => self.make_room(slot, run, teller),
            }
        } else {
            self.append(slot, run);
        }
        let outbox = &mut self.table[slot as usize];
        if outbox.pace == Pace::KeepsUp && outbox.waiting_bytes + outbox.flight_bytes > limit / 2 {
            outbox.pace = Pace::Behind;
            return Delivered::Behind;
        }
        Delivered::Taken
    }

    /// Drops what the policy says until `run` fits, and adds it.
    fn make_room(&mut self, slot: u32, mut run: Segment, teller: &mut impl TellGap) {
        if self.limits.policy == OutboxPolicy::Latest {
            let many = self.table[slot as usize].waiting.many();
            let made = room::keep_newest(&mut many.segments, &mut run, teller);
            self.count(slot, made);
        }
        let waiting = self.bytes(slot) as usize + run.len();
        let need = waiting.saturating_sub(self.limits.outbox_bytes_max as usize);
        if need > 0 {
            let many = self.table[slot as usize].waiting.many();
            let made = room::drop_oldest(&mut many.segments, &mut run, need, teller);
            self.count(slot, made);
        }
        self.append(slot, run);
    }

    /// Room was made in an outbox.
    fn count(&mut self, slot: u32, made: Made) {
        self.drops.messages += made.drops.messages;
        self.drops.bytes += made.drops.bytes;
        let many = self.table[slot as usize].waiting.many();
        if many.returned > 0 {
            // A message that has begun may stand apart now too.
            many.returned += made.gaps + 1;
        }
        self.recount(slot);
    }

    fn recount(&mut self, slot: u32) {
        let outbox = &mut self.table[slot as usize];
        let counted = outbox.waiting.bytes() as u32;
        self.waiting_bytes = self.waiting_bytes - u64::from(outbox.waiting_bytes) + u64::from(counted);
        outbox.waiting_bytes = counted;
    }

    fn append(&mut self, slot: u32, segment: Segment) {
        let outbox = &mut self.table[slot as usize];
        outbox.waiting_bytes += segment.len() as u32;
        self.waiting_bytes += segment.len() as u64;
        outbox.waiting.push(segment);
        self.mark_dirty(slot);
    }

    fn mark_dirty(&mut self, slot: u32) {
        let outbox = &mut self.table[slot as usize];
        if !outbox.queued && !outbox.held && outbox.flight_bytes == 0 && outbox.waiting_bytes > 0 {
            outbox.queued = true;
            self.dirty.push_back(slot);
        }
    }
}

impl Waiting {
    fn many(&mut self) -> &mut Many {
        if !matches!(self, Waiting::Many(_)) {
            let mut many = Box::<Many>::default();
            if let Waiting::One(segment) = std::mem::take(self) {
                many.segments.push_back(segment);
            }
            *self = Waiting::Many(many);
        }
        match self {
            Waiting::Many(many) => many,
            Waiting::Nothing | Waiting::One(_) => unreachable!("it was just made many"),
        }
    }

    fn push(&mut self, segment: Segment) {
        match self {
            Waiting::Nothing => *self = Waiting::One(segment),
            Waiting::One(_) | Waiting::Many(_) => self.many().segments.push_back(segment),
        }
    }

    fn take_chain(&mut self) -> Option<Chain> {
        match std::mem::take(self) {
            Waiting::Nothing => None,
            Waiting::One(segment) => Some(Chain::One(segment)),
            Waiting::Many(mut many) => {
                // Pongs follow whole messages, so they may end any chain; one that is cut short keeps a place for them.
                // But they must not overtake older ones, so what came back goes first, all of it.
                let returned = many.returned.min(many.segments.len());
                let pongs = if returned < CHAIN_SEGMENTS_MAX { many.pongs.take() } else { None };
                let count = many.segments.len().min(CHAIN_SEGMENTS_MAX - usize::from(pongs.is_some()));
                many.returned = returned.saturating_sub(count);
                let mut segments: Vec<Segment> = many.segments.drain(..count).collect();
                segments.extend(pongs.map(Segment::whole));
                if !many.segments.is_empty() || many.pongs.is_some() {
                    *self = Waiting::Many(many);
                }
                match segments.len() {
                    0 => None,
                    1 => segments.pop().map(Chain::One),
                    _ => Some(Chain::Many(segments)),
                }
            }
        }
    }

    /// Puts what a send left of `chain`, all but its first `sent` bytes, before everything else.
    fn put_back(&mut self, chain: Chain, mut sent: usize) {
        let mut rest: Vec<Segment> = match chain {
            Chain::One(segment) => vec![segment],
            Chain::Many(segments) => segments,
        };
        let mut gone = 0;
        for segment in &mut rest {
            let count = sent.min(segment.len());
            segment.advance(count);
            sent -= count;
            if !segment.is_empty() {
                break;
            }
            gone += 1;
        }
        rest.drain(..gone);
        if matches!(self, Waiting::Nothing) && rest.len() == 1 {
            *self = rest.pop().map_or(Waiting::Nothing, Waiting::One);
            return;
        }
        let many = self.many();
        many.returned += rest.len();
        for segment in rest.into_iter().rev() {
            many.segments.push_front(segment);
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Waiting::Nothing => 0,
            Waiting::One(segment) => segment.len(),
            Waiting::Many(many) => {
                let pongs = many.pongs.as_ref().map_or(0, Bytes::len);
                many.segments.iter().map(Segment::len).sum::<usize>() + pongs
            }
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
