//! What a comparison came to, as one document, complete in itself.

use serde::{Deserialize, Serialize};

use super::Verdict;
use super::bar::{Bar, none_one_or_many};
use super::figure::Figure;
use super::plan::{Measure, Plan, Variant};
use super::ratio::{Spread, ratios};
use super::slice::Slice;
use crate::document::{Distribution, Document, NoteKind, Origin, Server};

/// What a document of a comparison calls itself.
pub(crate) const FORMAT: &str = "moongate-load comparison";

/// Goes up when a field changes its meaning or goes; new ones may come.
pub(crate) const VERSION: u32 = 1;

/// What a comparison came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) format: String,
    pub(crate) version: u32,
    #[serde(flatten)]
    pub(crate) origin: Origin,
    pub(crate) plan: Plan,
    pub(crate) measures: Vec<Measured>,
}

/// What a measure came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// The variant to which the others are compared.
    pub(crate) reference: String,
    pub(crate) rounds: u32,
    pub(crate) variants: Vec<Taken>,
    pub(crate) figures: Vec<Compared>,
    #[serde(deserialize_with = "none_one_or_many")]
    pub(crate) bar: Vec<Reached>,
}

/// What was taken of a variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) name: String,
    /// What was run, in one line.
    pub(crate) summary: String,
    /// The command line of a slice.
    pub(crate) command: Vec<String>,
    pub(crate) server: Option<Server>,
    /// Why there is nothing, or not all.
    pub(crate) failure: Option<String>,
    pub(crate) slices: Vec<Kept>,
    /// The times of the slice in the middle, by the first figure.
    pub(crate) latency_seconds: Option<Distribution>,
    /// Its losses do not make the comparison fail.
    pub(crate) may_lose: bool,
}

/// What is kept of a slice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) round: u32,
    pub(crate) date: String,
    /// Every figure of the measure, in its order.
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) right: bool,
    pub(crate) lost: u64,
    /// Others used the cores, and it was taken again.
    pub(crate) repeated: bool,
    /// Others used the cores, then also.
    pub(crate) disturbed: bool,
    /// Not the server was the limit, but this tool.
    pub(crate) bottleneck: bool,
}

/// A figure of all variants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    /// As the plan calls it.
    pub(crate) figure: String,
    pub(crate) label: String,
    pub(crate) unit: String,
    pub(crate) variants: Vec<Valued>,
}

/// A figure of a variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Valued {
    pub(crate) name: String,
    pub(crate) value: Option<Spread>,
    /// To the reference, round by round.
    pub(crate) ratio: Option<Spread>,
    pub(crate) ratios: Vec<Option<f64>>,
}

/// Whether what was to be reached is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reached {
    #[serde(flatten)]
    pub(crate) bar: Bar,
    /// The median ratio; none where it was not measured.
    pub(crate) ratio: Option<f64>,
    pub(crate) reached: bool,
}

impl Comparison {
    pub(super) fn new(plan: &Plan) -> Comparison {
        Comparison {
            format: FORMAT.to_owned(),
            version: VERSION,
            origin: Origin::here(),
            plan: plan.clone(),
            measures: Vec::new(),
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let variants = || self.measures.iter().flat_map(|measure| &measure.variants);
        if variants().any(|variant| variant.failure.is_some()) {
            return Verdict::Failed;
        }
        let wrong = |variant: &Taken| !variant.may_lose && variant.slices.iter().any(|slice| !slice.right);
        let missed = |measure: &Measured| measure.bar.iter().any(|bar| !bar.reached);
        if variants().any(wrong) || self.measures.iter().any(missed) {
            return Verdict::Wrong;
        }
        Verdict::Right
    }
}

/// What the slices of a measure, by variant, come to.
pub(super) fn measured(
    plan: &Plan,
    measure: &Measure,
    variants: &[&Variant],
    slices: &[Vec<Slice>],
    failures: Vec<Option<String>>,
) -> Measured {
    // The plan was checked: all figures are known.
    let figures: Vec<Figure> = measure.figures.iter().filter_map(|name| Figure::named(name).ok()).collect();
    let reference = plan.reference_of(measure);
    let taken: Vec<Taken> = variants
        .iter()
        .zip(slices)
        .zip(failures)
        .map(|((variant, slices), failure)| taken(measure, variant, slices, failure, &figures))
        .collect();
    let some_run = slices.iter().flatten().map(|slice| &slice.run).next();
    let compared: Vec<Compared> = figures
        .iter()
        .enumerate()
        .map(|(index, figure)| Compared {
            figure: measure.figures[index].clone(),
            label: figure.label(some_run),
            unit: figure.unit.clone(),
            variants: valued(&taken, index, reference, plan.rounds),
        })
        .collect();
    let bar = measure.bar.iter().map(|bar| reached(bar, &compared)).collect();
    let (name, reference) = (measure.name.clone(), reference.to_owned());
    Measured { name, reference, rounds: plan.rounds, variants: taken, figures: compared, bar }
}

fn taken(
    measure: &Measure,
    variant: &Variant,
    slices: &[Slice],
    failure: Option<String>,
    figures: &[Figure],
) -> Taken {
    let kept = |slice: &Slice| Kept {
        round: slice.round,
        date: slice.run.origin.date.clone(),
        values: figures.iter().map(|figure| figure.of(&slice.raw)).collect(),
        right: slice.run.right,
        lost: slice.run.faults.lost,
        repeated: slice.repeated,
        disturbed: slice.is_disturbed(),
        bottleneck: slice.run.notes.iter().any(|note| note.kind == NoteKind::Bottleneck),
    };
    let first = slices.first().map(|slice| &slice.run);
    let server = first.map(|run| Server { version: variant.version.clone(), ..run.server.clone() });
    Taken {
        name: variant.name.clone(),
        summary: first.map(|run| run.summary.clone()).unwrap_or_default(),
        command: ["moongate-load".to_owned()].into_iter().chain(measure.command(variant)).collect(),
        server,
        failure,
        slices: slices.iter().map(kept).collect(),
        latency_seconds: middle(slices, figures).map(|run| run.latency_seconds.clone()),
        may_lose: variant.may_lose,
    }
}

/// The run in the middle, by the first figure.
fn middle<'a>(slices: &'a [Slice], figures: &[Figure]) -> Option<&'a Document> {
    let value = |slice: &&Slice| figures.first().and_then(|figure| figure.of(&slice.raw)).unwrap_or(f64::MAX);
    let mut slices: Vec<&Slice> = slices.iter().collect();
    slices.sort_by(|left, right| value(left).total_cmp(&value(right)));
    slices.get(slices.len() / 2).map(|slice| &slice.run)
}

/// Figure number `index` of all variants.
fn valued(taken: &[Taken], index: usize, reference: &str, rounds: u32) -> Vec<Valued> {
    let values = |variant: &Taken| -> Vec<Option<f64>> {
        let of = |round| variant.slices.iter().find(|slice| slice.round == round)?.values[index];
        (1..=rounds).map(of).collect()
    };
    let of_reference = taken.iter().find(|variant| variant.name == reference).map(values).unwrap_or_default();
    let valued = |variant: &Taken| {
        let values = values(variant);
        let ratios = ratios(&values, &of_reference);
        Valued {
            name: variant.name.clone(),
            value: Spread::of(values.into_iter().flatten()),
            ratio: Spread::of(ratios.iter().copied().flatten()),
            ratios,
        }
    };
    taken.iter().map(valued).collect()
}

fn reached(bar: &Bar, figures: &[Compared]) -> Reached {
    let variants = figures.first().map(|figure| figure.variants.as_slice()).unwrap_or_default();
    let variant = variants.iter().find(|valued| valued.name == bar.variant);
    let ratio = variant.and_then(|valued| valued.ratio).map(|ratio| ratio.median);
    Reached { bar: bar.clone(), ratio, reached: ratio.is_some_and(|ratio| ratio <= bar.at_most) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::plan::tests::PLAN;
    use crate::document;

    /// Two rounds in which a delivery cost this many microseconds.
    fn slices(costs: [f64; 2], right: bool) -> Vec<Slice> {
        (1..)
            .zip(costs)
            .map(|(round, cost)| {
                let mut run = document::tests::complete();
                run.server_cpu_per.as_mut().expect("it is complete").total = cost;
                run.right = right;
                let raw = serde_json::to_value(&run).expect("serializable");
                Slice { round, run, raw, repeated: round == 2 }
            })
            .collect()
    }

    /// A comparison of three, of whom one failed.
    pub(crate) fn complete(rival_failed: bool) -> Comparison {
        let plan = Plan::parse(PLAN).expect("a plan");
        let measure = &plan.measure[0];
        let failed = rival_failed.then(|| "connection refused".to_owned());
        let rival = if rival_failed { Vec::new() } else { slices([9.0, 9.0], false) };
        let taken = [slices([4.2, 8.8], true), slices([4.0, 8.0], true), rival];
        let mut comparison = Comparison::new(&plan);
        let variants = plan.variants_of(measure);
        comparison.measures.push(measured(&plan, measure, &variants, &taken, vec![None, None, failed]));
        comparison
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let comparison = complete(false);
        let measure = &comparison.measures[0];
        let cpu = &measure.figures[0];
        assert_eq!((cpu.label.as_str(), cpu.unit.as_str()), ("CPU per delivery", "µs"));
        let ratio = |index: usize| cpu.variants[index].ratio.expect("it was measured");
        let close = |left: f64, right: f64| (left - right).abs() < 1e-9;
        assert!(close(ratio(0).median, 1.075) && close(ratio(0).min, 1.05) && close(ratio(0).max, 1.1));
        assert!(close(ratio(1).median, 1.0) && close(ratio(1).max, 1.0));
        assert!(close(cpu.variants[0].value.expect("it was measured").median, 6.5));
        let [bar] = &measure.bar[..] else { panic!("there is one") };
        assert!(bar.reached && bar.ratio.is_some_and(|ratio| close(ratio, 1.075)));
        let of = |variant: &Taken| {
            let flags = variant.slices.iter().map(|slice| (slice.round, slice.repeated, slice.right));
            flags.collect::<Vec<_>>()
        };
        assert_eq!(of(&measure.variants[0]), [(1, false, true), (2, true, true)]);
        assert!(measure.variants[0].latency_seconds.as_ref().is_some_and(|times| times.count > 0));
    }

    #[test]
    fn the_verdict_follows_from_every_slice() {
        // The rival may lose; the others may not, nor may the bar be missed.
        assert!(matches!(complete(false).verdict(), Verdict::Right));
        assert!(matches!(complete(true).verdict(), Verdict::Failed));
        let mut wrong = complete(false);
        wrong.measures[0].variants[0].slices[1].right = false;
        assert!(matches!(wrong.verdict(), Verdict::Wrong));
        let mut missed = complete(false);
        missed.measures[0].bar[0].reached = false;
        assert!(matches!(missed.verdict(), Verdict::Wrong));
    }

    #[test]
    fn a_comparison_comes_back_as_it_was_written() {
        let written = serde_json::to_string(&complete(true)).expect("serializable");
        let read: Comparison = serde_json::from_str(&written).expect("what was written");
        assert_eq!(serde_json::to_string(&read).expect("serializable"), written);
    }
}
