//! Bodies of requests: of a known length, or in chunks (RFC 9112 §7.1), resumable at every byte.

use crate::refusal::{Reason, Refusal};
use crate::scan::is_token_byte;

/// How many bytes of chunk extensions and trailer fields a whole body may have (docs/protocol.md A25).
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, how many bytes were taken and whether the body ended; the same for every way of cutting in two
    /// and byte by byte (A31).
    fn read(framing: Framing, max: usize, input: &[u8]) -> Result<(Vec<u8>, usize, bool), Reason> {
        let pieces = |ends: &[usize]| {
            let mut reader = BodyReader::new(framing, max);
            let (mut out, mut at, mut ended) = (Vec::new(), 0, false);
            for &end in ends {
                let (taken, done) =
                    reader.read(&input[at..end.max(at)], &mut out).map_err(|refusal| refusal.reason)?;
                at += taken;
                ended = done;
            }
            Ok((out, at, ended))
        };
        let whole = pieces(&[input.len()]);
        for cut in 0..input.len() {
            assert_eq!(pieces(&[cut, input.len()]), whole, "cut at {cut}");
        }
        assert_eq!(pieces(&(0..=input.len()).collect::<Vec<_>>()), whole, "byte by byte");
        whole
    }

    #[test]
    fn bodies_end_where_they_end() {
        let check = |framing, input: &[u8], expect: &[u8], taken| {
            assert_eq!(
                read(framing, 64, input),
                Ok((expect.to_vec(), taken, true)),
                "{}",
                input.escape_ascii()
            );
        };
        check(Framing::None, b"GET /", b"", 0);
        check(Framing::Length(0), b"GET /", b"", 0);
        check(Framing::Length(5), b"helloGET /", b"hello", 5);
        check(Framing::Length(64), &[b'x'; 70], &[b'x'; 64], 64);
        check(Framing::Chunked, b"0\r\n\r\nGET /", b"", 5);
        check(Framing::Chunked, b"5\r\nhello\r\n0\r\n\r\nGET /", b"hello", 15);
        check(Framing::Chunked, b"1\r\na\r\n02\r\n\r\n\r\n000\r\n\r\n", b"a\r\n", 21);
        check(Framing::Chunked, b"0000000000000001\r\na\r\n0\r\n\r\n", b"a", 26);
        check(Framing::Chunked, b"a;x=\"y z\";q\r\n0123456789\r\n0 \t; z\r\n\r\n", b"0123456789", 35);
        check(Framing::Chunked, b"A\r\n0123456789\r\n0\r\nX: y\r\nEmpty:\r\n\r\n!", b"0123456789", 34);
    }

    #[test]
    fn unfinished_bodies_wait() {
        let check = |framing, input: &[u8], expect: &[u8]| {
            assert_eq!(
                read(framing, 64, input),
                Ok((expect.to_vec(), input.len(), false)),
                "{}",
                input.escape_ascii()
            );
        };
        check(Framing::Length(5), b"hell", b"hell");
        check(Framing::Chunked, b"", b"");
        check(Framing::Chunked, b"5\r\nhell", b"hell");
        check(Framing::Chunked, b"5\r\nhello\r\n0\r\n\r", b"hello");
        check(Framing::Chunked, b"0\r\nX: y\r\n", b"");
    }

    #[test]
    fn defects_have_their_reasons() {
        let check = |id: &str, framing, input: &[u8], expect| {
            assert_eq!(read(framing, 64, input), Err(expect), "{id}: {}", input.escape_ascii());
        };
        let bad = |id, input: &[u8]| check(id, Framing::Chunked, input, Reason::BadChunk);
        bad("A25 no digit", b"\r\n");
        bad("A25 no digit", b"g\r\n");
        bad("A25 a sign", b"+5\r\nhello\r\n");
        bad("A25 a prefix", b"0x5\r\nhello\r\n");
        bad("A25 whitespace first", b" 5\r\nhello\r\n");
        bad("A25 whitespace and no extension", b"5 \r\nhello\r\n");
        bad("A25 LF alone", b"5\nhello\r\n");
        bad("A25 CR alone", b"5\rhello\r\n");
        bad("A25 CR in an extension", b"5;a\rb\r\nhello\r\n");
        bad("A25 LF in an extension", b"5;a\nhello\r\n");
        bad("A25 NUL in an extension", b"5;\0\r\nhello\r\n");
        bad("A25 a chunk that is longer than it says", b"4\r\nhello\r\n");
        bad("A25 a chunk that ends in LF", b"5\r\nhello\n");
        bad("A25 overflow", b"10000000000000005\r\nhello");
        bad("A25 zeros without end", b"00000000000000001\r\na");
        bad("A25 a trailer without a colon", b"0\r\nX\r\n\r\n");
        bad("A25 a trailer without a name", b"0\r\n: x\r\n\r\n");
        bad("A25 a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n");
        bad("A25 NUL in a trailer", b"0\r\nX: \0\r\n\r\n");
        bad("A25 LF in a trailer", b"0\r\nX: y\n\r\n");
        bad("A25 CR before the end", b"0\r\n\rX");
        let long = [&b"1;"[..], &[b'x'; CHUNK_EXTRA_BYTES_MAX], b"\r\na\r\n0\r\n\r\n"].concat();
        bad("A25 extensions are bounded", &long);
        let long = [&b"0\r\nX:"[..], &[b'x'; CHUNK_EXTRA_BYTES_MAX], b"\r\n\r\n"].concat();
        bad("A25 trailers are bounded", &long);
        bad(
            "A25 many small extensions are bounded",
            &b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n"
                .repeat(60),
        );

        check("too large", Framing::Length(65), b"x", Reason::BodyTooLarge);
        check("too large", Framing::Chunked, b"41\r\n", Reason::BodyTooLarge);
        check(
            "too large in all",
            Framing::Chunked,
            b"40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n1\r\n",
            Reason::BodyTooLarge,
        );
        check("far too large", Framing::Chunked, b"ffffffffffffffff\r\n", Reason::BodyTooLarge);
    }

    /// A body of many small chunks costs its framing and no more: only what carries nothing is counted.
    #[test]
    fn many_chunks_are_fine() {
        let input = [&b"0a\r\n0123456789\r\n".repeat(5000)[..], b"0\r\n\r\n"].concat();
        let mut out = Vec::new();
        let read = BodyReader::new(Framing::Chunked, 50_000).read(&input, &mut out);
        assert_eq!(read, Ok((input.len(), true)));
        assert_eq!(out, b"0123456789".repeat(5000));
    }
}
