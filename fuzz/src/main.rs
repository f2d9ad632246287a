//! Runs files through a target: what `make fuzz` found, with any Rust and any debugger.

use std::process::ExitCode;

use moongate_fuzz::TARGETS;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    let Some((name, target)) = TARGETS.iter().find(|(name, _)| *name == wanted) else {
        let names = TARGETS.map(|(name, _)| name).join(", ");
        eprintln!("usage: moongate-fuzz TARGET FILE...\nTARGET is one of {names}.");
        return ExitCode::from(2);
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(bytes) => target(&bytes),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
        println!("{name}: {path} passes");
    }
    ExitCode::SUCCESS
}
