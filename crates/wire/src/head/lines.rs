//! The field lines of a head, of a request or of an answer, and what can be told from them alone.

use super::{LIST_MEMBERS_MAX, Name, Version, parse_digits};
use crate::body::Framing;
use crate::refusal::Reason;

/// All field lines, with their names found out.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Lines<'b> {
    fields: &'b [httparse::Header<'b>],
    names: &'b [Name],
}

impl<'b> Lines<'b> {
    /// `names` are those of `fields`, in their order.
    pub(crate) fn new(fields: &'b [httparse::Header<'b>], names: &'b [Name]) -> Lines<'b> {
        Lines { fields, names }
    }

    /// Every line: what name it is, how it was spelt, and its value without the whitespace around it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name, &'b str, &'b [u8])> + use<'b> {
        self.names.iter().zip(self.fields).map(|(name, field)| (*name, field.name, field.value))
    }

    /// The values of all lines of the field `name`, in order, without the whitespace around them. They are bytes: nothing
    /// says that they are UTF-8.
    pub(crate) fn values(&self, name: Name) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        self.names.iter().zip(self.fields).filter(move |line| *line.0 == name).map(|line| line.1.value)
    }

    /// Whether there is any line of the field `name`.
    pub(crate) fn has(&self, name: Name) -> bool {
        self.values(name).next().is_some()
    }

    /// The value of the field `name`, if there is just one line of it.
    pub(crate) fn one(&self, name: Name) -> One<'b> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => One::Missing,
            (Some(value), None) => One::Value(value),
            (Some(_), Some(_)) => One::Repeated,
        }
    }

    /// The members of the list field `name` over all its lines, in order and without empty ones (RFC 9110 §5.6.1).
    pub(crate) fn members(&self, name: Name) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        debug_assert!(name.is_list(), "the members of {name:?} are not bounded");
        let members = self.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    }

    /// Whether the list field `name` has the member `token` in any case.
    pub(crate) fn has_token(&self, name: Name, token: &str) -> bool {
        self.members(name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// RFC 9112 §6.3. A message whose end could be read in two ways is refused.
    pub(crate) fn framing(&self, version: Version) -> Result<Framing, Reason> {
        if self.has(Name::TransferEncoding) {
            return self.find_coding(version);
        }
        match self.one(Name::ContentLength) {
            One::Missing => Ok(Framing::None),
            One::Repeated => Err(Reason::ManyLengths),
            One::Value(digits) => parse_digits(digits).map(Framing::Length).ok_or(Reason::BadLength),
        }
    }

    fn find_coding(&self, version: Version) -> Result<Framing, Reason> {
        if version == Version::Http10 {
            return Err(Reason::EncodingInHttp10);
        }
        if self.has(Name::ContentLength) {
            return Err(Reason::LengthAndEncoding);
        }
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let codings = || self.members(Name::TransferEncoding);
        if !codings().last().is_some_and(is_chunked)
            || codings().filter(|coding| is_chunked(coding)).count() > 1
        {
            return Err(Reason::EncodingNotChunked);
        }
        if codings().count() > 1 {
            return Err(Reason::EncodingUnknown);
        }
        Ok(Framing::Chunked)
    }

    pub(crate) fn check_lists(&self) -> Result<(), Reason> {
        let mut members = [0; Name::Other as usize];
        for (name, field) in self.names.iter().zip(self.fields).filter(|line| line.0.is_list()) {
            let members = &mut members[*name as usize];
            *members += 1 + field.value.iter().filter(|byte| **byte == b',').count();
            if *members > LIST_MEMBERS_MAX {
                return Err(Reason::ListTooLong);
            }
        }
        Ok(())
    }
}

/// How often a field that goes on one line is there.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum One<'b> {
    /// Not at all.
    Missing,
    /// Once.
    Value(&'b [u8]),
    /// On several lines, equal or not.
    Repeated,
}
