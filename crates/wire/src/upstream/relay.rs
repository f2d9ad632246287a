//! A body on its way from one connection to the other, taken out of its framing and put into one of our own.

use std::io::Write as _;

use crate::body::{BodyReader, Framing};
use crate::head::Version;
use crate::refusal::Refusal;

/// A body that is passed on. It ends on the one side exactly where it ended on the other.
#[derive(Clone, Debug)]
pub struct BodyRelay {
    from: From,
    /// Whether it goes on in chunks.
    chunked: bool,
    done: bool,
}

#[derive(Clone, Debug)]
enum From {
    /// A body that says where it ends.
    Framed(BodyReader),
    /// A body that ends with its connection.
    UntilClose,
}

impl BodyRelay {
    /// No body at all.
    pub(super) fn none() -> BodyRelay {
        BodyRelay { from: From::UntilClose, chunked: false, done: true }
    }

    /// The body of a request.
    pub(super) fn of_request(framing: Framing) -> BodyRelay {
        BodyRelay {
            from: From::Framed(BodyReader::new(framing, usize::MAX)),
            chunked: framing == Framing::Chunked,
            done: matches!(framing, Framing::None | Framing::Length(0)),
        }
    }

    /// The body of an answer to a client that speaks `version`: HTTP/1.0 knows no chunks.
    pub(super) fn of_answer(framing: Framing, version: Version) -> BodyRelay {
        match framing {
            // RFC 9112 §6.3 (8): an answer that does not say where it ends, ends with the connection.
            Framing::None => BodyRelay { from: From::UntilClose, chunked: false, done: false },
            _ => BodyRelay {
                chunked: framing == Framing::Chunked && version == Version::Http11,
                ..BodyRelay::of_request(framing)
            },
        }
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Whether all of it has passed.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the sender's FIN is a proper end here: all has passed, or the end is what ends it. If it is not, the
    /// receiver must not take what it has for the whole (RFC 9112 §8).
    pub fn may_end(&self) -> bool {
        self.done || matches!(self.from, From::UntilClose)
    }

    /// Appends what goes on for `input`. Returns how many bytes of `input` belong to the body, which is all of them until
    /// it ends, and whether it has ended.
    ///
    /// # Errors
    /// Malformed chunks. No more calls after that.
    pub fn relay(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), Refusal> {
        if self.done {
            return Ok((0, true));
        }
        let start = out.len();
        let taken = match &mut self.from {
            From::UntilClose => {
                out.extend_from_slice(input);
                input.len()
            }
            From::Framed(reader) => {
                let (taken, done) = reader.read(input, out)?;
                self.done = done;
                taken
            }
        };
        if self.chunked {
            self.chunk(start, out);
        }
        Ok((taken, self.done))
    }

    /// Makes one chunk of what stands in `out` from `start` on, and the last one behind it if this is the end.
    fn chunk(&self, start: usize, out: &mut Vec<u8>) {
        let length = out.len() - start;
        if length > 0 {
            let end = out.len();
            // Writing into a vector cannot fail.
            let _ = write!(out, "{length:x}\r\n");
            let size = out.len() - end;
            out[start..].rotate_right(size);
            out.extend_from_slice(b"\r\n");
        }
        if self.done {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}
