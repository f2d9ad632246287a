//! What benchmarks and the instruction check work on.
//!
//! `make bench` runs the benchmarks in `benches/`, a second each, and ends with a table of ratios: beside each of our
//! functions stand other ways to do the same. `make instructions` counts the instructions of the hottest ones.

pub mod frames;
pub mod heads;
pub mod shard;
