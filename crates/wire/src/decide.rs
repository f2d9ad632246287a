//! What is to be done about a request: one pure function, and the table of docs/protocol.md B from top to bottom.
//!
//! The first question is where the request goes, the second whether it asks for a protocol that is spoken there. Only
//! then do its method and the rest of its fields matter. A request that a page or an event stream can answer is answered
//! with it even when it asks for an upgrade that is not on offer.

mod media;
mod tunnel;

use std::sync::Arc;

use media::Representation;

use crate::Kind;
use crate::answer::Answer;
use crate::body::Framing;
use crate::head::{Head, Method, Name, One, Target, Version};
use crate::negotiate::{self, Agreed};
use crate::origin::{Cors, Origins};
use crate::protocol::Subprotocol;
use crate::refusal::{Reason, Refusal};
use crate::route::{Route, Routes, Service};
use crate::scan::HeadLimits;
use crate::since::Since;
use crate::topic::{self, TopicName};
use crate::upstream::Exchange;

/// Where the page finds its script: the client, for other pages too.
const SCRIPT_PATH: &str = "/moongate.js";

const TOPIC_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const READ_METHODS: &str = "GET, HEAD, OPTIONS";
const SOCKET_METHODS: &str = "GET, OPTIONS";

/// What a server offers and to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Which path leads to what.
    pub routes: Arc<Routes>,
    /// Whether anyone may publish.
    pub may_publish: bool,
    /// Which pages may take part.
    pub origins: Origins,
    /// How large a head may be.
    pub head: HeadLimits,
    /// How large a message may be.
    pub message_bytes_max: usize,
    /// Whether messages may be compressed where a client offers it.
    pub deflate: bool,
    /// How large a message must be to be compressed.
    pub deflate_bytes_min: usize,
}

impl Default for Policy {
    /// What suits a public address.
    fn default() -> Policy {
        Policy {
            routes: Arc::new(Routes::usual(false, false).with_health()),
            may_publish: false,
            origins: Origins::Same,
            head: HeadLimits::default(),
            message_bytes_max: 64 * 1024,
            deflate: true,
            deflate_bytes_min: 256,
        }
    }
}

/// What to do about a request. Nothing in it borrows from the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Answer 101 and speak WebSocket.
    WebSocket(Upgrade),
    /// Answer with an event stream.
    Events {
        /// What to listen to.
        topic: TopicName,
        /// Where to begin, if not with what is said from now on.
        since: Option<Since>,
        /// Which pages may read it.
        cors: Cors,
        /// Whether only the answer's head was asked for.
        head_only: bool,
    },
    /// Read the body and publish it.
    Publish(Publish),
    /// Answer with the page.
    Page {
        /// The topic it opens on; none at `/`.
        topic: Option<TopicName>,
        /// Whether only the answer's head was asked for.
        head_only: bool,
    },
    /// Answer with the page's script.
    Script {
        /// Whether only the answer's head was asked for.
        head_only: bool,
    },
    /// Answer how the server is.
    Health {
        /// Whether the question is if it takes connections, rather than if it is alive.
        ready: bool,
        /// Whether only the answer's head was asked for.
        head_only: bool,
    },
    /// Pass it on to another server.
    Tunnel(Exchange),
    /// Answer with this.
    Plain(Answer),
    /// Answer with this, and count it.
    Refuse(Refusal),
}

/// A WebSocket that may be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upgrade {
    /// What it is connected to.
    pub place: Place,
    /// The text of `Sec-WebSocket-Key` as it came (docs/protocol.md B18).
    pub key: [u8; 24],
    /// Whether 100 has to be sent before 101 (RFC 9110 §7.8).
    pub expect_continue: bool,
    /// Subprotocol and extension.
    pub agreed: Agreed,
    /// Where on a topic it is to begin, if not with what is said from now on.
    pub since: Option<Since>,
}

/// What speaks WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A topic.
    Topic(TopicName),
    /// The route that sends back what it gets.
    Echo,
    /// The route where a subprotocol is spoken, and topics are named in it.
    Connect,
}

/// A message that comes as the body of a `POST`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// Where it goes.
    pub topic: TopicName,
    /// Text, which is still to be checked, or binary.
    pub kind: Kind,
    /// How the body ends.
    pub framing: Framing,
    /// Whether 100 has to be sent before the body comes.
    pub expect_continue: bool,
    /// Which pages may read the answer.
    pub cors: Cors,
}

/// Decides what to do about `head`.
pub fn decide(head: &Head<'_>, policy: &Policy) -> Decision {
    let refusal = match find(head, policy).and_then(|decision| check_expectation(decision, head)) {
        Ok(decision) => return decision,
        Err(refusal) => refusal,
    };
    let refusal = refusal.head_only(head.method == Method::Head);
    Decision::Refuse(if is_topic_read(head, policy) { refusal.vary_accept() } else { refusal })
}

/// B3, and then what the route is for.
fn find(head: &Head<'_>, policy: &Policy) -> Result<Decision, Refusal> {
    let Target::Path { path, .. } = head.target else { return Ok(Decision::Plain(Answer::new(204))) };
    let head_only = head.method == Method::Head;
    // Before all routes: what takes every path but the page's own would take the script too, and leave the page without.
    if path == SCRIPT_PATH && policy.routes.has_page() {
        return read_only(head, Decision::Script { head_only });
    }
    let Some((index, route, rest)) = policy.routes.find(path) else { return Err(Reason::NotFound.into()) };
    match (&route.service, find_upgrade(head)) {
        (Service::Topics(spoken), wish) => {
            let topic = TopicName::from_path(rest.as_bytes())?;
            match wish {
                Ok(()) => open(Place::Topic(topic), spoken.list(), head, policy),
                Err(why_not) => on_topic(topic, why_not, head, policy),
            }
        }
        (Service::Echo, Ok(())) => open(Place::Echo, &[], head, policy),
        (Service::Connect(spoken), Ok(())) => open(Place::Connect, spoken.list(), head, policy),
        (Service::Echo | Service::Connect(_), Err(_)) if head.method == Method::Options => {
            Ok(Decision::Plain(Answer::options(SOCKET_METHODS)))
        }
        // B7.
        (Service::Echo | Service::Connect(_), Err(why_not)) => Err(why_not.into()),
        // B8, B9, B10, B11: nothing else is spoken here, so a wish to upgrade is ignored.
        (Service::Page, _) => read_only(head, Decision::Page { topic: None, head_only }),
        (Service::Health { ready }, _) => read_only(head, Decision::Health { ready: *ready, head_only }),
        (Service::Tunnel(to), _) => tunnel::pass_on(index, to, head),
    }
}

/// Whether the request asks for the one protocol that can be switched to, and if not, why it does not count
/// (B2, B4, B5, B6, B9, B10, B11).
fn find_upgrade(head: &Head<'_>) -> Result<(), Reason> {
    if !head.has(Name::Upgrade) {
        // Only who wants a WebSocket sends a key: then the field was there, and is hop-by-hop (RFC 9110 §7.6.1).
        let removed = head.has(Name::SecWebSocketKey);
        return Err(if removed { Reason::UpgradeRemoved } else { Reason::UpgradeRequired });
    }
    if head.version == Version::Http10 {
        return Err(Reason::UpgradeInHttp10);
    }
    if !head.has_token(Name::Connection, "upgrade") {
        return Err(Reason::ConnectionLacksUpgrade);
    }
    // RFC 9110 §7.8: the name in any case, and no version, since `websocket` is registered without one.
    if head.has_token(Name::Upgrade, "websocket") { Ok(()) } else { Err(Reason::UpgradeUnknown) }
}

/// The request for a WebSocket at `place`, where the subprotocols `spoken` may be agreed on: RFC 6455 §4.2.1, in the order
/// of B12 to B24.
fn open(place: Place, spoken: &[Subprotocol], head: &Head<'_>, policy: &Policy) -> Result<Decision, Refusal> {
    if head.method != Method::Get {
        return Err(Refusal::new(Reason::UpgradeMethod).allow("GET"));
    }
    // B13: content would be taken for frames.
    if !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Err(Reason::UpgradeWithContent.into());
    }
    check_version(head)?;
    let key = find_key(head)?;
    check_origin(head, policy)?;
    let agreed = negotiate::negotiate(head, spoken, policy.deflate)?;
    if place == Place::Connect && agreed.subprotocol.is_none() {
        return Err(subprotocol_required(spoken));
    }
    let since = if matches!(place, Place::Topic(_)) { asked_since(head)? } else { None };
    Ok(Decision::WebSocket(Upgrade { place, key, expect_continue: expects_continue(head), agreed, since }))
}

/// B22 where topics are named in a subprotocol: one must be spoken.
fn subprotocol_required(spoken: &[Subprotocol]) -> Refusal {
    let names: Vec<&str> = spoken.iter().map(|known| known.name).collect();
    let refusal = Refusal::new(Reason::SubprotocolRequired);
    if names.is_empty() {
        return refusal.hint("None is enabled: set MOONGATE_SUBPROTOCOLS, or connect to /topics/<name>.");
    }
    refusal.hint(format!(
        "Offer one of {}, as in new WebSocket(url, \"{}\"), or connect to /topics/<name>.",
        names.join(", "),
        names[0]
    ))
}

/// What the query's `since` says (B31).
fn asked_since(head: &Head<'_>) -> Result<Option<Since>, Reason> {
    let Target::Path { query: Some(query), .. } = head.target else { return Ok(None) };
    let mut values = query.split('&').filter_map(|member| member.strip_prefix("since="));
    let Some(value) = values.next() else { return Ok(None) };
    let since = Since::parse(value).filter(|_| values.next().is_none());
    since.map(Some).ok_or(Reason::SinceMalformed)
}

/// The `Last-Event-ID` of a client that comes back by itself, which is newer than what the page once asked for. One that
/// was never given out is no fault of the client's: it cannot be resumed from, which the client is told.
fn last_event(head: &Head<'_>) -> Option<Since> {
    let text = match head.one(Name::LastEventId) {
        One::Missing | One::Value(b"") => return None,
        One::Value(text) => text,
        One::Repeated => return Some(Since::UNKNOWN),
    };
    Some(str::from_utf8(text).ok().and_then(Since::parse).unwrap_or(Since::UNKNOWN))
}

/// B14, B15, B16.
fn check_version(head: &Head<'_>) -> Result<(), Reason> {
    match head.one(Name::SecWebSocketVersion) {
        One::Missing => Err(Reason::VersionMissing),
        One::Value(b"13") => Ok(()),
        One::Value(version) if is_version(version) => Err(Reason::VersionUnsupported),
        One::Value(_) | One::Repeated => Err(Reason::VersionMalformed),
    }
}

/// RFC 6455 §4.3: a number from 0 to 255 without leading zeros.
fn is_version(text: &[u8]) -> bool {
    match text {
        [digit] => digit.is_ascii_digit(),
        [b'1'..=b'9', ..] => {
            text.iter().all(u8::is_ascii_digit)
                && str::from_utf8(text).is_ok_and(|text| text.parse::<u8>().is_ok())
        }
        _ => false,
    }
}

/// B17, B18: 22 characters of base64 and two of padding. The four bits that no byte needs may be anything.
fn find_key(head: &Head<'_>) -> Result<[u8; 24], Reason> {
    let key = match head.one(Name::SecWebSocketKey) {
        One::Missing => return Err(Reason::KeyMissing),
        One::Repeated => return Err(Reason::KeyRepeated),
        One::Value(key) => <[u8; 24]>::try_from(key).map_err(|_| Reason::KeyMalformed)?,
    };
    let (digits, padding) = key.split_at(22);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if padding == b"==" && digits.iter().all(is_digit) { Ok(key) } else { Err(Reason::KeyMalformed) }
}

/// B19. Who sends no `Origin` is no page of someone else's.
fn check_origin(head: &Head<'_>, policy: &Policy) -> Result<(), Reason> {
    let allowed = match head.one(Name::Origin) {
        One::Missing => true,
        One::Value(origin) => policy.origins.allow(origin, head.host.as_ref()),
        One::Repeated => policy.origins == Origins::Any,
    };
    if allowed { Ok(()) } else { Err(Reason::OriginRefused) }
}

fn find_cors(head: &Head<'_>, policy: &Policy) -> Cors {
    let origin = match head.one(Name::Origin) {
        One::Value(origin) => Some(origin),
        One::Missing | One::Repeated => None,
    };
    policy.origins.cors(origin, head.host.as_ref())
}

/// A topic in plain HTTP; `why_not` says why the request is not for its WebSocket.
fn on_topic(
    topic: TopicName,
    why_not: Reason,
    head: &Head<'_>,
    policy: &Policy,
) -> Result<Decision, Refusal> {
    let head_only = head.method == Method::Head;
    match head.method {
        Method::Get | Method::Head => match media::preferred(head, shows_page(head, policy)) {
            Some(Representation::Events) => {
                let since = last_event(head).map_or_else(|| asked_since(head), |last| Ok(Some(last)))?;
                Ok(Decision::Events { topic, since, cors: find_cors(head, policy), head_only })
            }
            Some(Representation::Page) => Ok(Decision::Page { topic: Some(topic), head_only }),
            None => Err(show_ways_in(why_not)),
        },
        Method::Post => {
            let cors = find_cors(head, policy);
            publish(topic, cors.clone(), head, policy).map_err(|reason| Refusal::new(reason).cors(cors))
        }
        Method::Options => Ok(Decision::Plain(preflight(head, policy))),
        Method::Put | Method::Delete | Method::Trace | Method::Patch => {
            Err(Refusal::new(Reason::MethodNotAllowed).allow(TOPIC_METHODS))
        }
    }
}

/// Whether the page can be had here as a topic's representation: it knows topics by their usual path.
fn shows_page(head: &Head<'_>, policy: &Policy) -> bool {
    let Target::Path { path, .. } = head.target else { return false };
    path.as_bytes().starts_with(topic::PREFIX) && policy.routes.has_page()
}

/// B7 on a topic, which can be had in other ways too. Who tried to upgrade learns what was wrong with that instead.
fn show_ways_in(why_not: Reason) -> Refusal {
    let refusal = Refusal::new(why_not);
    if why_not != Reason::UpgradeRequired {
        return refusal;
    }
    refusal
        .detail(
            "A topic is heard through a WebSocket or an event stream, and the request asks for neither: it has no Upgrade \
             field, and Accept does not name text/event-stream.",
        )
        .hint(
            "Hear and speak: new WebSocket(\"ws://<host>/topics/<name>\"). Hear: curl -N -H 'Accept: text/event-stream' \
             http://<host>/topics/<name>, or new EventSource(\"/topics/<name>\"). Speak: curl -d hello \
             http://<host>/topics/<name>. Where MOONGATE_PAGE is on, a browser shows the topic.",
        )
}

fn publish(topic: TopicName, cors: Cors, head: &Head<'_>, policy: &Policy) -> Result<Decision, Reason> {
    check_origin(head, policy)?;
    if !policy.may_publish {
        return Err(Reason::SubscribeOnly);
    }
    let (framing, max) = (head.framing, policy.message_bytes_max as u64);
    if matches!(framing, Framing::Length(length) if length > max) {
        return Err(Reason::BodyTooLarge);
    }
    let has_content = !matches!(framing, Framing::None | Framing::Length(0));
    let expect_continue = has_content && expects_continue(head);
    Ok(Decision::Publish(Publish { topic, kind: find_kind(head), framing, expect_continue, cors }))
}

fn find_kind(head: &Head<'_>) -> Kind {
    match head.one(Name::ContentType) {
        One::Value(value) => Kind::of_media_type(value),
        One::Missing | One::Repeated => Kind::Text,
    }
}

/// The answer to `OPTIONS` on a topic, which is also how a browser asks before it lets a page of another origin publish
/// bytes (Fetch standard, CORS-preflight fetch).
fn preflight(head: &Head<'_>, policy: &Policy) -> Answer {
    let answer = Answer::options(TOPIC_METHODS);
    if !head.has(Name::AccessControlRequestMethod) {
        return answer;
    }
    let cors = find_cors(head, policy);
    let answer = answer.cors(&cors);
    if !matches!(cors, Cors::Any | Cors::Origin(_)) {
        return answer;
    }
    answer
        .field("Access-Control-Allow-Methods", "GET, HEAD, POST")
        .field("Access-Control-Allow-Headers", "Content-Type, Cache-Control, Last-Event-ID")
        .field("Access-Control-Max-Age", "600")
}

/// A route that is only read.
fn read_only(head: &Head<'_>, decision: Decision) -> Result<Decision, Refusal> {
    match head.method {
        Method::Get | Method::Head => Ok(decision),
        Method::Options => Ok(Decision::Plain(Answer::options(READ_METHODS))),
        _ => Err(Refusal::new(Reason::MethodNotAllowed).allow(READ_METHODS)),
    }
}

/// B28, the last row: only what would have been done can fail to meet an expectation.
fn check_expectation(decision: Decision, head: &Head<'_>) -> Result<Decision, Refusal> {
    let is_known = |member: &[u8]| member.eq_ignore_ascii_case(b"100-continue");
    // RFC 9110 §10.1.1: in HTTP/1.0 the field is ignored.
    if head.version == Version::Http10 || head.members(Name::Expect).all(is_known) {
        return Ok(decision);
    }
    Err(Reason::Expectation.into())
}

/// B26.
fn expects_continue(head: &Head<'_>) -> bool {
    head.version == Version::Http11 && head.has_token(Name::Expect, "100-continue")
}

fn is_topic_read(head: &Head<'_>, policy: &Policy) -> bool {
    let Target::Path { path, .. } = head.target else { return false };
    let is_topic =
        matches!(policy.routes.find(path), Some((_, Route { service: Service::Topics(_), .. }, _)));
    is_topic && matches!(head.method, Method::Get | Method::Head)
}
