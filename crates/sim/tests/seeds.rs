//! A fixed set of worlds, so that every run of the tests is the same; `make sim` tries others.

use moongate_sim::scenario::SCENARIOS;
use moongate_sim::{Plan, run_plan, run_seed};

/// How many seeds of every scenario the tests run.
const ROUNDS: u64 = 10;

#[test]
fn a_fixed_set_of_worlds_goes_well() {
    let (mut said, mut heard) = (0, 0);
    for seed in 0..ROUNDS * SCENARIOS.len() as u64 {
        match run_seed(seed) {
            Ok(outcome) => {
                said += outcome.said;
                heard += outcome.heard;
            }
            Err(report) => panic!("{report}"),
        }
    }
    assert!(said > 5000 && heard > 2 * said, "these worlds are too quiet: {said} said, {heard} heard");
}

#[test]
fn the_same_seed_is_the_same_world_byte_for_byte() {
    for seed in [3, 14, 159, 2653] {
        assert_eq!(run_seed(seed), run_seed(seed), "seed {seed}");
    }
    let traces: Vec<_> = (0..5).map(|seed| run_seed(seed).expect("a world that goes well").trace).collect();
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]), "other seeds are other worlds: {traces:?}");
}

#[test]
fn tiny_outboxes_drop_messages() {
    let tiny = SCENARIOS.iter().enumerate().filter(|(_, scenario)| scenario.name.starts_with("tiny"));
    for (index, scenario) in tiny {
        let seeds = (0..8).map(|round| index as u64 + round * SCENARIOS.len() as u64);
        let dropped: u64 = seeds.map(|seed| run_seed(seed).expect("a world that goes well").dropped).sum();
        assert!(dropped > 0, "{}: nothing was dropped", scenario.name);
    }
}

/// Worlds that once went wrong, as they were drawn when they did.
mod once_wrong {
    use super::*;

    fn check(seed: u64) {
        if let Err(report) = run_plan(Plan::of(seed)) {
            panic!("{report}");
        }
    }

    /// E8, D15: a pong that was due went out behind a Close.
    #[test]
    fn a_pong_behind_a_close() {
        check(13);
        check(57);
    }

    /// D12: a newer pong overtook an older one in an outbox of more than one send.
    #[test]
    fn a_pong_overtaken() {
        check(639);
    }

    /// C9: a subscriber whose outbox overflowed before its 101 had gone out got a Close without it.
    #[test]
    fn a_close_without_a_101() {
        check(1290);
    }
}
