//! What kinds of worlds there are, and the one that a seed means.

mod config;
mod kinds;

use std::time::Duration;

use moongate_gate::Config;
use moongate_hub::HistoryLimits;
use moongate_io::Remote;

use crate::client::{
    Leave, Manner, Offer, Place, PosterPlan, SocketPlan, StreamPlan, TalkerPlan, Tongue, TunnelPlan,
    VisitPlan, Way,
};
use crate::driver::DriverPlan;
use crate::net::Endpoint;
use crate::oracle::Keeps;
use crate::rng::Rng;
use config::{endpoints, gate_config};
use kinds::CALM;
pub use kinds::{SCENARIOS, Scenario};

/// How many readers of an event stream come one after the other to a topic, if they leave it at all.
const STAYS: usize = 4;

/// How a client reads.
#[derive(Copy, Clone, Debug)]
pub enum Pace {
    /// All there is, at once.
    Fast,
    /// So many bytes at a time, with pauses of so many milliseconds.
    Slow {
        /// How many bytes at most.
        bytes: usize,
        /// How long between two reads.
        pause: usize,
    },
    /// At once, until so many bytes are read; then nothing.
    Stops {
        /// How many bytes.
        after: usize,
    },
}

/// Who connects.
#[derive(Clone, Debug)]
pub enum Role {
    /// A WebSocket.
    Socket(SocketPlan),
    /// An event stream.
    Stream(StreamPlan),
    /// Somebody in a conversation.
    Talker(TalkerPlan),
    /// A POST.
    Poster(PosterPlan),
    /// One of those who do not behave, on this topic.
    Rude(String),
    /// Somebody who asks for a tunnel.
    Caller(TunnelPlan),
    /// What a tunnel leads to; nobody who connects.
    Upstream,
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// After how long it connects.
    pub at: Duration,
    /// To which shard.
    pub shard: usize,
    /// Who it is.
    pub role: Role,
    /// How it reads.
    pub pace: Pace,
    /// The window of its wire, in bytes.
    pub window: usize,
    /// The delay of its wire, in milliseconds.
    pub delay: (usize, usize),
    /// After how long the network breaks its wire, if it does.
    pub breaks: Option<Duration>,
}

/// A world before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed it is drawn from.
    pub seed: u64,
    /// What kind it is.
    pub scenario: Scenario,
    /// How many shards.
    pub shards: usize,
    /// Entries of a lane.
    pub lane: usize,
    /// How the drivers are.
    pub driver: DriverPlan,
    /// How the shards are.
    pub gate: Config,
    /// The kernel's patience.
    pub user_timeout: Duration,
    /// Who connects.
    pub clients: Vec<ClientPlan>,
    /// How many messages the control thread says.
    pub control_messages: usize,
    /// After how long the gateway is told to drain, if that is not when all is calm.
    pub drains_after: Option<Duration>,
    /// The topics.
    pub topics: Vec<String>,
    /// What meets shards that connect somewhere.
    pub endpoints: Vec<(Remote, Endpoint)>,
    /// How upstreams read.
    pub upstream_pace: Pace,
    /// Whether an upstream says one byte that it should not, to see that somebody notices.
    pub lies: bool,
}

impl Plan {
    /// The world that a seed means.
    pub fn of(seed: u64) -> Plan {
        let scenario = SCENARIOS[(seed % SCENARIOS.len() as u64) as usize];
        Plan::draw(seed, scenario, &mut Rng::new(seed))
    }

    /// A world of one kind.
    pub fn draw(seed: u64, scenario: Scenario, rng: &mut Rng) -> Plan {
        let shards = rng.between(1, 4);
        let topics: Vec<String> =
            (0..rng.between(scenario.topics.0, scenario.topics.1)).map(|index| format!("t{index}")).collect();
        let message_bytes = rng.between(scenario.message_bytes.0, scenario.message_bytes.1);
        let gate = gate_config(&scenario, message_bytes, rng);
        let spare = if scenario.scarce.is_some() { rng.between(1, 8) } else { 100 };
        let mut plan = Plan {
            seed,
            scenario,
            shards,
            lane: rng.pick(scenario.lanes),
            driver: DriverPlan {
                slots: gate.connections_max + spare as u32,
                buffers: rng.pick(&[1, 2, 4, 16, 64]),
                buffer_size: rng.pick(scenario.buffer_sizes),
                short_sends: rng.pick(&[0, 10, 50, 95]),
                split_reads: rng.pick(&[0, 20, 80]),
                late: rng.pick(&[0, 10, 60]),
            },
            gate,
            user_timeout: Duration::from_secs(rng.between(5, 30) as u64),
            clients: Vec::new(),
            control_messages: rng.between(0, 8),
            drains_after: scenario.drains_early.then(|| rng.millis(0, 8000)),
            topics,
            endpoints: endpoints(rng),
            upstream_pace: match rng.chance(scenario.slow) {
                true => Pace::Slow { bytes: rng.between(1, 600), pause: rng.between(1, 60) },
                false => Pace::Fast,
            },
            lies: false,
        };
        plan.invite(message_bytes, rng);
        plan
    }

    /// Whether everybody keeps up and nobody is refused: then nothing may be dropped and nobody sent away.
    pub fn is_calm(&self) -> bool {
        let scenario = &self.scenario;
        scenario.slow == 0
            && scenario.scarce.is_none()
            && scenario.outbox_bytes.0 >= CALM.outbox_bytes.0
            && scenario.topics_max >= CALM.topics_max
            && scenario.may_publish
            && !scenario.drains_early
    }

    /// What topics keep, where memory does not decide that.
    pub fn keeps(&self) -> Option<Keeps> {
        let HistoryLimits { messages_max, bytes_max, ttl } = self.gate.hub.history;
        (self.gate.memory_bytes_max == u64::MAX).then_some(Keeps {
            messages: messages_max as u64,
            bytes: bytes_max,
            ttl,
            replayed_bytes: self.gate.hub.outbox.outbox_bytes_max as usize / 2,
            message_bytes: self.gate.policy.message_bytes_max,
        })
    }

    /// Whether nothing may be dropped and nobody cut off: everybody keeps up, or is waited for.
    pub fn loses_nothing(&self) -> bool {
        self.is_calm() || self.scenario.steady
    }

    fn invite(&mut self, message_bytes: usize, rng: &mut Rng) {
        let scenario = self.scenario;
        for _ in 0..rng.between(scenario.sockets.0, scenario.sockets.1) {
            let place = Place::Topic(self.topic(rng));
            self.invite_socket(place, message_bytes, rng);
        }
        for _ in 0..rng.between(scenario.echoes.0, scenario.echoes.1) {
            self.invite_socket(Place::Echo, message_bytes, rng);
        }
        for _ in 0..rng.between(scenario.streams.0, scenario.streams.1) {
            let stays = if rng.chance(scenario.leaving) { rng.between(1, 3000) } else { 0 };
            let topic = self.topic(rng);
            // Who leaves comes back, in the person of another.
            for _ in 0..if stays > 0 { STAYS } else { 1 } {
                let role = Role::Stream(StreamPlan { topic: topic.clone(), stays });
                self.invite_one(role, rng);
            }
        }
        for _ in 0..rng.between(scenario.talkers.0, scenario.talkers.1) {
            self.invite_talker(message_bytes, rng);
        }
        for _ in 0..rng.between(scenario.posters.0, scenario.posters.1) {
            let half_closes = rng.chance(20);
            let topic = self.topic(rng);
            self.invite_one(Role::Poster(PosterPlan { topic, bytes_max: message_bytes, half_closes }), rng);
        }
        for _ in 0..rng.between(scenario.rude.0, scenario.rude.1) {
            // They may say things on topics of their own, so that nobody hears what the oracle does not know.
            self.invite_one(Role::Rude(String::from("rude")), rng);
        }
        for number in 0..rng.between(scenario.tunnels.0, scenario.tunnels.1) {
            let plan = tunnel(number as u32, rng);
            self.invite_one(Role::Caller(plan), rng);
        }
    }

    fn topic(&self, rng: &mut Rng) -> String {
        self.topics[rng.below(self.topics.len())].clone()
    }

    fn invite_socket(&mut self, place: Place, bytes_max: usize, rng: &mut Rng) {
        let scenario = self.scenario;
        let leave = self.leave(rng);
        let speaks = rng.chance(70);
        let messages = if speaks { rng.between(scenario.messages.0, scenario.messages.1) } else { 0 };
        let burst = rng.pick(&[1, 3, 20]);
        let pause = (0, rng.pick(&[1, 30, 500]));
        let role = Role::Socket(SocketPlan {
            place,
            messages,
            burst,
            bytes_max,
            repetitive: rng.chance(scenario.deflating),
            offer: if rng.chance(scenario.deflating) {
                Offer::draw(self.gate.policy.deflate, rng)
            } else {
                Offer::default()
            },
            laborious: scenario.laborious,
            eager: rng.chance(20),
            visit: VisitPlan {
                pause,
                leave,
                abrupt: rng.chance(scenario.abrupt),
                linger: (0, rng.pick(&[0, 10, 3000])),
                tamper: None,
            },
        });
        self.invite_one(role, rng);
    }

    fn invite_talker(&mut self, message_bytes: usize, rng: &mut Rng) {
        let scenario = self.scenario;
        let role = Role::Talker(TalkerPlan {
            tongue: rng.pick(&[Tongue::V1, Tongue::Wamp]),
            enters: rng.chance(30).then(|| self.topic(rng)),
            topics: self.topics.clone(),
            topics_max: self.gate.subscription_topics_max as usize,
            turns: rng.between(scenario.messages.0, scenario.messages.1),
            burst: rng.pick(&[1, 3, 20]),
            // With escapes, or in base64, and with what stands around it, it is a message still.
            bytes_max: message_bytes / 4,
            visit: VisitPlan {
                pause: (0, rng.pick(&[1, 30, 500])),
                leave: self.leave(rng),
                abrupt: rng.chance(scenario.abrupt),
                linger: (0, rng.pick(&[0, 10, 3000])),
                tamper: None,
            },
        });
        self.invite_one(role, rng);
    }

    fn leave(&self, rng: &mut Rng) -> Leave {
        let scenario = self.scenario;
        if !rng.chance(scenario.leaving) {
            return Leave::Stays;
        }
        // Nobody can know that who vanishes does not read slowly, so what is said to it is cut.
        let leave = rng.pick(&[Leave::Close, Leave::Close, Leave::HalfClose, Leave::Reset, Leave::Vanish]);
        if scenario.steady && leave == Leave::Vanish { Leave::Close } else { leave }
    }

    /// Gives somebody a wire.
    pub fn invite_one(&mut self, role: Role, rng: &mut Rng) {
        let scenario = self.scenario;
        let slow = rng.chance(scenario.slow);
        let pace = match rng.below(3) {
            _ if !slow => Pace::Fast,
            _ if scenario.steady => {
                Pace::Slow { bytes: rng.between(4000, 40_000), pause: rng.between(1, 40) }
            }
            0 => Pace::Stops { after: rng.below(3000) },
            _ => Pace::Slow { bytes: rng.between(1, 600), pause: rng.between(1, 60) },
        };
        let delay = rng.pick(&[(0, 0), (0, 2), (1, 50), (20, 40)]);
        // Whoever is to keep up has a window that carries what is said.
        let window = match delay {
            _ if scenario.steady => rng.between(4000, 60_000),
            _ if slow => rng.between(100, 4000),
            (_, 0..=2) => rng.pick(&[400, 5_000, 100_000, 1 << 20]).max(scenario.window_min),
            _ => rng.pick(&[8_000, 100_000, 1 << 20]).max(scenario.window_min),
        };
        let breaks = rng.chance(scenario.broken).then(|| rng.millis(0, 6000));
        let at = rng.millis(0, 4000);
        let shard = rng.below(self.shards);
        self.clients.push(ClientPlan { at, shard, role, pace, window, delay, breaks });
    }
}

fn tunnel(number: u32, rng: &mut Rng) -> TunnelPlan {
    let manners: Vec<Manner> = Manner::all().collect();
    let way = rng.pick(&[
        Way::Open,
        Way::Open,
        Way::Open,
        Way::Open,
        Way::Open,
        Way::Open,
        Way::Refused,
        Way::Silent,
        Way::Missing,
    ]);
    let manner = if rng.chance(50) { Manner::Switches } else { rng.pick(&manners) };
    let switches = matches!(manner, Manner::Switches | Manner::Dies);
    let most = rng.pick(&[1, 300, 5_000, 60_000]);
    if rng.chance(10) {
        let (way, manner) = (Way::Brief, Manner::Switches);
        let (up, down) = (rng.between(1, most), rng.between(1, most));
        return TunnelPlan { number, way, manner, up, down, upgrades: true, leaves: false };
    }
    TunnelPlan {
        number,
        way,
        manner,
        up: rng.between(1, most),
        down: rng.between(1, most),
        upgrades: rng.chance(if switches { 90 } else { 60 }),
        leaves: rng.chance(10),
    }
}
