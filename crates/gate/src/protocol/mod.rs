//! Conversations in a subprotocol: many topics on one WebSocket.
//!
//! A [`Session`] knows which topics its connection hears and which of its requests are yet to be answered; what requests
//! and answers look like is known to one file for each protocol, which has its [`Conversation`], and what it takes to add
//! another is in docs/adding-a-protocol.md. What subscribers are sent is a [`Form`] like any other, written once for all of
//! them. That goes for the answer to a subscribe too, which has to come right before what the subscription hears: the hub
//! asks for it at that moment, and [`Subscribing`] keeps what it must name until then.

mod session;
mod v1;
mod wamp;

use moongate_hub::{
    Form, Gap, Joined, Kind, Message, Name, Ordered, Rejection, SampleKind, Snapshot, SubscriptionId, Token,
};
use moongate_io::ConnId;
use moongate_wire::frame::{Opcode, encode_with};
use moongate_wire::protocol::{Error, Protocol, SUBPROTOCOLS};
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use self::session::{Asked, Begun, Publishing, Turn};
use crate::conn::{Mode, Place, Speaking};
use crate::core::Core;
use crate::forms::Forms;
use crate::speak::Unwelcome;

pub(crate) use self::session::{Session, Subscribing, start};

/// A protocol: what is made of what a peer says, and how it is answered. What a conversation has come to is in its
/// [`Session`].
trait Conversation {
    /// Begins, with what the URL asks for. Where the client begins, and names topics itself, there is nothing to do.
    fn begin(&self, _turn: &mut Turn<'_>, _topic: Option<&TopicName>, _since: Option<Since>) {}

    /// Acts on one message of the peer.
    fn told(&self, turn: &mut Turn<'_>, said: (Kind, &[u8])) -> Result<(), Unwelcome>;

    /// Appends the answer to a publish, which has its place: an epoch and an offset.
    fn published(&self, publishing: &Publishing, place: (u64, u64), out: &mut Vec<u8>);

    /// Appends the answer to a subscribe, which has begun to hear.
    fn subscribed(&self, asked: &Asked, name: &Name, joined: &Joined, out: &mut Vec<u8>);

    /// Appends the answer to a request that the topic's home does not do. Without an `id`, none was to be answered.
    fn refused(&self, request: Request, id: Option<&str>, why: Rejection, out: &mut Vec<u8>);

    /// Appends a message for those who hear it in the form `which` of the protocol's, counted from 0.
    fn message(&self, which: usize, message: &Message<'_>, out: &mut Vec<u8>);

    /// Appends what they are told in place of messages, if the form has a word for that.
    fn gap(&self, which: usize, gap: &Gap<'_>, out: &mut Vec<u8>);
}

/// What can be asked of a topic's home.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Request {
    Subscribe,
    Publish,
}

/// How a protocol is spoken here.
struct Spoken {
    by: &'static dyn Conversation,
    /// The forms in which messages are heard, which no other protocol has.
    forms: &'static [Form],
}

/// The one place that names all protocols.
const fn spoken(protocol: Protocol) -> Spoken {
    match protocol {
        Protocol::V1 => Spoken { by: &v1::V1, forms: &[Form(9)] },
        Protocol::Wamp => Spoken { by: &wamp::Wamp, forms: &[Form(10), Form(11)] },
    }
}

/// Whose form this is, and which of its forms.
fn spoken_in(form: Form) -> (&'static dyn Conversation, usize) {
    let mut all = SUBPROTOCOLS.iter().map(|known| spoken(known.protocol));
    all.find_map(|spoken| Some((spoken.by, spoken.forms.iter().position(|other| *other == form)?)))
        .unwrap_or_else(|| unreachable!("{form:?} is no protocol's"))
}

/// What a home's refusal is to a client.
fn error(why: Rejection) -> Error {
    match why {
        Rejection::TopicsFull => Error::TOPICS_FULL,
        Rejection::Busy => Error::BUSY,
    }
}

/// Appends a text frame.
fn text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_with(Opcode::Text, out, write);
}

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
        let mut turn = Turn { core: self, id, session: &mut session, words: &mut words };
        spoken(protocol).by.begin(&mut turn, topic, since);
        self.push_echoes(id, &mut words);
        Place::Session(session)
    }

    /// Acts on one message of the peer; answers go into `words`.
    pub(crate) fn told(
        &mut self,
        id: ConnId,
        session: &mut Session,
        said: (Kind, &[u8]),
        words: &mut Vec<u8>,
    ) -> Result<(), Unwelcome> {
        let by = spoken(session.protocol).by;
        by.told(&mut Turn { core: self, id, session, words }, said)
    }

    /// Messages of a session have their places.
    pub(crate) fn session_ordered(&mut self, id: ConnId, session: &mut Session, all: &[Ordered]) {
        let by = spoken(session.protocol).by;
        self.push(id, |_, out| {
            for ordered in all {
                let Some(publishing) = session.answered(ordered.token.request) else { continue };
                by.published(&publishing, (ordered.epoch, ordered.offset), out);
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
        self.push(id, |_, out| spoken(session.protocol).by.refused(Request::Publish, request, why, out));
    }

    /// A subscription of a session has begun, and was answered. Who asked for it more than once is answered so often.
    pub(crate) fn session_joined(&mut self, joined: &Joined, mut speaking: Speaking) {
        let id = joined.conn;
        if let Place::Session(session) = &mut speaking.place {
            session.resuming &= !joined.asked;
            let more = self.hub.encoder().subscribing.take_more(joined.subscription);
            session.subscribing -= 1 + more.len() as u32;
            if let (Some(name), false) = (session.name(joined.subscription), more.is_empty()) {
                let by = spoken(session.protocol).by;
                self.push(id, |_, out| more.iter().for_each(|asked| by.subscribed(asked, name, joined, out)));
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
            let by = spoken(session.protocol).by;
            self.push(id, |_, out| {
                for asked in &all {
                    by.refused(Request::Subscribe, asked.id.as_deref(), why, out);
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
        let (by, which) = spoken_in(form);
        by.message(which, message, out);
    }

    /// Appends the answer to a subscribe.
    pub(crate) fn greet(&mut self, form: Form, name: &Name, joined: &Joined, out: &mut Vec<u8>) {
        let Some(asked) = self.subscribing.take_first(joined.subscription) else { return };
        spoken_in(form).0.subscribed(&asked, name, joined, out);
    }

    /// Appends what is said in place of messages.
    pub(crate) fn tell_gap(&mut self, form: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
        let (by, which) = spoken_in(form);
        by.gap(which, gap, out);
    }
}

#[cfg(test)]
mod tests {
    use moongate_hub::FORMS_MAX;

    use super::*;
    use crate::forms::LAST_DEFLATED;

    #[test]
    fn every_protocol_has_forms_of_its_own() {
        let all = SUBPROTOCOLS.iter().flat_map(|known| spoken(known.protocol).forms);
        let mut numbers: Vec<u8> = all.map(|form| form.0).collect();
        let in_range = |number: &u8| *number > LAST_DEFLATED.0 && usize::from(*number) < FORMS_MAX;
        assert!(numbers.iter().all(in_range), "{numbers:?}");
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "each is one protocol's");
    }
}
