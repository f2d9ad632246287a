//! Memory: the server's own, and the kernel's.
//!
//! What the kernel holds is not counted by process, but for the whole machine: where client and server share it, it is what
//! both ends of a connection take.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::procfs::{self, Sockets};

/// How many slab caches are named when memory grew: the largest.
const CACHES_NAMED_MAX: usize = 8;

/// What the server and the kernel hold, in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Footprint {
    /// Resident, in the server's process.
    pub(crate) rss: u64,
    /// The same with shared pages counted in part.
    pub(crate) pss: u64,
    /// Of that, what is not a file's.
    pub(crate) pss_anon: u64,
    /// Open file descriptors.
    pub(crate) files: u64,
    pub(crate) kernel: Option<Kernel>,
}

/// What the kernel holds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// Objects in use.
    pub(crate) slab: u64,
    /// Where that is from: `slabinfo`, by objects; or `meminfo`, by pages, where that may not be read.
    pub(crate) slab_from: String,
    /// Buffers of TCP sockets.
    pub(crate) tcp: u64,
    /// TCP sockets.
    pub(crate) sockets: u64,
    /// TCP sockets that are closed, and wait for what may still arrive.
    pub(crate) time_wait: u64,
    /// Slabs by cache.
    #[serde(skip)]
    pub(crate) caches: BTreeMap<String, u64>,
}

/// By how many bytes a connection made memory grow.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Growth {
    pub(crate) rss: f64,
    pub(crate) pss: f64,
    /// Of the kernel, both ends.
    pub(crate) slab: Option<f64>,
    pub(crate) tcp: Option<f64>,
    /// The caches that grew most, where they can be told apart.
    pub(crate) caches: Vec<(String, f64)>,
}

impl Footprint {
    /// Of process `pid` (proc_pid_smaps(5)), which needs its user's rights, and of the kernel.
    pub(crate) fn read(pid: u32) -> Option<Footprint> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let field = |name| procfs::kilobytes(&rollup, name);
        Some(Footprint {
            rss: field("Rss:")?,
            pss: field("Pss:")?,
            pss_anon: field("Pss_Anon:")?,
            files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            kernel: Kernel::read(),
        })
    }

    /// By how much a connection made it grow, if there are `connections` more than in `earlier`.
    pub(crate) fn growth(&self, earlier: &Footprint, connections: f64) -> Growth {
        let per = |now: u64, before: u64| (now as f64 - before as f64) / connections;
        let kernel = self.kernel.as_ref().zip(earlier.kernel.as_ref());
        let of_kernel = |of: fn(&Kernel) -> u64| kernel.map(|(now, before)| per(of(now), of(before)));
        Growth {
            rss: per(self.rss, earlier.rss),
            pss: per(self.pss, earlier.pss),
            slab: of_kernel(|kernel| kernel.slab),
            tcp: of_kernel(|kernel| kernel.tcp),
            caches: kernel.map(|(now, before)| now.grown(before, per)).unwrap_or_default(),
        }
    }
}

impl Kernel {
    fn read() -> Option<Kernel> {
        let page = rustix::param::page_size() as u64;
        let Sockets { tcp, time_wait, pages } = sockets()?;
        let caches =
            fs::read_to_string("/proc/slabinfo").map(|text| procfs::slabs(&text)).unwrap_or_default();
        let (slab, slab_from) = if caches.is_empty() {
            let text = fs::read_to_string("/proc/meminfo").ok()?;
            (procfs::kilobytes(&text, "Slab:")?, "meminfo")
        } else {
            (caches.values().sum(), "slabinfo")
        };
        let slab_from = slab_from.to_owned();
        Some(Kernel { slab, slab_from, tcp: pages * page, sockets: tcp, time_wait, caches })
    }

    fn grown(&self, earlier: &Kernel, per: impl Fn(u64, u64) -> f64) -> Vec<(String, f64)> {
        let each = self.caches.iter().map(|(name, bytes)| {
            let before = earlier.caches.get(name).copied().unwrap_or_default();
            (name.clone(), per(*bytes, before))
        });
        let mut grown: Vec<_> = each.filter(|(_, by)| *by >= 1.0).collect();
        grown.sort_by(|left, right| right.1.total_cmp(&left.1));
        grown.truncate(CACHES_NAMED_MAX);
        grown
    }
}

fn sockets() -> Option<Sockets> {
    let [v4, v6] = ["sockstat", "sockstat6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")).ok());
    let mut all = procfs::sockstat(&v4?)?;
    // Those of IPv6 are listed apart; their memory is not.
    all.tcp +=
        v6.and_then(|text| procfs::field(&text, "TCP6: inuse")?.parse::<u64>().ok()).unwrap_or_default();
    Some(all)
}

/// What process `pid` has resident, in bytes; cheaper to ask than a [`Footprint`].
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let pages = procfs::resident_pages(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)?;
    Some(pages * rustix::param::page_size() as u64)
}

/// What the buffers of all TCP sockets of this machine take, in bytes.
pub(crate) fn tcp_bytes() -> Option<u64> {
    Some(sockets()?.pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        let footprint = Footprint::read(std::process::id()).expect("our own");
        assert!(footprint.rss >= footprint.pss && footprint.pss >= footprint.pss_anon, "{footprint:?}");
        assert!(footprint.pss_anon > 0 && footprint.files >= 3, "{footprint:?}");
        assert!(footprint.kernel.as_ref().is_some_and(|kernel| kernel.slab > 0), "{footprint:?}");
        assert!(resident(std::process::id()) > Some(0) && tcp_bytes().is_some());
    }

    fn kernel(tcp: u64, caches: &[(&str, u64)]) -> Kernel {
        let caches: BTreeMap<_, _> =
            caches.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
        Kernel { slab: caches.values().sum(), tcp, caches, ..Kernel::default() }
    }

    #[test]
    fn growth_is_per_connection() {
        let before = Footprint {
            rss: 2_000_000,
            pss: 1_500_000,
            kernel: Some(kernel(8192, &[("TCP", 1000), ("dentry", 5000), ("filp", 300)])),
            ..Footprint::default()
        };
        let after = Footprint {
            rss: 2_100_000,
            pss: 1_550_000,
            kernel: Some(kernel(
                4096,
                &[("TCP", 501_000), ("dentry", 4000), ("filp", 40_300), ("eventpoll", 900)],
            )),
            ..Footprint::default()
        };
        let growth = after.growth(&before, 100.0);
        let expect = Growth {
            rss: 1000.0,
            pss: 500.0,
            slab: Some(5000.0 - 10.0 + 400.0 + 9.0),
            tcp: Some(-40.96),
            caches: vec![("TCP".into(), 5000.0), ("filp".into(), 400.0), ("eventpoll".into(), 9.0)],
        };
        assert_eq!(growth, expect);
        let unknown = Footprint { kernel: None, ..after };
        assert_eq!(unknown.growth(&before, 100.0).slab, None);
    }
}
