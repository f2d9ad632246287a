//! Where upstreams are: their names, resolved off the shards and again and again, because addresses move.
//!
//! Shards are told through the lanes, and only when the set of addresses has changed. A name that stops resolving keeps
//! the addresses it had: a name server that is away for a while is no reason to refuse what would still work.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use moongate_hub::UpstreamAddresses;
use moongate_wire::route::UpstreamName;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::clerk::Request;
use crate::state::State;

/// How long one name may take to resolve. The resolver's own limits are often longer (`resolv.conf(5)`).
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How many addresses of one name are used.
const ADDRESSES_MAX: usize = 64;

/// All names, and what is known of them.
pub(crate) struct Resolver {
    names: Vec<Known>,
    refresh: Duration,
}

struct Known {
    name: UpstreamName,
    /// In the order in which they are to be tried.
    addresses: Arc<[SocketAddr]>,
    /// Whether the last attempt failed, so that this is said once.
    failing: bool,
}

impl Resolver {
    pub(crate) fn new(names: &[UpstreamName], refresh: Duration) -> Resolver {
        let known =
            |name: &UpstreamName| Known { name: name.clone(), addresses: Arc::new([]), failing: false };
        Resolver { names: names.iter().map(known).collect(), refresh }
    }

    /// The addresses known now, by name.
    pub(crate) fn addresses(&self) -> Vec<Arc<[SocketAddr]>> {
        self.names.iter().map(|known| Arc::clone(&known.addresses)).collect()
    }

    /// Resolves every name once, all at the same time; returns those whose addresses have changed.
    pub(crate) async fn round(&mut self) -> Vec<UpstreamAddresses> {
        let mut lookups = JoinSet::new();
        for (index, known) in self.names.iter().enumerate() {
            let name = known.name.clone();
            lookups.spawn(async move { (index, look_up(&name).await) });
        }
        let mut changed = Vec::new();
        while let Some(done) = lookups.join_next().await {
            // A lookup neither panics nor is it cancelled while this waits for it.
            let Ok((index, found)) = done else { continue };
            if self.names[index].heard(found) {
                // The table of routes numbers them so.
                let (name, addresses) = (index as u16, Arc::clone(&self.names[index].addresses));
                changed.push(UpstreamAddresses { name, addresses });
            }
        }
        changed
    }

    /// Goes on resolving for as long as there is a clerk to tell. Ends at once if there is nothing to resolve.
    pub(crate) async fn run(mut self, state: Arc<State>) {
        if self.names.is_empty() {
            return;
        }
        loop {
            tokio::time::sleep(self.refresh).await;
            for found in self.round().await {
                if !state.tell(Request::Upstreams(found)).await {
                    return;
                }
            }
        }
    }
}

impl Known {
    /// Takes the outcome of a lookup; whether the addresses have changed.
    fn heard(&mut self, found: io::Result<Vec<SocketAddr>>) -> bool {
        let name = &self.name;
        let found = match found {
            Ok(found) if !found.is_empty() => found,
            failed => {
                let error = failed.err().map_or("it has no address".to_owned(), |error| error.to_string());
                let known = self.addresses.len();
                if !self.failing {
                    warn!(%name, known, "an upstream's name does not resolve, and is tried again: {error}");
                }
                self.failing = true;
                return false;
            }
        };
        let recovered = std::mem::take(&mut self.failing);
        let same = found.len() == self.addresses.len() && found.iter().all(|at| self.addresses.contains(at));
        if !same || recovered {
            info!(%name, addresses = ?found, "an upstream's name resolves");
        }
        if !same {
            self.addresses = found.into();
        }
        !same
    }
}

/// The addresses of a name, each once.
async fn look_up(name: &UpstreamName) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((&*name.host, name.port)));
    let mut addresses = Vec::new();
    for address in found.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> UpstreamName {
        UpstreamName { host: host.into(), port: 80 }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_what_changes_is_told() {
        let mut known = Resolver::new(&[name("app")], Duration::from_secs(1)).names.remove(0);
        let (a, b) = (at("192.0.2.1:80"), at("192.0.2.2:80"));
        assert!(known.heard(Ok(vec![a, b])));
        assert!(!known.heard(Ok(vec![b, a])), "the same in another order");
        assert!(known.heard(Ok(vec![b])));
        assert!(!known.heard(Err(io::ErrorKind::TimedOut.into())) && known.failing);
        assert!(!known.heard(Ok(Vec::new())), "no address is a failure too");
        assert_eq!(*known.addresses, [b], "what was known stays");
        assert!(!known.heard(Ok(vec![b])) && !known.failing);
        assert!(known.heard(Ok(vec![a])));
    }

    #[tokio::test]
    async fn names_are_resolved_together() {
        let names = [name("localhost"), name("name.invalid"), name("127.0.0.9")];
        let mut resolver = Resolver::new(&names, Duration::from_secs(1));
        let mut changed: Vec<u16> = resolver.round().await.iter().map(|found| found.name).collect();
        changed.sort_unstable();
        // RFC 6761 §6.3, §6.4: the first always resolves, the second never.
        assert_eq!(changed, [0, 2]);
        let addresses = resolver.addresses();
        assert!(!addresses[0].is_empty() && addresses[0].iter().all(|address| address.ip().is_loopback()));
        assert_eq!((&*addresses[1], &*addresses[2]), (&[][..], &[at("127.0.0.9:80")][..]));
        assert_eq!(resolver.round().await, []);
    }
}
