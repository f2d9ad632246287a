//! What the kernel says about this machine and about the server's process: CPU time, memory, facts.

mod cpu;
mod facts;
mod find;
mod memory;
mod procfs;

pub(crate) use cpu::{Counted, Participant, Reading, Usage, Watch};
#[cfg(test)]
pub(crate) use cpu::{Cpu, ServerUsage};
pub(crate) use facts::{Machine, Program};
pub(crate) use find::find;
pub(crate) use memory::{Footprint, Growth, resident, tcp_bytes};
