//! What is spoken on a link: a *dialect* turns bytes into messages and messages into bytes, says what is sent as soon as
//! the connection stands, and when the link is open.
//!
//! Each is a file of its own with an [`Ear`] and a [`Mouth`], and a variant of [`Tongue`]. They are two because a
//! scenario may speak on a link while what was heard there is still being read.

mod answer;
mod events;
mod nats;
mod post;
mod request;
mod websocket;

use std::fmt;
use std::net::SocketAddr;

use moongate_wire::deflate::{Inflater, Progress};
use serde::{Deserialize, Serialize};

/// How many compressed messages are remembered beside what they inflate to.
const INFLATED_MAX: usize = 16;

/// A dialect.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tongue {
    /// A WebSocket (RFC 6455).
    #[default]
    WebSocket,
    /// A WebSocket that must agree on permessage-deflate (RFC 7692).
    Deflate,
    /// An event stream (WHATWG HTML §9.2), which one can only listen to.
    Events,
    /// A request whose body is a message of this format.
    Post(Format),
    /// The client protocol of NATS, which knows bytes only.
    Nats,
}

/// How a link is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    pub(crate) tongue: Tongue,
    /// What is asked for: the target of the request.
    pub(crate) target: String,
    /// What is said with it; only requests have a body.
    pub(crate) body: Vec<u8>,
}

/// Where topics are found, and what is spoken there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Manner {
    pub(crate) tongue: Tongue,
    /// What is asked for, where `{topic}` stands for the topic.
    pub(crate) path: String,
    /// Whether messages may come that are none of ours: some servers say more than they are told.
    pub(crate) lenient: bool,
}

/// What a message is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Text,
    Binary,
}

/// The next thing at the front of what came.
pub(crate) struct Step<'a> {
    /// How many bytes it took.
    pub(crate) consumed: usize,
    pub(crate) heard: Heard<'a>,
}

/// What was heard.
pub(crate) enum Heard<'a> {
    /// It is not all there: more bytes must come.
    Part,
    /// Something that is none of a scenario's business.
    Nothing,
    /// The link is open.
    Open,
    /// A message.
    Message(Format, &'a [u8]),
    /// The server says that it ends the link, and why.
    End(String),
}

/// What a server tells a listener of its place in its topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It has heard all up to here: who comes back names this place.
    At(Position),
    /// It does not hear everything, in the server's own words.
    Gap(String),
    /// Whether it heard everything since the place it named.
    Recovered(bool),
}

/// A place in a topic, behind the message of this offset.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    /// Which life of the topic.
    pub(crate) epoch: u64,
    pub(crate) offset: u64,
}

/// As events and `?since=` have it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.offset)
    }
}

impl Position {
    /// The place that `text` names, if it is one.
    fn parse(text: &[u8]) -> Option<Position> {
        let (epoch, offset) = str::from_utf8(text).ok()?.split_once('-')?;
        let (epoch, offset) = (u64::from_str_radix(epoch, 16).ok()?, offset.parse().ok()?);
        Some(Position { epoch, offset })
    }
}

/// Understands what comes.
pub(crate) trait Ear: Send {
    /// Reads the front of `bytes`, which begin where the step before ended, and appends to `reply` what must be answered
    /// to it. An error ends the link.
    fn hear<'a>(
        &'a mut self,
        bytes: &'a [u8],
        desk: &'a mut Desk,
        reply: &mut Vec<u8>,
    ) -> Result<Step<'a>, String>;

    /// What else there is to tell of what was heard, one thing at a time; asked for when all that has come was heard.
    fn tell(&mut self) -> Option<Told> {
        None
    }
}

/// Puts into bytes what is said.
pub(crate) trait Mouth: Send {
    /// Appends the first bytes, which ask for the link to be opened.
    fn ask(&mut self, out: &mut Vec<u8>);

    /// Appends a message.
    fn say(&mut self, format: Format, payload: &[u8], out: &mut Vec<u8>);

    /// Appends a goodbye. Whether the server answers it, so that the link ends only then.
    fn bid_farewell(&mut self, out: &mut Vec<u8>) -> bool;
}

impl Manner {
    /// How a link to `topic` is opened.
    pub(crate) fn opening(&self, topic: &str) -> Opening {
        Opening { tongue: self.tongue, target: self.path.replace("{topic}", topic), body: Vec::new() }
    }
}

/// Begins a link to `host`. `seed` makes its keys differ from those of others.
pub(crate) fn begin(opening: &Opening, host: SocketAddr, seed: u32) -> (Box<dyn Ear>, Box<dyn Mouth>) {
    match opening.tongue {
        Tongue::WebSocket => websocket::begin(&opening.target, host, seed, false),
        Tongue::Deflate => websocket::begin(&opening.target, host, seed, true),
        Tongue::Events => events::begin(&opening.target, host),
        Tongue::Nats => nats::begin(&opening.target),
        Tongue::Post(format) => post::begin(&opening.target, host, format, &opening.body),
    }
}

/// What the links of a thread share to read with.
#[derive(Default)]
pub(crate) struct Desk {
    inflater: Inflater,
    /// Compressed messages and what they are: a fan-out brings the same bytes to every subscriber.
    inflated: Vec<(Vec<u8>, Vec<u8>)>,
    oldest: usize,
}

impl Desk {
    /// What `compressed` inflates to by itself, if that is not more than `most` bytes.
    fn inflate(&mut self, compressed: &[u8], most: usize) -> Result<&[u8], String> {
        let known = self.inflated.iter().position(|(known, _)| known == compressed);
        let place = match known {
            Some(place) => place,
            None => self.learn(compressed, most)?,
        };
        Ok(&self.inflated[place].1)
    }

    fn learn(&mut self, compressed: &[u8], most: usize) -> Result<usize, String> {
        self.inflater.begin();
        let mut budget = usize::MAX;
        match self.inflater.go_on(compressed, most, &mut budget) {
            Ok(Progress::Whole) => {}
            Ok(Progress::Begun) => return Err("a compressed message has no end".to_owned()),
            Err(fault) => return Err(format!("a compressed message is wrong: {fault}")),
        }
        let pair = (compressed.to_vec(), self.inflater.message().to_vec());
        if self.inflated.len() < INFLATED_MAX {
            self.inflated.push(pair);
            return Ok(self.inflated.len() - 1);
        }
        let place = self.oldest;
        self.inflated[place] = pair;
        self.oldest = (place + 1) % INFLATED_MAX;
        Ok(place)
    }
}

/// What `ear` hears when `bytes` come in parts of `size`: whether it opened, and all messages.
#[cfg(test)]
fn hear_all(ear: &mut dyn Ear, bytes: &[u8], size: usize) -> Result<Vec<(Format, Vec<u8>)>, String> {
    let (mut desk, mut rest, mut messages, mut open) = (Desk::default(), Vec::new(), Vec::new(), false);
    for part in bytes.chunks(size) {
        rest.extend_from_slice(part);
        loop {
            let Step { consumed, heard } = ear.hear(&rest, &mut desk, &mut Vec::new())?;
            match heard {
                Heard::Part => break,
                Heard::Nothing => {}
                Heard::Open => assert!(!std::mem::replace(&mut open, true), "opened twice"),
                Heard::Message(format, payload) => messages.push((format, payload.to_vec())),
                Heard::End(why) => return Err(why),
            }
            rest.drain(..consumed);
        }
    }
    if open { Ok(messages) } else { Err("not open".to_owned()) }
}
