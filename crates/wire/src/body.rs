//! Bodies of requests: of a known length, or in chunks (RFC 9112 §7.1), resumable at every byte.

use crate::refusal::{Reason, Refusal};
use crate::scan::is_token_byte;

/// How many bytes of chunk extensions and trailer fields a whole body may have (PROTOCOL.md A25).
pub const CHUNK_EXTRA_BYTES_MAX: usize = 4096;

/// How many digits a chunk's size may have; so many fit into 64 bits.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// How a request's body ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// Takes a body out of its framing.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
    /// How many more bytes the body may have.
    room: usize,
    /// How many more bytes of extensions and trailers there may be.
    extra_room: usize,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// So many more bytes of a body of known length.
    Length(u64),
    /// The first digit of a chunk's size.
    FirstDigit,
    /// More of the chunk's size, of which so many digits are read.
    Size(u64, u8),
    /// Whitespace between the chunk's size and an extension, which has to follow.
    BeforeExtension(u64),
    /// The chunk's extensions.
    Extension(u64),
    SizeLf(u64),
    /// So many more bytes of a chunk.
    Data(u64),
    DataCr,
    DataLf,
    /// The first byte of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyReader {
    /// A reader for a body with this framing and of at most `bytes_max` bytes.
    pub fn new(framing: Framing, bytes_max: usize) -> BodyReader {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::FirstDigit,
        };
        BodyReader { state, room: bytes_max, extra_room: CHUNK_EXTRA_BYTES_MAX }
    }

    /// Appends what `input` holds of the body to `out`. Returns how many bytes of `input` belong to the body and its
    /// framing, which is all of them until the body ends, and whether it has ended. After an error: no more calls.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), Refusal> {
        let mut at = 0;
        while self.state != State::Done && at < input.len() {
            at += match self.state {
                State::Length(left) => self.copy(left, &input[at..], out, State::Length, State::Done)?,
                State::Data(left) => self.copy(left, &input[at..], out, State::Data, State::DataCr)?,
                _ => {
                    self.state = self.step(input[at])?;
                    1
                }
            };
        }
        Ok((at, self.state == State::Done))
    }

    /// Copies as much of the `left` bytes as there is, and goes on with `more` or, at their end, with `then`.
    fn copy(
        &mut self,
        left: u64,
        input: &[u8],
        out: &mut Vec<u8>,
        more: fn(u64) -> State,
        then: State,
    ) -> Result<usize, Reason> {
        // What is too large is refused before any of it is taken.
        if left > self.room as u64 {
            return Err(Reason::BodyTooLarge);
        }
        let taken = input.len().min(left as usize);
        out.extend_from_slice(&input[..taken]);
        self.room -= taken;
        self.state = if taken as u64 == left { then } else { more(left - taken as u64) };
        Ok(taken)
    }

    /// The state after one byte of a chunked body's framing.
    fn step(&mut self, byte: u8) -> Result<State, Reason> {
        Ok(match (self.state, byte) {
            (State::FirstDigit, _) => State::Size(hex(byte).ok_or(Reason::BadChunk)?, 1),
            (State::Size(size, _), b' ' | b'\t') => self.extra(State::BeforeExtension(size))?,
            (State::Size(size, _) | State::BeforeExtension(size), b';') => {
                self.extra(State::Extension(size))?
            }
            (State::Size(size, _) | State::Extension(size), b'\r') => State::SizeLf(size),
            (State::Size(size, digits @ ..CHUNK_SIZE_DIGITS_MAX), _) => {
                State::Size(size << 4 | hex(byte).ok_or(Reason::BadChunk)?, digits + 1)
            }
            (State::BeforeExtension(_), b' ' | b'\t') => self.extra(self.state)?,
            (State::Extension(_), _) if is_text(byte) => self.extra(self.state)?,
            (State::SizeLf(0), b'\n') => State::TrailerStart,
            (State::SizeLf(size), b'\n') => State::Data(self.check_room(size)?),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::FirstDigit,
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                self.extra(State::TrailerName)?
            }
            (State::TrailerName, b':') => self.extra(State::TrailerValue)?,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text(byte) => self.extra(State::TrailerValue)?,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Reason::BadChunk),
        })
    }

    fn check_room(&self, size: u64) -> Result<u64, Reason> {
        if size > self.room as u64 { Err(Reason::BodyTooLarge) } else { Ok(size) }
    }

    /// Accounts for one byte that carries nothing.
    fn extra(&mut self, next: State) -> Result<State, Reason> {
        self.extra_room = self.extra_room.checked_sub(1).ok_or(Reason::BadChunk)?;
        Ok(next)
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Anything but control characters, the tab excepted.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}
