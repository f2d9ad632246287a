//! Every scenario, right and wrong, in every dialect.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::server::{Mischief, start, start_at, start_with};
use crate::{RIGHT, TOOL, load, load_wrong};

#[test]
fn all_is_well_in_every_scenario() {
    let server = start(Mischief::Nothing);
    for (line, found) in [
        ("fanout --subscribers 10 --count 200 --unbounded", "delivered  2200 of 2200 "),
        (
            "fanout --subscribers 10 --count 200 --deflate --filling json --size 4096",
            "delivered  2200 of 2200 ",
        ),
        (
            "fanout --subscribers 10 --count 100 --rate 500 --slow-share 0.3 --slow-rate 2000",
            "slow       p50 ",
        ),
        ("churn --subscribers 12 --count 200 --rate 400 --moves 40", "left and were replaced"),
        (
            "churn --subscribers 12 --count 200 --rate 400 --moves 40 --threads 3 --topics 2",
            "joining    p50 ",
        ),
        (
            "slow --subscribers 20 --share 0.1 --count 100 --rate 500",
            "found      0 messages missed by the slow",
        ),
        ("events --subscribers 10 --count 100", "delivered  1100 of 1100 "),
        ("events --subscribers 10 --count 100 --binary --window 8", "delivered  1100 of 1100 "),
        ("events --subscribers 10 --count 100 --volley 16", "delivered  1100 of 1100 "),
        ("fanout --subscribers 9 --count 100 --volley 300 --topics 3 --threads 2", "delivered  400 of 400 "),
        (
            "mixed --subscribers 20 --count 200 --rate 400 --echoes 7 --threads 2 --posters 3",
            "POST       p50 ",
        ),
        ("echo --connections 7 --rate 1000 --count 300 --threads 2", "delivered  300 of 300 "),
        ("tunnel --path /echo --connections 5 --count 100", "delivered  100 of 100 "),
        ("storm --count 300 --connections 10", "delivered  300 of 300 "),
        ("storm --count 300 --rate 2000 --leave abruptly --threads 2", "delivered  300 of 300 "),
        ("storm --count 50 --leave silently --deflate", "delivered  50 of 50 "),
        ("kill --connections 60 --rate 50 --before 0.3 --after 0.5 --topics 3", "found      60 came back"),
        (RESUME, "found      40 came back"),
        (
            "resume --connections 21 --topics 2 --threads 2 --streams 1 --before 0.3 --away 0.3 --after 0.3",
            "live again p50 ",
        ),
    ] {
        load(server, line).expect(0, &[RIGHT, found, "latency    p50 "]);
    }
}

/// Faults that each dialect must find, with the line that names them.
const FAULTS: [(Mischief, &str, &str); 5] = [
    (Mischief::Lose, "FAILED     1 lost, 0 doubled, 0 reordered, 0 corrupted", "lost: "),
    (Mischief::Double, "FAILED     0 lost, 1 doubled, 0 reordered, 0 corrupted", "doubled: "),
    (Mischief::Swap, "FAILED     0 lost, 0 doubled, 1 reordered, 0 corrupted", "reordered: "),
    (Mischief::Corrupt, "FAILED     1 lost, 0 doubled, 0 reordered, 1 corrupted", "corrupted: "),
    (Mischief::OtherKind, "FAILED     1 lost, 0 doubled, 0 reordered, 1 corrupted", "corrupted: "),
];

#[test]
fn what_is_wrong_with_events_is_found() {
    for (mischief, failed, named) in FAULTS {
        // In chunks everything is read by the same code, once it is joined.
        for chunked in [false, true].into_iter().take(if mischief == Mischief::Swap { 2 } else { 1 }) {
            let server = start_with(20, mischief, chunked);
            load_wrong(server, "events --subscribers 4 --count 40 --window 64").expect(1, &[failed, named]);
        }
    }
}

#[test]
fn what_is_wrong_with_compressed_messages_is_found() {
    for (mischief, failed, named) in FAULTS {
        let line = "fanout --subscribers 4 --count 40 --window 64 --deflate --filling json --size 600";
        load_wrong(start(mischief), line).expect(1, &[failed, named]);
    }
}

#[test]
fn what_is_wrong_is_found_while_others_come_go_or_dawdle() {
    for (mischief, failed, named) in FAULTS {
        for line in [
            "fanout --subscribers 4 --count 200 --unbounded",
            "slow --subscribers 4 --share 0.25 --slow-rate 1000 --rate 400 --count 100",
            "mixed --subscribers 6 --movers 0 --streams 3 --posters 1 --rate 200 --count 60 --echoes 1 --text \
             --echo-path /topics/own",
            // Whoever is hit stays for long enough to notice.
            "churn --subscribers 4 --movers 2 --moves 1 --rate 400 --count 480",
        ] {
            // Losses are no faults for the slow scenario.
            if line.starts_with("slow") && failed.contains("1 lost") {
                continue;
            }
            load_wrong(start(mischief), line).expect(1, &[failed, named]);
        }
    }
}

#[test]
fn what_a_newcomer_does_not_hear_is_lost() {
    let server = start_at(8, Mischief::JoinLate);
    load_wrong(server, "churn --subscribers 6 --movers 3 --moves 10 --rate 400 --count 200")
        .expect(1, &["lost: ", "messages at receiver "]);
}

/// A return that takes a second and a half, in which everybody misses some messages and hears others as they are said.
const RESUME: &str = "resume --connections 40 --topics 4 --bystanders 5 --bystander-rate 50 --rate 8 --missed 10 \
                      --before 0.5 --away 0.5 --after 0.5 --at-a-time 8";

#[test]
fn what_is_wrong_with_a_return_is_found() {
    for (mischief, failed, named) in [
        (Mischief::SkipMissed, "FAILED     40 lost, 0 doubled, 0 reordered", "first message "),
        (Mischief::RepeatHeard, "FAILED     0 lost, 40 doubled, 0 reordered", "came again at receiver "),
        (
            Mischief::TellOfNoGap,
            "FAILED     40 lost, 0 doubled, 0 reordered",
            "came back and was told that it has missed something",
        ),
    ] {
        for chunked in [false, true] {
            load_wrong(start_with(u64::MAX, mischief, chunked), RESUME).expect(1, &[failed, named]);
        }
    }
}

#[test]
fn a_server_that_starts_again_must_say_that_it_knows_no_place() {
    let run = |mischief| {
        let server = start_with(u64::MAX, mischief, false);
        // A file, for a command without spaces.
        let script =
            std::env::temp_dir().join(format!("moongate-load-test-{}-{mischief:?}.sh", std::process::id()));
        let (ip, port) = (server.ip(), server.port());
        let ask =
            format!("exec 3<>/dev/tcp/{ip}/{port}; printf 'GET /restart HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3");
        std::fs::write(&script, ask + "\n").expect("a file");
        let said = load(server, &format!("{RESUME} --restart bash<{}", script.display()));
        std::fs::remove_file(&script).expect("it is there");
        said
    };
    run(Mischief::Nothing).expect(0, &[RIGHT, "found      40 were cut off", "found      40 came back"]);
    run(Mischief::TellOfNothing)
        .expect(1, &["FAILED     40 lost, 0 doubled", "was not told that nobody knows its place"]);
    let server = start(Mischief::Nothing);
    load(server, &format!("{RESUME} --restart false"))
        .expect(2, &["--restart: \"false\" ended with exit status: 1"]);
    load(server, &format!("{RESUME} --restart true --threads 2")).expect(2, &["--restart needs one thread"]);
}

#[test]
fn who_is_cut_is_counted_where_that_is_allowed() {
    let line = "fanout --subscribers 4 --count 50 --rate 200 --losses-allowed";
    load_wrong(start(Mischief::Cut), line).expect(
        0,
        &[
            RIGHT,
            "found      1 other subscribers were cut",
            "found      31 messages missed by others",
            "connections ended: the server said Close 1013 \"too slow\"",
        ],
    );
    load_wrong(start(Mischief::Stop), line).expect(0, &["found      31 messages missed by others"]);
    load_wrong(start(Mischief::Cut), "fanout --subscribers 4 --count 50 --rate 200")
        .expect(1, &["1 connections closed"]);
    load_wrong(start(Mischief::Cut), "events --subscribers 4 --count 40 --rate 200")
        .expect(1, &["1 connections closed", "the server closed it"]);
    // What is doubled or corrupted is wrong all the same.
    load_wrong(start(Mischief::Double), line).expect(1, &["1 doubled"]);
    load_wrong(start(Mischief::Corrupt), line).expect(1, &["1 corrupted"]);
}

#[test]
fn words_of_the_servers_own_are_passed_over_only_where_that_is_allowed() {
    let server = start(Mischief::Chatter);
    load(server, "fanout --subscribers 4 --count 50 --lenient")
        .expect(0, &[RIGHT, "found      5 messages that are none of ours"]);
    load_wrong(server, "fanout --subscribers 4 --count 50").expect(1, &["5 corrupted"]);
    load_wrong(server, "storm --count 20").expect(1, &["heard what nobody said"]);
}

#[test]
fn a_handshake_that_fails_is_named() {
    load_wrong(start(Mischief::Refuse), "storm --count 20")
        .expect(1, &["refused: it answered \"HTTP/1.1 503 Service Unavailable\": no room here"]);
    load_wrong(start(Mischief::WrongKey), "storm --count 20").expect(1, &["101 with Sec-WebSocket-Accept"]);
    load_wrong(start(Mischief::Nothing), "events --path /echo-without-stream --subscribers 1 --count 1 ")
        .expect(0, &[RIGHT]);
    // 30 connections, 10 newcomers, and then there is never room again.
    load_wrong(start_at(41, Mischief::Fill), "kill --connections 30 --rate 20 --before 0.25 --after 0.25")
        .expect(1, &["lost: a place that is not free again: it answered \"HTTP/1.1 503"]);
    load_wrong(start_at(33, Mischief::Fill), "kill --connections 30 --rate 20 --before 0.5 --after 0.5")
        .expect(1, &["newcomers were refused"]);
}

#[test]
fn the_upstream_echoes() {
    let mut upstream =
        Command::new(TOOL).arg("upstream").stdout(Stdio::piped()).spawn().expect("the tool runs");
    let mut line = String::new();
    let out = upstream.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let address =
        line.trim_end().strip_prefix("listening ").expect("an address").parse().expect("an address");
    load(address, "tunnel --connections 20 --depth 4 --count 2000")
        .expect(0, &[RIGHT, "delivered  2000 of 2000 "]);
    load(address, "tunnel --connections 3 --count 30 --text --size 200000").expect(0, &[RIGHT]);
    load_wrong(address, "tunnel --connections 1 --count 1 --deflate")
        .expect(2, &["does not agree to compress"]);
    upstream.kill().expect("it still runs");
    upstream.wait().expect("it ends");
}
