//! How many instructions our hottest functions take, held against what is committed: a regression shows without any clock,
//! on a machine however busy.
//!
//! Each subject is run twice under callgrind, with a few calls and with many; the difference is what one call takes once
//! everything is warm, and neither the start of the process nor the making of what it works on is part of it.
//!
//! `instructions` compares and fails when a number has risen by a tenth; `instructions accept` writes down what it counts
//! now; `instructions call <subject> <times>` is what runs under callgrind.

mod count;
mod numbers;
mod subjects;

use std::process::ExitCode;
use std::{env, fs};

use numbers::{Numbers, Verdict};
use subjects::SUBJECTS;

/// The numbers that are committed.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => compare(),
        ["accept"] => accept(),
        ["call", subject, times] => call(subject, times),
        _ => Err("usage: instructions [accept | call <subject> <times>]".into()),
    };
    done.map_or_else(
        |problem| {
            eprintln!("{problem}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn call(subject: &str, times: &str) -> Result<(), String> {
    let times = times.parse().map_err(|error| format!("{times}: {error}"))?;
    let (_, calls) = SUBJECTS.iter().find(|(name, _)| *name == subject).ok_or("no such subject")?;
    calls(times);
    Ok(())
}

fn accept() -> Result<(), String> {
    let counted = count_all()?;
    fs::write(FILE, counted.to_string()).map_err(|error| format!("{FILE}: {error}"))?;
    print!("{counted}");
    println!("Written to {FILE}: commit it, and say why the numbers changed.");
    Ok(())
}

fn compare() -> Result<(), String> {
    let committed = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
    let (committed, counted) = (Numbers::parse(&committed)?, count_all()?);
    let comparison = counted.compare(&committed);
    print!("{comparison}");
    match comparison.verdict {
        Verdict::Same => Ok(()),
        Verdict::Lower => {
            println!("Numbers are a tenth lower: `make instructions-accept` holds on to that.");
            Ok(())
        }
        Verdict::Elsewhere => {
            println!(
                "Nothing is judged: {FILE} was counted with {}, and this is {}. New numbers are needed where this is \
                to be the rule: look at the changes above, run `make instructions-accept`, commit.",
                committed.ground, counted.ground
            );
            Ok(())
        }
        Verdict::Higher => Err("Instructions rose by a tenth or more. Find out why; if it is worth it, run \
                                `make instructions-accept`, commit, and say why."
            .into()),
        Verdict::Unknown => Err(format!(
            "{FILE} does not name the subjects that there are: run `make instructions-accept` and commit."
        )),
    }
}

fn count_all() -> Result<Numbers, String> {
    let mut numbers = Numbers::new(count::ground()?);
    for (subject, _) in SUBJECTS {
        numbers.counts.push(((*subject).to_owned(), count::instructions(subject)?));
    }
    Ok(numbers)
}
