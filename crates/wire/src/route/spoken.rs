//! Which subprotocols are spoken on a route. Found once, at start, so that a request has only to look.

use crate::protocol::{SUBPROTOCOLS, Subprotocol};

/// What a route is said to have if it has none.
pub(super) const OFF: &str = "off";

/// The subprotocols that a route's WebSockets may agree on, in the order in which people are told of them; the client's
/// own order decides which one is spoken. `None` as long as nobody has said, and then all there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spoken(Option<Box<[Subprotocol]>>);

impl Spoken {
    /// These, whatever others are said to have.
    pub(super) fn only(subprotocols: Vec<Subprotocol>) -> Spoken {
        Spoken(Some(subprotocols.into()))
    }

    /// What may be agreed on, by every name it goes by.
    pub fn list(&self) -> &[Subprotocol] {
        self.0.as_deref().unwrap_or(SUBPROTOCOLS)
    }

    /// With `usual` where nobody has said, and each of `aliases` beside the protocol that it stands for.
    pub(super) fn complete(&mut self, usual: &[Subprotocol], aliases: &[Subprotocol]) {
        let mut list = self.0.take().map_or_else(|| usual.to_vec(), Vec::from);
        let known = |alias: &&Subprotocol| list.iter().any(|enabled| enabled.protocol == alias.protocol);
        let fitting: Vec<Subprotocol> = aliases.iter().filter(known).copied().collect();
        list.extend(fitting);
        self.0 = Some(list.into());
    }

    /// As a table says it. Aliases are not in it: they are none of a route's business.
    pub(super) fn text(&self) -> String {
        let names = self.list().iter().filter(|enabled| SUBPROTOCOLS.contains(enabled));
        let names: Vec<&str> = names.map(|enabled| enabled.name).collect();
        if names.is_empty() { OFF.to_owned() } else { names.join(",") }
    }
}
