//! Reads a fuzzer's bytes as decisions.

/// Bytes that decide what a target does; zeros once they are used up.
pub(crate) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Source<'a> {
        Source(data)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is 1 to 256.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// How what follows is cut up.
    pub(crate) fn cuts(&mut self) -> Cuts {
        Cuts { lengths: [self.byte(), self.byte(), self.byte(), self.byte()] }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// The lengths of the pieces that bytes arrive in, over and over: 0 to 255 each, but never nothing four times.
pub(crate) struct Cuts {
    lengths: [u8; 4],
}

impl Cuts {
    /// Where the pieces of `len` bytes end; the last is `len` itself.
    pub(crate) fn ends(&self, len: usize) -> impl Iterator<Item = usize> + use<> {
        let lengths = if self.lengths == [0; 4] { [1; 4] } else { self.lengths };
        let mut at = 0;
        let pieces = lengths.into_iter().cycle().map(move |length| {
            at += usize::from(length);
            at
        });
        pieces.take_while(move |end| *end < len).chain([len])
    }
}
