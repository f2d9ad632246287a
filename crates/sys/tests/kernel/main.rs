//! The driver against the real kernel, with clients of the standard library over the loopback.

mod common;
mod echo;
