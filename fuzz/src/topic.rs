//! Names of topics: what is taken is a good name, however it was spelt.

use moongate_wire::topic::{NAME_BYTES_MAX, TopicName};

/// What follows `/topics/`, whatever it is.
pub fn topic(data: &[u8]) {
    let name = TopicName::from_path(data);
    assert_eq!(name.as_ref().ok().map(|name| name.as_str().to_owned()), reference(data));
    let Ok(name) = name else { return };
    check_spelling(&name, |byte| !byte.is_ascii_alphanumeric());
    check_spelling(&name, |_| true);
    let body = moongate_wire::answer::published(name.as_str(), 1, 2);
    let body: serde_json::Value = serde_json::from_str(&body).expect("the confirmation is JSON");
    assert_eq!(body["topic"], name.as_str());
}

/// The name with all bytes escaped that `escape` says, but for the slashes between segments, is the same name.
fn check_spelling(name: &TopicName, escape: impl Fn(u8) -> bool) {
    let mut path = String::new();
    for byte in name.as_str().bytes() {
        match byte {
            b'/' => path.push('/'),
            _ if escape(byte) => path.push_str(&format!("%{byte:02x}")),
            _ => path.push(char::from(byte)),
        }
    }
    assert_eq!(TopicName::from_path(path.as_bytes()).as_ref(), Ok(name), "{path}");
}

fn reference(path: &[u8]) -> Option<String> {
    let segments: Option<Vec<String>> = path.split(|byte| *byte == b'/').map(reference_segment).collect();
    let segments = segments?;
    let name = segments.join("/");
    let good = !segments[0].starts_with('$') && name.len() <= NAME_BYTES_MAX;
    good.then_some(name)
}

fn reference_segment(segment: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < segment.len() {
        if segment[at] == b'%' {
            let digits =
                segment.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            at += 3;
        } else {
            bytes.push(segment[at]);
            at += 1;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let forbidden = |c: char| c.is_control() || "/*+#".contains(c);
    let good = !text.is_empty() && text != "." && text != ".." && !text.contains(forbidden);
    good.then_some(text)
}
