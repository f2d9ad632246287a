//! Worlds with upstreams: slow, dying, late, talking nonsense, answering in every framing (docs/protocol.md H1 to H6,
//! H8, H10 to H14, H16, H17). And proof that what the ends look for would be seen.

use std::time::Duration;

use moongate_sim::client::{Manner, TunnelPlan, Way};
use moongate_sim::scenario::{ClientPlan, Pace, Role, SCENARIOS};
use moongate_sim::{Plan, run_plan, run_seed};

/// How many seeds of every scenario with tunnels the tests run.
const ROUNDS: u64 = 12;

#[test]
fn tunnels_go_well_in_every_world() {
    let with_tunnels =
        SCENARIOS.iter().enumerate().filter(|(_, scenario)| scenario.name.starts_with("tunnels"));
    for (index, _) in with_tunnels {
        for round in 0..ROUNDS {
            if let Err(report) = run_seed(index as u64 + round * SCENARIOS.len() as u64) {
                panic!("{report}");
            }
        }
    }
}

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
