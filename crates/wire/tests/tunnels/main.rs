//! Routes, and what goes through a tunnel: section H of docs/protocol.md, as far as it is a matter of bytes.

mod answers;
mod any;
mod bodies;
mod requests;
mod routes;
mod support;
