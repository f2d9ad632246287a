//! Who said what, who heard what, and whether the two agree.
//!
//! The oracle knows nothing of shards. It holds what was said against what each subscriber heard: nothing twice, nothing
//! that was not said, every message whole; one order that fits all subscribers of a topic, all places that subscribers
//! are shown and all places that answers name; nothing left out within what an unbroken subscriber heard; and nothing
//! missed that was said after a subscriber had seen its 101, or the answer to its subscribe. Who comes back goes on with
//! a stay, its own or somebody else's: across all cuts it hears one unbroken sequence, or is told exactly what is missing
//! of it. What a publisher is not to hear itself, it does not hear, and everybody else does.

mod judge;
mod kept;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use moongate_io::Time;
use moongate_wire::Kind;

pub use kept::Keeps;

/// A message's place in its topic: epoch and offset.
pub type Place = (u64, u64);

/// A message: its index in the order in which they were said.
pub type MessageId = usize;

/// One stay of a subscriber in a topic: its index.
pub type SessionId = usize;

/// Somebody with a connection: the number of its wire.
pub type PersonId = usize;

/// How a subscriber is shown messages.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    /// In frames of their own.
    Frames,
    /// In events, where every end of a line is LF.
    Events,
    /// As what they were said as.
    Told,
}

impl Shown {
    fn show(self, message: &Message) -> (Kind, Cow<'_, [u8]>) {
        let payload = Cow::Borrowed(&message.payload[..]);
        match (self, message.kind) {
            (Shown::Told, kind) => (kind, payload),
            (_, Kind::Binary) => (Kind::Binary, payload),
            (Shown::Frames, Kind::Text | Kind::Json) => (Kind::Text, payload),
            (Shown::Events, Kind::Text | Kind::Json) => (Kind::Text, Cow::Owned(lines(&payload))),
        }
    }
}

/// After how long a message that somebody has heard, or has been told the place of, is nowhere on its way to the shards
/// that listen. Lanes hold messages for as long as a shard that has much to do takes for a few ticks.
const KNOWN_EVERYWHERE: Duration = Duration::from_secs(1);

/// What somebody is about to say.
#[derive(Copy, Clone, Debug)]
pub struct Saying<'a> {
    /// Where.
    pub topic: &'a str,
    /// As what.
    pub kind: Kind,
    /// What stands before the number that names it: no digits.
    pub before: &'a [u8],
    /// What stands behind it.
    pub after: &'a [u8],
    /// Who it is that says it, if what it says to a topic must keep its order.
    pub by: Option<PersonId>,
    /// Whether it does not hear it itself.
    pub excluded: bool,
}

struct Message {
    topic: String,
    kind: Kind,
    payload: Vec<u8>,
    said_at: Time,
    place: Option<Place>,
    /// What a protocol calls it that does not name places in its answers.
    publication: Option<u64>,
    by: Option<PersonId>,
    excluded: bool,
    /// Whether somebody heard it or an answer confirmed it.
    ordered: bool,
    /// When that was the first time.
    known_at: Option<Time>,
    /// Whether it must have been ordered, because whoever said it went on undisturbed.
    certain: bool,
}

struct Session {
    topic: String,
    joined_at: Time,
    /// When it asked to hear what is said from then on, if it asked for that.
    asked_at: Option<Time>,
    /// Since when it hears all that was kept then, if it asked for that, and up to where that is, if it was told.
    all_kept: Option<(Time, Option<Place>)>,
    heard: Vec<MessageId>,
    seen: BTreeSet<MessageId>,
    last_place: Option<Place>,
    /// Places it was told that it does not get: an epoch, the first offset and the last.
    missing: Vec<(u64, u64, u64)>,
    /// The gaps among them, and when it was told.
    gaps: Vec<((u64, u64, u64), Time)>,
    /// The epoch that it was told it is in now, and when: it knows that it gets nothing of others since its own.
    lost: Option<(u64, Time)>,
    /// Before which of `heard` it was told of a gap, or came back without being told of any, and when.
    breaks: BTreeMap<usize, Time>,
    /// Whether it was told that nothing is missing when it came back, and has heard nothing since.
    whole: bool,
    ended: bool,
    /// Whether it is told of no gaps, and may be left out of messages.
    silent: bool,
    /// Whose it was, the last one now.
    people: Vec<PersonId>,
    /// Until when messages were said that it may hear again, though their publisher is left out.
    again_until: Option<Time>,
}

/// What was said and heard in a world.
#[derive(Default)]
pub struct Oracle {
    now: Time,
    messages: Vec<Message>,
    sessions: Vec<Session>,
    places: BTreeMap<(String, Place), MessageId>,
    publications: BTreeMap<u64, MessageId>,
    faults: Vec<String>,
    /// Stays that were told of a gap where they had been told that nothing is missing.
    misled: Vec<SessionId>,
    /// Stays that are over and may go on, by topic and whether they are told of no gaps.
    away: BTreeMap<(String, bool), Vec<SessionId>>,
    resumed: usize,
    gaps: usize,
    answered: usize,
    keeps: Option<Keeps>,
    /// Tunnels whose upstream has said its 101.
    switched: BTreeSet<u32>,
}

/// How much a run may be asked to prove.
#[derive(Copy, Clone, Debug)]
pub struct Promise {
    /// Whether no policy dropped anything, so that nobody may miss a message in the middle of what it heard; else only who
    /// is told of what is dropped may not.
    pub unbroken: bool,
    /// Whether all that was said has had its time to arrive.
    pub settled: bool,
}

/// How much happened in a world of what can happen to conversations.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Talk {
    /// How often a stay that was over went on.
    pub resumed: usize,
    /// Gaps that subscribers were told of.
    pub gaps: usize,
    /// Publishes that were answered.
    pub answered: usize,
    /// Messages that their publisher did not hear though it stayed in their topic.
    pub excluded: usize,
}

impl Oracle {
    /// One that knows what topics keep, if that can be known.
    pub fn new(keeps: Option<Keeps>) -> Oracle {
        Oracle { keeps, ..Oracle::default() }
    }

    /// From now on it is `now`.
    pub fn it_is(&mut self, now: Time) {
        self.now = now;
    }

    /// Notes that the upstream of this tunnel says its 101.
    pub fn switches(&mut self, tunnel: u32) {
        self.switched.insert(tunnel);
    }

    /// Whether it has.
    pub fn has_switched(&self, tunnel: u32) -> bool {
        self.switched.contains(&tunnel)
    }

    /// Notes that somebody is about to say a message of at least `padding` bytes. Its payload names it.
    pub fn says(&mut self, topic: &str, kind: Kind, padding: &[u8], now: Time) -> (MessageId, Vec<u8>) {
        self.say(Saying { topic, kind, before: b"", after: padding, by: None, excluded: false }, now)
    }

    /// Notes that somebody is about to say something. Its payload names it.
    pub fn say(&mut self, saying: Saying<'_>, now: Time) -> (MessageId, Vec<u8>) {
        let Saying { topic, kind, before, after, by, excluded } = saying;
        let id = self.messages.len();
        let payload = [before, format!("{id}|").as_bytes(), after].concat();
        self.messages.push(Message {
            topic: topic.to_owned(),
            kind,
            payload: payload.clone(),
            said_at: now,
            place: None,
            publication: None,
            by,
            excluded,
            ordered: false,
            known_at: None,
            certain: false,
        });
        (id, payload)
    }

    /// Notes that a message must have been ordered.
    pub fn must_be_ordered(&mut self, id: MessageId) {
        self.messages[id].certain = true;
    }

    /// Notes that an answer named the place of a message.
    pub fn placed(&mut self, id: MessageId, place: Place) {
        self.answered += 1;
        self.is_ordered(id);
        self.place(id, place);
    }

    /// Notes that an answer called a message so.
    pub fn published(&mut self, id: MessageId, publication: u64) {
        self.answered += 1;
        self.is_ordered(id);
        self.call(id, publication);
    }

    fn is_ordered(&mut self, id: MessageId) {
        self.messages[id].ordered = true;
        self.messages[id].known_at.get_or_insert(self.now);
    }

    /// A subscriber has seen its 101 or 200.
    pub fn joins(&mut self, topic: &str, now: Time) -> SessionId {
        self.sessions.push(Session {
            topic: topic.to_owned(),
            joined_at: now,
            asked_at: None,
            all_kept: None,
            heard: Vec::new(),
            seen: BTreeSet::new(),
            last_place: None,
            missing: Vec::new(),
            gaps: Vec::new(),
            lost: None,
            breaks: BTreeMap::new(),
            whole: false,
            ended: false,
            silent: false,
            people: Vec::new(),
            again_until: None,
        });
        self.sessions.len() - 1
    }

    /// The same, of somebody who is told of no gaps, and may be left out of what it says itself; of what was said before
    /// it joined, it may hear that if it hears things `again`.
    pub fn joins_silently(&mut self, topic: &str, who: PersonId, again: bool, now: Time) -> SessionId {
        let session = self.joins(topic, now);
        let entry = &mut self.sessions[session];
        entry.silent = true;
        entry.people.push(who);
        entry.again_until = again.then_some(now);
        entry.all_kept = again.then_some((now, None));
        session
    }

    /// A subscriber asked at that time for what is said from then on, and for nothing before.
    pub fn asked(&mut self, session: SessionId, at: Time) {
        self.sessions[session].asked_at = Some(at);
    }

    /// A subscriber asked for all that is kept, which is up to there.
    pub fn hears_all_kept(&mut self, session: SessionId, until: Place, now: Time) {
        self.sessions[session].all_kept = Some((now, Some(until)));
    }

    /// A subscriber has heard a message, shown in one way or another, perhaps with its place.
    pub fn hears(
        &mut self,
        session: SessionId,
        shown: Shown,
        kind: Kind,
        payload: &[u8],
        place: Option<Place>,
    ) {
        let Some(id) = named_by(payload).filter(|id| *id < self.messages.len()) else {
            return self.fault(format!("session {session} heard what nobody said: {}", excerpt(payload)));
        };
        let message = &self.messages[id];
        if shown.show(message) != (kind, Cow::Borrowed(payload)) {
            return self
                .fault(format!("session {session} heard message {id} as {kind:?} {}", excerpt(payload)));
        }
        let entry = &mut self.sessions[session];
        let wrong = if message.topic != entry.topic {
            Some(format!("message {id} of {} in {}", message.topic, entry.topic))
        } else if !entry.seen.insert(id) {
            Some(format!("message {id} twice"))
        } else if entry.ended {
            Some(format!("message {id} after its end"))
        } else if entry.is_left_out_of(message) {
            Some(format!("message {id}, which it said itself and was to be left out of"))
        } else if entry.came_after(message) {
            Some(format!("message {id} of {:?}, having asked at {:?}", message.said_at, entry.asked_at))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return self.fault(format!("session {session} heard {wrong}"));
        }
        entry.heard.push(id);
        entry.whole = false;
        let (silent, last) = (entry.silent, place.and_then(|place| entry.last_place.replace(place)));
        self.is_ordered(id);
        if let Some(place) = place {
            let follows = |last: Place| {
                place == (last.0, last.1 + 1) || silent && (place.0 != last.0 || place.1 > last.1)
            };
            if let Some(last) = last.filter(|last| !follows(*last)) {
                self.fault(format!("session {session} heard {place:?} after {last:?}"));
            }
            self.place(id, place);
        }
    }

    /// A subscriber was shown what a message is called, beside its payload.
    pub fn hears_called(&mut self, payload: &[u8], publication: u64) {
        if let Some(id) = named_by(payload).filter(|id| *id < self.messages.len()) {
            self.call(id, publication);
        }
    }

    /// A subscriber has been named the place before what it will hear.
    pub fn begins(&mut self, session: SessionId, place: Place) {
        if let Some(last) = self.sessions[session].last_place.replace(place) {
            self.fault(format!("session {session} was told to begin after {place:?}, being at {last:?}"));
        }
    }

    /// A subscriber has been named messages that it is not shown: J4.
    pub fn misses(
        &mut self,
        session: SessionId,
        (epoch, from, to): (u64, u64, u64),
        previous: Option<u64>,
        now: Time,
    ) {
        self.gaps += 1;
        let entry = &mut self.sessions[session];
        if entry.whole {
            self.misled.push(session);
        }
        entry.breaks.insert(entry.heard.len(), now);
        entry.missing.push((epoch, from, to));
        entry.gaps.push(((epoch, from, to), now));
        let last = entry.last_place.replace((epoch, to));
        let right = match (last, previous) {
            (Some(last), None) => from == last.1 + 1 && last.0 == epoch && from <= to,
            (Some(last), Some(previous)) => {
                entry.missing.push((last.0, last.1 + 1, u64::MAX));
                entry.lost = Some((epoch, now));
                from == 1 && last.0 == previous && previous != epoch
            }
            (None, previous) => previous.is_none(),
        };
        if !right {
            self.fault(format!(
                "session {session} at {last:?} was told of a gap in {epoch:x} from {from} to {to}, after {previous:?}"
            ));
        }
    }

    /// Where a stay is: the place of what it last heard or was told of.
    pub fn last_place(&self, session: SessionId) -> Option<Place> {
        self.sessions[session].last_place
    }

    /// A stay in `topic` that is over, and behind which message it goes on.
    pub fn comes_back(&mut self, topic: &str, silent: bool) -> Option<(SessionId, Place)> {
        let session = self.away.get_mut(&(topic.to_owned(), silent))?.pop()?;
        Some((session, self.sessions[session].last_place?))
    }

    /// Somebody has seen the answer with which its stay goes on.
    pub fn resumes(&mut self, session: SessionId) {
        self.resumed += 1;
        let entry = &mut self.sessions[session];
        (entry.whole, entry.ended) = (false, false);
    }

    /// The same, of one that is told of no gaps: what was said before may be missing.
    pub fn resumes_silently(&mut self, session: SessionId, who: PersonId, now: Time) {
        self.resumes(session);
        let entry = &mut self.sessions[session];
        entry.joined_at = now;
        entry.again_until = Some(now);
        entry.breaks.insert(entry.heard.len(), now);
        entry.people.push(who);
    }

    /// Somebody was told, with that answer, whether nothing is missing.
    pub fn recovers(&mut self, session: SessionId, whole: bool) {
        self.sessions[session].whole = whole;
    }

    /// A subscriber's stay is over.
    pub fn leaves(&mut self, session: SessionId) {
        let entry = &mut self.sessions[session];
        entry.ended = true;
        if entry.last_place.is_some() {
            self.away.entry((entry.topic.clone(), entry.silent)).or_default().push(session);
        }
    }

    /// Something is wrong that somebody else noticed.
    pub fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// How many messages were said, how many were heard by all together, and how many stays there were.
    pub fn tally(&self) -> (usize, usize, usize) {
        let heard = self.sessions.iter().map(|session| session.heard.len()).sum();
        (self.messages.len(), heard, self.sessions.len())
    }

    /// How much happened of what can happen to conversations.
    pub fn talk(&self) -> Talk {
        let Oracle { resumed, gaps, answered, .. } = *self;
        Talk { resumed, gaps, answered, excluded: self.left_out() }
    }

    fn place(&mut self, id: MessageId, place: Place) {
        if place.1 == 0 {
            self.fault(format!("message {id} has offset 0"));
        }
        match self.messages[id].place {
            Some(other) if other != place => {
                self.fault(format!("message {id} is at {other:?} for one and at {place:?} for another"));
            }
            Some(_) => {}
            None => {
                self.messages[id].place = Some(place);
                let key = (self.messages[id].topic.clone(), place);
                if let Some(other) = self.places.insert(key, id) {
                    self.fault(format!("messages {other} and {id} are both at {place:?}"));
                }
            }
        }
    }

    fn call(&mut self, id: MessageId, publication: u64) {
        let named = *self.messages[id].publication.get_or_insert(publication);
        let other = *self.publications.entry(publication).or_insert(id);
        if (named, other) != (publication, id) {
            self.fault(format!("message {id} is called {publication}, as is {other}, and {named}"));
        }
    }
}

impl Session {
    /// Whether it knows that it does not get `message`; with gaps it may be any whose place nobody knows.
    fn was_told(&self, message: &Message) -> bool {
        let Some((epoch, offset)) = message.place else { return !self.missing.is_empty() };
        if self.lost.is_some_and(|(now, at)| epoch != now && message.said_at <= at) {
            return true;
        }
        self.missing.iter().any(|(of, from, to)| *of == epoch && (*from..=*to).contains(&offset))
    }

    /// Whether whose it is now must not hear `message`, having said it.
    fn is_left_out_of(&self, message: &Message) -> bool {
        let again = self.again_until.is_some_and(|until| message.said_at <= until);
        message.excluded && !again && message.by.is_some() && message.by == self.people.last().copied()
    }

    /// Whether it asked to hear what is said from then on, when `message` was known.
    fn came_after(&self, message: &Message) -> bool {
        let (Some(asked_at), Some(known_at)) = (self.asked_at, message.known_at) else { return false };
        known_at + KNOWN_EVERYWHERE < asked_at
    }

    /// Whether somebody whose it was need not hear `message`, having said it.
    fn may_lack(&self, message: &Message) -> bool {
        message.excluded && message.by.is_some_and(|by| self.people.contains(&by))
    }
}

/// The message that a payload names.
fn named_by(payload: &[u8]) -> Option<MessageId> {
    let begin = payload.iter().position(u8::is_ascii_digit)?;
    let end = begin + payload[begin..].iter().position(|byte| *byte == b'|')?;
    str::from_utf8(&payload[begin..end]).ok()?.parse().ok()
}

/// A payload with every end of a line as LF.
fn lines(payload: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(payload.len());
    let mut rest = payload;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'\r' {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            lines.push(b'\n');
        } else {
            lines.push(*first);
        }
    }
    lines
}

fn excerpt(payload: &[u8]) -> String {
    let cut = &payload[..payload.len().min(60)];
    format!("{} bytes: {}", payload.len(), cut.escape_ascii())
}

#[cfg(test)]
mod tests;
