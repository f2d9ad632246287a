//! Medians, spreads and ratios.

use serde::{Deserialize, Serialize};

/// The middle of some values, and how far they spread.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of `values`; none without any.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, min, max })
    }
}

/// The ratio of each value to the reference's in the same round; none where either is missing.
pub(super) fn ratios(values: &[Option<f64>], reference: &[Option<f64>]) -> Vec<Option<f64>> {
    let ratio = |(value, reference): (&Option<f64>, &Option<f64>)| {
        let ratio = (*value)? / (*reference)?;
        ratio.is_finite().then_some(ratio)
    };
    values.iter().zip(reference).map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expect) in [
            (vec![3.0], Some((3.0, 3.0, 3.0))),
            (vec![9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0))),
            (vec![4.0, 1.0, 2.0, 9.0], Some((3.0, 1.0, 9.0))),
            (vec![], None),
        ] {
            let expect = expect.map(|(median, min, max)| Spread { median, min, max });
            assert_eq!(Spread::of(values.clone()), expect, "{values:?}");
        }
    }

    #[test]
    fn ratios_are_of_one_round() {
        // The machine became twice as slow in the second round; the ratio did not change.
        let values = [Some(2.2), Some(4.4), None, Some(1.0), Some(1.0)];
        let reference = [Some(2.0), Some(4.0), Some(1.0), None, Some(0.0)];
        let ratios = ratios(&values, &reference);
        assert!(ratios[..2].iter().all(|ratio| ratio.is_some_and(|ratio| (ratio - 1.1).abs() < 1e-9)));
        assert_eq!(ratios[2..], [None, None, None]);
    }
}
