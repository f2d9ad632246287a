//! What a shard counts, for its metrics and for the rate of its log.

use std::time::Duration;

use moongate_hub::{SampleKind, Snapshot};
use moongate_io::{Counters, Time};
use moongate_wire::refusal::Reason;

use crate::core::Core;

/// Why a subscriber's connection ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It said Close.
    Peer,
    /// It broke the protocol.
    Protocol,
    /// It sent text that is none.
    NotText,
    /// It sent a compressed message that does not inflate by itself.
    NotDeflate,
    /// It sent a message that is too long.
    TooBig,
    /// It spoke though it may only listen.
    NotAllowed,
    /// It did not read fast enough.
    Slow,
    /// Memory or topics were full.
    Overload,
    /// The gateway stops.
    Drain,
    /// It did not answer a ping.
    Silent,
    /// It acknowledged nothing.
    TimedOut,
    /// It went without a word.
    Vanished,
}

const ENDS: [(End, &str); 12] = [
    (End::Peer, "peer_close"),
    (End::Protocol, "protocol_error"),
    (End::NotText, "not_utf8"),
    (End::NotDeflate, "not_deflate"),
    (End::TooBig, "message_too_big"),
    (End::NotAllowed, "not_allowed"),
    (End::Slow, "outbox_full"),
    (End::Overload, "overload"),
    (End::Drain, "drain"),
    (End::Silent, "pong_timeout"),
    (End::TimedOut, "tcp_timeout"),
    (End::Vanished, "vanished"),
];

impl End {
    /// The end a fault of the frame decoder is, by its close code.
    pub(crate) fn of_fault(code: u16) -> End {
        match code {
            1007 => End::NotText,
            1009 => End::TooBig,
            _ => End::Protocol,
        }
    }
}

/// How many refusals are logged in a second; the others are counted in one line.
const LOG_LINES_PER_SECOND_MAX: u32 = 20;

/// Upper bounds of the tick time histogram's buckets, in nanoseconds.
const TICK_BUCKETS: [u64; 10] = [
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    1_000_000_000,
];
const TICK_BUCKET_LABELS: [&str; 10] =
    ["0.00001", "0.00003", "0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03", "0.1", "1"];

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) switched: u64,
    pub(crate) streamed: u64,
    pub(crate) posted: u64,
    pub(crate) answered: u64,
    pub(crate) proxied: u64,
    pub(crate) echoed: u64,
    pub(crate) paused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) close_timeouts: u64,
    pub(crate) memory_evictions: u64,
    refused: Vec<u64>,
    ends: [u64; ENDS.len()],
    tick_buckets: [u64; TICK_BUCKETS.len()],
    ticks: u64,
    busy_nanos: u64,
    log_second: u64,
    log_lines: u32,
    log_suppressed: u64,
}

impl Counts {
    pub(crate) fn refused(&mut self, reason: Reason) {
        self.refused.resize(Reason::ALL.len(), 0);
        self.refused[reason as usize] += 1;
    }

    pub(crate) fn ended(&mut self, end: End) {
        self.ends[end as usize] += 1;
    }

    /// Counts a tick, from the driver's sum of the time spent in them.
    pub(crate) fn ticked(&mut self, busy_nanos: u64) {
        let nanos = busy_nanos.saturating_sub(self.busy_nanos);
        self.busy_nanos = busy_nanos;
        self.ticks += 1;
        let bucket = TICK_BUCKETS.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.tick_buckets.get_mut(bucket) {
            *count += 1;
        }
    }

    /// Whether one more refusal may be logged in this second. Says, once it is over, how many were not.
    pub(crate) fn may_log(&mut self, now: Time) -> bool {
        let second = now.since(Time::ZERO).as_secs();
        if second != self.log_second {
            if self.log_suppressed > 0 {
                tracing::info!(count = self.log_suppressed, "refusals not logged one by one");
            }
            (self.log_second, self.log_lines, self.log_suppressed) = (second, 0, 0);
        }
        self.log_lines += 1;
        if self.log_lines > LOG_LINES_PER_SECOND_MAX {
            self.log_suppressed += 1;
            return false;
        }
        true
    }
}

impl Core {
    /// All figures of the shard.
    pub(crate) fn snapshot(&mut self, driver: &Counters) -> Snapshot {
        let mut shot = Snapshot::default();
        self.show_connections(&mut shot, driver);
        self.show_answers(&mut shot);
        self.show_sessions(&mut shot);
        self.show_tunnels(&mut shot);
        self.show_deflate(&mut shot);
        self.hub.survey(&mut shot);
        self.show_driver(&mut shot, driver);
        self.counts.show_ticks(&mut shot);
        shot
    }

    fn show_connections(&self, shot: &mut Snapshot, driver: &Counters) {
        let counts = &self.counts;
        shot.gauge("moongate_connections", "Connections, closing ones included.", self.conns.len() as u64);
        shot.gauge("moongate_connections_max", "How many are served.", self.config.connections_max.into());
        shot.gauge("moongate_slots_used", "Slots of the driver's table in use.", driver.slots_used);
        shot.counter("moongate_accepted_total", "Connections accepted.", counts.accepted);
        shot.counter("moongate_accept_errors_total", "Accepts that failed.", driver.accept_errors);
        shot.counter(
            "moongate_accept_aborted_total",
            "Connections reset before they were accepted.",
            driver.accept_aborted,
        );
        shot.counter("moongate_bytes_in_total", "Bytes received.", counts.bytes_in);
        shot.counter("moongate_bytes_out_total", "Bytes the kernel took for sending.", counts.bytes_out);
        shot.gauge(
            "moongate_memory_bytes",
            "Remainders, messages in progress and live runs.",
            self.memory_bytes(),
        );
        shot.gauge("moongate_memory_bytes_max", "The limit of that.", self.config.memory_bytes_max);
        shot.counter(
            "moongate_memory_evictions_total",
            "Connections sent away because memory was short.",
            counts.memory_evictions,
        );
    }

    fn show_answers(&self, shot: &mut Snapshot) {
        let counts = &self.counts;
        let done = [
            ("switched", counts.switched),
            ("event_stream", counts.streamed),
            ("published", counts.posted),
            ("answered", counts.answered),
            ("proxied", counts.proxied),
        ];
        let refused = Reason::ALL.iter().zip(&counts.refused).filter(|(_, count)| **count > 0);
        let rows = done.iter().map(|(outcome, count)| (*outcome, "", *count));
        for (outcome, reason, count) in
            rows.chain(refused.map(|(reason, count)| ("refused", reason.label(), *count)))
        {
            shot.labelled(
                SampleKind::Counter,
                "moongate_requests_total",
                "Requests by outcome, and refusals by reason.",
                &[("outcome", outcome), ("reason", reason)],
                count as f64,
            );
        }
        for ((_, label), count) in ENDS.iter().zip(counts.ends) {
            shot.labelled(
                SampleKind::Counter,
                "moongate_subscribers_ended_total",
                "WebSockets and event streams that ended, by reason.",
                &[("reason", label)],
                count as f64,
            );
        }
        shot.counter("moongate_echoed_total", "Messages sent back to who sent them.", counts.echoed);
        shot.counter(
            "moongate_paused_total",
            "Times a connection was not read from for a while.",
            counts.paused,
        );
        shot.counter(
            "moongate_close_timeouts_total",
            "Connections cut off because they did not end in time.",
            counts.close_timeouts,
        );
    }

    fn show_deflate(&mut self, shot: &mut Snapshot) {
        let (deflated, inflated) = (self.hub.encoder().counts, self.inflation.counts);
        let labelled = |shot: &mut Snapshot, name, help, label: (&'static str, &'static str), count: u64| {
            shot.labelled(SampleKind::Counter, name, help, &[label], count as f64);
        };
        for (way, messages, bytes_in, bytes_out) in [
            ("deflate", deflated.messages, deflated.bytes_in, deflated.bytes_out),
            ("inflate", inflated.messages, inflated.bytes_in, inflated.bytes_out),
        ] {
            let way = ("way", way);
            labelled(
                shot,
                "moongate_compression_messages_total",
                "Messages compressed for subscribers, each once however many they are, and messages inflated.",
                way,
                messages,
            );
            labelled(
                shot,
                "moongate_compression_bytes_in_total",
                "Their payload before that.",
                way,
                bytes_in,
            );
            labelled(shot, "moongate_compression_bytes_out_total", "Their payload after it.", way, bytes_out);
        }
        for (reason, count) in [("not_smaller", deflated.not_smaller), ("over_budget", deflated.over_budget)]
        {
            labelled(
                shot,
                "moongate_deflate_skipped_total",
                "Messages large enough to compress that were sent as they are, by reason.",
                ("reason", reason),
                count,
            );
        }
        for (reason, count) in
            [("not_deflate", inflated.broken), ("too_big", inflated.too_big), ("not_utf8", inflated.not_text)]
        {
            labelled(
                shot,
                "moongate_inflate_refused_total",
                "Compressed messages that ended their WebSocket, by reason.",
                ("reason", reason),
                count,
            );
        }
        shot.counter(
            "moongate_inflate_waited_total",
            "Compressed messages that waited for another tick, because one inflates only so much.",
            inflated.waited,
        );
    }

    fn show_driver(&self, shot: &mut Snapshot, driver: &Counters) {
        shot.counter(
            "moongate_ring_overflows_total",
            "Overflows of the completion queue.",
            driver.completion_overflows,
        );
        shot.counter(
            "moongate_ring_deferred_total",
            "Requests that found the submission queue full and waited.",
            driver.submissions_deferred,
        );
        shot.counter(
            "moongate_receive_buffers_exhausted_total",
            "Receives that found no free buffer (ENOBUFS).",
            driver.buffers_exhausted,
        );
        shot.gauge("moongate_receive_buffers_free", "Receive buffers that are free.", driver.buffers_free);
        shot.counter(
            "moongate_connect_errors_total",
            "Attempts to connect to an upstream that failed.",
            driver.connect_errors,
        );
        shot.counter("moongate_sends_short_total", "Sends that took only a part.", driver.sends_short);
        shot.counter("moongate_ring_enters_total", "Calls into the kernel.", driver.enters);
    }
}

impl Counts {
    fn show_ticks(&self, shot: &mut Snapshot) {
        const HELP: &str = "Time a tick took, from a return of waiting to the next wait, in seconds.";
        let histogram = SampleKind::Histogram;
        let mut below = 0;
        for (label, count) in TICK_BUCKET_LABELS.iter().zip(self.tick_buckets) {
            below += count;
            shot.labelled(histogram, "moongate_tick_seconds_bucket", HELP, &[("le", label)], below as f64);
        }
        let ticks = self.ticks as f64;
        shot.labelled(histogram, "moongate_tick_seconds_bucket", HELP, &[("le", "+Inf")], ticks);
        let seconds = Duration::from_nanos(self.busy_nanos).as_secs_f64();
        shot.labelled(histogram, "moongate_tick_seconds_sum", HELP, &[], seconds);
        shot.labelled(histogram, "moongate_tick_seconds_count", HELP, &[], ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_labels_are_in_the_order_of_their_enums() {
        for (index, (end, _)) in ENDS.iter().enumerate() {
            assert_eq!(*end as usize, index);
        }
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        for (bound, label) in TICK_BUCKETS.iter().zip(TICK_BUCKET_LABELS) {
            let seconds: f64 = label.parse().expect("a number");
            assert!((seconds * 1e9 - *bound as f64).abs() < 1.0, "{label}");
        }
    }

    #[test]
    fn the_log_is_bounded_per_second() {
        let mut counts = Counts::default();
        let now = Time::ZERO + Duration::from_secs(5);
        let logged = (0..100).filter(|_| counts.may_log(now)).count();
        assert_eq!(logged, LOG_LINES_PER_SECOND_MAX as usize);
        assert!(counts.may_log(now + Duration::from_secs(1)));
    }
}
