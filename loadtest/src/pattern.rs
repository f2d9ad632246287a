//! What a message says: who sent it, which of theirs it is, when it was to be sent, and then a filling that follows from
//! these, so that every byte of a delivery can be checked.
//!
//! All of it is printable ASCII, so that it may travel as text and as bytes.

use std::fmt::{self, Write as _};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The head of every message: publisher, sequence and time in hexadecimal digits.
pub(crate) const STAMP_BYTES: usize = PUBLISHER_DIGITS + SEQUENCE_DIGITS + TIME_DIGITS;

const PUBLISHER_DIGITS: usize = 6;
const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 16;

/// How many publishers can be told apart.
pub(crate) const PUBLISHERS_MAX: u32 = 1 << (4 * PUBLISHER_DIGITS as u32);

/// Fillings start at one of so many places of the table.
const STARTS: u64 = 1024;

/// What the head of a message says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Who sent it.
    pub(crate) publisher: u32,
    /// How many that publisher had sent before.
    pub(crate) sequence: u64,
    /// When it was to be sent, in nanoseconds of [`crate::clock::now`].
    pub(crate) time: u64,
}

/// Why a message is not one that was sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// It has another length.
    Length(usize),
    /// The head is not one.
    Stamp,
    /// This byte is wrong.
    Byte(usize),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Length(bytes) => write!(f, "{bytes} bytes long"),
            Broken::Stamp => f.write_str("its head is not one of ours"),
            Broken::Byte(at) => write!(f, "byte {at} is wrong"),
        }
    }
}

/// What follows the head of a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filling {
    /// Characters without any order, which hardly compress.
    #[default]
    Noise,
    /// Records as in JSON, which compress as such things do.
    Json,
}

impl Filling {
    fn table(self, bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 12
        };
        match self {
            Filling::Noise => (0..bytes).map(|_| b' ' + (next() >> 12) as u8 % 95).collect(),
            Filling::Json => {
                const NAMES: [&str; 8] =
                    ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath"];
                let mut text = String::new();
                while text.len() < bytes {
                    let (id, name, place) = (next() % 100_000, next() as usize % 8, next() as usize % 8);
                    let (price, count, live) = (next() % 100_000, next() % 50, next() % 2 == 0);
                    // Writing to a string does not fail.
                    let _ = write!(
                        text,
                        "{{\"id\":{id},\"name\":\"{}\",\"price\":{}.{:02},\"count\":{count},\"live\":{live},\"tags\":\
                         [\"{}\",\"new\"]}},",
                        NAMES[name],
                        price / 100,
                        price % 100,
                        NAMES[place]
                    );
                }
                text.truncate(bytes);
                text.into_bytes()
            }
        }
    }
}

/// Writes and checks messages of one size.
pub(crate) struct Pattern {
    size: usize,
    table: Vec<u8>,
    /// What was found right last, and what it said: a fan-out brings the same bytes many times.
    right: (Vec<u8>, Option<Stamp>),
}

impl Pattern {
    /// For messages of `size` bytes, at least [`STAMP_BYTES`].
    pub(crate) fn new(size: usize, filling: Filling) -> Pattern {
        Pattern { size, table: filling.table(STARTS as usize + size), right: (Vec::new(), None) }
    }

    /// Replaces `out` by the message that `stamp` begins.
    pub(crate) fn write(&self, stamp: Stamp, out: &mut Vec<u8>) {
        out.clear();
        push_hex(u64::from(stamp.publisher), PUBLISHER_DIGITS, out);
        push_hex(stamp.sequence, SEQUENCE_DIGITS, out);
        push_hex(stamp.time, TIME_DIGITS, out);
        out.extend_from_slice(self.filling(stamp));
    }

    /// What `payload` says, if each of its bytes is right.
    pub(crate) fn read(&mut self, payload: &[u8]) -> Result<Stamp, Broken> {
        if let (right, Some(stamp)) = &self.right
            && right == payload
        {
            return Ok(*stamp);
        }
        let stamp = self.check(payload)?;
        self.right.0.clear();
        self.right.0.extend_from_slice(payload);
        self.right.1 = Some(stamp);
        Ok(stamp)
    }

    fn check(&self, payload: &[u8]) -> Result<Stamp, Broken> {
        if payload.len() != self.size {
            return Err(Broken::Length(payload.len()));
        }
        let (head, filling) = payload.split_at(STAMP_BYTES);
        let (publisher, rest) = head.split_at(PUBLISHER_DIGITS);
        let (sequence, time) = rest.split_at(SEQUENCE_DIGITS);
        let (Some(publisher), Some(sequence), Some(time)) =
            (read_hex(publisher), read_hex(sequence), read_hex(time))
        else {
            return Err(Broken::Stamp);
        };
        // Six digits fit.
        let stamp = Stamp { publisher: publisher as u32, sequence, time };
        let expect = self.filling(stamp);
        if filling != expect {
            let at = filling.iter().zip(expect).take_while(|(one, other)| one == other).count();
            return Err(Broken::Byte(STAMP_BYTES + at));
        }
        Ok(stamp)
    }

    fn filling(&self, stamp: Stamp) -> &[u8] {
        let said = stamp.sequence ^ (u64::from(stamp.publisher) << 40) ^ stamp.time.rotate_left(20);
        let mixed = said.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let start = (mixed ^ mixed >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - STARTS.ilog2());
        &self.table[start as usize..][..self.size - STAMP_BYTES]
    }
}

fn push_hex(value: u64, digits: usize, out: &mut Vec<u8>) {
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[(value >> (4 * place)) as usize & 15]));
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 0xabcdef, sequence: 0x12_3456_789a, time: u64::MAX - 5 };

    #[test]
    fn what_is_written_is_read() {
        for size in [STAMP_BYTES, STAMP_BYTES + 1, 128, 70_000] {
            for filling in [Filling::Noise, Filling::Json] {
                let mut pattern = Pattern::new(size, filling);
                let mut message = Vec::new();
                pattern.write(STAMP, &mut message);
                assert_eq!((message.len(), pattern.read(&message)), (size, Ok(STAMP)));
                assert!(message.iter().all(|byte| (b' '..=b'~').contains(byte)));
            }
        }
    }

    #[test]
    fn every_byte_counts() {
        let mut pattern = Pattern::new(100, Filling::Noise);
        let mut message = Vec::new();
        pattern.write(STAMP, &mut message);
        for at in 0..message.len() {
            let mut other = message.clone();
            other[at] ^= 1;
            assert_eq!(pattern.read(&message), Ok(STAMP));
            assert!(pattern.read(&other).is_err(), "byte {at}");
        }
        assert_eq!(pattern.read(&message[1..]), Err(Broken::Length(99)));
        message[99] = 0;
        assert_eq!(pattern.read(&message), Err(Broken::Byte(99)));
    }

    #[test]
    fn noise_hardly_compresses_and_json_does() {
        let compressed = |filling| {
            let (mut message, mut out) = (Vec::new(), Vec::new());
            Pattern::new(4096, filling).write(STAMP, &mut message);
            let smaller = moongate_wire::deflate::Deflater::default().deflate(&message, 15, &mut out);
            if smaller { out.len() } else { message.len() }
        };
        let (noise, json) = (compressed(Filling::Noise), compressed(Filling::Json));
        assert!(noise > 3000 && (500..1500).contains(&json), "{noise} and {json} of 4096");
    }
}
