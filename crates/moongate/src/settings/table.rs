//! The one table of settings. Parsing, `moongate --help`, `docs/config.md` and every error text come from it.

use std::time::Duration;

use moongate_sys::DriverKind;

use super::kind::Kind;
use super::{Anonymous, LogFormat, OutboxPolicy};

/// One setting: `MOONGATE_<name>`.
pub(super) struct Setting {
    /// The name after the prefix.
    pub(super) name: &'static str,
    /// How its text becomes a value.
    pub(super) kind: Kind,
    /// What applies while it is unset or empty, written as a person would; empty for nothing.
    pub(super) default: &'static str,
    /// What it does, in a sentence or three. Markdown code marks are allowed.
    pub(super) doc: &'static str,
}

/// Settings that belong together.
pub(super) struct Group {
    /// The heading over them.
    pub(super) title: &'static str,
    /// In the order a reader wants them.
    pub(super) settings: &'static [Setting],
}

/// Every setting there is, in the order of the documentation.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

/// All groups of settings.
pub(super) const GROUPS: &[Group] = &[
    Group { title: "Where it listens", settings: LISTENING },
    Group { title: "Who may", settings: ENTITLEMENT },
    Group { title: "What it serves beside topics", settings: SERVING },
    Group { title: "Subprotocols", settings: SUBPROTOCOLS },
    Group { title: "Routes and upstreams", settings: ROUTES },
    Group { title: "Compression", settings: COMPRESSION },
    Group { title: "Control listener", settings: CONTROL },
    Group { title: "Limits", settings: LIMITS },
    Group { title: "Times", settings: TIMES },
    Group { title: "Threads and rings", settings: ENGINE },
    Group { title: "Log", settings: LOG },
];

const LISTENING: &[Setting] = &[
    Setting {
        name: "LISTEN",
        kind: Kind::Addresses { most: 16, place: |settings| &mut settings.listen },
        default: "127.0.0.1:8080",
        doc: "Where clients connect: addresses with ports, separated by commas. Port 0 takes a free one, which the \
              ready line in the log says.",
    },
    Setting {
        name: "LISTEN_SHARED",
        kind: Kind::Switch { place: |settings| &mut settings.listen_shared },
        default: "off",
        doc: "Whether another gateway of the same user may listen on the same addresses, as during a hand-over. Off, \
              it is an error at start: the kernel would silently give each of the two a part of the connections.",
    },
];

const ENTITLEMENT: &[Setting] = &[
    Setting {
        name: "ANONYMOUS",
        kind: Kind::Word {
            words: &[
                ("auto", |settings| settings.anonymous_wanted = None),
                ("subscribe", |settings| settings.anonymous_wanted = Some(Anonymous::Subscribe)),
                ("publish", |settings| settings.anonymous_wanted = Some(Anonymous::Publish)),
            ],
        },
        default: "auto",
        doc: "What someone without credentials may do on a topic: listen, or also speak. `auto` is `publish` where \
              every listener is on loopback, else `subscribe`. The control listener has a rule of its own.",
    },
    Setting {
        name: "ORIGINS",
        kind: Kind::Origins { place: |settings| &mut settings.origins },
        default: "same",
        doc: "Which web pages may connect, by the `Origin` their browser sends: `same` for pages whose host and port \
              are those of the request's `Host`, a comma list of exact origins, or `*` for all. A request without an \
              `Origin` does not come from a web page and is allowed.",
    },
    Setting {
        name: "INSECURE",
        kind: Kind::Switch { place: |settings| &mut settings.insecure },
        default: "off",
        doc: "Confirms a configuration that lets strangers speak: `MOONGATE_ANONYMOUS=publish` on a listener that is \
              not on loopback.",
    },
];

const SERVING: &[Setting] = &[
    Setting {
        name: "ECHO",
        kind: Kind::SwitchOrAuto { place: |settings| &mut settings.echo_wanted },
        default: "auto",
        doc: "Whether a WebSocket on `/echo` gets every message back, for diagnosis and benchmarks. `auto` is on where \
              every listener is on loopback, else off.",
    },
    Setting {
        name: "PAGE",
        kind: Kind::SwitchOrAuto { place: |settings| &mut settings.page_wanted },
        default: "auto",
        doc: "Whether a browser on `/` or on a topic gets the page to try it with, and anyone the client on \
              `/moongate.js`. `auto` is on where every listener is on loopback, else off.",
    },
    Setting {
        name: "HEALTH",
        kind: Kind::Switch { place: |settings| &mut settings.health },
        default: "on",
        doc: "Whether the public listeners answer `/healthz` and `/readyz`. The control listener always does.",
    },
];

const SUBPROTOCOLS: &[Setting] = &[
    Setting {
        name: "SUBPROTOCOLS",
        kind: Kind::Subprotocols { place: |settings| &mut settings.subprotocols },
        default: "moongate.v1,wamp.2.json",
        doc: "Which subprotocols a WebSocket may agree on, by `Sec-WebSocket-Protocol`, on every route of `topics` and of \
              `connect` that does not say it for itself (`subprotocols=`, see `docs/tunnels.md`). Of those that a client offers its \
              first one that is enabled is spoken; with none, a topic's WebSocket carries bare payloads, and `/connect` refuses it.",
    },
    Setting {
        name: "SUBSCRIPTION_TOPICS_MAX",
        kind: Kind::Count { least: 1, most: 65_536, place: |settings| &mut settings.subscription_topics_max },
        default: "256",
        doc: "How many topics one connection may hear in a subprotocol. One more is answered with an error.",
    },
    Setting {
        name: "REQUESTS_IN_FLIGHT_MAX",
        kind: Kind::Count { least: 1, most: 65_536, place: |settings| &mut settings.requests_in_flight_max },
        default: "64",
        doc: "How many requests of one connection in a subprotocol may wait for their answers. At the limit its socket is \
              not read until half of them are answered.",
    },
    Setting {
        name: "WAMP_REALM",
        kind: Kind::WampUri { place: |settings| &mut settings.wamp_realm },
        default: "realm1",
        doc: "The realm that WAMP clients join. There is one, and its topics are those of all other protocols.",
    },
    Setting {
        name: "WAMP_ALIAS",
        kind: Kind::Switch { place: |settings| &mut settings.wamp_alias },
        default: "off",
        doc: "Whether WAMP, on the routes where it is enabled, may also be agreed on as `wamp`, which no specification has it called.",
    },
];

const ROUTES: &[Setting] = &[
    Setting {
        name: "ROUTES",
        kind: Kind::Routes { place: |settings| &mut settings.routes_wanted },
        default: "",
        doc: "Which path leads to what: routes such as `/chat/* tunnel app.internal:3000`, parted by `;` or line ends, \
              of which the first that matches decides. It replaces what is served without it (`/topics/* topics; /connect \
              connect; /echo echo; / page`, the last two as `MOONGATE_ECHO` and `MOONGATE_PAGE` say), so these two cannot be set \
              beside it; `MOONGATE_HEALTH` still decides about health. Recipes are in `docs/tunnels.md`.",
    },
    Setting {
        name: "UPSTREAM_REFRESH",
        kind: Kind::Time {
            least: millis(1_000),
            most: minutes(60),
            place: |settings| &mut settings.upstream_refresh,
        },
        default: "10s",
        doc: "How often the names of upstreams are resolved anew. Connections that are open stay as they are.",
    },
    Setting {
        name: "TUNNEL_BUFFER_BYTES_MAX",
        kind: Kind::Size {
            least: 4 * KIB,
            most: GIB,
            place: |settings| &mut settings.tunnel_buffer_bytes_max,
        },
        default: "128KiB",
        doc: "How much a tunnel holds, each way, that one side has sent and the other has not taken. At the limit the \
              side that sends is not read until half of it has gone; what the kernel has received by then still comes, at \
              most all of a shard's receive buffers.",
    },
];

const COMPRESSION: &[Setting] = &[
    Setting {
        name: "DEFLATE",
        kind: Kind::Switch { place: |settings| &mut settings.deflate },
        default: "on",
        doc: "Whether messages are compressed for WebSockets that offer permessage-deflate (RFC 7692). Each message is \
              compressed by itself and once for all its subscribers; no connection keeps a window.",
    },
    Setting {
        name: "DEFLATE_MIN_BYTES",
        kind: Kind::Size { least: 1, most: GIB, place: |settings| &mut settings.deflate_min_bytes },
        default: "256",
        doc: "How large a message must be to be compressed. Smaller ones gain little and cost as much.",
    },
];

const CONTROL: &[Setting] = &[
    Setting {
        name: "CONTROL",
        kind: Kind::AddressOrOff { place: |settings| &mut settings.control },
        default: "127.0.0.1:8081",
        doc: "Where the control listener is: publishing, the list of topics, health and metrics. Not on loopback it \
              needs `MOONGATE_CONTROL_TOKEN`.",
    },
    Setting {
        name: "CONTROL_TOKEN",
        kind: Kind::Secret { place: |settings| &mut settings.control_token },
        default: "",
        doc: "What a request to the control listener must carry as `Authorization: Bearer <token>`, except for health.",
    },
    Setting {
        name: "CONTROL_HOSTS",
        kind: Kind::Hosts { place: |settings| &mut settings.control_hosts },
        default: "",
        doc: "Values of the `Host` field, beside those of loopback, that the control listener answers to. Any other is \
              refused, so that no web page can reach it under a name of its own (DNS rebinding).",
    },
    Setting {
        name: "CONTROL_ORIGINS",
        kind: Kind::OriginList { place: |settings| &mut settings.control_origins },
        default: "",
        doc: "Origins whose web pages may use the control listener. Any other `Origin` is refused.",
    },
];

const LIMITS: &[Setting] = &[
    Setting {
        name: "CONNECTIONS_MAX",
        kind: Kind::Count { least: 1, most: 16_777_216, place: |settings| &mut settings.connections_max },
        default: "100_000",
        doc: "How many connections there may be; a tunnel takes two. One more is answered 503. Each shard has an equal share, and since the \
              kernel spreads connections by their hash, one may be full a little before the others. A share cannot \
              exceed the hard limit of open files (`ulimit -Hn`) less 256 to spare, and with any driver but `uring` all shards share \
              that limit; the start log says where it \
              lowered it.",
    },
    Setting {
        name: "HEAD_BYTES_MAX",
        kind: Kind::Size { least: KIB, most: MIB, place: |settings| &mut settings.head_bytes_max },
        default: "16KiB",
        doc: "How large the head of a request may be. A larger one is answered 431, or 414 when it is the target.",
    },
    Setting {
        name: "MESSAGE_BYTES_MAX",
        kind: Kind::Size { least: 128, most: GIB, place: |settings| &mut settings.message_bytes_max },
        default: "64KiB",
        doc: "How large a message may be. A larger one closes its WebSocket with 1009, or is answered 413.",
    },
    Setting {
        name: "OUTBOX_BYTES_MAX",
        kind: Kind::Size { least: KIB, most: 2 * GIB, place: |settings| &mut settings.outbox_bytes_max },
        default: "1MiB",
        doc: "How much may wait for one subscriber before `MOONGATE_OUTBOX_POLICY` decides. Must exceed \
              `MOONGATE_MESSAGE_BYTES_MAX` by the 14 bytes a frame's header can have. With less than seven times as much \
              the start warns: so long a message of line ends or control characters can be in an event stream or a subprotocol.",
    },
    Setting {
        name: "OUTBOX_POLICY",
        kind: Kind::Word {
            words: &[
                ("cut", |settings| settings.outbox_policy = OutboxPolicy::Cut),
                ("drop-oldest", |settings| settings.outbox_policy = OutboxPolicy::DropOldest),
                ("latest", |settings| settings.outbox_policy = OutboxPolicy::Latest),
            ],
        },
        default: "cut",
        doc: "What happens to a subscriber that is too slow: `cut` closes it with 1013, `drop-oldest` drops the messages \
              that waited longest, `latest` keeps only the newest of each topic, and drops the oldest of these where they do \
              not fit. Messages are dropped whole, and counted.",
    },
    Setting {
        name: "SEND_UNSENT_BYTES_MAX",
        kind: Kind::Size { least: 4 * KIB, most: GIB, place: |settings| &mut settings.send_unsent_bytes_max },
        default: "128KiB",
        doc: "How many bytes the kernel takes for one connection beyond what is on its way (`TCP_NOTSENT_LOWAT`). More \
              smooths out a shard's pauses; less bounds what a peer that does not read costs.",
    },
    Setting {
        name: "PUBLISH_WINDOW_BYTES",
        kind: Kind::Size { least: KIB, most: GIB, place: |settings| &mut settings.publish_window_bytes },
        default: "256KiB",
        doc: "How many bytes one connection may have published that their topic's home has not yet ordered. At the \
              limit its socket is not read until some are.",
    },
    Setting {
        name: "MEMORY_BYTES_MAX",
        kind: Kind::SizeOrAuto {
            least: MIB,
            most: 1024 * GIB,
            place: |settings| &mut settings.memory_bytes_max,
        },
        default: "auto",
        doc: "How much memory messages may hold, over all shards: what is half received and what waits to be sent. At \
              the limit the connection that holds most is closed with 1013. `auto` is half of the machine's memory, or \
              of the control group's where that is less.",
    },
    Setting {
        name: "TOPICS_MAX",
        kind: Kind::Count { least: 1, most: 100_000_000, place: |settings| &mut settings.topics_max },
        default: "1_000_000",
        doc: "How many topics there may be, over all shards. One more is answered 503.",
    },
    Setting {
        name: "TOPIC_LINGER",
        kind: Kind::Time {
            least: millis(100),
            most: minutes(1440),
            place: |settings| &mut settings.topic_linger,
        },
        default: "1m",
        doc: "How long a topic that nobody hears and nobody speaks to is remembered. After that its offsets begin \
              again, in a new epoch. One that keeps messages is not forgotten.",
    },
    Setting {
        name: "HISTORY_MESSAGES",
        kind: Kind::Count { least: 0, most: 65_536, place: |settings| &mut settings.history_messages },
        default: "64",
        doc: "How many messages a topic keeps for subscribers that come back; 0 keeps none. When memory is short, the \
              oldest go first.",
    },
    Setting {
        name: "HISTORY_BYTES",
        kind: Kind::Size { least: 1, most: GIB, place: |settings| &mut settings.history_bytes },
        default: "256KiB",
        doc: "How many bytes these messages may have together. Who comes back gets at most half of \
              `MOONGATE_OUTBOX_BYTES_MAX` of them, the newest, and is told of the rest.",
    },
    Setting {
        name: "HISTORY_TTL",
        kind: Kind::Time {
            least: millis(100),
            most: minutes(1440),
            place: |settings| &mut settings.history_ttl,
        },
        default: "5m",
        doc: "How long a message is kept.",
    },
];

const TIMES: &[Setting] = &[
    Setting {
        name: "HEAD_TIMEOUT",
        kind: Kind::Time {
            least: millis(100),
            most: minutes(10),
            place: |settings| &mut settings.head_timeout,
        },
        default: "10s",
        doc: "How long a client may take from connecting to the end of its request, and again for the body of a POST. \
              Then it is answered 408.",
    },
    Setting {
        name: "PING_INTERVAL",
        kind: Kind::Time {
            least: millis(100),
            most: minutes(60),
            place: |settings| &mut settings.ping_interval,
        },
        default: "25s",
        doc: "After how long without a sign from it a WebSocket is pinged, and how often an event stream gets a comment \
              to keep it open. Below the idle timeout of every proxy in between.",
    },
    Setting {
        name: "PONG_TIMEOUT",
        kind: Kind::Time {
            least: millis(100),
            most: minutes(60),
            place: |settings| &mut settings.pong_timeout,
        },
        default: "20s",
        doc: "How long a WebSocket may take to answer a ping. Then it is closed.",
    },
    Setting {
        name: "CLOSE_TIMEOUT",
        kind: Kind::Time {
            least: millis(100),
            most: minutes(10),
            place: |settings| &mut settings.close_timeout,
        },
        default: "5s",
        doc: "How long a peer may take to answer a Close, or to read a last answer. Then the connection is reset.",
    },
    Setting {
        name: "SLOW_READER_TIMEOUT",
        kind: Kind::Time {
            least: millis(0),
            most: minutes(1),
            place: |settings| &mut settings.slow_reader_timeout,
        },
        default: "200ms",
        doc: "How long a subscriber with more than half of `MOONGATE_OUTBOX_BYTES_MAX` waiting may read nothing before \
              publishers of its topic do not wait for it any more, and `MOONGATE_OUTBOX_POLICY` decides. More makes loss \
              rarer, and a reader that stops is noticed by the others for longer.",
    },
    Setting {
        name: "TCP_USER_TIMEOUT",
        kind: Kind::Time {
            least: millis(1_000),
            most: minutes(60),
            place: |settings| &mut settings.tcp_user_timeout,
        },
        default: "30s",
        doc: "How long what was sent may stay unacknowledged before the kernel gives the connection up (RFC 5482).",
    },
    Setting {
        name: "DRAIN_DELAY",
        kind: Kind::Time {
            least: Duration::ZERO,
            most: minutes(60),
            place: |settings| &mut settings.drain_delay,
        },
        default: "5s",
        doc: "How long connections are still accepted after SIGTERM or SIGINT, while `/readyz` already says no: the \
              time a load balancer needs to notice.",
    },
    Setting {
        name: "DRAIN_TIMEOUT",
        kind: Kind::Time {
            least: Duration::ZERO,
            most: minutes(60),
            place: |settings| &mut settings.drain_timeout,
        },
        default: "20s",
        doc: "Over how long connections are closed after that, in random order, so that the clients do not all come \
              back at once.",
    },
];

const ENGINE: &[Setting] = &[
    Setting {
        name: "DRIVER",
        kind: Kind::Word {
            words: &[
                ("auto", |settings| settings.driver = None),
                ("uring", |settings| settings.driver = Some(DriverKind::Uring)),
                ("tokio-uring", |settings| settings.driver = Some(DriverKind::TokioUring)),
                ("epoll", |settings| settings.driver = Some(DriverKind::Epoll)),
            ],
        },
        default: "auto",
        doc: "How shards talk to the kernel. `auto` is the best driver that can run here, and the start log says which and \
              why; `moongate drivers` shows them all. One asked for by name that cannot run is an error at start. With any \
              but `uring` every connection is an open file.",
    },
    Setting {
        name: "SHARDS",
        kind: Kind::CountOrAuto { least: 1, most: 1024, place: |settings| &mut settings.shards },
        default: "auto",
        doc: "How many shards, each a thread with a ring of its own. `auto` is the number of CPUs that affinity and the \
              control group's quota leave.",
    },
    Setting {
        name: "PIN",
        kind: Kind::Switch { place: |settings| &mut settings.pin },
        default: "on",
        doc: "Whether each shard stays on one CPU. Only CPUs the process may use are taken, and nothing is pinned when \
              there are more shards than those.",
    },
    Setting {
        name: "RING_ENTRIES",
        kind: Kind::PowerOfTwo { least: 64, most: 32_768, place: |settings| &mut settings.ring_entries },
        default: "4096",
        doc: "How many requests a shard's submission queue takes, where it has a ring. Its completion queue takes eight \
              times as many, at most 65536.",
    },
    Setting {
        name: "RECV_BUFFERS",
        kind: Kind::PowerOfTwo { least: 8, most: 32_768, place: |settings| &mut settings.recv_buffers },
        default: "1024",
        doc: "How many receive buffers a shard lends to the kernel, for all its connections together.",
    },
    Setting {
        name: "RECV_BUFFER_SIZE",
        kind: Kind::Size { least: 256, most: MIB, place: |settings| &mut settings.recv_buffer_size },
        default: "2KiB",
        doc: "How large each of them is.",
    },
];

const LOG: &[Setting] = &[
    Setting {
        name: "LOG",
        kind: Kind::Filter { place: |settings| &mut settings.log },
        default: "info",
        doc: "What the log on standard error says: `off`, `error`, `warn`, `info`, `debug` or `trace`, for everything or \
              by part; what is not named stays at `info`. The ready line comes in any case.",
    },
    Setting {
        name: "LOG_FORMAT",
        kind: Kind::Word {
            words: &[
                ("text", |settings| settings.log_format = LogFormat::Text),
                ("json", |settings| settings.log_format = LogFormat::Json),
            ],
        },
        default: "text",
        doc: "How: lines for people, or one JSON object a line. Colours only on a terminal, and not with `NO_COLOR`.",
    },
];
