//! A shard's limits and timers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use moongate_wire::decide::Policy;

/// Everything a shard is told at its start. Counts and bytes are the shard's own share.
#[derive(Clone, Debug)]
pub struct Config {
    /// What requests are answered with, and the limits of heads and messages.
    pub policy: Policy,
    /// Where the names of upstreams lead, in the order of [`moongate_wire::route::Routes::names`], at the start.
    pub upstreams: Vec<Arc<[SocketAddr]>>,
    /// Bytes that a tunnel holds each way, before the side that sends is not read from.
    pub tunnel_buffer_bytes_max: u32,
    /// The page, as HTML; only asked for where the policy has it on.
    pub page: &'static [u8],
    /// The page's script, as a JavaScript module; only asked for where the policy has the page on.
    pub script: &'static [u8],
    /// How many connections are served; one more is answered 503.
    pub connections_max: u32,
    /// From accepting a connection to its 101 or the end of its request's head.
    pub head_timeout: Duration,
    /// For the body of a POST.
    pub body_timeout: Duration,
    /// For a published message to be ordered by its topic's home.
    pub order_timeout: Duration,
    /// Bytes a WebSocket may have published that are not yet ordered, before it is not read from.
    pub publish_window_bytes: u32,
    /// How many topics a connection may hear in a subprotocol.
    pub subscription_topics_max: u32,
    /// How many of its requests may wait for their answers, before it is not read from.
    pub requests_in_flight_max: u32,
    /// The one realm of WAMP.
    pub wamp_realm: String,
    /// Bytes of remainders, messages in progress and live runs; past it the largest holder is sent away.
    pub memory_bytes_max: u64,
    /// How long a connection may be silent before it is sent a ping, and how often an event stream gets a comment.
    pub ping_interval: Duration,
    /// How long it may then still be silent.
    pub pong_timeout: Duration,
    /// For everything that waits to go out, and then for the peer's end, when a connection closes.
    pub close_timeout: Duration,
    /// How long connections are still accepted when the gateway is told to stop.
    pub drain_delay: Duration,
    /// In how long everybody is sent away after that.
    pub drain_timeout: Duration,
    /// Topics, and the outbox of each subscriber.
    pub hub: moongate_hub::Config,
}
