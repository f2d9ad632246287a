use super::*;

const UNBROKEN: Promise = Promise { unbroken: true, settled: true };
const LOSSY: Promise = Promise { unbroken: false, settled: true };

/// Lets every one of `sessions` hear messages of one topic by number, and judges.
fn judge(promise: Promise, sessions: &[&[usize]]) -> Vec<String> {
    let mut oracle = Oracle::default();
    let payloads: Vec<_> =
        (0..5).map(|_| oracle.says("t", Kind::Text, b"hello", Time::from_nanos(10)).1).collect();
    for heard in sessions {
        // They joined too late to have to hear anything.
        let session = oracle.joins("t", Time::from_nanos(20));
        for id in *heard {
            oracle.hears(session, Kind::Text, &payloads[*id], None);
        }
    }
    oracle.judge(promise)
}

#[test]
fn one_order_for_all_is_right() {
    assert_eq!(judge(UNBROKEN, &[&[0, 1, 2, 3, 4], &[2, 3, 4], &[0, 1], &[]]), [""; 0]);
    assert_eq!(judge(LOSSY, &[&[0, 1, 2, 3, 4], &[0, 4], &[1, 3]]), [""; 0]);
}

#[test]
fn wrong_orders_gaps_and_repeats_are_found() {
    let cases: &[(Promise, &[&[usize]], &str)] = &[
        (UNBROKEN, &[&[0, 1, 2], &[0, 2]], "after message 0 session 1 heard 2"),
        (UNBROKEN, &[&[0, 1, 2], &[1, 0, 2]], "no order fits"),
        (LOSSY, &[&[0, 1, 2], &[2, 1]], "no order fits"),
        (LOSSY, &[&[0, 1], &[1, 2], &[2, 0]], "no order fits"),
        (LOSSY, &[&[0, 1, 0]], "heard message 0 twice"),
    ];
    for (promise, sessions, expect) in cases {
        let faults = judge(*promise, sessions);
        assert!(faults.iter().any(|fault| fault.contains(expect)), "{sessions:?}: {faults:?}");
    }
}

#[test]
fn what_was_said_after_the_101_must_be_heard() {
    let mut oracle = Oracle::default();
    let early = oracle.says("t", Kind::Text, b"", Time::from_nanos(1)).0;
    let stays = oracle.joins("t", Time::from_nanos(2));
    let leaves = oracle.joins("t", Time::from_nanos(2));
    let elsewhere = oracle.joins("u", Time::from_nanos(2));
    let (late, payload) = oracle.says("t", Kind::Text, b"", Time::from_nanos(3));
    oracle.leaves(leaves);
    assert!(oracle.judge(UNBROKEN).is_empty(), "nobody knows that they were ordered");
    oracle.must_be_ordered(early);
    oracle.must_be_ordered(late);
    let faults = oracle.judge(UNBROKEN);
    let expect = [format!("session {stays},"), format!("never heard message {late} ")];
    assert!(faults.len() == 1 && expect.iter().all(|part| faults[0].contains(part)), "{faults:?}");
    oracle.hears(stays, Kind::Text, &payload, None);
    assert!(oracle.judge(UNBROKEN).is_empty(), "{elsewhere} is another topic");
}

#[test]
fn places_must_agree() {
    let mut oracle = Oracle::default();
    let (one, first) = oracle.says("t", Kind::Text, b"a\r\nb\rc", Time::ZERO);
    let (two, second) = oracle.says("t", Kind::Binary, b"\r", Time::ZERO);
    let session = oracle.joins("t", Time::ZERO);
    oracle.hears(session, Kind::Text, b"0|a\nb\nc", Some((9, 1)));
    oracle.hears(session, Kind::Binary, &second, Some((9, 2)));
    oracle.placed(one, (9, 1));
    assert!(oracle.judge(UNBROKEN).is_empty());
    oracle.placed(two, (9, 1));
    let socket = oracle.joins("t", Time::ZERO);
    oracle.hears(socket, Kind::Binary, &first, None);
    let faults = oracle.judge(UNBROKEN);
    assert!(faults.iter().any(|fault| fault.contains("is at (9, 2) for one and at (9, 1)")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("heard message 0 as")), "{faults:?}");
    oracle.hears(socket, Kind::Text, b"77|", None);
    assert!(oracle.judge(LOSSY).iter().any(|fault| fault.contains("what nobody said")));
}
