//! A hand on the wire to one subscriber that does what a broken hub would do: it shows that the oracle notices.

/// What is done to messages.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// One is lost.
    Lose,
    /// One comes twice.
    Double,
    /// Two are swapped.
    Swap,
}

/// Does one deed to one message in a stream of a server's frames.
#[derive(Clone, Debug)]
pub struct Tamper {
    deed: Deed,
    /// How many messages pass before it.
    after: usize,
    received: Vec<u8>,
    held: Option<Vec<u8>>,
}

impl Tamper {
    /// Does `deed` to the message that comes after so many others.
    pub fn new(deed: Deed, after: usize) -> Tamper {
        Tamper { deed, after, received: Vec::new(), held: None }
    }

    /// What arrives of these bytes: whole frames only.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.received.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(length) = frame_len(&self.received) {
            let rest = self.received.split_off(length);
            let frame = std::mem::replace(&mut self.received, rest);
            self.pass_frame(frame, &mut out);
        }
        out
    }

    fn pass_frame(&mut self, frame: Vec<u8>, out: &mut Vec<u8>) {
        let is_message = matches!(frame[0] & 0x0f, 1 | 2);
        let chosen = is_message && self.after == 0 && self.held.is_none();
        self.after = self.after.wrapping_sub(usize::from(is_message));
        match self.deed {
            Deed::Lose if chosen => {}
            Deed::Double if chosen => {
                out.extend_from_slice(&frame);
                out.extend_from_slice(&frame);
            }
            Deed::Swap if chosen => self.held = Some(frame),
            _ => {
                out.extend_from_slice(&frame);
                if is_message && let Some(held) = self.held.take() {
                    out.extend_from_slice(&held);
                }
            }
        }
    }
}

/// The length of the first frame in `bytes`, once all of it is there (RFC 6455 §5.2; a server's are not masked).
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        127 => 10 + u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize,
        length => 2 + usize::from(*length),
    };
    (bytes.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deed: Deed, expect: &[u8]) {
        // Three messages of one byte with a ping between them, cut everywhere.
        let stream = [0x81, 1, b'a', 0x89, 0, 0x81, 1, b'b', 0x82, 1, b'c', 0x81, 1, b'd'];
        let mut tamper = Tamper::new(deed, 1);
        let passed: Vec<u8> = stream.iter().flat_map(|byte| tamper.pass(&[*byte])).collect();
        let letters: Vec<u8> = passed.into_iter().filter(u8::is_ascii_lowercase).collect();
        assert_eq!(letters, expect, "{deed:?}");
    }

    #[test]
    fn one_deed_is_done_once() {
        check(Deed::Lose, b"acd");
        check(Deed::Double, b"abbcd");
        check(Deed::Swap, b"acbd");
    }
}
