//! The clerk: the one task that owns the control thread's lanes.
//!
//! It sleeps until a shard rings, a handler asks or a timer is due; then it reads all tells, takes what is asked, and
//! posts whatever has found no room yet. It never waits for a shard: what waits is kept here, bounded, in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{
    Ask, ControlPort, Full, Kind, Ordered, Patience, Publish, Rejection, Tell, Token, UpstreamAddresses,
};
use moongate_wire::refusal::Reason;
use moongate_wire::topic::TopicName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use crate::ControlBell;
use crate::rounds::{ListRequest, Lists, SnapshotRequest, Snapshots};
use crate::state::State;

/// How soon a lane that was full is tried again. Nobody rings when a lane gets room.
const LANE_RETRY: Duration = Duration::from_millis(2);

/// How many requests are taken from the queue before the lanes are looked at again.
const REQUESTS_PER_TURN_MAX: usize = 64;

/// What a handler asks the clerk.
pub(crate) enum Request {
    Publish(PublishRequest),
    List(ListRequest),
    Snapshots(SnapshotRequest),
    /// Tell every shard.
    Upstreams(UpstreamAddresses),
}

/// A message that is to be given its place.
pub(crate) struct PublishRequest {
    pub(crate) topic: TopicName,
    pub(crate) kind: Kind,
    pub(crate) payload: Box<[u8]>,
    pub(crate) reply: oneshot::Sender<Result<Ordered, Reason>>,
}

pub(crate) struct Clerk {
    port: ControlPort,
    bell: ControlBell,
    queue: mpsc::Receiver<Request>,
    state: Arc<State>,
    /// Per shard: messages that wait for room in its lane.
    waiting: Vec<VecDeque<Waiting>>,
    /// Messages that are on their way. Each is in a lane or at its home, so there are only so many.
    posted: HashMap<Token, oneshot::Sender<Result<Ordered, Reason>>>,
    tokens: u64,
    snapshots: Snapshots,
    lists: Lists,
    /// Per shard: addresses it is still to be told, at most one entry for each name.
    moved: Vec<Vec<UpstreamAddresses>>,
    stage: Stage,
}

struct Waiting {
    publish: Publish,
    reply: oneshot::Sender<Result<Ordered, Reason>>,
}

/// How far the process is on its way out.
enum Stage {
    Serving,
    /// Every shard is to drain; by shard, how far it is.
    Draining(Vec<Drain>),
    /// All have drained and are to stop; by shard, whether it was told.
    Stopping(Vec<bool>),
    Stopped,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Drain {
    ToAsk,
    Asked,
    /// It has begun, with so many connections.
    Announced(usize),
    /// Nobody is connected anywhere: it need not wait for its drain delay.
    ToLeave,
    Leaving,
    Done,
}

impl Clerk {
    pub(crate) fn new(
        port: ControlPort,
        bell: ControlBell,
        queue: mpsc::Receiver<Request>,
        state: Arc<State>,
    ) -> Clerk {
        let shards = port.shards();
        let limits = *state.limits();
        Clerk {
            waiting: (0..shards).map(|_| VecDeque::new()).collect(),
            posted: HashMap::new(),
            tokens: 0,
            snapshots: Snapshots::new(shards, limits.shard_timeout),
            lists: Lists::new(shards, limits.list_timeout, limits.lists_waiting_max),
            moved: vec![Vec::new(); shards],
            stage: Stage::Serving,
            port,
            bell,
            queue,
            state,
        }
    }

    /// Works until the drain is over and every shard has been told to stop.
    pub(crate) async fn run(mut self) {
        loop {
            self.hear();
            let blocked = self.post();
            if matches!(self.stage, Stage::Stopped) {
                return;
            }
            if !self.port.park() {
                // A tell came meanwhile. Handlers have their turn between two of them.
                tokio::task::yield_now().await;
                continue;
            }
            let request = self.sleep(blocked).await;
            self.port.unpark();
            if let Some(request) = request {
                self.take(request);
                self.take_more();
            }
        }
    }

    /// Waits for something to do; returns the request, if it was one.
    async fn sleep(&mut self, blocked: bool) -> Option<Request> {
        let retry = blocked.then(|| Instant::now() + LANE_RETRY);
        let due = [retry, self.snapshots.deadline(), self.lists.deadline()].into_iter().flatten().min();
        let serving = matches!(self.stage, Stage::Serving);
        let state = Arc::clone(&self.state);
        tokio::select! {
            () = self.bell.heard() => None,
            // The sender's end is in the shared state, so the queue never closes.
            request = self.queue.recv() => request,
            () = state.drain.notified(), if serving => {
                self.stage = Stage::Draining(vec![Drain::ToAsk; self.port.shards()]);
                None
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
        }
    }

    fn take_more(&mut self) {
        for _ in 1..REQUESTS_PER_TURN_MAX {
            let Ok(request) = self.queue.try_recv() else { return };
            self.take(request);
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Publish(request) => self.publish(request),
            Request::List(request) => self.lists.take(request),
            Request::Snapshots(request) => self.snapshots.take(request),
            Request::Upstreams(found) => {
                for moved in &mut self.moved {
                    moved.retain(|before| before.name != found.name);
                    moved.push(found.clone());
                }
            }
        }
    }

    fn publish(&mut self, request: PublishRequest) {
        let PublishRequest { topic, kind, payload, reply } = request;
        let name = self.port.name(topic.as_str());
        let waiting = &mut self.waiting[name.home(self.port.shards())];
        waiting.retain(|waiting| !waiting.reply.is_closed());
        if waiting.len() >= self.state.limits().publishes_waiting_max {
            // The handler may have gone; then nobody needs to know.
            let _ = reply.send(Err(Reason::Busy));
            return;
        }
        let token = Token::new(self.tokens);
        self.tokens += 1;
        waiting.push_back(Waiting {
            publish: Publish { name, kind, payload, token, patience: Patience::Leaves, excluded: None },
            reply,
        });
    }

    // What shards say.

    fn hear(&mut self) {
        while let Some((shard, tell)) = self.port.next_tell() {
            match tell {
                Tell::Ordered(ordered) => self.settle(ordered.token, Ok(ordered)),
                Tell::Rejected { token, bytes: _, why } => {
                    let reason = match why {
                        Rejection::TopicsFull => Reason::TopicsFull,
                        Rejection::Busy => Reason::Busy,
                    };
                    self.settle(token, Err(reason));
                }
                Tell::Topics(page) => self.lists.answered(shard, *page),
                Tell::Snapshot(snapshot) => self.snapshots.answered(shard, *snapshot),
                Tell::Announced { connections } => self.announced(shard, connections),
                Tell::Drained => self.drained(shard),
                Tell::Subscribed { .. } | Tell::Replayed { .. } | Tell::Refused { .. } | Tell::Run { .. } => {
                    unreachable!("the control thread subscribes to nothing")
                }
            }
        }
    }

    fn settle(&mut self, token: Token, outcome: Result<Ordered, Reason>) {
        let reply = self.posted.remove(&token).expect("a home answers each message once");
        if reply.send(outcome).is_err() {
            // Whoever asked has been told 503, or has gone.
            self.state.tally.publishes.add("late");
        }
    }

    fn announced(&mut self, shard: usize, connections: usize) {
        let Stage::Draining(drains) = &mut self.stage else {
            unreachable!("a shard announces its drain when asked to")
        };
        drains[shard] = Drain::Announced(connections);
        if drains.iter().all(|drain| *drain == Drain::Announced(0)) {
            debug!("nobody is connected");
            drains.fill(Drain::ToLeave);
        }
    }

    fn drained(&mut self, shard: usize) {
        let Stage::Draining(drains) = &mut self.stage else {
            unreachable!("a shard drains when asked to, once")
        };
        let asked = !matches!(drains[shard], Drain::ToAsk | Drain::Done);
        assert!(asked, "shard {shard} says that it has drained, unasked or again");
        drains[shard] = Drain::Done;
        debug!(shard, "drained");
        if drains.iter().all(|drain| *drain == Drain::Done) {
            self.stage = Stage::Stopping(vec![false; self.port.shards()]);
        }
    }

    // What is posted.

    /// Posts what waits. True if something found its lane full, so that it must be tried again soon.
    fn post(&mut self) -> bool {
        let now = Instant::now();
        self.snapshots.expire(now);
        self.lists.expire(now);
        let mut blocked = false;
        for shard in 0..self.port.shards() {
            blocked |= self.post_to(shard).is_err();
        }
        if let Stage::Stopping(told) = &self.stage
            && told.iter().all(|told| *told)
        {
            self.stage = Stage::Stopped;
        }
        blocked
    }

    fn post_to(&mut self, shard: usize) -> Result<(), LaneFull> {
        self.post_order(shard)?;
        self.post_publishes(shard)?;
        while let Some(found) = self.moved[shard].first() {
            self.port.ask(shard, Ask::Upstreams(found.clone()))?;
            self.moved[shard].remove(0);
        }
        if self.snapshots.wants(shard) {
            self.port.ask(shard, Ask::Snapshot)?;
            self.snapshots.asked(shard);
        }
        if let Some(cursor) = self.lists.wants(shard) {
            self.port.ask(shard, Ask::Topics(cursor))?;
            self.lists.asked(shard);
        }
        Ok(())
    }

    /// To drain or to stop. Stopping comes after all else that was posted, which nobody would read after it.
    fn post_order(&mut self, shard: usize) -> Result<(), LaneFull> {
        match &mut self.stage {
            Stage::Draining(drains) if drains[shard] == Drain::ToAsk => {
                self.port.ask(shard, Ask::Drain)?;
                drains[shard] = Drain::Asked;
            }
            Stage::Draining(drains) if drains[shard] == Drain::ToLeave => {
                self.port.ask(shard, Ask::Leave)?;
                drains[shard] = Drain::Leaving;
            }
            Stage::Stopping(told) if !told[shard] => {
                self.port.ask(shard, Ask::Stop)?;
                told[shard] = true;
                info!(shard, "stopping");
            }
            _ => {}
        }
        Ok(())
    }

    fn post_publishes(&mut self, shard: usize) -> Result<(), LaneFull> {
        if matches!(self.stage, Stage::Stopping(_)) {
            return Ok(());
        }
        while let Some(Waiting { publish, reply }) = self.waiting[shard].pop_front() {
            if reply.is_closed() {
                // Whoever asked was told that it was not ordered: then let that be true.
                continue;
            }
            let token = publish.token;
            match self.port.ask(shard, Ask::Publish(publish)) {
                Ok(()) => self.posted.insert(token, reply),
                Err(Full(Ask::Publish(publish))) => {
                    self.waiting[shard].push_front(Waiting { publish, reply });
                    return Err(LaneFull);
                }
                Err(Full(_)) => unreachable!("a full lane gives back what was posted"),
            };
        }
        Ok(())
    }
}

/// The lane to a shard has no room now.
struct LaneFull;

impl From<Full> for LaneFull {
    fn from(_: Full) -> LaneFull {
        LaneFull
    }
}
