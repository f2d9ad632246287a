//! What is kept for a session between two messages, and what its protocol does with it.

use std::collections::{HashMap, VecDeque};

use moongate_hub::{
    Joined, Kind, Name, Patience, Published, Rejection, Start, Subscribed, SubscriptionId, Token,
};
use moongate_io::ConnId;
use moongate_wire::protocol::Protocol;
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use super::spoken;
use crate::conn::Place;
use crate::core::{Core, token};

/// What a connection that speaks a subprotocol hears, and what it waits for.
pub(crate) struct Session {
    pub(super) protocol: Protocol,
    /// Payload bytes published and not yet ordered.
    pub(crate) window: u32,
    /// Whether the peer has said hello, where that is how a conversation begins.
    pub(super) established: bool,
    /// What the last request was numbered.
    request: u32,
    /// Subscribes that the topics' homes are yet to answer.
    pub(super) subscribing: u32,
    /// Whether one of them wants what is kept: then nothing else is done before it is answered.
    pub(super) resuming: bool,
    /// By name.
    pub(super) subscriptions: Vec<Subscription>,
    /// Publishes that the topics' homes are yet to answer, oldest first; empty most of the time, and then without memory.
    publishing: VecDeque<Publishing>,
}

/// A topic that is heard, or will be once its home has answered.
pub(super) struct Subscription {
    pub(super) name: Name,
    pub(super) id: SubscriptionId,
}

/// A publish that is to be answered.
pub(super) struct Publishing {
    request: u32,
    pub(super) id: Box<str>,
    pub(super) name: Name,
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
pub(super) enum Begun {
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
    pub(super) fn take_first(&mut self, id: SubscriptionId) -> Option<Asked> {
        let asked = self.first.remove(&id);
        if self.first.is_empty() && self.first.capacity() > SUBSCRIBING_KEPT {
            // Many came back at once, and it is over.
            self.first.shrink_to(SUBSCRIBING_KEPT);
        }
        asked
    }

    /// Those that asked for the same meanwhile, which are answered after it.
    pub(super) fn take_more(&mut self, id: SubscriptionId) -> Vec<Asked> {
        self.more.remove(&id).unwrap_or_default()
    }

    /// All that asked for this and are yet to be answered, in order.
    pub(super) fn take_all(&mut self, id: SubscriptionId) -> Vec<Asked> {
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
    pub(super) fn new(protocol: Protocol) -> Session {
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
    pub(super) fn name(&self, id: SubscriptionId) -> Option<&Name> {
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
    pub(super) fn answered(&mut self, request: u32) -> Option<Publishing> {
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

/// A peer's turn: what is said by whom, in which conversation, and where answers go until the turn ends.
pub(super) struct Turn<'t> {
    pub(super) core: &'t mut Core,
    pub(super) id: ConnId,
    pub(super) session: &'t mut Session,
    pub(super) words: &'t mut Vec<u8>,
}

// What protocols are made of.

impl Turn<'_> {
    /// Sends the answers so far: what comes next may be sent before the turn ends.
    pub(super) fn send_words(&mut self) {
        self.core.push_echoes(self.id, self.words);
    }

    /// Begins to hear `topic`, in the form `which` of the protocol's.
    pub(super) fn begin_hearing(
        &mut self,
        topic: &TopicName,
        since: Option<Since>,
        which: usize,
        asked: Asked,
    ) -> Begun {
        let session = &mut *self.session;
        let Err(at) = session.find(topic.as_str()) else { return Begun::Already };
        if session.subscriptions.len() >= self.core.config.subscription_topics_max as usize {
            return Begun::Full;
        }
        let hub = &mut self.core.hub;
        let (name, form) = (hub.name(topic.as_str()), spoken(session.protocol).forms[which]);
        let (subscription, begun) = match hub.subscribe(self.id, name.clone(), form, start(since)) {
            Subscribed::Now(joined) => (joined.subscription, Begun::Now(name.clone(), joined)),
            Subscribed::Later(subscription) => {
                session.subscribing += 1;
                session.resuming |= asked.resumes;
                hub.encoder().subscribing.first.insert(subscription, asked);
                (subscription, Begun::Later)
            }
        };
        // The one all subscribers share.
        let name = hub.subscribed_name(subscription).unwrap_or(name);
        session.subscriptions.insert(at, Subscription { name, id: subscription });
        begun
    }

    /// Has `asked` be answered together with a subscribe to the same topic that still waits. Whether there is one.
    pub(super) fn wait_with_first(&mut self, topic: &str, asked: Asked) -> bool {
        let Ok(at) = self.session.find(topic) else { return false };
        let waits = self.core.hub.encoder().subscribing.join(self.session.subscriptions[at].id, asked);
        self.session.subscribing += u32::from(waits);
        waits
    }

    /// Ends hearing `topic`. What its subscribes asked, if they were not answered yet; none at all if it is not heard.
    pub(super) fn end_hearing(&mut self, topic: &str) -> Option<Vec<Asked>> {
        let at = self.session.find(topic).ok()?;
        let Subscription { id, .. } = self.session.subscriptions.remove(at);
        let all = self.core.leave_topic(id);
        self.session.subscribing -= all.len() as u32;
        Some(all)
    }

    /// Says something to a topic. With an `id` it is answered once it has its place.
    pub(super) fn say(
        &mut self,
        topic: &TopicName,
        (kind, payload): (Kind, &[u8]),
        (id, excluded): (Option<&str>, Option<ConnId>),
    ) -> Result<(), Rejection> {
        let session = &mut *self.session;
        let name = match session.find(topic.as_str()) {
            Ok(at) => session.subscriptions[at].name.clone(),
            Err(_) => self.core.hub.name(topic.as_str()),
        };
        let request = if id.is_some() { session.number() } else { 0 };
        let token = Token { request, ..token(self.id) };
        match self.core.hub.publish(token, &name, kind, payload, Patience::Waits, excluded) {
            Published::Pending => {
                session.window = session.window.saturating_add(payload.len() as u32);
                session.publishing.extend(id.map(|id| Publishing { request, id: id.into(), name }));
                Ok(())
            }
            Published::Rejected(why) => Err(why),
        }
    }
}

impl Core {
    /// Ends a subscription. What those asked that are yet to be answered, if it is a session's.
    pub(crate) fn leave_topic(&mut self, id: SubscriptionId) -> Vec<Asked> {
        self.hub.unsubscribe(id);
        self.hub.encoder().subscribing.take_all(id)
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
