//! All of a shard but its driver, and what every part of a connection's life uses.

use std::sync::Arc;
use std::time::Duration;

use moongate_hub::{Hub, Rejection, ShardPort, Token};
use moongate_io::{Bytes, ConnId, Meter, Remote, Ticket, Time};
use moongate_wire::accept::Template;
use moongate_wire::answer::Date;
use moongate_wire::frame::Limits;
use moongate_wire::refusal::Reason;

use crate::Config;
use crate::conn::{Conns, Mode};
use crate::counts::Counts;
use crate::drain::Drain;
use crate::forms::Forms;
use crate::inflate::Inflation;
use crate::tunnel::{TunnelCounts, Upstreams};
use crate::wheel::Wheel;

/// What a connection wants of the driver, done after its turn.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    Receive(ConnId),
    Pause(ConnId),
    Resume(ConnId),
    Finish(ConnId),
    Abort(ConnId),
    Close(ConnId),
    CancelConnect(Ticket),
    Unlisten,
}

pub(crate) struct Core {
    pub(crate) config: Arc<Config>,
    pub(crate) conns: Conns,
    pub(crate) hub: Hub<Forms>,
    pub(crate) wheel: Wheel,
    pub(crate) meter: Meter,
    pub(crate) counts: Counts,
    pub(crate) drain: Drain,
    pub(crate) wants: Vec<Want>,
    /// Connections to be made, done with the wants and before them.
    pub(crate) calls: Vec<(Ticket, Remote)>,
    pub(crate) upstreams: Upstreams,
    pub(crate) tunnels: TunnelCounts,
    pub(crate) now: Time,
    pub(crate) date: Date,
    date_seconds: u64,
    pub(crate) switching: Template,
    /// For frames of those who did not agree on compression.
    pub(crate) frame_limits: Limits,
    pub(crate) inflation: Inflation,
    /// The frame every ping is: `89 00`.
    pub(crate) ping: Bytes,
    pub(crate) heartbeat: Bytes,
    /// Where answers and echoes are written before they are pushed.
    pub(crate) scratch: Vec<u8>,
    /// Random, and the same as long as the process lives.
    pub(crate) salt: u64,
    /// When the next connection may be sent away because memory is short.
    pub(crate) evict_at: Time,
    /// Whether this tick left something undone, so that the next must not sleep.
    pub(crate) busy: bool,
}

/// Memory charged for every fragment of a message, so that endless empty ones end like any other long message.
const FRAGMENT_OVERHEAD_BYTES: usize = 8;

impl Core {
    pub(crate) fn new(config: Config, port: ShardPort, now: Time, epoch_base: u64) -> Core {
        let meter = Meter::default();
        let frame_limits = Limits {
            message_bytes_max: config.policy.message_bytes_max,
            fragment_overhead: FRAGMENT_OVERHEAD_BYTES,
            deflate: false,
        };
        let forms = Forms::new(config.policy.deflate_bytes_min);
        Core {
            conns: Conns::new(),
            hub: Hub::new(&config.hub, forms, port, meter.clone(), epoch_base),
            wheel: Wheel::new(now),
            meter,
            counts: Counts::default(),
            drain: Drain::default(),
            wants: Vec::new(),
            calls: Vec::new(),
            upstreams: Upstreams::new(config.upstreams.clone()),
            tunnels: TunnelCounts::new(config.policy.routes.len()),
            now,
            date: Date::from_unix(0),
            date_seconds: 0,
            switching: Template::new(""),
            frame_limits,
            inflation: Inflation::default(),
            ping: Bytes::fixed(&[0x89, 0]),
            heartbeat: Bytes::fixed(moongate_wire::event::HEARTBEAT),
            scratch: Vec::new(),
            salt: epoch_base,
            evict_at: now,
            busy: false,
            config: Arc::new(config),
        }
    }

    pub(crate) fn begin(&mut self, now: Time, wall: Duration) {
        self.now = now;
        self.busy = false;
        self.hub.begin(now);
        self.hub.encoder().begin();
        self.inflation.begin();
        if wall.as_secs() != self.date_seconds {
            self.date_seconds = wall.as_secs();
            self.date = Date::from_unix(wall.as_secs());
        }
    }

    /// Ends a connection's turn: what it does next. No mode but the last is without a timer (docs/protocol.md K7).
    pub(crate) fn settle(&mut self, id: ConnId, mode: Mode) {
        let timed = self.wheel.is_set(id.slot()) || matches!(mode, Mode::Gone | Mode::Vacant);
        debug_assert!(timed, "a mode without a timer");
        self.conns.put(id, mode);
    }

    /// Now in milliseconds, short enough to be kept for every connection; wraps after 49 days.
    pub(crate) fn now_millis(&self) -> u32 {
        (self.now.as_nanos() / 1_000_000) as u32
    }

    pub(crate) fn after(&self, span: Duration) -> Time {
        self.now + span
    }

    /// Pushes what `write` puts into the scratch, behind all that waits for `id`.
    pub(crate) fn push(&mut self, id: ConnId, write: impl FnOnce(&mut Core, &mut Vec<u8>)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        write(self, &mut scratch);
        if !scratch.is_empty() {
            self.hub.outboxes.push(id.slot(), Bytes::own(&scratch[..], &self.meter));
        }
        scratch.clear();
        self.scratch = scratch;
    }
}

/// How a request is refused that a home did not do.
pub(crate) fn reason(why: Rejection) -> Reason {
    match why {
        Rejection::TopicsFull => Reason::TopicsFull,
        Rejection::Busy => Reason::Busy,
    }
}

/// The token by which a connection finds its own messages again.
pub(crate) fn token(id: ConnId) -> Token {
    Token::new(u64::from(id.generation()) << 32 | u64::from(id.slot()))
}

/// The connection a token names.
pub(crate) fn named_by(token: Token) -> ConnId {
    ConnId::new(token.who as u32, (token.who >> 32) as u32)
}
