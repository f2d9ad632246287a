//! Conversations in a subprotocol: many topics on one WebSocket.
//!
//! A [`Session`] knows which topics its connection hears and which of its requests are yet to be answered; what requests
//! and answers look like is known to one file for each protocol, and what it takes to add another is in
//! docs/adding-a-protocol.md. What subscribers are sent is a [`Form`] like any other, written once for all of them. That
//! goes for the answer to a subscribe too, which has to come right before what the subscription hears: the hub asks for it
//! at that moment, and [`Subscribing`] keeps what it must name until then.

mod v1;
mod wamp;

use std::collections::{HashMap, VecDeque};

use moongate_hub::{
    Form, Gap, Joined, Kind, Message, Name, Ordered, Patience, Published, Rejection, Start, Subscribed,
    SubscriptionId, Token,
};
use moongate_io::ConnId;
use moongate_wire::protocol::Protocol;
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use crate::conn::{Place, Speaking};
use crate::core::{Core, token};
use crate::forms::Forms;
use crate::speak::Unwelcome;

/// Messages of `moongate.v1`.
pub(crate) const V1: Form = Form(9);
/// Events of WAMP.
pub(crate) const WAMP: Form = Form(10);

/// What a connection that speaks a subprotocol hears, and what it waits for.
pub(crate) struct Session {
    protocol: Protocol,
    /// Payload bytes published and not yet ordered.
    pub(crate) window: u32,
    /// Whether the peer has said hello, where that is how a conversation begins.
    established: bool,
    /// What the last request was numbered.
    request: u32,
    /// Subscribes that the topics' homes are yet to answer.
    subscribing: u32,
    /// By name.
    subscriptions: Vec<Subscription>,
    /// Publishes that the topics' homes are yet to answer, oldest first; empty most of the time, and then without memory.
    publishing: VecDeque<Publishing>,
}

/// A topic that is heard, or will be once its home has answered.
struct Subscription {
    name: Name,
    id: SubscriptionId,
}

/// A publish that is to be answered.
struct Publishing {
    request: u32,
    id: Box<str>,
    name: Name,
}

/// A subscribe that is to be answered.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What the answer names.
    pub(crate) id: Option<Box<str>>,
    /// Whether an answer is wanted at all.
    pub(crate) is_answered: bool,
    /// Whether it asked to begin earlier than now.
    pub(crate) resumes: bool,
}

/// For how many subscribes room is kept while there are none.
const SUBSCRIBING_KEPT: usize = 1024;

/// The subscribes of a shard's sessions that the topics' homes are yet to answer.
pub(crate) type Subscribing = HashMap<SubscriptionId, Asked>;

/// What became of a subscribe.
enum Begun {
    /// It hears from now on what comes after this.
    Now(Name, Joined),
    /// The answer will come.
    Later,
    /// It hears the topic already.
    Already,
    /// It hears as many as it may.
    Full,
}

impl Session {
    fn new(protocol: Protocol) -> Session {
        Session {
            protocol,
            window: 0,
            established: false,
            request: 0,
            subscribing: 0,
            subscriptions: Vec::new(),
            publishing: VecDeque::new(),
        }
    }

    /// Requests that wait for their answers.
    pub(crate) fn in_flight(&self) -> usize {
        self.publishing.len() + self.subscribing as usize
    }

    /// What it hears.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> {
        self.subscriptions.iter().map(|subscription| subscription.id)
    }

    fn find(&self, topic: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|subscription| subscription.name.as_str().cmp(topic))
    }

    /// Numbers a request. Zero is for those that need no answer.
    fn number(&mut self) -> u32 {
        self.request = self.request.checked_add(1).unwrap_or(1);
        self.request
    }

    /// The publish with this number, which is answered now.
    fn answered(&mut self, request: u32) -> Option<Publishing> {
        let at = self.publishing.iter().position(|publishing| publishing.request == request)?;
        let publishing = self.publishing.remove(at);
        if self.publishing.is_empty() {
            self.publishing = VecDeque::new();
        }
        publishing
    }
}

/// Where a subscription begins that names `since`.
pub(crate) fn start(since: Option<Since>) -> Start {
    match since {
        None => Start::Now,
        Some(Since::AllKept) => Start::AllKept,
        Some(Since::After { epoch, offset }) => Start::After { epoch, offset },
    }
}

// What every protocol says and hears, by the one that is spoken.

impl Core {
    /// Begins a conversation, with what the URL asks for.
    pub(crate) fn open_session(
        &mut self,
        id: ConnId,
        protocol: Protocol,
        topic: Option<&TopicName>,
        since: Option<Since>,
    ) -> Place {
        let mut session = Box::new(Session::new(protocol));
        let mut words = Vec::new();
        match protocol {
            Protocol::V1 => self.begin_v1(id, &mut session, topic, since, &mut words),
            // The client begins, and names topics itself.
            Protocol::Wamp => {}
        }
        self.push_echoes(id, &mut words);
        Place::Session(session)
    }

    /// Acts on one message of the peer; answers go into `words`.
    pub(crate) fn told(
        &mut self,
        id: ConnId,
        session: &mut Session,
        (kind, payload): (Kind, &[u8]),
        words: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        match session.protocol {
            Protocol::V1 => self.told_v1(id, session, (kind, payload), words),
            Protocol::Wamp => self.told_wamp(id, session, (kind, payload), words),
        }
    }

    /// Messages of a session have their places.
    pub(crate) fn session_ordered(&mut self, id: ConnId, session: &mut Session, all: &[Ordered]) {
        self.push(id, |_, out| {
            for ordered in all {
                let Some(publishing) = session.answered(ordered.token.request) else { continue };
                let place = (ordered.epoch, ordered.offset);
                match session.protocol {
                    Protocol::V1 => v1::published(&publishing, place, out),
                    Protocol::Wamp => wamp::published(&publishing, place, out),
                }
            }
        });
    }

    /// A message of a session was not taken.
    pub(crate) fn session_rejected(
        &mut self,
        id: ConnId,
        session: &mut Session,
        token: Token,
        why: Rejection,
    ) {
        let publishing = session.answered(token.request);
        let request = publishing.as_ref().map(|publishing| &*publishing.id);
        self.push(id, |_, out| match session.protocol {
            Protocol::V1 => v1::refused(request, why, out),
            Protocol::Wamp => wamp::publish_refused(request, why, out),
        });
    }

    /// A subscription of a session has begun, and was answered.
    pub(crate) fn session_joined(&mut self, id: ConnId, mut speaking: Speaking) {
        if let Place::Session(session) = &mut speaking.place {
            session.subscribing -= 1;
        }
        self.widen(id, speaking, 0);
    }

    /// The topic's home does not let a session subscribe.
    pub(crate) fn session_refused(
        &mut self,
        id: ConnId,
        mut speaking: Speaking,
        subscription: SubscriptionId,
        why: Rejection,
    ) {
        let asked = self.hub.encoder().answer(subscription);
        if let (Place::Session(session), Some(asked)) = (&mut speaking.place, asked) {
            session.subscribing -= 1;
            session.subscriptions.retain(|it| it.id != subscription);
            self.push(id, |_, out| match session.protocol {
                Protocol::V1 => v1::refused(asked.id.as_deref(), why, out),
                Protocol::Wamp => wamp::subscribe_refused(asked.id.as_deref(), why, out),
            });
        }
        self.widen(id, speaking, 0);
    }
}

/// The forms of the protocols.
impl Forms {
    /// Appends a message for those who speak a protocol.
    pub(crate) fn tell(&mut self, form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        match form {
            V1 => v1::message(message, out),
            WAMP => wamp::message(message, out),
            other => unreachable!("{other:?} is no protocol's"),
        }
    }

    /// What a subscribe asked that is answered now.
    fn answer(&mut self, id: SubscriptionId) -> Option<Asked> {
        let asked = self.subscribing.remove(&id);
        if self.subscribing.is_empty() && self.subscribing.capacity() > SUBSCRIBING_KEPT {
            // Many came back at once, and it is over.
            self.subscribing.shrink_to(SUBSCRIBING_KEPT);
        }
        asked
    }

    /// Appends the answer to a subscribe.
    pub(crate) fn greet(&mut self, form: Form, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
        let Some(asked) = self.answer(joined.subscription) else { return };
        match form {
            V1 => v1::subscribed(&asked, name, joined, out),
            WAMP => wamp::subscribed(&asked, name, joined, out),
            other => unreachable!("{other:?} is no protocol's"),
        }
    }

    /// Appends what is said in place of messages, where events do not show by their places that some are missing.
    pub(crate) fn tell_gap(&mut self, form: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
        if form == V1 {
            v1::gap(gap, out);
        }
    }
}

// What protocols are made of.

impl Core {
    fn begin_hearing(
        &mut self,
        id: ConnId,
        session: &mut Session,
        topic: &TopicName,
        form: Form,
        since: Option<Since>,
        asked: Asked,
    ) -> Begun {
        let Err(at) = session.find(topic.as_str()) else { return Begun::Already };
        if session.subscriptions.len() >= self.config.subscription_topics_max as usize {
            return Begun::Full;
        }
        let name = self.hub.name(topic.as_str());
        let (subscription, begun) = match self.hub.subscribe(id, name.clone(), form, start(since)) {
            Subscribed::Now(joined) => (joined.subscription, Begun::Now(name.clone(), joined)),
            Subscribed::Later(subscription) => {
                session.subscribing += 1;
                self.hub.encoder().subscribing.insert(subscription, asked);
                (subscription, Begun::Later)
            }
        };
        // The one all subscribers share.
        let name = self.hub.subscribed_name(subscription).unwrap_or(name);
        session.subscriptions.insert(at, Subscription { name, id: subscription });
        begun
    }

    /// Ends hearing `topic`. What its subscribe asked, if that was not answered yet; none at all if it is not heard.
    fn end_hearing(&mut self, session: &mut Session, topic: &str) -> Option<Option<Asked>> {
        let at = session.find(topic).ok()?;
        let Subscription { id, .. } = session.subscriptions.remove(at);
        let asked = self.leave_topic(id);
        if asked.is_some() {
            session.subscribing -= 1;
        }
        Some(asked)
    }

    /// Ends a subscription. What it asked, if it is a session's that was not answered yet.
    pub(crate) fn leave_topic(&mut self, id: SubscriptionId) -> Option<Asked> {
        self.hub.unsubscribe(id);
        self.hub.encoder().answer(id)
    }

    /// Says something to a topic. With an `id` it is answered once it has its place.
    fn say(
        &mut self,
        conn: ConnId,
        session: &mut Session,
        topic: &TopicName,
        (kind, payload): (Kind, &[u8]),
        (id, excluded): (Option<&str>, Option<ConnId>),
    ) -> Result<(), Rejection> {
        let name = match session.find(topic.as_str()) {
            Ok(at) => session.subscriptions[at].name.clone(),
            Err(_) => self.hub.name(topic.as_str()),
        };
        let request = if id.is_some() { session.number() } else { 0 };
        let token = Token { request, ..token(conn) };
        match self.hub.publish(token, &name, kind, payload, Patience::Waits, excluded) {
            Published::Pending => {
                session.window = session.window.saturating_add(payload.len() as u32);
                session.publishing.extend(id.map(|id| Publishing { request, id: id.into(), name }));
                Ok(())
            }
            Published::Rejected(why) => Err(why),
        }
    }

    /// Whether as many requests of a session are unanswered as may be.
    pub(crate) fn requests_are_full(&self, speaking: &Speaking) -> bool {
        speaking.place.in_flight() >= self.config.requests_in_flight_max as usize
    }

    /// Whether half of them are answered, so that there is something to do when it is read from again.
    pub(crate) fn requests_have_room(&self, speaking: &Speaking) -> bool {
        speaking.place.in_flight() <= self.config.requests_in_flight_max as usize / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        // With room for sixteen subscriptions; what the hub keeps for each is measured by a test from outside.
        let bytes = size_of::<Session>() + 16 * size_of::<Subscription>();
        assert!(bytes <= 336, "{bytes}");
    }

    #[test]
    fn requests_are_found_by_their_numbers_and_leave_nothing_behind() {
        let mut session = Session::new(Protocol::V1);
        session.request = u32::MAX - 1;
        let name = moongate_hub::HashKey::new([0; 16]).name("t");
        for id in ["a", "b", "c"] {
            let request = session.number();
            session.publishing.push_back(Publishing { request, id: id.into(), name: name.clone() });
        }
        session.subscribing = 2;
        assert_eq!(session.in_flight(), 5);
        let mut answered = |request| session.answered(request).map(|publishing| publishing.id);
        assert_eq!(answered(0), None, "which is nobody's number");
        assert_eq!(answered(1).as_deref(), Some("b"));
        assert_eq!(answered(1), None);
        assert_eq!(answered(u32::MAX).as_deref(), Some("a"));
        assert_eq!(answered(2).as_deref(), Some("c"));
        assert_eq!((session.in_flight(), session.publishing.capacity()), (2, 0));
    }
}
