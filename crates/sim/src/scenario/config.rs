//! How the gateway is in a world, and what stands behind it.

use std::time::Duration;

use moongate_gate::Config;
use moongate_hub::{HistoryLimits, OutboxLimits};
use moongate_io::Remote;
use moongate_wire::decide::Policy;
use moongate_wire::route::Routes;

use super::Scenario;
use crate::net::{Endpoint, Manner};
use crate::rng::Rng;

/// Where tunnels lead, by the same words as [`Way::path`].
const ROUTES: &str = "\
/topics/* topics; /connect connect; /echo echo; / page
/open/* tunnel 10.1.0.1:1 connect_timeout=5s answer_timeout=20s idle_timeout=60s
/brief/* tunnel 10.1.0.1:1 connect_timeout=5s answer_timeout=20s idle_timeout=60s lifetime=5s
/refused/* tunnel 10.1.0.2:1 connect_timeout=5s
/silent/* tunnel 10.1.0.3:1 connect_timeout=5s
/missing/* tunnel unix:/missing.sock connect_timeout=5s
/pass-open/* tunnel 10.1.0.1:1 http=pass connect_timeout=5s answer_timeout=20s
/pass-refused/* tunnel 10.1.0.2:1 http=pass connect_timeout=5s
/pass-silent/* tunnel 10.1.0.3:1 http=pass connect_timeout=5s
/pass-missing/* tunnel unix:/missing.sock http=pass connect_timeout=5s
";

pub(super) fn endpoints(rng: &mut Rng) -> Vec<(Remote, Endpoint)> {
    let at = |last: u8| Remote::Tcp(([10, 1, 0, last], 1).into());
    let mut endpoint = |manner| Endpoint {
        manner,
        window: rng.pick(&[1000, 8_000, 100_000]),
        delay: rng.pick(&[(0, 0), (0, 2), (1, 50)]),
    };
    vec![
        (at(1), endpoint(Manner::Accepts)),
        (at(2), endpoint(Manner::Refuses)),
        (at(3), endpoint(Manner::Silent)),
    ]
}

pub(super) fn gate_config(scenario: &Scenario, message_bytes: usize, rng: &mut Rng) -> Config {
    let (connections_max, memory_bytes_max) = scenario.scarce.unwrap_or((140, u64::MAX));
    let message_bytes_max = message_bytes + 32;
    // It must exceed one message in any form: base64 and a line for every byte are the longest.
    let outbox_bytes = rng.between(scenario.outbox_bytes.0, scenario.outbox_bytes.1) + message_bytes_max + 64;
    Config {
        policy: Policy {
            routes: Routes::parse(ROUTES).expect("a right table").with_health().into(),
            may_publish: scenario.may_publish,
            message_bytes_max,
            deflate: rng.chance(90),
            deflate_bytes_min: rng.pick(&[1, 64, 256]),
            ..Policy::default()
        },
        upstreams: Vec::new(),
        tunnel_buffer_bytes_max: rng.pick(&[1, 1000, 1 << 17]),
        page: b"<!doctype html><title>The page</title>",
        script: b"export {};",
        connections_max,
        head_timeout: Duration::from_secs(rng.between(15, 25) as u64),
        body_timeout: Duration::from_secs(rng.between(5, 30) as u64),
        order_timeout: Duration::from_secs(5),
        publish_window_bytes: rng.pick(&[1, 1000, 1 << 18]),
        subscription_topics_max: rng.pick(&[2, 10]),
        requests_in_flight_max: rng.pick(&[1, 64]),
        wamp_realm: "realm1".into(),
        memory_bytes_max,
        ping_interval: Duration::from_secs(rng.between(2, 60) as u64),
        pong_timeout: Duration::from_secs(rng.between(2, 20) as u64),
        close_timeout: Duration::from_secs(rng.between(2, 6) as u64),
        drain_delay: Duration::from_secs(rng.between(0, 5) as u64),
        drain_timeout: Duration::from_secs(rng.between(5, 20) as u64),
        hub: moongate_hub::Config {
            topics_max: scenario.topics_max,
            topic_linger: Duration::from_millis(scenario.linger_millis as u64),
            history: HistoryLimits {
                messages_max: rng.pick(&[0, 3, 64]),
                bytes_max: rng.pick(&[300, 1 << 18]),
                ttl: Duration::from_millis(rng.pick(&[500, 20_000]) as u64),
            },
            outbox: OutboxLimits {
                outbox_bytes_max: outbox_bytes as u32,
                policy: rng.pick(scenario.policies),
                slow_reader_timeout: Duration::from_millis(if scenario.steady {
                    2000
                } else {
                    rng.pick(&[0, 10, 200, 2000]) as u64
                }),
            },
        },
    }
}
