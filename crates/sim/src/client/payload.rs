//! What messages are filled with, behind the number that names them.

use moongate_wire::Kind;

use crate::rng::Rng;

/// Ends of lines of all kinds, what event streams give a meaning, and letters of more than one byte.
const WORDS: &[&str] = &["a", "moon", " ", "\n", "\r", "\r\n", ":", "é", "门", "data: x", "id: 1\n"];

/// Some bytes of which there are `bytes_max` at most, or a few more.
pub(super) fn padding(kind: Kind, bytes_max: usize, rng: &mut Rng) -> Vec<u8> {
    // Most messages are short; a few are as long as they may be.
    let most = if rng.chance(80) { bytes_max.min(40) } else { bytes_max };
    fill(kind, rng.between(0, most), rng)
}

/// What stands around the number that names a message which is JSON. With `arguments` it has the shape that WAMP gives to
/// more than one argument (docs/protocols/wamp.md).
pub(super) fn json(arguments: bool, bytes_max: usize, rng: &mut Rng) -> (&'static str, String) {
    let padding = String::from_utf8(padding(Kind::Json, bytes_max, rng)).expect("it is text");
    let escaped = serde_json::to_string(&padding).expect("text can be written");
    // Digits that a double would not keep.
    let rest = format!("{},1.50,9007199254740993]", &escaped[1..]);
    if !arguments {
        return ("[\"", rest);
    }
    let keywords = if rng.chance(50) { "{\"unit\":\"m\"}" } else { "{}" };
    ("{\"args\":[\"", format!("{rest},\"kwargs\":{keywords}}}"))
}

/// Like [`padding`], but long more often than not, and worth compressing: something is said over and over, now and then with
/// something new in between.
pub(super) fn repetitive(kind: Kind, bytes_max: usize, rng: &mut Rng) -> Vec<u8> {
    let most = if rng.chance(30) { bytes_max.min(400) } else { bytes_max };
    let count = rng.between(0, most);
    let unit_len = rng.pick(&[1, 20, 300, 3000]);
    let unit = fill(kind, unit_len, rng);
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() + unit.len() <= count {
        bytes.extend_from_slice(&unit);
        if rng.chance(10) && bytes.len() + 20 <= count {
            bytes.extend_from_slice(&fill(kind, 10, rng));
        }
    }
    bytes
}

fn fill(kind: Kind, count: usize, rng: &mut Rng) -> Vec<u8> {
    match kind {
        Kind::Binary => (0..count).map(|_| rng.draw() as u8).collect(),
        Kind::Text | Kind::Json => {
            let mut text = String::new();
            while text.len() < count {
                text.push_str(rng.pick(WORDS));
            }
            text.into_bytes()
        }
    }
}
