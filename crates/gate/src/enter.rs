//! From the accept to the first word of the new protocol: head, decision, answer or 101.

use std::fmt;
use std::net::SocketAddr;

use moongate_hub::{Form, Rejection, Subscribed, SubscriptionId};
use moongate_io::{Bytes, ConnId};
use moongate_wire::accept;
use moongate_wire::answer::{Answer, CONTINUE};
use moongate_wire::decide::{self, Decision, Upgrade};
use moongate_wire::deflate;
use moongate_wire::event;
use moongate_wire::head::{self, Fields, Head, Method, Target};
use moongate_wire::negotiate::Agreed;
use moongate_wire::origin::Cors;
use moongate_wire::refusal::{Reason, Refusal};
use moongate_wire::scan::Scanner;
use moongate_wire::since::Since;
use moongate_wire::topic::TopicName;

use crate::conn::{Heading, Joined, Joining, Mode, Place, Speaking};
use crate::core::{Core, Want, reason};
use crate::forms::{EVENTS, FRAMES, deflated};
use crate::leave::ended_too;
use crate::protocol;

/// After how long a browser opens an event stream again that ended, in milliseconds.
const RETRY_MILLIS: u32 = 2000;

impl Core {
    /// Somebody connected. Past the limit, or when the gateway leaves, that is answered before any request.
    pub(crate) fn accepted(&mut self, id: ConnId, peer: SocketAddr) {
        self.counts.accepted += 1;
        self.hub.outboxes.open(id.slot());
        let full = self.conns.len() >= self.config.connections_max as usize;
        self.conns.insert(id, Mode::Gone);
        self.wants.push(Want::Receive(id));
        let mode = if self.drain.refuses() {
            self.refuse(id, peer, Asked::Unknown, Reason::Draining.into())
        } else if full {
            self.refuse(id, peer, Asked::Unknown, Reason::ConnectionsFull.into())
        } else {
            self.wheel.set(id.slot(), self.after(self.config.head_timeout));
            Mode::Head(Box::new(Heading { peer, scanner: Scanner::default(), bytes: Vec::new() }))
        };
        self.settle(id, mode);
    }

    /// More of a head, parsed in place where it came in one lease; only an incomplete one is copied.
    pub(crate) fn read_head(&mut self, id: ConnId, mut heading: Box<Heading>, bytes: &mut [u8]) -> Mode {
        if heading.bytes.is_empty() {
            return match heading.scanner.scan(bytes, &self.config.policy.head) {
                Ok(Some(end)) => {
                    let (head, rest) = bytes.split_at_mut(end);
                    self.read_request(id, heading.peer, head, rest)
                }
                Ok(None) => {
                    heading.bytes.extend_from_slice(bytes);
                    Mode::Head(heading)
                }
                Err(refusal) => self.refuse(id, heading.peer, Asked::Unknown, refusal),
            };
        }
        heading.bytes.extend_from_slice(bytes);
        match heading.scanner.scan(&heading.bytes, &self.config.policy.head) {
            Ok(Some(end)) => {
                let mut all = std::mem::take(&mut heading.bytes);
                let (head, rest) = all.split_at_mut(end);
                self.read_request(id, heading.peer, head, rest)
            }
            Ok(None) => Mode::Head(heading),
            Err(refusal) => self.refuse(id, heading.peer, Asked::Unknown, refusal),
        }
    }

    fn read_request(&mut self, id: ConnId, peer: SocketAddr, head: &mut [u8], rest: &mut [u8]) -> Mode {
        let mut fields = Fields::new();
        let head = match head::parse(head, &mut fields) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(id, peer, Asked::Unknown, refusal),
        };
        let decision = decide::decide(&head, &self.config.policy);
        if self.memory_is_full() && !matches!(decision, Decision::Refuse(_) | Decision::Health { .. }) {
            let refusal = Refusal::from(Reason::MemoryFull).head_only(head.method == Method::Head);
            return self.refuse(id, peer, Asked::For(&head), refusal);
        }
        match decision {
            Decision::WebSocket(upgrade) => self.switch(id, peer, &upgrade, rest),
            Decision::Events { cors, head_only: true, .. } => {
                self.counts.answered += 1;
                self.answer(id, Answer::events(&cors).head_only(true))
            }
            Decision::Events { topic, since, cors, head_only: false } => {
                self.stream(id, peer, &topic, since, &cors)
            }
            Decision::Publish(publish) => self.post(id, peer, publish, rest),
            Decision::Page { topic, head_only } => {
                self.counts.answered += 1;
                self.answer(id, Answer::page(self.config.page, topic.is_some()).head_only(head_only))
            }
            Decision::Script { head_only } => {
                self.counts.answered += 1;
                self.answer(id, Answer::script(self.config.script).head_only(head_only))
            }
            Decision::Health { ready: true, head_only } if self.drain.is_begun() => {
                let refusal = Refusal::from(Reason::Draining).head_only(head_only);
                self.refuse(id, peer, Asked::For(&head), refusal)
            }
            Decision::Health { head_only, .. } => {
                self.counts.answered += 1;
                self.answer(id, Answer::text("ok\n").head_only(head_only))
            }
            Decision::Tunnel(exchange) => self.open(id, peer, exchange, &head, rest),
            Decision::Plain(answer) => {
                self.counts.answered += 1;
                self.answer(id, answer)
            }
            Decision::Refuse(refusal) => self.refuse(id, peer, Asked::For(&head), refusal),
        }
    }

    /// Prepares the 101. It goes out once the topic's home has confirmed the subscription, so that what is said after
    /// it is heard.
    fn switch(&mut self, id: ConnId, peer: SocketAddr, upgrade: &Upgrade, rest: &mut [u8]) -> Mode {
        let slot = id.slot();
        let agreed = upgrade.agreed.deflate;
        self.hub.outboxes.hold(slot);
        let answer = self.say_switching(slot, upgrade);
        let topic = match &upgrade.place {
            decide::Place::Topic(topic) => Some(topic),
            decide::Place::Echo | decide::Place::Connect => None,
        };
        if let Some(spoken) = upgrade.agreed.subprotocol {
            self.hub.outboxes.let_go(slot);
            let place = self.open_session(id, spoken.protocol, topic, upgrade.since);
            return self.begin_speaking(id, place, agreed, rest);
        }
        let Some(topic) = topic else {
            self.hub.outboxes.let_go(slot);
            return self.begin_speaking(id, Place::Echo, agreed, rest);
        };
        let form = agreed.map_or(FRAMES, |agreed| deflated(agreed.window_bits));
        match self.subscribe(id, topic, form, upgrade.since) {
            Subscribed::Now(joined) => {
                self.hub.outboxes.let_go(slot);
                self.begin_speaking(
                    id,
                    Place::Topic { subscription: joined.subscription, window: 0 },
                    agreed,
                    rest,
                )
            }
            Subscribed::Later(subscription) => {
                let topic = topic.clone();
                let into = Joined::WebSocket(agreed);
                let joining = Joining { answer, ..Joining::new(peer, topic, subscription, into) };
                self.read_early(id, Box::new(joining), rest)
            }
        }
    }

    /// Puts the 101 into the outbox, or gives it back where it has to name what only the topic's home knows.
    fn say_switching(&mut self, slot: u32, upgrade: &Upgrade) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        if upgrade.expect_continue {
            answer.extend_from_slice(CONTINUE);
        }
        let Agreed { subprotocol, deflate } = upgrade.agreed;
        let subprotocol = subprotocol.map(|spoken| spoken.name);
        let extension = deflate.as_ref().map(deflate::Agreed::answer);
        self.switching.write(&upgrade.key, subprotocol, extension, &mut answer);
        // A session says in its own words whether anything was missed.
        if upgrade.since.is_some() && subprotocol.is_none() {
            return Some(answer);
        }
        self.hub.outboxes.push(slot, Bytes::own(answer, &self.meter));
        None
    }

    /// Prepares the 200 of an event stream, likewise.
    fn stream(
        &mut self,
        id: ConnId,
        peer: SocketAddr,
        topic: &TopicName,
        since: Option<Since>,
        cors: &Cors,
    ) -> Mode {
        self.hub.outboxes.hold(id.slot());
        self.push(id, |core, out| {
            Answer::events(cors).write(&core.date, out);
            event::retry(RETRY_MILLIS, out);
        });
        match self.subscribe(id, topic, EVENTS, since) {
            Subscribed::Now(joined) => {
                self.push(id, |_, out| event::place(joined.epoch, joined.offset, out));
                self.hub.outboxes.let_go(id.slot());
                self.begin_streaming(id, joined.subscription)
            }
            Subscribed::Later(subscription) => {
                let joining = Joining::new(peer, topic.clone(), subscription, Joined::EventStream);
                Mode::Joining(Box::new(joining))
            }
        }
    }

    fn subscribe(&mut self, id: ConnId, topic: &TopicName, form: Form, since: Option<Since>) -> Subscribed {
        let name = self.hub.name(topic.as_str());
        self.hub.subscribe(id, name, form, protocol::start(since))
    }

    /// The first bytes of the new protocol (RFC 9110 §7.8), kept until it is spoken.
    pub(crate) fn read_early(&mut self, id: ConnId, mut joining: Box<Joining>, bytes: &[u8]) -> Mode {
        if joining.into == Joined::EventStream {
            return Mode::Joining(joining);
        }
        joining.early.extend_from_slice(bytes);
        if joining.early.len() > self.config.policy.head.head_bytes_max && !joining.paused {
            joining.paused = true;
            self.wants.push(Want::Pause(id));
        }
        Mode::Joining(joining)
    }

    /// The topic's home has confirmed: the 101 or 200 goes out.
    pub(crate) fn joined(&mut self, joined: &moongate_hub::Joined) {
        let (id, recovered) = (joined.conn, joined.recovered);
        let Some(mode) = self.conns.take(id) else { return };
        let mut peer_ended = false;
        let mode = match mode {
            Mode::Joining(mut joining) => {
                peer_ended = joining.peer_ended;
                self.say_recovered(id, &mut joining, recovered);
                self.hub.outboxes.let_go(id.slot());
                if joining.paused {
                    self.wants.push(Want::Resume(id));
                }
                match joining.into {
                    Joined::WebSocket(agreed) => {
                        let place = Place::Topic { subscription: joining.subscription, window: 0 };
                        self.begin_speaking(id, place, agreed, &mut joining.early)
                    }
                    Joined::EventStream => self.begin_streaming(id, joining.subscription),
                }
            }
            Mode::Speaking(speaking) => return self.session_joined(joined, speaking),
            other => other,
        };
        self.settle(id, mode);
        if peer_ended {
            self.peer_ended(id);
        }
    }

    /// A WebSocket that asked to begin earlier learns in its 101 whether it has missed anything since.
    fn say_recovered(&mut self, id: ConnId, joining: &mut Joining, recovered: bool) {
        let Some(mut answer) = joining.answer.take() else { return };
        accept::add_recovered(recovered, &mut answer);
        self.hub.outboxes.push_first(id.slot(), Bytes::own(answer, &self.meter));
    }

    /// The topic's home has refused: what was prepared is not said.
    pub(crate) fn not_joined(&mut self, id: ConnId, subscription: SubscriptionId, why: Rejection) {
        let Some(mode) = self.conns.take(id) else { return };
        let mode = match mode {
            Mode::Speaking(speaking) => return self.session_refused(id, speaking, subscription, why),
            Mode::Joining(joining) => {
                self.take_back_answer(id);
                self.refuse_joining(id, &joining, reason(why))
            }
            other => other,
        };
        self.settle(id, mode);
    }

    /// Forgets the answer that was prepared for a connection that is still joining.
    pub(crate) fn take_back_answer(&mut self, id: ConnId) {
        self.hub.outboxes.clear(id.slot());
        self.hub.outboxes.let_go(id.slot());
    }

    pub(crate) fn refuse_joining(&mut self, id: ConnId, joining: &Joining, reason: Reason) -> Mode {
        if joining.paused {
            self.wants.push(Want::Resume(id));
        }
        ended_too(
            self.refuse(id, joining.peer, Asked::Topic(&joining.topic), reason.into()),
            joining.peer_ended,
        )
    }

    fn begin_speaking(
        &mut self,
        id: ConnId,
        place: Place,
        agreed: Option<deflate::Agreed>,
        early: &mut [u8],
    ) -> Mode {
        self.counts.switched += 1;
        self.wheel.set(id.slot(), self.after(self.config.ping_interval));
        self.read_frames(id, Speaking::new(place, agreed, self.now_millis()), early)
    }

    fn begin_streaming(&mut self, id: ConnId, subscription: SubscriptionId) -> Mode {
        self.counts.streamed += 1;
        self.wheel.set(id.slot(), self.after(self.config.ping_interval));
        Mode::Streaming(subscription)
    }

    /// Answers with a refusal, counts it and logs it in one line.
    pub(crate) fn refuse(
        &mut self,
        id: ConnId,
        peer: SocketAddr,
        asked: Asked<'_>,
        refusal: Refusal,
    ) -> Mode {
        self.counts.refused(refusal.reason);
        if self.counts.may_log(self.now) {
            let reason = refusal.reason;
            tracing::info!(%peer, target = %asked, status = reason.status(), reason = reason.label(), "refused");
        }
        self.push_last(id, |core, out| refusal.write(&core.date, out))
    }

    pub(crate) fn answer(&mut self, id: ConnId, answer: Answer) -> Mode {
        self.push_last(id, |core, out| answer.write(&core.date, out))
    }

    /// Pushes the last bytes of a connection and seals its outbox behind them.
    pub(crate) fn push_last(&mut self, id: ConnId, write: impl FnOnce(&mut Core, &mut Vec<u8>)) -> Mode {
        self.push(id, write);
        self.flush_and_end(id, false)
    }

    /// Pushes a ready-made frame or comment.
    pub(crate) fn push_fixed(&mut self, id: ConnId, bytes: Bytes) {
        self.hub.outboxes.push(id.slot(), bytes);
    }
}

/// How much of a request's target a log line shows.
const SHOWN_TARGET_BYTES_MAX: usize = 128;

/// What was asked for, as a log line shows it: without its query, which may hold secrets, and without anything that a
/// terminal would act on.
#[derive(Copy, Clone)]
pub(crate) enum Asked<'a> {
    /// It was refused before that could be told.
    Unknown,
    For(&'a Head<'a>),
    Path(&'a str),
    Topic(&'a TopicName),
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, text) = match self {
            Asked::Unknown => return f.write_str("-"),
            Asked::For(Head { target: Target::Path { path, .. }, .. }) => ("", *path),
            Asked::For(Head { target: Target::Asterisk, .. }) => ("", "*"),
            Asked::Path(path) => ("", *path),
            Asked::Topic(name) => ("/topics/", name.as_str()),
        };
        let shown = &text.as_bytes()[..text.len().min(SHOWN_TARGET_BYTES_MAX)];
        write!(f, "{before}{}", shown.escape_ascii())
    }
}
