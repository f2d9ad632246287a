//! The few lines of JSON that answers need.

use std::fmt::Write;

/// Appends `text` as a JSON string, quotes included (RFC 8259 §7).
pub(crate) fn string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{0}'..='\u{1f}' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let check = |text, expect: &str| {
            let mut out = String::new();
            string(text, &mut out);
            assert_eq!(out, expect, "{text:?}");
        };
        check("", "\"\"");
        check("caf\u{e9}", "\"caf\u{e9}\"");
        check("a\"b\\c", "\"a\\\"b\\\\c\"");
        check("\0\n\u{1f} \u{7f}", "\"\\u0000\\u000a\\u001f \u{7f}\"");
    }
}
