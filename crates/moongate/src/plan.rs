//! What the settings ask for, divided by what the machine gives: how many shards, on which CPUs, and each one's share.

use std::fmt;

use moongate_sys::{DriverKind, machine};

use crate::settings::Settings;

/// Slots that a shard keeps beyond its share of connections: for those that are only told that the gateway is full, and
/// for those that are still closing.
const SPARE_SLOTS: u32 = 256;

/// Files that the process itself has open beside its shards' and their connections: the control thread's, above all its
/// connections, standard streams, and some for what libraries open.
const OWN_FILES: u64 = 320;

/// Files that a shard has open beside its listeners and connections: rings, bells, an epoll.
const SHARD_FILES: u64 = 8;

/// How many direct descriptors a ring can have (`IORING_MAX_FIXED_FILES` in the kernel's `io_uring/rsrc.c`).
const RING_SLOTS_MAX: u32 = 1 << 20;

/// How many completions a ring can hold (`IORING_MAX_CQ_ENTRIES` in the kernel's `io_uring/io_uring.h`).
const COMPLETION_ENTRIES_MAX: u32 = 65_536;

/// How many entries the lanes that lead to one shard have together, and the bounds for a single one. There are two lanes
/// for every ordered pair of shards, so with many shards each gets shorter lest they hold more memory than messages do.
const LANES_ENTRIES: usize = 8192;
const LANE_ENTRIES_MIN: usize = 64;
const LANE_ENTRIES_MAX: usize = 1024;

/// What the machine gives this process.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// CPUs that it may run on.
    pub(crate) cpus: Vec<usize>,
    /// How many threads are of use: the CPUs, or less where the control group's quota is smaller.
    pub(crate) parallelism: usize,
    /// How many files it may have open; also how many direct descriptors each ring may have.
    pub(crate) files_max: u64,
    /// Bytes of memory: the machine's, or its control group's where that is less.
    pub(crate) memory_bytes: u64,
}

/// How the work is divided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// The CPU each shard stays on, if any; one entry per shard.
    pub(crate) cpus: Vec<Option<usize>>,
    /// Connections for each shard.
    pub(crate) connections_max: u32,
    /// Places for connections in each shard, those included that are only refused or still closing.
    pub(crate) slots: u32,
    /// Whether `connections_max` is less than the settings ask for, and by what limit.
    pub(crate) lowered_by: Option<Limit>,
    /// Completions that each ring can hold.
    pub(crate) completion_entries: u32,
    /// Bytes of messages for each shard.
    pub(crate) memory_bytes_max: u64,
    /// Topics for each shard to be the home of.
    pub(crate) topics_max: usize,
    /// Entries of each lane of the mesh.
    pub(crate) lane_entries: usize,
}

/// What bounds the connections of a shard.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// The limit of open files, which holds for each ring's direct descriptors by itself.
    OpenFiles,
    /// The limit of open files, where every connection is one: all shards share it.
    SharedFiles,
    /// The kernel's own limit for one ring.
    Ring,
}

/// Why the machine cannot carry the settings at all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum TooSmall {
    /// The open files allowed leave no room for a single connection.
    Files {
        /// How many are allowed.
        files_max: u64,
        /// How many are needed for anything else.
        spare: u64,
    },
    /// A shard's share of the memory is less than one message.
    Memory {
        /// The share, in bytes.
        share: u64,
        /// How many shards there are.
        shards: usize,
    },
}

impl fmt::Display for TooSmall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooSmall::Files { files_max, spare } => write!(
                out,
                "at most {files_max} files may be open, of which {spare} are kept to spare: raise the hard limit \
                 (ulimit -Hn, LimitNOFILE= in systemd, --ulimit nofile= in Docker)"
            ),
            TooSmall::Memory { share, shards } => write!(
                out,
                "each of {shards} shards may hold {share} bytes, which is less than one message: raise \
                 MOONGATE_MEMORY_BYTES_MAX, or lower MOONGATE_MESSAGE_BYTES_MAX or MOONGATE_SHARDS"
            ),
        }
    }
}

impl Machine {
    /// Asks the operating system. The limit of open files is what it was raised to.
    pub(crate) fn ask(files_max: u64) -> std::io::Result<Machine> {
        Ok(Machine {
            cpus: machine::allowed_cpus()?,
            parallelism: std::thread::available_parallelism()?.get(),
            files_max,
            memory_bytes: machine::memory_bytes()?,
        })
    }
}

impl Plan {
    /// Divides `machine` as `settings` wish, for shards with this driver.
    pub(crate) fn new(settings: &Settings, machine: &Machine, driver: DriverKind) -> Result<Plan, TooSmall> {
        let shards = settings.shards.map_or(machine.parallelism, |shards| shards as usize).max(1);
        let pinned = settings.pin && shards <= machine.cpus.len();
        let cpus = (0..shards).map(|shard| pinned.then(|| machine.cpus[shard])).collect();

        let shards_count = u32::try_from(shards).unwrap_or(u32::MAX);
        let wanted = settings.connections_max.div_ceil(shards_count);
        let room = if driver.opens_files() {
            Room::of_files(settings, machine, shards as u64)?
        } else {
            Room::of_rings(machine)?
        };
        let connections_max = wanted.min(room.connections);

        let memory = settings.memory_bytes_max.map_or(machine.memory_bytes / 2, |bytes| bytes as u64);
        let memory_bytes_max = memory / shards as u64;
        if memory_bytes_max < settings.message_bytes_max as u64 {
            return Err(TooSmall::Memory { share: memory_bytes_max, shards });
        }
        Ok(Plan {
            cpus,
            connections_max,
            slots: connections_max + room.spare,
            lowered_by: (wanted > room.connections).then_some(room.limit),
            completion_entries: (settings.ring_entries * 8).min(COMPLETION_ENTRIES_MAX),
            memory_bytes_max,
            topics_max: settings.topics_max.div_ceil(shards_count) as usize,
            lane_entries: (LANES_ENTRIES / shards).clamp(LANE_ENTRIES_MIN, LANE_ENTRIES_MAX),
        })
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.cpus.len()
    }

    /// Whether every shard stays on a CPU of its own.
    pub(crate) fn is_pinned(&self) -> bool {
        self.cpus.iter().all(Option::is_some)
    }
}

/// How many connections a shard has room for.
struct Room {
    connections: u32,
    /// Slots beyond those.
    spare: u32,
    /// What bounds them.
    limit: Limit,
}

impl Room {
    /// Where connections are direct descriptors: the limit of open files bounds each ring by itself.
    fn of_rings(machine: &Machine) -> Result<Room, TooSmall> {
        let files_max = u32::try_from(machine.files_max).unwrap_or(u32::MAX);
        let (slots_max, limit) = match files_max < RING_SLOTS_MAX {
            true => (files_max, Limit::OpenFiles),
            false => (RING_SLOTS_MAX, Limit::Ring),
        };
        match slots_max.saturating_sub(SPARE_SLOTS) {
            0 => Err(TooSmall::Files { files_max: machine.files_max, spare: SPARE_SLOTS.into() }),
            connections => Ok(Room { connections, spare: SPARE_SLOTS, limit }),
        }
    }

    /// Where connections are open files: all shards together, and whatever else is open, stay below the limit.
    fn of_files(settings: &Settings, machine: &Machine, shards: u64) -> Result<Room, TooSmall> {
        let own = OWN_FILES + shards * (SHARD_FILES + settings.listen.len() as u64);
        let share = machine.files_max.saturating_sub(own) / shards;
        let share = u32::try_from(share).unwrap_or(u32::MAX).min(RING_SLOTS_MAX);
        let spare = SPARE_SLOTS.min(share / 2);
        match share - spare {
            0 => Err(TooSmall::Files { files_max: machine.files_max, spare: own }),
            connections => Ok(Room { connections, spare, limit: Limit::SharedFiles }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine =
        Machine { cpus: Vec::new(), parallelism: 4, files_max: 20_000, memory_bytes: 8 << 30 };

    fn plan(change: impl FnOnce(&mut Settings, &mut Machine)) -> Result<Plan, TooSmall> {
        plan_for(DriverKind::Uring, change)
    }

    fn plan_for(
        driver: DriverKind,
        change: impl FnOnce(&mut Settings, &mut Machine),
    ) -> Result<Plan, TooSmall> {
        let (mut settings, mut machine) = (Settings::defaults(), MACHINE);
        machine.cpus = vec![2, 3, 5, 7];
        change(&mut settings, &mut machine);
        Plan::new(&settings, &machine, driver)
    }

    #[test]
    fn shards_and_their_cpus() {
        let check = |shards: Option<u32>, pin: bool, parallelism: usize, expect: &[Option<usize>]| {
            let plan = plan(|settings, machine| {
                (settings.shards, settings.pin) = (shards, pin);
                machine.parallelism = parallelism;
            });
            assert_eq!(plan.expect("enough files").cpus, expect, "{shards:?} {pin} {parallelism}");
        };
        check(None, true, 4, &[Some(2), Some(3), Some(5), Some(7)]);
        // A quota of two CPUs' time on a machine of four.
        check(None, true, 2, &[Some(2), Some(3)]);
        check(Some(1), true, 4, &[Some(2)]);
        check(Some(1), false, 4, &[None]);
        check(Some(4), true, 1, &[Some(2), Some(3), Some(5), Some(7)]);
        // More shards than CPUs: two on one CPU while another idles would be worse than letting the kernel choose.
        check(Some(5), true, 4, &[None; 5]);
    }

    #[test]
    fn connections_are_shared_and_bounded() {
        let check = |connections: u32, shards: u32, files: u64, expect: Option<(u32, Option<Limit>)>| {
            let plan = plan(|settings, machine| {
                (settings.connections_max, settings.shards) = (connections, Some(shards));
                machine.files_max = files;
            });
            let found = plan.ok().map(|plan| {
                assert_eq!(plan.slots, plan.connections_max + SPARE_SLOTS);
                (plan.connections_max, plan.lowered_by)
            });
            assert_eq!(found, expect, "{connections} {shards} {files}");
        };
        check(100_000, 4, 1_000_000, Some((25_000, None)));
        check(100_001, 4, 1_000_000, Some((25_001, None)));
        check(1, 4, 1_000_000, Some((1, None)));
        check(100_000, 1, 20_000, Some((19_744, Some(Limit::OpenFiles))));
        check(19_744, 1, 20_000, Some((19_744, None)));
        check(16_777_216, 2, u64::MAX, Some((1_048_320, Some(Limit::Ring))));
        check(100_000, 2, 257, Some((1, Some(Limit::OpenFiles))));
        check(100_000, 2, 256, None);
    }

    #[test]
    fn connections_that_are_files_share_the_limit() {
        let check = |connections: u32, shards: u32, files: u64, expect: Option<(u32, u32, bool)>| {
            let plan = plan_for(DriverKind::Epoll, |settings, machine| {
                (settings.connections_max, settings.shards) = (connections, Some(shards));
                machine.files_max = files;
            });
            let found = plan.ok().map(|plan| {
                let spare = plan.slots - plan.connections_max;
                let files_needed = u64::from(shards * plan.slots) + OWN_FILES + u64::from(shards) * 9;
                assert!(files_needed <= files, "{files_needed} of {files}");
                (plan.connections_max, spare, plan.lowered_by == Some(Limit::SharedFiles))
            });
            assert_eq!(found, expect, "{connections} {shards} {files}");
        };
        check(100_000, 4, 1_000_000, Some((25_000, 256, false)));
        check(100_000, 2, 20_000, Some((9_575, 256, true)));
        // With few files half of a shard's share is kept to spare.
        check(100_000, 2, 1024, Some((172, 171, true)));
        check(100_000, 2, 340, Some((1, 0, true)));
        check(100_000, 2, 339, None);
        check(100_000, 2, 10, None);
    }

    #[test]
    fn memory_and_topics_are_shared() {
        let automatic = plan(|settings, _| settings.shards = Some(2)).expect("enough files");
        assert_eq!((automatic.memory_bytes_max, automatic.topics_max), (2 << 30, 500_000));
        let explicit = plan(|settings, _| {
            (settings.shards, settings.memory_bytes_max, settings.topics_max) = (Some(4), Some(1 << 30), 3);
        });
        let explicit = explicit.expect("enough files");
        assert_eq!((explicit.memory_bytes_max, explicit.topics_max), (1 << 28, 1));

        let small = |memory_bytes| plan(|_, machine| machine.memory_bytes = memory_bytes);
        assert!(small(8 * 64 * 1024).is_ok());
        let (share, shards) = (64 * 1024 - 1, 4);
        assert_eq!(small(8 * 64 * 1024 - 1), Err(TooSmall::Memory { share, shards }));
    }

    #[test]
    fn lanes_get_shorter_where_there_are_many() {
        let entries =
            |shards| plan(|settings, _| settings.shards = Some(shards)).expect("enough files").lane_entries;
        assert_eq!([1, 8, 16, 64, 1024].map(entries), [1024, 1024, 512, 128, 64]);
    }

    #[test]
    fn completions_outnumber_submissions() {
        let entries = |ring_entries| {
            let plan = plan(|settings, _| settings.ring_entries = ring_entries).expect("enough files");
            plan.completion_entries
        };
        assert_eq!([64, 4096, 32_768].map(entries), [512, 32_768, 65_536]);
    }
}
