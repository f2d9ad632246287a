//! What is offered of permessage-deflate, and what is agreed (RFC 7692 §5, §7.1).

use moongate_wire::decide::{Decision, Policy, decide};

use super::support::{lines, open_policy, with_head};

const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What is answered to lines of offers; none if all of them are declined.
fn answer(offers: &[&str], policy: &Policy) -> Option<(u8, &'static str)> {
    let mut head = vec![
        "GET /topics/news HTTP/1.1".to_owned(),
        "Host: example.org".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
    ];
    head.extend(offers.iter().map(|offer| format!("Sec-WebSocket-Extensions: {offer}")));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    match with_head(&lines(&head), |head| decide(head, policy)).expect("a right head") {
        Decision::WebSocket(upgrade) => {
            upgrade.agreed.deflate.map(|agreed| (agreed.window_bits, agreed.answer()))
        }
        other => panic!("{offers:?}: {other:?}"),
    }
}

fn check(id: &str, offer: &str, expect: Option<(u8, &str)>) {
    let expect = expect.map(|(bits, more)| (bits, format!("{BOTH}{more}")));
    let found = answer(&[offer], &open_policy());
    let found = found.map(|(bits, answer)| (bits, answer.to_owned()));
    assert_eq!(found, expect, "{id}: {offer}");
}

#[test]
fn offers_that_are_taken() {
    check("G4 alone", "permessage-deflate", Some((15, "")));
    check(
        "G4 both flags",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        Some((15, "")),
    );
    check("G3 a browser's", "permessage-deflate; client_max_window_bits", Some((15, "")));
    check("G3 a hint", "permessage-deflate; client_max_window_bits=8", Some((15, "")));
    check("G3 a hint", "permessage-deflate; client_max_window_bits=\"15\"", Some((15, "")));
    for bits in 9..=15 {
        let answer = format!("; server_max_window_bits={bits}");
        for value in [format!("{bits}"), format!("\"{bits}\""), format!("\"\\{bits}\"")] {
            let offer = format!("permessage-deflate; server_max_window_bits={value}");
            check("G2", &offer, Some((bits, &answer)));
        }
    }
    check(
        "G2 all of it, with blanks",
        "permessage-deflate ; server_no_context_takeover;client_max_window_bits= 10 ;server_max_window_bits =12",
        Some((12, "; server_max_window_bits=12")),
    );
}

#[test]
fn offers_that_are_declined() {
    for parameter in [
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=010",
        "server_max_window_bits=1",
        "server_max_window_bits=100",
        "server_max_window_bits=150000000000000",
        "server_max_window_bits=\"150000000000000\"",
        "server_max_window_bits=x",
        "server_max_window_bits=+9",
        "server_max_window_bits=-9",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=08",
        "client_max_window_bits=\"08\"",
        "server_no_context_takeover=1",
        "server_no_context_takeover=\"true\"",
        "client_no_context_takeover=15",
        "mystery",
        "Server_no_context_takeover",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=10",
    ] {
        let offer = format!("permessage-deflate; {parameter}");
        check("G1", &offer, None);
        check("G1 the next one counts", &format!("{offer}, permessage-deflate"), Some((15, "")));
    }
    // RFC 7692 allows it, and no zlib can keep it.
    check("G2 8 bits", "permessage-deflate; server_max_window_bits=8", None);
    check("B24 another extension", "permessage-bzip2, x-webkit-deflate-frame", None);
    check("B24 another spelling", "PerMessage-Deflate", None);
}

#[test]
fn the_first_offer_that_can_be_taken() {
    check(
        "G1 in one line",
        "x; y=1, permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10, \
         permessage-deflate",
        Some((10, "; server_max_window_bits=10")),
    );
    let found = answer(
        &["permessage-deflate; mystery", "permessage-deflate; server_max_window_bits=11"],
        &open_policy(),
    );
    assert_eq!(found.map(|(bits, _)| bits), Some(11), "G1 over two lines");
}

#[test]
fn nothing_is_agreed_that_was_not_offered_or_is_off() {
    assert_eq!(answer(&[], &open_policy()), None, "C4");
    let off = Policy { deflate: false, ..open_policy() };
    assert_eq!(answer(&["permessage-deflate"], &off), None, "off");
}
