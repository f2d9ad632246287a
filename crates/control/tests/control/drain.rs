//! Signals, in a process of their own: the test binary runs itself with [`PLAN`] set.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::world::{PATIENCE, Plan, get, read, start};

/// Set for the process that is to be a gateway: its shards, the capacity of its lanes, and which shard is deaf.
const PLAN: &str = "MOONGATE_TEST_DRAIN";

/// The gateway's process. Does nothing when it is run as a test.
#[test]
fn gateway() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let numbers: Vec<usize> = plan.split(',').map(|number| number.parse().unwrap()).collect();
    let deaf = numbers[2..].to_vec();
    let mut plan = Plan { shards: numbers[0], lane_capacity: numbers[1], deaf, ..Plan::default() };
    // So long that a test sees whoever waits for it.
    plan.config.limits.close_timeout = 2 * PATIENCE;
    let world = start(plan);
    world.empty.store(false, Ordering::Relaxed);
    eprintln!("at {}", world.address);
    let empty = world.empty;
    std::thread::spawn(move || {
        // The parent lets go of our input when the last connection is to be gone.
        let _ = std::io::stdin().read_to_end(&mut vec![]);
        empty.store(true, Ordering::Relaxed);
    });
    let outcome = world.control.join().unwrap();
    if outcome.exit_code() == 0 {
        for shard in world.shards {
            shard.join().unwrap();
        }
        eprintln!("all shards have stopped");
    }
    std::process::exit(outcome.exit_code());
}

struct Gateway {
    process: Child,
    input: Option<ChildStdin>,
    log: BufReader<std::process::ChildStderr>,
    address: SocketAddr,
}

impl Gateway {
    fn start(plan: &str) -> Gateway {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "drain::gateway", "--nocapture"])
            .env(PLAN, plan)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("at ").and_then(|address| address.parse().ok());
        Gateway { process, input, log, address: address.unwrap_or_else(|| panic!("{line}")) }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    fn status(&self, target: &str) -> u16 {
        get(self.address, target).status
    }

    fn wait_for(&self, target: &str, status: u16) {
        let patience = Instant::now() + PATIENCE;
        while self.status(target) != status {
            assert!(Instant::now() < patience, "{target} never answers {status}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the process's end; returns its exit code and the rest of its log.
    fn end(mut self) -> (Option<i32>, String) {
        let patience = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < patience, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_signal_drains_and_then_stops_every_shard() {
    for (signal, plan) in [("TERM", "3,1"), ("INT", "1,64"), ("TERM", "2,64")] {
        let mut gateway = Gateway::start(plan);
        gateway.wait_for("/readyz", 200);
        gateway.signal(signal);
        gateway.wait_for("/readyz", 503);
        let reason = get(gateway.address, "/readyz").problem();
        assert_eq!(reason, "draining");
        // As long as connections are left, everything goes on.
        assert_eq!(gateway.status("/healthz"), 200);
        assert_eq!(gateway.status("/topics"), 200);
        assert!(get(gateway.address, "/metrics").body.contains("\nmoongate_draining 1\n"));
        assert_eq!(gateway.process.try_wait().unwrap(), None);
        gateway.input = None;
        let (code, log) = gateway.end();
        assert_eq!(
            (code, log.contains("all shards have stopped")),
            (Some(0), true),
            "{signal} {plan}: {log}"
        );
    }
}

#[test]
fn with_nobody_connected_it_ends_at_once() {
    let mut gateway = Gateway::start("2,64");
    gateway.wait_for("/readyz", 200);
    gateway.input = None;
    std::thread::sleep(Duration::from_millis(100));
    // Neither one that has sent nothing nor one that might send another request holds it up.
    let _silent = TcpStream::connect(gateway.address).unwrap();
    let mut idle = TcpStream::connect(gateway.address).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(read(&mut idle).status, 200);
    gateway.signal("TERM");
    // It would take longer than we wait, if it waited for them.
    assert_eq!(gateway.end().0, Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_whatever_shards_do() {
    // The last number is a deaf shard.
    for (first, second, code, plan) in
        [("TERM", "TERM", 143, "2,64"), ("TERM", "INT", 130, "1,1,0"), ("INT", "TERM", 143, "2,64,1")]
    {
        let gateway = Gateway::start(plan);
        gateway.wait_for("/healthz", 200);
        gateway.signal(first);
        gateway.wait_for("/readyz", 503);
        gateway.signal(second);
        assert_eq!(gateway.end().0, Some(code), "{first}, then {second}");
    }
}

#[test]
fn a_hangup_changes_nothing() {
    let mut gateway = Gateway::start("1,64");
    gateway.wait_for("/readyz", 200);
    for _ in 0..3 {
        gateway.signal("HUP");
        assert_eq!(gateway.status("/readyz"), 200);
    }
    gateway.signal("TERM");
    gateway.input = None;
    assert_eq!(gateway.end().0, Some(0));
}
