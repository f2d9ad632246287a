//! Compressing.

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

use super::{TAIL, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// How hard is tried, of 1 to 9: see `docs/decisions/0003-deflate.md` for what was measured.
const LEVEL: i32 = 2;

/// How many windows there are.
const WINDOWS: usize = (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize;

/// Compresses messages, each by itself. It starts without memory; the first message for a window makes the compressor
/// for it, at most about 330 KiB, which serves all that follow.
#[derive(Default)]
pub struct Deflater {
    windows: [Option<Box<Deflate>>; WINDOWS],
}

/// The window, in bits, that a message of `len` bytes compressed for `window_bits` asks of its receiver. Nothing in a
/// message lies further back than its start, so one compressed for this window is the same for every larger one.
pub fn window_needed(len: usize, window_bits: u8) -> u8 {
    let whole = len.next_power_of_two().trailing_zeros();
    u8::try_from(whole).unwrap_or(u8::MAX).clamp(WINDOW_BITS_MIN, window_bits.max(WINDOW_BITS_MIN))
}

impl Deflater {
    /// Appends `payload` compressed to `out`, such that no distance exceeds the window of `window_bits` (G2).
    /// False, with nothing appended, if that would not be smaller than `payload` itself.
    ///
    /// # Panics
    ///
    /// If `window_bits` is not 9 to 15.
    pub fn deflate(&mut self, payload: &[u8], window_bits: u8, out: &mut Vec<u8>) -> bool {
        assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits), "an agreed window");
        // What fits its window whole cannot reach beyond it: one compressor does for all of those.
        let fits = payload.len() <= 1 << window_bits;
        let bits = if fits { WINDOW_BITS_MAX } else { window_bits };
        let stream = self.windows[usize::from(bits - WINDOW_BITS_MIN)].get_or_insert_with(|| {
            let window_bits = -i32::from(bits);
            Box::new(Deflate::new_with_config(DeflateConfig { window_bits, ..DeflateConfig::new(LEVEL) }))
        });
        stream.reset();
        let start = out.len();
        // Room for anything smaller than the payload; the tail is cut off again.
        out.resize(start + payload.len() + TAIL.len(), 0);
        let done = stream.compress(payload, &mut out[start..], DeflateFlush::SyncFlush);
        let written = stream.total_out() as usize;
        let whole = matches!(done, Ok(Status::Ok)) && written < payload.len() + TAIL.len();
        // A flush ends with the tail (RFC 7692 §7.2.1); what is full to the last byte may not have come to its end.
        if !whole || stream.total_in() as usize != payload.len() || !out[..start + written].ends_with(&TAIL) {
            out.truncate(start);
            return false;
        }
        out.truncate(start + written - TAIL.len());
        true
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}
