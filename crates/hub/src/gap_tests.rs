use std::time::Duration;

use moongate_io::{Chain, ConnId};

use crate::hub::tests::World;
use crate::{Config, Form, HistoryLimits, OutboxLimits, OutboxPolicy, Start, Subscribed, SubscriptionId};

/// Who reads nothing for now.
const SLOW: u32 = 0;

/// A message's length, but for a few bytes.
const LENGTH: usize = 50;

/// A connection that hears topics, with one send under way.
struct Scene {
    world: World,
    subscriptions: Vec<(String, SubscriptionId)>,
    other: Option<SubscriptionId>,
    flight: Option<Chain>,
}

impl Scene {
    /// Room for about five messages.
    fn new(policy: OutboxPolicy, shards: usize) -> Scene {
        let outbox = OutboxLimits { outbox_bytes_max: 300, policy, slow_reader_timeout: Duration::ZERO };
        let (topics_max, history) = (10, HistoryLimits::OFF);
        let config = Config { topics_max, topic_linger: Duration::from_secs(60), history, outbox };
        let mut world = World::with(shards, 8, config);
        world.hubs[0].outboxes.open(SLOW);
        Scene { world, subscriptions: Vec::new(), other: None, flight: None }
    }

    /// `+a`: it subscribes; `-a`: it leaves; both with a word. `a`: a message is said in the topic. `*a`: somebody else
    /// listens to it on the same shard, until `/`. `>`: a send begins.
    fn step(&mut self, step: &str) {
        let outboxes = &mut self.world.hubs[0].outboxes;
        match step.split_at(1) {
            (">", _) => self.flight = outboxes.next_send().map(|(_, chain)| chain),
            ("*", topic) => self.other = Some(self.world.subscribe(0, SLOW + 1, topic, Form(0))),
            ("/", _) => {
                let other = self.other.take().expect("it listens");
                self.world.hubs[0].unsubscribe(other);
            }
            ("+", topic) => {
                let (hub, conn) = (&mut self.world.hubs[0], ConnId::new(SLOW, 0));
                let name = hub.name(topic);
                let id = match hub.subscribe(conn, name, Form(0), Start::Now) {
                    Subscribed::Now(joined) => joined.subscription,
                    Subscribed::Later(id) => id,
                };
                self.subscriptions.push((topic.to_owned(), id));
                self.say(&format!("+{topic}"));
            }
            ("-", topic) => {
                let index = self.subscriptions.iter().position(|(name, _)| name == topic);
                let (_, id) = self.subscriptions.remove(index.expect("it has subscribed"));
                self.world.hubs[0].unsubscribe(id);
                self.say(&format!("-{topic}"));
            }
            (topic, _) => {
                let last = self.world.hubs.len() - 1;
                self.world.publish(last, topic, &format!("{topic}{}", "_".repeat(LENGTH)));
            }
        }
        self.world.settle();
        // The other one reads all there is.
        self.world.heard(0, SLOW + 1);
        self.world.settle();
    }

    fn say(&mut self, word: &str) {
        let hub = &mut self.world.hubs[0];
        let word = moongate_io::Bytes::own(format!("{word};").into_bytes(), &hub.meter);
        hub.outboxes.push(SLOW, word);
    }

    /// What it hears when it reads at last: words, messages as their topic and offset, and gaps.
    fn hear_all(&mut self) -> String {
        let mut heard = String::new();
        if let Some(chain) = self.flight.take() {
            let all: Vec<u8> = chain.segments().iter().flat_map(|one| one.as_slice().to_vec()).collect();
            heard.push_str(str::from_utf8(&all).expect("tests say text"));
            self.world.hubs[0].outboxes.sent(SLOW, chain, all.len());
        }
        for _ in 0..5 {
            heard.push_str(&self.world.heard(0, SLOW));
            self.world.settle();
        }
        let heard = heard.replace(&"_".repeat(LENGTH), "").replace('>', ";").replace('<', "gap ");
        let words = heard.split_terminator(';').map(|word| match word.split(':').collect::<Vec<_>>()[..] {
            [_, offset, topic] => format!("{topic}{offset}"),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

fn check(policy: OutboxPolicy, steps: &str, expect: &str) {
    for shards in [1, 2] {
        let mut scene = Scene::new(policy, shards);
        steps.split(' ').for_each(|step| scene.step(step));
        assert_eq!(scene.hear_all(), expect, "{policy:?} on {shards}: {steps}");
    }
}

#[test]
fn what_waits_is_told_though_its_channel_has_closed() {
    let all = "+a, +b, a1, gap 2-4, -a, b1, b2, b3, b4";
    check(OutboxPolicy::DropOldest, "+a +b a > a a a -a b b b b", all);
    // Who left first still has some of it when the last one leaves.
    check(OutboxPolicy::DropOldest, "*a +a +b a > a a a -a / b b b b", all);
    let newest = "+a, +b, a1, gap 2-3, a4, -a, gap 1-1, b2, b3, b4";
    check(OutboxPolicy::Latest, "+a +b a > a a a -a b b b b", newest);
}

#[test]
fn what_waits_of_one_subscription_is_not_told_of_the_next() {
    // On the same channel, which somebody else keeps open, and on another.
    for others in ["", "*a "] {
        let check = |policy, steps, expect| check(policy, &format!("{others}{steps}"), expect);
        let drop_oldest = OutboxPolicy::DropOldest;
        check(drop_oldest, "+a a > a a -a +a a a a", "+a, a1, gap 2-2, a3, -a, +a, a4, a5, a6");
        check(drop_oldest, "+a a > a a -a +a a a a a a", "+a, a1, gap 2-3, -a, +a, gap 4-4, a5, a6, a7, a8");
    }
    // To `latest` another channel is another topic.
    check(OutboxPolicy::Latest, "*a +a a > a a -a +a a a a", "+a, a1, gap 2-3, -a, +a, gap 4-5, a6");
    check(OutboxPolicy::Latest, "+a a > a a -a +a a a a", "+a, a1, gap 2-2, a3, -a, +a, gap 4-5, a6");
}

#[test]
fn latest_leaves_no_topic_without_its_newest_message() {
    check(OutboxPolicy::Latest, "+a +b a > a b b b b b b", "+a, +b, a1, gap 1-3, a2, b4, b5, b6");
    check(
        OutboxPolicy::DropOldest,
        "+a +b a > a b b b b b b",
        "+a, +b, a1, gap 2-2, gap 1-2, b3, b4, b5, b6",
    );
}
