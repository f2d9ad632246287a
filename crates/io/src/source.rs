//! Where runs were heard from.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Where a run was heard from: whatever that is to who made its bytes, which keep it. Each one made is another.
#[derive(Clone)]
pub struct Source(Rc<dyn Any>);

impl Source {
    /// One that is `what`.
    pub fn new(what: impl Any) -> Source {
        Source(Rc::new(what))
    }

    /// What it is, if it is that.
    pub fn what<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    fn address(&self) -> usize {
        Rc::as_ptr(&self.0).cast::<()>() as usize
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:#x})", self.address())
    }
}
