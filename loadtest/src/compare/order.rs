//! In which order slices are taken: A B C, A B C, A B C.

/// A slice to be taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// Which of the variants.
    pub(super) variant: usize,
    /// In which round, from 1; none for one that warms up and does not count.
    pub(super) round: Option<u32>,
}

/// The slices of a measure of so many variants.
pub(super) fn order(variants: usize, rounds: u32, warm_up: u32) -> Vec<Slot> {
    let warm = (0..warm_up).map(|_| None);
    let each = |round| (0..variants).map(move |variant| Slot { variant, round });
    warm.chain((1..=rounds).map(Some)).flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_goes_through_all_variants() {
        for (variants, rounds, warm_up, expect) in [
            (3, 2, 1, "a- b- c- a1 b1 c1 a2 b2 c2"),
            (2, 3, 0, "a1 b1 a2 b2 a3 b3"),
            (1, 2, 2, "a- a- a1 a2"),
            (0, 2, 1, ""),
        ] {
            let name = |slot: Slot| {
                let letter = char::from(b'a' + slot.variant as u8);
                format!("{letter}{}", slot.round.map_or("-".to_owned(), |round| round.to_string()))
            };
            let order: Vec<String> = order(variants, rounds, warm_up).into_iter().map(name).collect();
            assert_eq!(order.join(" "), expect);
        }
    }
}
