//! Routes: which path leads to what. One table, read from text at start, the same for every shard.
//!
//! The table is tried from top to bottom, and the first pattern that matches decides. A path is compared byte for byte
//! as it was sent: nothing is decoded before, so that no spelling leads past a route and into another.

mod parse;
mod spoken;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use parse::RouteError;
pub use spoken::Spoken;

use crate::protocol::Subprotocol;

/// Where health is asked for, and the services that answer there.
const HEALTH: [(&str, Service); 2] =
    [("/healthz", Service::Health { ready: false }), ("/readyz", Service::Health { ready: true })];

/// All routes, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    routes: Vec<Route>,
    names: Vec<UpstreamName>,
}

/// One line of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Which paths it is for.
    pub pattern: Pattern,
    /// What they lead to.
    pub service: Service,
}

/// A path, or all paths below one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// Without the star; then it ends in a slash.
    text: Box<str>,
    below: bool,
}

/// What a route leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Service {
    /// Topics, named by what the pattern's star stands for; and what may be spoken in their WebSockets.
    Topics(Spoken),
    /// A WebSocket that names topics in its subprotocol, which must be one of these.
    Connect(Spoken),
    /// A WebSocket that gets back what it sends.
    Echo,
    /// The page to try it with.
    Page,
    /// How the gateway is.
    Health {
        /// Whether the question is if it takes connections, rather than if it is alive.
        ready: bool,
    },
    /// Another server.
    Tunnel(Box<Tunnel>),
}

/// A route to other servers: where they are, and what may be spoken with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// At least one. Requests take turns.
    pub upstreams: Vec<Upstream>,
    /// How long making a connection may take, over all addresses that are tried.
    pub connect_timeout: Duration,
    /// How long an upstream may then take to its answer's head.
    pub answer_timeout: Duration,
    /// After how long without a byte either way a tunnel ends.
    pub idle_timeout: Duration,
    /// How long after its 101 a tunnel ends, whatever moves; none if it may stay for ever (docs/protocol.md H17).
    pub lifetime: Option<Duration>,
    /// The protocols that may be switched to, at least one (docs/protocol.md H18).
    pub(crate) protocols: Vec<Protocol>,
    /// What is taken off the front of the path; without a slash at its end.
    pub(crate) strip: Box<str>,
    /// What is put there instead; without a slash at its end.
    pub(crate) prefix: Box<str>,
    /// What `Host` says upstream, if not what the client said.
    pub(crate) host: Option<Box<str>>,
    /// Whether ordinary requests are passed on too.
    pub(crate) http: bool,
}

/// Where a server is. It is configured, and nothing that a client sends can change it (docs/protocol.md H19).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// At an address.
    Tcp(SocketAddr),
    /// At whatever addresses this entry of [`Routes::names`] has.
    Name(u16),
    /// At a socket in the file system.
    Unix(Box<Path>),
}

/// A name that has to be resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamName {
    /// The name, in lower case.
    pub host: Box<str>,
    /// The port, which is no part of what is resolved.
    pub port: u16,
}

/// A protocol as `Upgrade` names it: a name in any case, and perhaps a version that must be exactly so (RFC 9110 §7.8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Protocol(Box<str>);

impl Routes {
    /// Reads a table: `/topics/* topics; /chat/* tunnel app.internal:3000`. Routes are parted by semicolons or line
    /// ends; what follows a `#` on its line is a comment.
    ///
    /// # Errors
    /// All that is wrong with it, each with the spot.
    pub fn parse(text: &str) -> Result<Routes, Vec<RouteError>> {
        parse::parse(text)
    }

    /// What is served where no table is given: topics, also by subprotocol, and the echo and the page if they are wanted.
    pub fn usual(echo: bool, page: bool) -> Routes {
        let route =
            |text: &str, below, service| Route { pattern: Pattern { text: text.into(), below }, service };
        let routes = [
            Some(route("/topics/", true, Service::Topics(Spoken::default()))),
            Some(route("/connect", false, Service::Connect(Spoken::default()))),
            echo.then(|| route("/echo", false, Service::Echo)),
            page.then(|| route("/", false, Service::Page)),
        ];
        Routes { routes: routes.into_iter().flatten().collect(), names: Vec::new() }
    }

    /// With `/healthz` and `/readyz` before all others, unless a route is for just that path.
    pub fn with_health(mut self) -> Routes {
        for (path, service) in HEALTH.into_iter().rev() {
            let pattern = Pattern { text: path.into(), below: false };
            if !self.routes.iter().any(|route| route.pattern == pattern) {
                self.routes.insert(0, Route { pattern, service });
            }
        }
        self
    }

    /// With `usual` as the subprotocols of every route that says nothing of them, and each of `aliases` wherever the
    /// protocol that it stands for is enabled.
    pub fn with_subprotocols(mut self, usual: &[Subprotocol], aliases: &[Subprotocol]) -> Routes {
        for route in &mut self.routes {
            if let Service::Topics(spoken) | Service::Connect(spoken) = &mut route.service {
                spoken.complete(usual, aliases);
            }
        }
        self
    }

    /// The first route for `path`, with its number and what its pattern's star stands for.
    pub fn find<'p>(&self, path: &'p str) -> Option<(u16, &Route, &'p str)> {
        let found = self.routes.iter().enumerate().find_map(|(index, route)| {
            let rest = route.pattern.rest(path)?;
            Some((index, route, rest))
        });
        // The parser lets no table have more.
        found.map(|(index, route, rest)| (index as u16, route, rest))
    }

    /// All routes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Route> {
        self.routes.iter()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether nothing is served at all.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The route with this number.
    pub fn get(&self, index: u16) -> &Route {
        &self.routes[usize::from(index)]
    }

    /// The tunnel that is the route with this number; no other is ever asked for.
    pub fn tunnel(&self, index: u16) -> &Tunnel {
        match &self.get(index).service {
            Service::Tunnel(tunnel) => tunnel,
            other => unreachable!("route {index} is no tunnel but {other:?}"),
        }
    }

    /// The names that have to be resolved, each once.
    pub fn names(&self) -> &[UpstreamName] {
        &self.names
    }

    /// Whether the page is shown anywhere.
    pub fn has_page(&self) -> bool {
        self.routes.iter().any(|route| route.service == Service::Page)
    }

    /// One line for each route, as it was understood: its pattern, its service and every option, those that were not
    /// set included.
    pub fn describe(&self) -> Vec<String> {
        let width = self.routes.iter().map(|route| route.pattern.to_string().len()).max().unwrap_or(0);
        self.routes
            .iter()
            .map(|route| format!("{:width$}  {}", route.pattern.to_string(), self.service(&route.service)))
            .collect()
    }

    fn service(&self, service: &Service) -> String {
        match service {
            Service::Tunnel(tunnel) => self.tunnel_text(tunnel),
            Service::Topics(spoken) | Service::Connect(spoken) => {
                format!("{} {}={}", service.word(), parse::SUBPROTOCOLS_OPTION, spoken.text())
            }
            Service::Echo | Service::Page | Service::Health { .. } => service.word().to_owned(),
        }
    }

    fn tunnel_text(&self, tunnel: &Tunnel) -> String {
        let upstreams: Vec<String> = tunnel.upstreams.iter().map(|at| self.upstream(at)).collect();
        let mut text = format!("tunnel {} upgrade={}", upstreams.join(","), tunnel.protocols_text(","));
        for (name, value) in [("strip", &tunnel.strip), ("prefix", &tunnel.prefix)] {
            if !value.is_empty() {
                text.push_str(&format!(" {name}={value}"));
            }
        }
        if let Some(host) = &tunnel.host {
            text.push_str(&format!(" host={host}"));
        }
        if tunnel.http {
            text.push_str(" http=pass");
        }
        for (name, span) in [
            ("connect_timeout", tunnel.connect_timeout),
            ("answer_timeout", tunnel.answer_timeout),
            ("idle_timeout", tunnel.idle_timeout),
        ] {
            text.push_str(&format!(" {name}={}", parse::duration_text(span)));
        }
        let lifetime = tunnel.lifetime.map_or(parse::NO_LIFETIME.to_owned(), parse::duration_text);
        text.push_str(&format!(" lifetime={lifetime}"));
        text
    }

    /// An upstream as it is written in a table.
    pub fn upstream(&self, upstream: &Upstream) -> String {
        match upstream {
            Upstream::Tcp(address) => address.to_string(),
            Upstream::Name(index) => self.names[usize::from(*index)].to_string(),
            Upstream::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

impl Pattern {
    /// What the star stands for, nothing where there is none; or `None` if the pattern is not for `path`.
    pub fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(&*self.text)?;
        (self.below || rest.is_empty()).then_some(rest)
    }

    /// Whether every path that `other` is for is also one of these.
    fn covers(&self, other: &Pattern) -> bool {
        if self.below { other.text.starts_with(&*self.text) } else { self == other }
    }
}

impl Service {
    /// The word that stands for it in a table.
    pub fn word(&self) -> &'static str {
        match self {
            Service::Topics(_) => "topics",
            Service::Connect(_) => "connect",
            Service::Echo => "echo",
            Service::Page => "page",
            Service::Health { ready: false } => "health",
            Service::Health { ready: true } => "ready",
            Service::Tunnel(_) => "tunnel",
        }
    }
}

impl Tunnel {
    /// The protocols that may be switched to, as a list.
    pub(crate) fn protocols_text(&self, between: &str) -> String {
        let names: Vec<&str> = self.protocols.iter().map(Protocol::as_str).collect();
        names.join(between)
    }
}

impl Protocol {
    /// What is written into `Upgrade`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a member of an `Upgrade` field names this protocol.
    pub(crate) fn is(&self, member: &[u8]) -> bool {
        let split = |text: &'_ [u8]| text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
        let ours = self.0.as_bytes();
        let (name, version) = ours.split_at(split(ours));
        let (other_name, other_version) = member.split_at(split(member));
        name.eq_ignore_ascii_case(other_name) && version == other_version
    }
}

impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.pattern, self.service.word())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.text, if self.below { "*" } else { "" })
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}
