//! The text of a table of routes. Whatever is wrong is shown where it stands, and all of it at once.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::spoken::{OFF, Spoken};
use super::{Pattern, Protocol, Route, Routes, Service, Tunnel, Upstream, UpstreamName};
use crate::head::Host;
use crate::protocol::{SUBPROTOCOLS, WAMP_ALIAS};
use crate::scan::is_token_byte;

/// How many routes a table may have.
const ROUTES_MAX: usize = 1024;

/// How many upstreams a route may have.
const UPSTREAMS_MAX: usize = 64;

/// How long the path of a Unix socket may be: what `sockaddr_un` has room for, less its NUL (`unix(7)`).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// How long a name may be (RFC 1035 §2.3.4, without the root's dot).
const NAME_BYTES_MAX: usize = 253;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What a tunnel's lifetime is if there is no end to it.
pub(super) const NO_LIFETIME: &str = "none";

/// The one option of routes whose WebSockets are spoken here.
pub(super) const SUBPROTOCOLS_OPTION: &str = "subprotocols";

/// The bounds of every time in a route.
const TIME_MIN: Duration = Duration::from_millis(100);
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Names of protocols that are never switched to: each would let requests follow on the same connection that nobody
/// here has seen (docs/protocol.md H18; h2c smuggling).
const NEVER: [&str; 5] = ["h2c", "h2", "h3", "http", "tls"];

/// What is wrong with an option that is there again.
const TWICE: &str = "here for the second time; wants it once";

/// Something wrong in a table, and where. It shows as the message, the line, and a caret under the spot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteError {
    message: String,
    line: String,
    /// In characters from the line's start.
    column: usize,
    width: usize,
}

impl fmt::Display for RouteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { message, line, column, width } = self;
        write!(out, "{message}\n  {line}\n  {:column$}{}", "", "^".repeat(*width))
    }
}

/// A piece of the text and where it stands there.
#[derive(Copy, Clone)]
struct Word<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Word<'t> {
    fn part(self, from: usize, to: usize) -> Word<'t> {
        Word { text: &self.text[from..to], at: self.at + from }
    }

    /// Cut at `separator`; each piece knows its own place.
    fn split(self, separator: char) -> impl Iterator<Item = Word<'t>> {
        let mut at = self.at;
        self.text.split(separator).map(move |text| {
            let word = Word { text, at };
            at += text.len() + separator.len_utf8();
            word
        })
    }
}

/// What is wrong with a word.
struct Wrong<'t>(Word<'t>, String);

fn wrong<'t, T>(word: Word<'t>, message: impl Into<String>) -> Result<T, Wrong<'t>> {
    Err(Wrong(word, message.into()))
}

pub(super) fn parse(text: &str) -> Result<Routes, Vec<RouteError>> {
    let mut routes = Routes::default();
    let mut errors = Vec::new();
    for piece in pieces(text) {
        match route(piece, &mut routes) {
            Ok(Some(route)) => routes.routes.push(route),
            Ok(None) => {}
            Err(wrong) => errors.push(show(text, wrong)),
        }
    }
    if errors.is_empty() { Ok(routes) } else { Err(errors) }
}

/// The routes' texts, without comments.
fn pieces(text: &str) -> impl Iterator<Item = Word<'_>> {
    let whole = Word { text, at: 0 };
    whole.split('\n').flat_map(|line| {
        let comment = line.text.char_indices().find(|(at, letter)| {
            *letter == '#' && line.text[..*at].chars().next_back().is_none_or(char::is_whitespace)
        });
        line.part(0, comment.map_or(line.text.len(), |(at, _)| at)).split(';')
    })
}

fn words(piece: Word<'_>) -> impl Iterator<Item = Word<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &piece.text[at..];
        let start = at + rest.find(|letter: char| !letter.is_whitespace())?;
        let rest = &piece.text[start..];
        at = start + rest.find(char::is_whitespace).unwrap_or(rest.len());
        Some(piece.part(start, at))
    })
}

fn route<'t>(piece: Word<'t>, routes: &mut Routes) -> Result<Option<Route>, Wrong<'t>> {
    let mut words = words(piece);
    let Some(first) = words.next() else { return Ok(None) };
    let pattern = pattern(first)?;
    if let Some(before) = routes.routes.iter().find(|route| route.pattern.covers(&pattern)) {
        return wrong(first, format!("never reached: {} comes before it and takes it all", before.pattern));
    }
    if routes.routes.len() == ROUTES_MAX {
        return wrong(first, format!("one route too many; wants at most {ROUTES_MAX}"));
    }
    let Some(service) = words.next() else {
        return wrong(
            first,
            "leads nowhere; wants a service behind it: topics, connect, echo, page, health, ready or tunnel",
        );
    };
    let service = match service.text {
        "topics" if !pattern.below => {
            return wrong(
                first,
                "topics need a pattern that ends in /*, such as /topics/*: what the star stands for is the name",
            );
        }
        "topics" => Service::Topics(spoken(service, words.by_ref())?),
        "connect" => Service::Connect(spoken(service, words.by_ref())?),
        "echo" => Service::Echo,
        "page" => Service::Page,
        "health" => Service::Health { ready: false },
        "ready" => Service::Health { ready: true },
        "tunnel" => {
            return tunnel(service, &pattern, words, routes)
                .map(|tunnel| Some(Route { pattern, service: Service::Tunnel(Box::new(tunnel)) }));
        }
        _ => {
            return wrong(
                service,
                "not a service; wants topics, connect, echo, page, health, ready or tunnel",
            );
        }
    };
    match words.next() {
        Some(more) => wrong_option(service.word(), more),
        None => Ok(Some(Route { pattern, service })),
    }
}

/// What to say of `more` behind a service that has no options.
fn wrong_option<'t, T>(service: &str, more: Word<'t>) -> Result<T, Wrong<'t>> {
    match name_and_value(more) {
        Some((name, _)) if name.text == SUBPROTOCOLS_OPTION => {
            wrong(name, format!("not an option of {service}; wants it on a route of topics or connect"))
        }
        _ => wrong(more, format!("too much; {service} has no options. Routes are parted by ; or a line end")),
    }
}

/// The two sides of `name=value`.
fn name_and_value(word: Word<'_>) -> Option<(Word<'_>, Word<'_>)> {
    let equals = word.text.find('=')?;
    Some((word.part(0, equals), word.part(equals + 1, word.text.len())))
}

/// What is spoken on a route of `service`, by what stands behind it.
fn spoken<'t>(service: Word<'t>, words: impl Iterator<Item = Word<'t>>) -> Result<Spoken, Wrong<'t>> {
    let mut spoken = None;
    for word in words {
        let Some((name, value)) = name_and_value(word) else {
            return wrong(
                word,
                format!(
                    "too much; {} has no option but {SUBPROTOCOLS_OPTION}=. Routes are parted by ; or a line end",
                    service.text
                ),
            );
        };
        if name.text != SUBPROTOCOLS_OPTION {
            return wrong(name, format!("not an option of {}; wants {SUBPROTOCOLS_OPTION}", service.text));
        }
        if spoken.is_some() {
            return wrong(name, TWICE);
        }
        spoken = Some(subprotocols(service, value)?);
    }
    Ok(spoken.unwrap_or_default())
}

fn subprotocols<'t>(service: Word<'t>, value: Word<'t>) -> Result<Spoken, Wrong<'t>> {
    let is_off = |word: Word<'_>| word.text.eq_ignore_ascii_case(OFF);
    // A topic's WebSocket carries bare payloads then; a connection without a topic would have no use.
    if is_off(value) && service.text == "connect" {
        return wrong(value, format!("nobody could ever connect here; wants {}", all_subprotocols()));
    }
    if is_off(value) {
        return Ok(Spoken::only(Vec::new()));
    }
    let mut enabled = Vec::new();
    for word in value.split(',') {
        match SUBPROTOCOLS.iter().find(|known| known.name == word.text) {
            Some(known) if enabled.contains(known) => return wrong(word, TWICE),
            Some(known) => enabled.push(*known),
            None if is_off(word) => return wrong(word, format!("{OFF} stands alone or not at all")),
            None if word.text == WAMP_ALIAS.name => {
                return wrong(
                    word,
                    "comes with the protocol's right name where MOONGATE_WAMP_ALIAS is on, and not by itself",
                );
            }
            None => return wrong(word, format!("not a subprotocol; wants {}", all_subprotocols())),
        }
    }
    Ok(Spoken::only(enabled))
}

/// All that can be enabled, for error texts.
fn all_subprotocols() -> String {
    let names: Vec<&str> = SUBPROTOCOLS.iter().map(|known| known.name).collect();
    format!("names of {}, with commas between them", names.join(" or "))
}

fn pattern(word: Word<'_>) -> Result<Pattern, Wrong<'_>> {
    if !word.text.starts_with('/') {
        return wrong(word, "not a path; wants one that starts with a slash, such as /chat/* or /chat");
    }
    check_path(word, word.text.strip_suffix("/*").map_or(word.text.len(), str::len))?;
    let below = word.text.ends_with("/*");
    let text = word.text.strip_suffix('*').filter(|_| below).unwrap_or(word.text);
    Ok(Pattern { text: text.into(), below })
}

/// That the first `end` bytes of `word` can stand in a path as they are.
fn check_path(word: Word<'_>, end: usize) -> Result<(), Wrong<'_>> {
    let found = word.text[..end].char_indices().find_map(|(at, letter)| {
        let message = match letter {
            '*' => "a star goes at the end only, after a slash",
            '?' | '#' => "routes look at the path alone; wants it without query and fragment",
            '!'..='~' => return None,
            _ => "not a character that a path can have; percent-encode it as clients do",
        };
        Some((at, letter.len_utf8(), message))
    });
    match found {
        Some((at, length, message)) => wrong(word.part(at, at + length), message),
        None => Ok(()),
    }
}

/// Which options a tunnel has, for error texts.
const OPTIONS: &str =
    "upgrade, strip, prefix, host, http, connect_timeout, answer_timeout, idle_timeout or lifetime";

fn tunnel<'t>(
    service: Word<'t>,
    pattern: &Pattern,
    mut words: impl Iterator<Item = Word<'t>>,
    routes: &mut Routes,
) -> Result<Tunnel, Wrong<'t>> {
    let Some(upstreams) = words.next() else {
        return wrong(
            service,
            "leads nowhere; wants an upstream behind it, such as app.internal:3000 or unix:/run/app.sock",
        );
    };
    let mut tunnel = Tunnel {
        upstreams: Vec::new(),
        connect_timeout: CONNECT_TIMEOUT,
        answer_timeout: ANSWER_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        lifetime: None,
        protocols: vec![Protocol("websocket".into())],
        strip: Box::default(),
        prefix: Box::default(),
        host: None,
        http: false,
    };
    for word in upstreams.split(',') {
        if tunnel.upstreams.len() == UPSTREAMS_MAX {
            return wrong(word, format!("one upstream too many; wants at most {UPSTREAMS_MAX} for a route"));
        }
        let upstream = upstream(word, routes)?;
        tunnel.upstreams.push(upstream);
    }
    let mut seen: Vec<&str> = Vec::new();
    for word in words {
        let Some((name, value)) = name_and_value(word) else {
            return wrong(word, format!("not an option; wants name=value, with {OPTIONS} as the name"));
        };
        if seen.contains(&name.text) {
            return wrong(name, TWICE);
        }
        seen.push(name.text);
        option(name, value, pattern, &mut tunnel)?;
    }
    Ok(tunnel)
}

fn option<'t>(
    name: Word<'t>,
    value: Word<'t>,
    pattern: &Pattern,
    tunnel: &mut Tunnel,
) -> Result<(), Wrong<'t>> {
    match name.text {
        "upgrade" => tunnel.protocols = value.split(',').map(protocol).collect::<Result<_, _>>()?,
        "strip" => tunnel.strip = strip(value, pattern)?,
        "prefix" => tunnel.prefix = prefix(value)?,
        "host" if Host::parse(value.text.as_bytes()).is_some() => tunnel.host = Some(value.text.into()),
        "host" => return wrong(value, "not a host; wants one such as app.example or app.example:8080"),
        "http" if value.text == "pass" => tunnel.http = true,
        "http" => return wrong(value, "wants pass; leave http= out and ordinary requests are answered 426"),
        "connect_timeout" => tunnel.connect_timeout = duration(value)?,
        "answer_timeout" => tunnel.answer_timeout = duration(value)?,
        "idle_timeout" => tunnel.idle_timeout = duration(value)?,
        "lifetime" if value.text == NO_LIFETIME => tunnel.lifetime = None,
        "lifetime" => tunnel.lifetime = Some(duration(value)?),
        SUBPROTOCOLS_OPTION => {
            return wrong(
                name,
                "not an option of tunnel, whose two ends agree on them by themselves; wants it on topics or connect",
            );
        }
        _ => return wrong(name, format!("not an option; wants {OPTIONS}")),
    }
    Ok(())
}

fn upstream<'t>(word: Word<'t>, routes: &mut Routes) -> Result<Upstream, Wrong<'t>> {
    const WANTS: &str =
        "wants host:port, such as app.internal:3000, 10.0.0.7:3000 or [::1]:3000, or unix:/run/app.sock";
    if let Some(path) = word.text.strip_prefix("unix:") {
        return unix(word, path);
    }
    if let Some((scheme, _)) = word.text.split_once("://") {
        let scheme = word.part(0, scheme.len() + 3);
        return match scheme.text {
            "tls://" | "https://" | "wss://" => wrong(
                scheme,
                "TLS to upstreams is not yet supported; wants plain host:port, or a proxy in between that speaks TLS",
            ),
            _ => wrong(scheme, format!("upstreams have no scheme; {WANTS}")),
        };
    }
    if let Ok(address) = word.text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            wrong(word, format!("port 0 is nobody's; {WANTS}"))
        } else {
            Ok(Upstream::Tcp(address))
        };
    }
    let Some((host, port)) = word.text.rsplit_once(':') else {
        return wrong(word, format!("has no port; {WANTS}"));
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let Some(port_number) = port.parse::<u16>().ok().filter(|number| digits && *number > 0) else {
        let port = word.part(host.len() + 1, word.text.len());
        return wrong(
            if port.text.is_empty() { word } else { port },
            "not a port; wants a number from 1 to 65535",
        );
    };
    if !is_name(host) {
        return wrong(word, format!("not a host; {WANTS}"));
    }
    let name = UpstreamName { host: host.to_ascii_lowercase().into(), port: port_number };
    let index = routes.names.iter().position(|known| *known == name).unwrap_or_else(|| {
        routes.names.push(name);
        routes.names.len() - 1
    });
    // Routes and their upstreams are bounded so that this fits.
    Ok(Upstream::Name(index as u16))
}

const _: () = assert!(ROUTES_MAX * UPSTREAMS_MAX <= 1 << 16);

fn unix<'t>(word: Word<'t>, path: &str) -> Result<Upstream, Wrong<'t>> {
    if !path.starts_with('/') {
        return wrong(word, "not a socket; wants its whole path, such as unix:/run/app.sock");
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return wrong(
            word,
            format!("too long for a socket; wants a path of at most {UNIX_PATH_BYTES_MAX} bytes"),
        );
    }
    Ok(Upstream::Unix(Path::new(path).into()))
}

/// A name as resolvers take it: labels of letters, digits, hyphens and underscores, and a dot between them.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    // What has digits only in its last label is an address with a mistake in it (RFC 3696 §2).
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= NAME_BYTES_MAX && !numeric && host.split('.').all(label)
}

/// RFC 9110 §7.8: a token, and perhaps a slash and another.
fn protocol(word: Word<'_>) -> Result<Protocol, Wrong<'_>> {
    let (name, version) = word.text.split_once('/').unwrap_or((word.text, "1"));
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    if !is_token(name) || !is_token(version) {
        return wrong(
            word,
            "not a protocol; wants names such as websocket or acme-rpc/2, with commas between them",
        );
    }
    if NEVER.iter().any(|never| name.eq_ignore_ascii_case(never)) {
        return wrong(
            word,
            format!("{name} is never tunnelled: requests in it would pass by every check made here"),
        );
    }
    Ok(Protocol(word.text.into()))
}

fn strip<'t>(value: Word<'t>, pattern: &Pattern) -> Result<Box<str>, Wrong<'t>> {
    let text = value.text.strip_suffix('/').unwrap_or(value.text);
    let whole = pattern.text.strip_suffix('/').unwrap_or(&pattern.text);
    let fits = !text.is_empty()
        && whole.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if fits { Ok(text.into()) } else { wrong(value, format!("not what the paths of {pattern} start with")) }
}

fn prefix(value: Word<'_>) -> Result<Box<str>, Wrong<'_>> {
    if !value.text.starts_with('/') {
        return wrong(value, "not a path; wants one that starts with a slash");
    }
    check_path(value, value.text.len())?;
    Ok(value.text.strip_suffix('/').unwrap_or(value.text).into())
}

fn duration(word: Word<'_>) -> Result<Duration, Wrong<'_>> {
    let digits = word.text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.text.split_at(digits);
    let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let millis =
        factor.zip(number.parse::<u64>().ok()).and_then(|(factor, number)| number.checked_mul(factor));
    match millis.map(Duration::from_millis).filter(|time| (TIME_MIN..=TIME_MAX).contains(time)) {
        Some(time) => Ok(time),
        None => wrong(word, "not a time; wants one from 100ms to 168h, such as 5s, 2m or 1h"),
    }
}

/// A time with the largest unit that leaves a whole number.
pub(super) fn duration_text(time: Duration) -> String {
    let millis = time.as_millis() as u64;
    let fitting = TIME_UNITS.iter().find(|(_, factor)| millis.is_multiple_of(*factor));
    let (unit, factor) = fitting.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// The error with the line it is in. Tabs and control characters count and show as one blank.
fn show(text: &str, Wrong(word, message): Wrong<'_>) -> RouteError {
    let start = text[..word.at].rfind('\n').map_or(0, |at| at + 1);
    let end = text[word.at..].find('\n').map_or(text.len(), |at| word.at + at);
    let plain = |text: &str| {
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect::<String>()
    };
    RouteError {
        message,
        line: plain(&text[start..end]).trim_end().to_owned(),
        column: text[start..word.at].chars().count(),
        width: word.text.chars().count().max(1),
    }
}
