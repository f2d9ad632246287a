//! Messages that a subscriber does not get, and how it is told.
//!
//! Who comes back too late is told by its topic's home what is missing. Who reads too slowly is told by its own shard: the
//! outbox that drops messages puts a few words in their place, which grow as more are dropped, so that they name exactly
//! what is missing and are themselves bounded.

use std::sync::Arc;

use moongate_io::{Bytes, Meter, Places, Run};

use crate::channel::Channels;
use crate::{ChannelId, Encode, Name};

/// Messages that a subscriber does not get.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Gap<'a> {
    /// The topic.
    pub name: &'a Name,
    /// Its epoch.
    pub epoch: u64,
    /// The offset of the first.
    pub from: u64,
    /// The offset of the last; one less than `from` if nothing of this epoch is missing.
    pub to: u64,
    /// The epoch the subscriber asked to go on with, if it is another: what was said to its end is missing too.
    pub previous_epoch: Option<u64>,
}

/// Writes what a subscriber is told in place of messages that were dropped.
pub(crate) trait TellGap {
    /// The words, a run of their own; none if its form has none, or it does not hear the topic any more.
    fn tell(&mut self, dropped: &Places) -> Option<Bytes>;
}

/// A hub's parts that this takes.
pub(crate) struct Teller<'a, E> {
    pub(crate) channels: &'a Channels,
    pub(crate) encoder: &'a mut E,
    pub(crate) words: &'a mut Vec<u8>,
    pub(crate) meter: &'a Meter,
}

impl<E: Encode> TellGap for Teller<'_, E> {
    fn tell(&mut self, dropped: &Places) -> Option<Bytes> {
        let Places { source, epoch, from, to, .. } = *dropped;
        let channel = self.channels.get(ChannelId::of_source(source))?;
        let gap = Gap { name: &channel.name, epoch, from, to, previous_epoch: None };
        self.encoder.gap(channel.form, &gap, self.words);
        if self.words.is_empty() {
            return None;
        }
        let run = Run::gap(&self.words[..], epoch, from, to);
        self.words.clear();
        Some(Bytes::run_from(Arc::new(run), source, self.meter))
    }
}

/// What one policy dropped in one go, by topic.
#[derive(Default)]
pub(crate) struct Dropped(Vec<Places>);

impl Dropped {
    /// Adds messages, or a gap that goes because it becomes part of a greater one.
    pub(crate) fn add(&mut self, places: Places) {
        let same = |other: &&mut Places| (other.source, other.epoch) == (places.source, places.epoch);
        match self.0.iter_mut().find(same) {
            Some(other) => {
                other.from = other.from.min(places.from);
                other.to = other.to.max(places.to);
            }
            None => self.0.push(places),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Places> {
        self.0.iter()
    }
}
