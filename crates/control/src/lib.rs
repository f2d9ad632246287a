//! The control thread: publish API, metrics, health, drain, and where upstreams are.
//!
//! One thread, one current-thread runtime. It is a participant of the mesh like any shard, and speaks to the shards
//! through lanes only. One task, the clerk, owns the lanes' ends; everything else on the thread reaches it by a bounded
//! queue and waits for a reply, so a shard that is slow makes requests wait or fail and nothing else.
//!
//! A request's way: `server` takes the connection and bounds it in time and number → `guard` looks at `Host`, `Origin`
//! and `Authorization` → a handler (`topics`, `health`, `metrics`) → `clerk` → shards → back. Every refusal of a
//! well-formed request is `application/problem+json` (`problem`); what is no HTTP at all gets hyper's bare 400 or 431.
//!
//! | request | answer |
//! |---|---|
//! | `POST /topics/<name>` | 200 `{"topic","epoch","offset"}` once the message has its place; the epoch is 16 hexadecimal digits in a string |
//! | `GET /topics?limit=<n>&after=<name>` | 200, an array of `{"topic","subscribers","epoch","offset"}`, sorted bytewise by name; a `Link` field with `rel="next"` where there are more |
//! | `GET /metrics` | 200, Prometheus' text format 0.0.4 |
//! | `GET /healthz` | 200 `{"status":"ok","driver","reason"}` as long as the thread runs |
//! | `GET /readyz` | 200 while not draining and every shard answers, else 503 with the reason |
//!
//! The thread runs also when there is no listener for it, because it coordinates the process's end: see
//! [`Control::run`].

mod clerk;
mod guard;
mod health;
mod metrics;
mod problem;
mod resolver;
mod roll;
mod rounds;
mod server;
mod signals;
mod state;
mod tally;
mod throttle;
mod topics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{Bell, ControlPort};
use moongate_wire::origin::Origin;
use moongate_wire::route::UpstreamName;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tracing::info;

use crate::clerk::Clerk;
use crate::resolver::Resolver;
use crate::signals::Signals;
use crate::state::State;

pub use crate::signals::Signal;

/// Who may use the control listener, and how much.
pub struct Config {
    /// What `Authorization: Bearer` must carry, everywhere but at `/healthz` and `/readyz`. None: nothing is asked
    /// for, which only a loopback listener may do.
    pub token: Option<String>,
    /// The origins whose pages may use it. Empty: no page may. There is no `*` here, and no `same`: this listener
    /// serves no pages.
    pub origins: Vec<Origin>,
    /// Names by which it may be called apart from loopback ones and its own address: `name` with any port, or
    /// `name:port`.
    pub hosts: Vec<String>,
    /// The longest message that may be published, in bytes.
    pub message_bytes_max: usize,
    /// Everything else that has a maximum.
    pub limits: Limits,
    /// What drives the shards' sockets.
    pub driver: Driver,
}

/// What drives the shards' sockets, to be shown by `/healthz` and `/metrics`.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Its name.
    pub name: &'static str,
    /// Why it was chosen.
    pub reason: String,
}

/// The maxima of the control thread, with what happens when they are reached.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Connections served at a time; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// Requests on their way to the clerk; one more is answered 503.
    pub requests_max: usize,
    /// Messages that wait for room in the lane to one shard; one more is answered 503.
    pub publishes_waiting_max: usize,
    /// Lists of topics that wait for their turn; one more is answered 503.
    pub lists_waiting_max: usize,
    /// Bytes of all messages that are being published, at least one message's; one more is answered 503.
    pub publish_bytes_max: usize,
    /// Topics in one answer; the rest is in the next.
    pub topics_max: usize,
    /// The length of a request's head, in bytes, at least 8192; a longer one is answered 431.
    pub head_bytes_max: usize,
    /// How long a head may take, and how long a connection may be idle before it: then it is closed.
    pub head_timeout: Duration,
    /// How long a body may take; then it is answered 408.
    pub body_timeout: Duration,
    /// How long a message may wait for its place in the topic; then it is answered 503.
    pub publish_timeout: Duration,
    /// How long a shard may take to say what it counted; then it counts as silent. Below the second that most probes
    /// wait, so that they get the reason.
    pub shard_timeout: Duration,
    /// How long a list of topics may take, with its turn; then it is answered 503.
    pub list_timeout: Duration,
    /// How long a connection may live: it is ended after the request in progress, and this bounds also a client that
    /// does not read.
    pub connection_age_max: Duration,
    /// How long an answer in progress may still take when the thread ends; then it is cut.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 256,
            requests_max: 256,
            publishes_waiting_max: 64,
            lists_waiting_max: 8,
            publish_bytes_max: 64 << 20,
            topics_max: 1000,
            head_bytes_max: 16 << 10,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(5),
            shard_timeout: Duration::from_millis(800),
            list_timeout: Duration::from_secs(5),
            connection_age_max: Duration::from_secs(300),
            close_timeout: Duration::from_secs(1),
        }
    }
}

/// What shards ring to wake the control thread; stays rung until it is heard.
#[derive(Clone, Debug, Default)]
pub struct ControlBell(Arc<Notify>);

impl ControlBell {
    /// A bell that nobody has rung.
    pub fn new() -> ControlBell {
        ControlBell::default()
    }

    async fn heard(&self) {
        self.0.notified().await;
    }
}

impl Bell for ControlBell {
    fn ring(&self) {
        self.0.notify_one();
    }
}

/// How the process's end came.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Every shard has sent its connections away and was told to stop. The process is to exit with 0.
    Drained,
    /// A second signal came meanwhile: the process is to exit at once, with [`Outcome::exit_code`], waiting for no
    /// shard.
    Cut(Signal),
}

impl Outcome {
    /// What the process is to exit with: 0 when drained, 128 plus the signal's number when cut, as a shell reports a
    /// process that a signal ended (130 for SIGINT, 143 for SIGTERM).
    pub fn exit_code(self) -> i32 {
        match self {
            Outcome::Drained => 0,
            Outcome::Cut(signal) => 128 + signal.number(),
        }
    }
}

/// The control thread, ready to run.
pub struct Control {
    runtime: Runtime,
    listener: Option<tokio::net::TcpListener>,
    signals: Signals,
    clerk: Clerk,
    resolver: Resolver,
    state: Arc<State>,
}

impl Control {
    /// Prepares everything that can fail. From here on SIGTERM, SIGINT and SIGHUP are caught, and wait for
    /// [`Control::run`]. `listener` is bound and listens; none means that nothing is served over HTTP. `bell` is the
    /// one that was given to the mesh of `port`.
    ///
    /// # Errors
    /// What the kernel says, and a listener that is not on loopback without a token.
    pub fn new(
        config: Config,
        listener: Option<TcpListener>,
        port: ControlPort,
        bell: ControlBell,
    ) -> io::Result<Control> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let listener = listener.map(|listener| server::adopt(listener, &config)).transpose()?;
        let signals = Signals::new()?;
        drop(entered);
        let (state, requests) = State::new(config, port.shards());
        let state = Arc::new(state);
        let clerk = Clerk::new(port, bell, requests, Arc::clone(&state));
        let resolver = Resolver::new(&[], Duration::ZERO);
        Ok(Control { runtime, listener, signals, clerk, resolver, state })
    }

    /// Resolves `names` once, and from [`Control::run`] on every `refresh`; shards hear of what changes. Returns what is
    /// known now, in the order of `names`: nothing for a name that does not resolve or takes long.
    pub fn watch(&mut self, names: &[UpstreamName], refresh: Duration) -> Vec<Arc<[SocketAddr]>> {
        self.resolver = Resolver::new(names, refresh);
        self.runtime.block_on(self.resolver.round());
        self.resolver.addresses()
    }

    /// Serves until the process is to end.
    ///
    /// The first SIGTERM or SIGINT makes `/readyz` answer 503 and starts the drain: every shard is asked to send its
    /// connections away, and when the last has said that it has none left, all are told to stop. A second SIGTERM or
    /// SIGINT returns at once. SIGHUP changes nothing.
    pub fn run(self) -> Outcome {
        let Control { runtime, listener, signals, clerk, resolver, state } = self;
        runtime.spawn(resolver.run(Arc::clone(&state)));
        let outcome = runtime.block_on(run(listener, signals, clerk, state));
        // Nothing that still runs on this runtime is worth waiting for.
        runtime.shutdown_background();
        outcome
    }
}

async fn run(
    listener: Option<tokio::net::TcpListener>,
    signals: Signals,
    clerk: Clerk,
    state: Arc<State>,
) -> Outcome {
    let server = listener.map(|listener| server::Server::start(listener, Arc::clone(&state)));
    let drained = async {
        clerk.run().await;
        if let Some(server) = server {
            server.end().await;
        }
    };
    tokio::select! {
        biased;
        signal = signals::second(signals, &state) => Outcome::Cut(signal),
        () = drained => {
            info!("every shard has drained");
            Outcome::Drained
        }
    }
}
