//! What the machine gives: CPUs, open files, memory, randomness, time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use moongate_io::Time;

/// Words of a CPU set: room for 8,192 CPUs.
const CPU_WORDS: usize = 128;

/// How many random numbers are fetched from the kernel at a time.
const RANDOM_POOL: usize = 32;

/// The kernel's release, as uname(2) tells it.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

/// The CPUs the calling thread may run on, ascending; sched_getaffinity(2).
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = [0_u64; CPU_WORDS];
    // SAFETY: the set is writable and the call gets its true size in bytes.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), set.as_mut_ptr().cast()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..CPU_WORDS * 64).filter(|cpu| set[cpu / 64] & (1 << (cpu % 64)) != 0).collect())
}

/// Keeps the calling thread on `cpu`; sched_setaffinity(2).
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = [0_u64; CPU_WORDS];
    let word = set.get_mut(cpu / 64).ok_or(io::ErrorKind::InvalidInput)?;
    *word = 1 << (cpu % 64);
    // SAFETY: the set is readable and the call gets its true size in bytes.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), set.as_ptr().cast()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Raises the soft limit of open files to the hard one; says what it was, and what it is now.
///
/// The limit also bounds each ring's table of connections, though these are no open files.
pub fn raise_open_files() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is readable.
    if before < limit.rlim_max && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((before, limit.rlim_max))
}

/// Keeps this process's memory in small pages, threads and all.
///
/// The allocator reserves address space far ahead and asks for huge pages in it; the first byte of each then costs 2 MiB,
/// which is what a thousand idle connections do. See `PR_SET_THP_DISABLE` in prctl(2).
pub fn keep_pages_small() -> io::Result<()> {
    // SAFETY: this prctl takes no pointer.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many bytes of memory this process may use: the least of the machine's and of every limit that a cgroup it is
/// in sets (version 2 or 1).
pub fn memory_bytes() -> io::Result<u64> {
    let physical = total_memory(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemTotal"))?;
    // Without the file there are no cgroups, and so no limit by one.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(group_limit(&groups, Path::new("/sys/fs/cgroup")).map_or(physical, |limit| limit.min(physical)))
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// The least memory limit that applies to `groups`, the text of /proc/self/cgroup (cgroups(7)).
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        match controllers {
            "" => least_limit(root, path, "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                least_limit(&root.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The least number in the files called `name` from `root`/`path` up to `root`. A container may see its own group as
/// the root, with a path that is not there: what is not there sets no limit.
fn least_limit(root: &Path, path: &str, name: &str) -> Option<u64> {
    let leaf: PathBuf = root.join(path);
    let groups = leaf.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()).min()
}

/// A random key for hashes, from the kernel; getrandom(2).
pub fn random_key() -> [u8; 16] {
    let mut key = [0; 16];
    fill_random(&mut key);
    key
}

/// Random numbers, fetched from the kernel several at a time.
#[derive(Debug, Default)]
pub(crate) struct RandomPool {
    numbers: Vec<u64>,
}

impl RandomPool {
    pub(crate) fn next(&mut self) -> u64 {
        if self.numbers.is_empty() {
            let mut bytes = [0; RANDOM_POOL * 8];
            fill_random(&mut bytes);
            let (words, _) = bytes.as_chunks::<8>();
            self.numbers.extend(words.iter().map(|word| u64::from_ne_bytes(*word)));
        }
        self.numbers.pop().expect("the pool was filled")
    }
}

fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is writable and the call gets its true length.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                assert_eq!(error.kind(), io::ErrorKind::Interrupted, "getrandom: {error}");
            }
        }
    }
}

/// CLOCK_MONOTONIC, the same for all threads of the machine.
pub(crate) fn monotonic() -> Time {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0, "every Linux has CLOCK_MONOTONIC");
    Time::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_answers() {
        let cpus = allowed_cpus().unwrap();
        assert!(!cpus.is_empty() && cpus.is_sorted());
        assert!(memory_bytes().unwrap() > 1 << 20);
        assert_ne!(random_key(), random_key());
        let mut pool = RandomPool::default();
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| pool.next()).collect();
        assert_eq!(numbers.len(), 1000);
        let earlier = monotonic();
        assert!(monotonic() >= earlier);
    }

    #[test]
    fn a_thread_is_pinned_and_others_are_not() {
        let cpus = allowed_cpus().unwrap();
        let last = *cpus.last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin(last).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
        assert_eq!(allowed_cpus().unwrap(), cpus);
        assert!(pin(CPU_WORDS * 64).is_err());
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let (before, after) = raise_open_files().unwrap();
        assert!(before <= after);
        assert_eq!(raise_open_files().unwrap(), (after, after));
    }

    #[test]
    fn total_memory_is_in_kilobytes() {
        let check = |text, expect| assert_eq!(total_memory(text), expect, "{text:?}");
        check("MemTotal:        2048 kB\nMemFree: 1 kB\n", Some(2048 * 1024));
        check("MemFree: 1 kB\n", None);
        check("MemTotal: many kB\n", None);
    }

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = std::env::temp_dir().join(format!("moongate-cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "5000\n");
        write("a/b/memory.max", "max\n");
        write("a/c/memory.max", "4000\n");
        write("memory/x/memory.limit_in_bytes", "3000\n");
        let check = |groups, expect| assert_eq!(group_limit(groups, &root), expect, "{groups:?}");
        check("0::/a/b\n", Some(5000));
        check("0::/a/c\n", Some(4000));
        check("0::/elsewhere\n", None);
        check("0::/\n", None);
        check("3:cpu:/x\n2:memory,hugetlb:/x\n", Some(3000));
        check("2:memory:/x\n0::/a\n", Some(3000));
        check("", None);
        fs::remove_dir_all(&root).unwrap();
    }
}
