//! Who may use the control listener: `Host`, `Origin` and the token, over real connections.

use crate::world::{Plan, World, start};
use moongate_control::{Config, Control, ControlBell};
use moongate_hub::{HashKey, Mesh};
use moongate_wire::origin::Origin;

/// What a request is answered: its status, and the problem if it is one.
fn ask(world: &World, line: &str, fields: &str) -> (u16, Option<String>) {
    let answer = world.send(format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").as_bytes());
    let problem = (answer.status >= 400).then(|| answer.problem());
    (answer.status, problem)
}

fn open_config() -> Config {
    Config {
        token: None,
        origins: vec![Origin::parse(b"https://ops.example").unwrap()],
        hosts: vec!["gate.example".to_owned(), "gate2.example:8081".to_owned()],
        message_bytes_max: 1000,
        ..Plan::default().config
    }
}

#[test]
fn only_known_hosts_and_listed_origins() {
    let world = start(Plan { config: open_config(), ..Plan::default() });
    let check = |fields: &str, status, problem: Option<&str>| {
        for line in ["GET /topics", "GET /healthz", "GET /metrics", "GET /readyz"] {
            assert_eq!(ask(&world, line, fields), (status, problem.map(str::to_owned)), "{line}\n{fields}");
        }
    };
    check("Host: localhost\r\n", 200, None);
    check("Host: LOCALHOST:8081\r\n", 200, None);
    check("Host: 127.0.0.1:1\r\n", 200, None);
    check("Host: 127.9.8.7\r\n", 200, None);
    check("Host: [::1]:8081\r\n", 200, None);
    check("Host: gate.example:99\r\n", 200, None);
    check("Host: gate2.example:8081\r\n", 200, None);
    check("Host: localhost\r\nOrigin: https://ops.example\r\n", 200, None);
    check("Host: localhost\r\nOrigin: HTTPS://ops.example:443\r\n", 200, None);

    check("", 400, Some("no_host"));
    check("Host: localhost\r\nHost: localhost\r\n", 400, Some("many_hosts"));
    check("Host: a b\r\n", 400, Some("bad_host"));
    check("Host: user@localhost\r\n", 400, Some("bad_host"));
    check("Host: \r\n", 400, Some("bad_host"));
    check("Host: evil.example\r\n", 403, Some("host_refused"));
    check("Host: evil.example:8081\r\n", 403, Some("host_refused"));
    check("Host: gate2.example:8082\r\n", 403, Some("host_refused"));
    check("Host: localhost.evil.example\r\n", 403, Some("host_refused"));
    check("Host: 192.0.2.1\r\n", 403, Some("host_refused"));
    check("Host: evil.example\r\nOrigin: https://ops.example\r\n", 403, Some("host_refused"));

    check("Host: localhost\r\nOrigin: https://evil.example\r\n", 403, Some("origin_refused"));
    check("Host: localhost\r\nOrigin: http://ops.example\r\n", 403, Some("origin_refused"));
    check("Host: localhost\r\nOrigin: https://ops.example:8443\r\n", 403, Some("origin_refused"));
    check("Host: localhost\r\nOrigin: https://sub.ops.example\r\n", 403, Some("origin_refused"));
    check("Host: localhost\r\nOrigin: http://localhost\r\n", 403, Some("origin_refused"));
    check("Host: localhost\r\nOrigin: null\r\n", 403, Some("origin_refused"));
    let twice = "Host: localhost\r\nOrigin: https://ops.example\r\nOrigin: https://ops.example\r\n";
    check(twice, 403, Some("origin_refused"));
}

/// A full URL as the target wins over `Host` (docs/protocol.md A16).
#[test]
fn a_full_url_says_the_host() {
    let world = start(Plan { config: open_config(), ..Plan::default() });
    let check = |line: &str, fields: &str, expect| assert_eq!(ask(&world, line, fields).0, expect, "{line}");
    check("GET http://localhost/healthz", "Host: evil.example\r\n", 200);
    check("GET http://localhost/healthz", "", 200);
    check("GET http://evil.example/healthz", "Host: localhost\r\n", 403);
}

#[test]
fn a_page_that_is_refused_publishes_nothing() {
    let world = start(Plan { subscriptions: vec![(0, "news")], ..Plan::default() });
    for fields in
        ["Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://localhost:8081\r\n"]
    {
        assert_eq!(world.post("/topics/news", fields, b"rumour").problem(), "origin_refused");
    }
    let rebound = b"POST /topics/news HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(world.send(rebound).problem(), "host_refused");
    assert_eq!(world.post("/topics/news", "", b"truth").json()["offset"], 1);
}

#[test]
fn listed_pages_may_read_answers_and_ask_beforehand() {
    let token = Some("s3cret".to_owned());
    let world = start(Plan { config: Config { token, ..open_config() }, ..Plan::default() });
    let plain = "Host: localhost\r\nOrigin: https://ops.example\r\nConnection: close\r\n";
    let check = |line: &str, fields: &str, status, methods: Option<&str>| {
        let answer = world.send(format!("{line} HTTP/1.1\r\n{plain}{fields}\r\n").as_bytes());
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://ops.example"));
        assert_eq!(answer.field("vary"), Some("Origin"));
        assert_eq!(answer.field("access-control-allow-methods"), methods);
    };
    check("GET /topics", "Authorization: Bearer s3cret\r\n", 200, None);
    // So that a page can tell why.
    check("GET /topics", "", 401, None);
    check("OPTIONS /topics/news", "Access-Control-Request-Method: POST\r\n", 204, Some("GET, POST"));
    check("OPTIONS /topics/news", "", 401, None);
}

#[test]
fn the_token_is_needed_for_all_but_health() {
    let token = Some("s3cret".to_owned());
    let world = start(Plan { config: Config { token, ..open_config() }, ..Plan::default() });
    let check = |line: &str, authorization: &str, status, problem: Option<&str>| {
        let fields = format!("Host: localhost\r\n{authorization}");
        assert_eq!(
            ask(&world, line, &fields),
            (status, problem.map(str::to_owned)),
            "{line} {authorization}"
        );
    };
    for line in ["GET /healthz", "GET /readyz"] {
        check(line, "", 200, None);
        check(line, "Authorization: Bearer wrong\r\n", 200, None);
    }
    for line in ["GET /topics", "GET /metrics"] {
        check(line, "Authorization: Bearer s3cret\r\n", 200, None);
        check(line, "authorization: bearer  s3cret \r\n", 200, None);
    }
    for line in ["GET /topics", "GET /metrics", "POST /topics/news", "GET /nowhere", "GET /healthz/", "GET /"]
    {
        check(line, "", 401, Some("token_missing"));
        check(line, "Authorization: Bearer wrong\r\n", 401, Some("token_wrong"));
        check(line, "Authorization: Bearer s3cret0\r\n", 401, Some("token_wrong"));
        check(line, "Authorization: Bearer\r\n", 401, Some("token_wrong"));
        check(line, "Authorization: Basic s3cret\r\n", 401, Some("token_wrong"));
        check(line, "Authorization: s3cret\r\n", 401, Some("token_wrong"));
        let twice = "Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret\r\n";
        check(line, twice, 401, Some("token_wrong"));
    }
    let challenge = |fields: &str| {
        let answer =
            world.send(format!("GET /topics HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes());
        answer.field("www-authenticate").map(str::to_owned)
    };
    assert_eq!(challenge("").as_deref(), Some("Bearer realm=\"moongate\""));
    assert_eq!(
        challenge("Authorization: Bearer x\r\n").as_deref(),
        Some("Bearer realm=\"moongate\", error=\"invalid_token\"")
    );
}

#[test]
fn off_loopback_there_is_no_listener_without_a_token() {
    let start = |address: &str, token: Option<&str>| {
        let bell = ControlBell::new();
        let mesh = Mesh::new(vec![], std::sync::Arc::new(bell.clone()), 1, HashKey::new([0; 16]));
        let listener = std::net::TcpListener::bind(address).unwrap();
        let config = Config { token: token.map(str::to_owned), ..open_config() };
        Control::new(config, Some(listener), mesh.control, bell).map(drop).map_err(|error| error.to_string())
    };
    let refused = start("0.0.0.0:0", None).unwrap_err();
    assert!(refused.contains("MOONGATE_CONTROL_TOKEN"), "{refused}");
    assert_eq!(start("0.0.0.0:0", Some("s3cret")), Ok(()));
    assert_eq!(start("127.0.0.1:0", None), Ok(()));
}
