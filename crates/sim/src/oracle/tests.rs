use super::*;

/// Only what a test says decides what is kept.
const PLENTY: Keeps = Keeps {
    messages: u64::MAX,
    bytes: usize::MAX,
    ttl: Duration::from_secs(1000),
    replayed_bytes: usize::MAX,
    message_bytes: 100,
};

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
            oracle.hears(session, Shown::Frames, Kind::Text, &payloads[*id], None);
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
    oracle.hears(stays, Shown::Frames, Kind::Text, &payload, None);
    assert!(oracle.judge(UNBROKEN).is_empty(), "{elsewhere} is another topic");
}

#[test]
fn places_must_agree() {
    let mut oracle = Oracle::default();
    let (one, first) = oracle.says("t", Kind::Text, b"a\r\nb\rc", Time::ZERO);
    let (two, second) = oracle.says("t", Kind::Binary, b"\r", Time::ZERO);
    let session = oracle.joins("t", Time::ZERO);
    oracle.hears(session, Shown::Events, Kind::Text, b"0|a\nb\nc", Some((9, 1)));
    oracle.hears(session, Shown::Events, Kind::Binary, &second, Some((9, 2)));
    oracle.placed(one, (9, 1));
    assert!(oracle.judge(UNBROKEN).is_empty());
    oracle.placed(two, (9, 1));
    let socket = oracle.joins("t", Time::ZERO);
    oracle.hears(socket, Shown::Frames, Kind::Binary, &first, None);
    let faults = oracle.judge(UNBROKEN);
    assert!(faults.iter().any(|fault| fault.contains("is at (9, 2) for one and at (9, 1)")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("heard message 0 as")), "{faults:?}");
    oracle.hears(socket, Shown::Frames, Kind::Text, b"77|", None);
    assert!(oracle.judge(LOSSY).iter().any(|fault| fault.contains("what nobody said")));
}

/// A topic with three messages at offsets 1 to 3, of which the second is said by the person 7, who is left out of it.
fn left_out() -> (Oracle, Vec<Vec<u8>>) {
    let mut oracle = Oracle::default();
    let payloads = (0..3).map(|index| {
        let saying = Saying {
            topic: "t",
            kind: Kind::Text,
            before: b"",
            after: b"",
            by: (index == 1).then_some(7),
            excluded: index == 1,
        };
        oracle.say(saying, Time::from_nanos(20)).1
    });
    let payloads = payloads.collect();
    (oracle, payloads)
}

/// What is found when a person hears these of the three, told of no gaps.
fn judge_left_out(person: PersonId, again: bool, heard: &[usize]) -> Vec<String> {
    let (mut oracle, payloads) = left_out();
    let everybody = oracle.joins("t", Time::from_nanos(10));
    let joined = Time::from_nanos(if again { 30 } else { 10 });
    let session = oracle.joins_silently("t", person, again, joined);
    for (id, payload) in payloads.iter().enumerate() {
        let place = Some((9, id as u64 + 1));
        oracle.hears(everybody, Shown::Told, Kind::Text, payload, place);
        if heard.contains(&id) {
            oracle.hears(session, Shown::Told, Kind::Text, payload, place);
        }
    }
    let lacks = person == 7 && !again && heard.contains(&0) && heard.contains(&2);
    assert_eq!(oracle.talk().excluded, usize::from(lacks));
    oracle.judge(UNBROKEN)
}

#[test]
fn who_is_left_out_hears_all_else_and_everybody_else_hears_all() {
    assert_eq!(judge_left_out(7, false, &[0, 2]), [""; 0]);
    assert_eq!(judge_left_out(8, false, &[0, 1, 2]), [""; 0]);
    // What was said before it came back it is told again.
    assert_eq!(judge_left_out(7, true, &[0, 1, 2]), [""; 0]);
    for (person, heard, expect) in [
        (7, &[0, 1, 2][..], "which it said itself"),
        (8, &[0, 2], "did not say offset 2 itself"),
        (7, &[2], "never heard message 0"),
        (7, &[0], "never heard message 2"),
    ] {
        let faults = judge_left_out(person, false, heard);
        assert!(faults.iter().any(|fault| fault.contains(expect)), "{person} {heard:?}: {faults:?}");
    }
}

#[test]
fn what_one_person_says_keeps_its_order() {
    let mut oracle = Oracle::default();
    let saying =
        Saying { topic: "t", kind: Kind::Text, before: b"", after: b"", by: Some(1), excluded: false };
    let (one, _) = oracle.say(saying, Time::ZERO);
    let (two, _) = oracle.say(saying, Time::ZERO);
    oracle.placed(one, (9, 2));
    assert!(oracle.judge(LOSSY).is_empty());
    oracle.placed(two, (9, 1));
    assert!(oracle.judge(LOSSY)[0].contains("no order fits"));
}

#[test]
fn a_publication_is_one_message() {
    let mut oracle = Oracle::default();
    let (one, payload) = oracle.says("t", Kind::Text, b"", Time::ZERO);
    let (two, _) = oracle.says("t", Kind::Text, b"", Time::ZERO);
    oracle.published(one, 5);
    oracle.hears_called(&payload, 5);
    assert!(oracle.judge(LOSSY).is_empty());
    oracle.hears_called(&payload, 6);
    oracle.published(two, 5);
    assert_eq!(oracle.judge(LOSSY).len(), 2);
}

#[test]
fn who_comes_back_goes_on_or_is_told_what_is_missing() {
    let check = |gap: Option<(u64, u64)>, next: u64, right: bool| {
        let mut oracle = Oracle::default();
        let said: Vec<_> = (0..4).map(|_| oracle.says("t", Kind::Json, b"", Time::from_nanos(5)).1).collect();
        let session = oracle.joins("t", Time::ZERO);
        oracle.begins(session, (9, 0));
        oracle.hears(session, Shown::Told, Kind::Json, &said[0], Some((9, 1)));
        oracle.leaves(session);
        assert_eq!(oracle.comes_back("t", true), None, "who is told of no gaps does not go on with it");
        assert_eq!(oracle.comes_back("t", false), Some((session, (9, 1))));
        oracle.resumes(session);
        if let Some((from, to)) = gap {
            oracle.misses(session, (9, from, to), None, Time::from_nanos(7));
        }
        oracle.hears(session, Shown::Frames, Kind::Text, &said[next as usize - 1], Some((9, next)));
        let faults = oracle.judge(LOSSY);
        assert_eq!(faults.is_empty(), right, "{gap:?} {next}: {faults:?}");
    };
    check(None, 2, true);
    check(None, 3, false);
    check(Some((2, 2)), 3, true);
    check(Some((2, 3)), 4, true);
    check(Some((2, 3)), 3, false);
    check(Some((2, 2)), 4, false);
    check(Some((3, 3)), 4, false);
}

#[test]
fn who_comes_back_to_another_epoch_knows_that_those_between_are_gone() {
    let mut oracle = Oracle::default();
    let session = oracle.joins("t", Time::ZERO);
    oracle.begins(session, (7, 3));
    oracle.leaves(session);
    let (between, _) = oracle.says("t", Kind::Text, b"", Time::from_nanos(1));
    oracle.placed(between, (8, 1));
    let (gone, _) = oracle.says("t", Kind::Text, b"", Time::from_nanos(2));
    oracle.placed(gone, (9, 1));
    oracle.resumes(session);
    oracle.misses(session, (9, 1, 1), Some(7), Time::from_nanos(3));
    assert!(oracle.judge(UNBROKEN).is_empty());
    let (after, _) = oracle.says("t", Kind::Text, b"", Time::from_nanos(4));
    oracle.placed(after, (10, 1));
    assert!(oracle.judge(UNBROKEN)[0].contains("never heard message 2"));
}

#[test]
fn what_was_kept_is_not_missing() {
    let check = |keeps: u64, ttl: u64, silent: bool, right: bool| {
        let ttl = Duration::from_nanos(ttl);
        let mut oracle = Oracle::new(Some(Keeps { messages: keeps, ttl, ..PLENTY }));
        // At 10, 20, 30 and 40.
        let said: Vec<_> =
            (1..5).map(|at| oracle.says("t", Kind::Text, b"", Time::from_nanos(10 * at)).1).collect();
        for (id, _) in said.iter().enumerate() {
            oracle.placed(id, (9, id as u64 + 1));
        }
        let session = oracle.joins("t", Time::ZERO);
        let entry = &mut oracle.sessions[session];
        entry.silent = silent;
        oracle.hears(session, Shown::Told, Kind::Text, &said[0], Some((9, 1)));
        oracle.leaves(session);
        let back = Time::from_nanos(50);
        if silent {
            oracle.resumes_silently(session, 1, back);
        } else {
            oracle.resumes(session);
            oracle.misses(session, (9, 2, 3), None, back);
        }
        oracle.hears(session, Shown::Told, Kind::Text, &said[3], Some((9, 4)));
        let faults = oracle.judge(UNBROKEN);
        assert_eq!(faults.is_empty(), right, "{keeps} {ttl:?} {silent}: {faults:?}");
    };
    for silent in [false, true] {
        check(1, 100, silent, true);
        check(2, 100, silent, false);
        check(9, 20, silent, true);
        check(9, 21, silent, false);
    }
}

#[test]
fn who_is_told_what_is_dropped_lacks_nothing_else() {
    // Of messages with the offsets 1 to 3: what is heard, a gap, and whether places are shown.
    let check = |heard: &[usize], gap: Option<(u64, u64)>, shown: bool, settled: bool, right: bool| {
        let mut oracle = Oracle::default();
        let said: Vec<_> = (0..3).map(|_| oracle.says("t", Kind::Text, b"", Time::from_nanos(5)).1).collect();
        (1..4).for_each(|offset| oracle.placed(offset as usize - 1, (9, offset)));
        let session = oracle.joins("t", Time::ZERO);
        if shown {
            oracle.begins(session, (9, 0));
        }
        for offset in 1..4 {
            let place = shown.then_some((9, offset as u64));
            if heard.contains(&offset) {
                oracle.hears(session, Shown::Told, Kind::Text, &said[offset - 1], place);
            } else if let Some((from, to)) = gap.filter(|gap| gap.0 == offset as u64) {
                oracle.misses(session, (9, from, to), None, Time::from_nanos(7));
            }
        }
        let faults = oracle.judge(Promise { unbroken: false, settled });
        assert_eq!(faults.is_empty(), right, "{heard:?} {gap:?} {shown} {settled}: {faults:?}");
    };
    check(&[1, 2, 3], None, true, true, true);
    check(&[1], Some((2, 3)), true, true, true);
    check(&[1, 3], Some((2, 2)), true, true, true);
    check(&[1, 3], None, true, true, false);
    check(&[1], None, true, true, false);
    check(&[1], None, true, false, true);
    check(&[], None, true, true, false);
    // Who is not told hears the newest.
    check(&[3], None, false, true, true);
    check(&[1, 2], None, false, true, false);
    check(&[1, 2], None, false, false, true);
}

#[test]
fn how_much_is_kept_is_counted_in_bytes_too_and_only_up_to_what_is_said_later() {
    let check = |keeps: Keeps, unplaced: u64, right: bool| {
        let mut oracle = Oracle::new(Some(keeps));
        let at = |at| Time::from_nanos(at);
        // Of twelve bytes each, and some of which nobody knows the place.
        let said: Vec<_> =
            (1..5).map(|number| oracle.says("t", Kind::Text, b"0123456789", at(number)).0).collect();
        for (offset, id) in (1..).zip(&said) {
            oracle.placed(*id, (9, offset));
        }
        for _ in 0..unplaced {
            oracle.says("t", Kind::Text, b"", at(5));
        }
        let session = oracle.joins("t", Time::ZERO);
        oracle.begins(session, (9, 1));
        oracle.misses(session, (9, 2, 3), None, at(6));
        // Said when it had been answered.
        let (late, _) = oracle.says("t", Kind::Text, &[b'a'; 100], at(7));
        oracle.placed(late, (9, 5 + unplaced));
        let faults = oracle.judge(Promise { unbroken: true, settled: false });
        assert_eq!(faults.is_empty(), right, "{keeps:?} {unplaced}: {faults:?}");
    };
    check(Keeps { bytes: 23, ..PLENTY }, 0, true);
    check(Keeps { bytes: 24, ..PLENTY }, 0, false);
    check(Keeps { bytes: 123, ..PLENTY }, 1, true);
    check(Keeps { bytes: 124, ..PLENTY }, 1, false);
    check(Keeps { messages: 2, ..PLENTY }, 0, false);
    check(Keeps { messages: 2, ..PLENTY }, 1, true);
    let written = 12 * kept::WRITTEN_TIMES + kept::WRITTEN_AROUND;
    check(Keeps { replayed_bytes: 2 * written - 1, ..PLENTY }, 0, true);
    check(Keeps { replayed_bytes: 2 * written, ..PLENTY }, 0, false);
}

#[test]
fn who_asks_for_all_that_is_kept_hears_all_of_it() {
    let check = |silent: bool, first: Option<u64>, messages: u64, right: bool| {
        let mut oracle = Oracle::new(Some(Keeps { messages, ..PLENTY }));
        let said: Vec<_> = (0..3).map(|_| oracle.says("t", Kind::Text, b"", Time::ZERO)).collect();
        for (offset, (id, _)) in (1..).zip(&said) {
            oracle.placed(*id, (9, offset));
        }
        let now = Time::from_nanos(1);
        let session = if silent {
            oracle.joins_silently("t", 1, true, now)
        } else {
            let session = oracle.joins("t", now);
            oracle.hears_all_kept(session, (9, 3), now);
            session
        };
        for offset in first.into_iter().flat_map(|first| first..4) {
            let payload = &said[offset as usize - 1].1;
            oracle.hears(session, Shown::Told, Kind::Text, payload, Some((9, offset)));
        }
        let faults = oracle.judge(UNBROKEN);
        assert_eq!(faults.is_empty(), right, "{silent} {first:?} {messages}: {faults:?}");
    };
    for silent in [false, true] {
        check(silent, Some(1), 3, true);
        check(silent, Some(2), 3, false);
        check(silent, Some(2), 2, true);
    }
    check(false, None, 3, false);
    check(false, None, 0, true);
}

#[test]
fn who_begins_now_hears_nothing_that_was_known_long_before() {
    let check = |known_at: u64, asked_at: u64, right: bool| {
        let mut oracle = Oracle::default();
        let (id, payload) = oracle.says("t", Kind::Text, b"", Time::ZERO);
        oracle.it_is(Time::ZERO + Duration::from_millis(known_at));
        oracle.placed(id, (9, 1));
        let asked_at = Time::ZERO + Duration::from_millis(asked_at);
        oracle.it_is(asked_at);
        let session = oracle.joins("t", asked_at);
        oracle.asked(session, asked_at);
        oracle.hears(session, Shown::Frames, Kind::Text, &payload, None);
        let faults = oracle.judge(UNBROKEN);
        assert_eq!(faults.is_empty(), right, "{known_at} {asked_at:?}: {faults:?}");
    };
    check(0, 1000, true);
    check(0, 1001, false);
    check(1001, 0, true);
}

#[test]
fn of_a_topic_that_was_forgotten_who_comes_back_silently_hears_all_that_is_kept() {
    let check = |messages: u64, right: bool| {
        let mut oracle = Oracle::new(Some(Keeps { messages, ..PLENTY }));
        let said: Vec<_> = (0..3).map(|_| oracle.says("t", Kind::Text, b"", Time::ZERO)).collect();
        let places = [(8, 1), (9, 1), (9, 2)];
        for ((id, _), place) in said.iter().zip(places) {
            oracle.placed(*id, place);
        }
        let session = oracle.joins_silently("t", 1, false, Time::ZERO);
        oracle.hears(session, Shown::Told, Kind::Text, &said[0].1, Some(places[0]));
        oracle.leaves(session);
        oracle.resumes_silently(session, 2, Time::from_nanos(1));
        oracle.hears(session, Shown::Told, Kind::Text, &said[2].1, Some(places[2]));
        let faults = oracle.judge(Promise { unbroken: true, settled: false });
        assert_eq!(faults.is_empty(), right, "{messages}: {faults:?}");
    };
    check(1, true);
    check(2, false);
}

#[test]
fn who_was_told_that_nothing_is_missing_is_told_of_no_gap() {
    let check = |whole: bool, promise: Promise, right: bool| {
        let mut oracle = Oracle::default();
        let session = oracle.joins("t", Time::ZERO);
        oracle.begins(session, (9, 1));
        oracle.leaves(session);
        oracle.resumes(session);
        // What it was told when it came back the last time says nothing of this one.
        oracle.recovers(session, true);
        oracle.leaves(session);
        oracle.resumes(session);
        if whole {
            oracle.recovers(session, true);
        }
        oracle.misses(session, (9, 2, 3), None, Time::ZERO);
        let faults = oracle.judge(promise);
        assert_eq!(faults.is_empty(), right, "{whole} {promise:?}: {faults:?}");
    };
    check(true, UNBROKEN, false);
    check(true, LOSSY, true);
    check(false, UNBROKEN, true);
}
