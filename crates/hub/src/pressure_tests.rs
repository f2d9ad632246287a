use std::time::Duration;

use super::*;
use crate::hub::tests::{World, topic_at};
use crate::{Form, Kind, Published, Token};

/// A quarter of the outbox limit that these worlds have.
const QUARTER: usize = 256 * 1024;

/// Who publishes what and reads how, on a topic whose home is shard 1 of 2.
struct Scene {
    world: World,
    topic: String,
}

impl Scene {
    /// With a subscriber on each of these shards, in the slot of the same number.
    fn new(listening: &[usize]) -> Scene {
        let mut world = World::new(2, 8, 10);
        let topic = topic_at(&world, 1);
        for shard in listening {
            world.subscribe(*shard, *shard as u32, &topic, Form(0));
        }
        world.settle();
        Scene { world, topic }
    }

    /// Says `text` from a shard; it waits if it must.
    fn say(&mut self, shard: usize, text: &str) {
        assert_eq!(self.world.publish(shard, &self.topic, text), Published::Pending);
        self.world.settle();
    }

    /// How many payload bytes were ordered since the last time, whoever said them.
    fn ordered(&mut self) -> usize {
        let hubs = self.world.hubs.iter_mut();
        hubs.flat_map(|hub| hub.take_ordered()).map(|ordered| ordered.bytes as usize).sum()
    }
}

#[test]
fn what_is_ordered_beyond_half_an_outbox_fits_into_the_rest_whoever_says_it() {
    for shard in [0, 1] {
        let mut scene = Scene::new(&[shard]);
        let text = "x".repeat(10_000);
        for round in 0..200 {
            scene.say(round % 2, &text);
        }
        let ordered = scene.ordered();
        assert!((2 * QUARTER..=3 * QUARTER + 20_000).contains(&ordered), "{ordered}");
        assert_eq!(scene.world.hubs[1].deferred_bytes() as usize, 200 * text.len() - ordered);
        // All of it is heard, in order, once it is read, and the publishers are told.
        let heard: String = (0..20)
            .map(|_| {
                scene.world.settle();
                scene.world.heard(shard, shard as u32)
            })
            .collect();
        assert_eq!(heard.matches(';').count(), 200);
        assert!(heard.rfind("0:200:") > heard.rfind("0:199:"));
        assert_eq!(ordered + scene.ordered(), 200 * text.len());
        assert_eq!(scene.world.hubs[1].deferred_bytes(), 0);
        assert!(scene.world.hubs[shard].take_overflowed().is_empty());
    }
}

#[test]
fn who_reads_nothing_is_waited_for_once() {
    let mut scene = Scene::new(&[0, 1]);
    let text = "x".repeat(QUARTER / 2);
    // Both are handed to the kernel, which takes nothing for the one on shard 0.
    for _ in 0..6 {
        scene.say(1, &text);
        scene.world.heard(1, 1);
    }
    let (_, chain) = scene.world.hubs[0].outboxes.next_send().expect("it has much to read");
    assert!(scene.world.hubs[1].deferred_bytes() > 0);
    scene.world.now = scene.world.now + Duration::from_millis(200);
    scene.world.settle();
    assert_eq!(scene.world.hubs[1].deferred_bytes(), 0, "the others go on");
    for _ in 0..6 {
        scene.say(1, &text);
        scene.world.heard(1, 1);
    }
    assert_eq!(scene.world.hubs[1].deferred_bytes(), 0);
    assert_eq!(scene.world.hubs[0].take_overflowed().first(), Some(&0), "its policy decides");
    drop(chain);
}

#[test]
fn who_leaves_is_not_waited_for() {
    let mut scene = Scene::new(&[1]);
    let subscription = scene.world.subscribe(0, 0, &scene.topic.clone(), Form(0));
    scene.world.settle();
    let text = "x".repeat(QUARTER);
    for _ in 0..4 {
        scene.say(0, &text);
        scene.world.heard(1, 1);
    }
    assert!(scene.world.hubs[1].deferred_bytes() > 0);
    scene.world.hubs[0].unsubscribe(subscription);
    scene.world.settle();
    assert_eq!(scene.world.hubs[1].deferred_bytes(), 0);
}

#[test]
fn another_topic_does_not_wait() {
    let mut scene = Scene::new(&[0]);
    for _ in 0..4 {
        scene.say(1, &"x".repeat(QUARTER));
    }
    assert!(scene.world.hubs[1].deferred_bytes() > 0);
    scene.ordered();
    for shard in [0, 1] {
        assert_eq!(scene.world.publish(shard, "another", "at once"), Published::Pending);
    }
    scene.world.settle();
    assert_eq!(scene.ordered(), 14);
}

#[test]
fn who_does_not_wait_is_turned_away_once_much_waits() {
    let mut scene = Scene::new(&[0]);
    let name = scene.world.hubs[1].name(&scene.topic);
    let mut said = |shard: usize| {
        let hub = &mut scene.world.hubs[shard];
        let published =
            hub.publish(Token::new(9), &name, Kind::Text, &[b'x'; QUARTER], Patience::Leaves, None);
        scene.world.settle();
        published
    };
    let outcomes: Vec<_> = (0..9).map(|_| said(1)).collect();
    let (taken, refused) = outcomes.split_at(6);
    assert!(taken.iter().all(|outcome| *outcome == Published::Pending), "two have their place, four wait");
    assert!(refused.iter().all(|outcome| *outcome == Published::Rejected(Rejection::Busy)));
    assert_eq!(said(0), Published::Pending, "shard 0 has to ask");
    assert_eq!(scene.world.hubs[0].take_rejected(), [(Token::new(9), QUARTER as u32, Rejection::Busy)]);
}
