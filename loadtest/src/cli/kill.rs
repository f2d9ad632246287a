//! The arguments of a mass vanishing.

use std::net::SocketAddr;

use clap::Args;

use super::{Address, Common, fresh_name, nanos, rate, seconds};
use crate::scenario::Kind;
use crate::scenario::kill::Options;

#[derive(Args)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    /// Connections that vanish
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Topics, among which connections are dealt out in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Newcomers per second; latency counts from the time one was to begin
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    rate: f64,
    /// Seconds for which newcomers arrive before
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    before: f64,
    /// Seconds for which they arrive after
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    after: f64,
    /// The gateway's control listener, which says when all have gone
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
}

impl KillArgs {
    pub(super) fn into_kind(self) -> (Common, Kind) {
        let options = Options {
            victims: self.connections,
            rate: self.rate,
            before: nanos(self.before),
            after: nanos(self.after),
            metrics: self.control,
            topics: self.topics,
            name: fresh_name(),
            manner: self.address.manner(),
        };
        (self.common, Kind::Kill(options))
    }
}
