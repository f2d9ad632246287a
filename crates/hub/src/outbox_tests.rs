use std::sync::Arc;

use moongate_io::{Meter, Places, Run, Source};

use super::*;

const SLOT: u32 = 3;

fn outboxes(outbox_bytes_max: u32, policy: OutboxPolicy) -> Outboxes {
    let mut outboxes = Outboxes::new(OutboxLimits {
        outbox_bytes_max,
        policy,
        slow_reader_timeout: Duration::from_millis(200),
    });
    outboxes.open(SLOT);
    outboxes
}

/// A run of these messages.
fn run(messages: &[&str]) -> Segment {
    let mut ends = Vec::new();
    for message in messages {
        ends.push(ends.last().unwrap_or(&0) + message.len() as u32);
    }
    Segment::whole(Bytes::run(Arc::new(Run::new(messages.concat().as_bytes(), ends)), &Meter::default()))
}

/// A policy that tells nothing.
struct Silent;

impl TellGap for Silent {
    fn tell(&mut self, _: &Source, _: &Places) -> Option<Bytes> {
        None
    }
}

fn own(text: &'static str) -> Bytes {
    Bytes::fixed(text.as_bytes())
}

fn push_pong(outboxes: &mut Outboxes, pong: &str) {
    outboxes.push_pong(SLOT, pong.as_bytes(), &Meter::default());
}

/// Takes the next send, lets the kernel take `count` bytes of it and returns those.
fn send(outboxes: &mut Outboxes, count: usize) -> String {
    let (slot, chain) = outboxes.next_send().expect("something waits");
    let all: Vec<u8> = chain.segments().iter().flat_map(|segment| segment.as_slice().to_vec()).collect();
    let count = count.min(all.len());
    outboxes.sent(slot, chain, count);
    String::from_utf8(all[..count].to_vec()).expect("tests send text")
}

fn drain(outboxes: &mut Outboxes) -> String {
    let mut all = String::new();
    while outboxes.is_dirty() {
        all.push_str(&send(outboxes, usize::MAX));
    }
    assert_eq!((outboxes.bytes(SLOT), outboxes.waiting_bytes()), (0, 0));
    all
}

#[test]
fn everything_that_waits_goes_in_one_send_whatever_the_kernel_takes() {
    for step in 1..12 {
        let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
        outboxes.deliver(SLOT, run(&["ab", "cde"]), &mut Silent);
        outboxes.push(SLOT, own("-own-"));
        outboxes.deliver(SLOT, run(&["f"]), &mut Silent);
        let mut all = String::new();
        while outboxes.is_dirty() {
            all.push_str(&send(&mut outboxes, step));
        }
        assert_eq!(all, "abcde-own-f", "by {step}");
        assert!(outboxes.is_idle(SLOT));
    }
}

#[test]
fn one_send_is_in_flight_and_the_queue_is_fair() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    outboxes.open(0);
    outboxes.push(SLOT, own("a"));
    outboxes.push(0, own("b"));
    let (first, chain) = outboxes.next_send().expect("two wait");
    outboxes.push(SLOT, own("c"));
    assert_eq!(first, SLOT);
    assert_eq!(outboxes.next_send().map(|(slot, _)| slot), Some(0));
    assert!(outboxes.next_send().is_none(), "both have a send in flight");
    outboxes.sent(SLOT, chain, 1);
    assert_eq!(send(&mut outboxes, 9), "c");
}

#[test]
fn a_long_outbox_goes_in_several_sends() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    for _ in 0..CHAIN_SEGMENTS_MAX + 3 {
        outboxes.push(SLOT, own("x"));
    }
    assert_eq!(send(&mut outboxes, 999).len(), CHAIN_SEGMENTS_MAX);
    assert_eq!(send(&mut outboxes, 999).len(), 3);
}

#[test]
fn a_held_outbox_keeps_what_it_gets_in_order() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    outboxes.hold(SLOT);
    outboxes.push(SLOT, own("101,"));
    outboxes.deliver(SLOT, run(&["news"]), &mut Silent);
    assert!(outboxes.next_send().is_none());
    outboxes.let_go(SLOT);
    assert_eq!(drain(&mut outboxes), "101,news");
}

#[test]
fn d12_every_pong_that_finds_room_goes_out_and_none_splits_a_message() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    outboxes.deliver(SLOT, run(&["message"]), &mut Silent);
    assert_eq!(send(&mut outboxes, 3), "mes");
    push_pong(&mut outboxes, "<pong1>");
    push_pong(&mut outboxes, "<pong2>");
    outboxes.deliver(SLOT, run(&["next"]), &mut Silent);
    assert_eq!(drain(&mut outboxes), "sagenext<pong1><pong2>");
    push_pong(&mut outboxes, "<pong3>");
    assert_eq!(drain(&mut outboxes), "<pong3>");
}

#[test]
fn k3_only_the_newest_pong_waits_once_there_is_no_room() {
    let longest = "p".repeat(PONGS_BYTES_MAX);
    for (pongs, expect) in [
        (vec!["a", &longest[1..]], format!("a{}", &longest[1..])),
        (vec!["a", &longest], longest.clone()),
        (vec![&longest, "a", "b"], "ab".to_owned()),
        (vec!["0123456789"; 13], "0123456789".to_owned()),
    ] {
        let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
        outboxes.deliver(SLOT, run(&["message,"]), &mut Silent);
        for pong in pongs {
            push_pong(&mut outboxes, pong);
        }
        assert_eq!(outboxes.waiting_bytes() as usize, "message,".len() + expect.len());
        assert_eq!(drain(&mut outboxes), format!("message,{expect}"));
    }
}

#[test]
fn a_pong_does_not_overtake_an_older_one() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    for _ in 0..CHAIN_SEGMENTS_MAX + 3 {
        outboxes.push(SLOT, own("ab"));
    }
    push_pong(&mut outboxes, "1");
    assert_eq!(send(&mut outboxes, 1), "a", "of a chain that ends with a pong");
    push_pong(&mut outboxes, "2");
    let rest = drain(&mut outboxes);
    assert!(rest.find('1') < rest.find('2'), "{rest}");
}

#[test]
fn a_pong_does_not_wait_for_what_was_dropped() {
    let mut outboxes = outboxes(10, OutboxPolicy::DropOldest);
    outboxes.deliver(SLOT, run(&["begun"]), &mut Silent);
    outboxes.push(SLOT, own("!"));
    assert_eq!(send(&mut outboxes, 2), "be", "two pieces come back");
    // Each drops the one before.
    for _ in 0..2 * CHAIN_SEGMENTS_MAX {
        outboxes.deliver(SLOT, run(&["a long one"]), &mut Silent);
    }
    push_pong(&mut outboxes, "<pong>");
    assert_eq!(drain(&mut outboxes), "gun!a long one<pong>");
}

#[test]
fn a_pong_goes_before_the_last_words() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    outboxes.deliver(SLOT, run(&["message,"]), &mut Silent);
    push_pong(&mut outboxes, "<pong1>");
    push_pong(&mut outboxes, "<pong2>");
    outboxes.push_last(SLOT, own("<close>"));
    push_pong(&mut outboxes, "<pong3>");
    assert_eq!(outboxes.waiting_bytes(), 29);
    assert_eq!(drain(&mut outboxes), "message,<pong1><pong2><close>");
    assert_eq!(outboxes.waiting_bytes(), 0);
}

#[test]
fn a_sealed_outbox_takes_nothing_more() {
    let mut outboxes = outboxes(1000, OutboxPolicy::Cut);
    outboxes.push(SLOT, own("close"));
    outboxes.seal(SLOT);
    outboxes.push(SLOT, own("late"));
    push_pong(&mut outboxes, "late");
    assert_eq!(outboxes.deliver(SLOT, run(&["late"]), &mut Silent), Delivered::Sealed);
    assert_eq!(drain(&mut outboxes), "close");
}

#[test]
fn cut_finishes_the_message_begun_and_forgets_the_rest() {
    let mut outboxes = outboxes(10, OutboxPolicy::Cut);
    outboxes.deliver(SLOT, run(&["abcd", "efgh"]), &mut Silent);
    assert_eq!(send(&mut outboxes, 2), "ab");
    assert_eq!(outboxes.deliver(SLOT, run(&["ijklm"]), &mut Silent), Delivered::Overflow);
    outboxes.cut(SLOT);
    outboxes.push(SLOT, own("<1013>"));
    outboxes.seal(SLOT);
    assert_eq!(drain(&mut outboxes), "cd<1013>");
}

#[test]
fn cut_does_not_forget_an_answer_that_has_not_gone_out() {
    let mut outboxes = outboxes(10, OutboxPolicy::Cut);
    outboxes.push(SLOT, own("101,"));
    outboxes.deliver(SLOT, run(&["abcd"]), &mut Silent);
    assert_eq!(outboxes.deliver(SLOT, run(&["ijklm"]), &mut Silent), Delivered::Overflow);
    outboxes.cut(SLOT);
    outboxes.push_last(SLOT, own("<1013>"));
    assert_eq!(drain(&mut outboxes), "101,<1013>");
}

#[test]
fn an_empty_outbox_takes_any_run() {
    let mut outboxes = outboxes(4, OutboxPolicy::Cut);
    assert_eq!(outboxes.deliver(SLOT, run(&["longer than four"]), &mut Silent), Delivered::Behind);
    assert_eq!(drain(&mut outboxes), "longer than four");
}

#[test]
fn drop_oldest_drops_whole_messages_that_have_not_begun() {
    let mut outboxes = outboxes(12, OutboxPolicy::DropOldest);
    assert_eq!(outboxes.deliver(SLOT, run(&["aaaa", "bbbb"]), &mut Silent), Delivered::Behind);
    outboxes.push(SLOT, own("##"));
    assert_eq!(send(&mut outboxes, 1), "a");
    assert_eq!(outboxes.deliver(SLOT, run(&["cccc", "dddd"]), &mut Silent), Delivered::Taken);
    assert_eq!(outboxes.drops(), Drops { messages: 2, bytes: 8 });
    assert_eq!(drain(&mut outboxes), "aaa##dddd");
}

#[test]
fn latest_keeps_the_newest_message_only() {
    let mut outboxes = outboxes(12, OutboxPolicy::Latest);
    outboxes.deliver(SLOT, run(&["aaaa", "bbbb", "cccc"]), &mut Silent);
    outboxes.deliver(SLOT, run(&["dddd", "eeee"]), &mut Silent);
    assert_eq!(outboxes.drops(), Drops { messages: 4, bytes: 16 });
    assert_eq!(drain(&mut outboxes), "eeee");
}

#[test]
fn a_failed_send_empties_the_outbox() {
    let mut outboxes = outboxes(100, OutboxPolicy::Cut);
    outboxes.push(SLOT, own("a"));
    let (slot, chain) = outboxes.next_send().expect("one waits");
    outboxes.push(SLOT, own("b"));
    drop(chain);
    outboxes.failed(slot);
    assert!(outboxes.is_idle(SLOT) && outboxes.next_send().is_none());
}

#[test]
fn a_new_tenant_finds_an_empty_outbox() {
    let mut outboxes = outboxes(100, OutboxPolicy::Cut);
    outboxes.push(SLOT, own("old"));
    outboxes.seal(SLOT);
    outboxes.open(SLOT);
    assert_eq!(outboxes.waiting_bytes(), 0);
    outboxes.push(SLOT, own("new"));
    assert_eq!(drain(&mut outboxes), "new");
}

fn at(outboxes: &mut Outboxes, millis: u64) {
    outboxes.begin(Time::ZERO + Duration::from_millis(millis));
}

#[test]
fn who_has_more_than_half_waiting_is_behind_until_it_has_not() {
    let mut outboxes = outboxes(10, OutboxPolicy::Cut);
    assert_eq!(outboxes.deliver(SLOT, run(&["abcde"]), &mut Silent), Delivered::Taken);
    assert!(!outboxes.is_behind(SLOT));
    assert_eq!(outboxes.deliver(SLOT, run(&["f"]), &mut Silent), Delivered::Behind);
    assert_eq!(
        outboxes.deliver(SLOT, run(&["g"]), &mut Silent),
        Delivered::Taken,
        "that it is behind is said once"
    );
    assert!(outboxes.is_behind(SLOT));
    send(&mut outboxes, 1);
    assert!(outboxes.is_behind(SLOT));
    send(&mut outboxes, 1);
    assert!(!outboxes.is_behind(SLOT));
    assert_eq!(outboxes.deliver(SLOT, run(&["h"]), &mut Silent), Delivered::Behind);
}

#[test]
fn nobody_waits_for_who_takes_nothing_for_too_long() {
    let mut outboxes = outboxes(10, OutboxPolicy::Cut);
    assert_eq!(outboxes.deliver(SLOT, run(&["abcdef"]), &mut Silent), Delivered::Behind);
    at(&mut outboxes, 1000);
    assert!(outboxes.is_behind(SLOT), "that nothing was sent yet is no fault of its own");
    let (slot, chain) = outboxes.next_send().expect("one waits");
    at(&mut outboxes, 1199);
    assert!(outboxes.is_behind(SLOT));
    outboxes.sent(slot, chain, 0);
    let (slot, chain) = outboxes.next_send().expect("one waits still");
    at(&mut outboxes, 1398);
    assert!(outboxes.is_behind(SLOT), "the span begins anew with every sign of life");
    at(&mut outboxes, 1399);
    assert!(!outboxes.is_behind(SLOT));
    assert_eq!(
        outboxes.deliver(SLOT, run(&["g"]), &mut Silent),
        Delivered::Taken,
        "once given up it is not waited for again"
    );
    outboxes.sent(slot, chain, 6);
    assert_eq!(
        outboxes.deliver(SLOT, run(&["hijkl"]), &mut Silent),
        Delivered::Behind,
        "until it has caught up"
    );
}

#[test]
fn an_outbox_is_small() {
    assert!(size_of::<Outbox>() <= 40, "{}", size_of::<Outbox>());
}
