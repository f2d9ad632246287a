//! Who said what, who heard what, and whether the two agree.
//!
//! The oracle knows nothing of shards. It holds what was said against what each subscriber heard: nothing twice, nothing
//! that was not said, every message whole; one order that fits all subscribers of a topic, all places that event streams
//! show and all places that answers to POSTs name; nothing left out within what an unbroken subscriber heard; and
//! nothing missed that was said after a subscriber had seen its 101. An event stream's reader that comes back goes on with
//! its stay: across all cuts it hears one unbroken sequence, or is told exactly what is missing of it.

use std::collections::{BTreeMap, BTreeSet};

use moongate_io::Time;
use moongate_wire::Kind;

/// A message's place in its topic: epoch and offset.
pub type Place = (u64, u64);

/// A message: its index in the order in which they were said.
pub type MessageId = usize;

/// One stay of a subscriber in a topic: its index.
pub type SessionId = usize;

struct Message {
    topic: String,
    kind: Kind,
    payload: Vec<u8>,
    said_at: Time,
    place: Option<Place>,
    /// Whether somebody heard it or an answer confirmed it.
    ordered: bool,
    /// Whether it must have been ordered, because whoever said it went on undisturbed.
    certain: bool,
}

struct Session {
    topic: String,
    joined_at: Time,
    heard: Vec<MessageId>,
    seen: BTreeSet<MessageId>,
    last_place: Option<Place>,
    /// Places it was told that it does not get: an epoch, the first offset and the last.
    missing: Vec<(u64, u64, u64)>,
    /// Before which of `heard` that was.
    breaks: BTreeSet<usize>,
    ended: bool,
}

/// What was said and heard in a world.
#[derive(Default)]
pub struct Oracle {
    messages: Vec<Message>,
    sessions: Vec<Session>,
    places: BTreeMap<(String, Place), MessageId>,
    faults: Vec<String>,
    /// Stays that are over and may go on, by topic.
    away: BTreeMap<String, Vec<SessionId>>,
    resumed: usize,
    gaps: usize,
    /// Tunnels whose upstream has said its 101.
    switched: BTreeSet<u32>,
}

/// How much a run may be asked to prove.
#[derive(Copy, Clone, Debug)]
pub struct Promise {
    /// Whether nobody was allowed to miss a message in the middle of what it heard.
    pub unbroken: bool,
    /// Whether all that was said has had its time to arrive.
    pub settled: bool,
}

impl Oracle {
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
        let id = self.messages.len();
        let mut payload = format!("{id}|").into_bytes();
        payload.extend_from_slice(padding);
        self.messages.push(Message {
            topic: topic.to_owned(),
            kind,
            payload: payload.clone(),
            said_at: now,
            place: None,
            ordered: false,
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
        self.messages[id].ordered = true;
        self.place(id, place);
    }

    /// A subscriber has seen its 101 or 200.
    pub fn joins(&mut self, topic: &str, now: Time) -> SessionId {
        self.sessions.push(Session {
            topic: topic.to_owned(),
            joined_at: now,
            heard: Vec::new(),
            seen: BTreeSet::new(),
            last_place: None,
            missing: Vec::new(),
            breaks: BTreeSet::new(),
            ended: false,
        });
        self.sessions.len() - 1
    }

    /// A subscriber has heard a message, in the form of a frame or of an event.
    pub fn hears(&mut self, session: SessionId, kind: Kind, payload: &[u8], place: Option<Place>) {
        let Some(id) = named_by(payload).filter(|id| *id < self.messages.len()) else {
            return self.fault(format!("session {session} heard what nobody said: {}", shown(payload)));
        };
        let message = &self.messages[id];
        // An event stream shows every end of a line as LF.
        let same = if place.is_some() && kind == Kind::Text {
            lines(&message.payload) == payload
        } else {
            message.payload == payload
        };
        if !same || message.kind != kind {
            return self.fault(format!("session {session} heard message {id} as {}", shown(payload)));
        }
        let entry = &mut self.sessions[session];
        if message.topic != entry.topic {
            let (said, heard) = (message.topic.clone(), entry.topic.clone());
            return self.fault(format!("session {session} heard message {id} of {said} in {heard}"));
        }
        if !entry.seen.insert(id) {
            return self.fault(format!("session {session} heard message {id} twice"));
        }
        let ended = entry.ended;
        entry.heard.push(id);
        let last = place.and_then(|place| entry.last_place.replace(place));
        self.messages[id].ordered = true;
        if ended {
            self.fault(format!("session {session} heard message {id} after its end"));
        }
        if let Some(place) = place {
            if let Some(last) = last
                && place != (last.0, last.1 + 1)
            {
                self.fault(format!("session {session} heard {place:?} after {last:?}"));
            }
            self.place(id, place);
        }
    }

    /// An event stream has named the place before what it will show.
    pub fn begins(&mut self, session: SessionId, place: Place) {
        if let Some(last) = self.sessions[session].last_place.replace(place) {
            self.fault(format!("session {session} was told to begin after {place:?}, being at {last:?}"));
        }
    }

    /// An event stream has named messages that it does not show: J4.
    pub fn misses(&mut self, session: SessionId, (epoch, from, to): (u64, u64, u64), previous: Option<u64>) {
        self.gaps += 1;
        let entry = &mut self.sessions[session];
        entry.breaks.insert(entry.heard.len());
        entry.missing.push((epoch, from, to));
        let last = entry.last_place.replace((epoch, to));
        let right = match (last, previous) {
            (Some(last), None) => from == last.1 + 1 && last.0 == epoch && from <= to,
            (Some(last), Some(previous)) => {
                entry.missing.push((last.0, last.1 + 1, u64::MAX));
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

    /// A stay in `topic` that is over, and behind which message it goes on.
    pub fn comes_back(&mut self, topic: &str) -> Option<(SessionId, Place)> {
        let session = self.away.get_mut(topic)?.pop()?;
        Some((session, self.sessions[session].last_place?))
    }

    /// Somebody has seen the 200 with which its stay goes on.
    pub fn resumes(&mut self, session: SessionId) {
        self.resumed += 1;
        self.sessions[session].ended = false;
    }

    /// How often a stay went on, and how many gaps were named.
    pub fn resumed(&self) -> (usize, usize) {
        (self.resumed, self.gaps)
    }

    /// A subscriber's stay is over.
    pub fn leaves(&mut self, session: SessionId) {
        let entry = &mut self.sessions[session];
        entry.ended = true;
        if entry.last_place.is_some() {
            self.away.entry(entry.topic.clone()).or_default().push(session);
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

    /// Judges: everything that is wrong, the first that was noticed first.
    pub fn judge(&self, promise: Promise) -> Vec<String> {
        let mut faults = self.faults.clone();
        if promise.unbroken {
            self.judge_gaps(&mut faults);
        }
        if promise.unbroken && promise.settled {
            self.judge_missed(&mut faults);
        }
        self.judge_order(&mut faults);
        faults
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

    /// In what unbroken subscribers heard, a message has one successor and one predecessor, and the same for all.
    fn judge_gaps(&self, faults: &mut Vec<String>) {
        let mut after: BTreeMap<MessageId, MessageId> = BTreeMap::new();
        let mut before: BTreeMap<MessageId, MessageId> = BTreeMap::new();
        for (index, session) in self.sessions.iter().enumerate() {
            for (at, pair) in session.heard.windows(2).enumerate() {
                if session.breaks.contains(&(at + 1)) {
                    continue;
                }
                let [one, two] = [pair[0], pair[1]];
                if let Some(other) = after.insert(one, two).filter(|other| *other != two) {
                    faults.push(format!(
                        "after message {one} session {index} heard {two}, somebody else heard {other}"
                    ));
                }
                if let Some(other) = before.insert(two, one).filter(|other| *other != one) {
                    faults.push(format!(
                        "before message {two} session {index} heard {one}, somebody else heard {other}"
                    ));
                }
                let places = (self.messages[one].place, self.messages[two].place);
                if let (Some(first), Some(second)) = places
                    && second != (first.0, first.1 + 1)
                {
                    faults.push(format!("session {index} heard {second:?} right after {first:?}"));
                }
            }
        }
    }

    /// Whoever stayed has heard all that was said after it had joined.
    fn judge_missed(&self, faults: &mut Vec<String>) {
        for (index, session) in self.sessions.iter().enumerate().filter(|(_, session)| !session.ended) {
            let missed = self.messages.iter().enumerate().find(|(id, message)| {
                message.topic == session.topic
                    && (message.ordered || message.certain)
                    && message.said_at >= session.joined_at
                    && !session.seen.contains(id)
                    && !session.was_told(message.place)
            });
            if let Some((id, _)) = missed {
                let (joined, said) = (session.joined_at, self.messages[id].said_at);
                let last = session.heard.last();
                faults.push(format!(
                    "session {index}, which joined {} at {joined:?}, never heard message {id} of {said:?}, last {last:?}",
                    session.topic,
                ));
            }
        }
    }

    /// There is one order that fits what everybody heard and every place that is known: a graph without a cycle.
    fn judge_order(&self, faults: &mut Vec<String>) {
        let mut next: BTreeMap<MessageId, BTreeSet<MessageId>> = BTreeMap::new();
        for session in &self.sessions {
            for pair in session.heard.windows(2) {
                next.entry(pair[0]).or_default().insert(pair[1]);
            }
        }
        let known: Vec<_> = self.places.iter().collect();
        for pair in known.windows(2) {
            let (((topic, one), from), ((other, two), to)) = (pair[0], pair[1]);
            if topic == other && one.0 == two.0 {
                next.entry(*from).or_default().insert(*to);
            }
        }
        let mut waits_for = vec![0_usize; self.messages.len()];
        for to in next.values().flatten() {
            waits_for[*to] += 1;
        }
        let mut ready: Vec<MessageId> = (0..waits_for.len()).filter(|id| waits_for[*id] == 0).collect();
        let mut sorted = 0;
        while let Some(id) = ready.pop() {
            sorted += 1;
            for to in next.get(&id).into_iter().flatten() {
                waits_for[*to] -= 1;
                if waits_for[*to] == 0 {
                    ready.push(*to);
                }
            }
        }
        if sorted < waits_for.len() {
            let stuck: Vec<_> = (0..waits_for.len()).filter(|id| waits_for[*id] > 0).take(8).collect();
            faults.push(format!("no order fits what was heard, among others of messages {stuck:?}"));
        }
    }
}

impl Session {
    /// Whether it knows that it does not get the message at `place`; with gaps it may be any whose place nobody knows.
    fn was_told(&self, place: Option<Place>) -> bool {
        let Some((epoch, offset)) = place else { return !self.missing.is_empty() };
        self.missing.iter().any(|(of, from, to)| *of == epoch && (*from..=*to).contains(&offset))
    }
}

/// The message that a payload names.
fn named_by(payload: &[u8]) -> Option<MessageId> {
    let end = payload.iter().position(|byte| *byte == b'|')?;
    str::from_utf8(&payload[..end]).ok()?.parse().ok()
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

fn shown(payload: &[u8]) -> String {
    let cut = &payload[..payload.len().min(40)];
    format!("{} bytes: {}", payload.len(), cut.escape_ascii())
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
