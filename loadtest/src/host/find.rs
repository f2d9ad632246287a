//! Which process is the server.

use std::fs;
use std::path::Path;

use super::procfs;

/// Which process listens on `port`: the owner of the socket that the kernel lists as listening there.
pub(crate) fn find(port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| procfs::listeners(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds_one_of(Path::new(&format!("/proc/{pid}/fd")), &inodes))
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
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        assert_eq!(find(port), Some(std::process::id()));
    }
}
