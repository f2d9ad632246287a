//! How many connections one process may hold, and into how many processes and loopback addresses a run is split.

use std::net::{IpAddr, Ipv4Addr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files a process needs besides its connections: the standard ones, polls, timers, `/proc`.
const FILES_SPARE: u64 = 64;

/// How many processes a run is split into at most.
const PROCESSES_MAX: u32 = 16;

/// Connections per source address: well below the 28,232 ports that Linux gives out by default, because a port that was
/// bound stays taken for a minute after its connection. (With `IP_BIND_ADDRESS_NO_PORT` it could be used again towards
/// another server; nobody offers that option without `unsafe`, and there is one server here.)
const CONNECTIONS_PER_SOURCE: u32 = 10_000;

/// Raises the limit of open files as far as it goes without privileges, and says how far.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let Some(maximum) = limit.maximum else { return u64::MAX };
    // A refusal leaves the limit as it is, which is asked for next.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: Some(maximum) });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Into how many processes `connections` are split when each may open `files`, or the line to run before.
pub(crate) fn processes(connections: u32, files: u64) -> Result<u32, String> {
    let each = files.saturating_sub(FILES_SPARE);
    let needed = u64::from(connections).checked_div(each).map(|_| u64::from(connections).div_ceil(each));
    match needed.and_then(|needed| u32::try_from(needed).ok()) {
        Some(needed) if needed <= PROCESSES_MAX => Ok(needed.max(1)),
        _ => Err(format!(
            "{connections} connections need more open files than the {files} allowed, even in {PROCESSES_MAX} \
             processes; run this before, as root if it is refused:\n  ulimit -n {}",
            u64::from(connections.div_ceil(PROCESSES_MAX)) + FILES_SPARE
        )),
    }
}

/// The address that connection `index` of `connections` comes from; none leaves it to the kernel, which does where the
/// server is not on IPv4 loopback.
pub(crate) fn source(server: IpAddr, index: u32, connections: u32) -> Option<IpAddr> {
    let IpAddr::V4(server) = server else { return None };
    if !server.is_loopback() {
        return None;
    }
    // At least two, so that it is never untested.
    let sources = (connections / CONNECTIONS_PER_SOURCE + 2).min(250);
    Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + (index % sources) as u8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_split_by_the_limit_of_files() {
        assert_eq!(processes(1000, 1064), Ok(1));
        assert_eq!(processes(1001, 1064), Ok(2));
        assert_eq!(processes(0, 1064), Ok(1));
        assert_eq!(processes(16_000, 1064), Ok(16));
        assert_eq!(processes(100_000, u64::MAX), Ok(1));
        for (connections, files) in [(16_001, 1064), (1, 64), (1, 0)] {
            assert!(processes(connections, files).is_err_and(|error| error.contains("ulimit -n ")));
        }
        let error = processes(16_001, 1064).expect_err("too many");
        assert!(error.ends_with("ulimit -n 1065"), "{error}");
    }

    #[test]
    fn sources_share_the_ports() {
        let server = IpAddr::from([127, 0, 0, 1]);
        let mut used = std::collections::HashMap::<_, u32>::new();
        for index in 0..60_000 {
            *used.entry(source(server, index, 60_000)).or_default() += 1;
        }
        assert!(used.len() == 8 && used.values().all(|count| *count <= CONNECTIONS_PER_SOURCE));
        assert_eq!(source("::1".parse().expect("an address"), 0, 60_000), None);
        assert_eq!(source("10.1.2.3".parse().expect("an address"), 0, 60_000), None);
    }
}
