//! Dice whose falls are written down: an input of the fuzzer as a sequence of choices.

/// Falls as the bytes say, and behind their end always on the lowest side; or, of a seed, without an end.
#[derive(Debug)]
pub struct Dice {
    written: Vec<u8>,
    at: usize,
    seed: u64,
}

impl Dice {
    /// Dice that fall as these bytes say.
    pub fn written(bytes: &[u8]) -> Self {
        Self { written: bytes.to_vec(), at: 0, seed: 0 }
    }

    /// Dice that fall the same way for the same seed.
    pub fn of(seed: u64) -> Self {
        Self { written: Vec::new(), at: 0, seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// A number below `below`.
    pub fn roll(&mut self, below: usize) -> usize {
        let bytes = match below {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let number = (0..bytes).fold(0, |number, _| number << 8 | usize::from(self.byte()));
        number % below
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        if self.seed != 0 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            return self.seed.to_be_bytes()[2];
        }
        let byte = self.written.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The bytes that were not looked at yet.
    pub fn rest(&self) -> &[u8] {
        self.written.get(self.at..).unwrap_or_default()
    }
}
