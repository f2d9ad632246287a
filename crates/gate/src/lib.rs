//! A connection's life and the shard's tick.
//!
//! A [`Shard`] owns its driver, its connections and its hub, and does everything in ticks: wait, completions, effects,
//! lanes, timers, flush, never backwards, every step with a budget. A connection is a [`conn::Mode`] in a table by
//! slot; bytes and timers move it from one mode to the next. What it wants of the driver is collected and done after
//! its turn, what it says goes into the hub, and neither ever reaches into another connection.
//!
//! No system call, environment variable or clock is used here: all that comes through the driver.

mod config;
mod conn;
mod core;
mod counts;
mod drain;
mod enter;
mod forms;
mod inflate;
mod keep;
mod leave;
mod post;
mod protocol;
mod shard;
mod speak;
#[cfg(test)]
mod stage;
mod tunnel;
mod wheel;

pub use config::Config;
pub use forms::{EVENTS, FRAMES, Forms, deflated};
pub use shard::Shard;
pub use wheel::Wheel;
