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
    Form, Gap, Joined, Kind, Message, Name, Ordered, Patience, Published, Rejection, SampleKind, Snapshot,
    Start, Subscribed, SubscriptionId, Token,
};
use moongate_io::ConnId;
use moongate_wire::protocol::{Protocol, SUBPROTOCOLS};
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use crate::conn::{Mode, Place, Speaking};
use crate::core::{Core, token};
use crate::forms::Forms;
use crate::speak::Unwelcome;

/// The form in which who speaks a protocol gets messages.
pub(crate) const fn form(protocol: Protocol) -> Form {
    match protocol {
        Protocol::V1 => Form(9),
        Protocol::Wamp => Form(10),
    }
}

/// The protocol that a form is for.
fn spoken(form: Form) -> Protocol {
    let mut all = SUBPROTOCOLS.iter().map(|known| known.protocol);
    all.find(|protocol| self::form(*protocol) == form)
        .unwrap_or_else(|| unreachable!("{form:?} is no protocol's"))
}

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
    /// Whether one of them wants what is kept: then nothing else is done before it is answered.
    resuming: bool,
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
#[derive(Debug, Default)]
pub(crate) struct Subscribing {
    first: HashMap<SubscriptionId, Asked>,
    /// Those that asked for the same while the first waited: nearly always none.
    more: HashMap<SubscriptionId, Vec<Asked>>,
}

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

impl Subscribing {
    /// The first that asked for this, which is answered now.
    fn take_first(&mut self, id: SubscriptionId) -> Option<Asked> {
        let asked = self.first.remove(&id);
        if self.first.is_empty() && self.first.capacity() > SUBSCRIBING_KEPT {
            // Many came back at once, and it is over.
            self.first.shrink_to(SUBSCRIBING_KEPT);
        }
        asked
    }

    /// Those that asked for the same meanwhile, which are answered after it.
    fn take_more(&mut self, id: SubscriptionId) -> Vec<Asked> {
        self.more.remove(&id).unwrap_or_default()
    }

    /// All that asked for this and are yet to be answered, in order.
    fn take_all(&mut self, id: SubscriptionId) -> Vec<Asked> {
        self.take_first(id).into_iter().chain(self.take_more(id)).collect()
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.more.is_empty()
    }

    /// Has `asked` wait with the first, if that still does.
    fn join(&mut self, id: SubscriptionId, asked: Asked) -> bool {
        let waits = self.first.contains_key(&id);
        if waits {
            self.more.entry(id).or_default().push(asked);
        }
        waits
    }
}

impl Session {
    fn new(protocol: Protocol) -> Session {
        Session {
            protocol,
            window: 0,
            established: false,
            request: 0,
            subscribing: 0,
            resuming: false,
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

    /// The topic of a subscription.
    fn name(&self, id: SubscriptionId) -> Option<&Name> {
        self.subscriptions
            .iter()
            .find(|subscription| subscription.id == id)
            .map(|subscription| &subscription.name)
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

    /// A subscription of a session has begun, and was answered. Who asked for it more than once is answered so often.
    pub(crate) fn session_joined(&mut self, joined: &Joined, mut speaking: Speaking) {
        let id = joined.conn;
        if let Place::Session(session) = &mut speaking.place {
            session.resuming &= !joined.asked;
            let more = self.hub.encoder().subscribing.take_more(joined.subscription);
            session.subscribing -= 1 + more.len() as u32;
            if let (Some(name), false) = (session.name(joined.subscription), more.is_empty()) {
                self.push(id, |_, out| {
                    for asked in &more {
                        match session.protocol {
                            Protocol::V1 => v1::subscribed(asked, name, joined, out),
                            Protocol::Wamp => wamp::subscribed(asked, name, joined, out),
                        }
                    }
                });
            }
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
        let all = self.hub.encoder().subscribing.take_all(subscription);
        if let (Place::Session(session), false) = (&mut speaking.place, all.is_empty()) {
            session.subscribing -= all.len() as u32;
            session.resuming &= !all[0].resumes;
            session.subscriptions.retain(|it| it.id != subscription);
            self.push(id, |_, out| {
                for asked in &all {
                    match session.protocol {
                        Protocol::V1 => v1::refused(asked.id.as_deref(), why, out),
                        Protocol::Wamp => wamp::subscribe_refused(asked.id.as_deref(), why, out),
                    }
                }
            });
        }
        self.widen(id, speaking, 0);
    }
}

impl Core {
    /// How many sessions there are, by protocol.
    pub(crate) fn show_sessions(&self, shot: &mut Snapshot) {
        let mut open = [0_u64; SUBPROTOCOLS.len()];
        for (_, mode) in self.conns.iter() {
            if let Mode::Speaking(Speaking { place: Place::Session(session), .. }) = mode
                && let Some(row) = SUBPROTOCOLS.iter().position(|known| known.protocol == session.protocol)
            {
                open[row] += 1;
            }
        }
        for (known, open) in SUBPROTOCOLS.iter().zip(open) {
            let help = "WebSockets that speak a subprotocol, by its name; closing ones are not among them.";
            let labels = [("protocol", known.name)];
            shot.labelled(SampleKind::Gauge, "moongate_sessions", help, &labels, open as f64);
        }
    }
}

/// The forms of the protocols.
impl Forms {
    /// Appends a message for those who speak a protocol.
    pub(crate) fn tell(&mut self, form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        match spoken(form) {
            Protocol::V1 => v1::message(message, out),
            Protocol::Wamp => wamp::message(message, out),
        }
    }

    /// Appends the answer to a subscribe.
    pub(crate) fn greet(&mut self, form: Form, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
        let Some(asked) = self.subscribing.take_first(joined.subscription) else { return };
        match spoken(form) {
            Protocol::V1 => v1::subscribed(&asked, name, joined, out),
            Protocol::Wamp => wamp::subscribed(&asked, name, joined, out),
        }
    }

    /// Appends what is said in place of messages.
    pub(crate) fn tell_gap(&mut self, form: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
        match spoken(form) {
            Protocol::V1 => v1::gap(gap, out),
            // It has no word for that: events show by their places that some are missing.
            Protocol::Wamp => {}
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
        since: Option<Since>,
        asked: Asked,
    ) -> Begun {
        let Err(at) = session.find(topic.as_str()) else { return Begun::Already };
        if session.subscriptions.len() >= self.config.subscription_topics_max as usize {
            return Begun::Full;
        }
        let (name, form) = (self.hub.name(topic.as_str()), form(session.protocol));
        let (subscription, begun) = match self.hub.subscribe(id, name.clone(), form, start(since)) {
            Subscribed::Now(joined) => (joined.subscription, Begun::Now(name.clone(), joined)),
            Subscribed::Later(subscription) => {
                session.subscribing += 1;
                session.resuming |= asked.resumes;
                self.hub.encoder().subscribing.first.insert(subscription, asked);
                (subscription, Begun::Later)
            }
        };
        // The one all subscribers share.
        let name = self.hub.subscribed_name(subscription).unwrap_or(name);
        session.subscriptions.insert(at, Subscription { name, id: subscription });
        begun
    }

    /// Has `asked` be answered together with a subscribe to the same topic that still waits. Whether there is one.
    fn wait_with_first(&mut self, session: &mut Session, topic: &str, asked: Asked) -> bool {
        let Ok(at) = session.find(topic) else { return false };
        let waits = self.hub.encoder().subscribing.join(session.subscriptions[at].id, asked);
        session.subscribing += u32::from(waits);
        waits
    }

    /// Ends hearing `topic`. What its subscribes asked, if they were not answered yet; none at all if it is not heard.
    fn end_hearing(&mut self, session: &mut Session, topic: &str) -> Option<Vec<Asked>> {
        let at = session.find(topic).ok()?;
        let Subscription { id, .. } = session.subscriptions.remove(at);
        let all = self.leave_topic(id);
        session.subscribing -= all.len() as u32;
        Some(all)
    }

    /// Ends a subscription. What those asked that are yet to be answered, if it is a session's.
    pub(crate) fn leave_topic(&mut self, id: SubscriptionId) -> Vec<Asked> {
        self.hub.unsubscribe(id);
        self.hub.encoder().subscribing.take_all(id)
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

    /// Whether a session's next request has to wait: as many are unanswered as may be, or it is to be sent much.
    pub(crate) fn session_is_full(&self, id: ConnId, session: &Session) -> bool {
        session.in_flight() >= self.config.requests_in_flight_max as usize || self.is_sent_much(id, session)
    }

    /// Whether half of them are answered, so that there is something to do when it is read from again.
    pub(crate) fn session_has_room(&self, id: ConnId, place: &Place) -> bool {
        let Place::Session(session) = place else { return true };
        session.in_flight() <= self.config.requests_in_flight_max as usize / 2
            && !self.is_sent_much(id, session)
    }

    /// Who comes back to many topics gets what they keep one after the other: each may take half of its outbox, and a
    /// quarter is left for what is said meanwhile.
    fn is_sent_much(&self, id: ConnId, session: &Session) -> bool {
        session.resuming || self.hub.outboxes.past_quarter(id.slot())
    }
}

#[cfg(test)]
mod tests {
    use moongate_hub::FORMS_MAX;

    use super::*;
    use crate::forms::LAST_DEFLATED;

    #[test]
    fn a_session_is_small() {
        // With room for sixteen subscriptions; what the hub keeps for each is measured by a test from outside.
        let bytes = size_of::<Session>() + 16 * size_of::<Subscription>();
        assert!(bytes <= 336, "{bytes}");
    }

    #[test]
    fn every_protocol_has_a_form_of_its_own() {
        for known in SUBPROTOCOLS {
            let form = form(known.protocol);
            assert!(form.0 > LAST_DEFLATED.0 && usize::from(form.0) < FORMS_MAX, "{form:?}");
            assert_eq!(spoken(form), known.protocol, "{form:?} is one protocol's");
        }
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
