//! One shard's hub: subscriptions, publishing, and its share of the mesh's work in every tick.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moongate_io::{Bytes, ConnId, Excluded, Meter, Run, Segment, Time};

use crate::channel::{Channels, Member};
use crate::gap::Teller;
use crate::home::{Audience, Home, Limits, Sealed};
use crate::mesh::{Ask, Ordered, Patience, Publish, Rejection, ShardPort, Tell, Token, UpstreamAddresses};
use crate::name::CarriedHash;
use crate::outbox::Delivered;
use crate::pressure::Behind;
use crate::replay::Replays;
use crate::slab::Key;
use crate::{
    ChannelId, Encode, Form, HistoryLimits, Joined, Kind, Name, OutboxLimits, OutboxPolicy, Outboxes, Start,
    SubscriptionId,
};

/// A hub's limits.
#[derive(Copy, Clone, Debug)]
pub struct Config {
    /// How many topics may have their home here.
    pub topics_max: usize,
    /// How long a topic that nobody hears and nobody speaks to is remembered.
    pub topic_linger: Duration,
    /// What topics keep for who comes back.
    pub history: HistoryLimits,
    /// The limits of every subscriber's outbox.
    pub outbox: OutboxLimits,
}

/// A run is sealed when another message would take it past this many bytes.
const RUN_BYTES_MAX: usize = 64 * 1024;

/// How often to look at subscribers that are behind when nothing happens.
const LOOK_BEHIND_EVERY: Duration = Duration::from_millis(10);

/// How many topics without audience, and how many histories, are looked at in one tick.
const FORGET_BUDGET: usize = 64;

/// How many subscribers that come back one tick answers.
const REPLAYS_BUDGET: usize = 16;

/// How many bytes one tick writes for them before the others have to wait.
const REPLAYS_WRITTEN_BUDGET: usize = 64 * 1024;

/// What became of a publish.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Published {
    /// It is on its way; [`Hub::take_ordered`] or [`Hub::take_rejected`] will name its token, at the end of this tick
    /// or later.
    Pending,
    /// The home does not take it.
    Rejected(Rejection),
}

/// Something the control thread asks of the shard rather than of its hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Answer with [`Hub::survey`] by [`Hub::report`].
    Snapshot,
    /// Begin to drain: call [`Hub::announced`], and when done [`Hub::drained`].
    Drain,
    /// Do not wait for the drain delay.
    Leave,
    /// The addresses of an upstream's name have changed.
    Upstreams(UpstreamAddresses),
    /// Leave the loop.
    Stop,
}

/// A shard's topics, channels and outboxes, and its port in the mesh.
pub struct Hub<E> {
    /// What waits for each connection.
    pub outboxes: Outboxes,
    pub(crate) port: ShardPort,
    pub(crate) home: Home<E>,
    pub(crate) channels: Channels,
    places: HashMap<(Name, Form), ChannelId, CarriedHash>,
    pub(crate) meter: Meter,
    /// Where what is told to one subscriber is written before it is pushed.
    pub(crate) words: Vec<u8>,
    now: Time,
    /// Epochs are this plus a multiple of an odd number: random, and different as long as the process lives.
    epoch_base: u64,
    epochs_drawn: u64,
    /// Audiences to be admitted once this tick's runs are sealed, so that they hear only what comes after.
    changes: VecDeque<Change>,
    /// Subscribers to be told what is kept, each after its channel's admission.
    returning: VecDeque<Returning>,
    pub(crate) replays: Replays,
    sealed: Vec<Sealed>,
    /// Places given in this tick, whose publishers are yet to be told.
    placed: Vec<Placed>,
    /// Channels whose homes are not told that their members keep up.
    pub(crate) behind: Vec<Behind>,
    pub(crate) ahead_bytes_max: u32,
    pub(crate) joined: Vec<Joined>,
    refused: Vec<(ConnId, SubscriptionId, Rejection)>,
    ordered: Vec<Ordered>,
    rejected: Vec<(Token, u32, Rejection)>,
    pub(crate) overflowed: Vec<u32>,
    commands: VecDeque<Command>,
    pub(crate) counts: Counts,
}

enum Change {
    Admit { topic: Key, audience: Audience },
    Dismiss { name: Name, form: Form, shard: u16 },
}

/// A subscriber that wants to begin earlier than now, and its shard.
struct Returning {
    topic: Key,
    form: Form,
    from: usize,
    channel: ChannelId,
    subscription: SubscriptionId,
    start: Start,
}

/// Who said a message.
#[derive(Copy, Clone)]
pub(crate) struct Publisher {
    /// Which participant.
    pub(crate) from: usize,
    pub(crate) token: Token,
    pub(crate) excluded: Option<ConnId>,
}

/// A message that has its place, and who is to be told.
struct Placed {
    from: usize,
    topic: Key,
    ordered: Ordered,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) published_bytes: u64,
    pub(crate) ordered: u64,
    pub(crate) rejected: u64,
    pub(crate) deferred: u64,
    pub(crate) runs: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) cut: u64,
    pub(crate) resumed: u64,
    pub(crate) resumed_with_gap: u64,
    pub(crate) replayed: u64,
    pub(crate) replayed_bytes: u64,
}

impl<E: Encode> Hub<E> {
    /// A hub at `port` that writes messages with `encoder`. `meter` counts the runs it keeps alive; `epoch_base` is
    /// random, so that no epoch comes back after a restart.
    pub fn new(config: &Config, encoder: E, port: ShardPort, meter: Meter, epoch_base: u64) -> Hub<E> {
        // An empty outbox takes any one run, so a run must not be much of what a subscriber may have waiting.
        let run_bytes_max = RUN_BYTES_MAX.min(config.outbox.outbox_bytes_max as usize / 4);
        // What a subscriber that is not yet behind may still be sent fits into the half of its outbox that is left.
        let ahead_bytes_max = (config.outbox.outbox_bytes_max / 4).max(1);
        let limits = Limits {
            topics_max: config.topics_max,
            run_bytes_max,
            ahead_bytes_max,
            topic_linger: config.topic_linger,
            history: config.history,
            // With what is said meanwhile, and what else may wait there, it must fit into an outbox.
            replay_bytes_max: config.outbox.outbox_bytes_max as usize / 2,
        };
        Hub {
            outboxes: Outboxes::new(config.outbox),
            port,
            home: Home::new(encoder, limits),
            channels: Channels::new(config.outbox.policy != OutboxPolicy::Cut),
            places: HashMap::default(),
            meter,
            words: Vec::new(),
            now: Time::ZERO,
            epoch_base,
            epochs_drawn: 0,
            changes: VecDeque::new(),
            returning: VecDeque::new(),
            replays: Replays::default(),
            sealed: Vec::new(),
            placed: Vec::new(),
            behind: Vec::new(),
            ahead_bytes_max,
            joined: Vec::new(),
            refused: Vec::new(),
            ordered: Vec::new(),
            rejected: Vec::new(),
            overflowed: Vec::new(),
            commands: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// This shard's number.
    pub fn shard(&self) -> usize {
        self.port.me()
    }

    /// What messages are written with.
    pub fn encoder(&mut self) -> &mut E {
        &mut self.home.encoder
    }

    /// Begins a tick at `now`.
    pub fn begin(&mut self, now: Time) {
        self.now = now;
        self.outboxes.begin(now);
    }

    /// The name `text` with its hash.
    pub fn name(&self, text: &str) -> Name {
        self.port.name(text)
    }

    // Subscribing.

    /// The channel of `name` in `form`, which asks the home to be one where it is new.
    pub(crate) fn channel(&mut self, name: &Name, form: Form) -> ChannelId {
        let place = (name.clone(), form);
        if let Some(id) = self.places.get(&place) {
            return *id;
        }
        let id = self.channels.open(name.clone(), form);
        self.places.insert(place, id);
        let home = name.home(self.port.shards());
        self.port.ask(home, Ask::Subscribe { name: name.clone(), form, channel: id });
        id
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        let Some(channel) = self.channels.leave(id) else { return };
        let (name, form) = (channel.name, channel.form);
        self.places.remove(&(name.clone(), form));
        let home = name.home(self.port.shards());
        self.port.ask(home, Ask::Unsubscribe { name, form });
    }

    /// The topic a subscription is to.
    pub fn subscribed_name(&self, id: SubscriptionId) -> Option<Name> {
        self.channels.name(id).cloned()
    }

    // Publishing.

    /// Says `payload` to `name`. The place it is given, once it is, carries `token`. The connection `excluded` of this
    /// shard does not hear it.
    pub fn publish(
        &mut self,
        token: Token,
        name: &Name,
        kind: Kind,
        payload: &[u8],
        patience: Patience,
        excluded: Option<ConnId>,
    ) -> Published {
        self.counts.published += 1;
        self.counts.published_bytes += payload.len() as u64;
        let (home, me) = (name.home(self.port.shards()), self.port.me());
        let publish =
            || Publish { name: name.clone(), kind, payload: payload.into(), token, patience, excluded };
        if home != me || self.port.asks_itself() || !self.port.has_room() {
            self.port.ask(home, Ask::Publish(publish()));
            return Published::Pending;
        }
        let topic = match self.enter(name) {
            Ok(topic) => topic,
            Err(why) => return Published::Rejected(why),
        };
        if self.home.must_defer(topic) {
            return self
                .defer(me, topic, publish())
                .map_or_else(Published::Rejected, |()| Published::Pending);
        }
        self.order(Publisher { from: me, token, excluded }, topic, kind, payload.into());
        Published::Pending
    }

    /// A message from `from` reaches the home of its topic.
    fn place(&mut self, from: usize, publish: Publish) -> Result<(), Rejection> {
        let topic = self.enter(&publish.name)?;
        if self.home.must_defer(topic) {
            return self.defer(from, topic, publish);
        }
        let publisher = Publisher { from, token: publish.token, excluded: publish.excluded };
        self.order(publisher, topic, publish.kind, publish.payload.into_vec().into());
        Ok(())
    }

    /// Orders a message of this home. Its publisher is told when the tick's runs have been handed out.
    pub(crate) fn order(&mut self, publisher: Publisher, topic: Key, kind: Kind, payload: Cow<'_, [u8]>) {
        let bytes = payload.len() as u32;
        let Publisher { from, token, excluded } = publisher;
        let excluded = excluded.map(|conn| (from as u16, conn));
        let (epoch, offset) = self.home.order(topic, kind, payload, excluded, self.now, &mut self.sealed);
        self.counts.ordered += 1;
        if !self.sealed.is_empty() {
            self.send_sealed();
        }
        let mut ordered = Ordered { token, epoch, offset, bytes };
        match self.placed.last_mut() {
            // A publisher with much to say gets one answer for what it said in a row.
            Some(last) if (last.from, last.topic, last.ordered.token) == (from, topic, token) => {
                ordered.bytes = ordered.bytes.saturating_add(last.ordered.bytes);
                last.ordered = ordered;
            }
            _ => self.placed.push(Placed { from, topic, ordered }),
        }
    }

    fn enter(&mut self, name: &Name) -> Result<Key, Rejection> {
        let (drawn, base) = (&mut self.epochs_drawn, self.epoch_base);
        self.home.enter(name, self.now, || {
            *drawn += 1;
            base.wrapping_add(drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        })
    }

    // The tick's share of the mesh.

    /// Handles all tells, then at most `budget` asks while tells have room. True if there may be more to do.
    pub fn exchange(&mut self, budget: usize) -> bool {
        self.port.push_waiting();
        for from in 0..=self.port.shards() {
            while let Some(tell) = self.port.next_tell(from) {
                self.hear(tell);
            }
        }
        self.look_behind();
        for _ in 0..budget {
            if !self.port.has_room() {
                return false;
            }
            let Some((from, ask)) = self.port.next_ask() else { return false };
            self.answer(from, ask);
        }
        true
    }

    fn hear(&mut self, tell: Tell) {
        match tell {
            Tell::Ordered(ordered) => self.ordered.push(ordered),
            Tell::Rejected { token, bytes, why } => {
                self.counts.rejected += 1;
                self.rejected.push((token, bytes, why));
            }
            Tell::Subscribed { channel, epoch, offset } => self.confirmed(channel, epoch, offset),
            Tell::Replayed { channel, subscription, replayed } => {
                self.replayed(channel, subscription, &replayed);
            }
            Tell::Refused { channel, why } => {
                let refused = &mut self.refused;
                let closed = self.channels.close(channel, |conn, id| refused.push((conn, id, why)));
                if let Some(closed) = closed {
                    self.places.remove(&(closed.name, closed.form));
                }
            }
            Tell::Run { channel, run } => self.deliver(channel, run),
            Tell::Topics(_) | Tell::Snapshot(_) | Tell::Announced { .. } | Tell::Drained => {
                unreachable!("only the control thread asks for these")
            }
        }
    }

    fn answer(&mut self, from: usize, ask: Ask) {
        match ask {
            Ask::Publish(publish) => {
                let (token, bytes) = (publish.token, publish.payload.len() as u32);
                if let Err(why) = self.place(from, publish) {
                    self.tell(from, Tell::Rejected { token, bytes, why });
                }
            }
            Ask::Subscribe { name, form, channel } => match self.enter(&name) {
                Ok(topic) => {
                    let audience = Audience::new(form, from, channel);
                    self.changes.push_back(Change::Admit { topic, audience });
                }
                Err(why) => self.tell(from, Tell::Refused { channel, why }),
            },
            Ask::Replay { name, form, channel, subscription, start } => match self.enter(&name) {
                Ok(topic) => {
                    let returning = Returning { topic, form, from, channel, subscription, start };
                    self.returning.push_back(returning);
                }
                Err(why) => self.tell(from, Tell::Refused { channel, why }),
            },
            Ask::Unsubscribe { name, form } => {
                self.changes.push_back(Change::Dismiss { name, form, shard: from as u16 });
            }
            Ask::Confirm { name, form, channel, bytes } => {
                self.home.confirm(&name, &Audience::new(form, from, channel), bytes);
            }
            Ask::Topics(cursor) => {
                let page = self.topics_page(cursor);
                self.tell(from, Tell::Topics(Box::new(page)));
            }
            Ask::Snapshot => self.commands.push_back(Command::Snapshot),
            Ask::Drain => self.commands.push_back(Command::Drain),
            Ask::Leave => self.commands.push_back(Command::Leave),
            Ask::Upstreams(found) => self.commands.push_back(Command::Upstreams(found)),
            Ask::Stop => self.commands.push_back(Command::Stop),
        }
    }

    fn tell(&mut self, to: usize, tell: Tell) {
        if to == self.port.me() { self.hear(tell) } else { self.port.tell(to, tell) }
    }

    // Fan-out.

    /// Ends the tick's runs and hands them out; then admits newcomers. Call once per tick, after [`Hub::exchange`].
    pub fn seal(&mut self) {
        self.order_deferred();
        self.home.seal(&mut self.sealed);
        self.send_sealed();
        while let Some(change) = self.changes.pop_front() {
            match change {
                Change::Admit { topic, audience } => {
                    let (epoch, offset) = self.home.admit(topic, audience);
                    let channel = audience.channel;
                    self.tell(audience.shard as usize, Tell::Subscribed { channel, epoch, offset });
                }
                Change::Dismiss { name, form, shard } => self.home.dismiss(&name, form, shard, self.now),
            }
        }
        self.answer_returning();
        self.answer_publishers();
    }

    /// Tells those who came back what is kept, as many as one tick takes.
    fn answer_returning(&mut self) {
        let mut written_bytes = 0;
        for _ in 0..REPLAYS_BUDGET {
            if written_bytes >= REPLAYS_WRITTEN_BUDGET {
                return;
            }
            let Some(returning) = self.returning.pop_front() else { return };
            let Returning { topic, form, from, channel, subscription, start } = returning;
            let Some((replayed, written)) = self.home.replay(topic, form, start, self.now) else { continue };
            written_bytes += written;
            let replayed = Box::new(replayed);
            self.tell(from, Tell::Replayed { channel, subscription, replayed });
        }
    }

    /// Tells publishers that what they said has its place.
    fn answer_publishers(&mut self) {
        let mut placed = std::mem::take(&mut self.placed);
        for Placed { from, ordered, .. } in placed.drain(..) {
            self.tell(from, Tell::Ordered(ordered));
        }
        self.placed = placed;
    }

    fn send_sealed(&mut self) {
        let mut sealed = std::mem::take(&mut self.sealed);
        for Sealed { audience, run } in sealed.drain(..) {
            self.counts.runs += 1;
            self.tell(audience.shard as usize, Tell::Run { channel: audience.channel, run });
        }
        self.sealed = sealed;
    }

    fn deliver(&mut self, id: ChannelId, run: Arc<Run>) {
        // Whoever listened may have left while the run was on its way.
        let Some(channel) = self.channels.get(id) else { return };
        let last = (run.place().0, run.last());
        let (messages, bytes) = (run.ends().len() as u64, run.bytes().len() as u64);
        let excluded = run.excluded_on(self.port.me() as u16);
        let source = channel.source.clone();
        let segment = Segment::whole(Bytes::run_from(Arc::clone(&run), source, &self.meter));
        let mut taken = 0;
        let mut behind = Vec::new();
        let mut left_out = Vec::new();
        let mut teller =
            Teller { encoder: &mut self.home.encoder, words: &mut self.words, meter: &self.meter };
        for member in &channel.members {
            if !excluded.is_empty()
                && let Some(conn) = self.channels.conn(*member)
                && let theirs = Excluded::of(conn, &excluded)
                && !theirs.is_empty()
            {
                left_out.push((*member, theirs));
                continue;
            }
            match self.outboxes.deliver(member.slot, segment.clone(), &mut teller) {
                Delivered::Taken => taken += 1,
                Delivered::Behind => {
                    taken += 1;
                    behind.push(self.channels.subscription(*member));
                }
                Delivered::Overflow => {
                    self.counts.cut += messages;
                    self.overflowed.push(member.slot);
                }
                Delivered::Sealed => {}
            }
        }
        self.counts.delivered += taken * messages;
        self.counts.delivered_bytes += taken * bytes;
        self.heard(id, last, bytes as usize, behind);
        for (member, theirs) in left_out {
            self.deliver_others(id, member, run.without(theirs), &segment);
        }
    }

    /// Hands out the parts of a run that a member gets that does not get all of it.
    fn deliver_others(
        &mut self,
        id: ChannelId,
        member: Member,
        parts: impl Iterator<Item = (u32, u32)>,
        whole: &Segment,
    ) {
        let subscription = self.channels.subscription(member);
        for (from, upto) in parts {
            let mut others = whole.clone();
            others.truncate(upto as usize);
            others.advance(from as usize);
            let (messages, bytes) = (others.messages() as u64, others.len() as u64);
            if self.offer(id, member.slot, subscription, others) {
                self.counts.delivered += messages;
                self.counts.delivered_bytes += bytes;
            }
        }
    }

    /// Offers one member what the others of its channel do not get. Whether it took it.
    pub(crate) fn offer(
        &mut self,
        id: ChannelId,
        slot: u32,
        subscription: SubscriptionId,
        segment: Segment,
    ) -> bool {
        let mut teller =
            Teller { encoder: &mut self.home.encoder, words: &mut self.words, meter: &self.meter };
        let messages = segment.messages() as u64;
        match self.outboxes.deliver(slot, segment, &mut teller) {
            Delivered::Taken => true,
            Delivered::Behind => {
                self.fell_behind(id, vec![subscription]);
                true
            }
            Delivered::Overflow => {
                self.counts.cut += messages;
                self.overflowed.push(slot);
                false
            }
            Delivered::Sealed => false,
        }
    }

    /// Whether something was said or asked since [`Hub::seal`] that this shard has yet to hand out.
    pub fn is_unsealed(&self) -> bool {
        let said = !self.placed.is_empty() || self.home.has_drafts();
        let released = self.home.has_released() && self.port.has_room();
        let asked = !self.changes.is_empty() || !self.returning.is_empty();
        said || released || asked || self.port.asks_itself()
    }

    /// Bytes that are kept for who comes back.
    pub fn history_bytes(&self) -> u64 {
        self.home.histories.kept_bytes + self.home.histories.written_bytes
    }

    /// Forgets at least so many of them, if there are: the oldest first.
    pub fn shed_history(&mut self, bytes: u64) {
        self.home.shed_history(bytes);
    }

    /// Forgets topics nobody needs, wakes the others, and says when there is something to do again.
    pub fn finish(&mut self) -> Option<Time> {
        let expire = self.home.expire(self.now, FORGET_BUDGET);
        let forget = self.home.forget(self.now, FORGET_BUDGET);
        self.port.wake();
        let behind = (!self.behind.is_empty()).then(|| self.now + LOOK_BEHIND_EVERY);
        let blocked = self.port.is_blocked().then(|| self.now + Duration::from_millis(1));
        [expire, forget, behind, blocked].into_iter().flatten().min()
    }

    /// Announces that the shard is about to sleep. False if something has come meanwhile: then it must not.
    pub fn park(&mut self) -> bool {
        self.port.park()
    }

    /// Awake again.
    pub fn unpark(&self) {
        self.port.unpark();
    }

    // What came of it, for the shard to act on.

    /// Subscriptions that have begun; also of connections that have left since.
    pub fn take_joined(&mut self) -> Vec<Joined> {
        std::mem::take(&mut self.joined)
    }

    /// Subscriptions that were refused, which has ended them, and whose they were.
    pub fn take_refused(&mut self) -> Vec<(ConnId, SubscriptionId, Rejection)> {
        std::mem::take(&mut self.refused)
    }

    /// Messages that were given their place.
    pub fn take_ordered(&mut self) -> Vec<Ordered> {
        std::mem::take(&mut self.ordered)
    }

    /// Messages that were not taken, with the length of their payload.
    pub fn take_rejected(&mut self) -> Vec<(Token, u32, Rejection)> {
        std::mem::take(&mut self.rejected)
    }

    /// Slots whose outbox is full under [`crate::OutboxPolicy::Cut`]; a slot may come up more than once.
    pub fn take_overflowed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.overflowed)
    }

    /// What the control thread asks of the shard.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
pub(crate) mod tests;
