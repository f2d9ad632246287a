//! Origins: which pages may use this server (RFC 6454, RFC 6455 §10.2).
//!
//! An origin is compared whole: scheme, host and port, against an exact set. There is no suffix, prefix or pattern.

use crate::head::Host;

/// The pages that may open WebSockets, publish, and read event streams. Who sends no `Origin` is no page, and may.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Origins {
    /// Pages whose origin's host and port are those the request is for.
    #[default]
    Same,
    /// Pages of these origins.
    Listed(Vec<Origin>),
    /// Any page, also one whose origin is `null`.
    Any,
}

/// An origin in its one spelling: lower case, without a port that the scheme implies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// What an answer tells a browser about who may read it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Cors {
    /// Nothing.
    #[default]
    SameOrigin,
    /// Nothing this time; another `Origin` may be told otherwise.
    Unlisted,
    /// Everyone may.
    Any,
    /// Pages of this origin may. It was parsed as an [`Origin`], so it is safe to write.
    Origin(Box<str>),
}

impl Origins {
    /// Reads a setting: `same`, `*`, or serialised origins separated by commas. The error names the part that is neither.
    pub fn parse(text: &str) -> Result<Origins, String> {
        match text.trim() {
            "same" => return Ok(Origins::Same),
            "*" => return Ok(Origins::Any),
            _ => {}
        }
        let origin = |part: &str| {
            let part = part.trim();
            Origin::parse(part.as_bytes())
                .ok_or_else(|| format!("{part:?} is not an origin like https://example.com"))
        };
        text.split(',').map(origin).collect::<Result<_, _>>().map(Origins::Listed)
    }

    /// Whether a page of `origin`, the bytes of an `Origin` field, may use what `host` was asked for.
    pub fn allow(&self, origin: &[u8], host: Option<&Host<'_>>) -> bool {
        match self {
            Origins::Any => true,
            Origins::Listed(listed) => {
                Parts::parse(origin).is_some_and(|origin| listed.iter().any(|listed| origin.is(listed)))
            }
            Origins::Same => Parts::parse(origin).zip(host).is_some_and(|(origin, host)| origin.is_of(host)),
        }
    }

    /// What to tell the browser, given the request's one `Origin` field if it had one.
    pub fn cors(&self, origin: Option<&[u8]>, host: Option<&Host<'_>>) -> Cors {
        if *self == Origins::Any {
            return Cors::Any;
        }
        match origin {
            Some(origin) if self.allow(origin, host) => match str::from_utf8(origin) {
                Ok(origin) => Cors::Origin(origin.into()),
                Err(_) => Cors::Unlisted,
            },
            _ => Cors::Unlisted,
        }
    }
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`; `null` and anything else is none (RFC 6454 §6.2).
    pub fn parse(bytes: &[u8]) -> Option<Origin> {
        let parts = Parts::parse(bytes)?;
        let (scheme, host) = (parts.scheme.to_ascii_lowercase(), parts.host.name.to_ascii_lowercase());
        Some(Origin { scheme, host, port: parts.port() })
    }
}

/// An origin as it was spelt.
struct Parts<'b> {
    scheme: &'b str,
    host: Host<'b>,
}

impl<'b> Parts<'b> {
    fn parse(bytes: &'b [u8]) -> Option<Parts<'b>> {
        let (scheme, authority) = str::from_utf8(bytes).ok()?.split_once("://")?;
        let scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(scheme_byte)
        {
            return None;
        }
        Some(Parts { scheme, host: Host::parse(authority.as_bytes())? })
    }

    /// The port that is not implied.
    fn port(&self) -> Option<u16> {
        self.host.port.filter(|port| Some(*port) != default_port(self.scheme))
    }

    fn is(&self, origin: &Origin) -> bool {
        self.scheme.eq_ignore_ascii_case(&origin.scheme)
            && self.host.name.eq_ignore_ascii_case(&origin.host)
            && self.port() == origin.port
    }

    /// Whether host and port are those of `host`, which may leave out the port that this origin's scheme implies.
    fn is_of(&self, host: &Host<'_>) -> bool {
        let Some(default) = default_port(self.scheme) else { return false };
        self.host.name.eq_ignore_ascii_case(host.name)
            && self.host.port.unwrap_or(default) == host.port.unwrap_or(default)
    }
}

/// The port that a scheme implies; other schemes than these have none.
fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let origin = |text: &str| Origin::parse(text.as_bytes()).expect(text);
        let check = |text, expect| assert_eq!(Origins::parse(text), Ok(expect), "{text:?}");
        check("same", Origins::Same);
        check(" * ", Origins::Any);
        check("https://a.example", Origins::Listed(vec![origin("https://a.example")]));
        check("http://a , HTTPS://B:443", Origins::Listed(vec![origin("http://a:80"), origin("https://b")]));
        check("http://[::1]:3000", Origins::Listed(vec![origin("http://[::1]:3000")]));
        for bad in [
            "",
            "a.example",
            "null",
            "same,http://a",
            "http://a,",
            "http://a/",
            "http://*.a/",
            "://a",
            "1://a",
        ] {
            let error = Origins::parse(bad).expect_err(bad);
            assert!(error.ends_with("is not an origin like https://example.com"), "{error}");
        }
        assert_ne!(origin("http://a"), origin("https://a"));
        assert_ne!(origin("http://a:443"), origin("https://a"));
    }
}
