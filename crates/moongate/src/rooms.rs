//! The settings, told to each room in its own terms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{HistoryLimits, OutboxLimits, OutboxPolicy};
use moongate_sys::{Choice, EpollConfig, SocketOptions, TokioUringConfig, UringConfig};
use moongate_wire::decide::Policy;
use moongate_wire::route::Routes;
use moongate_wire::scan::HeadLimits;

use crate::plan::Plan;
use crate::settings::{self, Anonymous, Secret, Settings};

/// The page, which loads nothing but the script.
const PAGE: &[u8] = include_bytes!("../page/index.html");

/// The client, which the page uses and others may.
const SCRIPT: &[u8] = include_bytes!("../../../clients/js/moongate.js");

/// How long a POST waits for its topic's home to order the message; then it is answered 503.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections may wait to be accepted, on each shard's listener. The kernel's own maximum is usually lower
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 65_535;

/// For the sockets that listen and those that connect.
pub(crate) fn sockets(settings: &Settings) -> SocketOptions {
    SocketOptions {
        notsent_lowat: narrow(settings.send_unsent_bytes_max),
        user_timeout: settings.tcp_user_timeout,
        backlog: BACKLOG,
    }
}

/// For the driver of `shard` on tokio-uring.
pub(crate) fn tokio_uring(settings: &Settings, plan: &Plan, shard: usize) -> TokioUringConfig {
    TokioUringConfig {
        ring_entries: settings.ring_entries,
        completion_entries: plan.completion_entries,
        recv_buffers: recv_buffers(settings),
        recv_buffer_size: narrow(settings.recv_buffer_size),
        slots: plan.slots,
        cpu: plan.cpus[shard],
        outbound: sockets(settings),
    }
}

/// For the driver of `shard` on epoll.
pub(crate) fn epoll(settings: &Settings, plan: &Plan, shard: usize) -> EpollConfig {
    EpollConfig {
        recv_buffers: recv_buffers(settings),
        recv_buffer_size: narrow(settings.recv_buffer_size),
        slots: plan.slots,
        cpu: plan.cpus[shard],
        outbound: sockets(settings),
    }
}

/// For the driver of `shard` on io_uring.
pub(crate) fn uring(settings: &Settings, plan: &Plan, shard: usize) -> UringConfig {
    UringConfig {
        ring_entries: settings.ring_entries,
        completion_entries: plan.completion_entries,
        recv_buffers: recv_buffers(settings),
        recv_buffer_size: narrow(settings.recv_buffer_size),
        slots: plan.slots,
        cpu: plan.cpus[shard],
        outbound: sockets(settings),
    }
}

/// For each shard.
pub(crate) fn gate(
    settings: &Settings,
    plan: &Plan,
    routes: &Arc<Routes>,
    upstreams: Vec<Arc<[SocketAddr]>>,
) -> moongate_gate::Config {
    moongate_gate::Config {
        policy: policy(settings, routes),
        upstreams,
        tunnel_buffer_bytes_max: narrow(settings.tunnel_buffer_bytes_max),
        page: PAGE,
        script: SCRIPT,
        connections_max: plan.connections_max,
        head_timeout: settings.head_timeout,
        body_timeout: settings.head_timeout,
        order_timeout: ORDER_TIMEOUT,
        publish_window_bytes: narrow(settings.publish_window_bytes),
        subscription_topics_max: settings.subscription_topics_max,
        requests_in_flight_max: settings.requests_in_flight_max,
        wamp_realm: settings.wamp_realm.clone(),
        memory_bytes_max: plan.memory_bytes_max,
        ping_interval: settings.ping_interval,
        pong_timeout: settings.pong_timeout,
        close_timeout: settings.close_timeout,
        drain_delay: settings.drain_delay,
        drain_timeout: settings.drain_timeout,
        hub: moongate_hub::Config {
            topics_max: plan.topics_max,
            topic_linger: settings.topic_linger,
            history: HistoryLimits {
                messages_max: settings.history_messages as usize,
                bytes_max: settings.history_bytes,
                ttl: settings.history_ttl,
            },
            outbox: OutboxLimits {
                outbox_bytes_max: narrow(settings.outbox_bytes_max),
                policy: match settings.outbox_policy {
                    settings::OutboxPolicy::Cut => OutboxPolicy::Cut,
                    settings::OutboxPolicy::DropOldest => OutboxPolicy::DropOldest,
                    settings::OutboxPolicy::Latest => OutboxPolicy::Latest,
                },
                slow_reader_timeout: settings.slow_reader_timeout,
            },
        },
    }
}

/// For what decides about requests.
fn policy(settings: &Settings, routes: &Arc<Routes>) -> Policy {
    let head = HeadLimits { head_bytes_max: settings.head_bytes_max, ..HeadLimits::default() };
    Policy {
        routes: Arc::clone(routes),
        may_publish: settings.anonymous() == Anonymous::Publish,
        origins: settings.origins.clone(),
        head,
        message_bytes_max: settings.message_bytes_max,
        deflate: settings.deflate,
        deflate_bytes_min: settings.deflate_min_bytes,
    }
}

/// For the control thread.
pub(crate) fn control(settings: &Settings, choice: &Choice) -> moongate_control::Config {
    moongate_control::Config {
        token: settings.control_token.as_ref().map(Secret::reveal).map(str::to_owned),
        origins: settings.control_origins.clone(),
        hosts: settings.control_hosts.clone(),
        message_bytes_max: settings.message_bytes_max,
        limits: moongate_control::Limits::default(),
        driver: moongate_control::Driver { name: choice.kind.name(), reason: choice.reason.clone() },
    }
}

/// The table of settings allows no more than a ring of buffers can have.
fn recv_buffers(settings: &Settings) -> u16 {
    u16::try_from(settings.recv_buffers).unwrap_or(u16::MAX)
}

/// Sizes whose kind in the table keeps them below 4 GiB.
fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
