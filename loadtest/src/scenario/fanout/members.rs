//! Who listens, and whether each hears what it must.

use std::mem;
use std::ops::Range;

use super::{Options, Role};
use crate::control::{Control, Progress};
use crate::dialect::Format;
use crate::pattern::{Pattern, Stamp};
use crate::report::Part;
use crate::scenario::{Place, Scene, format_of, read_message};
use crate::verify::{Receiver, Verdict};

/// Those of a thread, by their links' index.
pub(super) struct Members {
    list: Vec<Member>,
    /// The links of others among theirs.
    others: Range<u32>,
    /// How many are on their way out or in.
    away: u32,
    /// What the others were not told of.
    progress: Progress,
}

struct Member {
    number: u32,
    topic: u32,
    role: Role,
    receiver: Receiver,
    /// Whether the server has cut it, so that nothing more will come.
    is_cut: bool,
}

impl Members {
    pub(super) fn new(options: &Options, place: Place) -> Members {
        let member = |index| {
            let number = place.number(index);
            let topic = options.topic(number);
            let receiver = Receiver::new(options.share(options.publishers, topic));
            Member { number, topic, role: options.role(number), receiver, is_cut: false }
        };
        let others = place.count_below(options.subscribers)..place.count_below(place.links);
        let end = place.count_below(place.links + options.publishers - options.posters);
        let list = (0..others.start).chain(others.end..end).map(member).collect();
        Members { list, others, away: 0, progress: Progress::default() }
    }

    fn get(&mut self, link: u32) -> &mut Member {
        let index = if link < self.others.start { link } else { link - self.others.len() as u32 };
        &mut self.list[index as usize]
    }

    /// What has happened since this was asked for last.
    pub(super) fn take_progress(&mut self) -> Progress {
        mem::take(&mut self.progress)
    }

    /// Takes a message. How many deliveries need not be waited for any more.
    pub(super) fn hear(
        &mut self,
        link: u32,
        format: Format,
        payload: &[u8],
        options: &Options,
        pattern: &mut Pattern,
        scene: &mut Scene<'_>,
    ) -> u64 {
        let Member { number, topic, role, receiver, .. } = self.get(link);
        let part = &mut *scene.part;
        let expect = format_of(options.text);
        let read = read_message(pattern, expect, format, payload, &options.manner, part, *number);
        let Some(Stamp { publisher, sequence, time }) = read else { return 0 };
        if publisher >= options.publishers || publisher % options.topics != *topic {
            part.faults.corrupted += 1;
            part.faults.name(|| {
                format!(
                    "corrupted: receiver {number} on topic {topic} heard publisher {publisher} of another"
                )
            });
            return 0;
        }
        let latency = scene.now.saturating_sub(time);
        match role {
            Role::Steady | Role::Mover => part.latency.record(latency),
            Role::Slow => part.found.time("slow", latency),
        }
        let came = match receiver.hear(publisher / options.topics, sequence) {
            Verdict::Next => 1,
            // Those skipped will not come, or late; either way nobody waits for them.
            Verdict::Skipped(count) => 1 + count,
            Verdict::Late => {
                part.faults.reordered += 1;
                part.faults.name(|| {
                    let which = which(publisher, sequence, *number);
                    format!("reordered: {which} came after a later one")
                });
                return 0;
            }
            Verdict::Again => {
                part.faults.doubled += 1;
                part.faults.name(|| format!("doubled: {} came again", which(publisher, sequence, *number)));
                return 0;
            }
        };
        match role {
            Role::Steady => self.progress.heard += came,
            // Nobody counts on these, so that they are due when they come.
            Role::Slow | Role::Mover => {
                self.progress.due += 1;
                self.progress.heard += 1;
            }
        }
        came
    }

    /// Takes note that a mover is about to leave.
    pub(super) fn bid_farewell(&mut self) {
        self.away += 1;
    }

    /// Takes note that a mover has come: it must hear all that is sent from now on.
    pub(super) fn join(&mut self, link: u32, options: &Options, place: Place, control: &Control) {
        self.away = self.away.saturating_sub(1);
        let member = self.get(link);
        // What is counted as sent may not be on its way yet, and what is not counted certainly is not. Another process
        // does not know how much was sent.
        let sent = if place.is_alone { control.published() } else { u64::MAX };
        member.receiver = Receiver::joining(options.of_topic_after(sent, member.topic));
    }

    /// Takes note that a mover has left.
    pub(super) fn leave(&mut self, link: u32, part: &mut Part) {
        let member = self.get(link);
        let (lost, first) = member.receiver.skipped();
        part.faults.lost += lost;
        if let Some((of_topic, sequence)) = first {
            let number = member.number;
            part.faults.name(|| {
                format!(
                    "lost: {lost} messages at receiver {number} before it left, first message {sequence} of \
                     publisher {of_topic} of its topic"
                )
            });
        }
        // Until it joins again it has nothing to hear.
        member.receiver = Receiver::new(0);
    }

    /// Takes note that the server has cut a link. How many deliveries will not come to it.
    pub(super) fn cut(&mut self, link: u32, options: &Options, totals: Option<&[u64]>) -> u64 {
        let member = self.get(link);
        member.is_cut = true;
        let behind = totals.map(|totals| member.receiver.behind(options.of_topic(totals, member.topic)));
        behind.unwrap_or(0)
    }

    /// Whether nobody is on the way out or in.
    pub(super) fn are_all_there(&self) -> bool {
        self.away == 0
    }

    /// How many deliveries are to come, of so many that each publisher has sent.
    pub(super) fn behind(&self, options: &Options, totals: &[u64]) -> u64 {
        let there = self.list.iter().filter(|member| !member.is_cut);
        there.map(|member| member.receiver.behind(options.of_topic(totals, member.topic))).sum()
    }

    /// At the end: what is missing.
    pub(super) fn report(&mut self, options: &Options, totals: &[u64], part: &mut Part) {
        for Member { number, topic, role, receiver, .. } in &self.list {
            let (lost, first) = receiver.lost(options.of_topic(totals, *topic));
            match role {
                Role::Slow if options.losses_allowed => part.found.count("messages missed by the slow", lost),
                Role::Mover if options.losses_allowed => part.found.count("messages missed by others", lost),
                Role::Steady if options.losses_allowed => {
                    part.found.count("messages missed by others", lost);
                    part.found.missed += lost;
                }
                _ => {
                    part.faults.lost += lost;
                    if let Some((of_topic, sequence)) = first {
                        let publisher = of_topic * options.topics + topic;
                        part.faults.name(|| {
                            format!(
                                "lost: {lost} messages at receiver {number}, first message {sequence} of publisher \
                                 {publisher}"
                            )
                        });
                    }
                }
            }
            // Who missed something heard another order; who joined late too.
            if *role != Role::Mover && !(options.losses_allowed && lost > 0) {
                part.add_order(*topic, *number, receiver.order());
            }
        }
    }
}

fn which(publisher: u32, sequence: u64, receiver: u32) -> String {
    format!("message {sequence} of publisher {publisher} at receiver {receiver}")
}
