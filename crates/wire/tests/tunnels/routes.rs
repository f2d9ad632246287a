//! The table of routes: what it understands, and how it says what it does not.

use moongate_wire::protocol::{SUBPROTOCOLS, Subprotocol, WAMP_ALIAS};
use moongate_wire::route::{Routes, Service};

use crate::support::routes;

#[test]
fn a_table_is_understood() {
    let check = |text: &str, expect: &[&str]| assert_eq!(routes(text).describe(), expect, "{text}");
    check("", &[]);
    check(" ;; \n ; # nothing here; /x page\n", &[]);
    check(
        "/topics/* topics; /connect connect;/echo echo\n/ page",
        &[
            "/topics/*  topics subprotocols=moongate.v1,wamp.2.json",
            "/connect   connect subprotocols=moongate.v1,wamp.2.json",
            "/echo      echo",
            "/          page",
        ],
    );
    check(
        "/chat/* topics subprotocols=moongate.v1; /wamp connect subprotocols=wamp.2.json\n\
         /plain/* topics subprotocols=OFF; /all/* topics subprotocols=wamp.2.json,moongate.v1",
        &[
            "/chat/*   topics subprotocols=moongate.v1",
            "/wamp     connect subprotocols=wamp.2.json",
            "/plain/*  topics subprotocols=off",
            "/all/*    topics subprotocols=wamp.2.json,moongate.v1",
        ],
    );
    check("/alive health; /ready ready", &["/alive  health", "/ready  ready"]);
    const TIMES: &str = "connect_timeout=5s answer_timeout=1m idle_timeout=1h lifetime=none";
    check(
        "/a tunnel App.Internal:3000",
        &[&format!("/a  tunnel app.internal:3000 upgrade=websocket {TIMES}")],
    );
    check("/* tunnel [::1]:80", &[&format!("/*  tunnel [::1]:80 upgrade=websocket {TIMES}")]);
    check(
        "/rpc/* tunnel unix:/run/rpc.sock,10.0.0.1:81 upgrade=acme-rpc/2,websocket strip=/rpc/ prefix=/v2/ host=App:8 \
         http=pass connect_timeout=250ms answer_timeout=90s idle_timeout=120m lifetime=1440m # the whole lot",
        &[
            "/rpc/*  tunnel unix:/run/rpc.sock,10.0.0.1:81 upgrade=acme-rpc/2,websocket strip=/rpc prefix=/v2 host=App:8 \
           http=pass connect_timeout=250ms answer_timeout=90s idle_timeout=2h lifetime=24h",
        ],
    );
}

#[test]
fn what_is_described_reads_back() {
    let text = "/a/* tunnel a.example:1,unix:/x upgrade=x,y/2 strip=/a host=h http=pass; /b tunnel a:1 lifetime=90s; \
                /c tunnel a:1 lifetime=none; /topics/* topics; / page; /d/* topics subprotocols=off; \
                /e connect subprotocols=wamp.2.json";
    // What the settings leave open is in what is described, so it must be in what is compared.
    let table = routes(text).with_subprotocols(&SUBPROTOCOLS[..1], &[]);
    assert_eq!(routes(&table.describe().join("\n")), table);
}

/// What a route says of its subprotocols holds, and the setting holds for all others.
#[test]
fn subprotocols_are_the_routes_own() {
    let text = "/a/* topics; /b/* topics subprotocols=moongate.v1; /c/* topics subprotocols=off; /d connect; \
                /e connect subprotocols=wamp.2.json,moongate.v1";
    let check = |usual: &[Subprotocol], aliases: &[Subprotocol], expect: [&[&str]; 5]| {
        let table = routes(text).with_subprotocols(usual, aliases);
        let spoken = table.iter().map(|route| match &route.service {
            Service::Topics(spoken) | Service::Connect(spoken) => {
                spoken.list().iter().map(|enabled| enabled.name).collect::<Vec<_>>()
            }
            other => panic!("no WebSockets are spoken by {other:?}"),
        });
        assert_eq!(spoken.collect::<Vec<_>>(), expect, "{usual:?} {aliases:?}");
    };
    let (v1, wamp) = (&SUBPROTOCOLS[..1], &SUBPROTOCOLS[1..]);
    const V1: &[&str] = &["moongate.v1"];
    const WAMP: &[&str] = &["wamp.2.json"];
    const TURNED: &[&str] = &["wamp.2.json", "moongate.v1"];
    const TURNED_TOO: &[&str] = &["wamp.2.json", "moongate.v1", "wamp"];
    check(&[], &[], [&[], V1, &[], &[], TURNED]);
    check(v1, &[], [V1, V1, &[], V1, TURNED]);
    check(wamp, &[], [WAMP, V1, &[], WAMP, TURNED]);
    // The alias is taken where the protocol is.
    check(v1, &[WAMP_ALIAS], [V1, V1, &[], V1, TURNED_TOO]);
    check(wamp, &[WAMP_ALIAS], [&["wamp.2.json", "wamp"], V1, &[], &["wamp.2.json", "wamp"], TURNED_TOO]);
    // It is no option's value, and so is not shown as one.
    let table = routes("/a/* topics").with_subprotocols(wamp, &[WAMP_ALIAS]);
    assert_eq!(table.describe(), ["/a/*  topics subprotocols=wamp.2.json"]);
}

#[test]
fn names_are_resolved_once_each() {
    let table = routes("/a tunnel app:1,APP:1,app:2; /b tunnel 127.0.0.1:1,app:1,localhost:3");
    let names: Vec<String> = table.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["app:1", "app:2", "localhost:3"]);
}

#[test]
fn health_comes_first_unless_the_path_is_taken() {
    let words = |text: &str| {
        let lines = routes(text).with_health().describe();
        lines
            .iter()
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(words("/* page"), ["/healthz health", "/readyz ready", "/* page"]);
    assert_eq!(words("/readyz echo; /* page"), ["/healthz health", "/readyz echo", "/* page"]);
}

#[test]
fn the_first_match_decides() {
    let table = routes("/a/b page; /a/* topics; /a echo; /* tunnel x:1");
    let check = |path: &str, expect: (u16, &str)| {
        let found = table.find(path).map(|(index, _, rest)| (index, rest));
        assert_eq!(found, Some(expect), "{path}");
    };
    check("/a/b", (0, ""));
    check("/a/b/c", (1, "b/c"));
    check("/a/", (1, ""));
    check("/a", (2, ""));
    check("/ab", (3, "ab"));
    check("/", (3, ""));
    check("/%61", (3, "%61"));
    assert!(routes("/a echo").find("/a/").is_none() && routes("/a/* topics").find("/a").is_none());
}

/// Every error shows the spot.
#[test]
fn errors_point_at_the_spot() {
    let check = |text: &str, line: &str, carets: &str, message: &str| {
        let errors = Routes::parse(text).expect_err(text);
        let shown = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown.len(), 1, "{shown:?}");
        let mut parts = shown[0].splitn(3, '\n');
        let saw = parts.next().expect("a message");
        assert!(saw.contains(message), "{text}: {saw:?} does not say {message:?}");
        let spot = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        assert_eq!(spot, (&*format!("  {line}"), &*format!("  {carets}")), "{text}: {saw}");
    };
    let plain = |text: &str, carets: &str, message: &str| check(text, text, carets, message);
    plain("topics/* topics", "^^^^^^^^", "starts with a slash");
    plain("/a", "^^", "leads nowhere");
    plain("/a topic", "   ^^^^^", "not a service; wants topics, connect, echo");
    plain("/a/*b page", "   ^", "a star goes at the end");
    plain("/* page; /a echo", "         ^^", "never reached: /* comes before it");
    plain("/a echo; /a page", "         ^^", "never reached: /a comes");
    plain("/a?b page", "  ^", "without query");
    plain("/caf\u{e9} page", "    ^", "percent-encode");
    plain("/a topics", "^^", "ends in /*");
    plain("/a echo /b page", "        ^^", "parted by ;");
    plain("/a tunnel", "   ^^^^^^", "an upstream behind it");
    plain("/a tunnel app", "          ^^^", "has no port");
    plain("/a tunnel app:", "          ^^^^", "not a port");
    plain("/a tunnel app:0", "              ^", "from 1 to 65535");
    plain("/a tunnel app:+1", "              ^^", "from 1 to 65535");
    plain("/a tunnel 127.0.0.1:0", "          ^^^^^^^^^^^", "port 0");
    plain("/a tunnel 10.0.0.256:1", "          ^^^^^^^^^^^^", "not a host");
    plain("/a tunnel a_b.x..y:1", "          ^^^^^^^^^^", "not a host");
    plain("/a tunnel a:1,,b:1", "              ^", "has no port");
    plain("/a tunnel tls://app:1", "          ^^^^^^", "not yet supported");
    plain("/a tunnel wss://app:1", "          ^^^^^^", "not yet supported");
    plain("/a tunnel http://app:1", "          ^^^^^^^", "no scheme");
    plain("/a tunnel unix:app.sock", "          ^^^^^^^^^^^^^", "whole path");
    plain("/a tunnel a:1 b:1", "              ^^^", "not an option");
    plain("/a tunnel a:1 upgrad=x", "              ^^^^^^", "not an option; wants upgrade, strip");
    plain("/a tunnel a:1 host=a host=b", "                     ^^^^", "second time");
    plain("/a tunnel a:1 host=a/b", "                   ^^^", "not a host");
    plain("/a tunnel a:1 http=no", "                   ^^", "wants pass");
    plain("/a tunnel a:1 upgrade=", "                      ^", "not a protocol");
    plain("/a tunnel a:1 upgrade=a,b@c", "                        ^^^", "not a protocol");
    plain("/a tunnel a:1 prefix=x", "                     ^", "starts with a slash");
    plain("/a/* tunnel a:1 strip=/b", "                      ^^", "what the paths of /a/* start with");
    plain("/ab/* tunnel a:1 strip=/a", "                       ^^", "what the paths");
    plain("/a tunnel a:1 idle_timeout=5", "                           ^", "from 100ms to 168h");
    plain("/a tunnel a:1 idle_timeout=99h9", "                           ^^^^", "from 100ms");
    plain("/a tunnel a:1 lifetime=0", "                       ^", "from 100ms to 168h");
    plain("/a tunnel a:1 connect_timeout=1ms", "                              ^^^", "from 100ms");
    plain("/a/* topics moongate.v1", "            ^^^^^^^^^^^", "no option but subprotocols=");
    plain("/a connect /b page", "           ^^", "parted by ;");
    plain("/a/* topics upgrade=x", "            ^^^^^^^", "not an option of topics; wants subprotocols");
    plain("/a connect http=pass", "           ^^^^", "not an option of connect; wants subprotocols");
    plain("/a/* topics subprotocols=", "                         ^", "names of moongate.v1 or wamp.2.json");
    plain(
        "/a/* topics subprotocols=mqtt",
        "                         ^^^^",
        "names of moongate.v1 or wamp.2.json",
    );
    plain(
        "/a connect subprotocols=moongate.v1,V1",
        "                                    ^^",
        "not a subprotocol",
    );
    plain(
        "/a/* topics subprotocols=moongate.v1,",
        "                                     ^",
        "not a subprotocol",
    );
    plain(
        "/a/* topics subprotocols=Moongate.v1",
        "                         ^^^^^^^^^^^",
        "not a subprotocol",
    );
    plain("/a connect subprotocols=wamp", "                        ^^^^", "MOONGATE_WAMP_ALIAS");
    plain(
        "/a connect subprotocols=wamp.2.json,wamp.2.json",
        "                                    ^^^^^^^^^^^",
        "second time",
    );
    plain(
        "/a/* topics subprotocols=off subprotocols=off",
        "                             ^^^^^^^^^^^^",
        "second time",
    );
    plain(
        "/a/* topics subprotocols=moongate.v1,off",
        "                                     ^^^",
        "stands alone",
    );
    plain("/a connect subprotocols=off", "                        ^^^", "nobody could ever connect here");
    plain(
        "/a echo subprotocols=off",
        "        ^^^^^^^^^^^^",
        "not an option of echo; wants it on a route of topics",
    );
    plain("/ page subprotocols=moongate.v1", "       ^^^^^^^^^^^^", "not an option of page");
    plain("/a health subprotocols=off", "          ^^^^^^^^^^^^", "not an option of health");
    plain("/a ready subprotocols=off", "         ^^^^^^^^^^^^", "not an option of ready");
    plain("/a echo http=pass", "        ^^^^^^^^^", "echo has no options");
    plain("/a tunnel a:1 subprotocols=off", "              ^^^^^^^^^^^^", "not an option of tunnel");
    check("/x page\n\t/a topic # here\n/y page", " /a topic # here", "    ^^^^^", "not a service");
}

/// H18: nothing that would let requests follow unseen.
#[test]
fn some_protocols_are_never_tunnelled() {
    for never in ["h2c", "H2C", "TLS/1.0", "tls", "TLS/1.3", "h2", "h3", "HTTP/2.0"] {
        let errors = Routes::parse(&format!("/a tunnel a:1 upgrade=websocket,{never}")).expect_err(never);
        assert!(errors[0].to_string().contains("is never tunnelled"), "{errors:?}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let errors = Routes::parse("/a topic; /b echo\n/c\n/d tunnel x").expect_err("three mistakes");
    assert_eq!(errors.len(), 3, "{errors:?}");
}
