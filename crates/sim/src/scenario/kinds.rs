//! The kinds of worlds.

use moongate_hub::OutboxPolicy;

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
    /// How many topics there are.
    pub topics: (usize, usize),
    /// How many have conversations in a subprotocol, from and to.
    pub talkers: (usize, usize),
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
pub(super) const CALM: Scenario = Scenario {
    name: "calm",
    policies: &[OutboxPolicy::Cut, OutboxPolicy::DropOldest, OutboxPolicy::Latest],
    outbox_bytes: (4 << 20, 8 << 20),
    lanes: &[1, 1, 2, 3, 8, 64],
    message_bytes: (16, 3000),
    sockets: (2, 16),
    streams: (0, 6),
    topics: (1, 4),
    talkers: (0, 0),
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

/// Worlds in which people talk about many topics at once, which they hear and leave while others speak.
const TALKS: Scenario = Scenario {
    name: "talks",
    // What stands around a payload counts as a message's too.
    message_bytes: (800, 3000),
    topics: (3, 12),
    talkers: (3, 16),
    sockets: (0, 4),
    streams: (0, 6),
    posters: (0, 6),
    echoes: (0, 1),
    rude: (0, 2),
    leaving: 60,
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
    TALKS,
    Scenario {
        name: "talks, much at once",
        topics: (1, 2),
        streams: (0, 2),
        messages: (10, 40),
        buffer_sizes: &[1 << 14, 1 << 16],
        window_min: 100_000,
        ..TALKS
    },
    Scenario { name: "talks, lanes of one", lanes: &[1], ..TALKS },
    Scenario { name: "talks, short memory", linger_millis: 5, leaving: 90, ..TALKS },
    Scenario { name: "talks, broken wires", broken: 40, leaving: 80, ..TALKS },
    Scenario {
        name: "talks, tiny outboxes, cut",
        policies: &[OutboxPolicy::Cut],
        outbox_bytes: (0, 4000),
        slow: 40,
        ..TALKS
    },
    Scenario {
        name: "talks, tiny outboxes, lossy",
        policies: &[OutboxPolicy::DropOldest, OutboxPolicy::Latest],
        outbox_bytes: (0, 4000),
        slow: 50,
        ..TALKS
    },
    Scenario { name: "talks, few topics", topics_max: 2, linger_millis: 50, leaving: 80, ..TALKS },
    Scenario { name: "talks, little room", scarce: Some((64, 30_000)), slow: 30, ..TALKS },
    Scenario { name: "talks, drained early", drains_early: true, slow: 20, ..TALKS },
    Scenario {
        name: "everything",
        message_bytes: (800, 3000),
        talkers: (0, 8),
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
