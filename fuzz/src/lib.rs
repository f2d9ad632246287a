//! What must hold for any bytes at all, one function per target.
//!
//! A target takes the fuzzer's bytes, does with them what a peer could make the gateway do, and panics where something
//! does not hold. Beside each stands a reference: the same rules once more, written as simply as they can be, by whole
//! inputs instead of by pieces. This crate builds with any Rust; `targets` wraps each function for libFuzzer, and a test
//! replays every seed that was kept.

mod body;
mod frames;
mod head;
mod hub;
mod inflate;
mod negotiate;
mod puff;
mod reply;
mod source;
mod topic;
mod upstream;
mod v1;
mod wamp;

pub use body::body;
pub use frames::frames;
pub use head::head;
pub use hub::hub;
pub use inflate::inflate;
pub use negotiate::negotiate;
pub use topic::topic;
pub use upstream::upstream;
pub use v1::v1;
pub use wamp::wamp;

/// A target: any bytes, and a panic if something does not hold for them.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder of seeds.
pub const TARGETS: [(&str, Target); 10] = [
    ("head", head),
    ("frames", frames),
    ("negotiate", negotiate),
    ("inflate", inflate),
    ("hub", hub),
    ("body", body),
    ("topic", topic),
    ("upstream", upstream),
    ("v1", v1),
    ("wamp", wamp),
];
