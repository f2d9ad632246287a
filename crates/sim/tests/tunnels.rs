//! Worlds with upstreams: slow, dying, late, talking nonsense, answering in every framing (docs/protocol.md H1 to H6,
//! H8, H10 to H14, H16, H17), each manner by itself; in the worlds of `seeds` they meet. And proof that what the ends look
//! for would be seen.

use std::time::Duration;

use moongate_sim::client::{Manner, TunnelPlan, Way};
use moongate_sim::scenario::{ClientPlan, Pace, Role, SCENARIOS};
use moongate_sim::{Plan, run_plan};

/// A calm world with nobody in it but those who ask for tunnels as these plans say.
fn world(seed: u64, tunnels: &[TunnelPlan]) -> Plan {
    let mut plan = Plan::of(seed * SCENARIOS.len() as u64);
    plan.control_messages = 0;
    plan.clients = tunnels
        .iter()
        .map(|tunnel| ClientPlan {
            at: Duration::ZERO,
            shard: 0,
            role: Role::Caller(tunnel.clone()),
            pace: Pace::Fast,
            window: 1 << 20,
            delay: (0, 2),
            breaks: None,
        })
        .collect();
    plan
}

fn tunnel(number: u32, manner: Manner, upgrades: bool) -> TunnelPlan {
    TunnelPlan { number, way: Way::Open, manner, up: 5000, down: 7000, upgrades, leaves: false }
}

/// Each manner by itself, so that a world in which all goes well says so of all.
#[test]
fn each_manner_is_met() {
    for manner in Manner::all() {
        for upgrades in [true, false] {
            for seed in 0..3 {
                run_plan(world(seed, &[tunnel(1, manner, upgrades)]))
                    .unwrap_or_else(|report| panic!("{report}"));
            }
        }
    }
    for way in [Way::Refused, Way::Silent, Way::Missing] {
        let plan = TunnelPlan { way, ..tunnel(1, Manner::Switches, true) };
        run_plan(world(1, &[plan])).unwrap_or_else(|report| panic!("{report}"));
    }
}

/// H17: what neither end would end lives as long as its route says, and no longer.
#[test]
fn h17_a_lifetime_ends_what_would_not_end() {
    for seed in 0..5 {
        let brief = TunnelPlan { way: Way::Brief, ..tunnel(1, Manner::Switches, true) };
        run_plan(world(seed, &[brief])).unwrap_or_else(|report| panic!("{report}"));
    }
}

/// One wrong byte in a tunnel.
#[test]
fn other_bytes_are_noticed() {
    for seed in 0..5 {
        let mut plan = world(seed, &[tunnel(1, Manner::Switches, true)]);
        plan.lies = true;
        let report = run_plan(plan).expect_err("the upstream says other bytes than the path means");
        assert!(report.contains("other bytes than were said"), "{report}");
    }
}
