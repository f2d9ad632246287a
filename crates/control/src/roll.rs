//! Who of the shards has been asked, and who has answered.

/// One question to all shards. At most one ask per shard is on its way at a time, also across rounds: a shard that
/// has not answered the last round yet is asked again only when it has, and that late answer is told from the new one.
pub(crate) struct Roll {
    turns: Vec<Turn>,
    /// Shards with an ask on its way, from this round or an earlier one.
    owing: Vec<bool>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Turn {
    /// Still to be asked, from this cursor on.
    ToAsk(u64),
    Asked,
    Done,
}

impl Roll {
    /// A roll of `shards`, with no round begun.
    pub(crate) fn new(shards: usize) -> Roll {
        Roll { turns: vec![Turn::Done; shards], owing: vec![false; shards] }
    }

    /// Begins a round: everyone is to be asked.
    pub(crate) fn begin(&mut self) {
        self.turns.fill(Turn::ToAsk(0));
    }

    /// Whether every shard has answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.turns.iter().all(|turn| *turn == Turn::Done)
    }

    /// Ends the round, whoever has not answered.
    pub(crate) fn end(&mut self) {
        self.turns.fill(Turn::Done);
    }

    /// What to ask `shard` for now, if anything.
    pub(crate) fn to_ask(&self, shard: usize) -> Option<u64> {
        match self.turns[shard] {
            Turn::ToAsk(cursor) if !self.owing[shard] => Some(cursor),
            _ => None,
        }
    }

    /// `shard` has been asked.
    pub(crate) fn asked(&mut self, shard: usize) {
        debug_assert!(self.to_ask(shard).is_some());
        self.turns[shard] = Turn::Asked;
        self.owing[shard] = true;
    }

    /// `shard` has answered; `next` is where the rest of its answer begins. False if the answer belongs to an earlier
    /// round.
    #[must_use = "an answer to an earlier round does not belong to this one"]
    pub(crate) fn answered(&mut self, shard: usize, next: Option<u64>) -> bool {
        self.owing[shard] = false;
        if self.turns[shard] != Turn::Asked {
            return false;
        }
        self.turns[shard] = next.map_or(Turn::Done, Turn::ToAsk);
        true
    }

    /// Those who have not answered, as a person reads them.
    pub(crate) fn silent(&self) -> String {
        let silent = self.turns.iter().enumerate().filter(|(_, turn)| **turn != Turn::Done);
        silent.map(|(shard, _)| shard.to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_complete_when_all_pages_have_come() {
        let mut roll = Roll::new(2);
        assert!(roll.is_complete());
        roll.begin();
        roll.asked(0);
        assert_eq!((roll.to_ask(0), roll.to_ask(1)), (None, Some(0)));
        assert!(roll.answered(0, Some(7)));
        assert_eq!(roll.to_ask(0), Some(7));
        roll.asked(0);
        assert!(roll.answered(0, None));
        assert_eq!(roll.silent(), "1");
        roll.asked(1);
        assert!(!roll.is_complete());
        assert!(roll.answered(1, None));
        assert!(roll.is_complete());
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_rounds() {
        let mut roll = Roll::new(1);
        roll.begin();
        roll.asked(0);
        roll.end();
        roll.begin();
        assert_eq!(roll.to_ask(0), None, "it still owes the last answer");
        assert!(!roll.answered(0, None));
        assert_eq!(roll.to_ask(0), Some(0));
        roll.asked(0);
        assert!(roll.answered(0, None));
    }

    #[test]
    fn a_late_answer_after_the_end_of_a_round_changes_nothing() {
        let mut roll = Roll::new(1);
        roll.begin();
        roll.asked(0);
        roll.end();
        assert!(!roll.answered(0, Some(9)));
        assert!(roll.is_complete());
    }
}
