//! How many connections one process may hold, and into how many processes and loopback addresses a run is split.

use std::net::{IpAddr, Ipv4Addr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files a process needs besides its connections: the standard ones, pipes to others, three for each of its threads.
const FILES_SPARE: u64 = 128;

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

/// Into how many processes a run is split when each may open `files`, or the line to run before: `spread` connections go
/// to all of them alike, and `publishers` more to the first.
pub(crate) fn processes(spread: u32, publishers: u32, files: u64) -> Result<u32, String> {
    let (spread, own) = (u64::from(spread), u64::from(publishers) + FILES_SPARE);
    let needed = match files.saturating_sub(own) {
        0 if spread > 0 || files < own => u64::MAX,
        room => spread.div_ceil(room.max(1)).max(1),
    };
    match u32::try_from(needed) {
        Ok(needed) if needed <= PROCESSES_MAX => Ok(needed),
        _ => Err(format!(
            "{} connections need more open files than the {files} allowed, even in {PROCESSES_MAX} processes; run this \
             before, as root if it is refused:\n  ulimit -n {}",
            spread + u64::from(publishers),
            spread.div_ceil(PROCESSES_MAX.into()) + own
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
        assert_eq!(processes(1000, 0, 1128), Ok(1));
        assert_eq!(processes(1001, 0, 1128), Ok(2));
        assert_eq!(processes(1000, 1, 1128), Ok(2));
        assert_eq!(processes(500, 500, 1128), Ok(1));
        assert_eq!(processes(0, 1000, 1128), Ok(1));
        assert_eq!(processes(16_000, 0, 1128), Ok(16));
        assert_eq!(processes(100_000, 0, u64::MAX), Ok(1));
        for (spread, publishers, files) in
            [(16_001, 0, 1128), (1, 1000, 1128), (0, 1001, 1128), (1, 0, 128), (1, 0, 0)]
        {
            let error = processes(spread, publishers, files).expect_err("too many");
            let (_, needed) = error.rsplit_once("ulimit -n ").expect("the line to run");
            let needed = needed.parse().expect("a number");
            assert!(processes(spread, publishers, needed).is_ok(), "{error}");
            assert!(processes(spread, publishers, needed - 1).is_err(), "{error}");
        }
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
