//! Refusals: a typed [`Reason`], and the answer that tells a person what to change (RFC 9457).
//!
//! The words come from one table and from nowhere else: nothing that a peer sent is ever part of them.

mod reason;

use std::borrow::Cow;

pub use reason::Reason;

use crate::answer::{Answer, Date};
use crate::json;
use crate::origin::Cors;

/// A request that is not done, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The cause.
    pub reason: Reason,
    /// Whether the request was a `HEAD`, whose answer has no body.
    pub head_only: bool,
    more: Option<Box<More>>,
}

/// What only few refusals have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct More {
    detail: Option<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
    allow: Option<&'static str>,
    retry_after: Option<u32>,
    upgrade: Option<String>,
    vary_accept: bool,
    cors: Cors,
}

impl Refusal {
    /// A refusal with the words of its reason.
    pub fn new(reason: Reason) -> Refusal {
        Refusal { reason, head_only: false, more: None }
    }

    /// With a sentence that says more than the reason's own about what went wrong.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Refusal {
        self.more().detail = Some(detail.into());
        self
    }

    /// With a hint that fits better than the reason's own.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Refusal {
        self.more().hint = Some(hint.into());
        self
    }

    /// With the methods that would be allowed (RFC 9110 §10.2.1).
    pub fn allow(mut self, methods: &'static str) -> Refusal {
        self.more().allow = Some(methods);
        self
    }

    /// With another time than the reason's own after which to try again, in seconds.
    pub fn retry_after(mut self, seconds: u32) -> Refusal {
        self.more().retry_after = Some(seconds);
        self
    }

    /// With the protocols that the path would switch to, where that is not `websocket` alone; for refusals with 426.
    pub(crate) fn upgrade(mut self, protocols: String) -> Refusal {
        self.more().upgrade = Some(protocols);
        self
    }

    /// Saying that another `Accept` would have been answered otherwise.
    pub fn vary_accept(mut self) -> Refusal {
        self.more().vary_accept = true;
        self
    }

    /// Readable by the page that asked, where its origin is allowed.
    pub fn cors(mut self, cors: Cors) -> Refusal {
        self.more().cors = cors;
        self
    }

    /// For a `HEAD` request, if `head_only`: the same answer without its body.
    pub fn head_only(mut self, head_only: bool) -> Refusal {
        self.head_only = head_only;
        self
    }

    /// Appends the complete answer to `out`.
    pub fn write(&self, date: &Date, out: &mut Vec<u8>) {
        self.answer().write(date, out);
    }

    /// The body alone: an `application/problem+json` object with `type`, `title`, `status`, `detail` and `hint`.
    pub fn problem(&self) -> String {
        let reason = self.reason;
        let more = self.more.as_deref();
        let detail = more.and_then(|more| more.detail.as_deref()).unwrap_or(reason.detail());
        let hint = more.and_then(|more| more.hint.as_deref()).unwrap_or(reason.hint());
        let mut body = format!("{{\"type\":\"urn:moongate:problem:{}\",\"title\":", reason.label());
        body.push_str(&json::quoted(reason.title()));
        body.push_str(&format!(",\"status\":{},\"detail\":", reason.status()));
        body.push_str(&json::quoted(detail));
        body.push_str(",\"hint\":");
        body.push_str(&json::quoted(hint));
        body.push_str("}\n");
        body
    }

    /// The answer, still to be written.
    pub fn answer(&self) -> Answer {
        let mut answer = Answer::new(self.reason.status())
            .content("application/problem+json", self.problem().into_bytes())
            .head_only(self.head_only);
        let none = More::default();
        let more = self.more.as_deref().unwrap_or(&none);
        if let Some(methods) = more.allow {
            answer = answer.field("Allow", methods);
        }
        if let Some(seconds) = more.retry_after.or(self.reason.retry_after()) {
            answer = answer.field("Retry-After", seconds.to_string());
        }
        if self.reason.names_version() {
            answer = answer.field("Sec-WebSocket-Version", "13");
        }
        if self.reason.status() == 426 {
            let protocols = more.upgrade.clone().map_or(Cow::Borrowed("websocket"), Cow::Owned);
            answer = answer.upgrade(protocols);
        }
        if more.vary_accept {
            answer = answer.vary("Accept");
        }
        answer.cors(&more.cors)
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal::new(reason)
    }
}
