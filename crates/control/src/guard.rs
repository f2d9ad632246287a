//! Who may use the control listener.
//!
//! It stands on loopback by default and asks for nothing there; so any web page in a browser on the same machine could
//! reach it. Two fields stop that. `Origin`, which browsers put on what pages send: only listed ones may. `Host`, which
//! says under which name the browser was called: a page whose own name was made to resolve to this address (DNS
//! rebinding) still sends that name, so only names that cannot be a stranger's are answered.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use moongate_wire::head::Host;
use moongate_wire::origin::Origin;
use moongate_wire::refusal::{Reason, Refusal};

use crate::Config;
use crate::problem::{Cause, Problem};
use crate::server::Ends;
use crate::state::State;

/// Paths that whoever can reach the listener may ask for, without a token.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Lets a request through to its handler, or refuses it.
pub(crate) async fn guard(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let ends = request.extensions().get::<Ends>().copied();
    let origin = match admit(&state.config, ends.map(|ends| ends.local.ip()), &request) {
        Ok(origin) => origin,
        Err(problem) => return problem.into_response(),
    };
    let mut response = if origin.is_some() && is_preflight(&request) {
        preflight()
    } else if let Err(problem) = check_token(&state.config, &request) {
        problem.into_response()
    } else {
        next.run(request).await
    };
    if let Some(origin) = origin {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().append(VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Checks under which name the listener was called and by which page; returns the page's origin.
fn admit(config: &Config, local: Option<IpAddr>, request: &Request) -> Result<Option<HeaderValue>, Problem> {
    if !is_known(&host(request)?, local, &config.hosts) {
        return Err(Cause::HostRefused.into());
    }
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let Some(first) = origins.next() else { return Ok(None) };
    let listed = Origin::parse(first.as_bytes()).is_some_and(|origin| config.origins.contains(&origin));
    if !listed || origins.next().is_some() {
        return Err(Refusal::new(Reason::OriginRefused)
            .detail("Pages of this Origin may not use the control listener.")
            .hint(
                "Add the page's origin to MOONGATE_CONTROL_ORIGINS, as in \
                 MOONGATE_CONTROL_ORIGINS=https://ops.example.com. A program that is no web page leaves Origin out.",
            )
            .into());
    }
    Ok(Some(first.clone()))
}

/// The host that the request is for: the target's where it is a full URL (RFC 9112 §3.2.2), else that of `Host`.
fn host(request: &Request) -> Result<Host<'_>, Problem> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Reason::ManyHosts.into());
    }
    let host = match (request.uri().authority(), field) {
        (Some(authority), _) => Host::parse(authority.as_str().as_bytes()),
        (None, Some(field)) => Host::parse(field.as_bytes()),
        (None, None) => return Err(Reason::NoHost.into()),
    };
    host.ok_or_else(|| Reason::BadHost.into())
}

/// Whether `host` is loopback, the address that was connected to, or configured. An address cannot be rebound, and
/// nobody but this machine answers at this one.
fn is_known(host: &Host<'_>, local: Option<IpAddr>, configured: &[String]) -> bool {
    if host.name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(host.name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let address = address.to_canonical();
        if address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address) {
            return true;
        }
    }
    configured.iter().filter_map(|entry| Host::parse(entry.as_bytes())).any(|entry| {
        entry.name.eq_ignore_ascii_case(host.name) && entry.port.is_none_or(|port| host.port == Some(port))
    })
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Tells a browser that pages of a listed origin may send more than plain requests (Fetch §3.2.2). Preflights carry no
/// token.
fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Content-Type"));
    response
}

fn check_token(config: &Config, request: &Request) -> Result<(), Problem> {
    let Some(token) = &config.token else { return Ok(()) };
    if OPEN_PATHS.contains(&request.uri().path()) {
        return Ok(());
    }
    let given = bearer(request.headers())?;
    if is_equal(given, token.as_bytes()) { Ok(()) } else { Err(Cause::TokenWrong.into()) }
}

/// What `Authorization` carries for the scheme Bearer (RFC 6750 §2.1; the scheme's case does not matter).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Cause> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = fields.next().ok_or(Cause::TokenMissing)?.as_bytes();
    if fields.next().is_some() {
        return Err(Cause::TokenWrong);
    }
    match field.split_at_checked(b"Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(token.trim_ascii()),
        _ => Err(Cause::TokenWrong),
    }
}

/// Whether two secrets are equal, in a time that tells nothing but their lengths.
fn is_equal(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len()
        && given.iter().zip(expected).fold(0, |seen, (a, b)| black_box(seen | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let configured = ["ops.example".to_owned(), "Gate.example:8081".to_owned(), "10.1.1.1".to_owned()];
        let check = |host: &str, expect| {
            let local = Some("192.0.2.7".parse().unwrap());
            let parsed = Host::parse(host.as_bytes()).unwrap();
            assert_eq!(is_known(&parsed, local, &configured), expect, "{host}");
        };
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1",
            "127.255.0.9:8081",
            "[::1]",
            "[::1]:65535",
            "[::ffff:127.0.0.1]:80",
            "192.0.2.7:8081",
            "ops.example",
            "OPS.example:99",
            "gate.EXAMPLE:8081",
            "10.1.1.1:3",
        ] {
            check(host, true);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.localhost.example:8081",
            "192.0.2.8:8081",
            "128.0.0.1",
            "[::2]",
            "gate.example",
            "gate.example:8082",
            "sub.ops.example",
            "0.0.0.0",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn secrets() {
        let check =
            |given: &str, expect| assert_eq!(is_equal(given.as_bytes(), b"s3cret"), expect, "{given}");
        check("s3cret", true);
        check("s3cres", false);
        check("S3cret", false);
        check("s3cre", false);
        check("s3cret ", false);
        check("", false);
    }
}
