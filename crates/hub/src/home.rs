//! The topics whose home this shard is: their offsets, their audiences, and what they said this tick.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{ConnId, Excluded, Run, Time};

use crate::history::{Histories, History, HistoryLimits, Wanted};
use crate::name::CarriedHash;
use crate::slab::{Key, Slab};
use crate::{ChannelId, Encode, Form, Kind, Message, Name, Publish, Rejection, Replayed, Start};

/// A topic as its home keeps it.
pub(crate) struct Topic {
    pub(crate) name: Name,
    pub(crate) epoch: u64,
    /// The offset of the last message; 0 before the first.
    pub(crate) offset: u64,
    said: Said,
    touched: bool,
    /// Whether messages wait for their place because subscribers are behind.
    deferred: bool,
    active_at: Time,
    aging: bool,
    /// What was said last, if that is kept.
    pub(crate) history: Option<Box<History>>,
}

/// What a topic says this tick, and to whom.
#[derive(Default)]
struct Said {
    /// Sorted by form.
    audiences: Vec<Audience>,
    /// What was said and not yet sealed, by form.
    drafts: Vec<(Form, Draft)>,
}

/// One shard that listens in one form.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Audience {
    pub(crate) form: Form,
    pub(crate) shard: u16,
    pub(crate) channel: ChannelId,
    /// Encoded bytes it was sent and has not confirmed.
    ahead: u32,
}

impl Audience {
    pub(crate) fn new(form: Form, shard: usize, channel: ChannelId) -> Audience {
        Audience { form, shard: shard as u16, channel, ahead: 0 }
    }
}

/// Messages of one tick in one form, growing into a run.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// The offset of its first message.
    first: u64,
    excluded: Vec<Excluded>,
}

/// A run on its way to one audience.
pub(crate) struct Sealed {
    pub(crate) audience: Audience,
    pub(crate) run: Arc<Run>,
}

/// The limits of a home.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) topics_max: usize,
    pub(crate) run_bytes_max: usize,
    /// How far a topic goes ahead of the shards that listen to it.
    pub(crate) ahead_bytes_max: u32,
    pub(crate) topic_linger: Duration,
    pub(crate) history: HistoryLimits,
    /// How many bytes one subscriber is sent when it comes back.
    pub(crate) replay_bytes_max: usize,
}

/// All topics that live here.
pub(crate) struct Home<E> {
    pub(crate) topics: Slab<Topic>,
    places: HashMap<Name, Key, CarriedHash>,
    pub(crate) encoder: E,
    limits: Limits,
    pub(crate) histories: Histories,
    /// Topics that said something this tick.
    touched: Vec<Key>,
    /// Topics without audience, and when each was last looked at, oldest look first.
    aging: VecDeque<(Time, Key)>,
    spare: Vec<Draft>,
    /// What waits for its place, by topic, where anything does.
    deferred: HashMap<Key, Queue>,
    pub(crate) deferred_bytes: u64,
    /// Topics with deferred messages whose audiences have confirmed or gone.
    released: VecDeque<Key>,
    pub(crate) forgotten: u64,
}

/// The messages of a topic that wait for their place, first come first served.
#[derive(Default)]
struct Queue {
    messages: VecDeque<Deferred>,
    /// Their payloads together.
    bytes: u64,
}

/// One of them, and which participant it is from.
pub(crate) struct Deferred {
    pub(crate) from: usize,
    pub(crate) publish: Publish,
}

/// How many empty drafts are kept for reuse, with at most [`Limits::run_bytes_max`] each.
const SPARE_DRAFTS_MAX: usize = 8;

impl<E: Encode> Home<E> {
    pub(crate) fn new(encoder: E, limits: Limits) -> Home<E> {
        Home {
            topics: Slab::new(),
            places: HashMap::default(),
            encoder,
            limits,
            histories: Histories::new(limits.history, limits.run_bytes_max, limits.replay_bytes_max),
            touched: Vec::new(),
            aging: VecDeque::new(),
            spare: Vec::new(),
            deferred: HashMap::new(),
            deferred_bytes: 0,
            released: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// The topic, made with the epoch that `epoch` draws if it does not live yet.
    pub(crate) fn enter(
        &mut self,
        name: &Name,
        now: Time,
        epoch: impl FnOnce() -> u64,
    ) -> Result<Key, Rejection> {
        if let Some(key) = self.places.get(name) {
            return Ok(*key);
        }
        if self.topics.len() >= self.limits.topics_max {
            return Err(Rejection::TopicsFull);
        }
        let key = self.topics.insert(Topic {
            name: name.clone(),
            epoch: epoch().max(1),
            offset: 0,
            said: Said::default(),
            touched: false,
            deferred: false,
            active_at: now,
            aging: true,
            history: None,
        });
        self.places.insert(name.clone(), key);
        self.aging.push_back((now, key));
        Ok(key)
    }

    /// Gives a message its place, (epoch, offset), and encodes it once for every form somebody listens in. A draft
    /// that has no room for it is sealed first, into `sealed`.
    pub(crate) fn order(
        &mut self,
        key: Key,
        kind: Kind,
        payload: Cow<'_, [u8]>,
        excluded: Option<(u16, ConnId)>,
        now: Time,
        sealed: &mut Vec<Sealed>,
    ) -> (u64, u64) {
        let topic = self.topics.get_mut(key).expect("the caller has just entered it");
        topic.offset += 1;
        topic.active_at = now;
        let message =
            Message { name: &topic.name, epoch: topic.epoch, offset: topic.offset, kind, payload: &payload };
        let mut last = None;
        for index in 0..topic.said.audiences.len() {
            let form = topic.said.audiences[index].form;
            // Audiences are sorted by form: each form comes up once.
            if last.replace(form) != Some(form) {
                let pen = Pen { encoder: &mut self.encoder, spare: &mut self.spare, excluded };
                topic.said.write(form, &message, pen, self.limits.run_bytes_max, sealed);
            }
        }
        if !topic.touched && !topic.said.drafts.is_empty() {
            topic.touched = true;
            self.touched.push(key);
        }
        if self.histories.is_on() {
            let history = topic.history.get_or_insert_default();
            self.histories.keep(key, history, now, kind, payload);
        }
        (topic.epoch, topic.offset)
    }

    // Back-pressure: see `pressure`.

    /// Whether a message must wait for its place: an audience is too far behind, or others wait already.
    pub(crate) fn must_defer(&self, key: Key) -> bool {
        self.topics.get(key).is_some_and(|topic| topic.deferred || topic.is_ahead(&self.limits))
    }

    pub(crate) fn defer(&mut self, key: Key, message: Deferred) {
        let topic = self.topics.get_mut(key).expect("the caller has just entered it");
        topic.deferred = true;
        let bytes = message.publish.payload.len() as u64;
        let queue = self.deferred.entry(key).or_default();
        queue.bytes += bytes;
        queue.messages.push_back(message);
        self.deferred_bytes += bytes;
    }

    /// How many payload bytes are deferred in a topic.
    pub(crate) fn deferred_in(&self, key: Key) -> u64 {
        self.deferred.get(&key).map_or(0, |queue| queue.bytes)
    }

    /// The next deferred message that may have its place now, and its topic.
    pub(crate) fn next_deferred(&mut self) -> Option<(Key, Deferred)> {
        loop {
            let key = *self.released.front()?;
            if let Some(topic) = self.topics.get_mut(key).filter(|topic| !topic.is_ahead(&self.limits)) {
                let next = self.deferred.get_mut(&key).and_then(Queue::next);
                if let Some(message) = next {
                    self.deferred_bytes -= message.publish.payload.len() as u64;
                    return Some((key, message));
                }
                topic.deferred = false;
                self.deferred.remove(&key);
            }
            self.released.pop_front();
        }
    }

    /// Whether [`Home::next_deferred`] may have something.
    pub(crate) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// A shard has handed out `bytes` of what it was sent.
    pub(crate) fn confirm(&mut self, name: &Name, by: &Audience, bytes: u32) {
        let Some(key) = self.places.get(name).copied() else { return };
        let Some(topic) = self.topics.get_mut(key) else { return };
        let whose = |other: &&mut Audience| {
            (other.form, other.shard, other.channel) == (by.form, by.shard, by.channel)
        };
        // One that left and came back is another channel, and owes nothing.
        let Some(audience) = topic.said.audiences.iter_mut().find(whose) else { return };
        debug_assert!(bytes <= audience.ahead, "a shard confirms what it was sent");
        audience.ahead -= bytes;
        self.release(key);
    }

    fn release(&mut self, key: Key) {
        let waits = self.topics.get(key).is_some_and(|topic| topic.deferred && !topic.is_ahead(&self.limits));
        if waits {
            self.released.push_back(key);
        }
    }

    /// Whether something was said that is not sealed.
    pub(crate) fn has_drafts(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Ends the tick's runs and appends each with every audience it goes to.
    pub(crate) fn seal(&mut self, sealed: &mut Vec<Sealed>) {
        while let Some(key) = self.touched.pop() {
            let Some(topic) = self.topics.get_mut(key) else { continue };
            topic.touched = false;
            for (form, draft) in std::mem::take(&mut topic.said.drafts) {
                topic.said.seal(form, draft, topic.epoch, &mut self.spare, sealed);
            }
        }
    }

    /// From now on `audience` hears the topic. What has been said and is not sealed must be sealed first.
    /// Returns the place of the last message before what it hears.
    pub(crate) fn admit(&mut self, key: Key, audience: Audience) -> (u64, u64) {
        let topic = self.topics.get_mut(key).expect("a topic is not forgotten in the tick it was entered");
        debug_assert!(topic.said.drafts.is_empty(), "a newcomer hears what is ordered after it, not before");
        topic.said.audiences.retain(|other| (other.form, other.shard) != (audience.form, audience.shard));
        // Most topics are heard by one shard in one form.
        topic.said.audiences.reserve_exact(usize::from(topic.said.audiences.is_empty()));
        let place = topic.said.audiences.partition_point(|other| other.form <= audience.form);
        topic.said.audiences.insert(place, audience);
        let last = (topic.epoch, topic.offset);
        self.release(key);
        last
    }

    /// What somebody who wants to begin at `start` hears and has missed, once all that was said is sealed; and how many
    /// bytes had to be written for it. None if the topic has been forgotten meanwhile, as who asked has left it.
    pub(crate) fn replay(
        &mut self,
        key: Key,
        form: Form,
        start: Start,
        now: Time,
    ) -> Option<(Replayed, usize)> {
        let Topic { name, epoch, offset, history, .. } = self.topics.get_mut(key)?;
        let wanted = Wanted { key, name, epoch: *epoch, offset: *offset, form, now };
        Some(self.histories.replay(&wanted, history.as_deref_mut(), start, &mut self.encoder))
    }

    /// Forgets what was kept too long; looks at no more than `budget`. Returns when the next look is due.
    pub(crate) fn expire(&mut self, now: Time, budget: usize) -> Option<Time> {
        self.histories.expire(&mut self.topics, now, budget)
    }

    /// Frees at least `need` bytes of what is kept, if there are so many.
    pub(crate) fn shed_history(&mut self, need: u64) {
        self.histories.shed(&mut self.topics, need);
    }

    /// `shard` does not listen in `form` any more.
    pub(crate) fn dismiss(&mut self, name: &Name, form: Form, shard: u16, now: Time) {
        let Some(key) = self.places.get(name).copied() else { return };
        let Some(topic) = self.topics.get_mut(key) else { return };
        topic.said.audiences.retain(|other| (other.form, other.shard) != (form, shard));
        topic.active_at = now;
        if topic.said.audiences.is_empty() && !topic.aging {
            topic.said.audiences.shrink_to_fit();
            topic.aging = true;
            self.aging.push_back((now, key));
        }
        self.release(key);
    }

    /// Forgets topics that nobody has heard or spoken to for the linger time; looks at no more than `budget`.
    /// Returns when the next look is due, if any topic is without audience.
    pub(crate) fn forget(&mut self, now: Time, budget: usize) -> Option<Time> {
        for _ in 0..budget {
            let (looked_at, key) = *self.aging.front()?;
            let due = looked_at + self.limits.topic_linger;
            if due > now {
                return Some(due);
            }
            self.aging.pop_front();
            let Some(topic) = self.topics.get_mut(key) else { continue };
            if !topic.said.audiences.is_empty() {
                topic.aging = false;
            } else if topic.touched
                || topic.deferred
                || topic.keeps_history()
                || topic.active_at + self.limits.topic_linger > now
            {
                self.aging.push_back((now, key));
            } else {
                self.places.remove(&topic.name);
                let history = self.topics.remove(key).and_then(|topic| topic.history);
                if let Some(history) = history {
                    self.histories.forget(history);
                }
                self.forgotten += 1;
            }
        }
        self.aging.front().map(|_| now)
    }
}

impl Queue {
    fn next(&mut self) -> Option<Deferred> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.publish.payload.len() as u64;
        Some(message)
    }
}

impl Topic {
    fn keeps_history(&self) -> bool {
        self.history.as_ref().is_some_and(|history| !history.is_empty())
    }

    /// Whether an audience was sent as much as may be without its confirming any.
    fn is_ahead(&self, limits: &Limits) -> bool {
        self.said.audiences.iter().any(|audience| audience.ahead >= limits.ahead_bytes_max)
    }
}

/// What messages are written with.
struct Pen<'a, E> {
    encoder: &'a mut E,
    spare: &'a mut Vec<Draft>,
    /// Who does not get this one.
    excluded: Option<(u16, ConnId)>,
}

impl<E> Pen<'_, E> {
    fn new_draft(&mut self, first: u64) -> Draft {
        Draft { first, ..self.spare.pop().unwrap_or_default() }
    }
}

impl Said {
    fn write(
        &mut self,
        form: Form,
        message: &Message<'_>,
        mut pen: Pen<'_, impl Encode>,
        run_bytes_max: usize,
        sealed: &mut Vec<Sealed>,
    ) {
        let mut draft = match self.drafts.iter().position(|(other, _)| *other == form) {
            Some(index) => self.drafts.swap_remove(index).1,
            None => pen.new_draft(message.offset),
        };
        let before = draft.bytes.len();
        pen.encoder.encode(form, message, &mut draft.bytes);
        let encoded = (draft.bytes.len() - before) as u32;
        for audience in self.audiences.iter_mut().filter(|audience| audience.form == form) {
            audience.ahead = audience.ahead.saturating_add(encoded);
        }
        if before > 0 && draft.bytes.len() > run_bytes_max {
            let mut next = pen.new_draft(message.offset);
            next.bytes.extend_from_slice(&draft.bytes[before..]);
            draft.bytes.truncate(before);
            self.seal(form, draft, message.epoch, pen.spare, sealed);
            draft = next;
        }
        if let Some((shard, conn)) = pen.excluded {
            draft.excluded.push(Excluded { message: draft.ends.len() as u32, shard, conn });
        }
        draft.ends.push(u32::try_from(draft.bytes.len()).expect("a run is shorter than 4 GiB"));
        self.drafts.push((form, draft));
    }

    fn seal(
        &mut self,
        form: Form,
        mut draft: Draft,
        epoch: u64,
        spare: &mut Vec<Draft>,
        sealed: &mut Vec<Sealed>,
    ) {
        let run = Run::new(&draft.bytes[..], &draft.ends[..]).placed(epoch, draft.first);
        let run = Arc::new(run.excluding(&draft.excluded));
        let listening = self.audiences.iter().filter(|audience| audience.form == form);
        sealed.extend(listening.map(|audience| Sealed { audience: *audience, run: Arc::clone(&run) }));
        if spare.len() < SPARE_DRAFTS_MAX {
            draft.bytes.clear();
            draft.ends.clear();
            draft.excluded.clear();
            spare.push(draft);
        }
    }
}
