//! What client and server agree on beyond the WebSocket protocol itself: a subprotocol and extensions.
//!
//! Offers are always read strictly (PROTOCOL.md B21, B23). What is chosen from them depends on what is enabled; nothing
//! that the client did not offer can ever be chosen (PROTOCOL.md C3, C4).

use crate::head::{Head, Name};
use crate::refusal::Reason;
use crate::scan::is_token_byte;

/// What the 101 will say was agreed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Agreed {
    /// The one subprotocol, in the spelling that client and server share.
    pub subprotocol: Option<&'static str>,
    /// The one extension.
    pub extension: Option<Extension>,
}

/// An extension with its agreed parameters. There is none that this server speaks: every offer is declined.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Extension {}

/// Reads what `head` offers and chooses from it: of the subprotocols the client's first that is among `subprotocols`,
/// and the first extension that can be accepted.
pub fn negotiate(head: &Head<'_>, subprotocols: &[&'static str]) -> Result<Agreed, Reason> {
    Ok(Agreed { subprotocol: choose_subprotocol(head, subprotocols)?, extension: choose_extension(head)? })
}

/// RFC 6455 §4.1 (10): one or more tokens, none of them twice.
fn choose_subprotocol(head: &Head<'_>, enabled: &[&'static str]) -> Result<Option<&'static str>, Reason> {
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
        chosen = chosen.or_else(|| enabled.iter().find(|name| name.as_bytes() == offered).copied());
        count += 1;
    }
    if count == 0 { Err(Reason::SubprotocolMalformed) } else { Ok(chosen) }
}

/// RFC 6455 §9.1. No extension is spoken here, so each well-formed offer is declined (PROTOCOL.md B24).
fn choose_extension(head: &Head<'_>) -> Result<Option<Extension>, Reason> {
    const NAME: Name = Name::SecWebSocketExtensions;
    if !head.has(NAME) {
        return Ok(None);
    }
    let mut count = 0;
    for value in head.values(NAME) {
        count += Offers(value).count()?;
    }
    if count == 0 { Err(Reason::ExtensionsMalformed) } else { Ok(None) }
}

/// What is left to read of one line of extension offers:
/// `1#(token *( ";" token [ "=" ( token / quoted-string ) ] ))`, with whitespace wherever RFC 2616 §2.1 implies it.
struct Offers<'b>(&'b [u8]);

impl Offers<'_> {
    /// How many offers there are.
    fn count(mut self) -> Result<usize, Reason> {
        let mut count = 0;
        loop {
            while self.take(b',') {}
            if self.0.is_empty() {
                return Ok(count);
            }
            self.token()?;
            while self.take(b';') {
                self.parameter()?;
            }
            if !self.0.is_empty() && self.0[0] != b',' {
                return Err(Reason::ExtensionsMalformed);
            }
            count += 1;
        }
    }

    fn parameter(&mut self) -> Result<(), Reason> {
        self.token()?;
        if !self.take(b'=') {
            return Ok(());
        }
        if self.0.first() == Some(&b'"') { self.quoted_token() } else { self.token() }
    }

    fn token(&mut self) -> Result<(), Reason> {
        self.skip_whitespace();
        let length = self.0.iter().take_while(|byte| is_token_byte(**byte)).count();
        if length == 0 {
            return Err(Reason::ExtensionsMalformed);
        }
        self.0 = &self.0[length..];
        self.skip_whitespace();
        Ok(())
    }

    /// A quoted string, which must be a token once its quotes and backslashes are gone.
    fn quoted_token(&mut self) -> Result<(), Reason> {
        let mut length = 0;
        let mut rest = &self.0[1..];
        while let [byte, after @ ..] = rest {
            let (byte, after) = match (byte, after) {
                (b'"', _) if length > 0 => {
                    self.0 = after;
                    self.skip_whitespace();
                    return Ok(());
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
