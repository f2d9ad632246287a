//! Health, readiness and metrics.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::world::{PATIENCE, Plan, World, start};

#[test]
fn healthy_and_ready() {
    let world = start(Plan { shards: 3, ..Plan::default() });
    let health = world.get("/healthz");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
    assert_eq!(health.json()["driver"].as_str(), Some("none"));
    assert_eq!(health.json()["reason"].as_str(), Some("\"nothing\" to drive"));
    let info = r#"moongate_driver_info{driver="none",reason="\"nothing\" to drive"}"#;
    assert_eq!(figures(&world)[info], 1.0);
    let ready = world.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "{\"status\":\"ready\",\"shards\":3}\n"));
    assert_eq!(ready.field("cache-control"), Some("no-store"));
}

/// A shard that does not answer: the process is alive, not ready, and says so wherever it is asked.
#[test]
fn a_deaf_shard_is_named() {
    let mut plan = Plan { shards: 3, deaf: vec![1], lane_capacity: 1, ..Plan::default() };
    plan.config.limits.shard_timeout = Duration::from_millis(500);
    plan.config.limits.list_timeout = Duration::from_millis(500);
    let world = start(plan);
    assert_eq!(world.get("/healthz").status, 200);
    // Twice, because the second ask finds the first still unanswered.
    for _ in 0..2 {
        for target in ["/readyz", "/topics"] {
            let begun = Instant::now();
            let answer = world.get(target);
            assert!(begun.elapsed() >= Duration::from_millis(500), "{target}");
            assert_eq!((answer.status, answer.problem().as_str()), (503, "shards_silent"), "{target}");
            assert!(answer.json()["detail"].as_str().unwrap().ends_with(": 1."), "{answer:?}");
            assert!(answer.field("retry-after").is_some());
        }
        let figures = figures(&world);
        let up: Vec<f64> =
            (0..3).map(|shard| figures[&format!("moongate_shard_up{{shard=\"{shard}\"}}")]).collect();
        assert_eq!(up, [1.0, 0.0, 1.0]);
        assert!(figures.contains_key("moongate_messages_in_total{shard=\"2\"}"));
        assert!(!figures.contains_key("moongate_messages_in_total{shard=\"1\"}"));
    }
}

/// Answers that come when nobody waits for them any more are not taken for those to later questions.
#[test]
fn a_shard_that_stalled_is_heard_again() {
    let mut plan = Plan { shards: 2, ..Plan::default() };
    plan.config.limits.shard_timeout = Duration::from_millis(500);
    plan.config.limits.list_timeout = Duration::from_millis(500);
    plan.config.limits.publish_timeout = Duration::from_millis(500);
    let world = start(plan);
    for round in 1..=2_u64 {
        world.stalled.store(true, Ordering::Relaxed);
        // A shard may have been in the middle of a tick.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(world.post("/topics/a", "", b"x").problem(), "not_ordered");
        assert_eq!(world.get("/topics").problem(), "shards_silent");
        assert!(figures(&world).contains_key("moongate_control_queue_depth"));
        world.stalled.store(false, Ordering::Relaxed);
        // The message was ordered after all, and counts.
        let patience = Instant::now() + PATIENCE;
        let late = loop {
            let late = figures(&world).get("moongate_control_publishes_total{outcome=\"late\"}").copied();
            if late == Some(round as f64) || Instant::now() > patience {
                break late;
            }
        };
        assert_eq!(late, Some(round as f64));
        assert_eq!(world.post("/topics/a", "", b"x").json()["offset"], 2 * round);
        assert_eq!(world.get("/topics").json()[0]["offset"], 2 * round);
    }
}

#[test]
fn figures_of_all_shards_and_of_the_thread_itself() {
    let world = start(Plan { shards: 2, ..Plan::default() });
    for _ in 0..3 {
        assert_eq!(world.post("/topics/a", "", b"x").status, 200);
    }
    assert_eq!(world.post("/topics/a", "", b"\xff").status, 415);
    assert_eq!(world.get("/nowhere").status, 404);
    let figures = figures(&world);
    let check = |name: &str, expect: f64| assert_eq!(figures.get(name), Some(&expect), "{name}: {figures:?}");
    check(&format!("moongate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0);
    check("moongate_shards", 2.0);
    check("moongate_draining", 0.0);
    check("moongate_shard_up{shard=\"1\"}", 1.0);
    check("moongate_control_connections", 1.0);
    check("moongate_control_queue_depth", 0.0);
    check("moongate_control_publishes_total{outcome=\"ordered\"}", 3.0);
    check("moongate_control_publishes_total{outcome=\"not_text\"}", 1.0);
    check("moongate_control_refusals_total{reason=\"not_text\"}", 1.0);
    check("moongate_control_refusals_total{reason=\"not_found\"}", 1.0);
    let ordered = |shard| figures[&format!("moongate_messages_ordered_total{{shard=\"{shard}\"}}")];
    assert_eq!(ordered(0) + ordered(1), 3.0);
    assert!(figures["moongate_uptime_seconds"] > 0.0);
}

/// Reads `/metrics` as a scraper would: every sample once, under the one head of its metric.
fn figures(world: &World) -> HashMap<String, f64> {
    let answer = world.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut figures = HashMap::new();
    let mut seen = HashSet::new();
    let mut metric = "";
    for line in answer.body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            metric = help.split_once(' ').unwrap().0;
            assert!(seen.insert(metric), "{metric} comes twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(name == metric && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let rest = sample.strip_prefix(metric).unwrap_or_else(|| panic!("{line} under {metric}"));
            assert!(rest.is_empty() || rest.starts_with('{') || rest.starts_with('_'), "{line}");
            assert!(
                figures.insert(sample.to_owned(), value.parse().unwrap()).is_none(),
                "{line} comes twice"
            );
        }
    }
    figures
}
