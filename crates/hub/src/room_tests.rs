use std::sync::Arc;
use std::time::Duration;

use moongate_io::{Bytes, Chain, Meter, Places, Run, Segment, Source};

use super::*;
use crate::outbox::{Drops, OutboxLimits, OutboxPolicy, Outboxes};

const SLOT: u32 = 3;

/// Says what is missing as `[a2-4] `.
struct Telling;

impl TellGap for Telling {
    fn tell(&mut self, source: &Source, dropped: &Places) -> Option<Bytes> {
        let Places { epoch, from, to, .. } = *dropped;
        let topic: &char = source.what().expect("these tests make no others");
        let run = Run::gap(format!("[{topic}{from}-{to}] ").into_bytes(), epoch, from, to);
        Some(Bytes::run_from(Arc::new(run), Some(source.clone()), &Meter::default()))
    }
}

/// An outbox, and one connection that is told of what it misses.
struct Scene {
    outboxes: Outboxes,
    topics: HashMap<char, Source>,
    flight: Option<Chain>,
    heard: String,
}

impl Scene {
    fn new(policy: OutboxPolicy, outbox_bytes_max: u32) -> Scene {
        let slow_reader_timeout = Duration::from_millis(200);
        let mut outboxes = Outboxes::new(OutboxLimits { outbox_bytes_max, policy, slow_reader_timeout });
        outboxes.open(SLOT);
        Scene { outboxes, topics: HashMap::new(), flight: None, heard: String::new() }
    }

    /// The messages of a topic from one offset to another, eight bytes each.
    fn run(&mut self, topic: char, from: u64, to: u64) -> Segment {
        let source = self.topics.entry(topic).or_insert_with(|| Source::new(topic)).clone();
        let text: String = (from..=to).map(|offset| format!("{topic}{offset:_<6} ")).collect();
        let ends: Vec<u32> = (1..=to - from + 1).map(|count| 8 * count as u32).collect();
        let run = Run::new(text.as_bytes(), ends).placed(1, from);
        Segment::whole(Bytes::run_from(Arc::new(run), Some(source), &Meter::default()))
    }

    /// `a2` and `a2-4` are messages of a topic; `|` is a word of the connection's own; with `>` a send begins, and with
    /// `<9` it ends, having taken so many bytes.
    fn step(&mut self, step: &str) {
        let (first, rest) = step.split_at(1);
        match first {
            "|" => self.outboxes.push(SLOT, Bytes::fixed(b"| ")),
            ">" => self.flight = self.outboxes.next_send().map(|(_, chain)| chain),
            "<" => {
                let chain = self.flight.take().expect("a send has begun");
                let all: Vec<u8> = chain.segments().iter().flat_map(Segment::as_slice).copied().collect();
                let count = rest.parse().unwrap_or(all.len());
                self.heard.push_str(str::from_utf8(&all[..count]).expect("text"));
                self.outboxes.sent(SLOT, chain, count);
            }
            topic => {
                let (from, to) = rest.split_once('-').unwrap_or((rest, rest));
                let number = |text: &str| text.parse().expect("an offset");
                let run = self.run(topic.chars().next().expect("a letter"), number(from), number(to));
                self.outboxes.deliver(SLOT, run, &mut Telling);
            }
        }
    }

    fn hear_all(&mut self) -> String {
        if self.flight.is_some() {
            self.step("<");
        }
        while self.outboxes.is_dirty() {
            self.step(">");
            self.step("<");
        }
        assert_eq!((self.outboxes.bytes(SLOT), self.outboxes.waiting_bytes()), (0, 0));
        self.heard.replace('_', "").trim_end().to_owned()
    }
}

fn check(policy: OutboxPolicy, outbox_bytes_max: u32, cases: &[(&str, &str)]) {
    for (steps, expect) in cases {
        let mut scene = Scene::new(policy, outbox_bytes_max);
        steps.split(' ').for_each(|step| scene.step(step));
        assert_eq!(scene.hear_all(), *expect, "{policy:?}: {steps}");
    }
}

#[test]
fn what_is_dropped_is_named_where_it_was() {
    check(
        OutboxPolicy::DropOldest,
        24,
        &[
            ("a1 a2 a3", "a1 a2 a3"),
            ("a1 a2 a3 a4", "[a1-1] a2 a3 a4"),
            // What grew stays one gap.
            ("a1 a2 a3 a4 a5", "[a1-3] a4 a5"),
            ("a1-3 a4-6", "[a1-3] a4 a5 a6"),
            // An empty outbox takes any one run; of others the newest message always stays.
            ("a1-9", "a1 a2 a3 a4 a5 a6 a7 a8 a9"),
            ("a1 a2-9", "[a1-6] a7 a8 a9"),
            ("a1-3 > a4-9", "a1 a2 a3 [a4-8] a9"),
            // Of each topic its own.
            ("a1 b1 a2 b2 a3", "[a1-2] [b1-1] b2 a3"),
            // Behind what has begun, and what is in flight.
            ("a1 > a2 a3 a4 a5", "a1 [a2-4] a5"),
            ("a1 a2 > <3 a3 a4 a5", "a1 [a2-4] a5"),
            // What came back goes first, and what is missing behind it is told behind it.
            ("a1 a2 > a3 a4 <8 a5 a6", "a1 [a2-5] a6"),
            ("a1 a2 > a3 a4 a5 <8 a6", "a1 [a2-2] [a3-4] a5 a6"),
            ("a1 a2 > a3 a4 a5 <8 a6 a7", "a1 [a2-6] a7"),
        ],
    );
}

#[test]
fn what_own_words_part_is_not_named_together() {
    check(
        OutboxPolicy::DropOldest,
        24,
        &[
            ("a1 | a2 a3", "[a1-1] | a2 a3"),
            ("a1 a2 | a3 a4 a5", "[a1-2] | [a3-4] a5"),
            ("a1 | a2 | a3 a4 a5 a6", "[a1-1] | [a2-2] | [a3-5] a6"),
            ("| a1 a2 a3 a4", "| [a1-3] a4"),
            ("a1 b1 | a2 b2 a3 b3", "[a1-1] [b1-1] | [a2-3] [b2-2] b3"),
            ("a1 | a2 | > <3 a3 a4 a5 a6", "a1 | [a2-2] | [a3-5] a6"),
        ],
    );
    check(
        OutboxPolicy::Latest,
        24,
        &[("a1 a2 | a3 a4", "[a1-2] | [a3-3] a4"), ("a1 | b1 | a2 b2", "[a1-1] | [b1-1] | [a2-2] b2")],
    );
}

#[test]
fn latest_keeps_the_newest_of_each_topic() {
    check(
        OutboxPolicy::Latest,
        40,
        &[
            ("a1 b1 a2 a3 a4", "a1 b1 a2 a3 a4"),
            ("a1 b1 a2 a3 a4 a5", "[a1-4] b1 a5"),
            ("a1 b1-2 a2-3 b3", "[a1-2] [b1-2] a3 b3"),
            // Of those that do not fit the oldest goes.
            ("a1 b1 c1 d1 e1 f1", "[a1-1] b1 c1 d1 e1 f1"),
            ("a1 b1 c1 d1 e1 f1 f2", "[f1-1] [a1-1] [b1-1] [c1-1] d1 e1 f2"),
            // What is in flight takes room, and stays.
            ("a1 b1 c1 > a2 b2 c2 a3", "a1 b1 c1 [a2-2] [b2-2] [c2-2] a3"),
            ("a1 a2 b1 > <3 a3 b2 b3 a4", "a1 [a2-3] [b1-2] b3 a4"),
            ("a1-5 > a6 a7 a8", "a1 a2 a3 a4 a5 [a6-7] a8"),
        ],
    );
}

#[test]
fn what_is_said_of_gaps_does_not_grow() {
    for policy in [OutboxPolicy::DropOldest, OutboxPolicy::Latest] {
        let mut scene = Scene::new(policy, 50);
        scene.step("|");
        for offset in 1..=999 {
            scene.step(&format!("a{offset}"));
            scene.step(&format!("b{offset}"));
            assert!(scene.outboxes.bytes(SLOT) <= 50 + 20, "{policy:?}: {offset}");
        }
        let messages = scene.outboxes.drops().messages;
        assert_eq!(scene.outboxes.drops(), Drops { messages, bytes: 8 * messages });
        let heard = scene.hear_all();
        assert!(heard.starts_with("| [a1-99") && heard.ends_with("a999 b999"), "{policy:?}: {heard}");
    }
}
