//! The arguments of echoes, near and far.

use clap::Args;

use super::{Common, Speech, path, rate};
use crate::dialect::{Manner, Tongue};
use crate::pattern::PUBLISHERS_MAX;
use crate::scenario::Kind;
use crate::scenario::echo::Options;

#[derive(Args)]
pub(crate) struct EchoArgs {
    #[command(flatten)]
    common: Common,
    /// What is asked for: where everything comes back
    #[arg(long, default_value = "/echo", value_parser = path)]
    path: String,
    #[command(flatten)]
    echo: Echo,
}

#[derive(Args)]
pub(crate) struct TunnelArgs {
    #[command(flatten)]
    common: Common,
    /// What is asked for: what the proxy leads to its far end
    #[arg(long, default_value = "/tunnel", value_parser = path)]
    path: String,
    #[command(flatten)]
    echo: Echo,
}

#[derive(Args)]
struct Echo {
    #[command(flatten)]
    speech: Speech,
    /// Connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=i64::from(PUBLISHERS_MAX)))]
    connections: u32,
    /// Messages of each connection that are on their way at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    depth: u32,
    /// Open loop: messages per second, all connections together; latency counts from the time one was to be sent
    #[arg(long, conflicts_with = "depth", value_parser = rate)]
    rate: Option<f64>,
    /// WebSockets must agree on permessage-deflate
    #[arg(long)]
    deflate: bool,
}

impl Echo {
    fn into_options(self, path: String) -> Options {
        let tongue = if self.deflate { Tongue::Deflate } else { Tongue::WebSocket };
        Options {
            connections: self.connections,
            depth: self.depth,
            rate: self.rate,
            size: self.speech.size,
            text: self.speech.text,
            filling: self.speech.filling,
            manner: Manner { tongue, path, lenient: false },
            extent: self.speech.extent(),
        }
    }
}

impl EchoArgs {
    pub(super) fn into_kind(self) -> (Common, Kind) {
        (self.common, Kind::Echo(self.echo.into_options(self.path)))
    }
}

impl TunnelArgs {
    pub(super) fn into_kind(self) -> (Common, Kind) {
        (self.common, Kind::Tunnel(self.echo.into_options(self.path)))
    }
}
