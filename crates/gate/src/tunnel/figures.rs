//! What is counted of tunnels, by route.

use std::time::Duration;

use moongate_hub::{SampleKind, Snapshot};
use moongate_wire::refusal::Reason;
use moongate_wire::route::Service;

use super::{Ending, Side};
use crate::conn::Mode;
use crate::core::Core;

/// Upper bounds of the buckets of the time it takes to connect, and how Prometheus writes them.
const CONNECT_BUCKETS: [(Duration, &str); 8] = [
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(20), "0.02"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_millis(10_000), "10"),
];

/// How the gateway ends tunnels, in the order of [`Ending`].
const ENDINGS: [&str; 3] = ["idle", "lifetime", "drain"];

/// All routes' figures, by the route's number.
#[derive(Default)]
pub(crate) struct TunnelCounts(Vec<RouteCounts>);

#[derive(Clone, Default)]
struct RouteCounts {
    opened: u64,
    /// Those that the gateway ended, by [`Ending`].
    ended: [u64; ENDINGS.len()],
    /// From clients, and from upstreams.
    bytes: [u64; 2],
    connect_buckets: [u64; CONNECT_BUCKETS.len()],
    connects: u64,
    connect_time: Duration,
    refused: Vec<(Reason, u64)>,
}

impl TunnelCounts {
    pub(crate) fn new(routes: usize) -> TunnelCounts {
        TunnelCounts(vec![RouteCounts::default(); routes])
    }

    pub(super) fn opened(&mut self, route: u16) {
        self.0[usize::from(route)].opened += 1;
    }

    /// The gateway ended one.
    pub(super) fn ended(&mut self, route: u16, why: Ending) {
        self.0[usize::from(route)].ended[why as usize] += 1;
    }

    /// Bytes came in at one end.
    pub(super) fn moved(&mut self, route: u16, side: Side, bytes: usize) {
        self.0[usize::from(route)].bytes[side as usize] += bytes as u64;
    }

    /// A connection was made, `span` after it was first tried.
    pub(super) fn connected(&mut self, route: u16, span: Duration) {
        let counts = &mut self.0[usize::from(route)];
        counts.connects += 1;
        counts.connect_time += span;
        let bucket = CONNECT_BUCKETS.partition_point(|(bound, _)| *bound < span);
        if let Some(count) = counts.connect_buckets.get_mut(bucket) {
            *count += 1;
        }
    }

    pub(super) fn refused(&mut self, route: u16, reason: Reason) {
        let refused = &mut self.0[usize::from(route)].refused;
        match refused.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, count)) => *count += 1,
            None => refused.push((reason, 1)),
        }
    }
}

impl Core {
    /// The figures of all routes that lead to upstreams; those of one metric stand together.
    pub(crate) fn show_tunnels(&self, shot: &mut Snapshot) {
        let routes = &self.config.policy.routes;
        let mut open = vec![0_u64; routes.len()];
        for (_, mode) in self.conns.iter() {
            if let Mode::Tunnel(tunnel) = mode
                && tunnel.side == Side::Client
            {
                open[usize::from(tunnel.route)] += 1;
            }
        }
        let rows: Vec<(String, u64, &RouteCounts)> = routes
            .iter()
            .zip(open)
            .zip(&self.tunnels.0)
            .filter(|((route, _), _)| matches!(route.service, Service::Tunnel(_)))
            .map(|((route, open), counts)| (route.pattern.to_string(), open, counts))
            .collect();
        for (route, open, _) in &rows {
            let labels = [("route", route.as_str())];
            let help = "Tunnels that are open, by route.";
            shot.labelled(SampleKind::Gauge, "moongate_tunnels", help, &labels, *open as f64);
        }
        for (route, _, counts) in &rows {
            let labels = [("route", route.as_str())];
            let help = "Tunnels that were opened, by route.";
            let name = "moongate_tunnels_opened_total";
            shot.labelled(SampleKind::Counter, name, help, &labels, counts.opened as f64);
        }
        for (route, _, counts) in &rows {
            for (why, count) in ENDINGS.iter().zip(counts.ended) {
                let labels = [("route", route.as_str()), ("reason", why)];
                let help = "Tunnels that the gateway ended, by route and reason.";
                shot.labelled(
                    SampleKind::Counter,
                    "moongate_tunnels_ended_total",
                    help,
                    &labels,
                    count as f64,
                );
            }
        }
        for (route, _, counts) in &rows {
            for (way, bytes) in ["from_client", "from_upstream"].iter().zip(counts.bytes) {
                let labels = [("route", route.as_str()), ("way", way)];
                let help = "Bytes received at either end of tunnels, by route.";
                shot.labelled(
                    SampleKind::Counter,
                    "moongate_tunnel_bytes_total",
                    help,
                    &labels,
                    bytes as f64,
                );
            }
        }
        for (route, _, counts) in &rows {
            for (reason, count) in &counts.refused {
                let labels = [("route", route.as_str()), ("reason", reason.label())];
                let help =
                    "Requests for upstreams that were refused once they had a route, by route and reason.";
                shot.labelled(
                    SampleKind::Counter,
                    "moongate_tunnel_refused_total",
                    help,
                    &labels,
                    *count as f64,
                );
            }
        }
        for (route, _, counts) in &rows {
            counts.show_connects(route, shot);
        }
    }
}

impl RouteCounts {
    fn show_connects(&self, route: &str, shot: &mut Snapshot) {
        const HELP: &str = "Time it took to connect to an upstream, over all addresses tried, in seconds.";
        const BUCKET: &str = "moongate_upstream_connect_seconds_bucket";
        let histogram = SampleKind::Histogram;
        let mut below = 0;
        for ((_, label), count) in CONNECT_BUCKETS.iter().zip(self.connect_buckets) {
            below += count;
            shot.labelled(histogram, BUCKET, HELP, &[("route", route), ("le", label)], below as f64);
        }
        let connects = self.connects as f64;
        shot.labelled(histogram, BUCKET, HELP, &[("route", route), ("le", "+Inf")], connects);
        let route = [("route", route)];
        let seconds = self.connect_time.as_secs_f64();
        shot.labelled(histogram, "moongate_upstream_connect_seconds_sum", HELP, &route, seconds);
        shot.labelled(histogram, "moongate_upstream_connect_seconds_count", HELP, &route, connects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_the_buckets_are_their_bounds_in_seconds() {
        for (bound, label) in CONNECT_BUCKETS {
            let seconds: f64 = label.parse().expect("a number");
            assert!((seconds - bound.as_secs_f64()).abs() < 1e-9, "{label}");
        }
    }
}
