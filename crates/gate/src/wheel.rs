//! A hashed timer wheel with one timer per slot: no allocation per timer, no timer of the kernel's.
//!
//! Time is cut into ticks of [`TICK_NANOS`]; a timer stands in the bucket of its deadline's tick modulo the number of
//! buckets, in a list threaded through a table by slot. One whose deadline is further away than a turn of the wheel is
//! passed over until its turn. Timers fire up to a tick late and never early.

use moongate_io::Time;

/// The wheel's resolution.
const TICK_NANOS: u64 = 8_000_000;
const BUCKETS: usize = 4096;
const NONE: u32 = u32::MAX;

/// One timer for each slot.
pub struct Wheel {
    /// The first slot in each bucket.
    heads: Box<[u32]>,
    /// One bit for each bucket that holds a timer.
    occupied: Box<[u64]>,
    links: Vec<Link>,
    /// Every bucket before this tick's has been emptied of what was due.
    tick: u64,
    armed: usize,
}

#[derive(Copy, Clone)]
struct Link {
    previous: u32,
    next: u32,
    /// The deadline in ticks; 0 where no timer is set.
    deadline: u64,
}

const UNSET: Link = Link { previous: NONE, next: NONE, deadline: 0 };

impl Wheel {
    /// With no timer set.
    pub fn new(now: Time) -> Wheel {
        Wheel {
            heads: vec![NONE; BUCKETS].into_boxed_slice(),
            occupied: vec![0; BUCKETS / 64].into_boxed_slice(),
            links: Vec::new(),
            tick: now.as_nanos() / TICK_NANOS,
            armed: 0,
        }
    }

    /// Sets room aside for so many slots, which is not touched before it is used.
    pub(crate) fn reserve(&mut self, slots: u32) {
        self.links.reserve_exact((slots as usize).saturating_sub(self.links.len()));
    }

    /// Lets `slot`'s timer fire at `deadline`, in place of any earlier wish.
    pub fn set(&mut self, slot: u32, deadline: Time) {
        self.clear(slot);
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, UNSET);
        }
        let deadline = deadline.as_nanos().div_ceil(TICK_NANOS).max(self.tick).max(1);
        let bucket = bucket(deadline);
        let next = std::mem::replace(&mut self.heads[bucket], slot);
        self.links[index] = Link { previous: NONE, next, deadline };
        if next != NONE {
            self.links[next as usize].previous = slot;
        }
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.armed += 1;
    }

    /// Whether `slot`'s timer is set.
    pub fn is_set(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.deadline != 0)
    }

    /// Lets `slot`'s timer not fire.
    pub fn clear(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize).filter(|link| link.deadline != 0) else { return };
        let Link { previous, next, deadline } = std::mem::replace(link, UNSET);
        self.armed -= 1;
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
            return;
        }
        let bucket = bucket(deadline);
        self.heads[bucket] = next;
        if next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Takes up to `budget` timers that are due and appends their slots. True if more may be due.
    pub fn advance(&mut self, now: Time, budget: usize, due: &mut Vec<u32>) -> bool {
        let target = now.as_nanos() / TICK_NANOS;
        let mut left = budget;
        // After a long sleep one turn of the wheel visits every bucket.
        self.tick = self.tick.max(target.saturating_sub(BUCKETS as u64 - 1));
        while self.tick <= target {
            let mut slot = self.heads[bucket(self.tick)];
            while slot != NONE {
                let link = self.links[slot as usize];
                if link.deadline <= target {
                    if left == 0 {
                        return true;
                    }
                    left -= 1;
                    self.clear(slot);
                    due.push(slot);
                }
                slot = link.next;
            }
            if self.tick == target {
                break;
            }
            self.tick += 1;
        }
        false
    }

    /// When to look again: not after the next timer is due, though it may be before.
    pub fn next(&self) -> Option<Time> {
        if self.armed == 0 {
            return None;
        }
        let here = bucket(self.tick);
        if self.has_due(here) {
            return Some(Time::from_nanos(self.tick * TICK_NANOS));
        }
        // What else stands in this bucket is due a turn later: it is the last to look at, not the first.
        let start = (here + 1) % BUCKETS;
        let words = BUCKETS / 64;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= !0 << (start % 64);
            } else if step == words {
                bits &= !(!0 << (start % 64));
            }
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (found + BUCKETS - start) % BUCKETS + 1;
                return Some(Time::from_nanos((self.tick + ahead as u64) * TICK_NANOS));
            }
        }
        None
    }

    fn has_due(&self, bucket: usize) -> bool {
        let mut slot = self.heads[bucket];
        while slot != NONE {
            let link = self.links[slot as usize];
            if link.deadline <= self.tick {
                return true;
            }
            slot = link.next;
        }
        false
    }
}

fn bucket(tick: u64) -> usize {
    tick as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn due(wheel: &mut Wheel, millis: u64) -> Vec<u32> {
        let mut due = Vec::new();
        assert!(!wheel.advance(at(millis), 1000, &mut due));
        due.sort_unstable();
        due
    }

    #[test]
    fn timers_fire_once_never_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new(Time::ZERO);
        for slot in 0..500_u32 {
            wheel.set(slot, at(u64::from(slot) * 7));
        }
        let mut fired = Vec::new();
        for millis in 0..3600 {
            for slot in due(&mut wheel, millis) {
                let wanted = u64::from(slot) * 7;
                assert!(millis >= wanted && millis <= wanted + 16, "{slot} at {millis}");
                fired.push(slot);
            }
        }
        fired.sort_unstable();
        assert_eq!(fired, (0..500).collect::<Vec<_>>());
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_timer_further_away_than_a_turn_waits_for_its_turn() {
        let mut wheel = Wheel::new(Time::ZERO);
        wheel.set(1, at(100_000));
        wheel.set(2, at(1_000_000));
        assert!(due(&mut wheel, 99_000).is_empty());
        assert_eq!(due(&mut wheel, 100_008), [1]);
        assert!(due(&mut wheel, 999_000).is_empty());
        assert_eq!(due(&mut wheel, 1_000_008), [2]);
    }

    #[test]
    fn setting_again_and_clearing_replace_the_earlier_wish() {
        let mut wheel = Wheel::new(Time::ZERO);
        for slot in 0..4 {
            wheel.set(slot, at(50));
        }
        wheel.set(1, at(500));
        wheel.clear(2);
        wheel.clear(9);
        assert!(wheel.is_set(1) && !wheel.is_set(2));
        assert_eq!(due(&mut wheel, 100), [0, 3]);
        assert_eq!(due(&mut wheel, 600), [1]);
    }

    #[test]
    fn a_budget_leaves_the_rest_for_the_next_look() {
        let mut wheel = Wheel::new(Time::ZERO);
        for slot in 0..10 {
            wheel.set(slot, at(5));
        }
        let mut due = Vec::new();
        assert!(wheel.advance(at(50), 6, &mut due));
        assert_eq!(due.len(), 6);
        assert!(!wheel.advance(at(50), 6, &mut due));
        assert_eq!(due.len(), 10);
    }

    #[test]
    fn a_timer_that_is_due_a_turn_later_lets_the_shard_sleep() {
        let mut wheel = Wheel::new(at(800));
        wheel.set(3, at(800 + 8 * BUCKETS as u64));
        for millis in [800, 4_000, 20_000, 33_560] {
            assert!(due(&mut wheel, millis).is_empty());
            assert!(wheel.next() > Some(at(millis)), "at {millis}: {:?}", wheel.next());
        }
        assert_eq!(wheel.next(), Some(at(33_568)));
        assert_eq!(due(&mut wheel, 33_568), [3]);
    }

    #[test]
    fn next_is_never_after_the_next_timer() {
        let mut wheel = Wheel::new(at(12_345));
        assert_eq!(wheel.next(), None);
        for deadline in [12_346, 12_400, 20_000, 44_000, 45_200, 90_000, 1_000_000] {
            wheel.set(7, at(deadline));
            let next = wheel.next().expect("one is set");
            assert!(next <= at(deadline + 8), "{deadline}: {next:?}");
            assert!(next >= at(12_336), "{deadline}: {next:?}");
        }
    }
}
