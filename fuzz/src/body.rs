//! Bodies of requests, whole and in pieces, against a reader that has all of it before it.

use moongate_wire::body::{BodyReader, CHUNK_EXTRA_BYTES_MAX, Framing};
use moongate_wire::refusal::Reason;

use crate::source::Source;

/// What was read: the body so far, the bytes that belong to it and its framing, whether it has ended.
type Read = Result<(Vec<u8>, usize, bool), Reason>;

/// Any body, in any framing.
pub fn body(data: &[u8]) {
    let mut source = Source::new(data);
    let bytes_max = source.pick(&[64, 0, 1, 1000, 100_000]);
    let framing = match source.below(4) {
        0 => Framing::None,
        1 => Framing::Length([0, 1, 64, 65, 1000, u64::MAX][source.below(6)]),
        _ => Framing::Chunked,
    };
    let cuts = source.cuts();
    let input = source.rest();
    let whole = read(framing, bytes_max, input, [input.len()]);
    assert_eq!(whole, read(framing, bytes_max, input, cuts.ends(input.len())), "in pieces");
    assert_eq!(whole, read(framing, bytes_max, input, 1..=input.len()), "byte by byte");
    assert_eq!(whole, reference(framing, bytes_max, input), "as RFC 9112 tells it");
}

fn read(framing: Framing, bytes_max: usize, input: &[u8], ends: impl IntoIterator<Item = usize>) -> Read {
    let mut reader = BodyReader::new(framing, bytes_max);
    let (mut out, mut at, mut ended) = (Vec::new(), 0, matches!(framing, Framing::None | Framing::Length(0)));
    for end in ends {
        if ended {
            break;
        }
        let (taken, done) = reader.read(&input[at..end], &mut out).map_err(|refusal| refusal.reason)?;
        at += taken;
        assert!(done || at == end, "all of it is taken until the body ends");
        assert!(out.len() <= bytes_max);
        ended = done;
    }
    Ok((out, at, ended))
}

fn reference(framing: Framing, bytes_max: usize, input: &[u8]) -> Read {
    let length = match framing {
        Framing::None => 0,
        Framing::Length(length) => length,
        Framing::Chunked => {
            let mut chunks = Chunks { input, at: 0, body: Vec::new(), bytes_max, extra: 0 };
            let ended = chunks.read()?.is_some();
            return Ok((chunks.body, chunks.at, ended));
        }
    };
    if length > bytes_max as u64 && !input.is_empty() {
        return Err(Reason::BodyTooLarge);
    }
    let taken = input.len().min(length as usize);
    Ok((input[..taken].to_vec(), taken, taken as u64 == length))
}

/// RFC 9112 §7.1, as a parser that has a cursor and may run out of input, which is `None`.
struct Chunks<'a> {
    input: &'a [u8],
    at: usize,
    body: Vec<u8>,
    bytes_max: usize,
    extra: usize,
}

/// What must be there now is not.
macro_rules! some {
    ($next:expr) => {
        match $next {
            Some(byte) => byte,
            None => return Ok(None),
        }
    };
}

impl Chunks<'_> {
    fn read(&mut self) -> Result<Option<()>, Reason> {
        loop {
            let size = some!(self.size()?);
            if size == 0 {
                return self.trailers();
            }
            // A chunk is refused for its size as soon as that is known.
            if size > (self.bytes_max - self.body.len()) as u128 {
                return Err(Reason::BodyTooLarge);
            }
            for _ in 0..size {
                let byte = some!(self.next());
                self.body.push(byte);
            }
            some!(self.line_end()?);
        }
    }

    fn size(&mut self) -> Result<Option<u128>, Reason> {
        let mut digits = String::new();
        let mut byte = some!(self.next());
        while byte.is_ascii_hexdigit() && digits.len() < 16 {
            digits.push(char::from(byte));
            byte = some!(self.next());
        }
        let size = u128::from_str_radix(&digits, 16).map_err(|_| Reason::BadChunk)?;
        let mut has_space = false;
        while matches!(byte, b' ' | b'\t') {
            has_space = true;
            self.count()?;
            byte = some!(self.next());
        }
        let mut has_extension = false;
        if byte == b';' {
            has_extension = true;
            while byte != b'\r' {
                self.text(byte)?;
                byte = some!(self.next());
            }
        }
        if byte != b'\r' || (has_space && !has_extension) {
            return Err(Reason::BadChunk);
        }
        some!(self.line_feed()?);
        Ok(Some(size))
    }

    fn trailers(&mut self) -> Result<Option<()>, Reason> {
        loop {
            let mut byte = some!(self.next());
            if byte == b'\r' {
                return self.line_feed();
            }
            let mut name = 0;
            while byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte) {
                name += 1;
                self.count()?;
                byte = some!(self.next());
            }
            if byte != b':' || name == 0 {
                return Err(Reason::BadChunk);
            }
            while byte != b'\r' {
                self.text(byte)?;
                byte = some!(self.next());
            }
            some!(self.line_feed()?);
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.input.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// One more byte that carries nothing.
    fn count(&mut self) -> Result<(), Reason> {
        self.extra += 1;
        if self.extra > CHUNK_EXTRA_BYTES_MAX { Err(Reason::BadChunk) } else { Ok(()) }
    }

    fn text(&mut self, byte: u8) -> Result<(), Reason> {
        if byte != b'\t' && (byte < b' ' || byte == 0x7f) {
            return Err(Reason::BadChunk);
        }
        self.count()
    }

    fn line_feed(&mut self) -> Result<Option<()>, Reason> {
        if some!(self.next()) == b'\n' { Ok(Some(())) } else { Err(Reason::BadChunk) }
    }

    fn line_end(&mut self) -> Result<Option<()>, Reason> {
        if some!(self.next()) == b'\r' { self.line_feed() } else { Err(Reason::BadChunk) }
    }
}
