//! The head of an answer, as a client of the upstream reads it.

use super::{Fields, Lines, Name, Version, incomplete};
use crate::refusal::Reason;

/// What an upstream's head says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct AnswerHead<'b> {
    pub(crate) version: Version,
    /// From 100 to 599.
    pub(crate) status: u16,
    /// ASCII without control characters; empty if it was not.
    pub(crate) phrase: &'b str,
    pub(crate) lines: Lines<'b>,
}

impl<'b> AnswerHead<'b> {
    /// Parses `bytes`, a head that a scanner for answers has found complete. An error is named as the same defect is in
    /// a request.
    pub(crate) fn parse(bytes: &'b mut [u8], fields: &'b mut Fields<'b>) -> Result<AnswerHead<'b>, Reason> {
        // RFC 9110 §2.5, as with requests: a higher minor version is handled as 1.1, which httparse does not know.
        if let Some(digit @ b'2'..=b'9') = bytes.get_mut("HTTP/1.".len()) {
            *digit = b'1';
        }
        let mut answer = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut answer, bytes, &mut fields.fields);
        let (Ok(httparse::Status::Complete(_)), Some(status), Some(minor)) =
            (parsed, answer.code, answer.version)
        else {
            return Err(incomplete(parsed));
        };
        for (name, field) in fields.names.iter_mut().zip(answer.headers.iter()) {
            *name = Name::of(field.name);
        }
        let lines = Lines::new(answer.headers, &fields.names);
        lines.check_lists()?;
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        Ok(AnswerHead { version, status, phrase: answer.reason.unwrap_or_default(), lines })
    }
}
