//! A complete request head, parsed in place: `httparse` once, and then the rules that it leaves to others.
//!
//! What comes out has one method that is known, one target in a form that goes with it, at most one host, and one
//! certain way in which a body ends. Whatever would leave room for two readings is refused (A13 to A24).

mod answer;
mod lines;
mod name;

use std::fmt;
use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

pub(crate) use answer::AnswerHead;
pub(crate) use lines::Lines;
pub use lines::One;
pub use name::Name;

use crate::body::Framing;
use crate::refusal::{Reason, Refusal};

/// How many field lines a head may have.
pub const FIELDS_MAX: usize = 100;

/// How many members, empty ones included, a list field may have over all its lines.
pub const LIST_MEMBERS_MAX: usize = 64;

/// Room for the fields of one head; the caller keeps it on its stack.
pub struct Fields<'b> {
    fields: [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX],
    names: [Name; FIELDS_MAX],
}

impl Fields<'_> {
    /// Empty room.
    pub const fn new() -> Self {
        Fields { fields: [const { MaybeUninit::uninit() }; FIELDS_MAX], names: [Name::Other; FIELDS_MAX] }
    }
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Fields::new()
    }
}

/// The methods known here; any other is answered 501, `CONNECT` too.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Method {
    /// Read.
    Get,
    /// Read, without the body.
    Head,
    /// Publish.
    Post,
    /// Refused everywhere but on tunnels.
    Put,
    /// Refused everywhere but on tunnels.
    Delete,
    /// Ask what is possible.
    Options,
    /// Refused everywhere.
    Trace,
    /// Refused everywhere but on tunnels.
    Patch,
}

impl Method {
    /// As it stands in a request line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
        }
    }
}

/// The version of HTTP that a request is to be understood as.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0: `Upgrade` and `Expect` mean nothing.
    Http10,
    /// HTTP/1.1, or 1.x with a higher x, which is handled as 1.1 (RFC 9110 §2.5).
    Http11,
}

/// What a request is about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Target<'b> {
    /// A path, which starts with a slash and is not decoded, and the query after the `?`.
    Path {
        /// Up to the `?`.
        path: &'b str,
        /// After the `?`, if there is one.
        query: Option<&'b str>,
    },
    /// The server as a whole; only with `OPTIONS`.
    Asterisk,
}

/// The host a request is for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Host<'b> {
    /// A name, an IPv4 address, or an IPv6 address in its brackets; not empty.
    pub name: &'b str,
    /// The port, where it is said.
    pub port: Option<u16>,
}

/// A request head.
#[derive(Copy, Clone, Debug)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target<'b>,
    /// The version.
    pub version: Version,
    /// From the target where it is a full URL, else from the `Host` field; never missing in HTTP/1.1.
    pub host: Option<Host<'b>>,
    /// How the body ends.
    pub framing: Framing,
    pub(crate) lines: Lines<'b>,
}

/// Parses `bytes`, a head that [`crate::scan::Scanner`] has found complete. They are mutable because `httparse` knows
/// versions 1.0 and 1.1 only: a higher minor digit becomes a 1 in place.
pub fn parse<'h, 'b: 'h>(bytes: &'b mut [u8], fields: &'h mut Fields<'b>) -> Result<Head<'h>, Refusal> {
    lower_minor_version(bytes);
    let bytes: &'b [u8] = bytes;
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields.fields);
    let (Ok(httparse::Status::Complete(_)), Some(method), Some(target), Some(minor)) =
        (parsed, request.method, request.path, request.version)
    else {
        return Err(incomplete(parsed).into());
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let head_only = method == "HEAD";
    for (name, field) in fields.names.iter_mut().zip(request.headers.iter()) {
        *name = Name::of(field.name);
    }
    understand(method, target, version, request.headers, &fields.names)
        .map_err(|reason| Refusal::new(reason).head_only(head_only))
}

fn understand<'h>(
    method: &str,
    target: &'h str,
    version: Version,
    fields: &'h [httparse::Header<'h>],
    names: &'h [Name],
) -> Result<Head<'h>, Reason> {
    let connect = method == "CONNECT";
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        _ if connect && Host::parse(target.as_bytes()).is_some() => return Err(Reason::ConnectRefused),
        _ if connect => return Err(Reason::BadTargetForm),
        _ => return Err(Reason::MethodUnknown),
    };
    let (target, authority) = understand_target(method, target)?;
    let lines = Lines::new(fields, names);
    let mut head = Head { method, target, version, host: None, framing: Framing::None, lines };
    // RFC 9112 §3.2.2: the authority of a full URL replaces Host, which must be right all the same.
    head.host = authority.or(head.host_field()?);
    head.framing = lines.framing(version)?;
    lines.check_lists()?;
    Ok(head)
}

/// Writes a 1 over the last digit of the request line if it is higher than that.
fn lower_minor_version(bytes: &mut [u8]) {
    let empty_lines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = &mut bytes[empty_lines..];
    let Some(end) = line.iter().position(|byte| *byte == b'\r') else { return };
    if let Some(digit @ b'2'..=b'9') = line[..end].last_mut() {
        *digit = b'1';
    }
}

/// What `httparse` found that the scanner lets nobody send; a caller may have left the scanner out.
fn incomplete(parsed: httparse::Result<usize>) -> Reason {
    match parsed {
        Ok(_) | Err(httparse::Error::Token | httparse::Error::Status) => Reason::BadRequestLine,
        Err(httparse::Error::Version) => Reason::BadVersion,
        Err(httparse::Error::NewLine) => Reason::LoneCr,
        Err(httparse::Error::HeaderName) => Reason::BadFieldName,
        Err(httparse::Error::HeaderValue) => Reason::BadFieldValue,
        Err(httparse::Error::TooManyHeaders) => Reason::TooManyFields,
    }
}

/// The forms of RFC 9112 §3.2, of which the authority form goes with `CONNECT` only.
fn understand_target(method: Method, text: &str) -> Result<(Target<'_>, Option<Host<'_>>), Reason> {
    if text.contains('#') {
        return Err(Reason::Fragment);
    }
    if text.starts_with('/') {
        return Ok((split_query(text), None));
    }
    if text == "*" && method == Method::Options {
        return Ok((Target::Asterisk, None));
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Err(Reason::BadTargetForm) };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Reason::BadScheme);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = Host::parse(authority.as_bytes()).ok_or(Reason::BadHost)?;
    let target = match path {
        // RFC 9112 §3.2.4: this is how a proxy is asked for `*`.
        "" if method == Method::Options => Target::Asterisk,
        "" => Target::Path { path: "/", query: None },
        _ if path.starts_with('?') => Target::Path { path: "/", query: Some(&path[1..]) },
        _ => split_query(path),
    };
    Ok((target, Some(host)))
}

fn split_query(text: &str) -> Target<'_> {
    match text.split_once('?') {
        Some((path, query)) => Target::Path { path, query: Some(query) },
        None => Target::Path { path: text, query: None },
    }
}

impl<'b> Head<'b> {
    /// The values of all lines of the field `name`, in order, without the whitespace around them. They are bytes: nothing
    /// says that they are UTF-8.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.lines.values(name)
    }

    /// Whether there is any line of the field `name`.
    pub fn has(&self, name: Name) -> bool {
        self.lines.has(name)
    }

    /// The value of the field `name`, if there is just one line of it.
    pub fn one(&self, name: Name) -> One<'b> {
        self.lines.one(name)
    }

    /// The members of the list field `name` over all its lines, in order and without empty ones (RFC 9110 §5.6.1).
    pub fn members(&self, name: Name) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.lines.members(name)
    }

    /// Whether the list field `name` has the member `token` in any case.
    pub fn has_token(&self, name: Name, token: &str) -> bool {
        self.lines.has_token(name, token)
    }

    fn host_field(&self) -> Result<Option<Host<'b>>, Reason> {
        match self.one(Name::Host) {
            One::Missing if self.version == Version::Http10 => Ok(None),
            One::Missing => Err(Reason::NoHost),
            One::Repeated => Err(Reason::ManyHosts),
            One::Value(value) => Host::parse(value).map(Some).ok_or(Reason::BadHost),
        }
    }
}

impl<'b> Host<'b> {
    /// Reads a host with an optional port, as in RFC 9112 §3.2 but never empty and without user information.
    pub fn parse(bytes: &'b [u8]) -> Option<Host<'b>> {
        let text = str::from_utf8(bytes).ok()?;
        let end = match text.strip_prefix('[') {
            Some(inside) => {
                let end = inside.find(']')?;
                inside[..end].parse::<Ipv6Addr>().ok()?;
                end + 2
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, port) = text.split_at(end);
        if !name.starts_with('[') && !is_name(name.as_bytes()) {
            return None;
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) => Some(u16::try_from(parse_digits(digits.as_bytes())?).ok()?),
        };
        Some(Host { name, port })
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)?;
        match self.port {
            Some(port) => write!(out, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A `reg-name` of RFC 3986 §3.2.2 that is not empty. The comma is left out: it is how a proxy joins two hosts.
fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(u8::is_ascii_hexdigit)),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';'
            | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !valid {
            return false;
        }
    }
    !name.is_empty()
}

/// A number of decimal digits and nothing else, not even a sign.
pub(crate) fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}
