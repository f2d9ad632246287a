//! A seeded, virtual-time driver and a world of clients, for tests.
//!
//! A seed means a world: how many shards, how small their lanes, buffers and outboxes, who connects and what they do,
//! and every misfortune on the way. The same seed is the same world, byte for byte. Several
//! [`Shard`](moongate_gate::Shard)s run in it on one thread with [`driver::SimDriver`]s, [`client`]s say and hear real
//! bytes, and the [`oracle`] knows who should have heard what.

pub mod client;
pub mod driver;
pub mod net;
pub mod oracle;
pub mod rng;
pub mod scenario;
pub mod tamper;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use scenario::Plan;
pub use world::Outcome;

/// Runs the world of one seed. `Err`: everything that was wrong, and the command that runs it again.
pub fn run_seed(seed: u64) -> Result<Outcome, String> {
    run_plan(Plan::of(seed))
}

/// Runs a world.
pub fn run_plan(plan: Plan) -> Result<Outcome, String> {
    let (seed, name) = (plan.seed, plan.scenario.name);
    let shown =
        format!("{} shards, lanes of {}, {:?}, {:?}", plan.shards, plan.lane, plan.driver, plan.gate.hub);
    let result = catch_unwind(AssertUnwindSafe(|| world::run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(vec![format!("panicked: {}", text.unwrap_or_default())])
    });
    result.map_err(|faults| {
        let some: Vec<_> = faults.iter().take(8).map(|fault| format!("  {fault}\n")).collect();
        format!(
            "seed {seed} ({name}; {shown}): {} faults\n{}  run it again: \
             cargo run --profile checked -p moongate-sim --bin sim -- --from {seed} --seeds 1",
            faults.len(),
            some.concat(),
        )
    })
}
