//! The command line, and what it makes of a run.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::clock::{self, SECOND};
use crate::compare::CompareArgs;
use crate::crew::Spec;
use crate::dialect::{Manner, Tongue};
use crate::limits;
use crate::pattern::{PUBLISHERS_MAX, STAMP_BYTES};
use crate::scenario::fanout::{self, Pace};
use crate::scenario::{Extent, Kind, echo, idle};

/// Loads a Moongate gateway and checks every byte that it delivers.
///
/// Exit codes: 0 all came as it was sent; 1 something was lost, doubled, reordered or corrupted, or a connection was
/// closed; 2 the run could not take place.
#[derive(Parser)]
#[command(name = "moongate-load", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Publishers speak on topics; every subscriber must hear all of it, once, in one order
    Fanout(FanoutArgs),
    /// Every connection gets back what it sends to /echo
    Echo(EchoArgs),
    /// Opens connections that hear nothing until the end, and says what memory they cost the server
    Idle(IdleArgs),
    /// Takes measures of several servers side by side, in slices, and says what ratio they are in
    Compare(CompareArgs),
    /// One process of a run that needs several; started by the first
    #[command(hide = true)]
    Worker,
}

/// What every scenario takes.
#[derive(Args)]
pub(crate) struct Common {
    /// Where the gateway listens
    #[arg(default_value = "127.0.0.1:8080")]
    address: String,
    /// Loads a server that is not on a loopback address
    #[arg(long)]
    i_own_this_server: bool,
    /// Threads of this tool, in each of its processes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    threads: u32,
    /// The server's process, for its CPU time and memory; by default the one that listens on the port here
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// For how many seconds nothing may come while something is due, before it counts as lost
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    patience: f64,
    /// Also writes what came of it to this file, as one JSON document; - prints that instead of lines
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Where topics are.
#[derive(Args)]
struct Address {
    /// What is asked for to hear and speak on a topic; {topic} stands for its name
    #[arg(long, default_value = "/topics/{topic}", value_parser = path)]
    path: String,
    /// Subscribers, and publishers, agree on permessage-deflate
    #[arg(long)]
    deflate: bool,
}

/// What is said, and for how long.
#[derive(Args)]
struct Speech {
    /// Bytes of each message
    #[arg(long, default_value_t = 128, value_parser = size)]
    size: usize,
    /// Messages are text, not binary
    #[arg(long)]
    text: bool,
    /// Messages to send in all; without --duration and --count, 5 seconds' worth
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds to send for
    #[arg(long, value_parser = seconds)]
    duration: Option<f64>,
}

#[derive(Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    speech: Speech,
    /// Subscribers, on all topics together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    subscribers: u32,
    /// Topics, among which subscribers and publishers are dealt out in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Publishers, each of which also hears its topic; as many as topics by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    publishers: Option<u32>,
    /// Closed loop: messages on their way to their subscribers at a time, all publishers together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    window: u64,
    /// Open loop: messages per second, all publishers together; latency counts from the time a message was to be sent
    #[arg(long, conflicts_with = "window", value_parser = rate)]
    rate: Option<f64>,
}

#[derive(Args)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    speech: Speech,
    /// What is asked for: where everything comes back
    #[arg(long, default_value = "/echo", value_parser = path)]
    path: String,
    /// Connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=i64::from(PUBLISHERS_MAX)))]
    connections: u32,
    /// Messages of each connection that are on their way at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    depth: u32,
}

#[derive(Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    /// Connections; memory is looked at with a fifth of them and with all
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(PUBLISHERS_MAX)))]
    connections: u32,
    /// Opens a topic for each connection instead of one for all
    #[arg(long)]
    topic_each: bool,
    /// Seconds to hold all connections before each must hear its message
    #[arg(long, default_value_t = 1.0, value_parser = seconds_or_none)]
    hold: f64,
}

/// What is to be done.
pub(crate) struct Job {
    pub(crate) spec: Spec,
    pub(crate) pid: Option<u32>,
    pub(crate) patience: Duration,
    pub(crate) json: Option<PathBuf>,
}

impl Command {
    /// The run that the command line asks for; none where it asks for something else.
    pub(crate) fn into_job(self) -> Result<Option<Job>, String> {
        let (common, kind) = match self {
            Command::Fanout(args) => args.into_kind()?,
            Command::Echo(args) => args.into_kind(),
            Command::Idle(args) => args.into_kind(),
            Command::Compare(_) | Command::Worker => return Ok(None),
        };
        let server = common.server()?;
        let files = limits::raise_open_files();
        let processes = limits::processes(kind.links(), kind.publishers(), files)?;
        let spec = Spec { server, kind, threads: common.threads, processes };
        let patience = Duration::from_secs_f64(common.patience);
        Ok(Some(Job { spec, pid: common.pid, patience, json: common.json }))
    }
}

impl Common {
    /// The address to load, if that is one's own.
    fn server(&self) -> Result<SocketAddr, String> {
        let addresses = self.address.to_socket_addrs();
        let mut addresses = addresses.map_err(|error| format!("{:?}: {error}", self.address))?;
        let server = addresses.next().ok_or_else(|| format!("{:?} has no address", self.address))?;
        if !server.ip().is_loopback() && !self.i_own_this_server {
            return Err(format!(
                "{server} is not a loopback address: whoever loads a server must own it; if you do, say \
                 --i-own-this-server"
            ));
        }
        Ok(server)
    }
}

impl Address {
    fn manner(self) -> Manner {
        let tongue = if self.deflate { Tongue::Deflate } else { Tongue::WebSocket };
        Manner { tongue, path: self.path }
    }
}

impl Speech {
    fn extent(&self) -> Extent {
        const USUAL: u64 = 5 * SECOND;
        let nanos = self.duration.map(nanos);
        Extent { count: self.count, nanos: if self.count.is_none() { nanos.or(Some(USUAL)) } else { nanos } }
    }
}

impl FanoutArgs {
    fn into_kind(self) -> Result<(Common, Kind), String> {
        let publishers = self.publishers.unwrap_or(self.topics);
        if publishers > PUBLISHERS_MAX || publishers < self.topics {
            return Err(format!("{} topics with {publishers} publishers: each needs one", self.topics));
        }
        let options = fanout::Options {
            subscribers: self.subscribers,
            publishers,
            topics: self.topics,
            name: fresh_name(),
            size: self.speech.size,
            text: self.speech.text,
            manner: self.address.manner(),
            pace: self.rate.map_or(Pace::Window(self.window), Pace::Rate),
            extent: self.speech.extent(),
        };
        Ok((self.common, Kind::Fanout(options)))
    }
}

impl EchoArgs {
    fn into_kind(self) -> (Common, Kind) {
        let options = echo::Options {
            connections: self.connections,
            depth: self.depth,
            size: self.speech.size,
            text: self.speech.text,
            manner: Manner { tongue: Tongue::WebSocket, path: self.path },
            extent: self.speech.extent(),
        };
        (self.common, Kind::Echo(options))
    }
}

impl IdleArgs {
    fn into_kind(self) -> (Common, Kind) {
        let options = idle::Options {
            connections: self.connections,
            topics: if self.topic_each { self.connections } else { 1 },
            name: fresh_name(),
            manner: self.address.manner(),
            hold: nanos(self.hold),
        };
        (self.common, Kind::Idle(options))
    }
}

/// Topics that nobody else uses.
fn fresh_name() -> String {
    format!("load-{}-{:x}", std::process::id(), clock::now())
}

fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("not from {least} to {most}")) }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.01, 86_400.0)
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    number(text, 0.0, 86_400.0)
}

fn path(text: &str) -> Result<String, String> {
    let fine = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fine { Ok(text.to_owned()) } else { Err("not a path, such as /topics/{topic}".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1e7)
}

fn size(text: &str) -> Result<usize, String> {
    let size: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if (STAMP_BYTES..=16 << 20).contains(&size) {
        return Ok(size);
    }
    Err(format!("not from {STAMP_BYTES}, which a message needs to say what it is, to 16777216"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn job(line: &str) -> Result<Job, String> {
        let words = ["moongate-load"].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(cli.command.into_job()?.expect("no worker"))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_ones_own_server_is_loaded() {
        for address in ["127.0.0.1:8080", "127.9.8.7:1", "[::1]:8080"] {
            assert!(job(&format!("echo {address}")).is_ok(), "{address}");
        }
        // TEST-NET-1 (RFC 5737) is nobody's.
        for address in ["192.0.2.1:80", "0.0.0.0:8080", "[2001:db8::1]:80"] {
            let refused = job(&format!("echo {address}")).err().expect("not loopback");
            assert!(refused.contains("--i-own-this-server"), "{refused}");
            assert!(job(&format!("echo {address} --i-own-this-server")).is_ok());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "fanout --topics 3 --publishers 2",
            "fanout --size 31",
            "fanout --rate 0",
            "fanout --rate 5 --window 2",
            "echo --duration nan",
            "idle --connections 0",
        ] {
            assert!(job(line).is_err(), "{line}");
        }
    }

    #[test]
    fn without_an_extent_it_is_five_seconds() {
        let extent = |line: &str| match job(line).expect("a job").spec.kind {
            Kind::Fanout(options) => (options.extent.count, options.extent.nanos),
            Kind::Echo(_) | Kind::Idle(_) => unreachable!("fanout"),
        };
        assert_eq!(extent("fanout"), (None, Some(5 * SECOND)));
        assert_eq!(extent("fanout --count 7"), (Some(7), None));
        assert_eq!(extent("fanout --count 7 --duration 0.5"), (Some(7), Some(SECOND / 2)));
    }
}
