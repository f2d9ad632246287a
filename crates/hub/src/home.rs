//! The topics whose home this shard is: their offsets, their audiences, and what they said this tick.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{Run, Time};

use crate::name::CarriedHash;
use crate::slab::{Key, Slab};
use crate::{ChannelId, Encode, Form, Kind, Message, Name, Rejection};

/// A topic as its home keeps it.
pub(crate) struct Topic {
    pub(crate) name: Name,
    pub(crate) epoch: u64,
    /// The offset of the last message; 0 before the first.
    pub(crate) offset: u64,
    audiences: Vec<Audience>,
    /// What was said and not yet sealed, by form.
    drafts: Vec<(Form, Draft)>,
    touched: bool,
    /// Until when its publishers are held back.
    pub(crate) pressed_until: Time,
    active_at: Time,
    aging: bool,
}

/// One shard that listens in one form.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Audience {
    pub(crate) form: Form,
    pub(crate) shard: u16,
    pub(crate) channel: ChannelId,
}

/// Messages of one tick in one form, growing into a run.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    ends: Vec<u32>,
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
    pub(crate) topic_linger: Duration,
}

/// All topics that live here.
pub(crate) struct Home<E> {
    pub(crate) topics: Slab<Topic>,
    places: HashMap<Name, Key, CarriedHash>,
    pub(crate) encoder: E,
    limits: Limits,
    /// Topics that said something this tick.
    touched: Vec<Key>,
    /// Topics without audience, and when each was last looked at, oldest look first.
    aging: VecDeque<(Time, Key)>,
    spare: Vec<Draft>,
    pub(crate) forgotten: u64,
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
            touched: Vec::new(),
            aging: VecDeque::new(),
            spare: Vec::new(),
            forgotten: 0,
        }
    }

    pub(crate) fn find(&mut self, name: &Name) -> Option<&mut Topic> {
        self.topics.get_mut(*self.places.get(name)?)
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
            audiences: Vec::new(),
            drafts: Vec::new(),
            touched: false,
            pressed_until: Time::ZERO,
            active_at: now,
            aging: true,
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
        payload: &[u8],
        now: Time,
        sealed: &mut Vec<Sealed>,
    ) -> (u64, u64) {
        let topic = self.topics.get_mut(key).expect("the caller has just entered it");
        topic.offset += 1;
        topic.active_at = now;
        let message = Message { epoch: topic.epoch, offset: topic.offset, kind, payload };
        let mut last = None;
        for index in 0..topic.audiences.len() {
            let form = topic.audiences[index].form;
            // Audiences are sorted by form: each form comes up once.
            if last.replace(form) != Some(form) {
                topic.write(
                    form,
                    &message,
                    &mut self.encoder,
                    &mut self.spare,
                    self.limits.run_bytes_max,
                    sealed,
                );
            }
        }
        if !topic.touched && !topic.drafts.is_empty() {
            topic.touched = true;
            self.touched.push(key);
        }
        (topic.epoch, topic.offset)
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
            for (form, draft) in std::mem::take(&mut topic.drafts) {
                topic.seal(form, draft, &mut self.spare, sealed);
            }
        }
    }

    /// From now on `audience` hears the topic. What has been said and is not sealed must be sealed first.
    pub(crate) fn admit(&mut self, key: Key, audience: Audience) {
        let Some(topic) = self.topics.get_mut(key) else { return };
        debug_assert!(topic.drafts.is_empty(), "a newcomer hears what is ordered after it, not before");
        topic.audiences.retain(|other| (other.form, other.shard) != (audience.form, audience.shard));
        let place = topic.audiences.partition_point(|other| other.form <= audience.form);
        topic.audiences.insert(place, audience);
    }

    /// `shard` does not listen in `form` any more.
    pub(crate) fn dismiss(&mut self, name: &Name, form: Form, shard: u16, now: Time) {
        let Some(key) = self.places.get(name).copied() else { return };
        let Some(topic) = self.topics.get_mut(key) else { return };
        topic.audiences.retain(|other| (other.form, other.shard) != (form, shard));
        topic.active_at = now;
        if topic.audiences.is_empty() && !topic.aging {
            topic.audiences.shrink_to_fit();
            topic.aging = true;
            self.aging.push_back((now, key));
        }
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
            if !topic.audiences.is_empty() {
                topic.aging = false;
            } else if topic.touched || topic.active_at + self.limits.topic_linger > now {
                self.aging.push_back((now, key));
            } else {
                self.places.remove(&topic.name);
                self.topics.remove(key);
                self.forgotten += 1;
            }
        }
        self.aging.front().map(|_| now)
    }
}

impl Topic {
    fn write(
        &mut self,
        form: Form,
        message: &Message<'_>,
        encoder: &mut impl Encode,
        spare: &mut Vec<Draft>,
        run_bytes_max: usize,
        sealed: &mut Vec<Sealed>,
    ) {
        let mut draft = match self.drafts.iter().position(|(other, _)| *other == form) {
            Some(index) => self.drafts.swap_remove(index).1,
            None => spare.pop().unwrap_or_default(),
        };
        let before = draft.bytes.len();
        encoder.encode(form, message, &mut draft.bytes);
        if before > 0 && draft.bytes.len() > run_bytes_max {
            let mut next = spare.pop().unwrap_or_default();
            next.bytes.extend_from_slice(&draft.bytes[before..]);
            draft.bytes.truncate(before);
            self.seal(form, draft, spare, sealed);
            draft = next;
        }
        draft.ends.push(u32::try_from(draft.bytes.len()).expect("a run is shorter than 4 GiB"));
        self.drafts.push((form, draft));
    }

    fn seal(&mut self, form: Form, mut draft: Draft, spare: &mut Vec<Draft>, sealed: &mut Vec<Sealed>) {
        let run = Arc::new(Run::new(&draft.bytes[..], &draft.ends[..]));
        let listening = self.audiences.iter().filter(|audience| audience.form == form);
        sealed.extend(listening.map(|audience| Sealed { audience: *audience, run: Arc::clone(&run) }));
        if spare.len() < SPARE_DRAFTS_MAX {
            draft.bytes.clear();
            draft.ends.clear();
            spare.push(draft);
        }
    }
}
