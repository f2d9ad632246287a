//! A shard's connections: what each one is doing, in a table by slot.

use std::net::SocketAddr;

use moongate_hub::{Kind, SubscriptionId};
use moongate_io::ConnId;
use moongate_wire::body::BodyReader;
use moongate_wire::deflate;
use moongate_wire::frame::Decoder;
use moongate_wire::origin::Cors;
use moongate_wire::scan::Scanner;
use moongate_wire::topic::TopicName;

use crate::protocol::Session;
use crate::tunnel::{Exchanging, Tunnel};

/// What a connection is doing. Each mode owns just its own data, and the long-lived ones are small.
#[derive(Default)]
pub(crate) enum Mode {
    /// Nobody is here.
    #[default]
    Vacant,
    /// The request's head is coming in.
    Head(Box<Heading>),
    /// The head is decided; the topic's home is asked to confirm the subscription. The 101 or 200 waits in the outbox.
    Joining(Box<Joining>),
    /// The body of a POST is coming in.
    Body(Box<Posting>),
    /// The topic's home is asked to order the message of a POST.
    Ordering(Box<Ordering>),
    /// A WebSocket.
    Speaking(Speaking),
    /// An event stream.
    Streaming(SubscriptionId),
    /// A request that an upstream answers: being connected, asked, or answered.
    Exchanging(Box<Exchanging>),
    /// A connection to the upstream that `client` is answered by.
    Upstream { client: ConnId },
    /// One end of a tunnel: bytes go to the other end and come from there.
    Tunnel(Tunnel),
    /// The last bytes are on their way out; then RST, because they are not all there should be.
    Breaking,
    /// The last bytes are on their way out: an answer, or a Close.
    Flushing {
        /// Whether the peer has sent its FIN already.
        peer_ended: bool,
    },
    /// Our FIN is out. The peer may still send, so that a RST does not eat what it has yet to read; it is discarded.
    Lingering {
        /// Bytes discarded so far.
        discarded: u32,
    },
    /// Closed; waits for the driver's last word.
    Gone,
}

pub(crate) struct Heading {
    pub(crate) peer: SocketAddr,
    pub(crate) scanner: Scanner,
    /// What has come in, if the head did not fit one lease.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Joining {
    pub(crate) peer: SocketAddr,
    pub(crate) topic: TopicName,
    pub(crate) subscription: SubscriptionId,
    pub(crate) into: Joined,
    /// The 101, where it has to name what only the topic's home knows.
    pub(crate) answer: Option<Vec<u8>>,
    /// The first bytes of the new protocol, which came before its 101 went out.
    pub(crate) early: Vec<u8>,
    pub(crate) paused: bool,
    /// Whether the peer has sent its FIN behind them.
    pub(crate) peer_ended: bool,
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Joined {
    WebSocket(Option<deflate::Agreed>),
    EventStream,
}

pub(crate) struct Posting {
    pub(crate) message: Draft,
    pub(crate) reader: BodyReader,
    pub(crate) body: Vec<u8>,
}

/// A message that a POST brings, without its body.
pub(crate) struct Draft {
    pub(crate) peer: SocketAddr,
    pub(crate) topic: TopicName,
    pub(crate) kind: Kind,
    pub(crate) cors: Cors,
}

pub(crate) struct Ordering {
    pub(crate) message: Draft,
    pub(crate) peer_ended: bool,
}

/// A WebSocket: all an idle one costs, beside its subscription.
pub(crate) struct Speaking {
    pub(crate) decoder: Decoder,
    /// What has come in and has to wait. It is not read from meanwhile.
    pub(crate) stalled: Option<Box<Stalled>>,
    pub(crate) place: Place,
    /// How messages may be compressed, both ways.
    pub(crate) deflate: Option<deflate::Agreed>,
    pub(crate) paused: bool,
    /// When anything last came in, in milliseconds of the driver's time.
    pub(crate) heard_millis: u32,
    /// Whether a ping is out and nothing has come in since.
    pub(crate) awaits_pong: bool,
}

/// What waits for its turn: frames behind a compressed message, or behind more than may be on its way at once.
pub(crate) struct Stalled {
    /// A compressed message whose turn to be inflated has not come, or which takes more than one tick; none if it is the
    /// others that must be done first.
    pub(crate) message: Option<(Kind, Vec<u8>)>,
    /// The frames that came after it.
    pub(crate) rest: Vec<u8>,
    /// Whether the peer has sent its FIN after those.
    pub(crate) peer_ended: bool,
}

/// Where a WebSocket's messages go.
pub(crate) enum Place {
    /// To a topic, which it also hears.
    Topic {
        subscription: SubscriptionId,
        /// Payload bytes published and not yet ordered.
        window: u32,
    },
    /// Back to itself.
    Echo,
    /// To topics that they name.
    Session(Box<Session>),
}

impl Stalled {
    /// What came after `message`, or after what is on its way.
    pub(crate) fn behind(message: Option<(Kind, Vec<u8>)>, rest: &[u8]) -> Stalled {
        Stalled { message, rest: rest.to_vec(), peer_ended: false }
    }
}

impl Joining {
    pub(crate) fn new(
        peer: SocketAddr,
        topic: TopicName,
        subscription: SubscriptionId,
        into: Joined,
    ) -> Joining {
        Joining {
            peer,
            topic,
            subscription,
            into,
            answer: None,
            early: Vec::new(),
            paused: false,
            peer_ended: false,
        }
    }
}

impl Speaking {
    pub(crate) fn new(place: Place, deflate: Option<deflate::Agreed>, now_millis: u32) -> Speaking {
        Speaking {
            decoder: Decoder::default(),
            stalled: None,
            place,
            deflate,
            paused: false,
            heard_millis: now_millis,
            awaits_pong: false,
        }
    }
}

impl Place {
    /// Payload bytes published and not yet ordered.
    pub(crate) fn window(&self) -> u32 {
        match self {
            Place::Topic { window, .. } => *window,
            Place::Session(session) => session.window,
            Place::Echo => 0,
        }
    }

    /// So many of the bytes have been ordered.
    pub(crate) fn widen(&mut self, bytes: u32) {
        let window = match self {
            Place::Topic { window, .. } => window,
            Place::Session(session) => &mut session.window,
            Place::Echo => return,
        };
        *window = window.saturating_sub(bytes);
    }
}

impl Speaking {
    /// Anything from the peer is a sign of life.
    pub(crate) fn hears(&mut self, now_millis: u32) {
        self.heard_millis = now_millis;
        self.awaits_pong = false;
    }

    /// Bytes of memory held for what has not fully arrived or is not inflated.
    fn held(&self) -> usize {
        let stalled = self.stalled.as_ref();
        let stalled = stalled.map_or(0, |stalled| {
            let message = stalled.message.as_ref().map_or(0, |(_, payload)| payload.capacity());
            message + stalled.rest.capacity()
        });
        self.decoder.held() + stalled
    }
}

impl Mode {
    /// Bytes of memory held for what has not fully arrived.
    fn held(&self) -> usize {
        match self {
            Mode::Head(heading) => heading.bytes.capacity(),
            Mode::Joining(joining) => joining.early.capacity(),
            Mode::Body(posting) => posting.body.capacity(),
            Mode::Speaking(speaking) => speaking.held(),
            Mode::Exchanging(exchanging) => exchanging.held(),
            Mode::Vacant
            | Mode::Upstream { .. }
            | Mode::Tunnel(_)
            | Mode::Breaking
            | Mode::Ordering(_)
            | Mode::Streaming(_)
            | Mode::Flushing { .. }
            | Mode::Lingering { .. }
            | Mode::Gone => 0,
        }
    }

    /// What sending it away would free, with `waiting` bytes in its outbox; none for one that leaves already.
    pub(crate) fn held_with(&self, waiting: u32) -> Option<u64> {
        match self {
            Mode::Vacant | Mode::Gone | Mode::Lingering { .. } => None,
            mode => Some(mode.held() as u64 + u64::from(waiting)),
        }
    }

    /// The subscriptions that end with the connection.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> {
        let (one, session) = match self {
            Mode::Joining(joining) => (Some(joining.subscription), None),
            Mode::Streaming(subscription) => (Some(*subscription), None),
            Mode::Speaking(speaking) => match &speaking.place {
                Place::Topic { subscription, .. } => (Some(*subscription), None),
                Place::Session(session) => (None, Some(session)),
                Place::Echo => (None, None),
            },
            _ => (None, None),
        };
        one.into_iter().chain(session.into_iter().flat_map(|session| session.subscriptions()))
    }

    /// Whether its bytes are waiting in the driver because we paused it.
    pub(crate) fn is_paused(&self) -> bool {
        match self {
            Mode::Joining(joining) => joining.paused,
            Mode::Speaking(speaking) => speaking.paused,
            _ => false,
        }
    }
}

const CHUNK_CONNS: usize = 256;

struct Chunk(Box<[Conn; CHUNK_CONNS]>);

struct Conn {
    generation: u32,
    mode: Mode,
}

/// All connections of a shard. The table grows by chunks, so that a high limit costs nothing until it is used.
pub(crate) struct Conns {
    chunks: Vec<Option<Chunk>>,
    count: usize,
    held: u64,
}

impl Conns {
    pub(crate) fn new() -> Conns {
        Conns { chunks: Vec::new(), count: 0, held: 0 }
    }

    /// How many connections there are, closing ones included.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of memory held for what has not fully arrived.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    pub(crate) fn insert(&mut self, id: ConnId, mode: Mode) {
        let index = id.slot() as usize;
        let chunk = index / CHUNK_CONNS;
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| {
            Chunk(Box::new(std::array::from_fn(|_| Conn { generation: 0, mode: Mode::Vacant })))
        });
        let conn = &mut chunk.0[index % CHUNK_CONNS];
        assert!(matches!(conn.mode, Mode::Vacant), "the driver reuses a slot only after Closed");
        self.held += mode.held() as u64;
        *conn = Conn { generation: id.generation(), mode };
        self.count += 1;
    }

    pub(crate) fn remove(&mut self, id: ConnId) {
        if let Some(conn) = self.find(id) {
            let mode = std::mem::take(&mut conn.mode);
            self.held -= mode.held() as u64;
            self.count -= 1;
        }
    }

    /// Takes a connection's mode for its turn; [`Conns::put`] gives the next one back.
    pub(crate) fn take(&mut self, id: ConnId) -> Option<Mode> {
        let mode = std::mem::replace(&mut self.find(id)?.mode, Mode::Gone);
        self.held -= mode.held() as u64;
        Some(mode)
    }

    pub(crate) fn put(&mut self, id: ConnId, mode: Mode) {
        self.held += mode.held() as u64;
        self.find(id).expect("it was taken in this turn").mode = mode;
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Mode> {
        let conn = self.at(id.slot())?;
        (conn.0 == id).then_some(conn.1)
    }

    /// Who lives in a slot, and how.
    pub(crate) fn at(&self, slot: u32) -> Option<(ConnId, &Mode)> {
        let index = slot as usize;
        let conn = &self.chunks.get(index / CHUNK_CONNS)?.as_ref()?.0[index % CHUNK_CONNS];
        match conn.mode {
            Mode::Vacant => None,
            _ => Some((ConnId::new(slot, conn.generation), &conn.mode)),
        }
    }

    /// Everybody.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Mode)> {
        (0..(self.chunks.len() * CHUNK_CONNS) as u32).filter_map(|slot| self.at(slot))
    }

    fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        let index = id.slot() as usize;
        let conn = &mut self.chunks.get_mut(index / CHUNK_CONNS)?.as_mut()?.0[index % CHUNK_CONNS];
        let here = conn.generation == id.generation() && !matches!(conn.mode, Mode::Vacant);
        here.then_some(conn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Conn>() <= 48, "{}", size_of::<Conn>());
    }

    #[test]
    fn a_late_id_finds_nobody() {
        let mut conns = Conns::new();
        conns.insert(ConnId::new(700, 3), Mode::Gone);
        assert!(conns.get(ConnId::new(700, 2)).is_none());
        assert!(conns.take(ConnId::new(701, 3)).is_none());
        assert!(conns.get(ConnId::new(700, 3)).is_some());
        conns.remove(ConnId::new(700, 2));
        assert_eq!(conns.len(), 1);
        conns.remove(ConnId::new(700, 3));
        assert_eq!((conns.len(), conns.iter().count()), (0, 0));
    }

    #[test]
    fn held_memory_follows_the_modes() {
        let mut conns = Conns::new();
        let id = ConnId::new(0, 0);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let heading =
            |size| Box::new(Heading { peer, scanner: Scanner::default(), bytes: Vec::with_capacity(size) });
        conns.insert(id, Mode::Head(heading(10)));
        assert_eq!(conns.held(), 10);
        conns.take(id);
        conns.put(id, Mode::Head(heading(300)));
        assert_eq!(conns.held(), 300);
        conns.remove(id);
        assert_eq!(conns.held(), 0);
    }
}
