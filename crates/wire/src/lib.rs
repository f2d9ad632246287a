//! Bytes into meaning and back: heads, upgrade decisions, 101s, frames, compressed messages, event streams.
//!
//! Everything here is a pure function of bytes: no socket, no clock, no thread. The way of a request through it is
//! [`scan`] (where does the head end, and is it strict enough to look inside), [`head`] (what does it say),
//! [`decide`] (what is to be done), and then an [`answer`], a [`refusal`] or the protocol that was asked for.

pub mod accept;
pub mod answer;
pub mod body;
mod copy;
pub mod decide;
pub mod deflate;
pub mod event;
pub mod frame;
pub mod head;
pub mod json;
pub mod mask;
pub mod negotiate;
pub mod origin;
pub mod protocol;
pub mod refusal;
pub mod route;
pub mod scan;
pub mod since;
pub mod topic;
pub mod upstream;
pub mod utf8;

/// What a message is made of, in every protocol that carries it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Valid UTF-8.
    Text,
    /// One JSON value, in UTF-8.
    Json,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// What a body is that a `Content-Type` of this value comes with, parameters aside: text, unless it says otherwise.
    pub fn of_media_type(value: &[u8]) -> Kind {
        let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
        match essence {
            _ if essence.eq_ignore_ascii_case(b"application/octet-stream") => Kind::Binary,
            _ if essence.eq_ignore_ascii_case(b"application/json") => Kind::Json,
            _ => Kind::Text,
        }
    }
}
