//! The mouth of a link that says all it has to say in its request.

use super::{Format, Mouth};

/// The request's bytes; gone once they were sent.
pub(super) struct Request(pub(super) Vec<u8>);

impl Mouth for Request {
    fn ask(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.0);
    }

    fn say(&mut self, _: Format, _: &[u8], _: &mut Vec<u8>) {
        unreachable!("no scenario speaks on a link that has said all with its request");
    }

    fn bid_farewell(&mut self, _: &mut Vec<u8>) -> bool {
        false
    }
}
