//! The gateway's binary: settings, allocator, thread start, and nothing else.

mod cli;
mod drivers;
mod log;
mod plan;
mod rooms;
mod settings;
mod start;

/// The system's allocator keeps what one thread frees for another in that other's arena, behind its lock. Here a message
/// is often allocated by its topic's home and freed by the shard that sent it last, and mimalloc makes that one atomic
/// push onto the owner's list.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
