//! What is said on one path, and how far it has been sent.
//!
//! Messages gather in `pending`, are sealed into runs, and each run is swept over the members: one send for each, in one
//! order. A run is let go when every member that was there at its sealing has it.

use std::collections::VecDeque;
use std::sync::Arc;

use moongate_wire::frame::{Opcode, encode};

use crate::options::Pace;

/// Without back-pressure somebody must say stop.
const HELD_BYTES_MAX: usize = 256 << 20;

/// In the place of a member that left.
pub(crate) const GONE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Group {
    /// Slots of those who opened the path, or [`GONE`].
    pub(crate) members: Vec<u32>,
    /// How many have gone and still have their place.
    gone: usize,
    /// When runs are made.
    pub(crate) pace: Pace,
    /// Frames that are in no run yet.
    pending: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    runs: VecDeque<Run>,
    /// The sequence number of the first run there is.
    first: u64,
    /// The run being swept, or the next that will be.
    pub(crate) swept: u64,
    /// How far it was: an index of `members`.
    pub(crate) cursor: usize,
    /// Bytes in `runs`.
    held: usize,
    /// Sends that a window of a fractional number of sends has left over.
    owed: f64,
}

struct Run {
    bytes: Arc<Vec<u8>>,
    /// Members that do not have it yet.
    left: usize,
}

impl Group {
    /// Adds a member, who gets every run from here on; says its place.
    pub(crate) fn join(&mut self, slot: u32) -> usize {
        self.members.push(slot);
        self.members.len() - 1
    }

    /// The member at `place` goes, with every run from `next` on still to come.
    pub(crate) fn leave(&mut self, place: usize, next: u64) {
        self.members[place] = GONE;
        self.gone += 1;
        for run in next..self.end() {
            self.had(run);
        }
    }

    /// Whether enough have gone for [`Group::close_ranks`] to be worth it, and nobody is under way between the places.
    pub(crate) fn has_gaps(&self) -> bool {
        self.gone * 2 > self.members.len() && !self.is_sweeping()
    }

    /// Members move up. Each has a new place afterwards.
    pub(crate) fn close_ranks(&mut self) -> &[u32] {
        self.members.retain(|slot| *slot != GONE);
        self.gone = 0;
        &self.members
    }

    /// Adds a message, as the frame that all get.
    pub(crate) fn say(&mut self, opcode: Opcode, payload: &[u8]) {
        encode(opcode, payload, &mut self.pending);
        self.ends.push(self.pending.len());
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The number after the last run.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.runs.len() as u64
    }

    /// Whether there is a run that not everybody was given a send of.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.swept < self.end()
    }

    /// The bytes of a run that somebody does not have yet.
    pub(crate) fn bytes(&self, run: u64) -> &Arc<Vec<u8>> {
        &self.runs[(run - self.first) as usize].bytes
    }

    /// Takes as much out of what is pending as may go now, as runs to be [`Group::add`]ed here and elsewhere. With
    /// `hurry` that is everything, though a window may be incomplete.
    pub(crate) fn seal(&mut self, hurry: bool) -> Vec<Arc<Vec<u8>>> {
        let mut sealed = Vec::new();
        if let Pace::Collect { messages, sends } = self.pace {
            while self.ends.len() >= messages {
                self.owed += sends;
                let parts = (self.owed as usize).clamp(1, messages);
                self.owed -= parts as f64;
                for part in 0..parts {
                    let count = messages * (part + 1) / parts - messages * part / parts;
                    sealed.push(self.take(count));
                }
            }
        }
        if self.is_pending() && (hurry || self.pace == Pace::Turn) {
            sealed.push(self.take(self.ends.len()));
        }
        sealed
    }

    /// The first `count` messages that are pending.
    fn take(&mut self, count: usize) -> Arc<Vec<u8>> {
        let end = self.ends[count - 1];
        let rest = self.pending.split_off(end);
        self.ends.drain(..count);
        self.ends.iter_mut().for_each(|later| *later -= end);
        Arc::new(std::mem::replace(&mut self.pending, rest))
    }

    /// Appends a run that all members are to get.
    pub(crate) fn add(&mut self, bytes: Arc<Vec<u8>>) -> Result<(), String> {
        self.held += bytes.len();
        if self.held > HELD_BYTES_MAX {
            return Err(format!(
                "{} bytes wait for somebody who does not read: there is no back-pressure",
                self.held
            ));
        }
        self.runs.push_back(Run { bytes, left: self.members.len() - self.gone });
        self.let_go();
        Ok(())
    }

    /// One member has `run`, or will never have it.
    pub(crate) fn had(&mut self, run: u64) {
        self.runs[(run - self.first) as usize].left -= 1;
        self.let_go();
    }

    fn let_go(&mut self) {
        while self.first < self.swept {
            let Some(run) = self.runs.pop_front_if(|run| run.left == 0) else { return };
            self.held -= run.bytes.len();
            self.first += 1;
        }
    }

    /// The run being swept has gone to everybody.
    pub(crate) fn end_sweep(&mut self) {
        self.swept += 1;
        self.cursor = 0;
        self.let_go();
    }
}
