//! From an environment to settings, warnings and problems.

use moongate_wire::route::{Route, Service};

use super::*;

/// Loads an environment of text.
fn load_text(variables: &[(&str, &str)]) -> Loaded {
    load(variables.iter().map(|(name, text)| (OsString::from(name), OsString::from(text))))
}

/// Loads an environment that must be right.
fn settings(variables: &[(&str, &str)]) -> Settings {
    let loaded = load_text(variables);
    assert_eq!(loaded.problems, [], "{variables:?}");
    loaded.settings
}

/// The problems as text.
fn problems(variables: &[(&str, &str)]) -> Vec<String> {
    load_text(variables).problems.iter().map(Problem::to_string).collect()
}

/// A file with `content` that is gone when the test is over.
struct SecretFile(std::path::PathBuf);

impl SecretFile {
    fn new(name: &str, content: &[u8]) -> SecretFile {
        let path = std::env::temp_dir().join(format!("moongate-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("the temporary directory takes a file");
        SecretFile(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the temporary directory has a name in UTF-8")
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    let loaded = load_text(&[]);
    assert_eq!(loaded.settings, Settings::defaults());
    assert_eq!(loaded.problems, []);
    assert!(loaded.warnings.is_empty() && loaded.differing.is_empty());

    let defaults = loaded.settings;
    assert_eq!(defaults.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(defaults.control, Some("127.0.0.1:8081".parse().expect("an address")));
    assert_eq!(defaults.connections_max, 100_000);
    assert_eq!(defaults.head_bytes_max, 16 * 1024);
    assert_eq!(defaults.message_bytes_max, 64 * 1024);
    assert_eq!(defaults.outbox_bytes_max, 1024 * 1024);
    assert_eq!(defaults.send_unsent_bytes_max, 128 * 1024);
    assert_eq!(defaults.publish_window_bytes, 256 * 1024);
    assert_eq!(defaults.outbox_policy, OutboxPolicy::Cut);
    assert_eq!(defaults.head_timeout, Duration::from_secs(10));
    assert_eq!(defaults.ping_interval, Duration::from_secs(25));
    assert_eq!(defaults.pong_timeout, Duration::from_secs(20));
    assert_eq!(defaults.close_timeout, Duration::from_secs(5));
    assert_eq!(defaults.slow_reader_timeout, Duration::from_millis(200));
    assert_eq!(defaults.tcp_user_timeout, Duration::from_secs(30));
    assert_eq!(defaults.drain_delay, Duration::from_secs(5));
    assert_eq!(defaults.drain_timeout, Duration::from_secs(20));
    assert_eq!((defaults.shards, defaults.memory_bytes_max), (None, None));
    assert_eq!(
        (defaults.pin, defaults.health, defaults.insecure, defaults.listen_shared),
        (true, true, false, false)
    );
    assert_eq!(defaults.origins, Origins::Same);
}

#[test]
fn empty_is_unset() {
    for blank in ["", " ", "\t"] {
        let everything: Vec<(String, &str)> =
            table::all().flat_map(names_of).map(|name| (format!("{PREFIX}{name}"), blank)).collect();
        let everything: Vec<(&str, &str)> =
            everything.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        assert_eq!(settings(&everything), Settings::defaults());
    }
}

#[test]
fn each_kind_reads_its_values() {
    let listed = settings(&[("MOONGATE_LISTEN", "127.0.0.1:0, [::1]:9000")]).listen;
    assert_eq!(listed.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:0", "[::1]:9000"]);
    assert_eq!(settings(&[("MOONGATE_CONTROL", "off")]).control, None);
    assert_eq!(settings(&[("MOONGATE_HEAD_BYTES_MAX", "32KiB")]).head_bytes_max, 32_768);
    assert_eq!(settings(&[("MOONGATE_MEMORY_BYTES_MAX", "1GiB")]).memory_bytes_max, Some(1 << 30));
    assert_eq!(settings(&[("MOONGATE_MEMORY_BYTES_MAX", "auto")]).memory_bytes_max, None);
    assert_eq!(settings(&[("MOONGATE_CONNECTIONS_MAX", "15_000")]).connections_max, 15_000);
    assert_eq!(settings(&[("MOONGATE_RECV_BUFFERS", "256")]).recv_buffers, 256);
    assert_eq!(settings(&[("MOONGATE_SHARDS", "2")]).shards, Some(2));
    assert_eq!(settings(&[("MOONGATE_SHARDS", "AUTO")]).shards, None);
    assert_eq!(settings(&[("MOONGATE_PING_INTERVAL", "250ms")]).ping_interval, Duration::from_millis(250));
    assert_eq!(settings(&[("MOONGATE_DRAIN_DELAY", "0")]).drain_delay, Duration::ZERO);
    assert!(!settings(&[("MOONGATE_PIN", "off")]).pin);
    assert!(settings(&[("MOONGATE_ECHO", "0")]).routes().find("/echo").is_none());
    assert_eq!(
        settings(&[("MOONGATE_OUTBOX_POLICY", "drop-oldest")]).outbox_policy,
        OutboxPolicy::DropOldest
    );
    assert_eq!(settings(&[("MOONGATE_LOG_FORMAT", "JSON")]).log_format, LogFormat::Json);
    assert_eq!(
        settings(&[("MOONGATE_CONTROL_HOSTS", "A.example,b:81")]).control_hosts,
        ["a.example", "b:81"]
    );
    let origin = Origin::parse(b"https://a.example").expect("an origin");
    assert_eq!(settings(&[("MOONGATE_CONTROL_ORIGINS", "https://A.example")]).control_origins, [origin]);
    assert_eq!(settings(&[("MOONGATE_ORIGINS", "*")]).origins, Origins::Any);
    let listed = Origins::parse("https://a.example,http://b:3000").expect("two origins");
    assert_eq!(settings(&[("MOONGATE_ORIGINS", "https://a.example, http://b:3000")]).origins, listed);
    assert_ne!(settings(&[("MOONGATE_LOG", "warn,moongate_gate=debug")]).log, Settings::defaults().log);
}

#[test]
fn each_kind_says_what_it_saw_and_wants() {
    let check = |name: &str, text: &str, expect: &str| {
        assert_eq!(problems(&[(name, text)]), [expect], "{name}={text}")
    };
    check(
        "MOONGATE_LISTEN",
        "localhost:8080",
        "MOONGATE_LISTEN: saw \"localhost:8080\", wants 1 to 16 addresses with ports, such as 127.0.0.1:8080 or \
         0.0.0.0:8080,[::]:8080",
    );
    check(
        "MOONGATE_CONTROL",
        "8081",
        "MOONGATE_CONTROL: saw \"8081\", wants an address with a port, such as 127.0.0.1:8081 or [::1]:8081, or off",
    );
    check(
        "MOONGATE_HEAD_BYTES_MAX",
        "64",
        "MOONGATE_HEAD_BYTES_MAX: saw \"64\", wants a size from 1KiB to 1MiB, such as 65536, 64KiB or 1MiB",
    );
    check(
        "MOONGATE_HEAD_TIMEOUT",
        "10",
        "MOONGATE_HEAD_TIMEOUT: saw \"10\", wants a duration from 100ms to 10m, such as 1500ms, 30s or 5m",
    );
    check("MOONGATE_SHARDS", "0", "MOONGATE_SHARDS: saw \"0\", wants auto, or a number from 1 to 1024");
    check(
        "MOONGATE_RECV_BUFFERS",
        "1000",
        "MOONGATE_RECV_BUFFERS: saw \"1000\", wants a power of two from 8 to 32768",
    );
    check("MOONGATE_PIN", "yes", "MOONGATE_PIN: saw \"yes\", wants on or off");
    check("MOONGATE_ECHO", "yes", "MOONGATE_ECHO: saw \"yes\", wants auto, on or off");
    check(
        "MOONGATE_OUTBOX_POLICY",
        "kick",
        "MOONGATE_OUTBOX_POLICY: saw \"kick\", wants cut, drop-oldest or latest",
    );
    check("MOONGATE_ANONYMOUS", "all", "MOONGATE_ANONYMOUS: saw \"all\", wants auto, subscribe or publish");
    check(
        "MOONGATE_ORIGINS",
        "app.example",
        "MOONGATE_ORIGINS: saw \"app.example\", wants same, *, or origins, such as \
         https://app.example,http://localhost:3000",
    );
    check(
        "MOONGATE_LOG",
        "a=b=c",
        "MOONGATE_LOG: saw \"a=b=c\", wants off, error, warn, info, debug or trace, for all or by part, such as \
         info,moongate_gate=debug",
    );
}

#[test]
fn what_was_seen_is_safe_to_print() {
    let long = "x".repeat(500);
    for text in ["\u{1b}[31mred", "line\nline", long.as_str()] {
        let problem = problems(&[("MOONGATE_PIN", text)]).concat();
        assert!(problem.chars().count() < 160 && !problem.contains(char::is_control), "{problem:?}");
    }
}

#[test]
fn all_problems_are_reported_together() {
    let all = problems(&[
        ("MOONGATE_PIN", "maybe"),
        ("MOONGATE_SHARDS", "-1"),
        ("MOONGATE_CONTROL", "0.0.0.0:8081"),
        ("MOONGATE_HEAD_TIMEOUT", "soon"),
        ("MOONGATE_OUTBOX_BYTES_MAX", "2KiB"),
        ("MOONGATE_CONTROL_TOKEN_FILE", "/nowhere/at/all"),
    ]);
    let names = ["CONTROL_TOKEN_FILE", "HEAD_TIMEOUT", "SHARDS", "PIN", "OUTBOX_BYTES_MAX", "CONTROL"];
    assert_eq!(all.len(), names.len(), "{all:#?}");
    for (problem, name) in all.iter().zip(names) {
        assert!(problem.starts_with(&format!("{PREFIX}{name}: ")), "{problem}");
    }
}

#[test]
fn what_must_fit_together() {
    let check = |variables: &[(&str, &str)], expect: &str| {
        let found = problems(variables);
        if expect.is_empty() {
            assert_eq!(found, Vec::<String>::new(), "{variables:?}");
        } else {
            assert!(found.len() == 1 && found[0].contains(expect), "{variables:?}: {found:?}");
        }
    };
    let (message, outbox) = ("MOONGATE_MESSAGE_BYTES_MAX", "MOONGATE_OUTBOX_BYTES_MAX");
    check(&[(message, "1MiB")], "wants more than MOONGATE_MESSAGE_BYTES_MAX (1MiB)");
    check(&[(message, "64KiB"), (outbox, "65550")], "so that one message always fits");
    check(&[(message, "64KiB"), (outbox, "65551")], "");
    check(
        &[("MOONGATE_MEMORY_BYTES_MAX", "1MiB"), (message, "2MiB"), (outbox, "4MiB")],
        "wants at least MOONGATE_MESSAGE_BYTES_MAX (2MiB) for every shard",
    );
    let memory = ("MOONGATE_MEMORY_BYTES_MAX", "1MiB");
    check(&[memory, ("MOONGATE_SHARDS", "16")], "");
    check(
        &[memory, ("MOONGATE_SHARDS", "17")],
        "wants at least MOONGATE_MESSAGE_BYTES_MAX (64KiB) for every shard",
    );

    let anonymous = ("MOONGATE_ANONYMOUS", "publish");
    for public in ["0.0.0.0:8080", "127.0.0.1:8080,192.0.2.1:8080", "[::]:8080", "[::ffff:192.0.2.1]:8080"] {
        check(&[anonymous, ("MOONGATE_LISTEN", public)], "MOONGATE_INSECURE=1");
        check(&[anonymous, ("MOONGATE_LISTEN", public), ("MOONGATE_INSECURE", "1")], "");
        check(&[("MOONGATE_LISTEN", public)], "");
    }
    check(&[anonymous, ("MOONGATE_LISTEN", "127.0.0.2:8080,[::1]:8080,[::ffff:127.0.0.1]:8080")], "");

    check(&[("MOONGATE_CONTROL", "0.0.0.0:8081")], "wants MOONGATE_CONTROL_TOKEN or");
    check(&[("MOONGATE_CONTROL", "0.0.0.0:8081"), ("MOONGATE_CONTROL_TOKEN", "t")], "");
    check(&[("MOONGATE_CONTROL", "[::1]:8081")], "");

    let (routes, off) = ("MOONGATE_ROUTES", ("MOONGATE_SUBPROTOCOLS", "off"));
    check(&[off], "");
    check(&[(routes, "/a connect")], "");
    check(&[(routes, "/a connect"), off], "nobody could ever connect at \"/a connect\"");
    check(&[(routes, "/a connect subprotocols=moongate.v1; /b connect"), off], "at \"/b connect\"");
    check(&[(routes, "/a connect subprotocols=moongate.v1; /b/* topics"), off], "");
    check(&[(routes, "/a connect"), off, ("MOONGATE_WAMP_ALIAS", "on")], "wants subprotocols= with names of");

    check(&[("MOONGATE_CONTROL", "127.0.0.1:8080")], "127.0.0.1:8080 twice");
    check(&[("MOONGATE_LISTEN", "127.0.0.1:80,127.0.0.1:80")], "127.0.0.1:80 twice");
    check(&[("MOONGATE_LISTEN", "127.0.0.1:0,127.0.0.1:0"), ("MOONGATE_CONTROL", "127.0.0.1:0")], "");
}

#[test]
fn a_message_in_its_longest_form_should_fit() {
    let check = |message: &str, outbox: &str, expect: &[&str]| {
        let loaded =
            load_text(&[("MOONGATE_MESSAGE_BYTES_MAX", message), ("MOONGATE_OUTBOX_BYTES_MAX", outbox)]);
        let doubt = loaded.warnings.concat();
        assert_eq!(loaded.warnings.len(), usize::from(!expect.is_empty()), "{message} {outbox}: {doubt}");
        assert!(expect.iter().all(|words| doubt.contains(words)), "{message} {outbox}: {doubt}");
    };
    check("64KiB", "449KiB", &[]);
    let names = ["MOONGATE_OUTBOX_BYTES_MAX is 448KiB", "MOONGATE_MESSAGE_BYTES_MAX (64KiB)", "to 449KiB"];
    check("64KiB", "448KiB", &names);
    check("1MiB", "2MiB", &["raise the one to 7169KiB"]);
    // That is a problem already, and said as one.
    check("1MiB", "1MiB", &[]);
}

#[test]
fn loopback_decides_what_is_convenient() {
    let check = |listen: &str, expect: (bool, bool, Anonymous)| {
        let settings = settings(&[("MOONGATE_LISTEN", listen)]);
        let routes = settings.routes();
        let has_echo = routes.find("/echo").is_some();
        assert_eq!((has_echo, routes.has_page(), settings.anonymous()), expect, "{listen}");
    };
    check("127.0.0.1:8080", (true, true, Anonymous::Publish));
    check("127.1.2.3:8080,[::1]:8080", (true, true, Anonymous::Publish));
    check("0.0.0.0:8080", (false, false, Anonymous::Subscribe));
    check("127.0.0.1:8080,10.0.0.1:8080", (false, false, Anonymous::Subscribe));

    let wanted =
        settings(&[("MOONGATE_LISTEN", "0.0.0.0:1"), ("MOONGATE_ECHO", "on"), ("MOONGATE_PAGE", "on")]);
    assert!(wanted.routes().find("/echo").is_some() && wanted.routes().has_page());
    let refused = settings(&[("MOONGATE_ANONYMOUS", "subscribe"), ("MOONGATE_PAGE", "off")]);
    assert!(!refused.routes().has_page() && refused.anonymous() == Anonymous::Subscribe);
}

#[test]
fn routes_speak_what_the_settings_say_unless_they_say_it() {
    let check = |variables: &[(&str, &str)], expect: &[&str]| {
        let mut variables = variables.to_vec();
        variables.extend([("MOONGATE_HEALTH", "off")]);
        let settings = settings(&variables);
        assert_eq!(settings.routes().describe(), expect, "{variables:?}");
        settings
    };
    let quiet = [("MOONGATE_ECHO", "off"), ("MOONGATE_PAGE", "off")];
    let all = "subprotocols=moongate.v1,wamp.2.json";
    check(&quiet, &[&format!("/topics/*  topics {all}"), &format!("/connect   connect {all}")]);
    let off = ("MOONGATE_SUBPROTOCOLS", "off");
    check(
        &[quiet[0], quiet[1], off],
        &["/topics/*  topics subprotocols=off", "/connect   connect subprotocols=off"],
    );
    let table =
        ("MOONGATE_ROUTES", "/topics/* topics subprotocols=off; /connect connect subprotocols=wamp.2.json");
    let aliased = check(
        &[table, off, ("MOONGATE_WAMP_ALIAS", "on")],
        &["/topics/*  topics subprotocols=off", "/connect   connect subprotocols=wamp.2.json"],
    );
    // Both are there, if with options of their own.
    assert_eq!(aliased.routes_gone(), ["/echo echo", "/ page"]);
    let routes = aliased.routes();
    let Some((_, Route { service: Service::Connect(spoken), .. }, _)) = routes.find("/connect") else {
        panic!("no /connect in {routes:?}")
    };
    let names: Vec<&str> = spoken.list().iter().map(|enabled| enabled.name).collect();
    assert_eq!(names, ["wamp.2.json", "wamp"]);
}

#[test]
fn unknown_names_are_warnings_with_the_nearest_right_one() {
    let check = |name: &str, expect: &str| {
        let loaded = load_text(&[(name, "hunter2")]);
        assert_eq!(loaded.settings, Settings::defaults());
        assert_eq!(loaded.warnings, [format!("{name} is not a setting; the nearest is {expect}")]);
        assert_eq!(loaded.problems, []);
    };
    check("MOONGATE_LISTN", "MOONGATE_LISTEN");
    check("MOONGATE_MAX_CONNECTIONS", "MOONGATE_CONNECTIONS_MAX");
    check("MOONGATE_CONTROL_TOKEN_FIEL", "MOONGATE_CONTROL_TOKEN_FILE");
    check("MOONGATE_listen", "MOONGATE_LISTEN");
    check("MOONGATE_", "MOONGATE_PIN");
    assert!(load_text(&[("MOONGAT_LISTEN", "x"), ("PATH", "/bin"), ("MOONGATE", "x")]).warnings.is_empty());
}

#[test]
fn names_injected_by_kubernetes_are_ignored() {
    let loaded = load_text(&[
        ("MOONGATE_SERVICE_HOST", "10.0.0.1"),
        ("MOONGATE_SERVICE_PORT", "8080"),
        ("MOONGATE_SERVICE_PORT_HTTP", "8080"),
        ("MOONGATE_PORT", "tcp://10.0.0.1:8080"),
        ("MOONGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("MOONGATE_PORT_8080_TCP_PROTO", "tcp"),
        ("MOONGATE_PORT_8080_TCP_PORT", "8080"),
        ("MOONGATE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("MOONGATE_PORT_8080_UDP_ADDR", "10.0.0.1"),
    ]);
    assert!(loaded.warnings.is_empty() && loaded.problems.is_empty(), "{loaded:?}");
}

#[test]
fn no_setting_has_a_name_that_kubernetes_injects() {
    for name in table::all().flat_map(names_of) {
        assert!(!names::injected_by_kubernetes(&name), "{PREFIX}{name}");
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = table::all().flat_map(names_of).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_secret_comes_directly_or_from_a_file() {
    let check = |content: &str, expect: &str| {
        let file = SecretFile::new("right", content.as_bytes());
        let settings = settings(&[("MOONGATE_CONTROL_TOKEN_FILE", file.path())]);
        assert_eq!(settings.control_token.as_ref().map(Secret::reveal), Some(expect), "{content:?}");
    };
    check("s3cret", "s3cret");
    check("s3cret\n", "s3cret");
    check("s3cret\r\n", "s3cret");
    let direct = settings(&[("MOONGATE_CONTROL_TOKEN", "s3cret"), ("MOONGATE_CONTROL_TOKEN_FILE", "")]);
    assert_eq!(direct.control_token.as_ref().map(Secret::reveal), Some("s3cret"));
}

#[test]
fn a_secret_in_two_places_is_a_problem() {
    let file = SecretFile::new("both", b"s3cret\n");
    assert_eq!(
        problems(&[("MOONGATE_CONTROL_TOKEN", "s3cret"), ("MOONGATE_CONTROL_TOKEN_FILE", file.path())]),
        ["MOONGATE_CONTROL_TOKEN and MOONGATE_CONTROL_TOKEN_FILE are both set; wants only one of them"]
    );
}

#[test]
fn a_file_without_a_secret_is_a_problem() {
    let check = |content: &[u8], expect: &str| {
        let file = SecretFile::new("wrong", content);
        let found = problems(&[("MOONGATE_CONTROL_TOKEN_FILE", file.path())]);
        assert!(found.len() == 1 && found[0].contains(expect), "{found:?}");
    };
    check(b"", "it is empty");
    check(b"\n", "it is empty");
    check(&vec![b'x'; 70_000], "it is too large to be one");
    check(b"\xff\xfe", "wants a file with the secret");
    check(b"two words", "wants 1 to 4096 visible ASCII characters");
}

#[test]
fn secrets_are_never_shown() {
    const WRONG: &str = "hunter2 hunter2";
    let file = SecretFile::new("shown", WRONG.as_bytes());
    for variables in [
        vec![("MOONGATE_CONTROL_TOKEN", "hunter2")],
        vec![("MOONGATE_CONTROL_TOKEN", WRONG)],
        vec![("MOONGATE_CONTROL_TOKEN_FILE", file.path())],
        vec![("MOONGATE_CONTROL_TOKEN", "hunter2"), ("MOONGATE_CONTROL_TOKEN_FILE", file.path())],
        vec![("MOONGATE_CONTROL_TOKN", "hunter2")],
    ] {
        let shown = format!("{:?}", load_text(&variables));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn only_what_differs_is_said_to_differ() {
    let loaded = load_text(&[
        ("MOONGATE_SHARDS", "2"),
        ("MOONGATE_HEAD_BYTES_MAX", "16384"),
        ("MOONGATE_CONTROL_TOKEN", "hunter2"),
        ("MOONGATE_LISTEN", "127.0.0.1:0"),
        ("MOONGATE_PIN", "true"),
    ]);
    let differing: Vec<_> =
        loaded.differing.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(
        differing,
        [
            ("MOONGATE_LISTEN", "127.0.0.1:0"),
            ("MOONGATE_CONTROL_TOKEN", "(secret)"),
            ("MOONGATE_SHARDS", "2")
        ]
    );
}

#[test]
fn text_that_is_not_utf_8_is_a_problem() {
    use std::os::unix::ffi::OsStringExt as _;
    let broken = OsString::from_vec(b"o\xffn".to_vec());
    let loaded = load([(OsString::from("MOONGATE_PIN"), broken)]);
    let problems: Vec<_> = loaded.problems.iter().map(Problem::to_string).collect();
    assert_eq!(problems, ["MOONGATE_PIN: saw bytes that are not UTF-8, wants text"]);
}
