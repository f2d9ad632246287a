//! Text into values, and values back into the text a person would have written.
//!
//! Each parser takes what stands in the environment, trimmed, and answers `None` when it is not of its kind. Bounds are
//! checked by [`super::kind`], which also says what was wanted.

use std::net::SocketAddr;
use std::time::Duration;

use moongate_wire::origin::Origin;
use moongate_wire::protocol::{SUBPROTOCOLS, Subprotocol};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Units of sizes, the largest first. Powers of 1000 and of 1024 are told apart by the `i`, as IEC 80000-13 does.
const SIZE_UNITS: &[(&str, usize)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Units of durations in milliseconds, the largest first.
const TIME_UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A whole number of decimal digits, which `_` may group: `100000`, `100_000`.
pub(super) fn count(text: &str) -> Option<u64> {
    let grouped = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    let digits: String = text.chars().filter(|&letter| letter != '_').collect();
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if grouped && decimal { digits.parse().ok() } else { None }
}

/// A number of bytes: plain, or with a unit in upper or lower case (`65536`, `64KiB`, `64 kB`, `1MiB`).
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    usize::try_from(count(number)?).ok()?.checked_mul(factor)
}

/// A duration: a whole number and a unit (`250ms`, `30s`, `5m`, `1h`). Only `0` goes without one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let number = count(number)?;
    let factor = match unit {
        "" if number == 0 => 1,
        _ => TIME_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    Some(Duration::from_millis(number.checked_mul(factor)?))
}

/// On or off, in the words people use for it.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => Some(true),
        "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// An address to listen on: `127.0.0.1:8080`, `[::1]:8080`. Names are not looked up: what they mean can change.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// The members of a comma list, trimmed. An empty member is not a mistake of its own: a trailing comma is common.
pub(super) fn members(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|member| !member.is_empty())
}

/// A value of the `Host` field that is allowed: a name or address, with a port or without. In lower case.
pub(super) fn host(text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let right_name = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let right_port = port.is_none_or(|port| count(port).is_some_and(|port| (1..=65_535).contains(&port)));
    (right_name && right_port).then(|| text.to_ascii_lowercase())
}

/// An origin as a browser sends it: scheme, host and perhaps a port, nothing after it.
pub(super) fn origin(text: &str) -> Option<Origin> {
    Origin::parse(text.as_bytes())
}

/// Subprotocols, by their names.
pub(super) fn subprotocols(text: &str) -> Option<Vec<Subprotocol>> {
    let known = |name| SUBPROTOCOLS.iter().find(|known| known.name == name).copied();
    members(text).map(known).collect()
}

/// What to log: `warn` for everything, `info,moongate_gate=debug` for some part more than for the rest. Where no level
/// is given for the rest, it is `info`.
///
/// [`Targets`] has a parser of its own, but takes a misspelt level for the name of a part, and then logs nothing.
pub(super) fn log_filter(text: &str) -> Option<Targets> {
    let (mut rest, mut parts) = (LevelFilter::INFO, Vec::new());
    for member in members(text) {
        match member.split_once('=') {
            None => rest = level(member)?,
            Some((part, text)) => parts.push((log_part(part)?, level(text)?)),
        }
    }
    Some(Targets::new().with_default(rest).with_targets(parts))
}

fn level(text: &str) -> Option<LevelFilter> {
    let named = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if named { text.parse().ok() } else { None }
}

fn log_part(text: &str) -> Option<&str> {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    (!text.is_empty() && text.bytes().all(right)).then_some(text)
}

/// A secret that can stand in an `Authorization` field: visible ASCII without blanks.
pub(super) fn secret(text: &str) -> Option<String> {
    let visible = !text.is_empty() && text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic());
    visible.then(|| text.to_owned())
}

/// A size with the largest unit that leaves a whole number.
pub(crate) fn size_text(bytes: usize) -> String {
    let binary = SIZE_UNITS.iter().filter(|(unit, _)| unit.ends_with("iB"));
    let fitting = binary.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// A duration with the largest unit that leaves a whole number.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fitting = TIME_UNITS.iter().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0".to_owned(),
    }
}

/// Splits `64 KiB` into its number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(count(text), expect, "{text:?}");
        check("0", Some(0));
        check("100000", Some(100_000));
        check("100_000", Some(100_000));
        check("007", Some(7));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        for wrong in ["", "_", "_1", "1_", "1__0", "+1", "-1", "1.0", "1e3", "0x10", "１", "1 0", "many"] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<usize>| assert_eq!(size(text), expect, "{text:?}");
        check("0", Some(0));
        check("65536", Some(65_536));
        check("65_536", Some(65_536));
        check("12B", Some(12));
        check("64KiB", Some(65_536));
        check("64kib", Some(65_536));
        check("64 KiB", Some(65_536));
        check("64kB", Some(64_000));
        check("64KB", Some(64_000));
        check("1MiB", Some(1 << 20));
        check("1MB", Some(1_000_000));
        check("2GiB", Some(2 << 30));
        check("3gb", Some(3_000_000_000));
        check("17179869183GiB", Some(17_179_869_183 << 30));
        check("17179869184GiB", None);
        for wrong in ["", "KiB", "64K", "64M", "1.5MiB", "-1KiB", "64KiB x", "64 Ki B", "lots", "1TiB"] {
            check(wrong, None);
        }
    }

    #[test]
    fn durations() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(duration(text), expect.map(Duration::from_millis), "{text:?}");
        };
        check("0", Some(0));
        check("0s", Some(0));
        check("250ms", Some(250));
        check("30s", Some(30_000));
        check("30 s", Some(30_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("1_000ms", Some(1_000));
        for wrong in
            ["", "s", "30", "30S", "5M", "1.5s", "-1s", "1h30m", "1d", "soon", "18446744073709551615h"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn switches() {
        let check = |text: &str, expect: Option<bool>| assert_eq!(switch(text), expect, "{text:?}");
        for on in ["on", "ON", "true", "True", "1"] {
            check(on, Some(true));
        }
        for off in ["off", "Off", "false", "FALSE", "0"] {
            check(off, Some(false));
        }
        for wrong in ["", "yes", "no", "2", "enabled", "on off"] {
            check(wrong, None);
        }
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expect: bool| assert_eq!(address(text).is_some(), expect, "{text:?}");
        for right in ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:8080", "[::]:65535", "[fe80::1%2]:80"] {
            check(right, true);
        }
        for wrong in
            ["", "8080", ":8080", "localhost:8080", "127.0.0.1", "::1:8080", "127.0.0.1:65536", "[::1]"]
        {
            check(wrong, false);
        }
    }

    #[test]
    fn lists() {
        let check =
            |text: &str, expect: &[&str]| assert_eq!(members(text).collect::<Vec<_>>(), expect, "{text:?}");
        check("a", &["a"]);
        check("a,b", &["a", "b"]);
        check(" a , b ,", &["a", "b"]);
        check("", &[]);
        check(" , ", &[]);
    }

    #[test]
    fn hosts() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(host(text).as_deref(), expect, "{text:?}");
        check("gate.example", Some("gate.example"));
        check("Gate.Example:8081", Some("gate.example:8081"));
        check("10.0.0.7", Some("10.0.0.7"));
        check("[::1]", Some("[::1]"));
        check("[fd00::1]:8081", Some("[fd00::1]:8081"));
        for wrong in ["", ":80", "a b", "a/b", "http://a", "a:", "a:0", "a:65536", "::1", "[x]", "*", "a:b:c"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn origins() {
        let check = |text: &str, expect: bool| assert_eq!(origin(text).is_some(), expect, "{text:?}");
        for right in ["https://app.example", "HTTPS://App.Example:8443", "http://[::1]:3000"] {
            check(right, true);
        }
        for wrong in ["", "app.example", "https://", "https://a/", "https://a/b", "://a", "null", "*"] {
            check(wrong, false);
        }
    }

    #[test]
    fn log_filters() {
        let check = |text: &str, expect: Option<&str>| {
            let expect = expect.map(|text| text.parse().expect("what the library's own parser reads"));
            assert_eq!(log_filter(text), expect, "{text:?}");
        };
        check("off", Some("off"));
        check("WARN", Some("warn"));
        check("debug,moongate_gate=trace", Some("debug,moongate_gate=trace"));
        check(
            "moongate_gate=debug, moongate::start=off",
            Some("info,moongate_gate=debug,moongate::start=off"),
        );
        for wrong in
            ["inof", "verbose", "moongate_gate", "moongate_gate=", "=info", "a=b=c", "3", "info;debug"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn secrets() {
        let check = |text: &str, expect: bool| assert_eq!(secret(text).is_some(), expect, "{text:?}");
        check("correct-horse.battery/staple==", true);
        check(&"x".repeat(4096), true);
        for wrong in ["", "two words", "line\nline", "caf\u{e9}", "\u{7f}", &"x".repeat(4097)] {
            check(wrong, false);
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1000, 1024, 1536, 65_536, 1 << 20, 3 << 30] {
            assert_eq!(size(&size_text(bytes)), Some(bytes), "{}", size_text(bytes));
        }
        for millis in [0, 1, 250, 1_000, 1_500, 25_000, 60_000, 90_000, 3_600_000] {
            let duration_shown = duration_text(Duration::from_millis(millis));
            assert_eq!(duration(&duration_shown), Some(Duration::from_millis(millis)), "{duration_shown}");
        }
    }
}
