//! What kinds of worlds there are, and the one that a seed means.

use std::time::Duration;

use moongate_gate::Config;
use moongate_hub::{HistoryLimits, OutboxLimits, OutboxPolicy};
use moongate_io::Remote;
use moongate_wire::decide::Policy;
use moongate_wire::route::Routes;

use crate::client::{Leave, Manner, Offer, Place, PosterPlan, SocketPlan, StreamPlan, TunnelPlan, Way};
use crate::driver::DriverPlan;
use crate::net::{self, Endpoint};
use crate::rng::Rng;

/// A kind of world.
#[derive(Copy, Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What happens to a subscriber whose outbox is full.
    pub policies: &'static [OutboxPolicy],
    /// How many bytes an outbox may hold, from and to.
    pub outbox_bytes: (usize, usize),
    /// Entries of a lane.
    pub lanes: &'static [usize],
    /// How long a message may be, in bytes, from and to.
    pub message_bytes: (usize, usize),
    /// How many WebSockets on topics there are, from and to.
    pub sockets: (usize, usize),
    /// How many event streams.
    pub streams: (usize, usize),
    /// How many POSTs.
    pub posters: (usize, usize),
    /// How many WebSockets on the echo.
    pub echoes: (usize, usize),
    /// How many who do not behave.
    pub rude: (usize, usize),
    /// Of a hundred WebSockets, how many offer to compress, and of the rude, how many do and should not.
    pub deflating: usize,
    /// Of those who go, how many do so right behind their last word, of a hundred.
    pub abrupt: usize,
    /// Whether what is compressed takes as much work to inflate as can be, so that it waits for its turn.
    pub laborious: bool,
    /// Sizes of receive buffers.
    pub buffer_sizes: &'static [usize],
    /// The least window of a wire to somebody who keeps up.
    pub window_min: usize,
    /// How many messages a WebSocket says.
    pub messages: (usize, usize),
    /// Of a hundred readers, how many read slowly or not at all.
    pub slow: usize,
    /// Whether those who read slowly never stop, and are waited for.
    pub steady: bool,
    /// Of a hundred wires, how many the network breaks.
    pub broken: usize,
    /// Of a hundred WebSockets, how many go before the end, one way or another.
    pub leaving: usize,
    /// How many connections are served, and bytes of memory allowed; none for plenty.
    pub scarce: Option<(u32, u64)>,
    /// How long a topic that nobody needs is remembered, in milliseconds.
    pub linger_millis: usize,
    /// How many topics a shard keeps.
    pub topics_max: usize,
    /// Whether anyone may publish.
    pub may_publish: bool,
    /// Whether the gateway is told to drain while clients are still busy.
    pub drains_early: bool,
    /// How many ask for a tunnel, from and to.
    pub tunnels: (usize, usize),
}

/// Worlds in which everybody keeps up.
/// How many readers of an event stream come one after the other to a topic, if they leave it at all.
const STAYS: usize = 4;

const CALM: Scenario = Scenario {
    name: "calm",
    policies: &[OutboxPolicy::Cut, OutboxPolicy::DropOldest, OutboxPolicy::Latest],
    outbox_bytes: (4 << 20, 8 << 20),
    lanes: &[1, 1, 2, 3, 8, 64],
    message_bytes: (16, 3000),
    sockets: (2, 16),
    streams: (0, 6),
    posters: (0, 10),
    echoes: (0, 3),
    rude: (0, 6),
    deflating: 30,
    abrupt: 30,
    laborious: false,
    buffer_sizes: &[1, 7, 64, 512, 2048],
    window_min: 400,
    messages: (0, 40),
    slow: 0,
    steady: false,
    broken: 0,
    leaving: 40,
    scarce: None,
    linger_millis: 60_000,
    topics_max: 1000,
    may_publish: true,
    drains_early: false,
    tunnels: (0, 0),
};

/// Worlds with upstreams of every manner behind the gateway.
const TUNNELS: Scenario = Scenario {
    name: "tunnels",
    tunnels: (4, 24),
    sockets: (0, 3),
    streams: (0, 1),
    posters: (0, 3),
    echoes: (0, 1),
    ..CALM
};

/// Worlds in which a few messages are all that a tick inflates, and everybody keeps up.
const LABORIOUS: Scenario = Scenario {
    name: "much to inflate",
    message_bytes: (40_000, 60_000),
    sockets: (2, 6),
    streams: (0, 2),
    posters: (0, 4),
    echoes: (0, 3),
    rude: (0, 4),
    deflating: 85,
    abrupt: 80,
    laborious: true,
    buffer_sizes: &[2048, 1 << 16, 1 << 18],
    window_min: 200_000,
    messages: (0, 12),
    leaving: 70,
    ..CALM
};

/// All kinds; a seed's is the one at the seed modulo their number.
pub const SCENARIOS: &[Scenario] = &[
    CALM,
    Scenario { name: "lanes of one", lanes: &[1], messages: (20, 80), rude: (0, 0), ..CALM },
    Scenario {
        name: "short memory",
        linger_millis: 5,
        leaving: 90,
        messages: (0, 6),
        posters: (5, 25),
        ..CALM
    },
    Scenario {
        name: "tiny outboxes, cut",
        policies: &[OutboxPolicy::Cut],
        outbox_bytes: (0, 2000),
        slow: 40,
        ..CALM
    },
    Scenario {
        name: "tiny outboxes, lossy",
        policies: &[OutboxPolicy::DropOldest, OutboxPolicy::Latest],
        outbox_bytes: (0, 2000),
        slow: 50,
        ..CALM
    },
    Scenario { name: "broken wires", broken: 40, leaving: 60, ..CALM },
    Scenario {
        name: "slow readers",
        outbox_bytes: (8 << 10, 256 << 10),
        slow: 70,
        broken: 5,
        messages: (10, 60),
        ..CALM
    },
    Scenario { name: "few places", scarce: Some((8, u64::MAX)), sockets: (6, 16), rude: (0, 12), ..CALM },
    Scenario {
        name: "little room",
        scarce: Some((64, 20_000)),
        outbox_bytes: (4 << 10, 64 << 10),
        slow: 30,
        rude: (0, 12),
        ..CALM
    },
    Scenario { name: "few topics", topics_max: 1, linger_millis: 50, leaving: 80, ..CALM },
    Scenario { name: "only listening", may_publish: false, ..CALM },
    Scenario { name: "drained early", drains_early: true, slow: 20, rude: (0, 15), ..CALM },
    Scenario { name: "rude", rude: (10, 40), sockets: (1, 6), ..CALM },
    Scenario { name: "compressed", deflating: 90, message_bytes: (300, 20_000), window_min: 20_000, ..CALM },
    Scenario {
        name: "compressed, slow readers",
        deflating: 90,
        message_bytes: (300, 8000),
        outbox_bytes: (8 << 10, 64 << 10),
        slow: 50,
        broken: 5,
        ..CALM
    },
    LABORIOUS,
    Scenario { name: "much to inflate, broken wires", broken: 40, ..LABORIOUS },
    Scenario {
        name: "much to inflate, little room",
        scarce: Some((64, 150_000)),
        outbox_bytes: (4 << 10, 256 << 10),
        slow: 20,
        rude: (0, 12),
        ..LABORIOUS
    },
    Scenario { name: "much to inflate, drained early", drains_early: true, slow: 20, ..LABORIOUS },
    Scenario { name: "rude, much to inflate", rude: (10, 30), sockets: (1, 4), ..LABORIOUS },
    Scenario {
        name: "large and compressed",
        message_bytes: (100_000, 400_000),
        outbox_bytes: (8 << 20, 12 << 20),
        laborious: false,
        messages: (0, 6),
        window_min: 1 << 20,
        ..LABORIOUS
    },
    TUNNELS,
    Scenario { name: "tunnels, slow readers", slow: 60, outbox_bytes: (8 << 10, 256 << 10), ..TUNNELS },
    Scenario { name: "tunnels, broken wires", broken: 40, ..TUNNELS },
    Scenario { name: "tunnels, few places", scarce: Some((8, u64::MAX)), ..TUNNELS },
    Scenario { name: "tunnels, little room", scarce: Some((64, 20_000)), slow: 30, ..TUNNELS },
    Scenario { name: "tunnels, drained early", drains_early: true, slow: 20, ..TUNNELS },
    Scenario {
        name: "everything",
        outbox_bytes: (0, 64 << 10),
        slow: 40,
        broken: 20,
        leaving: 70,
        scarce: Some((24, 100_000)),
        rude: (0, 20),
        linger_millis: 500,
        topics_max: 2,
        tunnels: (0, 8),
        ..CALM
    },
    Scenario {
        name: "steady readers",
        policies: &[OutboxPolicy::Cut],
        // A message in its longest form is less than a quarter of it.
        outbox_bytes: (100 << 10, 200 << 10),
        posters: (0, 3),
        echoes: (0, 0),
        rude: (0, 0),
        buffer_sizes: &[512, 2048],
        messages: (50, 400),
        slow: 80,
        steady: true,
        leaving: 20,
        ..CALM
    },
];

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
        let topics: Vec<String> = (0..rng.between(1, 4)).map(|index| format!("t{index}")).collect();
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
        let leave = if rng.chance(scenario.leaving) {
            // Nobody can know that who vanishes does not read slowly, so what is said to it is cut.
            let leave =
                rng.pick(&[Leave::Close, Leave::Close, Leave::HalfClose, Leave::Reset, Leave::Vanish]);
            if scenario.steady && leave == Leave::Vanish { Leave::Close } else { leave }
        } else {
            Leave::Stays
        };
        let speaks = rng.chance(70);
        let role = Role::Socket(SocketPlan {
            place,
            messages: if speaks { rng.between(scenario.messages.0, scenario.messages.1) } else { 0 },
            burst: rng.pick(&[1, 3, 20]),
            pause: (0, rng.pick(&[1, 30, 500])),
            bytes_max,
            repetitive: rng.chance(scenario.deflating),
            offer: if rng.chance(scenario.deflating) {
                Offer::draw(self.gate.policy.deflate, rng)
            } else {
                Offer::default()
            },
            laborious: scenario.laborious,
            eager: rng.chance(20),
            leave,
            abrupt: rng.chance(scenario.abrupt),
            linger: (0, rng.pick(&[0, 10, 3000])),
            tamper: None,
        });
        self.invite_one(role, rng);
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

/// Where tunnels lead, by the same words as [`Way::path`].
const ROUTES: &str = "\
/topics/* topics; /echo echo; / page
/open/* tunnel 10.1.0.1:1 connect_timeout=5s answer_timeout=20s idle_timeout=60s
/refused/* tunnel 10.1.0.2:1 connect_timeout=5s
/silent/* tunnel 10.1.0.3:1 connect_timeout=5s
/missing/* tunnel unix:/missing.sock connect_timeout=5s
/pass-open/* tunnel 10.1.0.1:1 http=pass connect_timeout=5s answer_timeout=20s
/pass-refused/* tunnel 10.1.0.2:1 http=pass connect_timeout=5s
/pass-silent/* tunnel 10.1.0.3:1 http=pass connect_timeout=5s
/pass-missing/* tunnel unix:/missing.sock http=pass connect_timeout=5s
";

fn endpoints(rng: &mut Rng) -> Vec<(Remote, Endpoint)> {
    let at = |last: u8| Remote::Tcp(([10, 1, 0, last], 1).into());
    let mut endpoint = |manner| Endpoint {
        manner,
        window: rng.pick(&[1000, 8_000, 100_000]),
        delay: rng.pick(&[(0, 0), (0, 2), (1, 50)]),
    };
    vec![
        (at(1), endpoint(net::Manner::Accepts)),
        (at(2), endpoint(net::Manner::Refuses)),
        (at(3), endpoint(net::Manner::Silent)),
    ]
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

fn gate_config(scenario: &Scenario, message_bytes: usize, rng: &mut Rng) -> Config {
    let (connections_max, memory_bytes_max) = scenario.scarce.unwrap_or((140, u64::MAX));
    let message_bytes_max = message_bytes + 32;
    // It must exceed one message in any form: base64 and a line for every byte are the longest.
    let outbox_bytes = rng.between(scenario.outbox_bytes.0, scenario.outbox_bytes.1) + message_bytes_max + 64;
    Config {
        policy: Policy {
            routes: Routes::parse(ROUTES).expect("a right table").with_health().into(),
            may_publish: scenario.may_publish,
            message_bytes_max,
            deflate: rng.chance(90),
            deflate_bytes_min: rng.pick(&[1, 64, 256]),
            ..Policy::default()
        },
        upstreams: Vec::new(),
        tunnel_buffer_bytes_max: rng.pick(&[1, 1000, 1 << 17]),
        page: b"<!doctype html><title>The page</title>",
        script: b"export {};",
        connections_max,
        head_timeout: Duration::from_secs(rng.between(15, 25) as u64),
        body_timeout: Duration::from_secs(rng.between(5, 30) as u64),
        order_timeout: Duration::from_secs(5),
        publish_window_bytes: rng.pick(&[1, 1000, 1 << 18]),
        subscription_topics_max: 10,
        requests_in_flight_max: rng.pick(&[1, 64]),
        wamp_realm: "realm1".into(),
        memory_bytes_max,
        ping_interval: Duration::from_secs(rng.between(2, 60) as u64),
        pong_timeout: Duration::from_secs(rng.between(2, 20) as u64),
        close_timeout: Duration::from_secs(rng.between(2, 6) as u64),
        drain_delay: Duration::from_secs(rng.between(0, 5) as u64),
        drain_timeout: Duration::from_secs(rng.between(5, 20) as u64),
        hub: moongate_hub::Config {
            topics_max: scenario.topics_max,
            topic_linger: Duration::from_millis(scenario.linger_millis as u64),
            history: HistoryLimits {
                messages_max: rng.pick(&[0, 3, 64]),
                bytes_max: rng.pick(&[300, 1 << 18]),
                ttl: Duration::from_millis(rng.pick(&[500, 20_000]) as u64),
            },
            outbox: OutboxLimits {
                outbox_bytes_max: outbox_bytes as u32,
                policy: rng.pick(scenario.policies),
                slow_reader_timeout: Duration::from_millis(if scenario.steady {
                    2000
                } else {
                    rng.pick(&[0, 10, 200, 2000]) as u64
                }),
            },
        },
    }
}
