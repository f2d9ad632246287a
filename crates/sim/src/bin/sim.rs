//! Runs the worlds of many seeds: `sim --seeds 1000 [--from N]`. Exits 1 if any of them went wrong.

use std::process::ExitCode;

const USAGE: &str = "usage: sim [--seeds COUNT] [--from SEED]";

fn main() -> ExitCode {
    let (mut seeds, mut from) = (100_u64, 0_u64);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().and_then(|value| value.parse().ok());
        match (arg.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--from", Some(value)) => from = value,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    run(from, seeds)
}

fn run(from: u64, seeds: u64) -> ExitCode {
    let (mut failed, mut said, mut heard, mut ticks) = (0_u64, 0, 0, 0);
    for seed in from..from.saturating_add(seeds) {
        match moongate_sim::run_seed(seed) {
            Ok(outcome) => {
                said += outcome.said;
                heard += outcome.heard;
                ticks += outcome.ticks;
                if seeds == 1 {
                    println!("{outcome:?}");
                }
            }
            Err(report) => {
                failed += 1;
                println!("{report}");
            }
        }
    }
    println!(
        "{seeds} seeds from {from}: {failed} failed; {said} messages said, {heard} heard, {ticks} ticks"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
