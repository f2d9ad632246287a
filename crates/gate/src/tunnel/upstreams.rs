//! Where upstreams are: the addresses of names, whose turn it is, and who refused a moment ago.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::UpstreamAddresses;
use moongate_io::{ConnId, Remote, Ticket, Time};
use moongate_wire::route::{Tunnel, Upstream};

/// How many addresses one request tries.
const ATTEMPTS_MAX: usize = 8;

/// How long one that did not take a connection is tried after all others.
const REST: Duration = Duration::from_secs(1);

/// Upstreams as one shard knows them.
#[derive(Default)]
pub(crate) struct Upstreams {
    /// By the number of the name in the table of routes.
    addresses: Vec<Arc<[SocketAddr]>>,
    /// Those that rest, and until when.
    resting: HashMap<Remote, Time>,
    /// By the number of the route: how many requests have had their turn.
    turns: Vec<usize>,
    /// How many connections are being made.
    pub(crate) connecting: usize,
}

impl Upstreams {
    pub(crate) fn new(addresses: Vec<Arc<[SocketAddr]>>) -> Upstreams {
        Upstreams { addresses, ..Upstreams::default() }
    }

    /// A name leads elsewhere from now on.
    pub(crate) fn resolved(&mut self, found: UpstreamAddresses) {
        if let Some(addresses) = self.addresses.get_mut(usize::from(found.name)) {
            *addresses = found.addresses;
        }
    }

    /// Where to try, in order: all of a route's upstreams take turns, and those that rest come last. None if no name
    /// resolves.
    pub(crate) fn candidates(&mut self, route: u16, tunnel: &Tunnel, now: Time) -> Vec<Remote> {
        let mut all: Vec<Remote> =
            tunnel.upstreams.iter().flat_map(|upstream| self.remotes(upstream)).collect();
        if all.len() > 1 {
            let route = usize::from(route);
            self.turns.resize(self.turns.len().max(route + 1), 0);
            let first = self.turns[route] % all.len();
            self.turns[route] = self.turns[route].wrapping_add(1);
            all.rotate_left(first);
        }
        if !self.resting.is_empty() {
            self.resting.retain(|_, until| *until > now);
            all.sort_by_key(|remote| self.resting.contains_key(remote));
        }
        all.truncate(ATTEMPTS_MAX);
        all
    }

    fn remotes(&self, upstream: &Upstream) -> Vec<Remote> {
        match upstream {
            Upstream::Tcp(address) => vec![Remote::Tcp(*address)],
            Upstream::Unix(path) => vec![Remote::Unix(path.to_path_buf())],
            Upstream::Name(name) => {
                let found = self.addresses.get(usize::from(*name));
                found.into_iter().flat_map(|found| found.iter().copied().map(Remote::Tcp)).collect()
            }
        }
    }

    /// `remote` did not take a connection: others go first for a moment.
    pub(crate) fn rest(&mut self, remote: Remote, now: Time) {
        self.resting.insert(remote, now + REST);
    }
}

/// The ticket of the attempt with this number, one of a few, of a client's one request.
pub(super) fn ticket(client: ConnId, number: u8) -> Ticket {
    debug_assert!(client.slot() < 1 << 24, "drivers have fewer slots");
    Ticket(u64::from(client.generation()) << 32 | u64::from(client.slot()) << 8 | u64::from(number))
}

/// The client whose attempt a ticket is.
pub(super) fn client_of(ticket: Ticket) -> ConnId {
    ConnId::new((ticket.0 >> 8) as u32 & 0x00ff_ffff, (ticket.0 >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use moongate_wire::route::Routes;

    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([10, 0, 0, 1], *port))).collect()
    }

    fn routes(text: &str) -> Routes {
        Routes::parse(text).expect("a table")
    }

    /// The ports that are tried, in order.
    fn ports(upstreams: &mut Upstreams, routes: &Routes, millis: u64) -> Vec<u16> {
        let now = Time::ZERO + Duration::from_millis(millis);
        let port = |remote: &Remote| match remote {
            Remote::Tcp(address) => address.port(),
            Remote::Unix(_) => 0,
        };
        upstreams.candidates(0, routes.tunnel(0), now).iter().map(port).collect()
    }

    #[test]
    fn everybody_has_a_turn() {
        let routes = routes("/a tunnel 10.0.0.1:1,10.0.0.1:2,unix:/run/a");
        let mut upstreams = Upstreams::default();
        let mut first: Vec<_> = (0..6).map(|_| ports(&mut upstreams, &routes, 0)[0]).collect();
        assert_eq!(first, [1, 2, 0, 1, 2, 0]);
        first.truncate(3);
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
    }

    /// Requests of two routes that come in turn would else always meet the same upstream.
    #[test]
    fn every_route_has_turns_of_its_own() {
        let routes = routes("/a tunnel 10.0.0.1:1,10.0.0.1:2; /b tunnel 10.0.0.1:3,10.0.0.1:4");
        let mut upstreams = Upstreams::default();
        let mut first = |route| match &upstreams.candidates(route, routes.tunnel(route), Time::ZERO)[0] {
            Remote::Tcp(address) => address.port(),
            Remote::Unix(_) => 0,
        };
        assert_eq!([first(0), first(1), first(0), first(1)], [1, 3, 2, 4]);
    }

    #[test]
    fn names_stand_for_their_addresses_and_none_for_nothing() {
        let routes = routes("/a tunnel app.internal:80");
        let mut upstreams = Upstreams::new(vec![Arc::default()]);
        assert!(ports(&mut upstreams, &routes, 0).is_empty());
        let mut resolve = |ports: &[u16]| {
            upstreams.resolved(UpstreamAddresses { name: 0, addresses: addresses(ports).into() });
            upstreams.candidates(0, routes.tunnel(0), Time::ZERO).len()
        };
        assert_eq!([resolve(&[1, 2, 3]), resolve(&[7]), resolve(&[])], [3, 1, 0]);
        let many: Vec<u16> = (0..100).collect();
        assert_eq!(resolve(&many), ATTEMPTS_MAX);
    }

    #[test]
    fn who_refused_comes_last_for_a_moment() {
        let routes = routes("/a tunnel 10.0.0.1:1,10.0.0.1:2,10.0.0.1:3");
        let mut upstreams = Upstreams::default();
        upstreams.rest(Remote::Tcp(addresses(&[2])[0]), Time::ZERO);
        for _ in 0..6 {
            assert_eq!(ports(&mut upstreams, &routes, 999)[2], 2);
        }
        let last: Vec<_> = (0..3).map(|_| ports(&mut upstreams, &routes, 1001)[2]).collect();
        assert_eq!(last, [3, 1, 2]);
    }

    #[test]
    fn a_ticket_leads_back_to_its_client() {
        for client in [ConnId::new(0, 0), ConnId::new(0x00ff_ffff, u32::MAX), ConnId::new(513, 70_000)] {
            assert_ne!(ticket(client, 1), ticket(client, 2));
            for number in [0, 1, 255] {
                assert_eq!(client_of(ticket(client, number)), client);
            }
        }
    }
}
