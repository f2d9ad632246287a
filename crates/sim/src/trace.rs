//! Everything that happened in a world, folded into one number, to compare two runs by.

/// FNV-1a over whatever is told.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Trace {
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Folds in bytes, and how many they are.
    pub fn tell(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&(bytes.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Folds in numbers.
    pub fn tell_numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.tell(&number.to_le_bytes());
        }
    }

    /// The number.
    pub fn hash(self) -> u64 {
        self.0
    }
}
