//! A thread's links, by index, as its scenario sees them: what is said and wished here is done at the end of the turn.

use std::mem;

use crate::dialect::Format;
use crate::link::{Leave, Link, State};

/// Places for connections. Each is opened when the run begins or when its scenario wishes so, and may be opened again
/// once its connection has ended.
pub(crate) struct Links {
    list: Vec<Link>,
    /// Those with something to send that was not tried yet.
    dirty: Vec<u32>,
    /// Those that may have something to read that nobody tells of again.
    ready: Vec<u32>,
    orders: Vec<Order>,
}

/// What a scenario wishes of its engine.
pub(crate) enum Order {
    /// Opens a link; its time counts from `due`.
    Open { link: u32, due: u64 },
    /// Ends a link that no answer is awaited on.
    Leave { link: u32, abruptly: bool },
    /// Resets many at once.
    Vanish(Vec<u32>),
}

impl Links {
    pub(crate) fn new(count: u32) -> Links {
        let list = (0..count).map(|_| Link::default()).collect();
        Links { list, dirty: Vec::new(), ready: Vec::new(), orders: Vec::new() }
    }

    /// Says a message on `link`, at the end of the turn.
    pub(crate) fn say(&mut self, link: u32, format: Format, payload: &[u8]) {
        self.get(link).say(format, payload);
        self.mark(link);
    }

    /// How many bytes wait to be sent on `link`.
    pub(crate) fn waiting(&self, link: u32) -> usize {
        self.list[link as usize].waiting()
    }

    /// Whether `link` is open.
    pub(crate) fn is_open(&self, link: u32) -> bool {
        self.list[link as usize].state == State::Open
    }

    /// Whether `link` has ended, or was never opened.
    pub(crate) fn is_gone(&self, link: u32) -> bool {
        self.list[link as usize].state == State::Gone
    }

    /// Opens `link`, which has ended, as it should have been at `due`.
    pub(crate) fn open(&mut self, link: u32, due: u64) {
        // At once, so that nobody wishes it twice.
        self.get(link).state = State::Connecting;
        self.orders.push(Order::Open { link, due });
    }

    /// Ends `link`, which is open.
    pub(crate) fn leave(&mut self, link: u32, how: Leave) {
        match how {
            Leave::Politely if self.get(link).bid_farewell() => self.mark(link),
            Leave::Politely | Leave::Silently => self.orders.push(Order::Leave { link, abruptly: false }),
            Leave::Abruptly => self.orders.push(Order::Leave { link, abruptly: true }),
        }
    }

    /// Resets all of `links`, as fast as can be.
    pub(crate) fn vanish(&mut self, links: Vec<u32>) {
        self.orders.push(Order::Vanish(links));
    }

    /// Lets `link` read so many more bytes and then no more; without a limit if there is none.
    pub(crate) fn allow(&mut self, link: u32, bytes: Option<usize>) {
        let one = self.get(link);
        one.allowance = bytes;
        if one.readable && bytes != Some(0) {
            self.make_ready(link);
        }
    }

    // For the engine.

    pub(crate) fn get(&mut self, link: u32) -> &mut Link {
        &mut self.list[link as usize]
    }

    pub(crate) fn count(&self) -> u32 {
        self.list.len() as u32
    }

    pub(crate) fn is_any_left(&self) -> bool {
        self.list.iter().any(|link| link.state != State::Gone)
    }

    pub(crate) fn mark(&mut self, link: u32) {
        if !mem::replace(&mut self.list[link as usize].dirty, true) {
            self.dirty.push(link);
        }
    }

    pub(crate) fn make_ready(&mut self, link: u32) {
        self.ready.push(link);
    }

    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        mem::take(&mut self.dirty)
    }

    pub(crate) fn take_ready(&mut self) -> Vec<u32> {
        mem::take(&mut self.ready)
    }

    pub(crate) fn take_orders(&mut self) -> Vec<Order> {
        mem::take(&mut self.orders)
    }
}
