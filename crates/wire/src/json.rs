//! The JSON that is written and read here (RFC 8259).

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::copy;

/// How deep arrays and objects of a message may lie in each other. What is said is read by many, and the readers of many
/// languages stop, or run out of stack, at a few hundred.
pub const DEPTH_MAX: usize = 128;

/// How many bytes are looked at together.
const CHUNK_BYTES: usize = 32;

/// Appends `text`, which is UTF-8, as a JSON string, quotes included (RFC 8259 §7).
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = find_escaped(rest) {
        copy::append(&rest[..at], out);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    copy::append(rest, out);
    out.push(b'"');
}

/// `text` as a JSON string, quotes included.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    string(text.as_bytes(), &mut out);
    String::from_utf8(out).expect("text stays text when bytes of ASCII are replaced by ASCII")
}

/// Whether `byte` cannot stand in a string as it is.
#[inline]
fn is_escaped(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// Where the first byte that cannot stand as it is does stand. Chunks without one, which nearly all are, take a few vector
/// instructions each.
fn find_escaped(text: &[u8]) -> Option<usize> {
    let mut start = 0;
    for chunk in text.as_chunks::<CHUNK_BYTES>().0 {
        if chunk.iter().fold(false, |found, byte| found | is_escaped(*byte)) {
            break;
        }
        start += CHUNK_BYTES;
    }
    text[start..].iter().position(|byte| is_escaped(*byte)).map(|at| start + at)
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    }
}

/// The text of `raw`, a JSON value, if it is a string that UTF-8 can spell.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let raw = raw.get();
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// Whether `bytes` are one JSON value in UTF-8, no deeper than [`DEPTH_MAX`].
pub fn is_json(bytes: &[u8]) -> bool {
    str::from_utf8(bytes)
        .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok() && is_shallow(text))
}

/// Whether no array or object in `json`, which is a JSON value, is deeper than [`DEPTH_MAX`].
pub(crate) fn is_shallow(json: &str) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            // What it escapes ends no string.
            b'\\' => drop(bytes.next()),
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_escaped() {
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            string(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect, "{text:?}");
        };
        check("", r#""""#);
        check("caf\u{e9}", "\"caf\u{e9}\"");
        check("a\"b\\c", r#""a\"b\\c""#);
        check("\0\u{8}\u{1f} \u{7f}", "\"\\u0000\\u0008\\u001f \u{7f}\"");
        check("\t\r\n", r#""\t\r\n""#);
        let long = "x".repeat(CHUNK_BYTES - 1);
        check(&format!("{long}\"{long}{long}\\"), &format!(r#""{long}\"{long}{long}\\""#));
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        let check = |text: &str, expect: bool| assert_eq!(is_json(text.as_bytes()), expect, "{text:.40}");
        for text in ["null", " [1, -2.5e3, \"\\u00e9\"]\n", "{\"a\":{}}", "\"[[[\\\"\\\\\"", "0"] {
            check(text, true);
        }
        for text in ["", "nul", "[1,]", "{a:1}", "1 2", "'a'", "\"a", "01", "\"\n\"", "NaN", "\u{feff}1"] {
            check(text, false);
        }
        check(&format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)), true);
        check(&format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1)), false);
        check(&format!("[{}]", vec!["{}"; 1000].join(",")), true);
        check(&format!("\"{}\"", "[".repeat(1000)), true);
        assert!(!is_json(b"\"\xff\""));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,40}[\\x00-\\x7f]{0,80}\\PC{0,10}") {
            let mut out = Vec::new();
            string(text.as_bytes(), &mut out);
            prop_assert!(is_json(&out));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), text);
        }
    }
}
