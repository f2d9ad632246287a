//! WebSocket frames (RFC 6455 §5): the [`Decoder`] of what clients send, the encoder of what they get, close codes,
//! and both directions as a client sees them, for tests and load.

mod client;
mod close;
mod decoder;
mod encode;
mod header;

pub use client::{ServerFrame, ServerFrames, encode_masked, encode_masked_compressed};
pub use close::{Close, code, encode_close, reply_to_close};
pub use decoder::{Decoder, Item, Limits, Step};
pub use encode::{encode, encode_compressed, encode_header, encode_with};
pub use header::{CONTROL_BYTES_MAX, Fault, Opcode};
