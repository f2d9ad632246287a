//! Every rule of docs/protocol.md is named by a test that proves it, or has a reason in that page why none does.
//!
//! A test names a rule by its id: in a comment, in the name of a case (`A15 host-dup`), or in its own name
//! (`a15_without_a_host`); `D1-D4`, `D1..D4` and `d1_to_d4_` name all of them. What it comes to is printed with
//! `cargo test -p moongate --test traceability -- --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/protocol.md";

/// Under this heading the page lists rules without a test, each with its reason.
const WITHOUT_A_TEST: &str = "\n## Rules without a test\n";

/// Where tests are. Of other folders of the crates, only what is marked as a test counts.
const FOLDERS: [&str; 3] = ["crates", "tests", "fuzz"];
const EXTENSIONS: [&str; 5] = ["rs", "py", "js", "json", "sh"];

/// The name of a rule: its section and its number in it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id(char, u32);

impl Id {
    /// Reads `A15`, and nothing else.
    fn parse(word: &str) -> Option<Id> {
        let mut letters = word.chars();
        let section = letters.next().filter(|letter| matches!(letter, 'A'..='N'))?;
        let number = letters.as_str();
        let is_number = matches!(number.len(), 1 | 2) && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || number.starts_with('0') {
            return None;
        }
        Some(Id(section, number.parse().ok()?))
    }

    /// This one, or all from this one to `last` if they stand in one section.
    fn through(self, last: Option<Id>) -> impl Iterator<Item = Id> {
        let last = last.filter(|last| last.0 == self.0).unwrap_or(self);
        (self.1..=last.1).map(move |number| Id(self.0, number))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

/// The ids in `text`, ranges spelt out, and those in the names of its test functions.
fn cited(text: &str) -> BTreeSet<Id> {
    let mut found = BTreeSet::new();
    let words = words(text);
    for (index, &(word, end)) in words.iter().enumerate() {
        let is_function = index > 0 && words[index - 1].0 == "fn";
        if let Some(name) = word.strip_prefix("test_").or(is_function.then_some(word)) {
            found.extend(in_name(name));
        }
        let Some(id) = Id::parse(word) else { continue };
        let last = match &words[index + 1..] {
            [("to", _), (last, _), ..] => Id::parse(last),
            [(last, last_end), ..] if is_range(&text[end..last_end - last.len()]) => Id::parse(last),
            _ => None,
        };
        found.extend(id.through(last));
    }
    found
}

/// The words of `text`, each with the place of its end.
fn words(text: &str) -> Vec<(&str, usize)> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_word(letter)).filter(|word| !word.is_empty());
    words.map(|word| (word, word.as_ptr().addr() - text.as_ptr().addr() + word.len())).collect()
}

fn is_range(between: &str) -> bool {
    matches!(between, "-" | "–" | ".." | "..=")
}

/// The ids that a function's name starts with.
fn in_name(name: &str) -> Vec<Id> {
    let mut found: Vec<Id> = Vec::new();
    let mut is_range = false;
    for part in name.split('_') {
        if part == "to" {
            is_range = true;
            continue;
        }
        if part.starts_with(|letter: char| letter.is_ascii_uppercase()) {
            break;
        }
        let Some(id) = Id::parse(&part.to_ascii_uppercase()) else { break };
        match found.last() {
            Some(first) if is_range => found.extend(first.through(Some(id)).skip(1)),
            _ => found.push(id),
        }
        is_range = false;
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Every file below `folder` that may hold tests; caches, build output and what others wrote left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = !matches!(&*name, "target" | "node_modules") && !name.starts_with(['.', '_']);
        if path.is_dir() && is_ours {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known)) {
            found.push(path);
        }
    }
    found
}

/// The part of a file that is test: all of it in a folder of tests, else what follows the mark of its test module.
fn tests_of(place: &str, text: &str) -> Option<String> {
    let is_test = ["tests/", "fuzz/", "crates/sim/"].iter().any(|folder| place.starts_with(folder))
        || place.contains("/tests/")
        || place.ends_with("tests.rs");
    if is_test {
        return Some(text.to_owned());
    }
    text.split_once("#[cfg(test)]").map(|(_, tests)| tests.to_owned())
}

/// Which files' tests name which rules.
fn citations() -> BTreeMap<Id, BTreeSet<String>> {
    let mut found: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
    for path in FOLDERS.iter().flat_map(|folder| files(&root().join(folder))) {
        let place = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if place.ends_with(file!().rsplit('/').next().unwrap_or_default()) {
            continue;
        }
        for id in tests_of(&place, &read(&path)).iter().flat_map(|tests| cited(tests)) {
            found.entry(id).or_default().insert(place.clone());
        }
    }
    found
}

/// The cells of every line of a table in `text`.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    lines.map(|line| line.trim_end_matches(" |").split(" | ").map(str::trim).collect())
}

/// The rules of the page, and those that have no test, by its own account.
fn rules() -> (Vec<Id>, BTreeSet<Id>) {
    let page = read(&root().join(PAGE));
    let (rules, without) =
        page.split_once(WITHOUT_A_TEST).unwrap_or_else(|| panic!("{PAGE} has no heading {WITHOUT_A_TEST:?}"));
    let rules = rows(rules).filter_map(|row| Id::parse(row[0])).collect();
    let mut listed = BTreeSet::new();
    for row in rows(without) {
        let ids = cited(row[0]);
        assert!(
            ids.is_empty() || row.get(1).is_some_and(|reason| reason.len() > 20),
            "{}: no reason",
            row[0]
        );
        listed.extend(ids);
    }
    (rules, listed)
}

#[test]
fn every_rule_has_a_test_or_a_reason() {
    let (rules, listed) = rules();
    let citations = citations();
    let mut sections: BTreeMap<char, [usize; 3]> = BTreeMap::new();
    for id in &rules {
        let [all, proved, excused] = sections.entry(id.0).or_default();
        *all += 1;
        *proved += usize::from(citations.contains_key(id));
        *excused += usize::from(listed.contains(id));
    }
    println!("section  rules  with a test  without, for a reason");
    for (section, [all, proved, excused]) in sections {
        println!("{section:>7}  {all:>5}  {proved:>11}  {excused:>21}");
    }

    let names = |ids: Vec<&Id>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let untested =
        names(rules.iter().filter(|id| !citations.contains_key(id) && !listed.contains(id)).collect());
    assert!(untested.is_empty(), "no test names {untested}: write one, or say in {PAGE} why there is none");
    let tested = names(listed.iter().filter(|id| citations.contains_key(id)).collect());
    assert!(tested.is_empty(), "there is a test for {tested}: take it off the list at the end of {PAGE}");
    let unknown = names(listed.iter().filter(|id| !rules.contains(id)).collect());
    assert!(unknown.is_empty(), "{PAGE} has a reason for {unknown}, but no such rule");
}

/// Nobody can cite a rule that a slip of the pen has taken away.
#[test]
fn the_rules_of_each_section_are_numbered_without_a_gap() {
    let (rules, _) = rules();
    let mut last: BTreeMap<char, u32> = BTreeMap::new();
    for id in rules {
        let last = last.entry(id.0).or_default();
        *last += 1;
        assert_eq!(id.1, *last, "{PAGE}: {id} is not where it should be");
    }
    assert!(last.keys().copied().eq('A'..='N'), "{PAGE}: the sections are {:?}", last.keys());
}

#[test]
fn citations_are_found_where_they_are() {
    let check = |text: &str, expect: &str| {
        let found: Vec<String> = cited(text).iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), expect, "{text:?}");
    };
    check("// A30 and C6.", "A30 C6");
    check("\"A15 host-dup\": (B2), B26: x", "A15 B2 B26");
    check("D1-D3, E1..E3; F1–F2 K1 to K3, G1..=G2", "D1 D2 D3 E1 E2 E3 F1 F2 G1 G2 K1 K2 K3");
    check("A1-B3 is no range, nor is A4, A6", "A1 A4 A6 B3");
    check("fn c1_c2_the_answer() {}", "C1 C2");
    check("fn d1_to_d3_refused() { a1_b2() }", "D1 D2 D3");
    check("def test_a31_cut(gateway): pass", "A31");
    check("fn a_to_b() {} fn A1_x() {}", "");
    check("0xA1 \\xE2 SHA1 B64s A0 A100 P3 a15 base64 utf8", "");
    check("B64", "B64");
}

#[test]
fn only_tests_count() {
    let check =
        |place, text, expect: Option<&str>| assert_eq!(tests_of(place, text).as_deref(), expect, "{place}");
    check("crates/wire/src/head.rs", "// A1", None);
    check(
        "crates/wire/src/head.rs",
        "// A1\n#[cfg(test)]\nmod tests { /* A2 */ }",
        Some("\nmod tests { /* A2 */ }"),
    );
    check("crates/wire/tests/heads/scan.rs", "// A1", Some("// A1"));
    check("crates/sys/src/uring/tests.rs", "// N1", Some("// N1"));
    check("crates/hub/src/outbox_tests.rs", "// K3", Some("// K3"));
    check("crates/sim/src/client/stream.rs", "// J1", Some("// J1"));
    check("tests/e2e/test_topics.py", "# J1", Some("# J1"));
}
