//! Servers side by side.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::server::{Mischief, start};
use crate::{Said, TOOL};

/// Compares two servers by a plan that ends with `measures`.
fn compare(first: SocketAddr, second: SocketAddr, second_options: &str, measures: &str) -> Said {
    let plan = format!(
        r#"
        rounds = 2
        reference = "second"
        [[variant]]
        name = "first"
        address = "{first}"
        options = "--patience 20"
        [[variant]]
        name = "second"
        address = "{second}"
        version = "2.0"
        {second_options}
        {measures}"#
    );
    let mut tool = Command::new(TOOL)
        .args(["compare", "-", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool runs");
    tool.stdin.take().expect("a pipe").write_all(plan.as_bytes()).expect("it reads the plan");
    Said::new(tool.wait_with_output().expect("it ends"))
}

const MEASURES: &str = r#"
        [[measure]]
        name = "fan-out"
        run = "fanout --subscribers 3 --count 40"
        figures = ["/sent", "cpu", "p99"]
        options.second = "--window 9"
        bar = { variant = "first", at-most = 1.0 }
        [[measure]]
        name = "echo"
        run = "echo --connections 2 --count 40"
        variants = ["first"]
        reference = "first"
        figures = ["/sent"]
    "#;

/// The document among what it printed: the tables come first.
fn document(said: &Said) -> Value {
    let begin = said.out.find("\n{").expect("a document");
    serde_json::from_str(&said.out[begin..]).expect("JSON")
}

#[test]
fn servers_are_measured_in_turn() {
    let said = compare(start(Mischief::Nothing), start(Mischief::Nothing), "", MEASURES);
    let said = said.expect(
        0,
        &[
            "fan-out: 2 rounds, ratios to second",
            "latency, 99 %, µs",
            "first at most 1.00 × second: 1.000, reached\n",
        ],
    );
    // Each round goes through both, the uncounted one too.
    let slices: Vec<&str> =
        said.err.lines().filter_map(|line| line.split(": ").next()).map(str::trim).collect();
    assert_eq!(
        slices,
        [
            "fan-out",
            "warm-up  first",
            "warm-up  second",
            "round 1  first",
            "round 1  second",
            "round 2  first",
            "round 2  second",
            "echo",
            "warm-up  first",
            "round 1  first",
            "round 2  first",
        ]
    );
    let document = document(&said);
    let fanout = &document["measures"][0];
    assert_eq!(fanout["variants"][1]["server"]["version"], "2.0");
    let command = fanout["variants"][1]["command"].to_string();
    assert!(command.contains(r#""--window","9""#), "{command}");
    let sent = &fanout["figures"][0]["variants"][0];
    assert_eq!((&sent["value"]["median"], &sent["ratio"]["median"]), (&40.0.into(), &1.0.into()));
    // What CPU so few messages take can be too little to be counted; latency is not.
    assert!(fanout["variants"][0]["slices"][1]["values"][1].is_number(), "{fanout}");
    assert!(fanout["variants"][0]["slices"][1]["values"][2].as_f64() > Some(0.0), "{fanout}");
}

#[test]
fn a_slice_that_went_wrong_makes_the_comparison_wrong() {
    let losing = || start(Mischief::Double);
    compare(start(Mischief::Nothing), losing(), "", MEASURES).expect(1, &["slices were WRONG"]);
    compare(start(Mischief::Nothing), losing(), "may-lose = true", MEASURES)
        .expect(0, &["slices were WRONG"]);
}

#[test]
fn a_server_that_fails_leaves_the_others_measured() {
    let said = compare(start(Mischief::Nothing), start(Mischief::Refuse), "", MEASURES);
    let said = said.expect(2, &["second: FAILED: ", "503 Service Unavailable", "not measured, MISSED"]);
    let document = document(&said);
    let sent = &document["measures"][0]["figures"][0]["variants"];
    assert!(sent[0]["value"]["median"] == 40.0 && sent[1]["value"].is_null(), "{sent}");
}

#[test]
fn a_plan_that_does_not_hold_is_refused_before_anything_runs() {
    let nobody = "127.0.0.1:1".parse().expect("an address");
    let wrong = MEASURES.replace("/sent", "speed").replace("variants = [\"first\"]", "variants = [\"x\"]");
    compare(nobody, nobody, "", &wrong).expect(
        2,
        &["measure \"fan-out\": there is no figure \"speed\"", "measure \"echo\": there is no variant \"x\""],
    );
}
