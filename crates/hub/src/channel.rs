//! Who on this shard listens to what: channels and their members.

use std::collections::HashMap;

use moongate_io::{ConnId, Source};

use crate::gap::Heard;
use crate::slab::{Key, Slab};
use crate::{Form, Joined, Name};

/// A topic in one form, as one shard listens to it. Its home sends runs to this id; one that outlives its channel
/// reaches nobody.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChannelId(pub(crate) Key);

/// One connection's membership in one channel.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct SubscriptionId(pub(crate) Key);

/// A topic in one form on this shard, and its members. Not live until the home has confirmed it.
pub(crate) struct Channel {
    pub(crate) name: Name,
    pub(crate) form: Form,
    /// The name and the form as the bytes of its runs keep them, which may outlive it; none if nobody will ask.
    pub(crate) source: Option<Source>,
    pub(crate) live: bool,
    pub(crate) members: Vec<Member>,
    /// Bytes heard since the home was last told that the members keep up.
    pub(crate) unconfirmed: u32,
    /// Whether a member has fallen behind.
    pub(crate) behind: bool,
    /// The topic's epoch and the offset of the last message heard, once it is live.
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

/// A member: where its outbox is, and which subscription it is, to find its way back.
#[derive(Copy, Clone)]
pub(crate) struct Member {
    pub(crate) slot: u32,
    subscription: u32,
}

pub(crate) struct Subscription {
    channel: ChannelId,
    pub(crate) conn: ConnId,
    /// The index in its channel, or among those who wait to become members; kept true when others move.
    index: u32,
    waits: bool,
}

/// The channels of a shard. Joining and leaving take constant time.
pub(crate) struct Channels {
    pub(crate) channels: Slab<Channel>,
    subscriptions: Slab<Subscription>,
    /// Those who will be members once the home has answered, of channels where there are any.
    waiting: HashMap<ChannelId, Vec<Member>>,
    /// Whether messages may be dropped, and who misses them is told.
    tells: bool,
}

impl Channels {
    pub(crate) fn new(tells: bool) -> Channels {
        Channels { channels: Slab::new(), subscriptions: Slab::new(), waiting: HashMap::new(), tells }
    }

    pub(crate) fn open(&mut self, name: Name, form: Form) -> ChannelId {
        // Where each connection has a topic of its own, there is one member.
        let members = Vec::with_capacity(1);
        let source = self.tells.then(|| Source::new(Heard { name: name.clone(), form }));
        let channel = Channel {
            name,
            form,
            source,
            live: false,
            members,
            unconfirmed: 0,
            behind: false,
            epoch: 0,
            offset: 0,
        };
        ChannelId(self.channels.insert(channel))
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(id.0)
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(id.0)
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn join(&mut self, id: ChannelId, conn: ConnId) -> SubscriptionId {
        let channel = self.channels.get_mut(id.0).expect("the caller has just found or opened it");
        let index = channel.members.len() as u32;
        let key = self.subscriptions.insert(Subscription { channel: id, conn, index, waits: false });
        channel.members.push(Member { slot: conn.slot(), subscription: key.place });
        SubscriptionId(key)
    }

    /// Keeps the channel open for `conn`, which hears nothing yet.
    pub(crate) fn wait(&mut self, id: ChannelId, conn: ConnId) -> SubscriptionId {
        let waiting = self.waiting.entry(id).or_default();
        let index = waiting.len() as u32;
        let key = self.subscriptions.insert(Subscription { channel: id, conn, index, waits: true });
        waiting.push(Member { slot: conn.slot(), subscription: key.place });
        SubscriptionId(key)
    }

    /// Makes who waits a member, unless it has left.
    pub(crate) fn admit(&mut self, id: SubscriptionId) -> Option<ConnId> {
        let Subscription { channel, conn, index, waits } = *self.subscriptions.get(id.0)?;
        debug_assert!(waits, "a home answers once");
        self.stop_waiting(channel, index);
        let members = &mut self.channels.get_mut(channel.0)?.members;
        let index = members.len() as u32;
        members.push(Member { slot: conn.slot(), subscription: id.0.place });
        *self.subscriptions.get_mut(id.0)? = Subscription { channel, conn, index, waits: false };
        Some(conn)
    }

    fn stop_waiting(&mut self, id: ChannelId, index: u32) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        waiting.swap_remove(index as usize);
        if let Some(moved) = waiting.get(index as usize).copied() {
            self.moved(moved, index);
        } else if waiting.is_empty() {
            self.waiting.remove(&id);
        }
    }

    fn moved(&mut self, member: Member, index: u32) {
        let SubscriptionId(key) = self.subscription(member);
        self.subscriptions.get_mut(key).expect("a member's subscription lives").index = index;
    }

    /// The subscription of a member.
    pub(crate) fn subscription(&self, member: Member) -> SubscriptionId {
        let place = member.subscription;
        SubscriptionId(Key { place, generation: self.subscriptions.generation_at(place) })
    }

    /// The slot of who subscribed, while the subscription lasts.
    pub(crate) fn slot(&self, id: SubscriptionId) -> Option<u32> {
        self.subscriptions.get(id.0).map(|subscription| subscription.conn.slot())
    }

    /// Who a member is.
    pub(crate) fn conn(&self, member: Member) -> Option<ConnId> {
        Some(self.subscriptions.at(member.subscription as usize)?.conn)
    }

    /// The topic a subscription is to.
    pub(crate) fn name(&self, id: SubscriptionId) -> Option<&Name> {
        let subscription = self.subscriptions.get(id.0)?;
        self.get(subscription.channel).map(|channel| &channel.name)
    }

    /// Ends a subscription. Returns the channel if that was its last member: it is closed then.
    pub(crate) fn leave(&mut self, id: SubscriptionId) -> Option<Channel> {
        let left = self.subscriptions.remove(id.0)?;
        if left.waits {
            self.stop_waiting(left.channel, left.index);
        } else {
            let members = &mut self.channels.get_mut(left.channel.0)?.members;
            members.swap_remove(left.index as usize);
            if let Some(moved) = members.get(left.index as usize).copied() {
                self.moved(moved, left.index);
            }
        }
        let empty = self.get(left.channel)?.members.is_empty() && !self.waiting.contains_key(&left.channel);
        if empty { self.channels.remove(left.channel.0) } else { None }
    }

    /// The subscriptions of a channel's members.
    pub(crate) fn joined(&self, id: ChannelId) -> impl Iterator<Item = Joined> {
        let channel = self.get(id);
        let members = channel.map_or(&[][..], |channel| &channel.members);
        members.iter().filter_map(move |member| {
            let conn = self.subscriptions.at(member.subscription as usize)?.conn;
            Some(channel?.joined(conn, self.subscription(*member)))
        })
    }

    /// Closes a channel and ends its subscriptions, each of which `ended` is told.
    pub(crate) fn close(
        &mut self,
        id: ChannelId,
        mut ended: impl FnMut(ConnId, SubscriptionId),
    ) -> Option<Channel> {
        let channel = self.channels.remove(id.0)?;
        let waiting = self.waiting.remove(&id).unwrap_or_default();
        for member in channel.members.iter().chain(&waiting) {
            let id = self.subscription(*member);
            if let Some(subscription) = self.subscriptions.remove(id.0) {
                ended(subscription.conn, id);
            }
        }
        Some(channel)
    }
}

impl Channel {
    /// A subscription that begins to hear what is said now.
    pub(crate) fn joined(&self, conn: ConnId, subscription: SubscriptionId) -> Joined {
        Joined { conn, subscription, epoch: self.epoch, offset: self.offset, asked: false, recovered: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashKey;

    #[test]
    fn leaving_keeps_every_other_member_findable() {
        let mut channels = Channels::new(false);
        let id = channels.open(HashKey::new([0; 16]).name("t"), Form(0));
        let mut subscriptions: Vec<_> = (0..10).map(|slot| channels.join(id, ConnId::new(slot, 0))).collect();
        for index in [3, 0, 5, 6, 2, 1, 2, 1, 0] {
            assert!(channels.leave(subscriptions.remove(index)).is_none());
            for subscription in &subscriptions {
                let found = channels.subscriptions.get(subscription.0).expect("still subscribed");
                let member = channels.get(id).expect("open").members[found.index as usize];
                assert_eq!(member.slot, found.conn.slot());
            }
        }
        assert!(channels.leave(subscriptions[0]).is_some_and(|channel| channel.members.is_empty()));
        assert!(channels.leave(subscriptions[0]).is_none());
        assert!(channels.get(id).is_none());
    }
}
