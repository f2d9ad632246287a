//! The numbers, as a file of one line each, and how they compare.

use std::fmt;

/// A number that rises by this part of it fails.
const TOLERANCE_PERCENT: u64 = 10;

/// What comes before the ground in a file.
const GROUND: &str = "# Counted with ";

const EXPLANATION: &str = "\
# Instructions that one call takes once everything is warm, counted by callgrind. `make instructions` fails when one rises
# by 10 %; `make instructions-accept` writes this file. What is called: benches/src/bin/instructions/subjects.rs.
";

/// What was counted, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Numbers {
    /// The compiler, the C library and the processor, on one line.
    pub(crate) ground: String,
    /// Instructions by subject.
    pub(crate) counts: Vec<(String, u64)>,
}

/// What a comparison comes to.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    Same,
    /// At least one number fell by the tolerance, and none rose by it.
    Lower,
    Higher,
    /// Subjects came, went or changed their names.
    Unknown,
    /// Counted on other ground: rises and falls say nothing about our code.
    Elsewhere,
}

/// What is now beside what was.
#[derive(Debug)]
pub(crate) struct Comparison {
    rows: Vec<(String, u64, Option<u64>)>,
    pub(crate) verdict: Verdict,
}

impl Numbers {
    pub(crate) fn new(ground: String) -> Numbers {
        Numbers { ground, counts: Vec::new() }
    }

    /// Reads what [`Numbers`] writes.
    pub(crate) fn parse(text: &str) -> Result<Numbers, String> {
        let ground = text.lines().find_map(|line| line.strip_prefix(GROUND));
        let mut numbers = Numbers::new(ground.unwrap_or_default().trim_end_matches('.').to_owned());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let parsed =
                line.split_once(' ').and_then(|(name, count)| Some((name, count.trim().parse().ok()?)));
            let (name, count) = parsed.ok_or_else(|| format!("not a name and a number: {line}"))?;
            numbers.counts.push((name.to_owned(), count));
        }
        Ok(numbers)
    }

    /// Holds what was counted now against what is committed.
    pub(crate) fn compare(&self, committed: &Numbers) -> Comparison {
        let before = |name: &str| committed.counts.iter().find(|(other, _)| other == name);
        let rows: Vec<_> = self
            .counts
            .iter()
            .map(|(name, now)| (name.clone(), *now, before(name).map(|(_, count)| *count)))
            .collect();
        let known = rows.iter().filter(|(_, _, before)| before.is_some()).count();
        let verdict = if known != rows.len() || known != committed.counts.len() {
            Verdict::Unknown
        } else if self.ground != committed.ground {
            Verdict::Elsewhere
        } else {
            let verdicts = rows.iter().map(|(_, now, before)| judge(*now, before.unwrap_or_default()));
            verdicts.max().unwrap_or(Verdict::Unknown)
        };
        Comparison { rows, verdict }
    }
}

fn judge(now: u64, before: u64) -> Verdict {
    if now * 100 >= before * (100 + TOLERANCE_PERCENT) {
        Verdict::Higher
    } else if now * 100 <= before * (100 - TOLERANCE_PERCENT) {
        Verdict::Lower
    } else {
        Verdict::Same
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{EXPLANATION}{GROUND}{}.", self.ground)?;
        self.counts.iter().try_for_each(|(name, count)| writeln!(f, "{name:<32} {count:>9}"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>9} {:>9} {:>8}", "instructions of one call", "committed", "now", "change")?;
        for (name, now, before) in &self.rows {
            let Some(before) = before else {
                writeln!(f, "{name:<32} {:>9} {now:>9}", "none")?;
                continue;
            };
            let change = (*now as f64 / *before as f64 - 1.0) * 100.0;
            let mark = if judge(*now, *before) == Verdict::Higher { "  <<<" } else { "" };
            writeln!(f, "{name:<32} {before:>9} {now:>9} {change:>+7.1}%{mark}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(ground: &str, counts: &[(&str, u64)]) -> Numbers {
        let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Numbers { ground: ground.to_owned(), counts }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let written = numbers("rustc 1, glibc 2.36, x86_64", &[("head", 7), ("lane", 1_000_000)]);
        assert_eq!(Numbers::parse(&written.to_string()), Ok(written));
        assert!(Numbers::parse("head seven\n").is_err());
        assert!(Numbers::parse("head\n").is_err());
    }

    #[test]
    fn a_rise_of_a_tenth_fails() {
        let check = |now: &[(&str, u64)], expect| {
            let committed = numbers("here", &[("a", 1000), ("b", 50)]);
            assert_eq!(numbers("here", now).compare(&committed).verdict, expect, "{now:?}");
            let elsewhere = numbers("there", now).compare(&committed).verdict;
            assert_eq!(elsewhere, if expect == Verdict::Unknown { expect } else { Verdict::Elsewhere });
        };
        check(&[("a", 1000), ("b", 50)], Verdict::Same);
        check(&[("a", 1099), ("b", 46)], Verdict::Same);
        check(&[("a", 1100), ("b", 50)], Verdict::Higher);
        check(&[("a", 100), ("b", 55)], Verdict::Higher);
        check(&[("a", 900), ("b", 50)], Verdict::Lower);
        check(&[("a", 1000)], Verdict::Unknown);
        check(&[("a", 1000), ("c", 50)], Verdict::Unknown);
        check(&[("a", 1000), ("b", 50), ("c", 50)], Verdict::Unknown);
    }

    /// Numbers of another compiler are not judged, so that nobody is failed for what a compiler did. But this is the
    /// compiler that rust-toolchain.toml asks for, and when that changes the numbers must.
    #[test]
    fn the_committed_numbers_are_of_the_compiler_that_is_asked_for() {
        let committed = Numbers::parse(include_str!("../../../instructions.txt")).expect("it is well formed");
        let asked = include_str!("../../../../rust-toolchain.toml").split('"').nth(1).expect("a version");
        assert!(
            committed.ground.starts_with(&format!("rustc {asked} ")),
            "benches/instructions.txt was counted with {}, rust-toolchain.toml asks for {asked}: \
             run `make instructions-accept` and commit",
            committed.ground
        );
    }
}
