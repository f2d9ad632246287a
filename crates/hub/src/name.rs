//! Topic names with their hash, computed once.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use siphasher::sip::SipHasher13;

/// The key of all topic hashes, drawn at random once per process, so that nobody outside can choose names that collide.
#[derive(Copy, Clone)]
pub struct HashKey([u8; 16]);

impl HashKey {
    /// Uses these 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> HashKey {
        HashKey(bytes)
    }

    /// The name `text` with its hash under this key.
    pub fn name(&self, text: &str) -> Name {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(text.as_bytes());
        Name(Arc::new(Body { hash: hasher.finish(), text: text.into() }))
    }
}

/// A topic's name; cheap to clone and to compare.
#[derive(Clone, Debug)]
pub struct Name(Arc<Body>);

#[derive(Debug)]
struct Body {
    hash: u64,
    text: Box<str>,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Which of `shards` orders this topic's messages.
    pub fn home(&self, shards: usize) -> usize {
        // Multiply-shift: the upper bits of hash × shards are spread evenly and need no division.
        ((u128::from(self.0.hash) * shards as u128) >> 64) as usize
    }

    /// About how much memory the name takes, in bytes.
    pub fn footprint(&self) -> usize {
        size_of::<Body>() + self.0.text.len()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// Passes the hash that a [`Name`] carries through to a map.
#[derive(Default)]
pub(crate) struct Carried(u64);

pub(crate) type CarriedHash = BuildHasherDefault<Carried>;

impl Hasher for Carried {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only names and their forms are hashed here");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 ^= hash;
    }

    fn write_u8(&mut self, form: u8) {
        // The form's bits go where the map takes both its bucket and its tag from.
        self.0 ^= u64::from(form).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_bytewise_and_spread_over_shards() {
        let key = HashKey::new([7; 16]);
        assert_eq!(key.name("news"), key.name("news"));
        assert_ne!(key.name("news"), key.name("News"));
        let mut per_shard = [0_u32; 5];
        for index in 0..5000 {
            per_shard[key.name(&format!("topic/{index}")).home(5)] += 1;
        }
        assert!(per_shard.iter().all(|count| (800..1200).contains(count)), "{per_shard:?}");
    }

    #[test]
    fn another_key_places_topics_elsewhere() {
        let (one, two) = (HashKey::new([1; 16]), HashKey::new([2; 16]));
        let moved =
            (0..100).filter(|i| one.name(&i.to_string()).home(16) != two.name(&i.to_string()).home(16));
        assert!(moved.count() > 50);
    }
}
