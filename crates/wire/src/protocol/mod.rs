//! Client protocols that run inside a WebSocket, chosen by `Sec-WebSocket-Protocol`: what their messages say and how they
//! are written. One file each; who keeps the conversation is not known here.

pub mod v1;
pub mod wamp;
