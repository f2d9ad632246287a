//! The arguments of a storm.

use clap::Args;

use super::{Address, Common, extent, fresh_name, rate, seconds};
use crate::link::Leave;
use crate::scenario::Kind;
use crate::scenario::storm::Options;

#[derive(Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    /// Connections at a time, at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Open loop: handshakes per second; latency counts from the time one was to begin
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// How each connection ends: by a Close and its answer, by closing it, or by a reset
    #[arg(long, value_enum, default_value_t = Leave::Politely)]
    leave: Leave,
    /// Topics, among which connections are dealt out in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// Handshakes in all; without --duration and --count, 5 seconds' worth
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds to go on for
    #[arg(long, value_parser = seconds)]
    duration: Option<f64>,
}

impl StormArgs {
    pub(super) fn into_kind(self) -> (Common, Kind) {
        let options = Options {
            connections: self.connections,
            rate: self.rate,
            leave: self.leave,
            topics: self.topics,
            name: fresh_name(),
            manner: self.address.manner(),
            extent: extent(self.count, self.duration),
        };
        (self.common, Kind::Storm(options))
    }
}
