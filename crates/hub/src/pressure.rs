//! Back-pressure: how publishers wait for subscribers that fall behind.
//!
//! A topic's home goes ahead of each shard that listens by so many bytes and no more. A shard confirms what it has
//! handed out, but not while one of its subscribers is *behind*: while more than half of what may wait for it does. So
//! what a topic says beyond that half is bounded whoever publishes from wherever, and fits into the other half. What the
//! home may not order yet is *deferred*; its publishers' windows stay taken, and they are not read from.
//!
//! Nobody waits for a subscriber that the kernel took nothing for in [`OutboxLimits::slow_reader_timeout`]: the outbox
//! policy decides what becomes of it.
//!
//! [`OutboxLimits::slow_reader_timeout`]: crate::OutboxLimits::slow_reader_timeout

use crate::home::{Audience, Deferred};
use crate::hub::{Hub, Publisher};
use crate::mesh::{Ask, Patience, Publish};
use crate::slab::Key;
use crate::{ChannelId, Encode, Rejection, SubscriptionId};

/// A channel with members that are behind, or were when last looked at.
pub(crate) struct Behind {
    channel: ChannelId,
    members: Vec<SubscriptionId>,
}

impl<E: Encode> Hub<E> {
    // On the shards that listen.

    /// A channel has heard `bytes` up to the message at `last`, with which these of its members fell behind.
    pub(crate) fn heard(
        &mut self,
        id: ChannelId,
        last: (u64, u64),
        bytes: usize,
        members: Vec<SubscriptionId>,
    ) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        (channel.epoch, channel.offset) = last;
        channel.unconfirmed = channel.unconfirmed.saturating_add(bytes as u32);
        self.fell_behind(id, members);
        self.confirm(id);
    }

    /// These members of a channel fell behind.
    pub(crate) fn fell_behind(&mut self, id: ChannelId, members: Vec<SubscriptionId>) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        if !members.is_empty() {
            if !std::mem::replace(&mut channel.behind, true) {
                self.behind.push(Behind { channel: id, members });
            } else if let Some(behind) = self.behind.iter_mut().find(|behind| behind.channel == id) {
                behind.members.extend(members);
            }
        }
    }

    /// Looks whether those who were behind still are.
    pub(crate) fn look_behind(&mut self) {
        let mut index = 0;
        while index < self.behind.len() {
            if self.is_behind(index) {
                index += 1;
                continue;
            }
            let id = self.behind.swap_remove(index).channel;
            if let Some(channel) = self.channels.get_mut(id) {
                channel.behind = false;
            }
            self.confirm(id);
        }
    }

    /// One who is behind is enough: the others need not be looked at.
    fn is_behind(&mut self, index: usize) -> bool {
        let members = &mut self.behind[index].members;
        while let Some(last) = members.last() {
            // Who has left is not waited for.
            if self.channels.slot(*last).is_some_and(|slot| self.outboxes.is_behind(slot)) {
                return true;
            }
            members.pop();
        }
        false
    }

    /// Tells the home that a channel's members keep up, each time that they have heard so much that it matters.
    fn confirm(&mut self, id: ChannelId) {
        let worth = (self.ahead_bytes_max / 2).max(1);
        let Some(channel) = self.channels.get_mut(id) else { return };
        if channel.behind || channel.unconfirmed < worth {
            return;
        }
        let bytes = std::mem::take(&mut channel.unconfirmed);
        let (name, form) = (channel.name.clone(), channel.form);
        let home = name.home(self.port.shards());
        if home == self.port.me() {
            self.home.confirm(&name, &Audience::new(form, home, id), bytes);
        } else {
            self.port.ask(home, Ask::Confirm { name, form, channel: id, bytes });
        }
    }

    // At the topic's home.

    /// Lets a message of `from` wait for its place.
    pub(crate) fn defer(&mut self, from: usize, topic: Key, publish: Publish) -> Result<(), Rejection> {
        let full = self.home.deferred_in(topic) >= u64::from(self.outboxes.limits().outbox_bytes_max);
        if full && publish.patience == Patience::Leaves {
            return Err(Rejection::Busy);
        }
        self.counts.deferred += 1;
        self.home.defer(topic, Deferred { from, publish });
        Ok(())
    }

    /// Gives deferred messages their place as far as their audiences have confirmed, first come first served.
    pub(crate) fn order_deferred(&mut self) {
        while self.port.has_room() {
            let Some((topic, Deferred { from, publish })) = self.home.next_deferred() else { return };
            let Publish { token, kind, payload, excluded, .. } = publish;
            self.order(Publisher { from, token, excluded }, topic, kind, payload.into_vec().into());
        }
    }

    /// Payload bytes of messages that wait for their place here.
    pub fn deferred_bytes(&self) -> u64 {
        self.home.deferred_bytes
    }
}

#[cfg(test)]
#[path = "pressure_tests.rs"]
mod tests;
