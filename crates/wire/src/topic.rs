//! Topic names: a topic is a URL, and its name is what follows `/topics/` in the path.
//!
//! The path is split on `/` first and each segment percent-decoded once after that, so that no encoding can move a
//! boundary. Names compare bytewise.

use std::fmt;

use crate::refusal::{Reason, Refusal};

/// What every topic's path starts with.
pub const PREFIX: &[u8] = b"/topics/";

/// How many bytes a name may have once it is decoded.
pub const NAME_BYTES_MAX: usize = 255;

/// A topic's name: 1 to 255 bytes of UTF-8 without control characters, in segments between single slashes. No segment
/// is empty, `.` or `..`, the first does not start with `$`, and `*`, `+` and `#` are nowhere in it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Box<str>);

impl TopicName {
    /// The name that `rest`, the part of a path after [`PREFIX`], spells.
    pub fn from_path(rest: &[u8]) -> Result<TopicName, Refusal> {
        // Each decoded byte comes from at most three, so nothing longer can be a name.
        if rest.len() > NAME_BYTES_MAX * 3 {
            return Err(Reason::TopicTooLong.into());
        }
        if rest.is_empty() {
            return Err(Reason::TopicEmpty.into());
        }
        if rest.len() > 1 && rest.ends_with(b"/") && !rest.ends_with(b"//") {
            return Err(Reason::TopicTrailingSlash.into());
        }
        let mut name = Vec::with_capacity(rest.len());
        for (index, segment) in rest.split(|byte| *byte == b'/').enumerate() {
            if index > 0 {
                name.push(b'/');
            }
            let start = name.len();
            decode(segment, &mut name)?;
            check_segment(&name[start..], index == 0)?;
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Reason::TopicTooLong.into());
        }
        let name = String::from_utf8(name).map_err(|_| Reason::TopicNotUtf8)?;
        // C1 controls too; C0 and DEL are among them.
        if name.chars().any(char::is_control) {
            return Err(Reason::TopicControl.into());
        }
        Ok(TopicName(name.into_boxed_str()))
    }

    /// The name that `text` is, where nothing is encoded.
    pub fn from_text(text: &str) -> Result<TopicName, Reason> {
        if text.len() > NAME_BYTES_MAX {
            return Err(Reason::TopicTooLong);
        }
        if text.is_empty() {
            return Err(Reason::TopicEmpty);
        }
        if text.len() > 1 && text.ends_with('/') && !text.ends_with("//") {
            return Err(Reason::TopicTrailingSlash);
        }
        for (index, segment) in text.split('/').enumerate() {
            check_segment(segment.as_bytes(), index == 0)?;
        }
        if text.chars().any(char::is_control) {
            return Err(Reason::TopicControl);
        }
        Ok(TopicName(text.into()))
    }

    /// The decoded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Appends `segment` to `name`, every `%XX` as the byte it stands for (RFC 3986 §2.1).
fn decode(segment: &[u8], name: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut bytes = segment.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(Reason::TopicBadEscape.into());
        };
        name.push((high * 16 + low) as u8);
    }
    Ok(())
}

fn check_segment(segment: &[u8], first: bool) -> Result<(), Reason> {
    let reason = match segment {
        b"" => Reason::TopicEmptySegment,
        b"." | b".." => Reason::TopicDotSegment,
        [b'$', ..] if first => Reason::TopicReserved,
        _ if segment.contains(&b'/') => Reason::TopicEncodedSlash,
        _ if segment.iter().any(|byte| matches!(byte, b'*' | b'+' | b'#')) => Reason::TopicPattern,
        _ => return Ok(()),
    };
    Err(reason)
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicName({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once() {
        let check = |path: &str, expect: &str| {
            let name = TopicName::from_path(path.as_bytes());
            assert_eq!(name.as_ref().map(TopicName::as_str), Ok(expect), "{path:?}");
        };
        check("news", "news");
        check("sport/tennis", "sport/tennis");
        check("caf%C3%A9", "caf\u{e9}");
        check("caf%c3%a9", "caf\u{e9}");
        check("100%25", "100%");
        check("a%2541", "a%41");
        check("a b", "a b");
        check("...", "...");
        check("a/$b", "a/$b");
        check("a:b;c=d&e,f~g", "a:b;c=d&e,f~g");
        check(&"x".repeat(255), &"x".repeat(255));
        check(&"%78".repeat(255), &"x".repeat(255));
    }

    #[test]
    fn each_rule_has_its_reason() {
        let check = |path: &[u8], expect| {
            let refusal = TopicName::from_path(path).map_err(|refusal| refusal.reason);
            assert_eq!(refusal, Err(expect), "{:?}", String::from_utf8_lossy(path));
        };
        check(b"", Reason::TopicEmpty);
        check(b"/", Reason::TopicEmptySegment);
        check(b"//", Reason::TopicEmptySegment);
        check(b"/a", Reason::TopicEmptySegment);
        check(b"a//b", Reason::TopicEmptySegment);
        check(b"a//", Reason::TopicEmptySegment);
        check(b"a/", Reason::TopicTrailingSlash);
        check(b".", Reason::TopicDotSegment);
        check(b"a/../b", Reason::TopicDotSegment);
        check(b"%2e%2E", Reason::TopicDotSegment);
        check(b"a/./b", Reason::TopicDotSegment);
        check(b"a%2Fb", Reason::TopicEncodedSlash);
        check(b"%2f", Reason::TopicEncodedSlash);
        check(b"$sys", Reason::TopicReserved);
        check(b"%24sys/a", Reason::TopicReserved);
        check(b"*", Reason::TopicPattern);
        check(b"a/+/b", Reason::TopicPattern);
        check(b"a/%23", Reason::TopicPattern);
        check(b"a%", Reason::TopicBadEscape);
        check(b"a%4", Reason::TopicBadEscape);
        check(b"a%4g", Reason::TopicBadEscape);
        check(b"a%4/1", Reason::TopicBadEscape);
        check(b"%+1", Reason::TopicBadEscape);
        check(b"%ff", Reason::TopicNotUtf8);
        check(b"%c3/%a9", Reason::TopicNotUtf8);
        check(b"%ed%a0%80", Reason::TopicNotUtf8);
        check(b"a%00", Reason::TopicControl);
        check(b"a%0d%0aX:", Reason::TopicControl);
        check(b"%7f", Reason::TopicControl);
        check(b"%c2%85", Reason::TopicControl);
        check("x".repeat(256).as_bytes(), Reason::TopicTooLong);
        check("%78".repeat(256).as_bytes(), Reason::TopicTooLong);
        check("%C3%A9".repeat(128).as_bytes(), Reason::TopicTooLong);
    }
}
