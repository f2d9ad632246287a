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

/// How many times as long as its payload a message can be in the longest of its forms. A line end takes a whole line of an
/// event stream, `data: ` and its own end; a control character takes six bytes of JSON.
pub const ENCODED_TIMES_MAX: usize = 7;

/// What comes on top of that, in bytes, and more than any form needs for a topic, a place and a frame's header.
pub const ENCODED_EXTRA_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{v1, wamp};

    #[test]
    fn no_form_of_a_message_is_longer_than_is_said() {
        const LEN: usize = 10_000;
        let topic = "\"".repeat(255);
        let place = (u64::MAX, u64::MAX);
        let mut longest = 0;
        for byte in [b'\n', b'\r', 1, b'"', b'\\', b'a', 0] {
            let payload = vec![byte; LEN];
            for kind in [Kind::Text, Kind::Binary] {
                let mut forms = [const { Vec::new() }; 3];
                event::encode(place.0, place.1, kind, &payload, &mut forms[0]);
                let framed = |out: &mut Vec<u8>, write: &dyn Fn(&mut Vec<u8>)| {
                    frame::encode_with(frame::Opcode::Text, out, write);
                };
                framed(&mut forms[1], &|out| v1::message(&topic, place.0, place.1, kind, &payload, out));
                framed(&mut forms[2], &|out| wamp::event(&topic, place.0, place.1, kind, &payload, out));
                longest = forms.iter().map(Vec::len).fold(longest, usize::max);
            }
        }
        let least = LEN * ENCODED_TIMES_MAX;
        assert!((least..=least + ENCODED_EXTRA_BYTES_MAX).contains(&longest), "{longest}");

        // Short ones are mostly what comes on top.
        let mut short = Vec::new();
        v1::message(&topic, place.0, place.1, Kind::Text, b"\x01", &mut short);
        assert!(short.len() <= ENCODED_TIMES_MAX + ENCODED_EXTRA_BYTES_MAX, "{}", short.len());
    }
}
