//! Runs subjects under callgrind.

use std::env;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How often a subject is called so that everything is warm, and how often on top of that.
const WARM: u64 = 16;
const CALLS: u64 = 32;

/// What numbers depend on beside our own code: only what was counted on the same ground is compared.
pub(crate) fn ground() -> Result<String, String> {
    let compiler = said_by(Command::new("rustc").arg("--version"))?;
    let library = said_by(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    // Callgrind shows a program one processor where there is AVX2, whichever it is, and another where there is none.
    #[cfg(target_arch = "x86_64")]
    let vectors = if is_x86_feature_detected!("avx2") { "with AVX2" } else { "without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    Ok(format!("{compiler}, {library}, {} {vectors}", env::consts::ARCH).trim_end().to_owned())
}

/// How many instructions one call of `subject` takes.
pub(crate) fn instructions(subject: &str) -> Result<u64, String> {
    // Both at once, on two cores.
    let (few, many) = (start(subject, WARM)?, start(subject, WARM + CALLS)?);
    let (few, many) = (collected(few)?, collected(many)?);
    Ok(many.saturating_sub(few).div_ceil(CALLS))
}

fn start(subject: &str, times: u64) -> Result<Child, String> {
    let program = env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let name = program.file_name().ok_or("this program has no name")?;
    Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(Path::new(".").join(name))
        .args(["call", subject, &times.to_string()])
        // Arguments and environment lie above the stack: were they longer elsewhere, everything on it would be aligned
        // in another way, and vector code would take a few instructions more or less.
        .current_dir(program.parent().unwrap_or(&program))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("valgrind: {error}. `tests/install.sh` installs it."))
}

/// What callgrind says at the end: `==PID== Collected : N`.
fn collected(child: Child) -> Result<u64, String> {
    let output = child.wait_with_output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or_else(|| format!("callgrind counted nothing:\n{said}"))
}

fn said_by(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
