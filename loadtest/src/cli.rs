//! The command line, and what it makes of a run. The arguments of each kind of scenario are in a file of their own.

mod echo;
mod fanout;
mod idle;
mod kill;
mod resume;
mod storm;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::clock::{self, SECOND};
use crate::compare::CompareArgs;
use crate::crew::Spec;
use crate::dialect::{Manner, Tongue};
use crate::limits;
use crate::page::ReportArgs;
use crate::pattern::{Filling, STAMP_BYTES};
use crate::scenario::Extent;
use crate::upstream::UpstreamArgs;
use echo::{EchoArgs, TunnelArgs};
use fanout::{ChurnArgs, EventsArgs, FanoutArgs, MixedArgs, SlowArgs};
use idle::IdleArgs;
use kill::KillArgs;
use resume::ResumeArgs;
use storm::StormArgs;

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
    /// As fanout, while some subscribers leave and are replaced: those who stay must miss nothing
    Churn(ChurnArgs),
    /// As fanout, while some subscribers read slowly or not at all: what do the others notice?
    Slow(SlowArgs),
    /// As fanout, with subscribers that listen to event streams
    Events(EventsArgs),
    /// WebSockets and event streams, messages by WebSocket and by POST, comings and goings, and echoes, all together
    Mixed(MixedArgs),
    /// Every connection gets back what it sends to /echo
    Echo(EchoArgs),
    /// As echo, through a proxy to a far end that echoes: see upstream
    Tunnel(TunnelArgs),
    /// Opens connections that hear nothing until the end, and says what memory they cost the server
    Idle(IdleArgs),
    /// Opens connections and closes them as soon as they stand
    Storm(StormArgs),
    /// All who are connected vanish at once while newcomers arrive
    Kill(KillArgs),
    /// Many are cut off, miss what is said meanwhile, and come back at once: they must have heard everything in the end
    Resume(ResumeArgs),
    /// Serves echoes, for proxies to lead to; until it is killed
    Upstream(UpstreamArgs),
    /// Takes measures of several servers side by side, in slices, and says what ratio they are in
    Compare(CompareArgs),
    /// Makes a page with charts of what --json of runs and comparisons wrote
    Report(ReportArgs),
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
    /// A process that takes part, such as the upstream behind a tunnel: it is not counted among the others who disturb a
    /// run, and its CPU time is reported beside the server's. May be given several times
    #[arg(long, value_name = "PID")]
    with: Vec<u32>,
    /// For how many seconds nothing may come while something is due, before it counts as lost
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    patience: f64,
    /// Also writes what came of it to this file, as one JSON document; - prints that instead of lines
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also writes a page with charts to this file, to be looked at in a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// What the server calls itself, for the result
    #[arg(long, value_name = "TEXT")]
    server_version: Option<String>,
}

/// Where topics are.
#[derive(Args)]
struct Address {
    /// What is asked for to hear and speak on a topic; {topic} stands for its name
    #[arg(long, default_value = "/topics/{topic}", value_parser = path)]
    path: String,
    /// WebSockets must agree on permessage-deflate
    #[arg(long)]
    deflate: bool,
    /// What is spoken; NATS finds the topic at the path without its first slash, with dots for the others
    #[arg(long, value_enum, default_value_t, conflicts_with = "deflate")]
    dialect: Dialect,
    /// Passes over messages that are none of ours, for servers that say more than they are told
    #[arg(long)]
    lenient: bool,
}

/// What links speak that both hear and say.
#[derive(Copy, Clone, Default, ValueEnum)]
enum Dialect {
    /// WebSockets
    #[default]
    Websocket,
    /// The client protocol of NATS, over TCP
    Nats,
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
    /// What messages are filled with
    #[arg(long, value_enum, default_value_t)]
    filling: Filling,
    /// Messages to send in all; without --duration and --count, 5 seconds' worth
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds to send for
    #[arg(long, value_parser = seconds)]
    duration: Option<f64>,
}

/// What is to be done.
pub(crate) struct Job {
    pub(crate) spec: Spec,
    pub(crate) pid: Option<u32>,
    /// Processes that take part beside the server.
    pub(crate) with: Vec<u32>,
    pub(crate) patience: Duration,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) server_version: Option<String>,
}

impl Command {
    /// The run that the command line asks for; none where it asks for something else.
    pub(crate) fn into_job(self) -> Result<Option<Job>, String> {
        let (common, kind) = match self {
            Command::Fanout(args) => args.into_kind()?,
            Command::Churn(args) => args.into_kind()?,
            Command::Slow(args) => args.into_kind()?,
            Command::Events(args) => args.into_kind()?,
            Command::Mixed(args) => args.into_kind()?,
            Command::Echo(args) => args.into_kind(),
            Command::Tunnel(args) => args.into_kind(),
            Command::Idle(args) => args.into_kind(),
            Command::Storm(args) => args.into_kind(),
            Command::Kill(args) => args.into_kind(),
            Command::Resume(args) => args.into_kind()?,
            Command::Compare(_) | Command::Report(_) | Command::Upstream(_) | Command::Worker => {
                return Ok(None);
            }
        };
        let server = common.server()?;
        let files = limits::raise_open_files();
        let processes = limits::processes(kind.links(), kind.publishers() + kind.aside(), files)?;
        let spec = Spec { server, kind, threads: common.threads, processes };
        let patience = Duration::from_secs_f64(common.patience);
        let Common { pid, with, json, html, server_version, .. } = common;
        Ok(Some(Job { spec, pid, with, patience, json, html, server_version }))
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
        let tongue = match self.dialect {
            Dialect::Nats => Tongue::Nats,
            Dialect::Websocket if self.deflate => Tongue::Deflate,
            Dialect::Websocket => Tongue::WebSocket,
        };
        Manner { tongue, path: self.path, lenient: self.lenient }
    }
}

impl Speech {
    fn extent(&self) -> Extent {
        extent(self.count, self.duration)
    }
}

/// How long a run goes on: five seconds where neither is given.
fn extent(count: Option<u64>, duration: Option<f64>) -> Extent {
    const USUAL: u64 = 5 * SECOND;
    let nanos = duration.map(nanos);
    Extent { count, nanos: if count.is_none() { nanos.or(Some(USUAL)) } else { nanos } }
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
    use crate::scenario::Kind;

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
            "fanout --rate 5 --unbounded",
            "fanout --window 5 --volley 5",
            "events --rate 5 --volley 5",
            "fanout --window 5 --losses-allowed",
            "slow --subscribers 10 --share 0",
            "slow --window 5",
            "churn --subscribers 10 --movers 11",
            "events --deflate",
            "mixed --unbounded",
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
            _ => unreachable!("fanout"),
        };
        assert_eq!(extent("fanout"), (None, Some(5 * SECOND)));
        assert_eq!(extent("fanout --count 7"), (Some(7), None));
        assert_eq!(extent("fanout --count 7 --duration 0.5"), (Some(7), Some(SECOND / 2)));
    }

    #[test]
    fn several_may_take_part() {
        assert_eq!(job("tunnel --with 7 --pid 3 --with 8").expect("a job").with, [7, 8]);
        assert!(job("tunnel --with 7,8").is_err());
    }
}
