//! The arguments of a return of many at once.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;

use super::{Address, Common, fresh_name, nanos, number, rate, seconds, size};
use crate::host;
use crate::pattern::Filling;
use crate::scenario::Kind;
use crate::scenario::resume::Options;

#[derive(Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    /// Subscribers that are cut off and come back
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Their topics, among which they are dealt out in turn; each has a publisher who stays
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    topics: u32,
    /// The share of them that listens to event streams; the others listen on WebSockets
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    streams: f64,
    /// Subscribers that stay, on a topic and a thread of their own; latency is theirs
    #[arg(long, default_value_t = 50)]
    bystanders: u32,
    /// Messages a second for those
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    bystander_rate: f64,
    /// Messages a second on each of the other topics, before and after
    #[arg(long, default_value_t = 1.0, value_parser = rate)]
    rate: f64,
    /// Messages said on each of those in the second half of the time that its subscribers are away; the server must keep so
    /// many
    #[arg(long, default_value_t = 32)]
    missed: u32,
    /// Seconds before the cut
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    before: f64,
    /// Seconds from there until all come back
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    away: f64,
    /// Seconds that messages are said after that
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    after: f64,
    /// How many are on their way back at a time
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    at_a_time: u32,
    /// Instead of the cut: runs this in a shell, which ends the server and starts another one at the same address, and
    /// returns when that one listens. Then everybody is cut off, and no place is known to the new one
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    /// The gateway's control listener, which says what it encoded for those who came back, and what it sent
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
    /// Bytes of each message, which is text
    #[arg(long, default_value_t = 128, value_parser = size)]
    size: usize,
    /// What messages are filled with
    #[arg(long, value_enum, default_value_t)]
    filling: Filling,
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1.0)
}

impl ResumeArgs {
    pub(super) fn into_kind(self) -> Result<(Common, Kind), String> {
        let server = self.common.server()?;
        let options = Options {
            travellers: self.connections,
            topics: self.topics.min(self.connections),
            streams: self.streams,
            bystanders: self.bystanders,
            bystander_rate: self.bystander_rate,
            rate: self.rate,
            missed: self.missed,
            before: nanos(self.before),
            away: nanos(self.away),
            after: nanos(self.after),
            at_a_time: self.at_a_time,
            restart: self.restart,
            metrics: self.control,
            server,
            pid: self.common.pid.or_else(|| host::find(server.port())),
            name: fresh_name(),
            size: self.size,
            filling: self.filling,
            manner: self.address.manner(),
            course: Arc::default(),
        };
        Ok((self.common, Kind::Resume(options)))
    }
}
