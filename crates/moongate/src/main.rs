//! The gateway's binary: settings, allocator, thread start, and nothing else.

mod cli;
mod log;
mod settings;
mod start;

fn main() -> std::process::ExitCode {
    cli::main()
}
