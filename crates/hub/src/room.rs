//! Making room in an outbox: which messages a policy drops, and what is said in their place.
//!
//! A connection's own bytes part what waits into *stretches*. They may be the last word of one subscription and the first
//! of the next to the same topic, so what is missing is named in the stretch that it was dropped from: at its start, once
//! for each topic. Of that topic nothing older is left there, and what is dropped there later joins it. (Unless a send
//! gives back what it did not take: then older messages stand before the words, until they go or are dropped too.) So
//! words stand only where messages waited, and in the last stretch there is one gap for each topic.

use std::collections::{HashMap, HashSet, VecDeque};

use moongate_io::{Places, Segment, Source};

use crate::gap::TellGap;
use crate::outbox::Drops;

/// What was dropped, and how many gaps are named in place of it.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Made {
    pub(crate) drops: Drops,
    pub(crate) gaps: usize,
}

/// Drops whole messages, oldest first, until at least `need` bytes are dropped or none is left that may be. What is begun
/// or in flight stays, so `run`, which is to follow, may have to give too; its newest message always stays.
pub(crate) fn drop_oldest(
    segments: &mut VecDeque<Segment>,
    run: &mut Segment,
    need: usize,
    teller: &mut impl TellGap,
) -> Made {
    set_begun_apart(segments);
    let mut room = Room::new(teller);
    while (room.made.drops.bytes as usize) < need {
        let Some(segment) = segments.pop_front() else { break };
        room.drop_first(segment, need, 0);
    }
    room.drop_first_of(run, need, 1);
    room.finish(segments)
}

/// Drops all messages but the newest of each topic; `run`, which is to follow, has the newest of its own.
pub(crate) fn keep_newest(
    segments: &mut VecDeque<Segment>,
    run: &mut Segment,
    teller: &mut impl TellGap,
) -> Made {
    set_begun_apart(segments);
    let mut newer = HashSet::from([run.source()]);
    // How many messages each segment keeps, the last segment's first; all where nothing newer of its topic waits.
    let mut keeps: Vec<Option<usize>> = Vec::with_capacity(segments.len());
    for segment in segments.iter().rev() {
        keeps.push(match segment.source() {
            _ if !may_go(segment) => None,
            source if newer.contains(&source) => Some(0),
            _ if is_gap(segment) => None,
            source => {
                newer.insert(source);
                Some(1)
            }
        });
    }
    let mut room = Room::new(teller);
    for segment in std::mem::take(segments) {
        match keeps.pop().flatten() {
            Some(keep) => room.drop_first(segment, usize::MAX, keep),
            None => room.keep(segment),
        }
    }
    room.drop_first_of(run, usize::MAX, 1);
    room.finish(segments)
}

/// Splits the first segment after the message that has begun, so that what follows it can be dropped.
fn set_begun_apart(segments: &mut VecDeque<Segment>) {
    let Some(rest) = segments.front_mut().filter(|first| !first.at_message_start()) else { return };
    let mut begun = rest.clone();
    let length = begun.first_message_len();
    begun.truncate(length);
    rest.advance(length);
    if rest.is_empty() {
        segments.pop_front();
    }
    segments.push_front(begun);
}

/// Whether a segment's messages may be dropped: it is no bytes of the connection's own, and none of it has gone out.
fn may_go(segment: &Segment) -> bool {
    segment.is_run() && segment.at_message_start()
}

fn is_gap(segment: &Segment) -> bool {
    segment.places().is_some_and(|places| places.missing)
}

/// What stays of what waits, as far as it was looked at.
struct Room<'a, T> {
    kept: Vec<Segment>,
    /// Where in `kept` the stretch begins that is looked at.
    begins: usize,
    missing: Missing,
    made: Made,
    teller: &'a mut T,
}

impl<T: TellGap> Room<'_, T> {
    fn new(teller: &mut T) -> Room<'_, T> {
        Room { kept: Vec::new(), begins: 0, missing: Missing::default(), made: Made::default(), teller }
    }

    /// Keeps a segment as it is.
    fn keep(&mut self, segment: Segment) {
        if may_go(&segment) {
            return self.kept.push(segment);
        }
        self.end_stretch();
        self.kept.push(segment);
        self.begins = self.kept.len();
    }

    /// Drops messages from the start of a segment, if they may be, until at least `need` bytes are dropped, but keeps the
    /// last `keep` messages. A gap goes into one that says more.
    fn drop_first(&mut self, mut segment: Segment, need: usize, keep: usize) {
        if !may_go(&segment) {
            return self.keep(segment);
        }
        if let (Some(places), Some(source)) = (segment.places().filter(|gap| gap.missing), segment.source()) {
            let source = source.clone();
            return self.missing.add(&source, places, Some(segment));
        }
        self.drop_first_of(&mut segment, need, keep);
        if !segment.is_empty() {
            self.kept.push(segment);
        }
    }

    fn drop_first_of(&mut self, run: &mut Segment, need: usize, keep: usize) {
        let before = self.made.drops.messages;
        let (places, mut left) = (run.places(), run.messages());
        while (self.made.drops.bytes as usize) < need && left > keep {
            let length = run.first_message_len();
            run.advance(length);
            left -= 1;
            self.made.drops.messages += 1;
            self.made.drops.bytes += length as u64;
        }
        let dropped = self.made.drops.messages - before;
        if let (Some(places), Some(source)) = (places.filter(|_| dropped > 0), run.source()) {
            self.missing.add(source, Places { to: places.from + dropped - 1, ..places }, None);
        }
    }

    /// Says what is missing where the stretch begins.
    fn end_stretch(&mut self) {
        let missing = std::mem::take(&mut self.missing.gaps);
        self.missing.index.clear();
        let words = missing.into_iter().filter_map(|gap| {
            let told = || self.teller.tell(&gap.source, &gap.places).map(Segment::whole);
            gap.words.or_else(told)
        });
        let before = self.kept.len();
        self.kept.splice(self.begins..self.begins, words);
        self.made.gaps += self.kept.len() - before;
    }

    /// Puts back what stays, before the `segments` that were not looked at.
    fn finish(mut self, segments: &mut VecDeque<Segment>) -> Made {
        self.end_stretch();
        for segment in self.kept.into_iter().rev() {
            segments.push_front(segment);
        }
        self.made
    }
}

/// What is missing from one stretch, by topic and epoch.
#[derive(Default)]
struct Missing {
    gaps: Vec<Gap>,
    index: HashMap<(Source, u64), usize>,
}

struct Gap {
    source: Source,
    places: Places,
    /// Words that say just this, if there are.
    words: Option<Segment>,
}

impl Missing {
    /// Adds messages, or a gap with its `words`: to what was dropped before them, if anything was.
    fn add(&mut self, source: &Source, places: Places, words: Option<Segment>) {
        let index = *self.index.entry((source.clone(), places.epoch)).or_insert(self.gaps.len());
        match self.gaps.get_mut(index) {
            Some(gap) => {
                gap.places.from = gap.places.from.min(places.from);
                gap.places.to = gap.places.to.max(places.to);
                gap.words = None;
            }
            None => self.gaps.push(Gap { source: source.clone(), places, words }),
        }
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
