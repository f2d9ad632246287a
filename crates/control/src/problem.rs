//! Refusals as `application/problem+json` (RFC 9457), each with a hint that tells a person what to change.
//!
//! Most reasons are those of the public listeners, with their words; the table here has those that only the control
//! listener knows.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use moongate_wire::refusal::{Reason, Refusal};
use serde::Serialize;

/// Why a request to the control listener was refused, where the public listeners have no such reason.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// `Host` is neither a loopback name nor configured.
    HostRefused,
    /// A token is needed and there is none.
    TokenMissing,
    /// The token is not the one.
    TokenWrong,
    /// The query has a parameter that is unknown or malformed.
    QueryMalformed,
    /// Some shards did not answer in time.
    ShardsSilent,
}

struct Words {
    status: StatusCode,
    label: &'static str,
    title: &'static str,
    detail: &'static str,
    hint: &'static str,
}

impl Cause {
    const fn words(self) -> Words {
        match self {
            Cause::HostRefused => Words {
                status: StatusCode::FORBIDDEN,
                label: "host_refused",
                title: "Host not allowed",
                detail: "The control listener was called by a name that is neither a loopback name nor configured, \
                         as happens when a web page makes its own name resolve to this address.",
                hint: "Call it as http://127.0.0.1 or http://localhost with its port, or add the name to \
                       MOONGATE_CONTROL_HOSTS.",
            },
            Cause::TokenMissing => Words {
                status: StatusCode::UNAUTHORIZED,
                label: "token_missing",
                title: "Token missing",
                detail: "Everything here but /healthz and /readyz needs the control token.",
                hint: "Send Authorization: Bearer with the value of MOONGATE_CONTROL_TOKEN, as in curl -H \
                       \"Authorization: Bearer $MOONGATE_CONTROL_TOKEN\".",
            },
            Cause::TokenWrong => Words {
                status: StatusCode::UNAUTHORIZED,
                label: "token_wrong",
                title: "Token not accepted",
                detail: "The Authorization field does not carry the control token.",
                hint: "Send Authorization: Bearer with exactly the value of MOONGATE_CONTROL_TOKEN; look for \
                       quotes or a line break around it.",
            },
            Cause::QueryMalformed => Words {
                status: StatusCode::BAD_REQUEST,
                label: "query_malformed",
                title: "Malformed query",
                detail: "A parameter of the query is unknown, repeated or has no valid value.",
                hint: "The list of topics takes limit, a whole number from 1, and after, a topic's name, \
                       percent-encoded: /topics?limit=100&after=news.",
            },
            Cause::ShardsSilent => Words {
                status: StatusCode::SERVICE_UNAVAILABLE,
                label: "shards_silent",
                title: "Shards do not answer",
                detail: "Not every shard answered in time.",
                hint: "Try again; if it goes on, look at tick times in /metrics and at the log.",
            },
        }
    }
}

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) enum Problem {
    /// For a reason that the public listeners have too.
    Shared(Refusal),
    /// For one of this listener's own.
    Own(Cause, Cow<'static, str>),
}

/// Marks a response as a refusal, for the log and the metrics.
#[derive(Copy, Clone)]
pub(crate) struct Refused(pub(crate) &'static str);

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    hint: &'a str,
}

impl Problem {
    /// The reason's stable name.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Problem::Shared(refusal) => refusal.reason.label(),
            Problem::Own(cause, _) => cause.words().label,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Problem::Shared(refusal) => StatusCode::from_u16(refusal.reason.status())
                .expect("the table of reasons has valid statuses"),
            Problem::Own(cause, _) => cause.words().status,
        }
    }

    fn body(&self) -> String {
        let (cause, detail) = match self {
            Problem::Shared(refusal) => return refusal.problem(),
            Problem::Own(cause, detail) => (cause, detail),
        };
        let words = cause.words();
        let document = Document {
            r#type: format!("urn:moongate:problem:{}", words.label),
            title: words.title,
            status: words.status.as_u16(),
            detail,
            hint: words.hint,
        };
        let mut body = serde_json::to_string(&document).expect("strings and a number are always JSON");
        body.push('\n');
        body
    }

    /// The fields that belong to the status.
    fn fields(&self, headers: &mut HeaderMap) {
        let retry_after = match self {
            Problem::Shared(refusal) => refusal.reason.retry_after(),
            Problem::Own(Cause::ShardsSilent, _) => Some(2),
            Problem::Own(..) => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 6750 §3: no error code for a request without a token.
        let challenge = match self {
            Problem::Own(Cause::TokenMissing, _) => "Bearer realm=\"moongate\"",
            Problem::Own(Cause::TokenWrong, _) => "Bearer realm=\"moongate\", error=\"invalid_token\"",
            _ => return,
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem::Shared(refusal)
    }
}

impl From<Reason> for Problem {
    fn from(reason: Reason) -> Problem {
        Problem::Shared(Refusal::new(reason))
    }
}

impl From<Cause> for Problem {
    fn from(cause: Cause) -> Problem {
        Problem::Own(cause, Cow::Borrowed(cause.words().detail))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.fields(headers);
        response.extensions_mut().insert(Refused(self.label()));
        response
    }
}
