//! Which representation of a topic an `Accept` field asks for (RFC 9110 §12.5.1).

use crate::head::{Head, Name};

/// What a topic can be read as.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Representation {
    Events,
    Page,
}

/// The representation that is named with the highest quality; of two equal ones the event stream. Ranges such as `*/*`
/// name neither: what a program sends that did not choose is not a wish to listen for ever.
pub(super) fn preferred(head: &Head<'_>, page: bool) -> Option<Representation> {
    let events = quality(head, b"text/event-stream");
    let html = if page { quality(head, b"text/html") } else { 0 };
    match (events, html) {
        (0, 0) => None,
        _ if events >= html => Some(Representation::Events),
        _ => Some(Representation::Page),
    }
}

/// The highest quality in thousandths with which `media_type` is named, 0 if it is not.
fn quality(head: &Head<'_>, media_type: &[u8]) -> u16 {
    let named = head.members(Name::Accept).filter_map(|member| {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next()?.eq_ignore_ascii_case(media_type);
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
        if named { weight.map_or(Some(1000), thousandths) } else { None }
    });
    named.max().unwrap_or(0)
}

/// A `qvalue` of RFC 9110 §12.4.2: 0 or 1 with at most three more digits.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index: usize| fraction.get(index).map_or(0, |digit| u16::from(digit - b'0'));
    let value = u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualities_have_three_digits() {
        let check = |text: &str, expect| assert_eq!(thousandths(text.as_bytes()), expect, "{text}");
        check("0", Some(0));
        check("0.", Some(0));
        check("0.5", Some(500));
        check("0.001", Some(1));
        check("1", Some(1000));
        check("1.000", Some(1000));
        check("1.001", None);
        check("0.0001", None);
        check("2", None);
        check("", None);
        check(".5", None);
        check("0.5x", None);
        check("-0.5", None);
    }
}
