//! The lock-free lane: bounded, one producer, one consumer.
//!
//! Shards speak to each other through lanes and nothing else. A [`lane`] has two ends, each owned by one thread: what is
//! pushed at one comes out at the other, in order, once. Neither end ever waits; a full lane gives the item back.
//!
//! A consumer with nothing to do sleeps somewhere else (in its ring, on its bell); [`Parking`] is the flag that tells
//! producers whether they must wake it, with the fences that make "push, then ring only if parked" lose nothing.
//!
//! Every atomic here is checked under loom: see `tests/loom.rs`.

mod parking;
mod ring;
mod sync;

pub use parking::Parking;
pub use ring::{Consumer, Producer, lane};
