//! Immutable bytes on their way out: runs shared by shards, segments of them, and the chain that one send carries.
//!
//! Two counts keep bytes alive. Between shards a [`Run`] sits in an `Arc`; within a shard that `Arc` sits in an `Rc`
//! ([`Bytes`]), so that handing a run to one more subscriber touches no atomic.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::{CHAIN_SEGMENTS_MAX, ConnId, Source};

/// Several whole messages in one form, end to end, with their boundaries.
#[derive(Debug)]
pub struct Run {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
    epoch: u64,
    first: u64,
    /// The last offset that is missing, for bytes that say so.
    missing_to: Option<u64>,
    excluded: Option<Box<[Excluded]>>,
}

/// A message of a run that one connection does not get.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Excluded {
    /// Which message, counted from the run's first.
    pub message: u32,
    /// The shard of the connection.
    pub shard: u16,
    /// Who does not get it.
    pub conn: ConnId,
}

impl Excluded {
    /// What `conn` does not get, of what [`Run::excluded_on`] says.
    pub fn of(conn: ConnId, excluded: &[Excluded]) -> &[Excluded] {
        let from = excluded.partition_point(|other| other.conn < conn);
        let count = excluded[from..].partition_point(|other| other.conn == conn);
        &excluded[from..from + count]
    }
}

impl Run {
    /// `bytes` holding one message up to each of `ends`, which rise and finish at the length of `bytes`.
    pub fn new(bytes: impl Into<Box<[u8]>>, ends: impl Into<Box<[u32]>>) -> Run {
        let (bytes, ends) = (bytes.into(), ends.into());
        debug_assert!(ends.is_sorted());
        debug_assert_eq!(ends.last().map_or(0, |end| *end as usize), bytes.len());
        Run { bytes, ends, epoch: 0, first: 0, missing_to: None, excluded: None }
    }

    /// The same, whose messages have the places from `first` on in their topic's `epoch`, one after the other.
    pub fn placed(mut self, epoch: u64, first: u64) -> Run {
        (self.epoch, self.first) = (epoch, first);
        self
    }

    /// `bytes` that say that the messages from `from` up to `to` of the topic's `epoch` are missing.
    pub fn gap(bytes: impl Into<Box<[u8]>>, epoch: u64, from: u64, to: u64) -> Run {
        let bytes = bytes.into();
        let end = u32::try_from(bytes.len()).expect("a gap is named in a few words");
        Run { missing_to: Some(to), ..Run::new(bytes, [end]).placed(epoch, from) }
    }

    /// The same, without these messages for these connections; sorted by message.
    pub fn excluding(mut self, excluded: &[Excluded]) -> Run {
        debug_assert!(excluded.is_sorted_by_key(|excluded| excluded.message));
        self.excluded = (!excluded.is_empty()).then(|| excluded.into());
        self
    }

    /// The encoded messages, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each message ends, in bytes from the run's start.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The epoch of the topic its messages are of, and the offset of the first; (0, 0) for a run without places.
    pub fn place(&self) -> (u64, u64) {
        (self.epoch, self.first)
    }

    /// The offset of its last message.
    pub fn last(&self) -> u64 {
        (self.first + self.ends.len() as u64).saturating_sub(1)
    }

    /// Who does not get which of its messages.
    pub fn excluded(&self) -> &[Excluded] {
        self.excluded.as_deref().unwrap_or_default()
    }

    /// Who of `shard` does not get which of its messages: by connection, and each one's by message.
    pub fn excluded_on(&self, shard: u16) -> Vec<Excluded> {
        let here = self.excluded().iter().filter(|excluded| excluded.shard == shard);
        let mut here: Vec<Excluded> = here.copied().collect();
        here.sort_unstable_by_key(|excluded| (excluded.conn, excluded.message));
        here
    }

    /// The parts that somebody gets who does not get `excluded`: where each begins and ends, in bytes from the run's start.
    pub fn without(&self, excluded: &[Excluded]) -> impl Iterator<Item = (u32, u32)> {
        let end_of = |message: u32| message.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        let excluded = excluded.iter();
        let excluded = excluded.map(move |excluded| (end_of(excluded.message), end_of(excluded.message + 1)));
        let end = end_of(self.ends.len() as u32);
        let mut from = 0;
        excluded.chain([(end, end)]).filter_map(move |(begins, ends)| {
            let part = (from, begins);
            from = ends;
            (part.0 < part.1).then_some(part)
        })
    }
}

/// Counts the bytes of all [`Bytes`] made with it that are still alive, each once however often it is shared.
#[derive(Clone, Default)]
pub struct Meter(Rc<Cell<u64>>);

impl Meter {
    /// Bytes alive now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({})", self.get())
    }
}

/// Immutable bytes shared within one shard; cloning is one plain increment.
#[derive(Clone)]
pub struct Bytes(Rc<Body>);

/// [`Bytes`] that this does not keep alive.
#[derive(Clone, Debug)]
pub struct WeakBytes(Weak<Body>);

impl WeakBytes {
    /// The bytes, if anybody still holds them.
    pub fn upgrade(&self) -> Option<Bytes> {
        self.0.upgrade().map(Bytes)
    }
}

struct Body {
    held: Held,
    meter: Option<Meter>,
}

enum Held {
    Own(Box<[u8]>),
    Run(Arc<Run>, Option<Source>),
    Lent(Box<dyn Loan>),
    Static(&'static [u8]),
}

/// Received bytes that stay in the driver's buffer; dropping it gives the buffer back.
pub trait Loan {
    /// The bytes, the same each time.
    fn as_slice(&self) -> &[u8];
}

impl Bytes {
    /// Bytes of this shard's own, for example one answer; counted by `meter` while they live.
    pub fn own(bytes: impl Into<Box<[u8]>>, meter: &Meter) -> Bytes {
        Bytes::metered(Held::Own(bytes.into()), meter)
    }

    /// A run that other shards may hold too; counted by `meter` while this shard does.
    pub fn run(run: Arc<Run>, meter: &Meter) -> Bytes {
        Bytes::run_from(run, None, meter)
    }

    /// The same, heard from `source`, if anybody is going to ask: see [`Segment::source`].
    pub fn run_from(run: Arc<Run>, source: Option<Source>, meter: &Meter) -> Bytes {
        Bytes::metered(Held::Run(run, source), meter)
    }

    /// A way back to the bytes as long as somebody else holds them.
    pub fn downgrade(&self) -> WeakBytes {
        WeakBytes(Rc::downgrade(&self.0))
    }

    /// For drivers: received bytes that stay where they are. The pool they are of is bounded by itself, so no meter
    /// counts them.
    pub fn lent(loan: impl Loan + 'static) -> Bytes {
        Bytes(Rc::new(Body { held: Held::Lent(Box::new(loan)), meter: None }))
    }

    /// Bytes that are part of the program.
    pub fn fixed(bytes: &'static [u8]) -> Bytes {
        Bytes(Rc::new(Body { held: Held::Static(bytes), meter: None }))
    }

    fn metered(held: Held, meter: &Meter) -> Bytes {
        let body = Body { held, meter: Some(meter.clone()) };
        meter.0.set(meter.0.get() + body.held.as_slice().len() as u64);
        Bytes(Rc::new(body))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.0.held.as_slice()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where each message in them ends; none for bytes that are not a run.
    pub fn ends(&self) -> &[u32] {
        match &self.0.held {
            Held::Run(run, _) => run.ends(),
            Held::Own(_) | Held::Lent(_) | Held::Static(_) => &[],
        }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}

impl Held {
    fn as_slice(&self) -> &[u8] {
        match self {
            Held::Own(bytes) => bytes,
            Held::Run(run, _) => run.bytes(),
            Held::Lent(loan) => loan.as_slice(),
            Held::Static(bytes) => bytes,
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.0.set(meter.0.get() - self.held.as_slice().len() as u64);
        }
    }
}

/// A part of some [`Bytes`]: from `start` up to `end`.
#[derive(Clone, Debug)]
pub struct Segment {
    bytes: Bytes,
    start: u32,
    end: u32,
}

impl Segment {
    /// All of `bytes`, which are shorter than 4 GiB.
    pub fn whole(bytes: Bytes) -> Segment {
        let end = u32::try_from(bytes.len()).expect("a segment is shorter than 4 GiB");
        Segment { bytes, start: 0, end }
    }

    /// What is left to send.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes.as_slice()[self.start as usize..self.end as usize]
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes, because they were sent or their messages dropped.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "a segment advances within itself");
        self.start += count as u32;
    }

    /// Forgets all but the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        if count < self.len() {
            self.end = self.start + count as u32;
        }
    }

    /// Whether the segment starts where a message does, so that nothing of its first message has gone out.
    pub fn at_message_start(&self) -> bool {
        self.start == 0 || self.bytes.ends().binary_search(&self.start).is_ok()
    }

    /// How many bytes are left of the message the segment starts in; all of it for bytes that are not a run.
    pub fn first_message_len(&self) -> usize {
        let ends = self.bytes.ends();
        let next = ends.partition_point(|end| *end <= self.start);
        ends.get(next).map_or(self.len(), |end| (end - self.start) as usize)
    }

    /// How many messages the segment holds, counting one begun; 1 for bytes that are not a run.
    pub fn messages(&self) -> usize {
        let ends = self.bytes.ends();
        let from = ends.partition_point(|end| *end <= self.start);
        let to = ends.partition_point(|end| *end <= self.end);
        if ends.is_empty() { usize::from(!self.is_empty()) } else { to - from }
    }

    /// Where the segment's run was heard from, if it is of one and that is known.
    pub fn source(&self) -> Option<&Source> {
        match &self.bytes.0.held {
            Held::Run(_, source) => source.as_ref(),
            Held::Own(_) | Held::Lent(_) | Held::Static(_) => None,
        }
    }

    /// Which places its first message up to its last have; for bytes that say what is missing, the places of that. None
    /// for bytes that are not a run.
    pub fn places(&self) -> Option<Places> {
        let Held::Run(run, _) = &self.bytes.0.held else { return None };
        let before = run.ends().partition_point(|end| *end <= self.start) as u64;
        let from = run.first + before;
        let (to, missing) = match run.missing_to {
            Some(to) => (to, true),
            None => ((from + self.messages() as u64).saturating_sub(1), false),
        };
        Some(Places { epoch: run.epoch, from, to, missing })
    }

    /// Whether the segment is of a run, whose messages a slow subscriber's policy may drop.
    pub fn is_run(&self) -> bool {
        !self.bytes.ends().is_empty()
    }
}

/// The places of messages in their topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// The topic's epoch.
    pub epoch: u64,
    /// The offset of the first.
    pub from: u64,
    /// The offset of the last.
    pub to: u64,
    /// Whether they are named as missing.
    pub missing: bool,
}

/// What one send carries: at least one segment, at most [`CHAIN_SEGMENTS_MAX`].
///
/// The driver owns the chain until the send's completion and gives it back with it.
#[derive(Debug)]
pub enum Chain {
    /// The common case: everything waiting is one run.
    One(Segment),
    /// Two segments or more.
    Many(Vec<Segment>),
}

impl Chain {
    /// The segments, first byte first.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Chain::One(segment) => std::slice::from_ref(segment),
            Chain::Many(segments) => {
                debug_assert!((1..=CHAIN_SEGMENTS_MAX).contains(&segments.len()));
                segments
            }
        }
    }

    /// How many bytes the chain carries.
    pub fn len(&self) -> usize {
        self.segments().iter().map(Segment::len).sum()
    }

    /// Whether the chain carries nothing; a chain handed to a driver never is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_get_all_gets_the_others() {
        let (one, other, next) = (ConnId::new(1, 0), ConnId::new(1, 1), ConnId::new(2, 0));
        let excluded = |message, shard, conn| Excluded { message, shard, conn };
        let all = [
            excluded(0, 0, next),
            excluded(1, 0, one),
            excluded(1, 1, one),
            excluded(2, 0, other),
            excluded(3, 0, one),
            excluded(4, 0, next),
        ];
        let run = Run::new(*b"aabbbcdde", [2, 5, 6, 8, 9]).excluding(&all);
        let check = |shard, conn, expect: &[&[u8]]| {
            let here = run.excluded_on(shard);
            let parts = run.without(Excluded::of(conn, &here));
            let parts: Vec<_> =
                parts.map(|(from, upto)| &run.bytes()[from as usize..upto as usize]).collect();
            assert_eq!(parts, expect, "{conn:?} on {shard}");
        };
        check(0, one, &[b"aa", b"c", b"e"]);
        check(0, other, &[b"aabbb", b"dde"]);
        check(0, next, &[b"bbbcdd"]);
        check(1, one, &[b"aa", b"cdde"]);
        check(1, next, &[b"aabbbcdde"]);
        check(0, ConnId::new(0, 0), &[b"aabbbcdde"]);
        check(0, ConnId::new(3, 0), &[b"aabbbcdde"]);
        assert!(run.excluded_on(2).is_empty());
        let only = Run::new(*b"a", [1]).excluding(&[excluded(0, 0, one)]);
        assert_eq!(only.without(&only.excluded_on(0)).count(), 0);
    }

    fn three_messages(meter: &Meter) -> Segment {
        Segment::whole(Bytes::run(Arc::new(Run::new(*b"aabbbc", [2, 5, 6])), meter))
    }

    #[test]
    fn the_meter_counts_shared_bytes_once() {
        let meter = Meter::default();
        let first = three_messages(&meter);
        let second = first.clone();
        assert_eq!(meter.get(), 6);
        drop(first);
        assert_eq!(meter.get(), 6);
        drop(second);
        assert_eq!(meter.get(), 0);
    }

    #[test]
    fn lent_bytes_go_back_with_the_last_reference() {
        struct Borrowed(Rc<Cell<u32>>);
        impl Loan for Borrowed {
            fn as_slice(&self) -> &[u8] {
                b"lent"
            }
        }
        impl Drop for Borrowed {
            fn drop(&mut self) {
                self.0.set(self.0.get() + 1);
            }
        }
        let returned = Rc::new(Cell::new(0));
        let mut first = Segment::whole(Bytes::lent(Borrowed(Rc::clone(&returned))));
        let second = first.clone();
        first.advance(2);
        assert_eq!((first.as_slice(), second.as_slice(), first.messages()), (&b"nt"[..], &b"lent"[..], 1));
        drop(second);
        assert_eq!(returned.get(), 0);
        drop(first);
        assert_eq!(returned.get(), 1);
    }

    #[test]
    fn a_segment_knows_its_message_boundaries() {
        let mut segment = three_messages(&Meter::default());
        assert!(segment.at_message_start());
        assert_eq!((segment.first_message_len(), segment.messages()), (2, 3));
        segment.advance(1);
        assert!(!segment.at_message_start());
        assert_eq!((segment.first_message_len(), segment.messages()), (1, 3));
        segment.advance(1);
        assert!(segment.at_message_start());
        assert_eq!((segment.first_message_len(), segment.messages()), (3, 2));
        segment.advance(3);
        assert_eq!((segment.first_message_len(), segment.messages()), (1, 1));
        assert_eq!(segment.as_slice(), b"c");
    }

    #[test]
    fn bytes_that_are_no_run_are_one_message() {
        let mut segment = Segment::whole(Bytes::fixed(b"hello"));
        assert!(!segment.is_run());
        assert_eq!((segment.first_message_len(), segment.messages()), (5, 1));
        segment.advance(2);
        assert!(!segment.at_message_start());
        segment.truncate(2);
        assert_eq!(segment.as_slice(), b"ll");
    }
}
