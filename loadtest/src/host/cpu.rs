//! CPU time: what the server took, what this tool and whoever else takes part took, and what others did on the same cores
//! meanwhile.
//!
//! A process's time comes from the `schedstat` of its threads, in nanoseconds; how it divides into user and system is only
//! known in clock ticks, from its `stat`. Where a thread has ended in between, its nanoseconds went with it, and the ticks
//! must do. The kernel works off soft interrupts (received packets: on loopback, whatever is sent) on behalf of whoever
//! runs at the time, or in the core's thread `ksoftirqd`: what that does on the server's cores is the server's too, although
//! no file of the server's process shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::procfs::{self, Core, Ticks};

/// A thread with a smaller share of its process's time than this does not say where the process runs: a housekeeper may
/// be free to go anywhere, beside workers that are bound to a core each.
const WORKER_SHARE_MIN: f64 = 0.05;

/// By so many ticks the two sources may differ: either rounds, user and system each.
const TICKS_TOLERANCE: u64 = 3;

/// CPU time in seconds.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cpu {
    /// In the program.
    pub(crate) user: f64,
    /// In the kernel for it.
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

/// How finely CPU time was counted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Counted {
    /// From the `schedstat` of every thread.
    Nanoseconds,
    /// From the `stat` of the process.
    Ticks,
}

/// What the server computed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ServerUsage {
    #[serde(flatten)]
    pub(crate) cpu: Cpu,
    /// Seconds of `ksoftirqd` on its cores; none where those threads cannot be seen, as in a container.
    pub(crate) softirq: Option<f64>,
    /// The cores on which its busy threads may run.
    pub(crate) cores: Vec<u32>,
    /// This tool may run there too, so that some of the soft interrupts may be its own.
    pub(crate) cores_shared: bool,
    pub(crate) counted: Counted,
}

impl ServerUsage {
    /// All of it, soft interrupts included.
    pub(crate) fn total(&self) -> f64 {
        self.cpu.total() + self.softirq.unwrap_or(0.0)
    }
}

/// What a process computed that takes part beside the server, such as the upstream behind a tunnel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Participant {
    pub(crate) pid: u32,
    #[serde(flatten)]
    pub(crate) cpu: Cpu,
}

/// Who computed what between two readings, in seconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From one reading to the other.
    pub(crate) seconds: f64,
    pub(crate) server: Option<ServerUsage>,
    /// This tool, all its processes.
    pub(crate) own: Option<Cpu>,
    /// Those that take part beside them, as far as they live.
    #[serde(default)]
    pub(crate) with: Vec<Participant>,
    /// The cores on which all of these may run.
    pub(crate) cores: Vec<u32>,
    /// Whoever else was on those cores.
    pub(crate) others: Option<f64>,
    /// What the hypervisor took of them.
    pub(crate) stolen: Option<f64>,
}

/// Whom to watch.
pub(crate) struct Watch {
    server: Option<u32>,
    /// Processes that take part beside it and this tool.
    with: Vec<u32>,
    /// The core and the process of each `ksoftirqd`.
    softirqs: Vec<(u32, u32)>,
}

/// What was computed so far, by whom.
#[derive(Debug)]
pub(crate) struct Reading {
    at: Instant,
    server: Option<Process>,
    own: Option<Vec<Process>>,
    with: BTreeMap<u32, Process>,
    /// Nanoseconds of each core's `ksoftirqd`.
    softirqs: BTreeMap<u32, u64>,
    cores: BTreeMap<u32, Core>,
    ticks_per_second: u64,
}

#[derive(Clone, Debug, Default)]
struct Process {
    ticks: Ticks,
    threads: BTreeMap<u32, Thread>,
}

#[derive(Clone, Debug, Default)]
struct Thread {
    nanos: u64,
    may_use: Vec<u32>,
}

impl Watch {
    pub(crate) fn new(server: Option<u32>) -> Watch {
        let names = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            Some((name.trim_end().strip_prefix("ksoftirqd/")?.parse().ok()?, pid))
        });
        Watch { server, with: Vec::new(), softirqs: names.collect() }
    }

    /// Watches `processes` too, which take part beside the server and this tool. Fails if one of them is not there, or is
    /// the server.
    pub(crate) fn with(self, processes: &[u32]) -> Result<Watch, String> {
        for pid in processes {
            // Its time would be counted twice, and hide that much of others'.
            if self.server == Some(*pid) {
                return Err(format!("--with {pid} is the server itself: it names those beside it"));
            }
            if Process::read(*pid).is_none() {
                return Err(format!("--with {pid}: there is no such process on this machine"));
            }
        }
        Ok(Watch { with: processes.to_vec(), ..self })
    }

    /// Reads what was computed so far; `own`: the processes of this tool.
    pub(crate) fn read(&self, own: &[u32]) -> Reading {
        let nanos = |pid: &u32| procfs::schedstat(&read(format!("/proc/{pid}/schedstat"))?);
        let softirqs = self.softirqs.iter().filter_map(|(core, pid)| Some((*core, nanos(pid)?)));
        Reading {
            softirqs: softirqs.collect(),
            server: self.server.and_then(Process::read),
            own: own.iter().map(|pid| Process::read(*pid)).collect(),
            with: self.with.iter().filter_map(|pid| Some((*pid, Process::read(*pid)?))).collect(),
            cores: read("/proc/stat".to_owned()).map(|text| procfs::cores(&text)).unwrap_or_default(),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            at: Instant::now(),
        }
    }
}

fn read(path: String) -> Option<String> {
    fs::read_to_string(path).ok()
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        let ticks = procfs::stat(&read(format!("/proc/{pid}/stat"))?)?;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        // One that ends while it is looked at is not there.
        let threads = tasks.filter_map(|task| {
            let text = |name| fs::read_to_string(task.path().join(name)).ok();
            let may_use =
                procfs::field(&text("status")?, "Cpus_allowed_list:").and_then(procfs::processors)?;
            let nanos = procfs::schedstat(&text("schedstat")?)?;
            Some((task.file_name().to_str()?.parse().ok()?, Thread { nanos, may_use }))
        });
        Some(Process { ticks, threads: threads.collect() })
    }

    /// What it took since `earlier`, and how that was counted.
    fn since(&self, earlier: &Process, ticks_per_second: u64) -> (Cpu, Counted) {
        let ticks = Ticks {
            user: self.ticks.user.saturating_sub(earlier.ticks.user),
            system: self.ticks.system.saturating_sub(earlier.ticks.system),
        };
        let tick = 1.0 / ticks_per_second as f64;
        let nanos: u64 = self.nanos_since(earlier).map(|(_, nanos)| nanos).sum();
        let seconds = nanos as f64 / 1e9;
        let ended = earlier.threads.keys().any(|thread| !self.threads.contains_key(thread));
        let more = (ticks.user + ticks.system).saturating_sub(TICKS_TOLERANCE) as f64 * tick > seconds;
        if ended || more {
            let cpu = Cpu { user: ticks.user as f64 * tick, system: ticks.system as f64 * tick };
            return (cpu, Counted::Ticks);
        }
        // In too short a time for a tick: as it was so far.
        let by = if ticks == Ticks::default() { self.ticks } else { ticks };
        let user = seconds * by.user as f64 / (by.user + by.system).max(1) as f64;
        (Cpu { user, system: seconds - user }, Counted::Nanoseconds)
    }

    fn nanos_since(&self, earlier: &Process) -> impl Iterator<Item = (&Thread, u64)> {
        self.threads.iter().map(|(id, thread)| {
            let before = earlier.threads.get(id).map_or(0, |thread| thread.nanos);
            (thread, thread.nanos.saturating_sub(before))
        })
    }

    /// The cores on which it ran since `earlier`: those of the threads that did its work.
    fn cores_since(&self, earlier: &Process) -> BTreeSet<u32> {
        let all: u64 = self.nanos_since(earlier).map(|(_, nanos)| nanos).sum();
        let least = all as f64 * WORKER_SHARE_MIN;
        let workers = self.nanos_since(earlier).filter(|(_, nanos)| *nanos as f64 >= least);
        workers.flat_map(|(thread, _)| thread.may_use.iter().copied()).collect()
    }

    fn may_use(&self) -> impl Iterator<Item = u32> {
        self.threads.values().flat_map(|thread| thread.may_use.iter().copied())
    }
}

impl Reading {
    /// Who computed what since `earlier`.
    pub(crate) fn since(&self, earlier: &Reading) -> Usage {
        let per_second = self.ticks_per_second;
        let seconds = (self.at - earlier.at).as_secs_f64();
        let own_cores: BTreeSet<u32> = self.own.iter().flatten().flat_map(Process::may_use).collect();
        let own = self.own.as_ref().zip(earlier.own.as_ref()).map(|(now, before)| {
            let each = now.iter().zip(before).map(|(now, before)| now.since(before, per_second).0);
            each.fold(Cpu::default(), |sum, cpu| Cpu {
                user: sum.user + cpu.user,
                system: sum.system + cpu.system,
            })
        });
        let server = self.server.as_ref().zip(earlier.server.as_ref()).map(|(now, before)| {
            let (cpu, counted) = now.since(before, per_second);
            let cores = now.cores_since(before);
            let cores_shared = !cores.is_disjoint(&own_cores);
            let softirq = self.softirqs_since(earlier, &cores);
            ServerUsage { cpu, softirq, cores: cores.into_iter().collect(), cores_shared, counted }
        });
        let with: Vec<Participant> = self
            .with
            .iter()
            .filter_map(|(pid, now)| {
                let cpu = now.since(earlier.with.get(pid)?, per_second).0;
                Some(Participant { pid: *pid, cpu })
            })
            .collect();
        let beside = self.server.iter().chain(self.with.values());
        let all: BTreeSet<u32> = beside.flat_map(Process::may_use).chain(own_cores).collect();
        let (busy, stolen) = self.busy_since(earlier, &all, seconds).unzip();
        let known = own.map_or(0.0, Cpu::total)
            + server.as_ref().map_or(0.0, |server| server.cpu.total())
            + with.iter().map(|participant| participant.cpu.total()).sum::<f64>()
            + self.softirqs_since(earlier, &all).unwrap_or(0.0);
        // Without the server's process, what it did looks like others'.
        let others = busy.filter(|_| server.is_some()).map(|busy: f64| (busy - known).max(0.0));
        Usage { seconds, server, own, with, cores: all.into_iter().collect(), others, stolen }
    }

    fn softirqs_since(&self, earlier: &Reading, cores: &BTreeSet<u32>) -> Option<f64> {
        let since = |core: &u32| Some(self.softirqs.get(core)?.saturating_sub(*earlier.softirqs.get(core)?));
        let nanos: Option<u64> = cores.iter().map(since).sum();
        Some(nanos? as f64 / 1e9)
    }

    /// For how long `cores` together were busy, and taken away.
    fn busy_since(&self, earlier: &Reading, cores: &BTreeSet<u32>, seconds: f64) -> Option<(f64, f64)> {
        let tick = 1.0 / self.ticks_per_second as f64;
        let (mut busy, mut stolen) = (0.0, 0.0);
        for core in cores {
            let (now, before) = (self.cores.get(core)?, earlier.cores.get(core)?);
            let taken = now.stolen.saturating_sub(before.stolen) as f64 * tick;
            stolen += taken;
            busy += seconds - taken - now.idle.saturating_sub(before.idle) as f64 * tick;
        }
        Some((busy.max(0.0), stolen))
    }
}

impl Usage {
    /// The share of a core that whoever else took.
    pub(crate) fn others_share(&self) -> Option<f64> {
        Some(self.others? / self.seconds)
    }

    /// The share of a core that the hypervisor took.
    pub(crate) fn stolen_share(&self) -> Option<f64> {
        Some(self.stolen? / self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::parent_id;
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn process(user: u64, system: u64, threads: &[(u32, u64, &[u32])]) -> Process {
        let thread = |(id, nanos, may_use): &(u32, u64, &[u32])| {
            (*id, Thread { nanos: *nanos, may_use: may_use.to_vec() })
        };
        Process { ticks: Ticks { user, system }, threads: threads.iter().map(thread).collect() }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn nanoseconds_divide_as_the_ticks_do() {
        let before = process(100, 100, &[(1, SECOND, &[0])]);
        for (name, now, expect) in [
            ("a quarter in the program", process(110, 130, &[(1, SECOND * 14 / 10, &[0])]), (0.1, 0.3)),
            ("too short for a tick", process(100, 100, &[(1, SECOND + 1000, &[0])]), (5e-7, 5e-7)),
            ("a new thread", process(100, 140, &[(1, SECOND, &[0]), (2, SECOND * 4 / 10, &[0])]), (0.0, 0.4)),
        ] {
            let (cpu, counted) = now.since(&before, 100);
            assert!(close(cpu.user, expect.0) && close(cpu.system, expect.1), "{name}: {cpu:?}");
            assert_eq!(counted, Counted::Nanoseconds, "{name}");
        }
    }

    #[test]
    fn a_thread_that_ended_leaves_only_ticks() {
        let before = process(100, 100, &[(1, SECOND, &[0]), (2, SECOND, &[0])]);
        for (name, now) in [
            ("one that was there before", process(110, 130, &[(1, SECOND, &[0])])),
            ("one that came and went", process(110, 130, &[(1, SECOND, &[0]), (2, SECOND, &[0])])),
        ] {
            let expect = (Cpu { user: 0.1, system: 0.3 }, Counted::Ticks);
            assert_eq!(now.since(&before, 100), expect, "{name}");
        }
    }

    #[test]
    fn a_process_runs_where_its_workers_may() {
        let before = process(0, 0, &[(1, 0, &[0, 1, 2, 3]), (2, 0, &[0]), (3, 0, &[1])]);
        let now = process(0, 0, &[(1, 4, &[0, 1, 2, 3]), (2, 50, &[0]), (3, 46, &[1])]);
        assert_eq!(now.cores_since(&before), BTreeSet::from([0, 1]));
        assert_eq!(before.cores_since(&before), BTreeSet::from([0, 1, 2, 3]));
    }

    /// Two seconds in which the server took 0.5 s of core 0 and this tool 1.5 s of core 1; core 2 is nobody's.
    fn readings(idle: [u64; 2]) -> (Reading, Reading) {
        let at = Instant::now();
        let reading = |seconds: u64, server: u64, own: u64, softirqs: [u64; 3], idle: [u64; 2]| Reading {
            at: at + Duration::from_secs(seconds),
            server: Some(process(0, server / 10_000_000, &[(1, server, &[0])])),
            own: Some(vec![process(own / 10_000_000, 0, &[(2, own, &[1])])]),
            with: BTreeMap::new(),
            softirqs: (0..).zip(softirqs).collect(),
            cores: [(0, idle[0]), (1, idle[1]), (2, 0)]
                .map(|(core, idle)| (core, Core { idle, stolen: 10 * seconds }))
                .into(),
            ticks_per_second: 100,
        };
        let before = reading(0, SECOND, SECOND, [SECOND; 3], [1000, 1000]);
        let softirqs = [SECOND * 11 / 10, SECOND * 12 / 10, SECOND * 9];
        (before, reading(2, SECOND * 15 / 10, SECOND * 25 / 10, softirqs, [1000 + idle[0], 1000 + idle[1]]))
    }

    #[test]
    fn soft_interrupts_on_the_servers_cores_are_the_servers() {
        // Of each core's 200 ticks 20 were stolen; core 0 has 60 busy ones and core 1 has 170, all accounted for.
        let (before, now) = readings([120, 10]);
        let usage = now.since(&before);
        let server = usage.server.as_ref().expect("it is known");
        assert!(close(server.cpu.total(), 0.5) && close(server.softirq.expect("visible"), 0.1), "{server:?}");
        assert!(close(server.total(), 0.6) && !server.cores_shared && server.cores == [0], "{server:?}");
        assert!(usage.own.is_some_and(|own| close(own.user, 1.5)), "{usage:?}");
        assert!(usage.others.is_some_and(|others| close(others, 0.0)), "{usage:?}");
        assert!(usage.stolen_share().is_some_and(|stolen| close(stolen, 0.2)), "{usage:?}");
    }

    #[test]
    fn what_nobody_known_did_was_others() {
        let (before, now) = readings([60, 10]);
        let usage = now.since(&before);
        assert!(usage.others_share().is_some_and(|others| close(others, 0.3)), "{usage:?}");
        assert_eq!(usage.cores, [0, 1]);
    }

    #[test]
    fn who_takes_part_is_none_of_the_others() {
        let (mut before, mut now) = readings([60, 10]);
        // It took 0.2 s of what others had on core 1, and the 1.8 s in which core 2 was busy, where it may run as well.
        for (reading, took) in [(&mut before, 0), (&mut now, SECOND * 2)] {
            reading.softirqs.insert(2, SECOND);
            reading.with.insert(77, process(took / 10_000_000, 0, &[(77, took, &[1, 2])]));
        }
        // One that came later, or has gone, is not known.
        now.with.insert(78, process(1, 0, &[(78, 10_000_000, &[1])]));
        let usage = now.since(&before);
        let [participant] = &usage.with[..] else { panic!("one was there all along: {usage:?}") };
        assert!(participant.pid == 77 && close(participant.cpu.total(), 2.0), "{participant:?}");
        assert_eq!(usage.cores, [0, 1, 2]);
        assert!(usage.others.is_some_and(|others| close(others, 0.4)), "{usage:?}");
        assert!(usage.server.is_some_and(|server| close(server.total(), 0.6)));
    }

    #[test]
    fn cores_that_this_tool_uses_too_are_shared() {
        let (mut before, mut now) = readings([120, 10]);
        for reading in [&mut before, &mut now] {
            reading.own = Some(vec![process(0, 0, &[(2, 0, &[0, 1])])]);
            reading.softirqs.remove(&0);
        }
        let server = now.since(&before).server.expect("it is known");
        assert!(server.cores_shared && server.softirq.is_none(), "{server:?}");
    }

    #[test]
    fn this_process_can_be_watched() {
        let watch = Watch::new(Some(std::process::id())).with(&[parent_id()]).expect("both live");
        let before = watch.read(&[]);
        let usage = watch.read(&[]).since(&before);
        let server = usage.server.expect("our own");
        assert!(!server.cores.is_empty() && usage.others.is_some(), "{server:?}");
        assert_eq!(usage.with.len(), 1);
    }

    #[test]
    fn who_is_not_there_or_not_beside_cannot_take_part() {
        // More than the kernel gives out (proc(5), pid_max).
        for (pid, why) in [(u32::MAX, "no such process"), (std::process::id(), "the server itself")] {
            let refused =
                Watch::new(Some(std::process::id())).with(&[parent_id(), pid]).err().expect("refused");
            assert!(refused.contains(&format!("--with {pid}")) && refused.contains(why), "{refused}");
        }
    }
}
