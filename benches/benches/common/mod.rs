//! How every benchmark is run, and how they are named: `group/function/case`, where the function [`OURS`] is held
//! against the others of its group and case.

use std::time::Duration;

use criterion::Criterion;

/// The name of our own function in a group that has others.
pub(crate) const OURS: &str = "moongate";

/// Runs `groups`, with options from the command line. About a second each: all of them in less than ten minutes.
pub(crate) fn run(groups: &[fn(&mut Criterion)]) {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .without_plots()
        .configure_from_args();
    for group in groups {
        group(&mut criterion);
    }
}
