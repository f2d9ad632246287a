//! The control thread: it says a few things too, and asks the shards how they are.

use std::collections::BTreeMap;

use moongate_hub::{Ask, ControlPort, Full, Kind, Patience, Publish, Snapshot, Tell, Token};

use super::World;
use crate::oracle::{MessageId, Oracle};

/// The control thread.
pub(super) struct Control {
    pub(super) port: ControlPort,
    pub(super) to_ask: Vec<(usize, Ask)>,
    /// Since the last look at whether the shards sleep.
    pub(super) has_asked: bool,
    pub(super) said: BTreeMap<u64, MessageId>,
    pub(super) may_reject: bool,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) drained: Vec<bool>,
}

impl World {
    pub(super) fn control_says(&mut self) {
        let topic = self.plan.topics[self.rng.below(self.plan.topics.len())].clone();
        let now = self.now();
        let (message, payload) = self.oracle.says(&topic, moongate_wire::Kind::Text, b"control", now);
        if self.plan.is_calm() {
            self.oracle.must_be_ordered(message);
        }
        let name = self.control.port.name(&topic);
        let token = Token::new(message as u64);
        self.control.said.insert(token.who, message);
        let patience = Patience::Leaves;
        let publish = Publish {
            name: name.clone(),
            kind: Kind::Text,
            payload: payload.into(),
            token,
            patience,
            excluded: None,
        };
        self.control.to_ask.push((name.home(self.plan.shards), Ask::Publish(publish)));
    }
}

impl Control {
    pub(super) fn ask(&mut self) {
        self.has_asked |= !self.to_ask.is_empty();
        for (shard, ask) in std::mem::take(&mut self.to_ask) {
            // What finds its lane full waits, and what comes behind it for the same shard too.
            if self.to_ask.iter().any(|(other, _)| *other == shard) {
                self.to_ask.push((shard, ask));
            } else if let Err(Full(ask)) = self.port.ask(shard, ask) {
                self.to_ask.push((shard, ask));
            }
        }
    }

    pub(super) fn listen(&mut self, oracle: &mut Oracle) {
        while let Some((shard, tell)) = self.port.next_tell() {
            match tell {
                Tell::Ordered(ordered) => match self.said.remove(&ordered.token.who) {
                    Some(message) => oracle.placed(message, (ordered.epoch, ordered.offset)),
                    None => oracle.fault(format!("token {:?} was answered twice", ordered.token)),
                },
                Tell::Snapshot(snapshot) => self.snapshots.push(*snapshot),
                Tell::Announced { .. } => {}
                Tell::Drained => {
                    if std::mem::replace(&mut self.drained[shard], true) {
                        oracle.fault(format!("shard {shard} drained twice"));
                    }
                }
                // Its topic's home may keep as many topics as it can.
                Tell::Rejected { token, .. } if self.may_reject => {
                    self.said.remove(&token.who);
                }
                other => oracle.fault(format!("shard {shard} told the control thread {other:?}")),
            }
        }
    }
}
