//! What clients send: from masked bytes, cut anywhere, to messages and control frames.
//!
//! The common case costs nothing: a frame that is a whole message and lies whole in the input is unmasked there and
//! handed on as a slice of it. Everything else goes through a [`Partial`], which exists only while a message or a frame
//! is incomplete, and grows by the bytes that arrived, never by the length that was announced.

use std::borrow::Cow;
use std::ops::Range;

use super::close::Close;
use super::code;
use super::header::{Fault, HEADER_BYTES_MAX, Header, Opcode, Sender};
use crate::utf8::{Utf8, is_utf8};
use crate::{Kind, deflate, mask};

/// How much a message may be. A message past either limit ends with 1009, before anything of the frame that goes past
/// it is kept.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of payload in one message, all fragments together.
    pub message_bytes_max: usize,
    /// What each fragment after the first counts for, in bytes, on an account of its own with the same maximum: so that
    /// fragments, however small, come to an end, and a message of the full size may still come in several. At least 1.
    pub fragment_overhead: usize,
    /// Whether messages may come compressed, because permessage-deflate was agreed on. Then `message_bytes_max` is for
    /// what they inflate to, and [`deflate::compressed_bytes_max`] of it for themselves.
    pub deflate: bool,
}

/// What one step came to.
#[derive(PartialEq, Eq, Debug)]
pub struct Step<'a> {
    /// How many bytes of the input it took: all of them, if there is no item.
    pub consumed: usize,
    /// What was complete.
    pub item: Option<Item<'a>>,
}

/// A complete message or control frame: borrowed from the input where it lay whole in it, else owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A message of valid UTF-8.
    Text(Cow<'a, [u8]>),
    /// A message of bytes.
    Binary(Cow<'a, [u8]>),
    /// A message that is still to be inflated, and then, if it is text, to be checked (RFC 7692 §6.2, F4).
    Compressed(Kind, Cow<'a, [u8]>),
    /// To be answered with a pong of the same payload, at most 125 bytes.
    Ping(Cow<'a, [u8]>),
    /// To be ignored, but for showing that the peer lives (RFC 6455 §5.5.3).
    Pong,
    /// The last frame of the peer: whatever follows is not to be looked at (RFC 6455 §5.5.1).
    Close(Close<'a>),
}

/// Reads the frames of one client.
#[derive(Default, Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

/// What is remembered between inputs of a message, a frame or a header that is not complete.
#[derive(Default, Debug)]
struct Partial {
    message: Option<Message>,
    reading: Reading,
}

/// Where in a frame the input ended.
#[derive(Debug)]
enum Reading {
    /// Before a header, or inside: its first `len` bytes.
    Header { bytes: [u8; HEADER_BYTES_MAX], len: usize },
    /// In a payload, of which `taken` bytes have been unmasked and kept: in the message if it is data, else here.
    Payload { header: Header, taken: usize, control: Vec<u8> },
}

/// A data message whose end has not come.
#[derive(Debug)]
struct Message {
    /// What has arrived of its payload, unmasked.
    bytes: Vec<u8>,
    content: Content,
    /// What all its frames so far announced, which is at least what has arrived.
    announced: usize,
    /// What its fragments count for.
    overhead: usize,
}

#[derive(Debug)]
enum Content {
    /// What has arrived is text so far.
    Text(Utf8),
    Binary,
    Compressed(Kind),
}

/// A frame, and with it a message or a control frame, is complete.
enum Done {
    /// In this part of the input, unmasked and, if it is text, found to be text.
    InPlace(Whole, Range<usize>),
    Collected(Whole, Vec<u8>),
}

/// What is complete.
#[derive(Copy, Clone)]
enum Whole {
    /// A control frame, or a message that is as its sender meant it.
    Plain(Opcode),
    Compressed(Kind),
}

impl Decoder {
    /// Reads on in `input`, which it unmasks in place, until one item is complete or all is consumed. The caller goes on
    /// with the bytes after the first `consumed`, which are as they came, until a step brings no item.
    ///
    /// After a fault, and after [`Item::Close`], nothing is held and there must be no further step (RFC 6455 §7.1.7).
    #[inline]
    pub fn step<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Step<'a>, Fault> {
        // Most frames take this way, which is short: nothing is incomplete, and nothing will be.
        if self.partial.is_none()
            && let Some((whole, payload)) = whole_frame(input, limits)?
        {
            let item = Item::new(whole, Cow::Borrowed(&input[payload.clone()]))?;
            return Ok(Step { consumed: payload.end, item: Some(item) });
        }
        let step = self.read_item(input, limits);
        if matches!(step, Err(_) | Ok(Step { item: Some(Item::Close(_)), .. })) {
            // What is incomplete, such as a message that the Close came in the middle of (E9), will not be completed.
            self.partial = None;
        }
        step
    }

    /// Bytes of memory held for what is incomplete.
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.held())
    }

    /// Whether nothing is incomplete: no message, no frame, no header.
    pub fn between_messages(&self) -> bool {
        self.partial.is_none()
    }

    #[inline]
    fn read_item<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Step<'a>, Fault> {
        let (consumed, done) = self.advance(input, limits)?;
        let item = match done {
            Some(Done::InPlace(whole, payload)) => Some(Item::new(whole, Cow::Borrowed(&input[payload]))?),
            Some(Done::Collected(whole, payload)) => Some(Item::new(whole, Cow::Owned(payload))?),
            None => None,
        };
        Ok(Step { consumed, item })
    }

    /// How many bytes were consumed, and what they completed.
    fn advance(&mut self, input: &mut [u8], limits: &Limits) -> Result<(usize, Option<Done>), Fault> {
        let mut at = 0;
        while at < input.len() {
            let (taken, done) = match self.partial.as_deref_mut() {
                Some(partial) if partial.in_payload() => partial.take_payload(&mut input[at..])?,
                _ => self.begin_frame(input, at, limits)?,
            };
            at += taken;
            if done.is_some() {
                self.partial.take_if(|partial| partial.is_empty());
                return Ok((at, done));
            }
        }
        Ok((at, None))
    }

    /// Reads a header, and if its frame is simple and whole also its payload, from `input[at..]`.
    #[inline]
    fn begin_frame(
        &mut self,
        input: &mut [u8],
        at: usize,
        limits: &Limits,
    ) -> Result<(usize, Option<Done>), Fault> {
        let Some((header, used)) = self.read_header(&input[at..], limits.deflate)? else {
            return Ok((input.len() - at, None));
        };
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let len = admit(&header, message, limits)?;
        let whole = is_simple(&header);
        let start = at + used;
        if whole && input.len() - start >= len {
            let whole = unmask_whole(&header, &mut input[start..start + len])?;
            return Ok((used + len, Some(Done::InPlace(whole, start..start + len))));
        }
        let partial = self.partial.get_or_insert_default();
        partial.begin_payload(header, len, limits);
        let (taken, done) = partial.take_payload(&mut input[start..])?;
        Ok((used + taken, done))
    }

    /// The header that `input` starts with, or ends, and how many bytes of `input` are part of it. `None`: all of
    /// `input` is, and was remembered.
    #[inline]
    fn read_header(&mut self, input: &[u8], may_compress: bool) -> Result<Option<(Header, usize)>, Fault> {
        let begun = match self.partial.as_deref_mut() {
            Some(Partial { reading: Reading::Header { bytes, len }, .. }) if *len > 0 => Some((bytes, len)),
            _ => None,
        };
        let Some((bytes, len)) = begun else {
            let Some(header) = Header::parse(input, Sender::Client, may_compress)? else {
                let mut bytes = [0; HEADER_BYTES_MAX];
                bytes[..input.len()].copy_from_slice(input);
                self.partial.get_or_insert_default().reading = Reading::Header { bytes, len: input.len() };
                return Ok(None);
            };
            return Ok(Some((header, header.size)));
        };
        let before = *len;
        let more = input.len().min(HEADER_BYTES_MAX - before);
        bytes[before..before + more].copy_from_slice(&input[..more]);
        let Some(header) = Header::parse(&bytes[..before + more], Sender::Client, may_compress)? else {
            *len += more;
            return Ok(None);
        };
        *len = 0;
        Ok(Some((header, header.size - before)))
    }
}

/// The frame that `input` starts with, if it is simple and lies whole in it: what it is, and where its payload lies,
/// unmasked. What else there is to a frame is for [`Decoder::read_item`]. Nothing must be incomplete.
#[inline]
fn whole_frame(input: &mut [u8], limits: &Limits) -> Result<Option<(Whole, Range<usize>)>, Fault> {
    let Some(header) = Header::parse(input, Sender::Client, limits.deflate)? else {
        return Ok(None);
    };
    let len = admit(&header, None, limits)?;
    if !is_simple(&header) || input.len() - header.size < len {
        return Ok(None);
    }
    let payload = header.size..header.size + len;
    let whole = unmask_whole(&header, &mut input[payload.clone()])?;
    Ok(Some((whole, payload)))
}

/// Whether a frame is a control frame or a whole message.
#[inline]
fn is_simple(header: &Header) -> bool {
    header.opcode.is_control() || (header.fin && header.opcode != Opcode::Continuation)
}

/// Unmasks the whole payload of a simple frame.
#[inline]
fn unmask_whole(header: &Header, payload: &mut [u8]) -> Result<Whole, Fault> {
    mask::apply(payload, header.key, 0);
    let whole = Whole::of(header);
    if matches!(whole, Whole::Plain(Opcode::Text)) && !is_utf8(payload) {
        return Err(Fault::NOT_UTF8);
    }
    Ok(whole)
}

impl<'a> Item<'a> {
    #[inline]
    fn new(whole: Whole, payload: Cow<'a, [u8]>) -> Result<Item<'a>, Fault> {
        let opcode = match whole {
            Whole::Plain(opcode) => opcode,
            Whole::Compressed(kind) => return Ok(Item::Compressed(kind, payload)),
        };
        Ok(match opcode {
            Opcode::Text => Item::Text(payload),
            Opcode::Binary => Item::Binary(payload),
            Opcode::Ping => Item::Ping(payload),
            Opcode::Pong => Item::Pong,
            Opcode::Close => Item::Close(Close::parse(payload)?),
            Opcode::Continuation => unreachable!("a message has the opcode of its first frame"),
        })
    }
}

impl Whole {
    /// What the first frame of a message, or a control frame, begins.
    fn of(header: &Header) -> Whole {
        match header.opcode {
            Opcode::Text if header.compressed => Whole::Compressed(Kind::Text),
            Opcode::Binary if header.compressed => Whole::Compressed(Kind::Binary),
            opcode => Whole::Plain(opcode),
        }
    }
}

/// The length of the payload, if the frame may come now and its message does not become too big by it. Nothing is
/// added or allocated before it is known to be within the limits.
#[inline]
fn admit(header: &Header, message: Option<&Message>, limits: &Limits) -> Result<usize, Fault> {
    const TOO_BIG: Fault =
        Fault { code: code::TOO_BIG, reason: "message too big: the limit is MOONGATE_MESSAGE_BYTES_MAX" };
    let (announced, overhead, compressed) = match (header.opcode, message) {
        (Opcode::Continuation, Some(message)) => (
            message.announced,
            message.overhead.saturating_add(limits.fragment_overhead),
            matches!(message.content, Content::Compressed(_)),
        ),
        (Opcode::Continuation, None) => return Err(Fault::protocol("continuation of no message")),
        (Opcode::Text | Opcode::Binary, None) => (0, 0, header.compressed),
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Fault::protocol("message inside a message")),
        // At most 125 bytes, which the header's own rules saw to.
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(header.len as usize),
    };
    if overhead > limits.message_bytes_max {
        return Err(Fault { reason: "message in too many fragments", ..TOO_BIG });
    }
    let bytes_max = match compressed {
        true => deflate::compressed_bytes_max(limits.message_bytes_max),
        false => limits.message_bytes_max,
    };
    let room = bytes_max.saturating_sub(announced);
    usize::try_from(header.len).ok().filter(|len| *len <= room).ok_or(TOO_BIG)
}

impl Partial {
    fn in_payload(&self) -> bool {
        matches!(self.reading, Reading::Payload { .. })
    }

    fn is_empty(&self) -> bool {
        self.message.is_none() && matches!(self.reading, Reading::Header { len: 0, .. })
    }

    fn held(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        let control = match &self.reading {
            Reading::Payload { control, .. } => control.capacity(),
            Reading::Header { .. } => 0,
        };
        size_of::<Partial>() + message + control
    }

    /// The header of an admitted frame, with a payload of `len` bytes, is complete.
    fn begin_payload(&mut self, header: Header, len: usize, limits: &Limits) {
        self.reading = Reading::Payload { header, taken: 0, control: Vec::new() };
        match (header.opcode, &mut self.message) {
            (Opcode::Continuation, Some(message)) => {
                message.announced += len;
                message.overhead += limits.fragment_overhead;
            }
            (Opcode::Text | Opcode::Binary, message) => {
                let content = match Whole::of(&header) {
                    Whole::Compressed(kind) => Content::Compressed(kind),
                    Whole::Plain(Opcode::Text) => Content::Text(Utf8::default()),
                    Whole::Plain(_) => Content::Binary,
                };
                *message = Some(Message { bytes: Vec::new(), content, announced: len, overhead: 0 });
            }
            (Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
        }
    }

    /// Takes what `input` has of the payload that is being read.
    fn take_payload(&mut self, input: &mut [u8]) -> Result<(usize, Option<Done>), Fault> {
        let Reading::Payload { header, taken, control } = &mut self.reading else {
            return Ok((0, None));
        };
        // Admitted, so it is a number of bytes that fits in memory.
        let len = header.len as usize;
        let count = input.len().min(len - *taken);
        let part = &mut input[..count];
        mask::apply(part, header.key, *taken);
        *taken += count;
        let whole = *taken == len;
        let (opcode, fin) = (header.opcode, header.fin);
        let mut done = None;
        if opcode.is_control() {
            control.extend_from_slice(part);
            done = whole.then(|| Done::Collected(Whole::Plain(opcode), std::mem::take(control)));
        } else if let Some(message) = &mut self.message {
            message.append(part)?;
            if whole && fin {
                done = self.message.take().map(Message::finish).transpose()?;
            }
        }
        if whole {
            self.reading = Reading::default();
        }
        Ok((count, done))
    }
}

impl Default for Reading {
    fn default() -> Reading {
        Reading::Header { bytes: [0; HEADER_BYTES_MAX], len: 0 }
    }
}

impl Message {
    /// Takes unmasked bytes, and refuses text at its first impossible byte (F2).
    fn append(&mut self, part: &[u8]) -> Result<(), Fault> {
        if let Content::Text(utf8) = &mut self.content {
            utf8.push(part).map_err(|_| Fault::NOT_UTF8)?;
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    fn finish(self) -> Result<Done, Fault> {
        let whole = match self.content {
            Content::Text(utf8) if !utf8.is_complete() => return Err(Fault::NOT_UTF8),
            Content::Text(_) => Whole::Plain(Opcode::Text),
            Content::Binary => Whole::Plain(Opcode::Binary),
            Content::Compressed(kind) => Whole::Compressed(kind),
        };
        Ok(Done::Collected(whole, self.bytes))
    }
}
