//! What somebody in a conversation has asked for, and whether the answers are right.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use moongate_io::Time;
use moongate_wire::Kind;

use super::tongue::{Exclusion, Refusal, Said, Tongue, Which};
use super::v1;
use crate::client::Hands;
use crate::client::payload::{json, padding};
use crate::oracle::{MessageId, Place, Saying, SessionId, Shown};

/// Everything that it asked for.
pub(super) struct Book {
    tongue: Tongue,
    /// How many topics it may hear.
    topics_max: usize,
    topics: Vec<Topic>,
    /// Which of them its last request was about.
    latest: usize,
    requests: u64,
    /// Publishes that are to be answered: their topics and messages.
    publishes: BTreeMap<u64, (usize, MessageId)>,
    pings: BTreeSet<u64>,
    /// All that it has said.
    said: Vec<MessageId>,
}

struct Topic {
    name: String,
    /// What its subscription is called, in tongues that call it so.
    number: Option<u64>,
    /// Whether the last request asked to hear it.
    wanted: bool,
    /// Requests to hear it and no longer to, not answered yet, oldest first.
    asked: VecDeque<Asked>,
    hearing: Option<Hearing>,
    /// Whether its subscribe was overtaken by an unsubscribe that is yet to be answered.
    cancelled: bool,
    /// The last publish that was answered.
    answered: u64,
}

struct Asked {
    /// None for what a URL asked.
    request: Option<u64>,
    what: What,
}

#[derive(Copy, Clone)]
enum What {
    Subscribe {
        since: Since,
        /// Whether it hears as many as it may.
        full: bool,
        at: Time,
    },
    /// To hear what it hears already, or has asked for.
    Again,
    Unsubscribe,
}

#[derive(Copy, Clone)]
enum Since {
    Now,
    AllKept,
    After(SessionId, Place),
}

struct Hearing {
    session: SessionId,
    /// Whether a gap must come before anything else.
    owes_gap: bool,
    /// What must not be missing, where it began with all that is kept.
    until: Option<Place>,
}

impl Since {
    fn text(self) -> Option<String> {
        match self {
            Since::Now => None,
            Since::AllKept => Some(String::from("0")),
            Since::After(_, (epoch, offset)) => Some(format!("{epoch:016x}-{offset}")),
        }
    }

    /// Nobody goes on with the stay after all.
    fn give_back(self, hands: &mut Hands<'_>) {
        if let Since::After(session, _) = self {
            hands.oracle.leaves(session);
        }
    }
}

impl Book {
    pub(super) fn new(tongue: Tongue, topics: &[String], topics_max: usize) -> Book {
        let topic = |name: &String| Topic {
            name: name.clone(),
            number: None,
            wanted: false,
            asked: VecDeque::new(),
            hearing: None,
            cancelled: false,
            answered: 0,
        };
        Book {
            tongue,
            topics_max,
            topics: topics.iter().map(topic).collect(),
            latest: 0,
            requests: 0,
            publishes: BTreeMap::new(),
            pings: BTreeSet::new(),
            said: Vec::new(),
        }
    }

    // What it asks.

    /// Enters by the URL of a topic. What is to stand behind it.
    pub(super) fn enter(&mut self, topic: &str, hands: &mut Hands<'_>) -> String {
        let Some(index) = self.topics.iter().position(|it| it.name == topic) else { return String::new() };
        let since = self.subscribe_as(index, None, hands);
        since.map_or_else(String::new, |since| format!("?since={since}"))
    }

    /// Any request that makes sense.
    pub(super) fn ask(&mut self, bytes_max: usize, hands: &mut Hands<'_>) -> String {
        // Often the same again, so that much of what one tick has to say to a topic is one publisher's.
        if hands.rng.chance(50) {
            self.latest = hands.rng.below(self.topics.len());
        }
        let index = self.latest;
        let number = self.topics[index].number;
        self.requests += 1;
        let request = self.requests;
        match hands.rng.below(10) {
            0..=3 if !self.topics[index].wanted && !self.topics[index].is_asked_for() => {
                let since = self.subscribe_as(index, Some(request), hands);
                self.tongue.subscribe(request, &self.topics[index].name, since.as_deref())
            }
            1 if self.topics[index].wanted => {
                let topic = &mut self.topics[index];
                topic.asked.push_back(Asked { request: Some(request), what: What::Again });
                self.tongue.subscribe(request, &topic.name, None)
            }
            2 | 3 if self.tongue == Tongue::V1 || number.is_some() => {
                let topic = &mut self.topics[index];
                topic.wanted = false;
                topic.asked.push_back(Asked { request: Some(request), what: What::Unsubscribe });
                self.tongue.unsubscribe(request, &topic.name, number)
            }
            4 if self.tongue == Tongue::V1 => {
                self.pings.insert(request);
                v1::ping(request)
            }
            _ => self.publish(index, request, bytes_max, hands),
        }
    }

    fn subscribe_as(&mut self, index: usize, request: Option<u64>, hands: &mut Hands<'_>) -> Option<String> {
        let full = self.topics.iter().filter(|topic| topic.wanted).count() >= self.topics_max;
        let topic = &mut self.topics[index];
        let away = if hands.rng.chance(70) {
            hands.oracle.comes_back(&topic.name, self.tongue.is_silent())
        } else {
            None
        };
        let since = match away {
            Some((session, place)) => Since::After(session, place),
            None if hands.rng.chance(25) => Since::AllKept,
            None => Since::Now,
        };
        topic.wanted = !full;
        topic.asked.push_back(Asked { request, what: What::Subscribe { since, full, at: hands.net.now } });
        since.text()
    }

    fn publish(&mut self, index: usize, request: u64, bytes_max: usize, hands: &mut Hands<'_>) -> String {
        let kind = hands.rng.pick(&[Kind::Text, Kind::Text, Kind::Json, Kind::Binary]);
        let (before, after) = match kind {
            Kind::Json => {
                let arguments = self.tongue == Tongue::Wamp || hands.rng.chance(50);
                let (before, after) = json(arguments, bytes_max, hands.rng);
                (before, after.into_bytes())
            }
            Kind::Text | Kind::Binary => ("", padding(kind, bytes_max, hands.rng)),
        };
        let exclusion = hands.rng.pick(&[Exclusion::Unsaid, Exclusion::Said(true), Exclusion::Said(false)]);
        let topic = &self.topics[index].name;
        let saying = Saying {
            topic,
            kind,
            before: before.as_bytes(),
            after: &after,
            by: Some(hands.wire),
            excluded: self.tongue == Tongue::Wamp && exclusion != Exclusion::Said(false),
        };
        let (id, payload) = hands.oracle.say(saying, hands.net.now);
        self.said.push(id);
        // What names no request must not be refused while something else does not either.
        let answered = hands.rng.chance(70) || self.topics.iter().any(Topic::is_entered);
        if answered {
            self.publishes.insert(request, (index, id));
        }
        self.tongue.publish(request, topic, (kind, &payload), (answered, exclusion))
    }

    // What it is told.

    /// Holds what the server says against what was asked.
    pub(super) fn hear(&mut self, said: Said, hands: &mut Hands<'_>) -> Result<(), String> {
        match said {
            Said::Subscribed { request, which, begins } => self.subscribed(request, &which, begins, hands),
            Said::Unsubscribed { request } => self.unsubscribed(request, hands),
            Said::Published { request, at, publication } => {
                self.published(request, at.as_ref(), publication, hands)
            }
            Said::Pong { request } => {
                self.pings.remove(&request).then_some(()).ok_or_else(|| String::from("a pong for no ping"))
            }
            Said::Message { which, place, kind, payload, publication } => {
                self.message(&which, place, (kind, &payload), publication, hands)
            }
            Said::Gap { topic, missing, previous } => self.gap(topic, missing, previous, hands),
            Said::Refused { request, why } => self.refused(request, &why, hands),
            Said::Welcome | Said::Goodbye => Err(String::from("a word that does not belong here")),
        }
    }

    fn subscribed(
        &mut self,
        request: Option<u64>,
        which: &Which,
        begins: Option<(Place, Option<bool>)>,
        hands: &mut Hands<'_>,
    ) -> Result<(), String> {
        let now = hands.now();
        let (silent, wire) = (self.tongue.is_silent(), hands.wire);
        let topic = self.awaiting(request).ok_or_else(|| format!("an answer to request {request:?}"))?;
        if !topic.is(which) {
            return Err(format!("subscribed to {which:?}, not to {}", topic.name));
        }
        let (since, full, asked_at) = match topic.asked.pop_front().map(|asked| asked.what) {
            Some(What::Subscribe { since, full, at }) => (since, full, Some(at)),
            Some(What::Again) if silent && topic.hearing.is_some() => return Ok(()),
            // What it asked for before was refused.
            Some(What::Again) if hands.harsh => (Since::Now, false, None),
            _ => return Err(format!("subscribed by request {request:?}, which cannot be")),
        };
        if full && !hands.harsh {
            return Err(String::from("subscribed to more than it may be"));
        }
        topic.wanted |= topic.asked.is_empty();
        let (place, recovered) = begins.map_or((None, None), |(place, recovered)| (Some(place), recovered));
        let asked = !matches!(since, Since::Now);
        if !silent && recovered.is_some() != asked {
            return Err(String::from(
                "told that it recovered or not, and did not ask, or the other way round",
            ));
        }
        let session = match since {
            Since::After(session, (epoch, offset)) => {
                if silent {
                    hands.oracle.resumes_silently(session, wire, now);
                } else {
                    hands.oracle.resumes(session);
                }
                let goes_on = place.is_none_or(|place| place.0 == epoch && place.1 >= offset);
                if recovered == Some(true) && !goes_on {
                    return Err(format!("recovered to {place:?} from {epoch:x}-{offset}"));
                }
                session
            }
            Since::Now | Since::AllKept if silent => {
                hands.oracle.joins_silently(&topic.name, wire, asked, now)
            }
            Since::Now | Since::AllKept => hands.oracle.joins(&topic.name, now),
        };
        if let (Since::Now, Some(place)) = (since, place) {
            hands.oracle.begins(session, place);
        }
        hands.oracle.recovers(session, recovered == Some(true));
        if let (Since::Now, Some(at)) = (since, asked_at) {
            hands.oracle.asked(session, at);
        }
        let until = place.filter(|_| matches!(since, Since::AllKept));
        if let Some(until) = until {
            hands.oracle.hears_all_kept(session, until, now);
        }
        let hearing = Hearing { session, owes_gap: recovered == Some(false), until };
        if topic.hearing.replace(hearing).is_some() {
            return Err(format!("subscribed to {} twice", topic.name));
        }
        Ok(())
    }

    fn unsubscribed(&mut self, request: u64, hands: &mut Hands<'_>) -> Result<(), String> {
        let topic = self.awaiting(Some(request)).ok_or_else(|| format!("an answer to request {request}"))?;
        let Some(Asked { what: What::Unsubscribe, .. }) = topic.asked.pop_front() else {
            return Err(format!("unsubscribed by request {request}, which asked for something else"));
        };
        match topic.hearing.take() {
            Some(hearing) => hands.oracle.leaves(hearing.session),
            None if std::mem::take(&mut topic.cancelled) => {}
            None => return Err(format!("unsubscribed from {}, which it did not hear", topic.name)),
        }
        Ok(())
    }

    fn published(
        &mut self,
        request: u64,
        at: Option<&(String, Place)>,
        publication: Option<u64>,
        hands: &mut Hands<'_>,
    ) -> Result<(), String> {
        let (index, id) =
            self.publishes.remove(&request).ok_or_else(|| format!("an answer to publish {request}"))?;
        let topic = &mut self.topics[index];
        if std::mem::replace(&mut topic.answered, request) > request {
            return Err(format!("publish {request} was answered after one behind it"));
        }
        if let Some((name, place)) = at {
            if *name != topic.name {
                return Err(format!("published in {name} what was said in {}", topic.name));
            }
            hands.oracle.placed(id, *place);
        }
        if let Some(publication) = publication {
            hands.oracle.published(id, publication);
        }
        Ok(())
    }

    fn message(
        &mut self,
        which: &Which,
        place: Place,
        (kind, payload): (Kind, &[u8]),
        publication: Option<u64>,
        hands: &mut Hands<'_>,
    ) -> Result<(), String> {
        let hearing = self.hearing(which)?;
        if hearing.owes_gap {
            return Err(format!("{place:?} of {which:?} where a gap was to come"));
        }
        hearing.begins_by(place)?;
        let session = hearing.session;
        hands.oracle.hears(session, Shown::Told, kind, payload, Some(place));
        if let Some(publication) = publication {
            hands.oracle.hears_called(payload, publication);
        }
        Ok(())
    }

    fn gap(
        &mut self,
        topic: String,
        missing: (u64, u64, u64),
        previous: Option<u64>,
        hands: &mut Hands<'_>,
    ) -> Result<(), String> {
        let hearing = self.hearing(&Which::Name(topic))?;
        hearing.owes_gap = false;
        hearing.begins_by((missing.0, missing.1))?;
        hands.oracle.misses(hearing.session, missing, previous, hands.net.now);
        Ok(())
    }

    fn refused(&mut self, request: Option<u64>, why: &Refusal, hands: &mut Hands<'_>) -> Result<(), String> {
        let wrong = || Err(format!("request {request:?} was refused: {why:?}"));
        if request.is_some_and(|request| self.publishes.remove(&request).is_some()) {
            return if hands.harsh { Ok(()) } else { wrong() };
        }
        if *why == Refusal::AlreadySubscribed && self.asked_again(request) {
            return Ok(());
        }
        let Some(topic) = self.awaiting(request) else {
            // A publish that names no request may be refused too.
            return if hands.harsh && request.is_none() { Ok(()) } else { wrong() };
        };
        let (since, full) = match topic.asked.pop_front().map(|asked| asked.what) {
            Some(What::Subscribe { since, full, .. }) => (since, full),
            // What it asked for before was refused.
            Some(What::Again) if hands.harsh => (Since::Now, false),
            Some(What::Unsubscribe) if *why == Refusal::NotSubscribed => {
                let right = topic.hearing.is_none() && !topic.cancelled;
                return if right { Ok(()) } else { wrong() };
            }
            _ => return wrong(),
        };
        since.give_back(hands);
        topic.wanted &= !topic.asked.is_empty();
        let overtaken = topic.asked.front().is_some_and(|next| matches!(next.what, What::Unsubscribe));
        match why {
            Refusal::Full if full || hands.harsh => Ok(()),
            Refusal::Cancelled if overtaken => {
                topic.cancelled = true;
                Ok(())
            }
            _ => wrong(),
        }
    }

    /// Whether this request asked for what it hears already. The answer to that overtakes others.
    fn asked_again(&mut self, request: Option<u64>) -> bool {
        let again = |asked: &Asked| asked.request == request && matches!(asked.what, What::Again);
        self.topics.iter_mut().any(|topic| {
            let before = topic.asked.len();
            topic.asked.retain(|asked| !again(asked));
            topic.asked.len() < before
        })
    }

    /// The topic whose oldest request this is.
    fn awaiting(&mut self, request: Option<u64>) -> Option<&mut Topic> {
        let asked = |topic: &&mut Topic| topic.asked.front().is_some_and(|asked| asked.request == request);
        self.topics.iter_mut().find(asked)
    }

    fn hearing(&mut self, which: &Which) -> Result<&mut Hearing, String> {
        let found = self.topics.iter_mut().find(|topic| match which {
            Which::Name(name) => topic.name == *name,
            Which::Number(number) => topic.number == Some(*number),
        });
        let hearing = found.and_then(|topic| topic.hearing.as_mut());
        hearing.ok_or_else(|| format!("told of {which:?}, which it does not hear"))
    }

    // The end.

    /// Whether it waits for an answer.
    pub(super) fn is_owed(&self) -> bool {
        let asked = self.topics.iter().any(|topic| !topic.asked.is_empty());
        asked || !self.publishes.is_empty() || !self.pings.is_empty()
    }

    /// All that was said must be ordered, unless it could be refused.
    pub(super) fn certain(&mut self, hands: &mut Hands<'_>) {
        for id in self.said.drain(..).filter(|_| !hands.harsh) {
            hands.oracle.must_be_ordered(id);
        }
    }

    /// It hears nothing any more.
    pub(super) fn close(&mut self, hands: &mut Hands<'_>) {
        for topic in &mut self.topics {
            if let Some(hearing) = topic.hearing.take() {
                hands.oracle.leaves(hearing.session);
            }
            for asked in topic.asked.drain(..) {
                if let What::Subscribe { since, .. } = asked.what {
                    since.give_back(hands);
                }
            }
        }
    }
}

impl Topic {
    /// Whether its URL was entered by, and that was not answered yet.
    fn is_entered(&self) -> bool {
        self.asked.front().is_some_and(|asked| asked.request.is_none())
    }

    /// Whether the last request asks to hear it, though it may be refused.
    fn is_asked_for(&self) -> bool {
        self.asked.back().is_some_and(|asked| matches!(asked.what, What::Subscribe { .. }))
    }

    /// Whether that is it; from now on it has this number.
    fn is(&mut self, which: &Which) -> bool {
        match which {
            Which::Name(name) => *name == self.name,
            Which::Number(number) => *self.number.get_or_insert(*number) == *number,
        }
    }
}

impl Hearing {
    /// What comes first must leave out nothing of what was said after its beginning.
    fn begins_by(&mut self, first: Place) -> Result<(), String> {
        match self.until.take() {
            Some(until) if first.0 != until.0 || first.1 > until.1 + 1 => {
                Err(format!("told first of {first:?}, and that live begins after {until:?}"))
            }
            _ => Ok(()),
        }
    }
}
