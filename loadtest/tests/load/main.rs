//! The tool against a server that does everything right, and against some that do one thing wrong.

mod compare;
mod report;
mod scenarios;
mod server;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use crate::server::{Mischief, start, start_at};

const TOOL: &str = env!("CARGO_BIN_EXE_moongate-load");

/// What the tool said, and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn new(output: Output) -> Said {
        Said {
            code: output.status.code().expect("it ends by itself"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn expect(self, code: i32, contents: &[&str]) -> Said {
        let all = format!("exit code {}\n{}{}", self.code, self.out, self.err);
        assert_eq!(self.code, code, "{all}");
        for content in contents {
            assert!(all.contains(content), "no {content:?} in: {all}");
        }
        self
    }
}

/// Runs the tool against a server from which all that is due must come in the end, however busy this machine is.
fn load(server: SocketAddr, line: &str) -> Said {
    load_with_patience("20", server, line)
}

/// Runs the tool against a server from which something may never come.
fn load_wrong(server: SocketAddr, line: &str) -> Said {
    load_with_patience("2", server, line)
}

fn load_with_patience(seconds: &str, server: SocketAddr, line: &str) -> Said {
    let (scenario, options) = line.split_once(' ').unwrap_or((line, ""));
    let mut tool = Command::new(TOOL);
    tool.arg(scenario).arg(server.to_string()).args(options.split_ascii_whitespace());
    Said::new(tool.args(["--patience", seconds]).output().expect("the tool runs"))
}

/// As [`load`], by a tool that may open only so many files.
fn load_with_files(files: u32, server: SocketAddr, line: &str) -> Said {
    let script = format!("ulimit -n {files} && exec {TOOL} {line} {server} --patience 5");
    Said::new(Command::new("sh").args(["-c", &script]).output().expect("a shell runs"))
}

const RIGHT: &str = "verified   nothing lost, doubled, reordered or corrupted";

#[test]
fn all_is_well_with_a_server_that_does_everything_right() {
    let server = start(Mischief::Nothing);
    for (line, sent, delivered) in [
        ("fanout --subscribers 10 --count 200", 200, 2200),
        ("fanout --subscribers 10 --count 200 --text --size 5000", 200, 2200),
        ("fanout --subscribers 11 --count 200 --threads 3 --window 8", 200, 2400),
        // Two topics hear publishers 0 and 2, or 1: 8 or 7 of them.
        ("fanout --subscribers 12 --topics 2 --publishers 3 --count 300 --window 20", 300, 2300),
        ("fanout --subscribers 10 --count 100 --rate 1000", 100, 1100),
        ("fanout --subscribers 0 --count 10", 10, 10),
        ("echo --connections 10 --count 1005", 1005, 1005),
        ("echo --connections 7 --depth 5 --threads 2 --text --size 300 --count 1000", 1000, 1000),
        ("idle --connections 50 --hold 0", 1, 50),
        ("idle --connections 50 --topic-each --threads 2 --hold 0.1", 50, 50),
    ] {
        let sent = format!("sent       {sent} messages");
        let delivered = format!("delivered  {delivered} of {delivered} ");
        load(server, line).expect(0, &[RIGHT, &sent, &delivered, "latency    p50 ", "server     "]);
    }
}

#[test]
fn a_run_ends_after_its_time() {
    let server = start(Mischief::Nothing);
    for line in ["fanout --subscribers 3 --duration 0.3", "echo --connections 3 --duration 0.3"] {
        let began = Instant::now();
        load(server, line).expect(0, &[RIGHT]);
        // Left to itself it would take five seconds.
        assert!((0.3..5.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    }
}

#[test]
fn whatever_a_server_does_wrong_is_found_and_named() {
    for (mischief, failed, named) in [
        (Mischief::Lose, "FAILED     1 lost, 0 doubled, 0 reordered, 0 corrupted", "           lost: "),
        (Mischief::Double, "FAILED     0 lost, 1 doubled, 0 reordered, 0 corrupted", "           doubled: "),
        (Mischief::Swap, "FAILED     0 lost, 0 doubled, 1 reordered, 0 corrupted", "           reordered: "),
        (
            Mischief::Corrupt,
            "FAILED     1 lost, 0 doubled, 0 reordered, 1 corrupted",
            "           corrupted: ",
        ),
        (Mischief::OtherKind, "FAILED     1 lost, 0 doubled, 0 reordered, 1 corrupted", "not Binary"),
    ] {
        let server = start(mischief);
        load_wrong(server, "fanout --subscribers 4 --count 50 --window 64").expect(1, &[failed, named]);
        load_wrong(server, "echo --connections 1 --depth 4 --count 50").expect(1, &[failed, named]);
    }
    load_wrong(start(Mischief::Stop), "fanout --subscribers 4 --count 50 --window 64")
        .expect(1, &["FAILED     31 lost, ", "first message 19 of publisher 0"]);
    let idle = "idle --connections 9 --hold 0";
    load_wrong(start_at(1, Mischief::Lose), idle).expect(1, &["FAILED     1 lost, ", "lost: connection "]);
    load_wrong(start_at(1, Mischief::Double), idle).expect(1, &["FAILED     0 lost, 1 doubled, "]);
}

#[test]
fn two_publishers_in_another_order_are_found_by_comparison() {
    let server = start(Mischief::Swap);
    load_wrong(server, "fanout --subscribers 4 --publishers 2 --count 30 --rate 50").expect(
        1,
        &["0 lost, 0 doubled, 1 reordered, 0 corrupted", "heard topic 0 in another order than 5 others"],
    );
}

#[test]
fn a_connection_that_the_server_ends_is_named() {
    let server = start(Mischief::Cut);
    load_wrong(server, "fanout --subscribers 4 --count 50")
        .expect(1, &["1 connections closed", "the server said Close 1013 \"too slow\""]);
}

#[test]
fn a_run_that_cannot_take_place_says_why() {
    let line = "echo --connections 3 --count 3";
    load_wrong(start(Mischief::Refuse), line).expect(2, &["503 Service Unavailable", "no room here"]);
    load_wrong(start(Mischief::WrongKey), line).expect(2, &["101 with Sec-WebSocket-Accept"]);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address")
    };
    load_wrong(nobody, line).expect(2, &["refused"]);
    let elsewhere = "192.0.2.1:80".parse().expect("an address");
    load_wrong(elsewhere, line).expect(2, &["not a loopback address", "--i-own-this-server"]);
    let nobody_beside = format!("{line} --with {}", u32::MAX);
    load_wrong(start(Mischief::Nothing), &nobody_beside).expect(2, &["there is no such process"]);
}

#[test]
fn too_many_connections_for_one_process_are_split() {
    let server = start(Mischief::Nothing);
    let split = "processes 3, ";
    load_with_files(178, server, "fanout --subscribers 120 --count 30 --window 2")
        .expect(0, &[RIGHT, split, "delivered  3630 of 3630 "]);
    load_with_files(178, server, "idle --connections 120 --topic-each --hold 0")
        .expect(0, &[RIGHT, split, "delivered  120 of 120 "]);
    load_with_files(130, server, "fanout --subscribers 120 --count 30").expect(2, &["\n  ulimit -n 137"]);

    let losing = start(Mischief::Lose);
    load_with_files(178, losing, "fanout --subscribers 120 --count 30 --window 2 --threads 2")
        .expect(1, &["1 lost, 0 doubled, 0 reordered, 0 corrupted"]);
}

#[test]
fn the_json_says_the_same() {
    let file = std::env::temp_dir().join(format!("moongate-load-test-{}.json", std::process::id()));
    let name = file.to_str().expect("a plain name");
    let read = || -> Value {
        let text = std::fs::read_to_string(&file).expect("the tool wrote it");
        serde_json::from_str(&text).expect("JSON")
    };
    // Whoever started this test takes no part, but is there all the while.
    let parent = std::os::unix::process::parent_id();
    let line = format!("idle --connections 100 --hold 0 --with {parent} --json {name}");
    load(start(Mischief::Nothing), &line)
        .expect(0, &["memory     7 connections: ", "per connection (slope)", "beside it  "]);
    let idle = read();
    assert_eq!(
        (&idle["right"], &idle["delivered"], &idle["connections"]),
        (&true.into(), &100.into(), &100.into())
    );
    assert!(idle["memory"][1]["pss"].as_u64() > Some(0), "{idle}");
    assert!(idle["bytes_per_connection"]["rss"].is_number(), "{idle}");
    assert_eq!(idle["cpu"]["with"][0]["pid"], parent);

    let line = format!("fanout --subscribers 3 --count 50 --window 9 --json {name}");
    load_wrong(start(Mischief::Lose), &line).expect(1, &[]);
    let fanout = read();
    assert_eq!((&fanout["right"], &fanout["faults"]["lost"]), (&false.into(), &1.into()));
    assert!(fanout["latency_seconds"]["p99"].as_f64() > Some(0.0), "{fanout}");
    std::fs::remove_file(&file).expect("it is there");
}
