//! What topics said last, kept at their home for who comes back.
//!
//! Each topic keeps its newest messages within [`HistoryLimits`], in one piece: the newest is always its last one. What
//! was kept too long goes, and where memory is short the oldest of any topic goes first. A heap finds it: a topic that
//! keeps anything stands in it once, with a time that is not later than its oldest message's.
//!
//! Who comes back gets runs, as everybody else does. They are written when first asked for, once per form, and stay for
//! a while: many come back at once.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{Run, Time};

use crate::home::Topic;
use crate::replay::{Missing, Replayed};
use crate::slab::{Key, Slab};
use crate::{Encode, Form, Kind, Message, Name, Start};

/// What a topic keeps at most.
#[derive(Copy, Clone, Debug)]
pub struct HistoryLimits {
    /// How many messages; with 0 none are kept.
    pub messages_max: usize,
    /// How many bytes their payloads have together.
    pub bytes_max: usize,
    /// For how long.
    pub ttl: Duration,
}

impl HistoryLimits {
    /// Nothing is kept.
    pub const OFF: HistoryLimits = HistoryLimits { messages_max: 0, bytes_max: 0, ttl: Duration::ZERO };
}

/// A message that is kept. Its offset follows from its place.
struct Kept {
    at: Time,
    kind: Kind,
    payload: Box<[u8]>,
}

/// What a message that is kept takes beside its payload: its place, and the allocator's own word.
const KEPT_OVERHEAD_BYTES: usize = size_of::<Kept>() + 16;

/// How long written runs stay that nobody asks for.
const WRITTEN_LINGER: Duration = Duration::from_secs(2);

/// How many runs in one form are kept; when new messages have made them more, they are written anew, as few.
const WRITTEN_RUNS_MAX: usize = 32;

/// What one topic keeps.
#[derive(Default)]
pub(crate) struct History {
    kept: VecDeque<Kept>,
    /// Their payloads together.
    bytes: usize,
    /// What is kept, or the later part of it, as runs, by form.
    written: Vec<(Form, VecDeque<Arc<Run>>)>,
    asked_at: Time,
    /// Whether it stands in the heap.
    listed: bool,
    /// Whether it stands among those with written runs.
    lingers: bool,
}

/// What all topics of a home keep.
pub(crate) struct Histories {
    limits: HistoryLimits,
    /// How long a run may be.
    run_bytes_max: usize,
    /// How many bytes one subscriber is sent when it comes back.
    replay_bytes_max: usize,
    /// Payloads and what it takes to keep them.
    pub(crate) kept_bytes: u64,
    /// Runs written for who comes back.
    pub(crate) written_bytes: u64,
    oldest: BinaryHeap<Reverse<(Time, Key)>>,
    /// Topics with written runs, each once, and when to look whether anybody still asks for them.
    written: VecDeque<(Time, Key)>,
    /// Messages forgotten because memory was short.
    pub(crate) shed: u64,
    /// Messages written for who comes back, once for each form.
    pub(crate) encoded: u64,
}

/// A topic of which somebody wants to hear what is kept.
pub(crate) struct Wanted<'a> {
    pub(crate) key: Key,
    pub(crate) name: &'a Name,
    pub(crate) epoch: u64,
    /// Of the last message.
    pub(crate) offset: u64,
    pub(crate) form: Form,
    pub(crate) now: Time,
}

impl Histories {
    pub(crate) fn new(limits: HistoryLimits, run_bytes_max: usize, replay_bytes_max: usize) -> Histories {
        Histories {
            limits,
            run_bytes_max,
            replay_bytes_max,
            kept_bytes: 0,
            written_bytes: 0,
            oldest: BinaryHeap::new(),
            written: VecDeque::new(),
            shed: 0,
            encoded: 0,
        }
    }

    /// Whether topics keep anything.
    pub(crate) fn is_on(&self) -> bool {
        self.limits.messages_max > 0
    }

    /// Keeps the newest message of the topic `key`, and forgets older ones as far as the limits say.
    pub(crate) fn keep(
        &mut self,
        key: Key,
        history: &mut History,
        now: Time,
        kind: Kind,
        payload: Cow<'_, [u8]>,
    ) {
        if payload.len() > self.limits.bytes_max {
            // With a hole at its end nothing before it is of use.
            while let Some(forgotten) = history.forget_oldest() {
                self.kept_bytes -= forgotten.charge();
            }
            self.forget_written(history);
            return;
        }
        let mut spare = None;
        while history.kept.len() >= self.limits.messages_max
            || history.bytes + payload.len() > self.limits.bytes_max
        {
            let Some(forgotten) = history.forget_oldest() else { break };
            self.kept_bytes -= forgotten.charge();
            spare = Some(forgotten.payload);
        }
        let payload = match (payload, spare) {
            // Publishers often say things of one length: then nothing is allocated.
            (Cow::Borrowed(bytes), Some(mut place)) if place.len() == bytes.len() => {
                place.copy_from_slice(bytes);
                place
            }
            (payload, _) => payload.into_owned().into_boxed_slice(),
        };
        history.bytes += payload.len();
        let kept = Kept { at: now, kind, payload };
        self.kept_bytes += kept.charge();
        history.kept.push_back(kept);
        if !std::mem::replace(&mut history.listed, true) {
            self.oldest.push(Reverse((now, key)));
        }
    }

    /// What somebody who wants to begin at `start` hears, and what it has missed. Also how many bytes had to be written
    /// for it.
    pub(crate) fn replay(
        &mut self,
        topic: &Wanted<'_>,
        history: Option<&mut History>,
        start: Start,
        encoder: &mut impl Encode,
    ) -> (Replayed, usize) {
        let Wanted { epoch, offset: last, form, now, .. } = *topic;
        let mut nothing = History::default();
        let history = history.unwrap_or(&mut nothing);
        self.forget_old(history, now);
        let first = history.first(last);
        let (mut from, mut missing) = match start {
            Start::Now => (last + 1, None),
            Start::AllKept => (first, None),
            Start::After { epoch: same, offset } if same == epoch && offset <= last => {
                let gap = Missing { from: offset + 1, to: first - 1, previous_epoch: None };
                (first.max(offset + 1), (gap.from <= gap.to).then_some(gap))
            }
            Start::After { epoch, .. } => {
                let previous_epoch = (epoch != 0).then_some(epoch);
                (first, Some(Missing { from: 1, to: first - 1, previous_epoch }))
            }
        };
        let (mut runs, mut written) = (Vec::new(), 0);
        if from <= last {
            written = self.write(topic, history, encoder);
            let all = history.written_in(form).iter();
            runs.extend(all.filter(|run| run.last() >= from).cloned());
            let fits = fits_from(&runs, from, self.replay_bytes_max);
            if fits > from {
                let asked = missing.map_or(from, |missing| missing.from);
                let previous_epoch = missing.and_then(|missing| missing.previous_epoch);
                missing = Some(Missing { from: asked, to: fits - 1, previous_epoch });
                from = fits;
                runs.retain(|run| run.last() >= from);
            }
        }
        (Replayed { epoch, offset: last, from, runs, missing }, written)
    }

    /// Writes what is kept and not yet written in `form`. Returns how many bytes that took.
    fn write(&mut self, topic: &Wanted<'_>, history: &mut History, encoder: &mut impl Encode) -> usize {
        let Wanted { key, form, now, .. } = *topic;
        history.asked_at = now;
        if !std::mem::replace(&mut history.lingers, true) {
            self.written.push_back((now + WRITTEN_LINGER, key));
        }
        let first = history.first(topic.offset);
        let index = history.written.iter().position(|(other, _)| *other == form);
        let mut runs = index.map_or_else(VecDeque::new, |index| history.written.swap_remove(index).1);
        while runs.len() > WRITTEN_RUNS_MAX || runs.front().is_some_and(|run| run.last() < first) {
            // Too many are written anew, from the oldest on.
            let many = runs.len() > WRITTEN_RUNS_MAX;
            let gone = runs.drain(..if many { runs.len() } else { 1 });
            self.written_bytes -= gone.map(|run| weight(&run)).sum::<u64>();
        }
        let from = runs.back().map_or(first, |run| run.last() + 1);
        let (mut bytes, mut ends, mut begins, mut written) = (Vec::new(), Vec::new(), from, 0);
        for offset in from..=topic.offset {
            let kept = &history.kept[(offset - first) as usize];
            let message = Message {
                name: topic.name,
                epoch: topic.epoch,
                offset,
                kind: kept.kind,
                payload: &kept.payload,
            };
            encoder.encode(form, &message, &mut bytes);
            self.encoded += 1;
            ends.push(u32::try_from(bytes.len()).expect("a run is shorter than 4 GiB"));
            if bytes.len() >= self.run_bytes_max || offset == topic.offset {
                written += bytes.len();
                let run = Run::new(std::mem::take(&mut bytes), std::mem::take(&mut ends));
                let run = Arc::new(run.placed(topic.epoch, begins));
                self.written_bytes += weight(&run);
                runs.push_back(run);
                begins = offset + 1;
            }
        }
        history.written.push((form, runs));
        written
    }

    /// Forgets what has been kept too long, and runs nobody asks for; looks at no more than `budget` of each. Returns
    /// when the next look is due.
    pub(crate) fn expire(&mut self, topics: &mut Slab<Topic>, now: Time, budget: usize) -> Option<Time> {
        for _ in 0..budget {
            let Some(Reverse((at, key))) = self.oldest.peek().copied() else { break };
            if at + self.limits.ttl > now {
                break;
            }
            self.oldest.pop();
            if let Some(history) = history_of(topics, key) {
                self.forget_old(history, now);
                self.list_again(key, history);
            }
        }
        for _ in 0..budget {
            let Some((_, key)) = self.written.front().copied().filter(|(due, _)| *due <= now) else { break };
            self.written.pop_front();
            let Some(history) = history_of(topics, key) else { continue };
            if !history.written.is_empty() && history.asked_at + WRITTEN_LINGER > now {
                self.written.push_back((history.asked_at + WRITTEN_LINGER, key));
            } else {
                history.lingers = false;
                self.forget_written(history);
            }
        }
        let kept = self.oldest.peek().map(|Reverse((at, _))| *at + self.limits.ttl);
        let written = self.written.front().map(|(due, _)| *due);
        [kept, written].into_iter().flatten().min()
    }

    /// Frees at least `need` bytes, if so many are kept: written runs first, then the oldest messages of any topic.
    pub(crate) fn shed(&mut self, topics: &mut Slab<Topic>, need: u64) {
        let before = self.kept_bytes + self.written_bytes;
        let enough = before.saturating_sub(need);
        while self.kept_bytes + self.written_bytes > enough {
            let Some((_, key)) = self.written.pop_front() else { break };
            if let Some(history) = history_of(topics, key) {
                history.lingers = false;
                self.forget_written(history);
            }
        }
        while self.kept_bytes + self.written_bytes > enough {
            let Some(Reverse((at, key))) = self.oldest.pop() else { break };
            let Some(history) = history_of(topics, key) else { continue };
            // An older time than the oldest message has says only that others have gone since.
            if history.kept.front().is_some_and(|oldest| oldest.at <= at) {
                let forgotten = history.forget_oldest().expect("it was just looked at");
                self.kept_bytes -= forgotten.charge();
                self.shed += 1;
            }
            self.list_again(key, history);
        }
    }

    /// Forgets all that a topic kept, which is forgotten itself.
    pub(crate) fn forget(&mut self, mut history: Box<History>) {
        while let Some(forgotten) = history.forget_oldest() {
            self.kept_bytes -= forgotten.charge();
        }
        self.forget_written(&mut history);
    }

    fn list_again(&mut self, key: Key, history: &mut History) {
        match history.kept.front() {
            Some(oldest) => self.oldest.push(Reverse((oldest.at, key))),
            None => {
                history.listed = false;
                // A topic that falls silent gives back what it grew to.
                history.kept = VecDeque::new();
                self.forget_written(history);
            }
        }
    }

    fn forget_old(&mut self, history: &mut History, now: Time) {
        while history.kept.front().is_some_and(|oldest| oldest.at + self.limits.ttl <= now) {
            let forgotten = history.forget_oldest().expect("it was just looked at");
            self.kept_bytes -= forgotten.charge();
        }
    }

    fn forget_written(&mut self, history: &mut History) {
        for (_, runs) in history.written.drain(..) {
            self.written_bytes -= runs.iter().map(|run| weight(run)).sum::<u64>();
        }
        history.written.shrink_to_fit();
    }
}

impl History {
    /// Whether nothing is kept: then the topic may be forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The offset of the oldest message kept, or of the next one to come.
    fn first(&self, last: u64) -> u64 {
        last + 1 - self.kept.len() as u64
    }

    fn written_in(&self, form: Form) -> &VecDeque<Arc<Run>> {
        let found = self.written.iter().find(|(other, _)| *other == form);
        &found.expect("it has just been written").1
    }

    fn forget_oldest(&mut self) -> Option<Kept> {
        let kept = self.kept.pop_front()?;
        self.bytes -= kept.payload.len();
        Some(kept)
    }
}

impl Kept {
    fn charge(&self) -> u64 {
        (self.payload.len() + KEPT_OVERHEAD_BYTES) as u64
    }
}

fn weight(run: &Run) -> u64 {
    (run.bytes().len() + size_of_val(run.ends())) as u64
}

/// From which offset on, not below `from`, all messages of `runs` have at most `bytes_max` together.
fn fits_from(runs: &[Arc<Run>], from: u64, bytes_max: usize) -> u64 {
    let mut left = bytes_max;
    for run in runs.iter().rev() {
        let first = run.place().1;
        let ends = run.ends();
        for index in (0..ends.len()).rev() {
            let offset = first + index as u64;
            if offset < from {
                return from;
            }
            let begins = if index == 0 { 0 } else { ends[index - 1] };
            let Some(rest) = left.checked_sub((ends[index] - begins) as usize) else { return offset + 1 };
            left = rest;
        }
    }
    from
}

fn history_of(topics: &mut Slab<Topic>, key: Key) -> Option<&mut History> {
    topics.get_mut(key)?.history.as_deref_mut()
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
