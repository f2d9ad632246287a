//! Publishing to a topic, and the list of topics.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State as Shared};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use moongate_hub::{Kind, Ordered};
use moongate_wire::answer::published;
use moongate_wire::json::is_json;
use moongate_wire::refusal::Reason;
use moongate_wire::topic::TopicName;
use moongate_wire::utf8::is_utf8;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::clerk::{PublishRequest, Request};
use crate::health::{json, silence};
use crate::problem::{Cause, Problem};
use crate::rounds::{ListRequest, Listing, Page, Unlisted};
use crate::state::State;

/// What every topic's path starts with.
const PREFIX: &str = "/topics/";

// Publishing.

/// `POST /topics/<name>`: the body is one message. 200 with `{"topic","epoch","offset"}` once it has its place; the
/// epoch is 16 hexadecimal digits in a string.
pub(crate) async fn publish(
    Shared(state): Shared<Arc<State>>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let outcome = publish_one(&state, request).await;
    state.tally.publishes.add(outcome.as_ref().map_or_else(Problem::label, |_| "ordered"));
    let (topic, Ordered { epoch, offset, .. }) = outcome?;
    Ok(json(published(topic.as_str(), epoch, offset)))
}

async fn publish_one(state: &State, request: HttpRequest) -> Result<(TopicName, Ordered), Problem> {
    let (head, body) = request.into_parts();
    let name = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let topic = TopicName::from_path(name.as_bytes())?;
    let kind = kind(&head.headers);
    // Held until the message has its place or is given up.
    let _room = reserve(state, &head.headers)?;
    let payload = read(state, body).await?;
    match kind {
        Kind::Text if !is_utf8(&payload) => return Err(Reason::NotText.into()),
        Kind::Json if !is_json(&payload) => return Err(Reason::NotJson.into()),
        Kind::Text | Kind::Json | Kind::Binary => {}
    }
    let request = |reply| {
        Request::Publish(PublishRequest { topic: topic.clone(), kind, payload: payload.into(), reply })
    };
    match timeout(state.limits().publish_timeout, state.ask(request)).await {
        Ok(answer) => Ok((topic, answer??)),
        Err(_) => Err(Reason::NotOrdered.into()),
    }
}

/// What the message is, by the one `Content-Type`, as on the public listeners.
fn kind(headers: &HeaderMap) -> Kind {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Kind::Text };
    match moongate_wire::Kind::of_media_type(value.as_bytes()) {
        moongate_wire::Kind::Text => Kind::Text,
        moongate_wire::Kind::Json => Kind::Json,
        moongate_wire::Kind::Binary => Kind::Binary,
    }
}

/// Makes room for the body before the first byte of it is read.
fn reserve(state: &State, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes_max = state.config.message_bytes_max;
    // hyper has checked that it is a number, and that it is not there beside a transfer coding.
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bytes = match length.map(usize::try_from) {
        None => bytes_max,
        Some(Ok(length)) if length <= bytes_max => length,
        Some(_) => return Err(Reason::BodyTooLarge.into()),
    };
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(&state.publish_bytes).try_acquire_many_owned(permits).map_err(|_| Reason::Busy.into())
}

async fn read(state: &State, body: Body) -> Result<Vec<u8>, Problem> {
    let whole = Limited::new(body, state.config.message_bytes_max).collect();
    match timeout(state.limits().body_timeout, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reason::BodyTooLarge.into()),
        // Most often the client has gone; else its chunks are malformed.
        Ok(Err(_)) => Err(Reason::BodyIncomplete.into()),
        Err(_) => Err(Reason::BodyTimeout.into()),
    }
}

// Listing.

/// A topic in the list.
#[derive(Serialize)]
struct Row<'a> {
    topic: &'a str,
    subscribers: u64,
    epoch: Option<String>,
    offset: Option<u64>,
}

/// `GET /topics?limit=<n>&after=<name>`: an array of `{"topic","subscribers","epoch","offset"}`, sorted bytewise by
/// name. `subscribers` is the sum over all shards, `epoch` as when publishing, `offset` that of the last message;
/// both are null for a topic that its home is just forgetting. Where the list is cut at its limit, a `Link` field
/// with `rel="next"` has the path of the rest (RFC 8288).
pub(crate) async fn list(
    Shared(state): Shared<Arc<State>>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let page = page(request.uri().query().unwrap_or_default(), state.limits().topics_max)?;
    let limit = page.limit;
    let listing = state.ask(|reply| Request::List(ListRequest { page, reply })).await?;
    match listing {
        Ok(listing) => Ok(render(&listing, limit)),
        Err(Unlisted::Busy) => Err(Reason::Busy.into()),
        Err(Unlisted::Silent(shards)) => Err(silence(&shards)),
    }
}

/// Reads the query; a limit above `topics_max` is that.
fn page(query: &str, topics_max: usize) -> Result<Page, Problem> {
    let mut page = Page { after: None, limit: topics_max };
    let mut limited = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("limit", value)) if !limited => {
                let limit = value.parse::<usize>().ok().filter(|limit| *limit > 0);
                page.limit = limit.ok_or(Cause::QueryMalformed)?.min(topics_max);
                limited = true;
            }
            Some(("after", value)) if page.after.is_none() => {
                // The cursor is a topic's name, percent-encoded as in its path.
                let name = TopicName::from_path(value.as_bytes()).map_err(|_| Cause::QueryMalformed)?;
                page.after = Some(name.as_str().to_owned());
            }
            _ => return Err(Cause::QueryMalformed.into()),
        }
    }
    Ok(page)
}

fn render(listing: &Listing, limit: usize) -> Response {
    let rows: Vec<Row<'_>> = listing
        .topics
        .iter()
        .map(|(topic, seen)| Row {
            topic,
            subscribers: seen.subscribers,
            epoch: seen.home.map(|(epoch, _)| format!("{epoch:016x}")),
            offset: seen.home.map(|(_, offset)| offset),
        })
        .collect();
    let mut body = serde_json::to_string(&rows).expect("rows of text and numbers are always JSON");
    body.push('\n');
    let mut response = json(body);
    if let Some((last, _)) = listing.topics.last_key_value().filter(|_| listing.more) {
        let link = format!("</topics?limit={limit}&after={}>; rel=\"next\"", encode(last));
        let link = HeaderValue::try_from(link).expect("percent-encoded text is always a field value");
        response.headers_mut().insert(LINK, link);
    }
    response
}

/// Percent-encodes a topic's name as in its path: slashes stay (RFC 3986 §3.3).
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let check = |query: &str, expect: Option<(Option<&str>, usize)>| {
            let got = page(query, 100).ok().map(|page| (page.after, page.limit));
            assert_eq!(got, expect.map(|(after, limit)| (after.map(str::to_owned), limit)), "{query}");
        };
        check("", Some((None, 100)));
        check("limit=5", Some((None, 5)));
        check("limit=5000", Some((None, 100)));
        check("after=caf%C3%A9/au%20lait&limit=1", Some((Some("café/au lait"), 1)));
        check("&", Some((None, 100)));
        check("limit=0", None);
        check("limit=-1", None);
        check("limit=", None);
        check("limit", None);
        check("limit=1&limit=2", None);
        check("after=", None);
        check("after=a&after=b", None);
        check("page=2", None);
    }

    #[test]
    fn cursors_come_back_as_they_were() {
        for name in ["news", "sport/tennis", "café au lait", "100% & more?", "a=b;c,d\"<>"] {
            let parsed = page(&format!("after={}", encode(name)), 1).unwrap();
            assert_eq!(parsed.after.as_deref(), Some(name));
        }
    }
}
