//! The forms in which subscribers get messages: WebSocket frames and events of an event stream.

use moongate_hub::{Encode, Form, Kind, Message};
use moongate_wire::{event, frame};

/// One unmasked WebSocket frame per message.
pub const FRAMES: Form = Form(0);
/// One event of an event stream per message.
pub const EVENTS: Form = Form(1);

/// Writes both forms.
#[derive(Copy, Clone, Debug, Default)]
pub struct Forms;

impl Encode for Forms {
    fn encode(&self, form: Form, message: &Message<'_>, out: &mut Vec<u8>) {
        let Message { epoch, offset, kind, payload } = *message;
        match form {
            FRAMES => frame::encode(opcode(kind), payload, out),
            EVENTS => event::encode(epoch, offset, wire_kind(kind), payload, out),
            Form(other) => unreachable!("nobody subscribes in form {other}"),
        }
    }
}

pub(crate) fn opcode(kind: Kind) -> frame::Opcode {
    match kind {
        Kind::Text => frame::Opcode::Text,
        Kind::Binary => frame::Opcode::Binary,
    }
}

fn wire_kind(kind: Kind) -> moongate_wire::Kind {
    match kind {
        Kind::Text => moongate_wire::Kind::Text,
        Kind::Binary => moongate_wire::Kind::Binary,
    }
}

pub(crate) fn hub_kind(kind: moongate_wire::Kind) -> Kind {
    match kind {
        moongate_wire::Kind::Text => Kind::Text,
        moongate_wire::Kind::Binary => Kind::Binary,
    }
}
