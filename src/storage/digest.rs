//! A number for many bytes: quick, the same everywhere, and good enough to take equal numbers for equal bytes. Not for
//! bytes that somebody has chosen to collide.

/// The number of what it was given so far, in this order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digest {
    lanes: [u64; 2],
}

/// Odd numbers without a pattern: the first digits of the roots of 2, 3, 5 and 7.
const SALT: [u64; 4] =
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

impl Default for Digest {
    fn default() -> Self {
        Self { lanes: [SALT[0], SALT[1]] }
    }
}

impl Digest {
    /// Takes a number.
    pub(super) fn number(&mut self, number: u64) {
        self.pair(number, !number);
    }

    /// Takes bytes. How many there are is the caller's to take, where that is not known from elsewhere.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            let [one, other] = halves(u128::from_be_bytes(*pair));
            self.pair(one, other);
        }
        if !rest.is_empty() {
            let mut last = [0; 16];
            last[..rest.len()].copy_from_slice(rest);
            let [one, other] = halves(u128::from_be_bytes(last));
            self.pair(one, other);
        }
    }

    /// The number.
    pub(super) fn value(self) -> u128 {
        u128::from(self.lanes[0]) << 64 | u128::from(self.lanes[1])
    }

    fn pair(&mut self, one: u64, other: u64) {
        let [left, right] = self.lanes;
        self.lanes =
            [folded(left ^ one ^ SALT[2], other ^ SALT[3]), folded(right ^ other, one ^ left ^ SALT[1])];
    }
}

/// Both halves of a product, folded into one.
fn folded(one: u64, other: u64) -> u64 {
    let [high, low] = halves(u128::from(one) * u128::from(other));
    high ^ low
}

/// The higher and the lower half of a number.
#[expect(clippy::cast_possible_truncation, reason = "each half has 64 bits")]
pub(super) const fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_bit_and_no_order_is_without_effect() {
        let number = |bytes: &[u8]| {
            let mut digest = Digest::default();
            digest.bytes(bytes);
            digest.value()
        };
        let mut seen = HashSet::from([number(&[0; 96])]);
        for bit in 0..96 * 8 {
            let mut bytes = [0_u8; 96];
            bytes[bit / 8] = 1 << (bit % 8);
            assert!(seen.insert(number(&bytes)), "bit {bit} is without effect");
            bytes[95 - bit / 8] ^= 0x18;
            assert!(seen.insert(number(&bytes)), "bit {bit} with another one is without effect");
        }
    }
}
