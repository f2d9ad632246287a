//! The chains that sends carry, each at a place of its own while its send is under way.

use std::num::NonZeroU32;

use moongate_io::Chain;

/// Chains by place; a connection that sends nothing has nothing here.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    chains: Vec<Option<Chain>>,
    free: Vec<NonZeroU32>,
}

impl Chains {
    pub(crate) fn insert(&mut self, chain: Chain) -> NonZeroU32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.chains.push(None);
            NonZeroU32::new(self.chains.len() as u32).expect("there is one at least")
        });
        self.chains[place.get() as usize - 1] = Some(chain);
        place
    }

    pub(crate) fn get(&self, place: NonZeroU32) -> &Chain {
        self.chains[place.get() as usize - 1].as_ref().expect("a send under way has its chain")
    }

    pub(crate) fn remove(&mut self, place: NonZeroU32) -> Chain {
        self.free.push(place);
        self.chains[place.get() as usize - 1].take().expect("a send under way has its chain")
    }
}
