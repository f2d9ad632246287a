//! A slab whose places are reused, each tenant with its own generation.

/// The name of a tenant: its place, and which tenant of that place it is.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

/// Values in places that keep their index while they live.
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Option<u32>,
    len: usize,
}

struct Place<T> {
    generation: u32,
    held: Held<T>,
}

enum Held<T> {
    Value(T),
    Free { next: Option<u32> },
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: None, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One past the highest place ever used.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.len += 1;
        let Some(place) = self.free else {
            let place = u32::try_from(self.places.len()).expect("fewer than 2^32 places");
            self.places.push(Place { generation: 0, held: Held::Value(value) });
            return Key { place, generation: 0 };
        };
        let entry = &mut self.places[place as usize];
        let Held::Free { next } = entry.held else { unreachable!("the free list holds free places") };
        self.free = next;
        entry.held = Held::Value(value);
        Key { place, generation: entry.generation }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let entry = &mut self.places[key.place as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.len -= 1;
        match std::mem::replace(&mut entry.held, Held::Free { next: self.free.replace(key.place) }) {
            Held::Value(value) => Some(value),
            Held::Free { .. } => unreachable!("the place was just looked at"),
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.places.get(key.place as usize) {
            Some(Place { generation, held: Held::Value(value) }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.places.get_mut(key.place as usize) {
            Some(Place { generation, held: Held::Value(value) }) if *generation == key.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    /// Which tenant a place has now, or will have next.
    pub(crate) fn generation_at(&self, place: u32) -> u32 {
        self.places[place as usize].generation
    }

    /// The tenant of a place, whichever it is.
    pub(crate) fn at(&self, place: usize) -> Option<&T> {
        match self.places.get(place) {
            Some(Place { held: Held::Value(value), .. }) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_tenant_only() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        let other = slab.insert("other");
        assert_eq!(slab.remove(first), Some("first"));
        assert_eq!(slab.remove(first), None);
        let second = slab.insert("second");
        assert_eq!(second.place, first.place);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.get(other), Some(&"other"));
        assert_eq!((slab.len(), slab.places()), (2, 2));
    }
}
