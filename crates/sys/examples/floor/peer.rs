//! A connection: what it is, and what it is to be sent next.

use moongate_wire::frame::Decoder;

use crate::group::Group;

#[derive(Default)]
pub(crate) struct Peer {
    pub(crate) mode: Mode,
    pub(crate) sending: Sending,
    /// The next run it is to have, or has in flight.
    pub(crate) next: u64,
    /// How much of that has been sent.
    pub(crate) offset: usize,
    /// Runs below this may go to it outside the sweep, because it was busy when the sweep passed.
    pub(crate) due: u64,
    pub(crate) ending: Ending,
    /// A worker of the kernel carries its FIN, which looks up the slot only then: it must not be somebody else's by then.
    pub(crate) fin_under_way: bool,
    pub(crate) decoder: Decoder,
    /// What goes to it alone; most have nothing.
    pub(crate) own: Option<Box<Own>>,
}

/// What a connection is for.
#[derive(Default)]
pub(crate) enum Mode {
    /// For nothing yet, or no more.
    #[default]
    Nothing,
    /// Its head comes.
    Head(Vec<u8>),
    Echo,
    /// It hears the group of this number, where it has this place.
    Member {
        path: u32,
        place: usize,
    },
}

/// What is in flight to it.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
pub(crate) enum Sending {
    #[default]
    Nothing,
    Own,
    Run,
}

/// How far its end has come.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Ending {
    #[default]
    Open,
    /// It is still to have what is its own, then FIN.
    Leaving,
    /// FIN was asked for; its own has not come.
    Left,
    /// Nothing comes from it any more.
    Over,
    /// Its descriptor is being closed.
    Closing,
}

/// Bytes in flight, or first to be, and those that come after them.
#[derive(Default)]
pub(crate) struct Own {
    flight: Vec<u8>,
    pub(crate) waiting: Vec<u8>,
}

impl Own {
    fn is_empty(&self) -> bool {
        self.flight.is_empty() && self.waiting.is_empty()
    }
}

impl Peer {
    /// Whether something that is its own has not been sent.
    pub(crate) fn has_own(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.is_empty())
    }

    /// What is to be sent to it outside the sweep, which is in flight from now on.
    pub(crate) fn send_next<'a>(&'a mut self, groups: &'a [Group]) -> Option<&'a [u8]> {
        // A frame that was begun is completed first.
        if self.offset == 0 && self.has_own() {
            let own = self.own.as_deref_mut()?;
            if own.flight.is_empty() {
                std::mem::swap(&mut own.flight, &mut own.waiting);
            }
            self.sending = Sending::Own;
            return Some(&own.flight);
        }
        let Mode::Member { path, .. } = self.mode else { return None };
        let group = &groups[path as usize];
        if self.offset == 0 && (self.ending != Ending::Open || self.next >= group.swept.max(self.due)) {
            return None;
        }
        self.sending = Sending::Run;
        Some(&group.bytes(self.next)[self.offset..])
    }

    /// `count` bytes of what was in flight have been sent. True: there was more.
    pub(crate) fn sent(&mut self, count: usize, groups: &mut [Group]) -> bool {
        match (std::mem::take(&mut self.sending), &self.mode, &mut self.own) {
            (Sending::Run, Mode::Member { path, .. }, _) => {
                let group = &mut groups[*path as usize];
                self.offset += count;
                if self.offset < group.bytes(self.next).len() {
                    return true;
                }
                group.had(self.next);
                self.next += 1;
                self.offset = 0;
                false
            }
            (Sending::Own, _, Some(own)) => {
                own.flight.drain(..count);
                !own.flight.is_empty()
            }
            _ => unreachable!("what completes was in flight"),
        }
    }
}
