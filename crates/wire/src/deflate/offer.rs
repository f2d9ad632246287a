//! What a client offers (RFC 7692 §7.1).

use super::{Agreed, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// One offer of permessage-deflate, parameter by parameter. What must not be there declines this offer only: the client
/// may have made another (RFC 7692 §5.1, docs/protocol.md G1).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Offer {
    declined: bool,
    server_no_context: bool,
    client_no_context: bool,
    server_window: Option<u8>,
    client_window: bool,
}

impl Offer {
    /// The name of the extension.
    pub(crate) const NAME: &[u8] = b"permessage-deflate";

    /// Takes the next parameter; `value` is without its quotes and backslashes.
    pub(crate) fn parameter(&mut self, name: &[u8], value: Option<&[u8]>) {
        let fine = match (name, value) {
            (b"server_no_context_takeover", None) => !std::mem::replace(&mut self.server_no_context, true),
            (b"client_no_context_takeover", None) => !std::mem::replace(&mut self.client_no_context, true),
            (b"server_max_window_bits", Some(value)) => match window_bits(value) {
                Some(bits) => self.server_window.replace(bits).is_none(),
                None => false,
            },
            // Without a value it says that the client would obey the answer's (RFC 7692 §7.1.2.2).
            (b"client_max_window_bits", value) => {
                value.is_none_or(|value| window_bits(value).is_some())
                    && !std::mem::replace(&mut self.client_window, true)
            }
            _ => false,
        };
        self.declined |= !fine;
    }

    /// What is agreed if the offer is taken; none if it is declined.
    pub(crate) fn accept(self) -> Option<Agreed> {
        let window_bits = self.server_window.unwrap_or(WINDOW_BITS_MAX);
        let fine = !self.declined && window_bits >= WINDOW_BITS_MIN;
        fine.then_some(Agreed { window_bits, is_named: self.server_window.is_some() })
    }
}

/// 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}
