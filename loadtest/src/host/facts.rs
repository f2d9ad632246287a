//! What a result must say about where it was measured.

use std::env::consts::ARCH;
use std::fs;
use std::thread;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::procfs;

/// The machine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Processors that the system has online.
    pub(crate) processors: u32,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) system: String,
    /// How the clock rate is chosen; none where that is not this system's to choose, as in a virtual machine.
    pub(crate) governor: Option<String>,
    /// Whether it is a virtual machine, as far as its processor says so.
    pub(crate) virtual_machine: bool,
}

impl Machine {
    pub(crate) fn read() -> Machine {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = text("/proc/cpuinfo");
        let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        let governor = text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let online = procfs::processors(&text("/sys/devices/system/cpu/online")).map(|online| online.len());
        let online = online.or_else(|| thread::available_parallelism().ok().map(Into::into));
        Machine {
            virtual_machine: flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"),
            processor: procfs::processor_model(&processor).unwrap_or_else(unknown),
            processors: online.unwrap_or_default() as u32,
            memory: procfs::kilobytes(&text("/proc/meminfo"), "MemTotal:").unwrap_or_default(),
            kernel: format!("Linux {}", text("/proc/sys/kernel/osrelease").trim()),
            architecture: ARCH.to_owned(),
            system: procfs::assignment(&text("/etc/os-release"), "PRETTY_NAME").unwrap_or_else(unknown),
            governor: Some(governor.trim().to_owned()).filter(|governor| !governor.is_empty()),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// A program that takes part.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) pid: u32,
    /// How it was started.
    pub(crate) command: Vec<String>,
    /// Which file it runs.
    pub(crate) file: Option<String>,
    /// When that file was made, in seconds since 1970: two builds are told apart by it.
    pub(crate) built: Option<u64>,
}

impl Program {
    pub(crate) fn read(pid: u32) -> Option<Program> {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let link = format!("/proc/{pid}/exe");
        let built = fs::metadata(&link).and_then(|file| file.modified()).ok();
        Some(Program {
            pid,
            command: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            file: fs::read_link(&link).ok().map(|file| file.to_string_lossy().into_owned()),
            built: built.and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_this_program_are_known() {
        let machine = Machine::read();
        assert!(machine.processors > 0 && machine.memory > 0, "{machine:?}");
        assert!(machine.kernel.len() > "Linux ".len() && !machine.system.is_empty(), "{machine:?}");
        let program = Program::read(std::process::id()).expect("our own");
        assert!(!program.command.is_empty() && program.built > Some(0), "{program:?}");
        assert!(program.file.is_some_and(|file| file.contains("moongate")));
        assert_eq!(Program::read(u32::MAX), None);
    }
}
