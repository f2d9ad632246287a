//! What the kernel says about the server's process: its CPU time, memory and open files.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// CPU time in seconds.
#[derive(Copy, Clone, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    /// In the program.
    pub(crate) user: f64,
    /// In the kernel for it. What soft interrupts do is charged to whoever runs at the time, or to `ksoftirqd`.
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// A process's memory and files.
#[derive(Copy, Clone, Debug, Serialize)]
pub(crate) struct Footprint {
    /// Resident bytes.
    pub(crate) rss: u64,
    /// Resident bytes, shared pages counted in part.
    pub(crate) pss: u64,
    /// Open file descriptors.
    pub(crate) files: u64,
}

/// CPU time of process `pid` so far (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn cpu(pid: u32) -> Option<Cpu> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<Cpu> {
    // The name, in parentheses, may hold anything, spaces and parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / per_second);
    Some(Cpu { user: seconds()?, system: seconds()? })
}

/// Memory and files of process `pid` (proc_pid_smaps(5)); needs its user's rights.
pub(crate) fn footprint(pid: u32) -> Option<Footprint> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Footprint { rss: parse_kilobytes(&rollup, "Rss:")?, pss: parse_kilobytes(&rollup, "Pss:")?, files })
}

fn parse_kilobytes(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Which process listens on `port`: the owner of the socket that the kernel lists as listening there.
pub(crate) fn find(port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| parse_listeners(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds_one_of(Path::new(&format!("/proc/{pid}/fd")), &inodes))
}

/// The inodes of sockets that listen on `port`, from a table as in proc_net_tcp(5).
fn parse_listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTENING;
        fields.get(9).filter(|_| here)?.parse().ok()
    };
    table.lines().filter_map(inode).collect()
}

fn holds_one_of(fds: &Path, sockets: &[String]) -> bool {
    let Ok(fds) = fs::read_dir(fds) else { return false };
    let mut targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 75 13 14";
        let cpu = parse_stat(stat).expect("a stat line");
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!((cpu.user * per_second, cpu.system * per_second), (250.0, 75.0));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let footprint = footprint(std::process::id()).expect("our own");
        assert!(footprint.rss >= footprint.pss && footprint.pss > 0 && footprint.files >= 3);
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        assert_eq!(find(port), Some(std::process::id()));
    }

    #[test]
    fn only_listeners_on_the_port_count() {
        let line = |address: &str, state: &str, inode: u32| {
            let columns = "00000000:00000000 00:00000000 00000000 0 0";
            format!(
                "   0: {address} 00000000:0000 {state} {columns} {inode} 1 0000000000000000 100 0 0 10 0\n"
            )
        };
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n{}{}{}{}",
            line("0100007F:1F90", "0A", 11),
            line("0100007F:1F91", "0A", 12),
            line("0100007F:1F90", "01", 13),
            line("00000000000000000000000001000000:1F90", "0A", 14),
        );
        assert_eq!(parse_listeners(&table, 8080), [11, 14]);
    }
}
