//! Criterion benchmarks of Moongate's hot paths. Each is in `benches/`; beside what it measures stands something to hold
//! it against.
//!
//! `make bench` runs all, two and a half seconds each; `make bench BENCH=unmask` some.

use std::time::Duration;

use criterion::Criterion;

/// Runs `groups`, with options from the command line.
pub fn run(groups: &[fn(&mut Criterion)]) {
    let mut criterion = Criterion::default()
        .sample_size(40)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for group in groups {
        group(&mut criterion);
    }
    criterion.final_summary();
}
