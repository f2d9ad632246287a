//! The command line: few verbs and no options that are settings, because settings are environment variables.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::drivers;
use crate::settings::{self, Loaded};
use crate::start;

/// It could not write what was asked for.
const FAILED: u8 = 1;

/// The settings are wrong.
const WRONG_SETTINGS: u8 = 2;

/// An HTTP-upgrade gateway on io_uring: a topic is a URL.
#[derive(Parser, Debug)]
#[command(
    name = "moongate",
    version,
    after_help = "moongate --help lists every setting.",
    after_long_help = settings::help(),
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the gateway; also what happens without a verb.
    Run,
    /// Read the settings, say everything that is wrong with them, and exit with 2 if there is anything.
    Check {
        /// Count names that are not settings as errors.
        #[arg(long)]
        strict: bool,
    },
    /// Show every driver: whether it can run here, why not, and what it lacks.
    Drivers,
    /// Print docs/config.md.
    #[command(hide = true)]
    SettingsDoc,
}

/// Does what the command line asks for.
pub(crate) fn main() -> ExitCode {
    match Cli::parse().verb.unwrap_or(Verb::Run) {
        Verb::Run => run(&settings::load(std::env::vars_os())),
        Verb::Check { strict } => check(&settings::load(std::env::vars_os()), strict),
        Verb::Drivers => print(&drivers::table()),
        Verb::SettingsDoc => print(&settings::markdown()),
    }
}

fn run(loaded: &Loaded) -> ExitCode {
    if !loaded.problems.is_empty() {
        return check(loaded, false);
    }
    start::run(loaded)
}

fn check(loaded: &Loaded, strict: bool) -> ExitCode {
    let kind = if strict { "error" } else { "warning" };
    for warning in &loaded.warnings {
        eprintln!("{kind}: {warning}");
    }
    for problem in &loaded.problems {
        eprintln!("error: {problem}");
    }
    if !loaded.problems.is_empty() || (strict && !loaded.warnings.is_empty()) {
        return ExitCode::from(WRONG_SETTINGS);
    }
    let routes: Vec<String> =
        loaded.settings.routes().describe().iter().map(|line| format!("  {line}\n")).collect();
    print(&format!(
        "The settings are right. These are the routes, of which the first that matches decides:\n{}",
        routes.concat()
    ))
}

/// To standard output, which may be a pipe that nobody reads any more.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_the_settings_and_hides_what_is_for_the_repository() {
        let mut command = Cli::command();
        let long = command.render_long_help().to_string();
        assert!(long.contains("MOONGATE_CONNECTIONS_MAX [100_000]") && long.contains("check"));
        assert!(!long.contains("settings-doc"));
        assert!(!command.render_help().to_string().contains("MOONGATE_"));
    }
}
