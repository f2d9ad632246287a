//! Compressed messages, both ways: section G of the checklist.

mod deflate;
mod frames;
mod inflate;
mod judge;
