//! Criterion benchmarks of Moongate's hot paths.
