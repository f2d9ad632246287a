use moongate_io::Bell;

use super::*;
use crate::{Gap, HashKey, Mesh, Message, OutboxPolicy, Subscribed};

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// Writes messages as `kind epoch-offset payload;`, so that tests can read them.
pub(crate) struct Plain;

impl Encode for Plain {
    fn encode(&mut self, form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{}:{}:", form.0, message.offset).as_bytes());
        out.extend_from_slice(message.payload);
        out.push(b';');
    }

    fn gap(&mut self, _: Form, gap: &Gap<'_>, out: &mut Vec<u8>) {
        let other = gap.previous_epoch.map_or("", |_| "!");
        out.extend_from_slice(format!("<{other}{}-{}>", gap.from, gap.to).as_bytes());
    }
}

/// Some hubs, ticked in turn on one thread until nothing moves.
pub(crate) struct World {
    pub(crate) hubs: Vec<Hub<Plain>>,
    control: crate::ControlPort,
    pub(crate) now: Time,
}

impl World {
    pub(crate) fn new(shards: usize, capacity: usize, topics_max: usize) -> World {
        World::with_history(shards, capacity, topics_max, HistoryLimits::OFF)
    }

    pub(crate) fn with_history(
        shards: usize,
        capacity: usize,
        topics_max: usize,
        history: HistoryLimits,
    ) -> World {
        let outbox = OutboxLimits {
            outbox_bytes_max: 1 << 20,
            policy: OutboxPolicy::Cut,
            slow_reader_timeout: Duration::from_millis(200),
        };
        let config = Config { topics_max, topic_linger: Duration::from_secs(60), history, outbox };
        World::with(shards, capacity, config)
    }

    pub(crate) fn with(shards: usize, capacity: usize, config: Config) -> World {
        let bells = (0..shards).map(|_| Arc::new(Silent) as Arc<dyn Bell>).collect();
        let mesh = Mesh::new(bells, Arc::new(Silent), capacity, HashKey::new([9; 16]));
        let hub = |port| Hub::new(&config, Plain, port, Meter::default(), 77);
        World { hubs: mesh.shards.into_iter().map(hub).collect(), control: mesh.control, now: Time::ZERO }
    }

    pub(crate) fn tick(&mut self) {
        for hub in &mut self.hubs {
            hub.begin(self.now);
            hub.exchange(100);
            hub.seal();
            hub.finish();
        }
    }

    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            self.tick();
        }
    }

    pub(crate) fn subscribe(&mut self, shard: usize, slot: u32, topic: &str, form: Form) -> SubscriptionId {
        let hub = &mut self.hubs[shard];
        hub.outboxes.open(slot);
        let name = hub.name(topic);
        match hub.subscribe(ConnId::new(slot, 0), name, form, Start::Now) {
            Subscribed::Now(joined) => joined.subscription,
            Subscribed::Later(id) => id,
        }
    }

    pub(crate) fn publish(&mut self, shard: usize, topic: &str, text: &str) -> Published {
        let hub = &mut self.hubs[shard];
        let name = hub.name(topic);
        hub.publish(Token::new(5), &name, Kind::Text, text.as_bytes(), Patience::Waits, None)
    }

    fn joined(&mut self, shard: usize) -> Vec<ConnId> {
        self.hubs[shard].take_joined().into_iter().map(|joined| joined.conn).collect()
    }

    pub(crate) fn heard(&mut self, shard: usize, slot: u32) -> String {
        let mut all = Vec::new();
        let outboxes = &mut self.hubs[shard].outboxes;
        let mut others = Vec::new();
        while let Some((next, chain)) = outboxes.next_send() {
            if next != slot {
                others.push((next, chain));
                continue;
            }
            all.extend(chain.segments().iter().flat_map(|segment| segment.as_slice().to_vec()));
            let length = chain.len();
            outboxes.sent(slot, chain, length);
        }
        for (next, chain) in others {
            outboxes.sent(next, chain, 0);
        }
        String::from_utf8(all).expect("tests say text")
    }
}

/// A topic whose home is `home` of `shards`.
pub(crate) fn topic_at(world: &World, home: usize) -> String {
    let shards = world.hubs.len();
    let named = |index: &u32| world.hubs[0].name(&format!("topic{index}")).home(shards) == home;
    format!("topic{}", (0..).find(named).expect("some name lives there"))
}

#[test]
fn every_shard_hears_the_same_order_whatever_the_lanes_hold() {
    for capacity in [1, 2, 64] {
        for home in 0..3 {
            let mut world = World::new(3, capacity, 10);
            let topic = topic_at(&world, home);
            for shard in 0..3 {
                world.subscribe(shard, shard as u32, &topic, Form(0));
            }
            world.settle();
            for round in 0..10 {
                for shard in 0..3 {
                    world.publish(shard, &topic, &format!("{round}.{shard}"));
                }
                if round % 2 == 0 {
                    world.tick();
                }
            }
            world.settle();
            let first = world.heard(0, 0);
            assert_eq!(first.matches(';').count(), 30, "{first}");
            assert!(first.starts_with("0:1:") && first.contains(";0:30:"), "{first}");
            assert_eq!(world.heard(1, 1), first);
            assert_eq!(world.heard(2, 2), first);
        }
    }
}

#[test]
fn a_newcomer_is_joined_once_and_hears_only_what_comes_after() {
    let mut world = World::new(2, 8, 10);
    let topic = topic_at(&world, 1);
    world.subscribe(1, 7, &topic, Form(0));
    world.settle();
    assert_eq!(world.joined(1), [ConnId::new(7, 0)]);
    world.publish(1, &topic, "before");
    world.subscribe(0, 4, &topic, Form(0));
    assert_eq!(world.joined(0), []);
    world.settle();
    assert_eq!(world.joined(0), [ConnId::new(4, 0)]);
    world.publish(0, &topic, "after");
    world.settle();
    assert_eq!(world.heard(1, 7), "0:1:before;0:2:after;");
    assert_eq!(world.heard(0, 4), "0:2:after;");
}

#[test]
fn forms_are_encoded_side_by_side() {
    let mut world = World::new(2, 8, 10);
    let topic = topic_at(&world, 0);
    world.subscribe(0, 0, &topic, Form(0));
    world.subscribe(0, 1, &topic, Form(1));
    world.subscribe(1, 0, &topic, Form(1));
    world.settle();
    world.publish(1, &topic, "x");
    world.publish(1, &topic, "y");
    world.settle();
    assert_eq!(world.heard(0, 0), "0:1:x;0:2:y;");
    assert_eq!(world.heard(0, 1), "1:1:x;1:2:y;");
    assert_eq!(world.heard(1, 0), "1:1:x;1:2:y;");
}

#[test]
fn who_leaves_hears_nothing_more_and_may_come_back() {
    let mut world = World::new(2, 8, 10);
    let topic = topic_at(&world, 1);
    let subscription = world.subscribe(0, 0, &topic, Form(0));
    world.settle();
    world.hubs[0].unsubscribe(subscription);
    world.publish(1, &topic, "missed");
    world.settle();
    assert_eq!(world.heard(0, 0), "");
    let subscription = world.subscribe(0, 0, &topic, Form(0));
    world.hubs[0].unsubscribe(subscription);
    world.subscribe(0, 0, &topic, Form(0));
    world.settle();
    world.publish(1, &topic, "heard");
    world.settle();
    assert_eq!(world.heard(0, 0), "0:2:heard;");
}

#[test]
fn long_runs_are_sealed_before_they_grow_past_their_limit() {
    let mut world = World::new(1, 8, 10);
    world.subscribe(0, 0, "t", Form(0));
    world.settle();
    let text = "z".repeat(1000);
    for _ in 0..200 {
        world.publish(0, "t", &text);
    }
    world.settle();
    assert_eq!(world.hubs[0].counts.runs, 4);
    assert_eq!(world.heard(0, 0).matches(';').count(), 200);
}

#[test]
fn a_full_home_refuses_topics_and_messages() {
    let mut world = World::new(2, 8, 1);
    let (first, local) = (topic_at(&world, 0), topic_at(&world, 1));
    world.publish(0, &first, "takes the only place");
    world.publish(1, &local, "takes the only place");
    let second = (0..).map(|i| format!("more{i}")).find(|name| world.hubs[0].name(name).home(2) == 0);
    let second = second.expect("some name lives there");
    assert_eq!(world.publish(0, &second, "x"), Published::Rejected(Rejection::TopicsFull));
    assert_eq!(world.publish(1, &second, "x"), Published::Pending);
    let refused = world.subscribe(1, 5, &second, Form(0));
    world.settle();
    assert_eq!(world.hubs[1].take_rejected(), [(Token::new(5), 1, Rejection::TopicsFull)]);
    assert_eq!(world.hubs[1].take_refused(), [(ConnId::new(5, 0), refused, Rejection::TopicsFull)]);
    assert_eq!(world.hubs[1].channels.subscriptions(), 0);
}

#[test]
fn a_topic_nobody_needs_is_forgotten_and_returns_with_another_epoch() {
    let mut world = World::new(1, 8, 10);
    fn say(world: &mut World, text: &str) -> (u64, u64) {
        world.publish(0, "t", text);
        world.settle();
        let ordered = world.hubs[0].take_ordered().pop().expect("it has its place");
        (ordered.epoch, ordered.offset)
    }
    let subscription = world.subscribe(0, 0, "t", Form(0));
    world.settle();
    let (first, _) = say(&mut world, "x");
    world.now = world.now + Duration::from_secs(300);
    world.settle();
    assert_eq!(say(&mut world, "still heard"), (first, 2));
    world.hubs[0].unsubscribe(subscription);
    world.settle();
    world.now = world.now + Duration::from_secs(59);
    world.settle();
    assert_eq!(say(&mut world, "still spoken to"), (first, 3));
    world.now = world.now + Duration::from_secs(59);
    world.settle();
    assert_eq!(say(&mut world, "still remembered"), (first, 4));
    world.now = world.now + Duration::from_secs(61);
    world.settle();
    world.now = world.now + Duration::from_secs(61);
    world.settle();
    let (second, offset) = say(&mut world, "new");
    assert_ne!(second, first);
    assert_eq!(offset, 1);
}

#[test]
fn a_subscriber_past_its_limit_overflows_alone() {
    let mut world = World::new(1, 8, 10);
    world.subscribe(0, 0, "t", Form(0));
    world.subscribe(0, 1, "t", Form(0));
    world.settle();
    let big = "b".repeat(600 * 1024);
    let mut stuck = Vec::new();
    for _ in 0..2 {
        world.publish(0, "t", &big);
        world.tick();
        let outboxes = &mut world.hubs[0].outboxes;
        while let Some((slot, chain)) = outboxes.next_send() {
            match (slot, chain.len()) {
                (1, length) => outboxes.sent(slot, chain, length),
                _ => stuck.push(chain),
            }
        }
        // Nobody waits for the other any more.
        world.now = world.now + Duration::from_millis(200);
        world.settle();
    }
    assert_eq!(world.hubs[0].take_overflowed(), [0]);
    assert_eq!(world.hubs[0].counts.cut, 1);
}

#[test]
fn the_list_of_topics_comes_in_pages() {
    let mut world = World::new(1, 8, 5000);
    for index in 0..1500 {
        world.publish(0, &format!("t{index}"), "x");
    }
    world.subscribe(0, 0, "t7", Form(0));
    world.settle();
    let (mut cursor, mut names, mut subscribers) = (Some(0), Vec::new(), 0);
    while let Some(from) = cursor {
        world.control.ask(0, Ask::Topics(from)).expect("the lane has room");
        world.settle();
        let Some((0, Tell::Topics(page))) = world.control.next_tell() else { panic!("a page comes back") };
        subscribers += page.topics.iter().map(|topic| topic.subscribers).sum::<u64>();
        names.extend(page.topics.into_iter().filter(|topic| topic.home.is_some()).map(|topic| topic.name));
        cursor = page.next;
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    assert_eq!((names.len(), subscribers), (1500, 1));
}

#[test]
fn what_a_publisher_says_in_a_row_is_answered_once() {
    let mut world = World::new(1, 8, 10);
    for text in ["one", "two", "three"] {
        assert_eq!(world.publish(0, "t", text), Published::Pending);
    }
    assert_eq!(world.hubs[0].take_ordered(), [], "not before the tick's runs are handed out");
    world.settle();
    let [ordered] = world.hubs[0].take_ordered()[..] else { panic!("one answer") };
    assert_eq!((ordered.offset, ordered.bytes), (3, 11));
}
