//! What a conversation is held in: how requests are written, and what is made of what comes back.

use std::collections::BTreeMap;

use moongate_wire::Kind;
use serde_json::value::RawValue;

use super::{v1, wamp};
use crate::oracle::Place;

/// A protocol.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Tongue {
    /// `moongate.v1` (docs/protocols/moongate-v1.md).
    V1,
    /// WAMP (docs/protocols/wamp.md).
    Wamp,
}

/// Which topic an answer is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Which {
    Name(String),
    /// By the number of the subscription.
    Number(u64),
}

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Welcome,
    /// Where it begins, and whether anything is missing where that was asked, in tongues that say so.
    Subscribed {
        request: Option<u64>,
        which: Which,
        begins: Option<(Place, Option<bool>)>,
    },
    Unsubscribed {
        request: u64,
    },
    Published {
        request: u64,
        /// In tongues that name topics and places.
        at: Option<(String, Place)>,
        publication: Option<u64>,
    },
    Pong {
        request: u64,
    },
    Message {
        which: Which,
        place: Place,
        kind: Kind,
        payload: Vec<u8>,
        publication: Option<u64>,
    },
    Gap {
        topic: String,
        missing: (u64, u64, u64),
        previous: Option<u64>,
    },
    Refused {
        request: Option<u64>,
        why: Refusal,
    },
    Goodbye,
}

/// Why something is not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Cancelled,
    NotSubscribed,
    AlreadySubscribed,
    /// There can be no more topics, subscriptions or requests.
    Full,
    Other(String),
}

impl Tongue {
    /// How it is named in a handshake.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tongue::V1 => "moongate.v1",
            Tongue::Wamp => "wamp.2.json",
        }
    }

    /// Whether subscribers are told of no gaps, and of no place that they begin at.
    pub(super) fn is_silent(self) -> bool {
        self == Tongue::Wamp
    }

    pub(super) fn subscribe(self, request: u64, topic: &str, since: Option<&str>) -> String {
        match self {
            Tongue::V1 => v1::subscribe(request, topic, since),
            Tongue::Wamp => wamp::subscribe(request, topic, since),
        }
    }

    pub(super) fn unsubscribe(self, request: u64, topic: &str, subscription: Option<u64>) -> String {
        match self {
            Tongue::V1 => v1::unsubscribe(request, topic),
            Tongue::Wamp => wamp::unsubscribe(request, subscription.unwrap_or_default()),
        }
    }

    /// A publish; whether it is to be answered, and whether who says it is to be left out.
    pub(super) fn publish(
        self,
        request: u64,
        topic: &str,
        (kind, payload): (Kind, &[u8]),
        (answered, excluded): (bool, Exclusion),
    ) -> String {
        match self {
            Tongue::V1 => v1::publish(answered.then_some(request), topic, kind, payload),
            Tongue::Wamp => wamp::publish((request, answered), topic, kind, payload, excluded),
        }
    }

    /// What a server's message says.
    pub(super) fn read(self, text: &str) -> Result<Said, String> {
        let said = match self {
            Tongue::V1 => v1::read(text),
            Tongue::Wamp => wamp::read(text),
        };
        said.ok_or_else(|| format!("something that is not {}: {text:.200}", self.name()))
    }
}

/// How somebody says that it is not to hear what it says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Exclusion {
    /// Not at all; what that means is the tongue's.
    Unsaid,
    Said(bool),
}

// What both are read with.

pub(super) type Members<'a> = BTreeMap<String, &'a RawValue>;

pub(super) fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

pub(super) fn number(raw: &RawValue) -> Option<u64> {
    serde_json::from_str(raw.get()).ok()
}

/// Text between quotes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text can be written")
}

/// 16 hexadecimal digits.
pub(super) fn epoch(raw: &RawValue) -> Option<u64> {
    let text = text(raw).filter(|text| text.len() == 16)?;
    u64::from_str_radix(&text, 16).ok()
}
