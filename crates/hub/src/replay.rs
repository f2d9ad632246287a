//! Coming back to a topic: where a subscriber begins to hear, and what it is told of what it missed.
//!
//! Who asks to begin earlier than now is not yet a member of its channel. It becomes one when the home's answer comes,
//! which stands in the lane between the runs it covers and those it does not: so nothing is missed and nothing heard
//! twice, while messages keep arriving and wherever the home is.

use std::collections::HashMap;
use std::sync::Arc;

use moongate_io::{Bytes, ConnId, Meter, Run, Segment, Source, WeakBytes};

use crate::hub::Hub;
use crate::mesh::Ask;
use crate::{ChannelId, Encode, Form, Gap, Name, SubscriptionId};

/// Where a subscriber begins to hear a topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// With what is said from now on.
    Now,
    /// With the oldest message that is kept.
    AllKept,
    /// With what came after this message.
    After {
        /// The epoch it was said in; 0 for one that cannot be known.
        epoch: u64,
        /// Its offset in it.
        offset: u64,
    },
}

/// What became of a subscribe.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Subscribed {
    /// From now on the connection's outbox gets all that is said.
    Now(Joined),
    /// The topic's home is asked; [`Hub::take_joined`] or [`Hub::take_refused`] will name the subscription.
    Later(SubscriptionId),
}

/// A subscription that has begun.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    /// Who subscribed; it may have left since.
    pub conn: ConnId,
    /// Its subscription.
    pub subscription: SubscriptionId,
    /// The topic's epoch.
    pub epoch: u64,
    /// The offset of the last message before those that are heard as they are said.
    pub offset: u64,
    /// Whether it asked to begin earlier than now.
    pub asked: bool,
    /// Whether it asked, and has missed nothing since then.
    pub recovered: bool,
}

/// How many replayed runs are known before those that are gone are looked for.
const SWEEP_AT_MIN: usize = 64;

/// What a home answers to [`Ask::Replay`].
#[derive(Debug)]
pub struct Replayed {
    pub(crate) epoch: u64,
    /// The offset of the topic's last message.
    pub(crate) offset: u64,
    /// The offset of the first message to be heard again.
    pub(crate) from: u64,
    /// What is heard again, perhaps with messages before it.
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) missing: Option<Missing>,
}

/// What a subscriber that comes back has missed: see [`Gap`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Missing {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) previous_epoch: Option<u64>,
}

/// Runs of replays that this shard has heard, as its own bytes: the same for all who come back, so that they are counted
/// once.
#[derive(Default)]
pub(crate) struct Replays {
    /// The address names a run as long as somebody holds it, which its bytes do.
    known: HashMap<(ChannelId, usize), WeakBytes>,
    /// How many to know before looking which of them are gone.
    sweep_at: usize,
}

impl Replays {
    fn shared(&mut self, id: ChannelId, source: Option<Source>, run: &Arc<Run>, meter: &Meter) -> Bytes {
        let place = (id, Arc::as_ptr(run) as usize);
        if let Some(bytes) = self.known.get(&place).and_then(WeakBytes::upgrade) {
            return bytes;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, bytes| bytes.upgrade().is_some());
            self.sweep_at = (2 * self.known.len()).max(SWEEP_AT_MIN);
        }
        let bytes = Bytes::run_from(Arc::clone(run), source, meter);
        self.known.insert(place, bytes.downgrade());
        bytes
    }
}

impl<E: Encode> Hub<E> {
    // On the shards that listen.

    /// Lets `conn` hear what is said to `name` from `start` on, written in `form`.
    pub fn subscribe(&mut self, conn: ConnId, name: Name, form: Form, start: Start) -> Subscribed {
        let id = self.channel(&name, form);
        if start != Start::Now {
            let subscription = self.channels.wait(id, conn);
            let home = name.home(self.port.shards());
            self.port.ask(home, Ask::Replay { name, form, channel: id, subscription, start });
            return Subscribed::Later(subscription);
        }
        let subscription = self.channels.join(id, conn);
        match self.channels.get(id) {
            Some(channel) if channel.live => Subscribed::Now(channel.joined(conn, subscription)),
            _ => Subscribed::Later(subscription),
        }
    }

    /// The home has confirmed a channel: its members hear what is said after `offset`.
    pub(crate) fn confirmed(&mut self, id: ChannelId, epoch: u64, offset: u64) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.live = true;
        (channel.epoch, channel.offset) = (epoch, offset);
        let joined: Vec<Joined> = self.channels.joined(id).collect();
        for joined in joined {
            self.greet(id, joined);
            self.joined.push(joined);
        }
    }

    /// The home has answered who came back.
    pub(crate) fn replayed(&mut self, id: ChannelId, subscription: SubscriptionId, replayed: &Replayed) {
        let Some(conn) = self.channels.admit(subscription) else { return };
        let Replayed { epoch, offset, missing, .. } = *replayed;
        let joined = Joined { conn, subscription, epoch, offset, asked: true, recovered: missing.is_none() };
        self.greet(id, joined);
        self.counts.resumed += 1;
        if let Some(missing) = missing {
            self.counts.resumed_with_gap += 1;
            self.tell_missing(id, conn, epoch, missing);
        }
        for run in &replayed.runs {
            self.say_again(id, joined, run, replayed.from);
        }
        self.joined.push(joined);
    }

    /// Puts what `run` has from the offset `from` on into the outbox of who came back.
    fn say_again(&mut self, id: ChannelId, joined: Joined, run: &Arc<Run>, from: u64) {
        let source = self.channels.get(id).and_then(|channel| channel.source.clone());
        let mut segment = Segment::whole(self.replays.shared(id, source, run, &self.meter));
        if let Some(before) = from.checked_sub(run.place().1).filter(|before| *before > 0) {
            segment.advance(run.ends()[before as usize - 1] as usize);
        }
        let (messages, bytes) = (segment.messages() as u64, segment.len() as u64);
        if self.offer(id, joined.conn.slot(), joined.subscription, segment) {
            self.counts.replayed += messages;
            self.counts.replayed_bytes += bytes;
        }
    }

    fn greet(&mut self, id: ChannelId, joined: Joined) {
        let Some(channel) = self.channels.get(id) else { return };
        self.home.encoder.joined(channel.form, &channel.name, &joined, &mut self.words);
        self.push_words(joined.conn);
    }

    fn tell_missing(&mut self, id: ChannelId, conn: ConnId, epoch: u64, missing: Missing) {
        let Some(channel) = self.channels.get(id) else { return };
        let Missing { from, to, previous_epoch } = missing;
        let gap = Gap { name: &channel.name, epoch, from, to, previous_epoch };
        self.home.encoder.gap(channel.form, &gap, &mut self.words);
        self.push_words(conn);
    }

    fn push_words(&mut self, conn: ConnId) {
        if !self.words.is_empty() {
            self.outboxes.push(conn.slot(), Bytes::own(&self.words[..], &self.meter));
            self.words.clear();
        }
    }
}
