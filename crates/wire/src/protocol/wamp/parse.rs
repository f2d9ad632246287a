//! What a client says.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Error, ID_MAX, code, errors, payload};
use crate::json;
use crate::topic::TopicName;

/// What a client says, and what is to be done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said<'m> {
    /// Open a session (§4.1.1).
    Hello {
        /// In this realm.
        realm: Cow<'m, str>,
    },
    /// There is no session any more; no answer is expected (§4.1.3).
    Abort,
    /// End the session; to be answered with the same (§4.2.1).
    Goodbye,
    /// Hear a topic (§5.1.1).
    Subscribe {
        /// What the answer is to name.
        request: u64,
        /// Which topic.
        topic: TopicName,
        /// The option `_since`: the last message that was heard, as `<epoch>-<offset>`, or `0`; not looked at here.
        since: Option<String>,
        /// The option `_gaps`: whether it wants to be told what it does not get.
        gaps: bool,
    },
    /// Hear a topic no more (§5.1.4).
    Unsubscribe {
        /// What the answer is to name.
        request: u64,
        /// Which subscription.
        subscription: u64,
    },
    /// Say something (§5.2.1).
    Publish(Publish<'m>),
    /// Nothing is to be done.
    Nothing,
}

/// A PUBLISH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish<'m> {
    /// What the answer is to name.
    pub request: u64,
    /// Whether an answer is wanted.
    pub acknowledge: bool,
    /// Whether the publisher does not hear it itself, which is so unless it says otherwise (advanced, publisher exclusion).
    pub exclude_me: bool,
    /// Where it is said.
    pub topic: TopicName,
    /// What the payload is.
    pub kind: crate::Kind,
    /// What is said.
    pub payload: Cow<'m, [u8]>,
}

/// Why nothing of what a client asked for is done.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The session is over: ABORT, with this said of it, and the connection closes (§2.3.3).
    Violation(&'static str),
    /// ERROR.
    Refused {
        /// The type of the request.
        code: u64,
        /// The request.
        request: u64,
        /// What is wrong with it.
        error: Error,
    },
    /// The same, where no answer was asked for.
    Unanswered(Error),
}

/// Reads what a text message says. `established` says whether there is a session yet.
///
/// # Errors
/// What is to be answered, and whether that is the end.
pub fn parse(text: &str, established: bool) -> Result<Said<'_>, Fault> {
    let message: Message<'_> = serde_json::from_str(text)
        .map_err(|_| Fault::Violation("A message is a JSON array that begins with its type, a number."))?;
    match (message.code, established) {
        (code::ABORT, _) => Ok(Said::Abort),
        (code::HELLO, false) => hello(&message),
        (code::HELLO, true) => Err(Fault::Violation("HELLO comes once in a session.")),
        (_, false) => Err(Fault::Violation("The first message of a session is HELLO.")),
        (code::GOODBYE, true) => goodbye(&message),
        (code::SUBSCRIBE, true) => subscribe(&message),
        (code::UNSUBSCRIBE, true) => unsubscribe(&message),
        (code::PUBLISH, true) => publish(&message),
        (code::CALL | code::CANCEL | code::REGISTER | code::UNREGISTER, true) => ask_dealer(&message),
        (_, true) => Err(Fault::Violation("A client does not send messages of this type to a broker.")),
    }
}

fn hello<'m>(message: &Message<'m>) -> Result<Said<'m>, Fault> {
    const SHAPE: Fault =
        Fault::Violation("HELLO is [1, Realm|uri, Details|dict], and the details have the client's roles.");
    let [realm, details] = message.elements().ok_or(SHAPE)?;
    let realm = json::text(realm).ok_or(SHAPE)?;
    let details: HelloDetails<'_> = dict(details).ok_or(SHAPE)?;
    let has_roles = details.roles.is_some_and(|roles| is_dict(roles) && !is_empty(roles));
    if has_roles { Ok(Said::Hello { realm }) } else { Err(SHAPE) }
}

fn goodbye<'m>(message: &Message<'m>) -> Result<Said<'m>, Fault> {
    const SHAPE: Fault = Fault::Violation("GOODBYE is [6, Details|dict, Reason|uri].");
    let [details, reason] = message.elements().ok_or(SHAPE)?;
    if is_dict(details) && json::text(reason).is_some() { Ok(Said::Goodbye) } else { Err(SHAPE) }
}

fn subscribe<'m>(message: &Message<'m>) -> Result<Said<'m>, Fault> {
    const SHAPE: Fault = Fault::Violation("SUBSCRIBE is [32, Request|id, Options|dict, Topic|uri].");
    let [request, options, topic] = message.elements().ok_or(SHAPE)?;
    let request = id(request).ok_or(SHAPE)?;
    let options: SubscribeOptions = dict(options).ok_or(SHAPE)?;
    let topic = json::text(topic).ok_or(SHAPE)?;
    let refused = |error| Fault::Refused { code: code::SUBSCRIBE, request, error };
    if options.r#match.is_some_and(|policy| policy != "exact") {
        return Err(refused(errors::MATCH));
    }
    let topic = name(&topic).map_err(refused)?;
    let gaps = options.gaps.unwrap_or(false);
    Ok(Said::Subscribe { request, topic, since: options.since, gaps })
}

fn unsubscribe<'m>(message: &Message<'m>) -> Result<Said<'m>, Fault> {
    const SHAPE: Fault = Fault::Violation("UNSUBSCRIBE is [34, Request|id, Subscription|id].");
    let [request, subscription] = message.elements().ok_or(SHAPE)?;
    let (request, subscription) = id(request).zip(id(subscription)).ok_or(SHAPE)?;
    Ok(Said::Unsubscribe { request, subscription })
}

fn publish<'m>(message: &Message<'m>) -> Result<Said<'m>, Fault> {
    const SHAPE: Fault = Fault::Violation(
        "PUBLISH is [16, Request|id, Options|dict, Topic|uri], and may go on with Arguments|list and ArgumentsKw|dict.",
    );
    let ([request, options, topic], arguments) = message.elements_and_payload().ok_or(SHAPE)?;
    let request = id(request).ok_or(SHAPE)?;
    let options: PublishOptions = dict(options).ok_or(SHAPE)?;
    let topic = json::text(topic).ok_or(SHAPE)?;
    let [list, words] = arguments;
    if !(list.is_none_or(is_list) && words.is_none_or(is_dict)) {
        return Err(SHAPE);
    }
    let acknowledge = options.acknowledge.unwrap_or(false);
    let refused = |error| match acknowledge {
        true => Fault::Refused { code: code::PUBLISH, request, error },
        // §5.2.1: publications are unacknowledged unless it is asked for.
        false => Fault::Unanswered(error),
    };
    options.check().map_err(refused)?;
    let topic = name(&topic).map_err(refused)?;
    let (kind, payload) = payload::of_publish(list, words).map_err(refused)?;
    let exclude_me = options.exclude_me.unwrap_or(true);
    Ok(Said::Publish(Publish { request, acknowledge, exclude_me, topic, kind, payload }))
}

/// Requests to the role that is not here (§6).
fn ask_dealer<'m>(message: &Message<'m>) -> Result<Said<'m>, Fault> {
    const SHAPE: Fault = Fault::Violation("A request of this type begins with its type and Request|id.");
    // What is not there is `null`, which is no id.
    let request = id(message.raw[0]).ok_or(SHAPE)?;
    let error = match message.code {
        code::CALL => errors::NO_SUCH_PROCEDURE,
        code::REGISTER => errors::NO_DEALER,
        code::UNREGISTER => errors::NO_SUCH_REGISTRATION,
        // Nothing is under way that could be cancelled: its CALL has been answered.
        _ => return Ok(Said::Nothing),
    };
    Err(Fault::Refused { code: message.code, request, error })
}

/// Whether `text` is a URI as WAMP has them (§2.1.1, "loose").
pub fn is_uri(text: &str) -> bool {
    let is_wrong = |c: char| c == '#' || c.is_whitespace();
    text.split('.').all(|component| !component.is_empty() && !component.contains(is_wrong))
}

/// The topic named by a URI.
fn name(uri: &str) -> Result<TopicName, Error> {
    let topic = TopicName::from_text(uri).map_err(errors::topic)?;
    if !is_uri(uri) {
        return Err(errors::URI);
    }
    match uri.strip_prefix("wamp") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => Err(errors::RESERVED),
        _ => Ok(topic),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HelloDetails<'m> {
    #[serde(borrow)]
    roles: Option<&'m RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SubscribeOptions {
    r#match: Option<String>,
    #[serde(rename = "_since")]
    since: Option<String>,
    #[serde(rename = "_gaps")]
    gaps: Option<bool>,
}

/// Attributes that are not known are passed over (§3.1), but for those that would have kept a message from somebody.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PublishOptions {
    acknowledge: Option<bool>,
    exclude_me: Option<bool>,
    exclude: Option<IgnoredAny>,
    exclude_authid: Option<IgnoredAny>,
    exclude_authrole: Option<IgnoredAny>,
    eligible: Option<IgnoredAny>,
    eligible_authid: Option<IgnoredAny>,
    eligible_authrole: Option<IgnoredAny>,
    ppt_scheme: Option<IgnoredAny>,
}

impl PublishOptions {
    fn check(&self) -> Result<(), Error> {
        let listing = [
            self.exclude,
            self.exclude_authid,
            self.exclude_authrole,
            self.eligible,
            self.eligible_authid,
            self.eligible_authrole,
        ];
        match self {
            _ if listing.iter().any(Option::is_some) => Err(errors::LISTING),
            PublishOptions { ppt_scheme: Some(_), .. } => Err(errors::PASSTHRU),
            _ => Ok(()),
        }
    }
}

/// How many elements come after the type in the longest message: a PUBLISH with both kinds of arguments.
const ELEMENTS_MAX: usize = 5;

/// A message's type, and the elements after it, each a JSON value as it was written.
struct Message<'m> {
    code: u64,
    /// Those that are not there are `null`.
    raw: [&'m RawValue; ELEMENTS_MAX],
    /// How many there are; those past `ELEMENTS_MAX` are only counted.
    count: usize,
}

impl<'m> Message<'m> {
    /// The elements, if there are just so many (§3.2).
    fn elements<const COUNT: usize>(&self) -> Option<[&'m RawValue; COUNT]> {
        if self.count != COUNT {
            return None;
        }
        self.raw.first_chunk().copied()
    }

    /// The elements, and the arguments that may follow them (§3.3).
    fn elements_and_payload<const COUNT: usize>(
        &self,
    ) -> Option<([&'m RawValue; COUNT], [Option<&'m RawValue>; 2])> {
        let payload = self.raw.get(COUNT..self.count)?;
        if payload.len() > 2 {
            return None;
        }
        Some((self.raw.first_chunk().copied()?, [payload.first().copied(), payload.get(1).copied()]))
    }
}

impl<'de: 'm, 'm> Deserialize<'de> for Message<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message<'m>, D::Error> {
        deserializer.deserialize_seq(Array)
    }
}

struct Array;

impl<'de> Visitor<'de> for Array {
    type Value = Message<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that begins with a number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Message<'de>, A::Error> {
        let code = seq.next_element::<u64>()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
        let mut message = Message { code, raw: [RawValue::NULL; ELEMENTS_MAX], count: 0 };
        while message.count < ELEMENTS_MAX {
            let Some(element) = seq.next_element()? else { return Ok(message) };
            message.raw[message.count] = element;
            message.count += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            message.count += 1;
        }
        Ok(message)
    }
}

/// The id that `raw` is: an integer in range, written as one (§2.1.2).
fn id(raw: &RawValue) -> Option<u64> {
    raw.get().parse().ok().filter(|id| (1..=ID_MAX).contains(id))
}

/// What is known of a dictionary's members, if it is a dictionary whose known members have their types and come once (§3).
fn dict<'m, T: Deserialize<'m>>(raw: &'m RawValue) -> Option<T> {
    // A list would do for a structure too.
    if is_dict(raw) { serde_json::from_str(raw.get()).ok() } else { None }
}

fn is_dict(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

fn is_list(raw: &RawValue) -> bool {
    raw.get().starts_with('[')
}

/// Whether a list or dictionary has nothing in it.
pub(super) fn is_empty(raw: &RawValue) -> bool {
    let text = raw.get();
    text[1..text.len() - 1].trim_ascii().is_empty()
}
