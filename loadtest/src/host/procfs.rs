//! The formats of `/proc`: from a file's text to figures. Nothing here reads a file.

use std::collections::BTreeMap;

/// Clock ticks that a process has taken, as proc_pid_stat(5) has them in fields 14 and 15.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ticks {
    pub(super) user: u64,
    pub(super) system: u64,
}

pub(super) fn stat(text: &str) -> Option<Ticks> {
    // The name, in parentheses, may hold anything, spaces and parentheses too.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse().ok();
    Some(Ticks { user: ticks()?, system: ticks()? })
}

/// Nanoseconds that a thread has run, from its `schedstat`.
pub(super) fn schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The field `name`, colon included, of a file of lines such as `VmRSS:   123 kB`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The bytes of a field that counts in kB, as in proc_meminfo(5) and proc_pid_smaps(5).
pub(super) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    Some(field(text, name)?.strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
}

/// Processors as cpuset(7) lists them: `0-3,8`.
pub(super) fn processors(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

/// What a processor did not do for anybody, in clock ticks since the start.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Core {
    /// Nothing was to be done.
    pub(super) idle: u64,
    /// The hypervisor gave it to somebody else.
    pub(super) stolen: u64,
}

/// The processors of proc_stat(5), by number.
pub(super) fn cores(text: &str) -> BTreeMap<u32, Core> {
    let core = |line: &str| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let number = line.as_bytes().get(3)?.is_ascii_digit().then(|| fields.next())??.parse().ok()?;
        let ticks: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
        // user, nice, system, idle, iowait, irq, softirq, steal
        Some((number, Core { idle: ticks.get(3)? + ticks.get(4)?, stolen: *ticks.get(7)? }))
    };
    text.lines().filter_map(core).collect()
}

/// Bytes of the objects in use, by slab cache, from slabinfo(5).
pub(super) fn slabs(text: &str) -> BTreeMap<String, u64> {
    let cache = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?;
        let active: u64 = fields.next()?.parse().ok()?;
        let size: u64 = fields.nth(1)?.parse().ok()?;
        Some((name.to_owned(), active * size))
    };
    text.lines().filter_map(cache).collect()
}

/// What `/proc/net/sockstat` says of TCP.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sockets {
    /// In use, of both ends where both are here.
    pub(super) tcp: u64,
    /// Closed, waiting for what may still arrive.
    pub(super) time_wait: u64,
    /// Pages of memory that their buffers take.
    pub(super) pages: u64,
}

pub(super) fn sockstat(text: &str) -> Option<Sockets> {
    let words: Vec<&str> = field(text, "TCP:")?.split_ascii_whitespace().collect();
    let value = |name| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    Some(Sockets { tcp: value("inuse")?, time_wait: value("tw")?, pages: value("mem")? })
}

/// Resident pages, from proc_pid_statm(5).
pub(super) fn resident_pages(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The inodes of sockets that listen on `port`, from a table as in proc_net_tcp(5).
pub(super) fn listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTENING;
        fields.get(9).filter(|_| here)?.parse().ok()
    };
    table.lines().filter_map(inode).collect()
}

/// What `/proc/cpuinfo` calls the processor. Where there is no such name (as on Arm), the parts that identify it.
pub(super) fn processor_model(text: &str) -> Option<String> {
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let parts = || Some(format!("implementer {}, part {}", value("CPU implementer")?, value("CPU part")?));
    value("model name").or_else(parts)
}

/// The value of `NAME=value` or `NAME="value"` in a file as in os-release(5).
pub(super) fn assignment(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        for (text, expect) in [
            ("7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 75 13 14", Some((250, 75))),
            ("14 (ksoftirqd/0) S 2 0 0 0 -1 69238848 0 0 0 0 0 1283 0 0 20 0 1 0 31 0", Some((0, 1283))),
            ("7 (a", None),
            ("7 (a) S 1 2 3", None),
        ] {
            let expect = expect.map(|(user, system)| Ticks { user, system });
            assert_eq!(stat(text), expect, "{text}");
        }
    }

    #[test]
    fn a_thread_has_run_for_nanoseconds() {
        for (text, expect) in [("38233195 6466586 90\n", Some(38_233_195)), ("0 0 0\n", Some(0)), ("", None)]
        {
            assert_eq!(schedstat(text), expect, "{text}");
        }
    }

    #[test]
    fn fields_have_names() {
        let text = "Name:\tx\nRss:                3868 kB\nPss:                 879 kB\nPss_Anon:   593 kB\n\
                    Cpus_allowed:\t3\nCpus_allowed_list:\t0-1\nHugePages_Total:       0\n";
        for (name, expect) in [
            ("Rss:", Some(3868 * 1024)),
            ("Pss:", Some(879 * 1024)),
            ("Pss_Anon:", Some(593 * 1024)),
            ("HugePages_Total:", None),
            ("Swap:", None),
        ] {
            assert_eq!(kilobytes(text, name), expect, "{name}");
        }
        assert_eq!(field(text, "Cpus_allowed_list:"), Some("0-1"));
    }

    #[test]
    fn processors_are_listed_in_ranges() {
        for (list, expect) in [
            ("0\n", Some(vec![0])),
            ("0-3,8", Some(vec![0, 1, 2, 3, 8])),
            ("1,5-6,9", Some(vec![1, 5, 6, 9])),
            ("", None),
            ("0-x", None),
        ] {
            assert_eq!(processors(list), expect, "{list}");
        }
    }

    #[test]
    fn each_processor_was_idle_for_a_while() {
        let text = "cpu  1081290 234438 272038 751518 4495 0 29885 1404 0 0\n\
                    cpu0 533566 112466 135910 388504 785 0 15335 714 0 0\n\
                    cpu11 547723 121972 136127 363013 3709 0 14549 690 0 0\nintr 5 6\nctxt 9\ncpus 3\n";
        let expect = [
            (0, Core { idle: 388_504 + 785, stolen: 714 }),
            (11, Core { idle: 363_013 + 3709, stolen: 690 }),
        ];
        assert_eq!(cores(text), BTreeMap::from(expect));
    }

    #[test]
    fn slabs_are_as_large_as_the_objects_in_use() {
        let text = "slabinfo - version: 2.1\n\
            # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables 0\n\
            TCP                   65    117   2496   13    8 : tunables    0    0    0 : slabdata      9      9      0\n\
            io_kiocb             176    240    256   16    1 : tunables    0    0    0 : slabdata     15     15      0\n";
        let expect = [("TCP".to_owned(), 65 * 2496), ("io_kiocb".to_owned(), 176 * 256)];
        assert_eq!(slabs(text), BTreeMap::from(expect));
    }

    #[test]
    fn tcp_has_sockets_and_pages() {
        let text = "sockets: used 21\nTCP: inuse 17 orphan 3 tw 4 alloc 19 mem 252\nUDP: inuse 0 mem 0\n";
        assert_eq!(sockstat(text), Some(Sockets { tcp: 17, time_wait: 4, pages: 252 }));
        assert_eq!(sockstat("sockets: used 21\n"), None);
        assert_eq!(sockstat("TCP: inuse\n"), None);
    }

    #[test]
    fn resident_pages_come_second() {
        assert_eq!(resident_pages("1251 967 724 193 0 270 0\n"), Some(967));
        assert_eq!(resident_pages("1251"), None);
    }

    #[test]
    fn only_listeners_on_the_port_count() {
        let line = |address: &str, state: &str, inode: u32| {
            let columns = "00000000:00000000 00:00000000 00000000 0 0";
            format!(
                "   0: {address} 00000000:0000 {state} {columns} {inode} 1 0000000000000000 100 0 0 10 0\n"
            )
        };
        let table = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n{}{}{}{}",
            line("0100007F:1F90", "0A", 11),
            line("0100007F:1F91", "0A", 12),
            line("0100007F:1F90", "01", 13),
            line("00000000000000000000000001000000:1F90", "0A", 14),
        );
        assert_eq!(listeners(&table, 8080), [11, 14]);
    }

    #[test]
    fn processors_and_systems_have_names() {
        let amd = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7B13\nstepping\t: 1\n";
        assert_eq!(processor_model(amd).as_deref(), Some("AMD EPYC 7B13"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(processor_model(arm).as_deref(), Some("implementer 0x41, part 0xd0c"));
        assert_eq!(processor_model("processor\t: 0\n"), None);
        let release =
            "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n";
        assert_eq!(assignment(release, "PRETTY_NAME").as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(assignment(release, "ID").as_deref(), Some("debian"));
        assert_eq!(assignment(release, "VERSION"), None);
    }
}
