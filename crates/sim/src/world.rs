//! A world: shards, their network, the control thread and the clients, in virtual time on one thread.
//!
//! Everything that is due happens, shards tick in random order until all of them would sleep, and then time jumps to
//! whatever is next. A world lives in four stages: clients do what they are here for; everybody calms down and what was
//! said must have arrived; the control thread lets the gateway drain; and everything must have come home.

mod control;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moongate_gate::Shard;
use moongate_hub::{Ask, Bell, HashKey, Mesh, Sample};
use moongate_io::Time;

use crate::client::{Caller, Client, Hands, Poster, Socket, Stream, Talker, Upstream, rude, rude_squeezed};
use crate::driver::{SimBell, SimDriver};
use crate::net::{Due, Net, Peer, Server, WireId};
use crate::oracle::{Oracle, Promise, Talk};
use crate::rng::Rng;
use crate::scenario::{ClientPlan, Pace, Plan, Role};
use control::Control;

/// How long clients have for what they are here for.
const ACTIVITY: Duration = Duration::from_secs(60);
/// How long the world then has to calm down: longer than all timers of the gateway together.
const CALMING: Duration = Duration::from_secs(240);
/// How long a drain may take beyond its own delay and timeout.
const DRAIN_SLACK: Duration = Duration::from_secs(60);
/// How many ticks in a row a shard may refuse to sleep though nothing happens.
const SPIN_MAX: u32 = 100;

/// What a world was like.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Everything that happened, as a hash.
    pub trace: u64,
    /// Messages said.
    pub said: usize,
    /// Messages heard, by all subscribers together.
    pub heard: usize,
    /// Stays of subscribers.
    pub stays: usize,
    /// How much happened of what can happen to conversations.
    pub talk: Talk,
    /// Messages that policies dropped or cuts left out.
    pub dropped: u64,
    /// Messages that waited for their place because a subscriber had fallen behind.
    pub deferred: u64,
    /// Compressed messages that waited for their turn to be inflated.
    pub waited: u64,
    /// Ticks of all shards.
    pub ticks: u64,
    /// Virtual time it took.
    pub took: Duration,
}

/// Figures that are zero where nothing is held.
const HELD: &[&str] = &[
    "moongate_connections",
    "moongate_slots_used",
    "moongate_memory_bytes",
    "moongate_subscriptions",
    "moongate_topics",
    "moongate_outbox_bytes",
    "moongate_deferred_bytes",
    "moongate_outboxes_dirty",
    "moongate_lanes_unread",
    "moongate_lanes_waiting",
];

struct Seat {
    plan: ClientPlan,
    client: Box<dyn Client>,
    pace: Pace,
    read: usize,
    noticed: bool,
}

struct World {
    plan: Plan,
    rng: Rng,
    net: Rc<RefCell<Net>>,
    shards: Vec<Shard<SimDriver>>,
    spins: Vec<u32>,
    ticks: u64,
    control: Control,
    /// By wire.
    seats: BTreeMap<WireId, Seat>,
    oracle: Oracle,
    harsh: bool,
}

/// Runs the world of `plan` from its beginning to its end. `Err`: everything that was wrong.
pub fn run(plan: Plan) -> Result<Outcome, Vec<String>> {
    let mut world = World::new(plan);
    world.live()?;
    if world.plan.drains_after.is_none() {
        world.calm_down()?;
    }
    let dropped = world.survey()?;
    world.drain()?;
    world.check_figures()?;
    let waited = world.sum("moongate_inflate_waited_total");
    let deferred = world.sum("moongate_messages_deferred_total");
    world.stop()?;
    world.check_home()?;
    let (said, heard, stays) = world.oracle.tally();
    let talk = world.oracle.talk();
    let net = world.net.borrow();
    let took = net.now.since(Time::ZERO);
    let (trace, ticks) = (net.trace.hash(), world.ticks);
    Ok(Outcome { trace, said, heard, stays, talk, dropped, deferred, waited, ticks, took })
}

impl World {
    fn new(plan: Plan) -> World {
        let mut rng = Rng::new(plan.seed ^ 0x6d6f_6f6e);
        let net = Rc::new(RefCell::new(Net::new(plan.shards, plan.user_timeout, rng.fork())));
        let bells: Vec<Arc<SimBell>> = (0..plan.shards).map(|_| Arc::default()).collect();
        let key: Vec<u8> = (0..2).flat_map(|_| rng.draw().to_le_bytes()).collect();
        let key = HashKey::new(key.try_into().expect("two times eight bytes"));
        let rung = bells.iter().map(|bell| Arc::clone(bell) as Arc<dyn Bell>).collect();
        let mesh = Mesh::new(rung, Arc::<SimBell>::default(), plan.lane, key);
        let shards = mesh.shards.into_iter().zip(bells).enumerate().map(|(number, (port, bell))| {
            let net = Rc::clone(&net);
            let driver = SimDriver::new(plan.seed, number, plan.driver, net, bell, rng.fork());
            Shard::new(driver, 1, plan.gate.clone(), port)
        });
        let shards: Vec<_> = shards.collect();
        for (remote, endpoint) in &plan.endpoints {
            net.borrow_mut().serve(remote.clone(), *endpoint);
        }
        let control = Control {
            port: mesh.control,
            to_ask: Vec::new(),
            has_asked: false,
            said: BTreeMap::new(),
            may_reject: !plan.is_calm(),
            snapshots: Vec::new(),
            drained: vec![false; plan.shards],
        };
        let harsh = !plan.is_calm();
        let keeps = plan.keeps();
        let spins = vec![0; plan.shards];
        World {
            plan,
            rng,
            net,
            shards,
            spins,
            ticks: 0,
            control,
            seats: BTreeMap::new(),
            oracle: Oracle::new(keeps),
            harsh,
        }
    }

    // The four stages.

    fn live(&mut self) -> Result<(), Vec<String>> {
        let mut guests = self.plan.clients.clone();
        guests.sort_by_key(|guest| guest.at);
        let start = self.now();
        let mut speeches: Vec<Time> =
            (0..self.plan.control_messages).map(|_| start + self.rng.millis(0, 8000)).collect();
        speeches.sort_unstable();
        for guest in guests {
            let at = start + guest.at;
            if self.plan.drains_after.is_some_and(|after| guest.at > after) {
                break;
            }
            while speeches.first().is_some_and(|speech| *speech <= at) {
                self.run_until(speeches.remove(0))?;
                self.control_says();
            }
            self.run_until(at)?;
            self.seat(guest);
        }
        for speech in speeches {
            self.run_until(speech)?;
            self.control_says();
        }
        self.run_until(start + ACTIVITY.min(self.plan.drains_after.unwrap_or(ACTIVITY)))
    }

    /// Slow readers read all; nobody but who stays may still be there.
    fn calm_down(&mut self) -> Result<(), Vec<String>> {
        for (wire, seat) in &mut self.seats {
            if let Pace::Slow { .. } = seat.pace {
                seat.pace = Pace::Fast;
                let now = self.net.borrow().now;
                self.net.borrow_mut().schedule(now, Due::Down(*wire));
            }
        }
        let until = self.now() + CALMING;
        self.run_until(until)?;
        let wires: Vec<WireId> = self.seats.keys().copied().collect();
        for wire in wires {
            let Some(seat) = self.seats.get(&wire) else { continue };
            let reads = matches!(seat.pace, Pace::Fast) && self.net.borrow().wires[wire].peer == Peer::Open;
            if let Some(what) = seat.client.is_owed().filter(|_| reads && !seat.noticed) {
                self.oracle.fault(format!("client {wire} still waits for {what}: {:?}", seat.plan));
            }
            if reads {
                self.with(wire, |client, hands| client.settle(hands));
            } else {
                // What lies unread at one that has stopped to read proves nothing.
                self.with(wire, |client, hands| client.abandon(hands));
            }
        }
        Ok(())
    }

    /// Judges what was heard, with the gateway's own word on what it dropped.
    fn survey(&mut self) -> Result<u64, Vec<String>> {
        self.take_snapshots()?;
        let (mut dropped, mut cut) = (0, 0);
        for sample in self.samples("moongate_messages_dropped_total") {
            if sample.labels.iter().any(|(_, value)| value == "outbox_full_cut") {
                cut += sample.value as u64;
            } else {
                dropped += sample.value as u64;
            }
        }
        if self.plan.loses_nothing() && dropped + cut > 0 {
            self.oracle.fault(format!(
                "everybody kept up or was waited for, yet {dropped} messages were dropped and {cut} cut"
            ));
        }
        // While clients are busy, what was said may still be on its way.
        let settled = self.plan.drains_after.is_none();
        let faults = self.oracle.judge(Promise { unbroken: dropped == 0, settled });
        if faults.is_empty() { Ok(dropped + cut) } else { Err(faults) }
    }

    fn take_snapshots(&mut self) -> Result<(), Vec<String>> {
        self.control.snapshots.clear();
        for shard in 0..self.plan.shards {
            self.control.to_ask.push((shard, Ask::Snapshot));
        }
        let until = self.now() + Duration::from_secs(1);
        self.run_until(until)?;
        if self.control.snapshots.len() == self.plan.shards {
            return Ok(());
        }
        Err(vec![String::from("a shard did not answer the control thread")])
    }

    fn samples(&self, name: &str) -> Vec<Sample> {
        let samples = self.control.snapshots.iter().flat_map(|shot| &shot.samples);
        samples.filter(|sample| sample.name == name).cloned().collect()
    }

    /// A figure of all shards together.
    fn sum(&self, name: &str) -> u64 {
        self.samples(name).iter().map(|sample| sample.value as u64).sum()
    }

    fn drain(&mut self) -> Result<(), Vec<String>> {
        self.harsh = true;
        for shard in 0..self.plan.shards {
            self.control.to_ask.push((shard, Ask::Drain));
        }
        let gate = &self.plan.gate;
        let until = self.now() + gate.drain_delay + gate.drain_timeout + gate.close_timeout + DRAIN_SLACK;
        self.run_until(until)?;
        if let Some(shard) = self.control.drained.iter().position(|drained| !drained) {
            let left = self.shards[shard].connections();
            return Err(vec![format!("shard {shard} has not drained: {left} connections are left")]);
        }
        let unbroken = self.dropped_nothing()?;
        let faults = self.oracle.judge(Promise { unbroken, settled: false });
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn dropped_nothing(&mut self) -> Result<bool, Vec<String>> {
        self.take_snapshots()?;
        let mut dropped = self.samples("moongate_messages_dropped_total");
        dropped.retain(|sample| sample.labels.iter().any(|(_, value)| value == "outbox_full_dropped"));
        Ok(dropped.iter().all(|sample| sample.value == 0.0))
    }

    /// Once nobody is left and topics have been forgotten, the gateway's own figures say that it holds nothing.
    fn check_figures(&mut self) -> Result<(), Vec<String>> {
        // A topic is remembered while it keeps anything.
        let hub = &self.plan.gate.hub;
        let until = self.now() + hub.history.ttl + hub.topic_linger * 2 + Duration::from_secs(1);
        self.run_until(until)?;
        self.take_snapshots()?;
        let (packed, whole) = (
            self.packed("moongate_compression_bytes_out_total"),
            self.packed("moongate_compression_bytes_in_total"),
        );
        if packed > whole {
            return Err(vec![format!("{whole} bytes were compressed to {packed}")]);
        }
        let left = HELD.iter().flat_map(|name| self.samples(name)).filter(|sample| sample.value != 0.0);
        let faults: Vec<_> =
            left.map(|sample| format!("{} is {} at the end", sample.name, sample.value)).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// What a figure about compressing comes to for all shards.
    fn packed(&self, name: &str) -> u64 {
        let mut samples = self.samples(name);
        samples.retain(|sample| sample.labels.iter().any(|(_, way)| *way == "deflate"));
        samples.iter().map(|sample| sample.value as u64).sum()
    }

    fn stop(&mut self) -> Result<(), Vec<String>> {
        for shard in 0..self.plan.shards {
            self.control.to_ask.push((shard, Ask::Stop));
        }
        let until = self.now() + Duration::from_secs(1);
        self.run_until(until)
    }

    fn check_home(&mut self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            if !shard.is_stopped() {
                faults.push(format!("shard {number} has not stopped"));
            }
            if shard.connections() != 0 || shard.memory_bytes() != 0 {
                let (connections, bytes) = (shard.connections(), shard.memory_bytes());
                faults.push(format!("shard {number} keeps {connections} connections and {bytes} bytes"));
            }
            faults.extend(shard.driver_mut().check_home().err());
        }
        for (wire, entry) in self.net.borrow().wires.iter().enumerate() {
            if entry.server == Server::Open {
                faults.push(format!("wire {wire} is open still"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    // Time.

    fn now(&self) -> Time {
        self.net.borrow().now
    }

    /// Lets everything happen that is due before or at `until`.
    fn run_until(&mut self, until: Time) -> Result<(), Vec<String>> {
        // A shard that is about to sleep may still move an ask into a lane that has room again, so only a second round
        // in which all would sleep is the last.
        let mut quiet_rounds = 0;
        loop {
            self.happen();
            self.tick_all()?;
            let next = self.net.borrow().next_due();
            let (busy, wakes) = self.shards_want();
            quiet_rounds = if busy { 0 } else { quiet_rounds + 1 };
            if next.is_some_and(|at| at <= self.now()) {
                continue;
            }
            if quiet_rounds < 2 {
                // Work takes time too.
                let span = Duration::from_nanos(self.rng.between(500, 50_000) as u64);
                let now = self.now() + span;
                self.net.borrow_mut().now = next.map_or(now, |at| at.min(now));
                continue;
            }
            // Work may have taken the clock past `until`; it never goes back.
            let now = self.now();
            let at = [next, wakes].into_iter().flatten().min().map_or(until, |at| at.min(until)).max(now);
            self.net.borrow_mut().now = at;
            if at >= until {
                return Ok(());
            }
            quiet_rounds = 0;
        }
    }

    /// Whether a shard would not sleep, and when the first of them wants to wake.
    fn shards_want(&mut self) -> (bool, Option<Time>) {
        let mut busy = std::mem::take(&mut self.control.has_asked);
        let mut wakes: Option<Time> = None;
        for shard in self.shards.iter_mut().filter(|shard| !shard.is_stopped()) {
            let Some(waited) = shard.driver_mut().waited() else { return (true, None) };
            busy |= !waited.slept;
            wakes = [wakes, waited.until].into_iter().flatten().min();
        }
        (busy, wakes)
    }

    fn tick_all(&mut self) -> Result<(), Vec<String>> {
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        self.rng.shuffle(&mut order);
        for number in order {
            let shard = &mut self.shards[number];
            if shard.is_stopped() {
                continue;
            }
            self.ticks += 1;
            shard.tick();
            let idle = shard.driver_mut().waited().is_some_and(|waited| waited.events == 0 && !waited.slept);
            self.spins[number] = if idle { self.spins[number] + 1 } else { 0 };
            if self.spins[number] > SPIN_MAX {
                return Err(vec![format!("shard {number} does not sleep though nothing happens")]);
            }
        }
        self.take_calls();
        self.oracle.it_is(self.net.borrow().now);
        self.control.listen(&mut self.oracle);
        self.control.ask();
        Ok(())
    }

    fn happen(&mut self) {
        loop {
            let due = self.net.borrow_mut().pop_due();
            let Some(due) = due else { return };
            match due {
                Due::Arrival(wire) => self.net.borrow_mut().arrive(wire),
                Due::Up(wire) => self.net.borrow_mut().land_up(wire),
                Due::Down(wire) => {
                    if self.net.borrow_mut().land_down(wire) {
                        self.read(wire);
                    }
                }
                Due::Act(wire) => {
                    self.read(wire);
                    self.act(wire);
                }
                Due::Break(wire) => {
                    self.net.borrow_mut().break_wire(wire);
                    self.read(wire);
                }
                Due::GiveUp(wire) => self.net.borrow_mut().give_up(wire),
                Due::Wake => {}
            }
        }
    }

    // Clients.

    fn seat(&mut self, plan: ClientPlan) {
        let wire = self.net.borrow_mut().connect(plan.shard, plan.window, plan.delay);
        let client: Box<dyn Client> = match &plan.role {
            Role::Socket(plan) => Box::new(Socket::new(plan.clone())),
            Role::Stream(plan) => Box::new(Stream::new(plan.clone())),
            Role::Talker(plan) => Box::new(Talker::new(plan.clone())),
            Role::Poster(plan) => Box::new(Poster::new(plan.clone())),
            Role::Rude(topic) => {
                let message_bytes_max = self.plan.gate.policy.message_bytes_max;
                let squeezed = self.plan.gate.policy.deflate && self.rng.chance(self.plan.scenario.deflating);
                let someone = if squeezed { rude_squeezed } else { rude };
                Box::new(someone(topic, message_bytes_max, &mut self.rng))
            }
            Role::Caller(plan) => Box::new(Caller::new(plan.clone())),
            Role::Upstream => unreachable!("nobody connects as an upstream"),
        };
        if let Some(after) = plan.breaks {
            let at = self.now() + after;
            self.net.borrow_mut().schedule(at, Due::Break(wire));
        }
        let pace = plan.pace;
        let seat = Seat { plan, client, pace, read: 0, noticed: false };
        self.seats.insert(wire, seat);
        self.with(wire, |client, hands| client.begin(hands));
    }

    /// Seats an upstream at every wire that a driver has made.
    fn take_calls(&mut self) {
        let calls = self.net.borrow_mut().take_calls();
        for (wire, _) in calls {
            let plan = ClientPlan {
                at: Duration::ZERO,
                shard: self.net.borrow().wires[wire].shard,
                role: Role::Upstream,
                pace: self.plan.upstream_pace,
                window: 0,
                delay: (0, 0),
                breaks: None,
            };
            let (client, pace) = (Box::new(Upstream::new(self.plan.lies)), plan.pace);
            self.seats.insert(wire, Seat { plan, client, pace, read: 0, noticed: false });
        }
    }

    fn with(&mut self, wire: WireId, turn: impl FnOnce(&mut dyn Client, &mut Hands<'_>)) {
        let Some(seat) = self.seats.get_mut(&wire) else { return };
        let mut net = self.net.borrow_mut();
        self.oracle.it_is(net.now);
        let mut hands =
            Hands { net: &mut net, oracle: &mut self.oracle, rng: &mut self.rng, wire, harsh: self.harsh };
        turn(&mut *seat.client, &mut hands);
    }

    fn act(&mut self, wire: WireId) {
        let open = self.net.borrow().wires[wire].peer == Peer::Open;
        let noticed = self.seats.get(&wire).is_none_or(|seat| seat.noticed && !seat.client.goes_on());
        if open && !noticed {
            self.with(wire, |client, hands| client.act(hands));
            self.leave_if_over(wire);
        }
    }

    /// Closes the wire of a client to which nothing more will come and that has nothing more to say.
    fn leave_if_over(&mut self, wire: WireId) {
        let Some(seat) = self.seats.get(&wire) else { return };
        if seat.noticed && !seat.client.goes_on() {
            self.net.borrow_mut().close(wire);
        }
    }

    /// Lets a client read what has arrived, as it reads.
    fn read(&mut self, wire: WireId) {
        let Some(seat) = self.seats.get_mut(&wire) else { return };
        if seat.noticed {
            return;
        }
        let mut net = self.net.borrow_mut();
        if net.wires[wire].peer != Peer::Open {
            return;
        }
        let now = net.now;
        let arrived = net.wires[wire].down.arrived.len();
        let count = match seat.pace {
            Pace::Fast => arrived,
            Pace::Slow { bytes, pause } => {
                if arrived > 0 {
                    let at = now + self.rng.millis(0, pause);
                    net.schedule(at, Due::Act(wire));
                }
                self.rng.between(0, bytes)
            }
            Pace::Stops { after } => after.saturating_sub(seat.read),
        };
        let bytes = net.wires[wire].down.read(count, now);
        seat.read += bytes.len();
        net.trace.tell(&bytes);
        let end = net.wires[wire].down.end.filter(|_| net.wires[wire].down.arrived.is_empty());
        drop(net);
        if !bytes.is_empty() {
            self.with(wire, |client, hands| client.hear(&bytes, hands));
        }
        if let Some(end) = end {
            if let Some(seat) = self.seats.get_mut(&wire) {
                seat.noticed = true;
            }
            self.with(wire, |client, hands| client.end(end, hands));
            self.leave_if_over(wire);
        }
    }
}
