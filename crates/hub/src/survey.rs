//! What a hub shows of itself: its topics, page by page, and its figures.

use crate::hub::Hub;
use crate::mesh::{TopicInfo, TopicsPage};
use crate::report::{SampleKind, Snapshot};
use crate::{Encode, Tell};

/// How many places one page of the list of topics looks at.
const PAGE_PLACES: u64 = 512;

impl<E: Encode> Hub<E> {
    /// The page of topics that starts at `cursor`: first those that are heard here, then those that live here.
    pub(crate) fn topics_page(&self, cursor: u64) -> TopicsPage {
        let heard = self.channels.channels.places() as u64;
        let end = heard + self.home.topics.places() as u64;
        let upto = cursor.saturating_add(PAGE_PLACES).min(end);
        let topics = (cursor..upto).filter_map(|place| self.topic_info(place, heard)).collect();
        TopicsPage { topics, next: (upto < end).then_some(upto) }
    }

    fn topic_info(&self, place: u64, heard: u64) -> Option<TopicInfo> {
        if place < heard {
            let channel = self.channels.channels.at(place as usize)?;
            let subscribers = channel.members.len() as u64;
            return Some(TopicInfo { name: channel.name.clone(), subscribers, home: None });
        }
        let topic = self.home.topics.at((place - heard) as usize)?;
        let home = Some((topic.epoch, topic.offset));
        Some(TopicInfo { name: topic.name.clone(), subscribers: 0, home })
    }

    /// Answers [`crate::Command::Snapshot`].
    pub fn report(&mut self, snapshot: Snapshot) {
        self.tell_control(Tell::Snapshot(Box::new(snapshot)));
    }

    /// Answers [`crate::Command::Drain`] at once.
    pub fn announced(&mut self, connections: usize) {
        self.tell_control(Tell::Announced { connections });
    }

    /// Answers [`crate::Command::Drain`] when nobody is left.
    pub fn drained(&mut self) {
        self.tell_control(Tell::Drained);
    }

    fn tell_control(&mut self, tell: Tell) {
        let control = self.port.shards();
        self.port.tell(control, tell);
    }

    /// Adds the hub's figures to `snapshot`.
    pub fn survey(&mut self, snapshot: &mut Snapshot) {
        let counts = &self.counts;
        let drops = self.outboxes.drops();
        snapshot.counter(
            "moongate_messages_in_total",
            "Messages published through this shard.",
            counts.published,
        );
        snapshot.counter(
            "moongate_messages_in_bytes_total",
            "Payload bytes published through this shard.",
            counts.published_bytes,
        );
        snapshot.counter(
            "moongate_messages_ordered_total",
            "Messages given their offset by this shard as the home of their topic.",
            counts.ordered,
        );
        snapshot.counter(
            "moongate_messages_rejected_total",
            "Messages their topic's home did not take: it keeps as many topics, or as many wait for subscribers, as may.",
            counts.rejected,
        );
        snapshot.counter(
            "moongate_messages_out_total",
            "Messages put into subscribers' outboxes, one for each subscriber.",
            counts.delivered,
        );
        snapshot.counter(
            "moongate_messages_out_bytes_total",
            "Encoded bytes put into subscribers' outboxes.",
            counts.delivered_bytes,
        );
        snapshot.counter(
            "moongate_runs_total",
            "Runs handed out: what a topic said in one tick in one form, once for each shard that listens.",
            counts.runs,
        );
        snapshot.counter(
            "moongate_messages_deferred_total",
            "Messages that waited for their place because a subscriber had fallen behind.",
            counts.deferred,
        );
        snapshot.gauge(
            "moongate_deferred_bytes",
            "Payload bytes of messages that wait for their place.",
            self.home.deferred_bytes,
        );
        for (outcome, value) in
            [("complete", counts.resumed - counts.resumed_with_gap), ("gap", counts.resumed_with_gap)]
        {
            snapshot.labelled(
                SampleKind::Counter,
                "moongate_resumes_total",
                "Subscribers that asked to begin earlier than now, by whether anything they asked for was missing.",
                &[("outcome", outcome)],
                value as f64,
            );
        }
        snapshot.counter(
            "moongate_messages_replayed_total",
            "Messages put into outboxes of subscribers that came back, one for each subscriber.",
            counts.replayed,
        );
        snapshot.counter(
            "moongate_messages_replayed_bytes_total",
            "Encoded bytes put into outboxes of subscribers that came back.",
            counts.replayed_bytes,
        );
        let histories = &self.home.histories;
        snapshot.counter(
            "moongate_replay_encodings_total",
            "Kept messages encoded for subscribers that came back: once in each form for all of them.",
            histories.encoded,
        );
        snapshot.gauge(
            "moongate_history_bytes",
            "Bytes of messages kept for subscribers that come back, with what it takes to keep them.",
            histories.kept_bytes,
        );
        snapshot.gauge(
            "moongate_replay_bytes",
            "Bytes of kept messages as subscribers that came back were sent them, for others that do.",
            histories.written_bytes,
        );
        snapshot.counter(
            "moongate_history_shed_total",
            "Kept messages forgotten before their time because memory was short.",
            histories.shed,
        );
        let sends = self.outboxes.sends();
        snapshot.counter(
            "moongate_sends_total",
            "Sends handed to the kernel. Messages out per send say how well merging works.",
            sends.sends,
        );
        snapshot.counter(
            "moongate_send_segments_total",
            "Runs and answers in those sends: one run may be many messages, and a send many runs.",
            sends.segments,
        );
        for (reason, value) in [("outbox_full_cut", counts.cut), ("outbox_full_dropped", drops.messages)] {
            snapshot.labelled(
                SampleKind::Counter,
                "moongate_messages_dropped_total",
                "Messages that a subscriber did not get, by reason.",
                &[("reason", reason)],
                value as f64,
            );
        }
        snapshot.gauge("moongate_subscriptions", "Subscriptions.", self.channels.subscriptions() as u64);
        snapshot.gauge("moongate_topics", "Topics whose home this shard is.", self.home.topics.len() as u64);
        snapshot.counter(
            "moongate_topics_forgotten_total",
            "Topics forgotten because nobody heard or spoke to them any more.",
            self.home.forgotten,
        );
        snapshot.gauge(
            "moongate_outbox_bytes",
            "Bytes waiting in all outboxes.",
            self.outboxes.waiting_bytes(),
        );
        snapshot.gauge(
            "moongate_outboxes_dirty",
            "Outboxes with something to send and no send in flight.",
            self.outboxes.dirty_count() as u64,
        );
        snapshot.gauge("moongate_lanes_unread", "Asks and tells unread in lanes.", self.port.unread() as u64);
        snapshot.gauge(
            "moongate_lanes_waiting",
            "Asks and tells that found their lane full and wait for room.",
            self.port.waiting() as u64,
        );
    }
}
