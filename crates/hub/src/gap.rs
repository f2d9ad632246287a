//! Messages that a subscriber does not get, and how it is told.
//!
//! Who comes back too late is told by its topic's home what is missing. Who reads too slowly is told by its own shard: the
//! outbox that drops messages puts a few words in their place, which grow as more are dropped, so that they name exactly
//! what is missing and are themselves bounded. What waits may outlast its subscription, and the channel it came by; so the
//! bytes keep what the words have to name.

use std::sync::Arc;

use moongate_io::{Bytes, Meter, Places, Run, Source};

use crate::{Encode, Form, Name};

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

/// What bytes that were heard keep of where: the topic, and the form they are written in.
pub(crate) struct Heard {
    pub(crate) name: Name,
    pub(crate) form: Form,
}

/// Writes what a subscriber is told in place of messages that were dropped.
pub(crate) trait TellGap {
    /// The words, a run of their own; none if the form they would be written in has none.
    fn tell(&mut self, source: &Source, dropped: &Places) -> Option<Bytes>;
}

/// A hub's parts that this takes.
pub(crate) struct Teller<'a, E> {
    pub(crate) encoder: &'a mut E,
    pub(crate) words: &'a mut Vec<u8>,
    pub(crate) meter: &'a Meter,
}

impl<E: Encode> TellGap for Teller<'_, E> {
    fn tell(&mut self, source: &Source, dropped: &Places) -> Option<Bytes> {
        let Heard { name, form } = source.what()?;
        let Places { epoch, from, to, .. } = *dropped;
        let gap = Gap { name, epoch, from, to, previous_epoch: None };
        self.encoder.gap(*form, &gap, self.words);
        if self.words.is_empty() {
            return None;
        }
        let run = Run::gap(&self.words[..], epoch, from, to);
        self.words.clear();
        Some(Bytes::run_from(Arc::new(run), Some(source.clone()), self.meter))
    }
}

#[cfg(test)]
#[path = "gap_tests.rs"]
mod tests;
