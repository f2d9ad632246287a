//! Where somebody who comes back wants to go on: the last message it has heard.

/// Where a topic is to be heard from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Since {
    /// From the oldest message that is kept.
    AllKept,
    /// From the one after this.
    After {
        /// The topic's epoch; zero for one that cannot be known.
        epoch: u64,
        /// The message's offset in it; 0 for before the first.
        offset: u64,
    },
}

impl Since {
    /// A place that was never given out, so that nothing can be said of what came after it.
    pub const UNKNOWN: Since = Since::After { epoch: 0, offset: 0 };

    /// Reads `0`, or an epoch and an offset as they are written as the `id` of an event: 16 lower-case hexadecimal digits, a
    /// hyphen, and a number without leading zeros.
    pub fn parse(text: &str) -> Option<Since> {
        if text == "0" {
            return Some(Since::AllKept);
        }
        let (epoch, offset) = text.split_at_checked(16)?;
        let offset = offset.strip_prefix('-')?;
        let is_hexadecimal = epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_number = offset.bytes().all(|byte| byte.is_ascii_digit());
        let leads_with_zero = offset.len() > 1 && offset.starts_with('0');
        if !is_hexadecimal || !is_number || leads_with_zero {
            return None;
        }
        let epoch = u64::from_str_radix(epoch, 16).ok().filter(|epoch| *epoch != 0)?;
        Some(Since::After { epoch, offset: offset.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let check = |text: &str, expect| assert_eq!(Since::parse(text), expect, "{text:?}");
        let after = |epoch, offset| Some(Since::After { epoch, offset });
        check("0", Some(Since::AllKept));
        check("00000000000000a1-7", after(0xa1, 7));
        check("ffffffffffffffff-18446744073709551615", after(u64::MAX, u64::MAX));
        check("00000000000000a1-0", after(0xa1, 0));
        for wrong in [
            "",
            "00",
            "1",
            "-",
            "00000000000000a1",
            "00000000000000a1-",
            "00000000000000a1-07",
            "00000000000000a1--7",
            "00000000000000a1-+7",
            "00000000000000A1-7",
            "+0000000000000a1-7",
            "a1-7",
            "000000000000000a1-7",
            "0000000000000000-7",
            "00000000000000a1-18446744073709551616",
            "00000000000000a1-7 ",
            "000000000000000é-7",
        ] {
            check(wrong, None);
        }
    }
}
