//! The lane itself: a ring of slots and two counters.
//!
//! Both counters only grow, wrapping at the end of `usize`: `tail` counts items pushed, `head` items popped. An item's
//! slot is its number modulo the ring's length, which is a power of two so that this also holds across the wrap. The
//! ring may be longer than the lane: how many items wait at once is bounded by the capacity that was asked for.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::sync::{Arc, AtomicUsize, UnsafeCell};

/// A lane in which at most `capacity` items wait.
///
/// # Panics
///
/// If `capacity` is zero, or more than half of all numbers a `usize` has.
pub fn lane<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    lane_from(capacity, 0)
}

/// A lane whose first item has the number `first`.
fn lane_from<T>(capacity: usize, first: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity >= 1, "a lane holds at least one item");
    let length = capacity.checked_next_power_of_two().expect("a lane's length is a number");
    let ring = Arc::new(Ring {
        head: Line(AtomicUsize::new(first)),
        tail: Line(AtomicUsize::new(first)),
        slots: (0..length).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let producer = Producer { ring: ring.clone(), capacity, tail: first, head_seen: first };
    let consumer = Consumer { ring, head: first, tail_seen: first };
    (producer, consumer)
}

/// What both ends share.
///
/// Invariant: the slots numbered `head..tail` hold items. Only the producer stores to `tail` and touches the slots
/// outside that range; only the consumer stores to `head` and touches those inside.
struct Ring<T> {
    head: Line<AtomicUsize>,
    tail: Line<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by one thread at a time, handed over by a release store that the other end acquires (see
// the invariant of `Ring`), so sharing a ring only ever moves items between threads.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, number: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[number & (self.slots.len() - 1)]
    }

    /// Moves the item numbered `number` out of its slot.
    ///
    /// # Safety
    ///
    /// `number` is in `head..tail`, the caller alone may touch that slot, and `head` moves past it before anyone else
    /// looks at it.
    unsafe fn take(&self, number: usize) -> T {
        self.slot(number).with_mut(|slot| {
            // SAFETY: the caller's promise: the slot holds an item, nobody else touches it, and it counts as empty
            // from here on.
            unsafe { (*slot).assume_init_read() }
        })
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Both ends are gone, so these are the last values stored.
        let (mut head, tail) = (self.head.load(Relaxed), self.tail.load(Relaxed));
        while head != tail {
            // SAFETY: `head..tail` hold items, `&mut self` says nobody else is there, and each number is taken once.
            drop(unsafe { self.take(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// The end that items go in at.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    capacity: usize,
    /// How many items were pushed: what the ring's `tail` says, without asking it.
    tail: usize,
    /// How many items were popped when the ring's `head` was last read.
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Hands `item` to the consumer, or gives it back because the lane is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        // The consumer's cache line is read only when the lane looks full from what was seen of it last.
        if self.tail.wrapping_sub(self.head_seen) == self.capacity && self.room() == 0 {
            return Err(item);
        }
        self.ring.slot(self.tail).with_mut(|slot| {
            // SAFETY: `tail - head < capacity <= slots`, so the slot is outside `head..tail`: it is empty and ours.
            // The consumer's reads of the slot's former item happened before the `head` that `room` acquired.
            unsafe { (*slot).write(item) };
        });
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.store(self.tail, Release);
        Ok(())
    }

    /// How many items can be pushed now without being refused. It only grows until the next push.
    #[inline]
    pub fn room(&mut self) -> usize {
        self.head_seen = self.ring.head.load(Acquire);
        self.capacity - self.tail.wrapping_sub(self.head_seen)
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} pushed)", self.tail)
    }
}

/// The end that items come out at.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// How many items were popped: what the ring's `head` says, without asking it.
    head: usize,
    /// How many items were pushed when the ring's `tail` was last read.
    tail_seen: usize,
}

impl<T> Consumer<T> {
    /// The item that has waited longest, if any waits.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `head != tail`, so the slot is in `head..tail`: it holds an item and is ours. The producer's write of
        // it happened before the `tail` that `is_empty` or `len` acquired. `head` moves past it below.
        let item = unsafe { self.ring.take(self.head) };
        self.head = self.head.wrapping_add(1);
        self.ring.head.store(self.head, Release);
        Some(item)
    }

    /// Whether nothing waits. After [`Parking::park`](crate::Parking::park) the answer counts: whoever pushes later
    /// is told to wake this side.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        // The producer's cache line is read only when nothing is left of what was seen of it last.
        self.head == self.tail_seen && self.len() == 0
    }

    /// How many items wait. It only grows until the next pop.
    #[inline]
    pub fn len(&mut self) -> usize {
        self.tail_seen = self.ring.tail.load(Acquire);
        self.tail_seen.wrapping_sub(self.head)
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({} popped)", self.head)
    }
}

/// A value with cache lines of its own: two of 64 bytes, because processors fetch them in pairs.
#[repr(align(128))]
struct Line<T>(T);

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(all(test, not(moongate_loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_around() {
        let (mut producer, mut consumer) = lane_from(3, usize::MAX - 4);
        for round in 0..10 {
            for item in 0..3 {
                assert_eq!(producer.push(Box::new((round, item))), Ok(()));
            }
            assert!(producer.push(Box::new((round, 3))).is_err(), "full in round {round}");
            assert_eq!(consumer.len(), 3);
            for item in 0..3 {
                assert_eq!(consumer.pop(), Some(Box::new((round, item))));
            }
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn the_counters_share_no_cache_line() {
        let (producer, _consumer) = lane::<u8>(1);
        let head: *const AtomicUsize = &*producer.ring.head;
        let tail: *const AtomicUsize = &*producer.ring.tail;
        let slots: *const _ = &producer.ring.slots;
        assert!(head.addr().abs_diff(tail.addr()) >= 128);
        assert!(head.addr().abs_diff(slots.addr()) >= 128);
        assert!(tail.addr().abs_diff(slots.addr()) >= 64);
    }
}
