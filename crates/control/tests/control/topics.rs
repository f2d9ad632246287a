//! Publishing and listing, over real connections and through real hubs.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::world::{Plan, World, post, read, start};
use moongate_hub::Kind;
use serde_json::{Value, json};

#[test]
fn a_message_has_its_place_before_the_answer() {
    let world = start(Plan { subscriptions: vec![(0, "news"), (1, "news")], ..Plan::default() });
    wait_for_subscribers(&world, 2);
    let first = world.post("/topics/news", "", "grüße".as_bytes());
    assert_eq!((first.status, first.field("content-type")), (200, Some("application/json")));
    let first = first.json();
    let epoch = first["epoch"].as_str().unwrap();
    assert_eq!(first, json!({ "topic": "news", "epoch": epoch, "offset": 1 }));
    assert!(
        epoch.len() == 16 && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{epoch}"
    );
    let second = world.post("/topics/news", "Content-Type: application/octet-stream\r\n", b"\xff\0");
    assert_eq!(second.json(), json!({ "topic": "news", "epoch": epoch, "offset": 2 }));
    let third = world.post("/topics/news", "Content-Type: application/json\r\n", b"[1.50]\n");
    assert_eq!(third.json(), json!({ "topic": "news", "epoch": epoch, "offset": 3 }));
    // The home encodes a message once for all who hear it in one form.
    let expect = [
        (Kind::Text, "grüße".as_bytes().to_vec()),
        (Kind::Binary, b"\xff\0".to_vec()),
        (Kind::Json, b"[1.50]\n".to_vec()),
    ];
    let patience = Instant::now() + crate::world::PATIENCE;
    while world.heard.lock().unwrap().len() < 3 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(*world.heard.lock().unwrap(), expect);
}

#[test]
fn what_becomes_of_a_publish() {
    let world = start(Plan::default());
    let check = |target: &str, fields: &str, body: &[u8], status, expect: Result<&str, &str>| {
        let answer = world.post(target, fields, body);
        assert_eq!(answer.status, status, "{target} {fields}: {answer:?}");
        match expect {
            Ok(topic) => assert_eq!(answer.json()["topic"], topic),
            Err(problem) => assert_eq!(answer.problem(), problem, "{target}"),
        }
    };
    check("/topics/a", "", b"", 200, Ok("a"));
    check("/topics/a/b%20c", "", b"x", 200, Ok("a/b c"));
    check("/topics/caf%C3%A9?topic=other", "", b"x", 200, Ok("caf\u{e9}"));
    check("/topics/say%22what%22", "", b"x", 200, Ok("say\"what\""));
    check("/topics/a", "", &[b'x'; 1000], 200, Ok("a"));
    check("/topics/a", "", &[b'x'; 1001], 413, Err("body_too_large"));
    check("/topics/a", "", b"\xff", 415, Err("not_text"));
    check("/topics/a", "Content-Type: text/plain\r\n", b"a\xc0\x80", 415, Err("not_text"));
    check("/topics/a", "Content-Type: application/octet-streams\r\n", b"\xff", 415, Err("not_text"));
    check("/topics/a", "Content-Type: Application/Octet-Stream ; a=b\r\n", b"\xff", 200, Ok("a"));
    check("/topics/a", "Content-Type: application/json; charset=utf-8\r\n", b"{}", 200, Ok("a"));
    check("/topics/a", "Content-Type: APPLICATION/JSON\r\n", b"{", 400, Err("not_json"));
    check("/topics/a", "Content-Type: application/json\r\n", b"\"\xff\"", 400, Err("not_json"));
    check("/topics/a", "Content-Type: a/b\r\nContent-Type: application/json\r\n", b"{", 200, Ok("a"));
    check("/topics/", "", b"x", 400, Err("topic_empty"));
    check("/topics//a", "", b"x", 400, Err("topic_empty_segment"));
    check("/topics/a/", "", b"x", 400, Err("topic_trailing_slash"));
    check("/topics/a/../b", "", b"x", 400, Err("topic_dot_segment"));
    check("/topics/a%2Fb", "", b"x", 400, Err("topic_encoded_slash"));
    check("/topics/$sys", "", b"x", 400, Err("topic_reserved"));
    check("/topics/a*", "", b"x", 400, Err("topic_pattern"));
    check("/topics/%zz", "", b"x", 400, Err("topic_bad_escape"));
    check("/topics/%ff", "", b"x", 400, Err("topic_not_utf8"));
    check("/topics/%00", "", b"x", 400, Err("topic_control"));
    check(&format!("/topics/{}", "a".repeat(256)), "", b"x", 400, Err("topic_too_long"));
    check("/topics", "", b"x", 405, Err("method_not_allowed"));
    check("/healthz", "", b"x", 405, Err("method_not_allowed"));
    check("/echo", "", b"x", 404, Err("not_found"));
}

#[test]
fn bodies_in_chunks_are_bounded_too() {
    let world = start(Plan::default());
    let check = |chunks: &[usize], status| {
        let head = "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut request = head.as_bytes().to_vec();
        for length in chunks {
            request.extend_from_slice(format!("{length:x}\r\n{}\r\n", "x".repeat(*length)).as_bytes());
        }
        request.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(world.send(&request).status, status, "{chunks:?}");
    };
    check(&[], 200);
    check(&[1, 2, 3], 200);
    check(&[999, 1], 200);
    check(&[999, 2], 413);
    check(&[2000], 413);
}

#[test]
fn other_methods_are_told_which_would_do() {
    let world = start(Plan::default());
    let check = |line: &str, allow: &[&str]| {
        let answer =
            world.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").as_bytes());
        assert_eq!((answer.status, answer.problem().as_str()), (405, "method_not_allowed"), "{line}");
        let mut allowed: Vec<_> = answer.field("allow").unwrap().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{line}");
    };
    check("GET /topics/news", &["POST"]);
    check("PUT /topics/news", &["POST"]);
    check("DELETE /topics", &["GET", "HEAD"]);
    check("POST /metrics", &["GET", "HEAD"]);
}

#[test]
fn too_many_topics() {
    let world = start(Plan { shards: 1, topics_max: 1, ..Plan::default() });
    assert_eq!(world.post("/topics/one", "", b"x").status, 200);
    let refused = world.post("/topics/two", "", b"x");
    assert_eq!((refused.status, refused.problem().as_str()), (503, "topics_full"));
    assert!(refused.field("retry-after").is_some());
    assert_eq!(world.post("/topics/one", "", b"x").status, 200);
}

/// A shard that does not read its lanes: one message fits into the lane, one may wait, the next is refused at once;
/// the others in the end.
#[test]
fn a_shard_that_does_not_read_makes_publishers_give_up() {
    let mut plan = Plan { shards: 1, lane_capacity: 1, deaf: vec![0], ..Plan::default() };
    plan.config.limits.publishes_waiting_max = 1;
    plan.config.limits.publish_timeout = Duration::from_secs(2);
    let world = start(plan);
    let begun = Instant::now();
    let mut patient: Vec<_> = (0..2).map(|_| world.connect()).collect();
    for stream in &mut patient {
        stream.write_all(&post("/topics/news", "", b"x")).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let refused = world.post("/topics/news", "", b"x");
    assert_eq!((refused.status, refused.problem().as_str()), (503, "busy"));
    assert!(refused.field("retry-after").is_some());
    assert!(begun.elapsed() < Duration::from_secs(2), "refused at once");
    for mut stream in patient {
        let given_up = read(&mut stream);
        assert_eq!((given_up.status, given_up.problem().as_str()), (503, "not_ordered"));
        assert!(given_up.field("retry-after").is_some());
    }
    assert!(begun.elapsed() >= Duration::from_secs(2));
    // Nobody waits for those any more, so there is room again.
    assert_eq!(world.post("/topics/news", "", b"x").problem(), "not_ordered");
}

#[test]
fn bodies_on_their_way_are_bounded_together() {
    let mut plan = Plan::default();
    plan.config.limits.publish_bytes_max = 1000;
    plan.config.limits.body_timeout = Duration::from_secs(2);
    let world = start(plan);
    let mut slow = world.connect();
    let head =
        "POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    assert_eq!(read(&mut slow).status, 100, "the body is wanted, so there is room for it");
    assert_eq!(world.post("/topics/a", "", &[b'x'; 400]).status, 200);
    assert_eq!(world.post("/topics/a", "", &[b'x'; 401]).problem(), "busy");
    let late = read(&mut slow);
    assert_eq!((late.status, late.problem().as_str()), (408, "body_timeout"));
    assert_eq!(world.post("/topics/a", "", &[b'x'; 1000]).status, 200);
}

#[test]
fn lanes_of_one_entry_lose_nothing() {
    let world = start(Plan { shards: 3, lane_capacity: 1, ..Plan::default() });
    let mut streams: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&post(&format!("/topics/t{}", index % 4), "", b"x")).unwrap();
    }
    let mut offsets: Vec<(String, u64)> = streams
        .iter_mut()
        .map(|stream| {
            let place = read(stream).json();
            (place["topic"].as_str().unwrap().to_owned(), place["offset"].as_u64().unwrap())
        })
        .collect();
    offsets.sort();
    let expect: Vec<_> = (0..4).flat_map(|t| (1..=10).map(move |offset| (format!("t{t}"), offset))).collect();
    assert_eq!(offsets, expect);
}

#[test]
fn the_list_is_merged_from_all_shards() {
    let subscriptions = vec![(0, "b"), (1, "b"), (2, "b"), (2, "b"), (1, "caf\u{e9}/x"), (0, "a")];
    let world = start(Plan { shards: 3, subscriptions, ..Plan::default() });
    wait_for_subscribers(&world, 6);
    let epoch = |topic: &str| world.post(topic, "", b"x").json()["epoch"].clone();
    let (b, cafe, z) = (epoch("/topics/b"), epoch("/topics/caf%C3%A9/x"), epoch("/topics/z"));
    let whole = world.get("/topics");
    let list = whole.json();
    let a = &list[0]["epoch"];
    assert!(a.is_string());
    let expect = json!([
        { "topic": "a", "subscribers": 1, "epoch": a, "offset": 0 },
        { "topic": "b", "subscribers": 4, "epoch": b, "offset": 1 },
        { "topic": "caf\u{e9}/x", "subscribers": 1, "epoch": cafe, "offset": 1 },
        { "topic": "z", "subscribers": 0, "epoch": z, "offset": 1 },
    ]);
    assert_eq!((&list, whole.field("link")), (&expect, None));

    // Page by page it is the same.
    let mut pages = vec![];
    let mut target = "/topics?limit=1".to_owned();
    loop {
        let page = world.get(&target);
        pages.extend(page.json().as_array().unwrap().clone());
        let Some(link) = page.field("link") else { break };
        target =
            link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
        assert!(pages.len() < 10, "{target}");
    }
    assert_eq!(Value::from(pages), expect);
    assert_eq!(world.get("/topics?limit=0").problem(), "query_malformed");
}

#[test]
fn a_long_list_takes_several_asks() {
    let world = start(Plan { shards: 2, topics_max: 2000, ..Plan::default() });
    let mut stream = world.connect();
    for index in 0..1200 {
        let request =
            format!("POST /topics/t{index:04} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read(&mut stream).status, 200);
    }
    let names = |target: &str| -> Vec<String> {
        let list = world.get(target).json();
        list.as_array().unwrap().iter().map(|row| row["topic"].as_str().unwrap().to_owned()).collect()
    };
    let expect = |range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|index| format!("t{index:04}")).collect()
    };
    assert_eq!(names("/topics"), expect(0..1000));
    assert_eq!(names("/topics?after=t0999"), expect(1000..1200));
}

/// Shards subscribe when they start, which the list shows.
fn wait_for_subscribers(world: &World, count: u64) {
    let patience = Instant::now() + crate::world::PATIENCE;
    loop {
        let list = world.get("/topics").json();
        let rows = list.as_array().unwrap();
        let seen: u64 = rows.iter().map(|row| row["subscribers"].as_u64().unwrap()).sum();
        if seen == count && rows.iter().all(|row| row["epoch"].is_string()) {
            return;
        }
        assert!(Instant::now() < patience, "{list}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
