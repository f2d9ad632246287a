//! Compressed messages: permessage-deflate (RFC 7692), without context.
//!
//! Every agreement says that neither side carries its window from one message to the next. So a message is compressed
//! once for everybody who agreed, whoever they are and whatever they heard before (G14), and no connection
//! owns a compressor, an inflater or a window: each shard has one [`Deflater`] and one [`Inflater`] for all of them.

mod deflater;
mod inflater;
mod offer;

pub use deflater::{Deflater, window_needed};
pub use inflater::{Inflater, Progress, compressed_bytes_max};
pub(crate) use offer::Offer;

/// What a message's last bytes are before they are cut off, and what they are put back as (RFC 7692 §7.2.1): the rest of
/// the empty stored block that a sync flush ends with.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The smallest window a server may be held to here, in bits. RFC 7692 allows 8, which no zlib can compress to without a
/// zlib header: such an offer is declined (docs/protocol.md G2).
pub const WINDOW_BITS_MIN: u8 = 9;

/// The largest window there is, in bits: 32 KiB.
pub const WINDOW_BITS_MAX: u8 = 15;

/// An agreement to compress.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// How far back what the server compresses may refer, in bits: 9 to 15.
    pub window_bits: u8,
    /// Whether the client asked for that, so that it must be told (RFC 7692 §7.1.2.1).
    is_named: bool,
}

impl Agreed {
    /// The value of `Sec-WebSocket-Extensions` that says so. A server may demand that the client keeps no context even
    /// if that was not offered (RFC 7692 §7.1.1.2), and may keep none itself (§7.1.1.1). The client's own window is left
    /// to it, since any window can be inflated (docs/protocol.md G3, G5).
    pub fn answer(&self) -> &'static str {
        macro_rules! answer {
            ($more:literal) => {
                concat!("permessage-deflate; server_no_context_takeover; client_no_context_takeover", $more)
            };
        }
        match (self.is_named, self.window_bits) {
            (false, _) => answer!(""),
            (true, 9) => answer!("; server_max_window_bits=9"),
            (true, 10) => answer!("; server_max_window_bits=10"),
            (true, 11) => answer!("; server_max_window_bits=11"),
            (true, 12) => answer!("; server_max_window_bits=12"),
            (true, 13) => answer!("; server_max_window_bits=13"),
            (true, 14) => answer!("; server_max_window_bits=14"),
            (true, _) => answer!("; server_max_window_bits=15"),
        }
    }
}
