//! What is to be compared: a TOML file of servers and measures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bar::{Bar, none_one_or_many};
use super::figure::Figure;

/// What is to be compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Plan {
    #[serde(default = "title")]
    pub(crate) title: String,
    /// How often each measure goes through its variants.
    #[serde(default = "rounds")]
    pub(super) rounds: u32,
    /// How often before that, uncounted.
    #[serde(default = "warm_up")]
    pub(super) warm_up: u32,
    /// The variant to which the others are compared; the first, if there is none.
    reference: Option<String>,
    pub(super) variant: Vec<Variant>,
    pub(super) measure: Vec<Measure>,
}

/// A server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// Where it listens.
    pub(super) address: String,
    /// Its process; by default the one that listens there.
    pub(super) pid: Option<u32>,
    /// Processes that take part beside it, such as the upstream behind a tunnel.
    #[serde(default)]
    with: Vec<u32>,
    /// What it calls itself.
    pub(super) version: Option<String>,
    /// Options for every scenario.
    #[serde(default)]
    options: Words,
    /// Whether its losses do not make the comparison fail. They are counted and shown all the same.
    #[serde(default)]
    pub(super) may_lose: bool,
}

/// Something to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Measure {
    pub(super) name: String,
    /// The scenario and its options, as on the command line.
    pub(super) run: Words,
    /// What is compared; the first is what charts and bars are about.
    #[serde(default = "figures")]
    pub(super) figures: Vec<String>,
    /// Only these variants; all, if there are none.
    #[serde(default)]
    variants: Vec<String>,
    reference: Option<String>,
    /// More options, by variant.
    #[serde(default)]
    options: BTreeMap<String, Words>,
    /// What is run instead, by variant: to compare one scenario with another.
    #[serde(default)]
    runs: BTreeMap<String, Words>,
    #[serde(default, deserialize_with = "none_one_or_many")]
    pub(super) bar: Vec<Bar>,
}

/// Words of a command line: a list, or a text that spaces divide.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Words {
    Text(String),
    List(Vec<String>),
}

impl Default for Words {
    fn default() -> Words {
        Words::List(Vec::new())
    }
}

impl Words {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Words::Text(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Words::List(list) => list.clone(),
        }
    }
}

fn title() -> String {
    "Comparison".to_owned()
}

fn rounds() -> u32 {
    5
}

fn warm_up() -> u32 {
    1
}

fn figures() -> Vec<String> {
    vec!["cpu".to_owned()]
}

impl Plan {
    /// The plan in the file at `path`, or on standard input where that is `-`.
    pub(super) fn read(path: &Path) -> Result<Plan, String> {
        let text = if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            fs::read_to_string(path)
        };
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Plan::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Plan, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Names all that makes no sense in it.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        let names: BTreeSet<&str> = self.variant.iter().map(|variant| variant.name.as_str()).collect();
        if names.len() < self.variant.len() {
            wrong.push("two variants have one name".to_owned());
        }
        if self.measure.is_empty() || names.is_empty() {
            wrong.push("there is nothing to compare: it takes a [[variant]] and a [[measure]]".to_owned());
        }
        if self.rounds == 0 {
            wrong.push("rounds is 0: five are a good number".to_owned());
        }
        let unknown = |name: &str| (!names.contains(name)).then(|| format!("there is no variant {name:?}"));
        wrong.extend(self.reference.as_deref().and_then(unknown));
        for measure in &self.measure {
            let named = measure.variants.iter().chain(&measure.reference);
            let named = named.chain(measure.options.keys()).chain(measure.runs.keys());
            let mut faults: Vec<String> = named.filter_map(|name| unknown(name)).collect();
            let taken: Vec<&str> =
                self.variants_of(measure).iter().map(|variant| variant.name.as_str()).collect();
            let missing = |name: &str| format!("{name:?} is not among its variants");
            faults.extend(Some(self.reference_of(measure)).filter(|name| !taken.contains(name)).map(missing));
            let bars = measure.bar.iter().map(|bar| bar.variant.as_str());
            faults.extend(bars.filter(|name| !taken.contains(name)).map(missing));
            faults.extend(measure.figures.iter().filter_map(|name| Figure::named(name).err()));
            if measure.figures.is_empty() {
                faults.push("figures is empty: it says what is compared, such as [\"cpu\"]".to_owned());
            }
            if measure.run.list().is_empty() {
                faults.push(
                    "run is empty: it says what is done, such as \"fanout --subscribers 100\"".to_owned(),
                );
            }
            wrong.extend(faults.into_iter().map(|fault| format!("measure {:?}: {fault}", measure.name)));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("the plan does not hold:\n  {}", wrong.join("\n  ")))
        }
    }

    /// Those that take part in `measure`.
    pub(super) fn variants_of(&self, measure: &Measure) -> Vec<&Variant> {
        let takes_part =
            |variant: &&Variant| measure.variants.is_empty() || measure.variants.contains(&variant.name);
        self.variant.iter().filter(takes_part).collect()
    }

    /// To whom the others are compared in `measure`.
    pub(super) fn reference_of<'a>(&'a self, measure: &'a Measure) -> &'a str {
        let named = measure.reference.as_ref().or(self.reference.as_ref());
        named.map_or_else(
            || self.variants_of(measure).first().map_or("", |variant| &variant.name),
            String::as_str,
        )
    }
}

impl Measure {
    /// The command line of a slice, without this program's name.
    pub(super) fn command(&self, variant: &Variant) -> Vec<String> {
        let mut words = self.runs.get(&variant.name).unwrap_or(&self.run).list();
        words.push(variant.address.clone());
        words.extend(variant.options.list());
        words.extend(self.options.get(&variant.name).map(Words::list).unwrap_or_default());
        let processes = variant.pid.iter().map(|pid| ("--pid", pid));
        let processes = processes.chain(variant.with.iter().map(|pid| ("--with", pid)));
        words.extend(processes.flat_map(|(option, pid)| [option.to_owned(), pid.to_string()]));
        words
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const PLAN: &str = r#"
        title = "Beside the floor"
        reference = "floor"
        rounds = 2

        [[variant]]
        name = "moongate"
        address = "127.0.0.1:8080"
        pid = 42
        with = [7, 8]
        version = "0.1.0"

        [[variant]]
        name = "floor"
        address = "127.0.0.1:8081"
        options = ["--dialect", "raw"]

        [[variant]]
        name = "rival"
        address = "127.0.0.1:8082"
        may-lose = true

        [[measure]]
        name = "fan-out to 100"
        run = "fanout --subscribers 100"
        figures = ["cpu", "p99"]
        options.floor = "--sends 1"
        bar = { variant = "moongate", at-most = 1.10 }

        [[measure]]
        name = "echo"
        run = ["echo", "--connections", "64"]
        variants = ["moongate", "rival"]
        reference = "rival"
        runs.rival = "tunnel --path /echo"
        bar = [{ variant = "moongate", at-most = 0.9 }, { variant = "rival", at-most = 1 }]
    "#;

    #[test]
    fn a_plan_says_what_is_run_against_whom() {
        let plan = Plan::parse(PLAN).expect("a plan");
        assert_eq!(plan.check(), Ok(()));
        assert_eq!((plan.rounds, plan.warm_up), (2, 1));
        let commands = |measure: &Measure| {
            let each = plan.variants_of(measure).into_iter();
            each.map(|variant| measure.command(variant).join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            commands(&plan.measure[0]),
            [
                "fanout --subscribers 100 127.0.0.1:8080 --pid 42 --with 7 --with 8",
                "fanout --subscribers 100 127.0.0.1:8081 --dialect raw --sends 1",
                "fanout --subscribers 100 127.0.0.1:8082",
            ]
        );
        assert_eq!(
            commands(&plan.measure[1]),
            [
                "echo --connections 64 127.0.0.1:8080 --pid 42 --with 7 --with 8",
                "tunnel --path /echo 127.0.0.1:8082",
            ]
        );
        let references: Vec<_> = plan.measure.iter().map(|measure| plan.reference_of(measure)).collect();
        assert_eq!(references, ["floor", "rival"]);
        let bars: Vec<_> = plan.measure.iter().map(|measure| measure.bar.len()).collect();
        assert_eq!(bars, [1, 2]);
    }

    #[test]
    fn all_that_makes_no_sense_is_named_together() {
        for (text, replaced, by, expect) in [
            ("one name", "name = \"rival\"", "name = \"floor\"", "two variants have one name"),
            ("no rounds", "rounds = 2", "rounds = 0", "rounds is 0"),
            ("a reference", "reference = \"floor\"", "reference = \"flour\"", "no variant \"flour\""),
            ("options", "options.floor", "options.flour", "measure \"fan-out to 100\": there is no variant"),
            (
                "absent",
                "reference = \"rival\"",
                "reference = \"floor\"",
                "\"floor\" is not among its variants",
            ),
            ("a bar", "{ variant = \"moongate\"", "{ variant = \"x\"", "\"x\" is not among its variants"),
            (
                "one of the bars",
                "{ variant = \"rival\"",
                "{ variant = \"floor\"",
                "\"floor\" is not among its",
            ),
            ("a figure", "\"p99\"", "\"p98\"", "there is no figure \"p98\""),
            ("no figure", "\"cpu\", \"p99\"", "", "figures is empty"),
            ("no run", "\"fanout --subscribers 100\"", "\"\"", "run is empty"),
        ] {
            let plan = Plan::parse(&PLAN.replacen(replaced, by, 1)).expect(text);
            let why = plan.check().expect_err(text);
            assert!(why.contains(expect), "{text}: {why}");
        }
        let typo = Plan::parse(&PLAN.replace("rounds", "round")).expect_err("no such field");
        assert!(typo.contains("round"), "{typo}");
        let typo = Plan::parse(&PLAN.replace("at-most", "most")).expect_err("no such field");
        assert!(typo.contains("most"), "{typo}");
    }
}
