use moongate_io::ConnId;

use super::*;
use crate::hub::tests::{Plain, World, topic_at};
use crate::{Hub, Subscribed, SubscriptionId};

const SHARDS: usize = 2;

fn limits(messages_max: usize, bytes_max: usize) -> HistoryLimits {
    HistoryLimits { messages_max, bytes_max, ttl: Duration::from_secs(300) }
}

/// A topic that lives on one shard, and who comes back to it on another.
struct Scene {
    world: World,
    topic: String,
    slots: u32,
}

impl Scene {
    fn new(history: HistoryLimits) -> Scene {
        let world = World::with_history(SHARDS, 8, 10, history);
        let topic = topic_at(&world, 0);
        Scene { world, topic, slots: 0 }
    }

    /// Says these numbers.
    fn say(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.world.publish(0, &self.topic, &number.to_string());
        }
    }

    fn epoch(&mut self) -> u64 {
        self.say([0]);
        self.world.settle();
        self.world.hubs[0].take_ordered().last().expect("it has its place").epoch
    }

    fn come_back(&mut self, start: Start) -> SubscriptionId {
        self.slots += 1;
        let slot = self.slots;
        let hub: &mut Hub<Plain> = &mut self.world.hubs[1];
        hub.outboxes.open(slot);
        let name = hub.name(&self.topic);
        match hub.subscribe(ConnId::new(slot, 0), name, Form(0), start) {
            Subscribed::Later(id) => id,
            Subscribed::Now(_) => panic!("only the home knows what is kept"),
        }
    }

    /// What who came back last has heard, and whether that is all.
    fn heard(&mut self) -> (String, bool) {
        self.world.settle();
        let joined = self.world.hubs[1].take_joined().pop().expect("it has joined");
        (self.world.heard(1, self.slots), joined.recovered)
    }
}

#[test]
fn who_comes_back_hears_what_it_missed_and_is_told_what_is_gone() {
    let check = |keeps, start: fn(u64) -> Start, expect: (&str, bool)| {
        let mut scene = Scene::new(limits(keeps, 1000));
        let epoch = scene.epoch();
        scene.say(2..=6);
        scene.come_back(start(epoch));
        let (heard, recovered) = scene.heard();
        assert_eq!((&heard[..], recovered), expect, "{keeps}");
    };
    check(3, |_| Start::AllKept, ("0:4:4;0:5:5;0:6:6;", true));
    check(64, |_| Start::AllKept, ("0:1:0;0:2:2;0:3:3;0:4:4;0:5:5;0:6:6;", true));
    check(3, |epoch| Start::After { epoch, offset: 4 }, ("0:5:5;0:6:6;", true));
    check(3, |epoch| Start::After { epoch, offset: 3 }, ("0:4:4;0:5:5;0:6:6;", true));
    check(3, |epoch| Start::After { epoch, offset: 6 }, ("", true));
    check(3, |epoch| Start::After { epoch, offset: 1 }, ("<2-3>0:4:4;0:5:5;0:6:6;", false));
    check(3, |epoch| Start::After { epoch: epoch ^ 1, offset: 6 }, ("<!1-3>0:4:4;0:5:5;0:6:6;", false));
    check(3, |epoch| Start::After { epoch, offset: 7 }, ("<!1-3>0:4:4;0:5:5;0:6:6;", false));
    check(3, |_| Start::After { epoch: 0, offset: 0 }, ("<1-3>0:4:4;0:5:5;0:6:6;", false));
    check(0, |_| Start::AllKept, ("", true));
    check(0, |epoch| Start::After { epoch, offset: 6 }, ("", true));
    check(0, |epoch| Start::After { epoch, offset: 4 }, ("<5-6>", false));
}

#[test]
fn nothing_is_missed_and_nothing_comes_twice_while_messages_keep_coming() {
    for at in 0..12 {
        let mut scene = Scene::new(limits(64, 1000));
        let epoch = scene.epoch();
        for number in 2..=12 {
            if number == at {
                scene.come_back(Start::After { epoch, offset: 1 });
            }
            scene.say([number]);
            if number % 3 == 0 {
                scene.world.tick();
            }
        }
        if at < 2 {
            scene.come_back(Start::After { epoch, offset: 1 });
        }
        let expect: String = (2..=12).map(|number| format!("0:{number}:{number};")).collect();
        assert_eq!(scene.heard(), (expect, true), "{at}");
    }
}

#[test]
fn all_who_come_back_share_what_was_written_once() {
    let mut scene = Scene::new(limits(64, 1000));
    scene.say(1..=9);
    for _ in 0..50 {
        scene.come_back(Start::AllKept);
    }
    scene.world.settle();
    let whole = scene.world.heard(1, 1);
    for slot in 2..=50 {
        assert_eq!(scene.world.heard(1, slot), whole);
    }
    let written = scene.world.hubs[0].home.histories.written_bytes;
    assert_eq!(written, whole.len() as u64 + 9 * 4);
    assert_eq!(scene.world.hubs[0].home.histories.encoded, 9);
    scene.say([10]);
    scene.come_back(Start::AllKept);
    assert_eq!(scene.heard().0, whole + "0:10:10;");
    scene.world.now = scene.world.now + Duration::from_secs(5);
    scene.world.settle();
    assert_eq!(scene.world.hubs[0].home.histories.written_bytes, 0, "nobody asks any more");
}

#[test]
fn a_topic_waits_once_for_its_runs_to_be_forgotten() {
    let mut scene = Scene::new(limits(10, 100));
    let topic = scene.topic.clone();
    for _ in 0..20 {
        scene.say([1]);
        scene.come_back(Start::AllKept);
        scene.heard();
        // What cannot be kept takes all that was written along.
        scene.world.publish(0, &topic, &"x".repeat(101));
    }
    assert_eq!(scene.world.hubs[0].home.histories.written.len(), 1);
}

#[test]
fn limits_hold_and_everything_is_counted() {
    let mut scene = Scene::new(limits(10, 100));
    for number in 0..30 {
        scene.say([number]);
    }
    let charge = |messages: u64, bytes: u64| messages * KEPT_OVERHEAD_BYTES as u64 + bytes;
    assert_eq!(scene.world.hubs[0].history_bytes(), charge(10, 20));
    let topic = scene.topic.clone();
    scene.world.publish(0, &topic, &"x".repeat(95));
    assert_eq!(scene.world.hubs[0].history_bytes(), charge(3, 99));
    scene.world.publish(0, &topic, &"x".repeat(101));
    assert_eq!(
        scene.world.hubs[0].history_bytes(),
        0,
        "what cannot be kept leaves nothing before it to go on from"
    );
    scene.say([1, 2, 3]);
    scene.world.hubs[0].shed_history(1);
    assert_eq!(scene.world.hubs[0].history_bytes(), charge(2, 2));
    scene.come_back(Start::AllKept);
    assert_eq!(scene.heard().0, "0:34:2;0:35:3;");
    scene.world.hubs[0].shed_history(u64::MAX);
    assert_eq!(scene.world.hubs[0].history_bytes(), 0);
    scene.say([4]);
    scene.world.now = scene.world.now + Duration::from_secs(301);
    scene.world.settle();
    assert_eq!(scene.world.hubs[0].history_bytes(), 0, "it was kept too long");
}

#[test]
fn the_oldest_of_any_topic_goes_first() {
    let mut scene = Scene::new(limits(10, 100));
    for (topic, second) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
        scene.world.now = Time::ZERO + Duration::from_secs(second);
        scene.world.tick();
        for shard in 0..SHARDS {
            if scene.world.hubs[shard].name(topic).home(SHARDS) == shard {
                scene.world.publish(shard, topic, topic);
            }
        }
    }
    scene.world.now = Time::ZERO + Duration::from_millis(302_999);
    scene.world.settle();
    let kept: u64 = scene.world.hubs.iter().map(Hub::history_bytes).sum();
    assert_eq!(kept, 2 * (1 + KEPT_OVERHEAD_BYTES as u64), "those of 3 and 4 seconds");
}

#[test]
fn a_topic_with_live_history_is_not_forgotten() {
    let mut scene = Scene::new(limits(10, 100));
    let epoch = scene.epoch();
    let minutes = |scene: &mut Scene, minutes| {
        for _ in 0..minutes {
            scene.world.now = scene.world.now + Duration::from_secs(60);
            scene.world.settle();
        }
    };
    minutes(&mut scene, 4);
    scene.come_back(Start::After { epoch, offset: 0 });
    assert_eq!(scene.heard(), ("0:1:0;".to_owned(), true));
    let subscription = scene.come_back(Start::AllKept);
    scene.world.settle();
    scene.world.hubs[1].unsubscribe(subscription);
    assert_eq!(scene.world.hubs[0].home.topics.len(), 1);
}

#[test]
fn what_does_not_fit_an_outbox_is_a_gap() {
    let mut scene = Scene::new(limits(64, 4 << 20));
    let topic = scene.topic.clone();
    for _ in 0..6 {
        scene.world.publish(0, &topic, &"x".repeat(200_000));
    }
    scene.come_back(Start::AllKept);
    let (heard, recovered) = scene.heard();
    assert!(heard.starts_with("<1-4>0:5:x") && !recovered, "{}", &heard[..20]);
    assert_eq!(heard.matches(';').count(), 2);
}

#[test]
fn many_messages_between_those_who_come_back_are_written_anew_together() {
    let mut scene = Scene::new(limits(64, 1000));
    for number in 1..=100 {
        scene.say([number]);
        scene.come_back(Start::AllKept);
        let first = if number > 64 { number - 63 } else { 1 };
        let expect: String = (first..=number).map(|number| format!("0:{number}:{number};")).collect();
        assert_eq!(scene.heard().0, expect);
    }
}

#[test]
fn many_who_come_back_are_answered_a_few_in_a_tick_behind_what_others_hear() {
    const MANY: u32 = 50;
    const FEW: usize = 16;
    let mut world = World::with_history(1, 1000, 10, limits(8, 1 << 20));
    world.publish(0, "theirs", "kept");
    world.subscribe(0, 0, "other", Form(0));
    world.settle();
    world.hubs[0].take_joined();
    for slot in 1..=MANY {
        let hub = &mut world.hubs[0];
        hub.outboxes.open(slot);
        let name = hub.name("theirs");
        hub.subscribe(ConnId::new(slot, 0), name, Form(0), Start::AllKept);
    }
    world.publish(0, "other", "now");
    let mut answered = 0;
    while answered < MANY as usize {
        world.tick();
        let mut served = Vec::new();
        while let Some((slot, chain)) = world.hubs[0].outboxes.next_send() {
            let length = chain.len();
            world.hubs[0].outboxes.sent(slot, chain, length);
            served.push(slot);
        }
        if answered == 0 {
            assert_eq!(served.remove(0), 0, "who never left comes first");
        }
        assert!((1..=FEW).contains(&served.len()), "{served:?}");
        assert_eq!(world.hubs[0].take_joined().len(), served.len());
        answered += served.len();
        assert_eq!(world.hubs[0].is_unsealed(), answered < MANY as usize, "the rest follows at once");
    }
}
