//! The head of an answer to a request (RFC 9112 §4), as far as this tool must understand it.

use std::ops::RangeInclusive;

/// How long a head may be.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How much of an error's body is told.
const BODY_BYTES_TOLD: usize = 200;

/// A head that is all there.
pub(super) struct Head<'a> {
    /// The head's length in bytes.
    pub(super) len: usize,
    status_line: &'a str,
    fields: &'a str,
    /// What came behind it.
    body: &'a [u8],
}

impl<'a> Head<'a> {
    /// The head at the front of `bytes`; none while it is not all there.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Option<Head<'a>>, String> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            let too_long = bytes.len() > HEAD_BYTES_MAX;
            return if too_long { Err("its answer has no end".to_owned()) } else { Ok(None) };
        };
        let text = str::from_utf8(&bytes[..end]).map_err(|_| "its answer is not text".to_owned())?;
        let (status_line, fields) = text.split_once("\r\n").unwrap_or((text, ""));
        Ok(Some(Head { len: end + 4, status_line, fields, body: &bytes[end + 4..] }))
    }

    /// Nothing, if it has this status; else what it says instead.
    pub(super) fn expect(&self, status: u16) -> Result<(), String> {
        self.expect_one_of(status..=status)
    }

    /// Nothing, if its status is a success (RFC 9110 §15.3); else what it says instead.
    pub(super) fn expect_success(&self) -> Result<(), String> {
        self.expect_one_of(200..=299)
    }

    fn expect_one_of(&self, expected: RangeInclusive<u16>) -> Result<(), String> {
        if self.status().is_some_and(|status| expected.contains(&status)) {
            return Ok(());
        }
        let told = &self.body[..self.body.len().min(BODY_BYTES_TOLD)];
        Err(format!("it answered {:?}: {}", self.status_line, String::from_utf8_lossy(told).trim_end()))
    }

    fn status(&self) -> Option<u16> {
        self.status_line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    /// The value of the first field of this name.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.fields.split("\r\n").filter_map(|line| line.split_once(':'));
        fields.find_map(|(field, value)| field.eq_ignore_ascii_case(name).then(|| value.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_all_there() {
        let text = b"HTTP/1.1 503 Busy\r\nRetry-After:  3 \r\n\r\nno room\r\n";
        for cut in 0..text.len() - 9 {
            assert!(Head::read(&text[..cut]).expect("no fault").is_none(), "cut at {cut}");
        }
        let head = Head::read(text).expect("no fault").expect("all of it");
        assert_eq!(
            (head.len, head.status(), head.field("retry-after")),
            (text.len() - 9, Some(503), Some("3"))
        );
        assert_eq!(head.field("Date"), None);
        assert_eq!(head.expect(503), Ok(()));
        assert_eq!(head.expect(200), Err("it answered \"HTTP/1.1 503 Busy\": no room".to_owned()));
    }

    #[test]
    fn a_head_without_end_is_refused() {
        assert!(Head::read(&vec![b'x'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
