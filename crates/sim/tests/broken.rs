//! A hub that is broken on purpose: somebody loses, doubles or swaps a message on its way to one subscriber, and the
//! oracle must notice.

use std::time::Duration;

use moongate_sim::client::{Leave, Offer, Place, SocketPlan, TalkerPlan, Tongue, VisitPlan};
use moongate_sim::scenario::{ClientPlan, Pace, Role, SCENARIOS};
use moongate_sim::tamper::{Deed, Tamper};
use moongate_sim::{Plan, run_plan};

/// A small calm world: two subscribers, of whom the first speaks, and somebody's hand on the second one's wire.
fn world(seed: u64, tamper: Option<Tamper>) -> Plan {
    let mut plan = Plan::of(seed * SCENARIOS.len() as u64);
    let socket = |messages, tamper| {
        Role::Socket(SocketPlan {
            place: Place::Topic(String::from("t0")),
            messages,
            burst: 3,
            bytes_max: 16,
            repetitive: false,
            offer: Offer::default(),
            laborious: false,
            eager: false,
            visit: stays(tamper),
        })
    };
    plan.clients = vec![client(0, socket(0, tamper)), client(1, socket(20, None))];
    plan.control_messages = 0;
    plan
}

fn stays(tamper: Option<Tamper>) -> VisitPlan {
    VisitPlan { pause: (0, 30), leave: Leave::Stays, abrupt: false, linger: (0, 0), tamper }
}

fn client(at: u64, role: Role) -> ClientPlan {
    ClientPlan {
        at: Duration::from_secs(at),
        shard: 0,
        role,
        pace: Pace::Fast,
        window: 1 << 20,
        delay: (0, 2),
        breaks: None,
    }
}

/// The same with two who have a conversation, the first of whom only listens to what it came in by.
fn talks(seed: u64, tamper: Option<Tamper>) -> Plan {
    let mut plan = world(seed, None);
    plan.gate.policy.message_bytes_max = 4000;
    plan.gate.subscription_topics_max = 10;
    plan.topics = vec![String::from("t0")];
    let talker = |turns, tamper| {
        Role::Talker(TalkerPlan {
            tongue: Tongue::V1,
            enters: Some(String::from("t0")),
            topics: plan.topics.clone(),
            topics_max: 10,
            turns,
            burst: 3,
            bytes_max: 16,
            visit: stays(tamper),
        })
    };
    plan.clients = vec![client(0, talker(0, tamper)), client(1, talker(40, None))];
    plan
}

#[test]
fn an_untouched_world_is_right() {
    for seed in 0..5 {
        let outcome = run_plan(world(seed, None)).expect("nobody touched it");
        assert_eq!((outcome.said, outcome.heard), (20, 40));
    }
}

#[test]
fn an_untouched_conversation_is_right() {
    for seed in 0..5 {
        let outcome = run_plan(talks(seed, None)).expect("nobody touched it");
        assert!(outcome.said > 30 && outcome.talk.answered > 10, "{outcome:?}");
    }
}

/// In a conversation every place is named, so that nothing else is needed to notice.
#[test]
fn what_is_done_to_a_conversation_is_noticed() {
    for (deed, expect) in [(Deed::Lose, "after ("), (Deed::Double, "twice"), (Deed::Swap, "after (")] {
        for seed in 0..5 {
            // The first is the answer to its subscribe.
            for after in [1, 7, 18] {
                let report =
                    run_plan(talks(seed, Some(Tamper::new(deed, after)))).expect_err("it is noticed");
                assert!(report.contains(expect), "{deed:?}: {report}");
            }
        }
    }
}

fn check(deed: Deed, expect: &str) {
    for seed in 0..5 {
        for after in [0, 7, 18] {
            match run_plan(world(seed, Some(Tamper::new(deed, after)))) {
                Ok(outcome) => panic!("{deed:?} after {after} went unnoticed in {outcome:?}"),
                Err(report) => assert!(report.contains(expect), "{deed:?}: {report}"),
            }
        }
    }
}

#[test]
fn a_lost_message_is_noticed() {
    check(Deed::Lose, "never heard message");
}

#[test]
fn a_doubled_message_is_noticed() {
    check(Deed::Double, "twice");
}

#[test]
fn swapped_messages_are_noticed() {
    check(Deed::Swap, "no order fits what was heard");
}
