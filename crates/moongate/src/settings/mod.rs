//! Settings come from environment variables and from nowhere else, and are read once, at start.
//!
//! [`load`] reads them all before it judges: whoever has three values wrong is told three things. Names that look like
//! ours but are not become warnings, because a misspelt limit is a limit that does not hold.

mod checks;
mod doc;
mod kind;
mod names;
mod table;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use moongate_sys::DriverKind;
use moongate_wire::origin::{Origin, Origins};
use moongate_wire::protocol::{Subprotocol, WAMP_ALIAS};
use moongate_wire::route::Routes;
use tracing_subscriber::filter::Targets;

use table::Setting;

pub(crate) use doc::{help, markdown};

/// What every name of ours begins with.
const PREFIX: &str = "MOONGATE_";

/// What the name of a setting's twin ends with: the path of a file that holds the value.
const FILE_SUFFIX: &str = "_FILE";

/// How much of a wrong value is quoted back, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// How large the file of a secret or of routes may be, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Every setting, parsed. `default()` is the blank sheet; [`Settings::defaults`] is what an empty environment gives.
///
/// The fields are documented where they are defined for everybody: in [`table`].
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) listen_shared: bool,
    pub(crate) origins: Origins,
    pub(crate) insecure: bool,
    pub(crate) health: bool,
    /// `None`: there is no control listener.
    pub(crate) control: Option<SocketAddr>,
    pub(crate) control_token: Option<Secret>,
    pub(crate) control_hosts: Vec<String>,
    pub(crate) control_origins: Vec<Origin>,
    pub(crate) connections_max: u32,
    pub(crate) head_bytes_max: usize,
    pub(crate) message_bytes_max: usize,
    pub(crate) outbox_bytes_max: usize,
    pub(crate) outbox_policy: OutboxPolicy,
    pub(crate) slow_reader_timeout: Duration,
    pub(crate) send_unsent_bytes_max: usize,
    pub(crate) publish_window_bytes: usize,
    /// `None`: the machine decides.
    pub(crate) memory_bytes_max: Option<usize>,
    pub(crate) deflate: bool,
    pub(crate) deflate_min_bytes: usize,
    pub(crate) topics_max: u32,
    pub(crate) topic_linger: Duration,
    pub(crate) history_messages: u32,
    pub(crate) history_bytes: usize,
    pub(crate) history_ttl: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) pong_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) tcp_user_timeout: Duration,
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    /// `None`: the best that can run here.
    pub(crate) driver: Option<DriverKind>,
    /// `None`: the machine decides.
    pub(crate) shards: Option<u32>,
    pub(crate) pin: bool,
    pub(crate) ring_entries: u32,
    pub(crate) recv_buffers: u32,
    pub(crate) recv_buffer_size: usize,
    pub(crate) log: Targets,
    pub(crate) log_format: LogFormat,
    pub(crate) upstream_refresh: Duration,
    pub(crate) tunnel_buffer_bytes_max: usize,
    subprotocols: Vec<Subprotocol>,
    pub(crate) subscription_topics_max: u32,
    pub(crate) wamp_realm: String,
    wamp_alias: bool,
    pub(crate) requests_in_flight_max: u32,
    routes_wanted: Option<Routes>,
    anonymous_wanted: Option<Anonymous>,
    echo_wanted: Option<bool>,
    page_wanted: Option<bool>,
}

impl Settings {
    /// What applies when nothing is set.
    pub(crate) fn defaults() -> Settings {
        let mut settings = Settings::default();
        for setting in table::all().filter(|setting| !setting.default.is_empty()) {
            let applied = setting.kind.apply(&mut settings, setting.default);
            assert!(applied.is_some(), "the default of {PREFIX}{} is not of its own kind", setting.name);
        }
        settings
    }

    /// Whether only this machine can connect. What is convenient there would be careless elsewhere.
    pub(crate) fn on_loopback_only(&self) -> bool {
        self.listen.iter().all(|address| address.ip().to_canonical().is_loopback())
    }

    /// What someone without credentials may do.
    pub(crate) fn anonymous(&self) -> Anonymous {
        let convenient = if self.on_loopback_only() { Anonymous::Publish } else { Anonymous::Subscribe };
        self.anonymous_wanted.unwrap_or(convenient)
    }

    /// Which path leads to what.
    pub(crate) fn routes(&self) -> Routes {
        let aliases: &[Subprotocol] = if self.wamp_alias { &[WAMP_ALIAS] } else { &[] };
        let routes = self.routes_wanted.clone().unwrap_or_else(|| self.usual_routes());
        let routes = routes.with_subprotocols(&self.subprotocols, aliases);
        if self.health { routes.with_health() } else { routes }
    }

    /// Those without a table.
    fn usual_routes(&self) -> Routes {
        let convenient = self.on_loopback_only();
        Routes::usual(self.echo_wanted.unwrap_or(convenient), self.page_wanted.unwrap_or(convenient))
    }

    /// What would be served without a table of routes, and is not with it.
    pub(crate) fn routes_gone(&self) -> Vec<String> {
        let routes = self.routes();
        let usual = self.usual_routes();
        // By pattern and service: that its options are others is no reason to miss a route.
        let there: Vec<String> = routes.iter().map(ToString::to_string).collect();
        usual.iter().map(ToString::to_string).filter(|route| !there.contains(route)).collect()
    }
}

/// What someone without credentials may do on a topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Anonymous {
    /// Listen.
    Subscribe,
    /// Listen and speak.
    Publish,
}

/// What happens to a subscriber that is too slow.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum OutboxPolicy {
    /// It is closed.
    #[default]
    Cut,
    /// It misses what waited longest.
    DropOldest,
    /// It gets the newest only.
    Latest,
}

/// How the log is written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// A value that nothing prints by accident.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub(crate) fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The one way to see it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// Something that must be put right before the gateway starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What the environment said.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// All settings, those that were not set included. Only of use while `problems` is empty.
    pub(crate) settings: Settings,
    /// The names and values that differ from the defaults, as they were written, in the order of the table.
    pub(crate) differing: Vec<(String, String)>,
    /// What is probably a mistake.
    pub(crate) warnings: Vec<String>,
    /// What is certainly one.
    pub(crate) problems: Vec<Problem>,
}

/// Reads the settings among `variables`, usually [`std::env::vars_os`].
pub(crate) fn load(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Loaded {
    let defaults = Settings::defaults();
    let mut loaded = Loaded {
        settings: defaults.clone(),
        differing: Vec::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
    };
    let mut ours = ours(variables);

    for setting in table::all() {
        let Some(text) = take(setting, &mut ours, &mut loaded.problems) else { continue };
        let mut alone = defaults.clone();
        if setting.kind.apply(&mut alone, &text).is_none() {
            loaded.problems.extend(wrong_value(setting, &text));
            continue;
        }
        // Applied a second time, now among the others; it cannot fail where it did not fail alone.
        let _ = setting.kind.apply(&mut loaded.settings, &text);
        if alone != defaults {
            let shown = if setting.kind.is_secret() { "(secret)".to_owned() } else { one_line(&text) };
            loaded.differing.push((format!("{PREFIX}{}", setting.name), shown));
        }
    }

    loaded.warnings = ours.iter().map(|(name, _)| unknown_name(name)).collect();
    loaded.warnings.extend(checks::doubts(&loaded.settings));
    loaded.problems.extend(checks::across(&loaded.settings));
    loaded
}

/// The variables with our prefix, without it, sorted by name; those that Kubernetes put there left out.
fn ours(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, OsString)> {
    let mut ours: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_string_lossy().strip_prefix(PREFIX)?.to_owned(), text)))
        .filter(|(name, _)| !names::injected_by_kubernetes(name))
        .collect();
    ours.sort();
    ours
}

/// Takes what is set for `setting` out of `ours`: its own variable, or the content of its twin's file.
fn take(
    setting: &Setting,
    ours: &mut Vec<(String, OsString)>,
    problems: &mut Vec<Problem>,
) -> Option<String> {
    let direct = take_text(setting.name, ours, problems);
    if !setting.kind.has_twin() {
        return direct;
    }
    let twin = format!("{}{FILE_SUFFIX}", setting.name);
    let path = take_text(&twin, ours, problems);
    match (direct, path) {
        (Some(_), Some(_)) => {
            problems.push(Problem(format!(
                "{PREFIX}{} and {PREFIX}{twin} are both set; wants only one of them",
                setting.name
            )));
            None
        }
        (None, Some(path)) => match read_file(&path) {
            Ok(text) => Some(text),
            Err(error) => {
                let (path, what) = (quoted(&path), setting.kind.content());
                problems
                    .push(Problem(format!("{PREFIX}{twin}: saw {path}, wants a file with {what}: {error}")));
                None
            }
        },
        (direct, None) => direct,
    }
}

/// Takes one variable out of `ours`, trimmed; `None` if it is not there or empty, which is the same.
fn take_text(name: &str, ours: &mut Vec<(String, OsString)>, problems: &mut Vec<Problem>) -> Option<String> {
    let at = ours.iter().position(|(there, _)| there == name)?;
    match ours.remove(at).1.into_string() {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(_) => {
            problems.push(Problem(format!("{PREFIX}{name}: saw bytes that are not UTF-8, wants text")));
            None
        }
    }
}

/// The content of a file without the newline that editors and `echo` put at its end.
fn read_file(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        // The error's own text names neither path nor content.
        Err(error) => Err(error.to_string()),
        Ok(length) if length as u64 > FILE_BYTES_MAX => Err("it is too large to be one".to_owned()),
        Ok(_) => {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
        }
    }
}

fn wrong_value(setting: &Setting, text: &str) -> Vec<Problem> {
    let explained = setting.kind.explain(text);
    if !explained.is_empty() {
        return explained.iter().map(|spot| Problem(format!("{PREFIX}{}: {spot}", setting.name))).collect();
    }
    let saw = if setting.kind.is_secret() { "something else".to_owned() } else { quoted(text) };
    vec![Problem(format!("{PREFIX}{}: saw {saw}, wants {}", setting.name, setting.kind.wants()))]
}

/// The value is not shown: under a misspelt name it may be a secret.
fn unknown_name(name: &str) -> String {
    let known: Vec<String> = table::all().flat_map(names_of).collect();
    let nearest = names::nearest(name, known.iter().map(String::as_str)).unwrap_or_default();
    format!("{PREFIX}{} is not a setting; the nearest is {PREFIX}{nearest}", printable(name))
}

/// The names a setting goes by, without the prefix.
fn names_of(setting: &Setting) -> Vec<String> {
    let twin = setting.kind.has_twin().then(|| format!("{}{FILE_SUFFIX}", setting.name));
    std::iter::once(setting.name.to_owned()).chain(twin).collect()
}

/// `text` for one line of a log.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// `text` as it can be shown on a terminal, in quotes and not too long.
fn quoted(text: &str) -> String {
    if text.chars().count() <= QUOTED_CHARS_MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    format!("{start:?} and more")
}

/// `text` without anything that would steer a terminal.
fn printable(text: &str) -> String {
    text.escape_debug().take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
