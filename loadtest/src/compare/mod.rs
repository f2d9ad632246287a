//! Servers side by side: every measure is taken in slices, one server after the other and again from the first, so that
//! whatever changes on the machine meanwhile changes for all of them. What is compared is ratios within a round.
//!
//! A slice is one run of this program as a child of its own, so that any scenario can be one. The [`plan`] says which; the
//! [`order`] is fixed; a [`slice`] comes back as a document; [`figure`] says what is read from it, [`ratio`] what that
//! comes to; [`result`] holds it all, and [`table`] tells it.

mod bar;
mod figure;
mod order;
mod plan;
mod ratio;
pub(crate) mod result;
mod slice;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::order::Slot;
use self::plan::{Measure, Plan, Variant};
use self::result::{Comparison, Measured};
use self::slice::{Slice, Teller};

pub(crate) use self::ratio::Spread;
pub(crate) use self::table::{digits, remarks};

/// How a plan is written.
const PLAN_HELP: &str = r#"A plan is a TOML file:

  title = "Beside the floor"
  reference = "floor"            # ratios are to it; by default the first
  rounds = 5                     # what each measure goes through its servers
  warm-up = 1                    # and before that, uncounted

  [[variant]]                    # a server
  name = "moongate"
  address = "127.0.0.1:8080"
  pid = 1234                     # by default the process that listens there
  with = [1235]                  # processes that take part beside it
  version = "0.1.0"              # for the result
  options = "--threads 2"        # for every run; a text or a list
  may-lose = true                # its losses are counted, but no failure

  [[measure]]
  name = "fan-out to 100"
  run = "fanout --subscribers 100 --duration 1"
  figures = ["cpu", "p99"]       # the first is for charts and the bar
  variants = ["moongate", "floor"]            # by default all
  reference = "floor"
  options.floor = "--path /16/{topic}"        # more, for one server
  bar = { variant = "moongate", at-most = 1.10 }   # the ratio to reach; or a list of such

Figures: cpu, user, system, softirq (µs of the server for each unit of work), p50, p90, p99, p99.9, max (latency, µs), rate,
opening, rss, pss, slab, tcp (bytes per connection), or a JSON pointer into the document of a run, such as /cpu/others.
Exit codes: 0 all came as it was sent and every bar is reached; 1 not so; 2 a server could not be measured."#;

/// The command line of a comparison.
#[derive(Args)]
#[command(after_long_help = PLAN_HELP)]
pub(crate) struct CompareArgs {
    /// The plan, a TOML file; - reads it from standard input. --help shows one
    plan: PathBuf,
    /// Rounds of each measure, instead of as many as the plan says
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Only measures whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Also writes what came of it to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also writes a report to this file, to be looked at in a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// How it ended.
pub(crate) enum Verdict {
    /// Every slice was right, and every bar reached.
    Right,
    /// Something came otherwise than it was sent, or a bar was missed.
    Wrong,
    /// A slice could not take place.
    Failed,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> ExitCode {
        ExitCode::from(match verdict {
            Verdict::Right => 0,
            Verdict::Wrong => crate::WRONG,
            Verdict::Failed => crate::FAILED,
        })
    }
}

/// Takes all measures and tells them, each as soon as it is taken.
pub(crate) fn compare(args: &CompareArgs) -> Result<Comparison, String> {
    let mut plan = Plan::read(&args.plan)?;
    if let Some(rounds) = args.rounds {
        plan.rounds = rounds;
    }
    if let Some(only) = &args.only {
        plan.measure.retain(|measure| measure.name.contains(only));
    }
    plan.check()?;
    let total = plan.measure.iter().map(|measure| order(&plan, measure).len()).sum();
    let mut teller = Teller::new(total);
    let mut comparison = Comparison::new(&plan);
    for measure in &plan.measure {
        let measured = take(&plan, measure, &mut teller);
        teller.print(&table::lines(&measured));
        comparison.measures.push(measured);
    }
    Ok(comparison)
}

/// The slices of a measure, in order.
fn order(plan: &Plan, measure: &Measure) -> Vec<Slot> {
    order::order(plan.variants_of(measure).len(), plan.rounds, plan.warm_up)
}

fn take(plan: &Plan, measure: &Measure, teller: &mut Teller) -> Measured {
    let variants: Vec<&Variant> = plan.variants_of(measure);
    let mut slices: Vec<Vec<Slice>> = variants.iter().map(|_| Vec::new()).collect();
    let mut failures: Vec<Option<String>> = variants.iter().map(|_| None).collect();
    teller.begin(&measure.name);
    for slot in order(plan, measure) {
        let (variant, failure) = (variants[slot.variant], &mut failures[slot.variant]);
        // What failed once would only take the others' time to fail again.
        if failure.is_some() {
            teller.skip();
            continue;
        }
        match slice::take(measure, variant, slot.round, teller) {
            Ok(slice) if slot.round.is_some() => slices[slot.variant].push(slice),
            Ok(_) => {}
            Err(why) => *failure = Some(why),
        }
    }
    result::measured(plan, measure, &variants, &slices, failures)
}
