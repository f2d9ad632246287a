//! The arguments of connections that do nothing.

use clap::Args;

use super::{Address, Common, fresh_name, nanos, seconds_or_none};
use crate::pattern::PUBLISHERS_MAX;
use crate::scenario::Kind;
use crate::scenario::idle::Options;

#[derive(Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    address: Address,
    /// Connections; memory is looked at with a fifteenth of them and with all
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(PUBLISHERS_MAX)))]
    connections: u32,
    /// Opens a topic for each connection instead of one for all
    #[arg(long)]
    topic_each: bool,
    /// Seconds to hold all connections before each must hear its message
    #[arg(long, default_value_t = 1.0, value_parser = seconds_or_none)]
    hold: f64,
}

impl IdleArgs {
    pub(super) fn into_kind(self) -> (Common, Kind) {
        let options = Options {
            connections: self.connections,
            topics: if self.topic_each { self.connections } else { 1 },
            name: fresh_name(),
            manner: self.address.manner(),
            hold: nanos(self.hold),
        };
        (self.common, Kind::Idle(options))
    }
}
