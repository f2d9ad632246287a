//! UTF-8 that arrives in parts.

use std::fmt;
use std::str;

/// Validates text that arrives in parts, which may end inside a character. It fails at the first byte that no valid
/// text can have there (RFC 3629 §4: overlong forms, surrogates and what is past U+10FFFF are no text), not later.
#[derive(Copy, Clone, Default, Debug)]
pub struct Utf8 {
    /// The character that the last part ended in: the first `len` bytes.
    begun: [u8; 3],
    len: u8,
}

/// The bytes are not UTF-8.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct NotUtf8;

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not UTF-8")
    }
}

impl std::error::Error for NotUtf8 {}

/// Whether `bytes` are UTF-8 from end to end. Texts of 64 bytes and more are checked by vector instructions, which takes a
/// tenth of the standard library's time where they are not ASCII.
#[inline]
pub fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}

impl Utf8 {
    /// Takes the next part.
    pub fn push(&mut self, part: &[u8]) -> Result<(), NotUtf8> {
        let rest = self.finish_character(part)?;
        let Err(error) = simdutf8::compat::from_utf8(rest) else {
            return Ok(());
        };
        // A length says that the bytes are wrong whatever follows; none says that they are the start of a character,
        // which is at most three bytes.
        if error.error_len().is_some() {
            return Err(NotUtf8);
        }
        for byte in &rest[error.valid_up_to()..] {
            self.begun[usize::from(self.len)] = *byte;
            self.len += 1;
        }
        Ok(())
    }

    /// Whether the text may end here: not inside a character.
    pub fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// Completes the character that the last part ended in; the rest of `part` is returned.
    fn finish_character<'a>(&mut self, part: &'a [u8]) -> Result<&'a [u8], NotUtf8> {
        let mut rest = part;
        while self.len > 0 {
            let Some((byte, after)) = rest.split_first() else {
                return Ok(rest);
            };
            rest = after;
            let len = usize::from(self.len);
            let mut character = [self.begun[0], self.begun[1], self.begun[2], 0];
            character[len] = *byte;
            match str::from_utf8(&character[..=len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                // A fourth byte always decides, so this is one of the first three.
                Err(_) => {
                    self.begun[len] = *byte;
                    self.len += 1;
                }
            }
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// After how many bytes the text is refused, if it is, when it arrives byte by byte.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let mut utf8 = Utf8::default();
        bytes.iter().position(|byte| utf8.push(&[*byte]).is_err())
    }

    #[test]
    fn f2_f3_the_first_impossible_byte() {
        let cases: &[(&str, &[u8], Option<usize>)] = &[
            ("nothing", b"", None),
            ("ASCII", b"hello\x00\x7f", None),
            ("two, three and four bytes", "κόσμε €𐍈".as_bytes(), None),
            ("non-characters are allowed", "\u{fffe}\u{ffff}\u{10ffff}".as_bytes(), None),
            ("continuation first", b"\x80", Some(0)),
            ("overlong, two bytes", b"a\xc0\xaf", Some(1)),
            ("overlong, C1", b"\xc1\xbf", Some(0)),
            ("overlong, three bytes", b"\xe0\x9f\xbf", Some(1)),
            ("overlong, four bytes", b"\xf0\x8f\xbf\xbf", Some(1)),
            ("surrogate", b"\xed\xa0\x80", Some(1)),
            ("past U+10FFFF", b"\xf4\x90\x80\x80", Some(1)),
            ("F5", b"\xf5\x80\x80\x80", Some(0)),
            ("FF", b"\xff", Some(0)),
            ("character cut by ASCII", b"\xe2\x82a", Some(2)),
            ("character cut by another", b"\xf0\x9f\x98\xc3", Some(3)),
        ];
        for (name, bytes, at) in cases {
            assert_eq!(refused_at(bytes), *at, "{name}");
        }
    }

    #[test]
    fn f3_a_truncated_tail_is_not_complete() {
        for bytes in [&b"\xc3"[..], b"a\xe2\x82", b"\xf0\x9f\x98"] {
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.push(bytes), Ok(()));
            assert!(!utf8.is_complete(), "{bytes:x?}");
        }
    }

    /// Bytes that are often text, or nearly.
    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => any::<char>().prop_map(|character| character.to_string().into_bytes()),
            2 => "[a-z]{0,20}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..3),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn f1_f6_same_as_std_in_any_parts(bytes in nearly_text(), cuts in prop::collection::vec(0_usize..100, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut utf8 = Utf8::default();
            let taken = cuts.windows(2).all(|cut| utf8.push(&bytes[cut[0]..cut[1]]).is_ok());
            prop_assert_eq!(taken && utf8.is_complete(), str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn f2_fails_where_std_says_the_text_ends(bytes in nearly_text()) {
            // The longest prefix that some valid text starts with: std finds nothing wrong with it but its end.
            let prefix = (0..=bytes.len())
                .rev()
                .find(|end| str::from_utf8(&bytes[..*end]).map_or_else(|error| error.error_len().is_none(), |_| true));
            prop_assert_eq!(refused_at(&bytes).unwrap_or(bytes.len()), prefix.unwrap_or(0));
        }
    }
}
