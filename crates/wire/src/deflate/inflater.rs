//! Inflating, in steps, each with a budget.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{TAIL, WINDOW_BITS_MAX};
use crate::frame::{Fault, code};

/// What is read after a message's own bytes: the tail that its sender cut off, and an empty last block. Only a message
/// that ends where a block does comes to the end of all of this.
const SUFFIX: [u8; 6] = [TAIL[0], TAIL[1], TAIL[2], TAIL[3], 0x03, 0x00];

/// Bytes that one step produces at most.
const STEP_BYTES_MAX: usize = 64 * 1024;

/// How many bytes made are as much work as one byte read. A byte read can begin a block whose code must be built first,
/// which is why one that makes nothing is not free (docs/protocol.md G12); see `docs/decisions/0003-deflate.md`.
const READ_WORK: usize = 16;

/// Bytes that can be referred to: work is charged for them where they have to be set up again.
const WINDOW_BYTES: usize = 1 << WINDOW_BITS_MAX;

/// How much of its memory for messages an inflater keeps when it rests.
const KEPT_BYTES_MAX: usize = 256 * 1024;

const BROKEN: Fault = Fault {
    code: code::INVALID_DATA,
    reason: "compressed message that does not inflate by itself; no context is kept between messages",
};
const INCOMPLETE: Fault =
    Fault { code: code::INVALID_DATA, reason: "compressed message that ends inside a block" };
const TOO_BIG: Fault = Fault {
    code: code::TOO_BIG,
    reason: "message too big once inflated: the limit is MOONGATE_MESSAGE_BYTES_MAX",
};

/// How many bytes a compressed message may have if `message_bytes_max` is what it may have when inflated: a compressor
/// makes what it cannot compress a little larger, at worst, with the fixed code, by 9 bits for every 8.
pub fn compressed_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 8).saturating_add(64)
}

/// How far a message has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// [`Inflater::message`] is all of it.
    Whole,
    /// The budget was used up before its end.
    Begun,
}

/// Inflates messages, one after the other, each by itself. Memory for a message grows as its bytes are made and never
/// beyond what one may have.
pub struct Inflater {
    stream: Inflate,
    /// Where bytes are made: all of it has been written at some time, so that it need not be cleared for every message.
    made: Vec<u8>,
    /// How many bytes of the message are made.
    len: usize,
    /// How many bytes of it, and of [`SUFFIX`] after it, are read.
    read: usize,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater { stream: Inflate::new(false, WINDOW_BITS_MAX), made: Vec::new(), len: 0, read: 0 }
    }
}

impl Inflater {
    /// Forgets everything: the next message begins.
    pub fn begin(&mut self) {
        self.stream.reset(false);
        self.len = 0;
        self.read = 0;
    }

    /// Forgets everything, and gives memory back that only large messages need.
    pub fn rest(&mut self) {
        self.begin();
        if self.made.capacity() > KEPT_BYTES_MAX {
            self.made = Vec::new();
        }
    }

    /// Goes on with the message that `payload` is the compressed form of, until `budget` is used up: bytes made, and
    /// [`READ_WORK`] for each byte read. The budget is overrun by no more than one such byte.
    ///
    /// After [`Progress::Begun`] the next call has the same `payload` and `message_bytes_max`; after a fault or the
    /// whole message, [`Inflater::begin`] comes first.
    pub fn go_on(
        &mut self,
        payload: &[u8],
        message_bytes_max: usize,
        budget: &mut usize,
    ) -> Result<Progress, Fault> {
        // zlib gives nothing for nothing, so a few senders do not write the empty message as RFC 7692 §7.2.3.6 would.
        if payload.is_empty() {
            return Ok(Progress::Whole);
        }
        while *budget > 0 {
            if self.step(payload, message_bytes_max, budget)? {
                return Ok(Progress::Whole);
            }
        }
        Ok(Progress::Begun)
    }

    /// The bytes made so far.
    pub fn message(&self) -> &[u8] {
        &self.made[..self.len]
    }

    /// Bytes of memory held for messages.
    pub fn held(&self) -> usize {
        self.made.capacity()
    }

    /// One call of the library, bounded in what it reads and what it makes. True at the message's end.
    fn step(&mut self, payload: &[u8], message_bytes_max: usize, budget: &mut usize) -> Result<bool, Fault> {
        // One byte more than may be: it is how a message that is too big shows.
        let room = message_bytes_max.saturating_add(1) - self.len;
        let make = room.min(STEP_BYTES_MAX).min(*budget);
        self.provide(self.len + make, self.len + room);
        let rest = match self.read.checked_sub(payload.len()) {
            None => &payload[self.read..],
            Some(read) => &SUFFIX[read..],
        };
        let input = &rest[..rest.len().min(budget.div_ceil(READ_WORK))];
        let (read_before, made_before) = (self.stream.total_in(), self.stream.total_out());
        let output = &mut self.made[self.len..self.len + make];
        let status = self.stream.decompress(input, output, InflateFlush::NoFlush).map_err(|_| BROKEN)?;
        let read = (self.stream.total_in() - read_before) as usize;
        let made = (self.stream.total_out() - made_before) as usize;
        self.read += read;
        self.len += made;
        *budget = budget.saturating_sub(made + read * READ_WORK);
        if self.len > message_bytes_max {
            return Err(TOO_BIG);
        }
        match status {
            Status::StreamEnd => self.end_stream(payload.len(), budget),
            // Nothing moves any more, so something is missing.
            Status::Ok | Status::BufError if read == 0 && made == 0 => Err(INCOMPLETE),
            Status::Ok | Status::BufError => Ok(false),
        }
    }

    /// Makes `made` at least `least` bytes long. Its memory doubles, but does not become more than `most`.
    fn provide(&mut self, least: usize, most: usize) {
        if self.made.capacity() < least {
            let capacity = self.made.capacity().saturating_mul(2).clamp(least, most);
            self.made.reserve_exact(capacity - self.made.len());
        }
        if self.made.len() < least {
            self.made.resize(least, 0);
        }
    }

    /// A block that says it is the last has ended. True if it was ours, or if nothing follows it: what a message's last
    /// block says does not matter (RFC 7692 §7.2.3.4). Others may follow it, and may refer to what came before.
    fn end_stream(&mut self, payload_len: usize, budget: &mut usize) -> Result<bool, Fault> {
        if self.read == payload_len || self.read == payload_len + SUFFIX.len() {
            return Ok(true);
        }
        if self.read > payload_len {
            return Err(INCOMPLETE);
        }
        self.stream.reset(false);
        let window = &self.made[self.len.saturating_sub(WINDOW_BYTES)..self.len];
        self.stream.set_dictionary(window).map_err(|_| BROKEN)?;
        *budget = budget.saturating_sub(WINDOW_BYTES);
        Ok(false)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("made", &self.len).field("read", &self.read).finish_non_exhaustive()
    }
}
