//! What client and server agree on beyond the WebSocket protocol itself: a subprotocol and extensions.
//!
//! Offers are always read strictly (B21, B23). What is chosen from them depends on what is enabled; nothing
//! that the client did not offer can ever be chosen (docs/protocol.md C3, C4).

use crate::deflate::{self, Offer};
use crate::head::{Head, Name};
use crate::protocol::Subprotocol;
use crate::refusal::Reason;
use crate::scan::is_token_byte;

/// What the 101 will say was agreed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Agreed {
    /// The one subprotocol.
    pub subprotocol: Option<Subprotocol>,
    /// How messages may be compressed: the one extension there is.
    pub deflate: Option<deflate::Agreed>,
}

/// Reads what `head` offers and chooses from it: of the subprotocols the client's first that is among `subprotocols`,
/// and, if `deflate` is on, the first offer of permessage-deflate that can be accepted. What is said in a subprotocol is
/// not compressed: its frames would be forms of their own for every window there is.
pub fn negotiate(head: &Head<'_>, subprotocols: &[Subprotocol], deflate: bool) -> Result<Agreed, Reason> {
    let subprotocol = choose_subprotocol(head, subprotocols)?;
    let deflate = choose_deflate(head, deflate && subprotocol.is_none())?;
    Ok(Agreed { subprotocol, deflate })
}

/// RFC 6455 §4.1 (10): one or more tokens, none of them twice.
fn choose_subprotocol(head: &Head<'_>, enabled: &[Subprotocol]) -> Result<Option<Subprotocol>, Reason> {
    const NAME: Name = Name::SecWebSocketProtocol;
    if !head.has(NAME) {
        return Ok(None);
    }
    let mut chosen = None;
    let mut count = 0;
    for (index, offered) in head.members(NAME).enumerate() {
        if !offered.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Reason::SubprotocolMalformed);
        }
        if head.members(NAME).take(index).any(|before| before == offered) {
            return Err(Reason::SubprotocolRepeated);
        }
        chosen = chosen.or_else(|| enabled.iter().find(|known| known.name.as_bytes() == offered).copied());
        count += 1;
    }
    if count == 0 { Err(Reason::SubprotocolMalformed) } else { Ok(chosen) }
}

/// RFC 6455 §9.1. The first offer that can be accepted is; each other well-formed one is declined (B24, C4).
fn choose_deflate(head: &Head<'_>, enabled: bool) -> Result<Option<deflate::Agreed>, Reason> {
    const NAME: Name = Name::SecWebSocketExtensions;
    if !head.has(NAME) {
        return Ok(None);
    }
    let mut chosen = None;
    let mut count = 0;
    for value in head.values(NAME) {
        let mut offers = Offers(value);
        while let Some(name) = offers.next_offer()? {
            let mut offer = (enabled && name == Offer::NAME).then(Offer::default);
            while let Some(parameter) = offers.next_parameter()? {
                if let Some(offer) = &mut offer {
                    let mut buffer = [0; VALUE_BYTES_MAX];
                    offer.parameter(
                        parameter.name,
                        parameter.value.as_ref().map(|value| value.token(&mut buffer)),
                    );
                }
            }
            chosen = chosen.or_else(|| offer.and_then(Offer::accept));
            count += 1;
        }
    }
    if count == 0 { Err(Reason::ExtensionsMalformed) } else { Ok(chosen) }
}

/// How much of a quoted value is looked at: more than any value that means something has.
const VALUE_BYTES_MAX: usize = 8;

/// What is left to read of one line of extension offers:
/// `1#(token *( ";" token [ "=" ( token / quoted-string ) ] ))`, with whitespace wherever RFC 2616 §2.1 implies it.
struct Offers<'b>(&'b [u8]);

/// One parameter of an offer.
struct Parameter<'b> {
    name: &'b [u8],
    value: Option<Value<'b>>,
}

/// A parameter's value, which is a token either way.
enum Value<'b> {
    Token(&'b [u8]),
    /// Without its quotes, but with backslashes.
    Quoted(&'b [u8]),
}

impl<'b> Value<'b> {
    /// The token, or the first bytes of it.
    fn token<'t>(&'t self, buffer: &'t mut [u8; VALUE_BYTES_MAX]) -> &'t [u8] {
        let quoted = match self {
            Value::Token(token) => return token,
            Value::Quoted(quoted) => quoted,
        };
        // Only a backslash is no byte of a token; the grammar has let pass none that escapes another.
        let plain = quoted.iter().filter(|byte| **byte != b'\\');
        let count = buffer.iter_mut().zip(plain).map(|(to, from)| *to = *from).count();
        &buffer[..count]
    }
}

impl<'b> Offers<'b> {
    /// The name of the next offer, whose parameters must be read before the one after it.
    fn next_offer(&mut self) -> Result<Option<&'b [u8]>, Reason> {
        while self.take(b',') {}
        if self.0.is_empty() { Ok(None) } else { self.token().map(Some) }
    }

    /// The next parameter of the offer that was last named.
    fn next_parameter(&mut self) -> Result<Option<Parameter<'b>>, Reason> {
        if !self.take(b';') {
            let ends = self.0.first().is_none_or(|byte| *byte == b',');
            return if ends { Ok(None) } else { Err(Reason::ExtensionsMalformed) };
        }
        let name = self.token()?;
        if !self.take(b'=') {
            return Ok(Some(Parameter { name, value: None }));
        }
        let value = match self.0.first() {
            Some(b'"') => Value::Quoted(self.quoted_token()?),
            _ => Value::Token(self.token()?),
        };
        Ok(Some(Parameter { name, value: Some(value) }))
    }

    fn token(&mut self) -> Result<&'b [u8], Reason> {
        self.skip_whitespace();
        let length = self.0.iter().take_while(|byte| is_token_byte(**byte)).count();
        if length == 0 {
            return Err(Reason::ExtensionsMalformed);
        }
        let (token, rest) = self.0.split_at(length);
        self.0 = rest;
        self.skip_whitespace();
        Ok(token)
    }

    /// A quoted string, which must be a token once its quotes and backslashes are gone.
    fn quoted_token(&mut self) -> Result<&'b [u8], Reason> {
        let inside = &self.0[1..];
        let mut length = 0;
        let mut rest = inside;
        while let [byte, after @ ..] = rest {
            let (byte, after) = match (byte, after) {
                (b'"', _) if length > 0 => {
                    let quoted = &inside[..inside.len() - rest.len()];
                    self.0 = after;
                    self.skip_whitespace();
                    return Ok(quoted);
                }
                (b'\\', [escaped, after @ ..]) => (escaped, after),
                _ => (byte, after),
            };
            if !is_token_byte(*byte) {
                break;
            }
            length += 1;
            rest = after;
        }
        Err(Reason::ExtensionsMalformed)
    }

    /// Passes over whitespace, `byte` and more whitespace, if `byte` comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_whitespace();
        let Some(rest) = self.0.strip_prefix(&[byte]) else { return false };
        self.0 = rest;
        self.skip_whitespace();
        true
    }

    fn skip_whitespace(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }
}
