//! `moongate drivers`: what there is, whether it can run here, why not, and what it lacks.

use std::fmt::Write as _;

use moongate_sys::{DriverKind, Missing};

/// Every driver, the best first, as text for a person.
pub(crate) fn table() -> String {
    write_table(DriverKind::probe)
}

fn write_table(probe: impl Fn(DriverKind) -> Result<(), Missing>) -> String {
    let outcomes = DriverKind::ALL.map(|kind| (kind, probe(kind)));
    let best = outcomes.iter().find(|(_, outcome)| outcome.is_ok()).map(|(kind, _)| *kind);
    let mut out = String::new();
    for (kind, outcome) in &outcomes {
        let verdict = match outcome {
            Ok(()) if best == Some(*kind) => {
                "can run here, and is what MOONGATE_DRIVER=auto takes".to_owned()
            }
            Ok(()) => "can run here".to_owned(),
            Err(missing) => format!("cannot run here: {missing}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{kind:<12} {verdict}\n{:<12} lacks {}", "", kind.lacks());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_has_its_place() {
        let table = table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2 * DriverKind::ALL.len(), "{table}");
        for (kind, pair) in DriverKind::ALL.iter().zip(lines.chunks(2)) {
            assert!(pair[0].starts_with(kind.name()) && pair[0].contains("can run here"), "{table}");
            assert!(pair[1].trim_start().starts_with("lacks "), "{table}");
        }
        assert_eq!(table.matches("MOONGATE_DRIVER=auto takes").count(), 1, "{table}");
    }
}
