//! Finds the end of a request head, strictly and without ever looking at a byte twice.
//!
//! This is the gate in front of `httparse`, which takes more than HTTP allows: what passes here has lines that end in
//! CR LF and nothing else, one request line of three parts, and field lines whose names are tokens and whose values
//! hold no control characters. The scanner is a state machine over bytes, so that it makes no difference how the bytes
//! were cut up on their way (docs/protocol.md A26, A31), and it refuses at the first byte that decides.

use crate::head::FIELDS_MAX;
use crate::refusal::{Reason, Refusal};

/// How many empty lines may come before the request line (RFC 9112 §2.2 asks for at least one).
pub const EMPTY_LINES_MAX: u8 = 2;

/// A method longer than this is not looked at any further.
pub const METHOD_BYTES_MAX: usize = 32;

/// How large the parts of a head may be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// The whole head, leading empty lines included.
    pub head_bytes_max: usize,
    /// The request target alone; RFC 9112 §3 wants request lines of 8000 bytes to work.
    pub target_bytes_max: usize,
    /// Field lines, at most [`FIELDS_MAX`].
    pub fields_max: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { head_bytes_max: 16 * 1024, target_bytes_max: 8192, fields_max: FIELDS_MAX }
    }
}

/// How far into a head the scan has come.
#[derive(Copy, Clone, Debug, Default)]
pub struct Scanner {
    /// Every byte before this one has been looked at.
    at: usize,
    /// Where the request line's current part begins.
    part: usize,
    /// Field lines begun.
    fields: usize,
    empty_lines: u8,
    head_only: bool,
    state: State,
}

/// What the byte at [`Scanner::at`] is expected to be.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
enum State {
    /// The first byte of a line before the request line.
    #[default]
    Start,
    /// The LF of an empty line before the request line.
    EmptyLineLf,
    Method,
    Target,
    Version,
    RequestLineLf,
    /// The first byte after the request line.
    FirstLine,
    /// The first byte after a field line.
    NextLine,
    Name,
    Value,
    ValueLf,
    /// The LF of the empty line that ends the head.
    LastLf,
    /// Nothing: the head is complete.
    Complete,
    /// The version at the start of an answer.
    AnswerVersion,
    StatusCode,
    Phrase,
}

impl Scanner {
    /// A scanner for the head of an answer: only its first line differs (docs/protocol.md H16).
    pub(crate) fn for_answer() -> Scanner {
        Scanner { state: State::AnswerVersion, ..Scanner::default() }
    }

    /// Looks at what is new in `bytes`, which is everything received so far. `Some(length)`: the head is complete and is
    /// the first `length` bytes, the empty line at its end included.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        self.run(bytes, limits).map_err(|reason| Refusal::new(reason).head_only(self.head_only))
    }

    fn run(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Reason> {
        // Nothing past the limit is looked at, so that the answer does not depend on how much came at once.
        let visible = &bytes[..bytes.len().min(limits.head_bytes_max)];
        loop {
            self.skip(visible, limits)?;
            let Some(&byte) = visible.get(self.at) else { break };
            self.state = self.step(byte, visible, limits)?;
            self.at += 1;
            if self.state == State::Complete {
                return Ok(Some(self.at));
            }
        }
        if self.at < limits.head_bytes_max {
            return Ok(None);
        }
        Err(if self.state == State::Target { Reason::TargetTooLong } else { Reason::HeadTooLarge })
    }

    /// Passes over the bytes that leave the state as it is. What is too long is refused before its end is known.
    /// Inlined, as `step` is: the calls and the results carried through memory are a third of a scan's time otherwise.
    #[inline(always)]
    fn skip(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Reason> {
        match self.state {
            State::Method => {
                self.at = skip_token(bytes, self.at);
                if self.at - self.part > METHOD_BYTES_MAX {
                    return Err(Reason::MethodUnknown);
                }
            }
            State::Target => {
                self.at = skip_words(bytes, self.at, not_target, |byte| matches!(byte, 0x21..=0x7e));
                if self.at - self.part > limits.target_bytes_max {
                    return Err(Reason::TargetTooLong);
                }
            }
            State::FirstLine | State::NextLine => self.skip_lines(bytes, limits),
            State::Name => self.at = skip_token(bytes, self.at),
            State::Value | State::Phrase => self.at = skip_value(bytes, self.at),
            _ => {}
        }
        Ok(())
    }

    /// Passes over whole field lines, which is what most of a head is. Where a line is cut off or not as it should be, the
    /// state is what byte by byte would have made it, and the rest is left to `step`.
    #[inline(always)]
    fn skip_lines(&mut self, bytes: &[u8], limits: &HeadLimits) {
        while self.fields < limits.fields_max.min(FIELDS_MAX) {
            let start = self.at;
            self.at = skip_token(bytes, start);
            if self.at == start {
                return;
            }
            self.fields += 1;
            self.state = State::Name;
            if bytes.get(self.at) != Some(&b':') {
                return;
            }
            self.state = State::Value;
            self.at = skip_value(bytes, self.at + 1);
            let Some(b"\r\n") = bytes.get(self.at..self.at + 2) else {
                return;
            };
            self.state = State::NextLine;
            self.at += 2;
        }
    }

    /// The state after `byte`, which stands at `self.at`.
    #[inline(always)]
    fn step(&mut self, byte: u8, bytes: &[u8], limits: &HeadLimits) -> Result<State, Reason> {
        if byte == b'\n' && !self.state.expects_line_feed() {
            return Err(Reason::LoneLf);
        }
        match (self.state, byte) {
            (State::Start, 0x16) if self.at == 0 => Err(Reason::TlsOnPlainPort),
            (State::Start, b'\r') if self.empty_lines < EMPTY_LINES_MAX => {
                self.empty_lines += 1;
                Ok(State::EmptyLineLf)
            }
            (State::Start, b'\r') => Err(Reason::EmptyLines),
            (State::Start, b' ' | b'\t') => Err(Reason::BadRequestLine),
            (State::Start, _) if !is_token_byte(byte) => Err(Reason::BadMethod),
            (State::Start, _) => {
                self.part = self.at;
                Ok(State::Method)
            }
            (State::EmptyLineLf, b'\n') => Ok(State::Start),

            (State::Method, b' ') => {
                self.head_only = &bytes[self.part..self.at] == b"HEAD";
                self.part = self.at + 1;
                Ok(State::Target)
            }
            (State::Method, b'\r' | b'\t') => Err(Reason::BadRequestLine),
            (State::Method, _) => Err(Reason::BadMethod),
            (State::Target, b' ') if self.at > self.part => {
                self.part = self.at + 1;
                Ok(State::Version)
            }
            (State::Target, b' ' | b'\r') => Err(Reason::BadRequestLine),
            (State::Target, _) => Err(Reason::BadTarget),
            (State::Version, _) => self.version(byte, bytes),
            (State::RequestLineLf, b'\n') => Ok(State::FirstLine),

            (State::FirstLine, b' ' | b'\t') => Err(Reason::LeadingWhitespace),
            (State::NextLine, b' ' | b'\t') => Err(Reason::ObsFold),
            (State::FirstLine | State::NextLine, b'\r') => Ok(State::LastLf),
            (State::FirstLine | State::NextLine, _) if !is_token_byte(byte) => Err(Reason::BadFieldName),
            (State::FirstLine | State::NextLine, _) if self.fields >= limits.fields_max.min(FIELDS_MAX) => {
                Err(Reason::TooManyFields)
            }
            (State::FirstLine | State::NextLine, _) => {
                self.fields += 1;
                Ok(State::Name)
            }
            (State::Name, b':') => Ok(State::Value),
            (State::Name, b' ' | b'\t') => Err(Reason::SpaceBeforeColon),
            (State::Name, _) => Err(Reason::BadFieldName),
            (State::Value, b'\r') => Ok(State::ValueLf),
            (State::Value, b'\t') => Ok(State::Value),
            (State::Value, _) => Err(Reason::BadFieldValue),
            (State::ValueLf, b'\n') => Ok(State::NextLine),
            (State::LastLf, b'\n') => Ok(State::Complete),

            (State::AnswerVersion | State::StatusCode, _) => self.status(byte),
            (State::Phrase, b'\r') => Ok(State::RequestLineLf),
            (State::Phrase, b'\t') => Ok(State::Phrase),
            (State::Phrase, _) => Err(Reason::BadFieldValue),

            (State::EmptyLineLf | State::RequestLineLf | State::ValueLf | State::LastLf, _) => {
                Err(Reason::LoneCr)
            }
            (State::Complete, _) => unreachable!("a scanner is not used again after the end of its head"),
        }
    }

    /// RFC 9112 §2.3: `HTTP/`, a digit, a dot and a digit, and nothing after them.
    fn version(&self, byte: u8, bytes: &[u8]) -> Result<State, Reason> {
        let index = self.at - self.part;
        match (index, byte) {
            (0..5, _) if byte == b"HTTP/"[index] => Ok(State::Version),
            // A third part that does not even begin like a version belongs to a target with a space in it.
            (0, _) | (_, b' ') => Err(Reason::BadRequestLine),
            (5 | 7, b'0'..=b'9') | (6, b'.') => Ok(State::Version),
            (8, b'\r') if bytes[self.part + 5] == b'1' => Ok(State::RequestLineLf),
            (8, b'\r') if bytes[..self.at].ends_with(b"PRI * HTTP/2.0") => Err(Reason::Http2Preface),
            (8, b'\r') => Err(Reason::VersionNotSupported),
            _ => Err(Reason::BadVersion),
        }
    }

    /// RFC 9112 §4: a version, one space and three digits. The space before a phrase that is empty may be missing.
    fn status(&mut self, byte: u8) -> Result<State, Reason> {
        let index = self.at - self.part;
        match (self.state, index, byte) {
            (State::AnswerVersion, 0..7, _) if byte == b"HTTP/1."[index] => Ok(State::AnswerVersion),
            (State::AnswerVersion, 7, b'0'..=b'9') => Ok(State::AnswerVersion),
            (State::AnswerVersion, 8, b' ') => {
                self.part = self.at + 1;
                Ok(State::StatusCode)
            }
            (State::AnswerVersion, ..) => Err(Reason::BadVersion),
            (_, 0, b'1'..=b'5') | (_, 1 | 2, b'0'..=b'9') => Ok(State::StatusCode),
            (_, 3, b' ') => Ok(State::Phrase),
            (_, 3, b'\r') => Ok(State::RequestLineLf),
            _ => Err(Reason::BadRequestLine),
        }
    }
}

impl State {
    fn expects_line_feed(self) -> bool {
        matches!(self, State::EmptyLineLf | State::RequestLineLf | State::ValueLf | State::LastLf)
    }
}

/// Whether `byte` may be part of a token (RFC 9110 §5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            table[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"!#$%&'*+-.^_`|~";
        let mut index = 0;
        while index < others.len() {
            table[others[index] as usize] = true;
            index += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

fn skip_token(bytes: &[u8], from: usize) -> usize {
    let rest = &bytes[from..];
    from + rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len())
}

fn skip_value(bytes: &[u8], from: usize) -> usize {
    skip_words(bytes, from, not_value, |byte| byte >= 0x20 && byte != 0x7f)
}

/// Where the first byte at or after `from` stands that does not `pass`, eight bytes at a time: `stops` marks such bytes
/// of a little-endian word in their top bits, exactly so for the first of them.
fn skip_words(bytes: &[u8], from: usize, stops: impl Fn(u64) -> u64, pass: impl Fn(u8) -> bool) -> usize {
    let mut at = from;
    let (words, tail) = bytes[from..].as_chunks::<8>();
    for word in words {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + tail.iter().position(|byte| !pass(*byte)).unwrap_or(tail.len())
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// Marks control characters, the tab among them. Bytes above 0x7F are opaque (docs/protocol.md A10).
fn not_value(word: u64) -> u64 {
    let delete = word ^ (ONES * 0x7f);
    (word.wrapping_sub(ONES * 0x20) | delete.wrapping_sub(ONES)) & !word & TOPS
}

/// Marks everything but visible ASCII (docs/protocol.md A12).
fn not_target(word: u64) -> u64 {
    let delete = word ^ (ONES * 0x7f);
    ((word.wrapping_sub(ONES * 0x21) | delete.wrapping_sub(ONES)) & !word | word) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight at a time or one at a time: the same stop, whatever stands before, behind and at it.
    #[test]
    fn words_are_skipped_like_bytes() {
        let target: fn(u8) -> bool = |byte| matches!(byte, 0x21..=0x7e);
        let value: fn(u8) -> bool = |byte| byte >= 0x20 && byte != 0x7f;
        for (stops, pass) in [(not_target as fn(u64) -> u64, target), (not_value, value)] {
            for first in 0..=255 {
                for second in 0..=255 {
                    for at in 0..8 {
                        let mut bytes = [b'a'; 19];
                        bytes[at] = first;
                        bytes[at + 1] = second;
                        let expect = bytes.iter().position(|byte| !pass(*byte)).unwrap_or(bytes.len());
                        assert_eq!(
                            skip_words(&bytes, 0, stops, pass),
                            expect,
                            "{first:#x} {second:#x} at {at}"
                        );
                        let behind =
                            bytes[1..].iter().position(|byte| !pass(*byte)).map_or(bytes.len(), |at| at + 1);
                        assert_eq!(
                            skip_words(&bytes, 1, stops, pass),
                            behind,
                            "{first:#x} {second:#x} at {at}"
                        );
                    }
                }
            }
        }
    }
}
