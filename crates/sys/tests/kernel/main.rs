//! The driver against the real kernel, with clients of the standard library over the loopback.

mod bell;
mod common;
mod connecting;
mod echo;
mod ending;
mod listeners;
mod pausing;
mod probing;
mod sending;
mod table;
