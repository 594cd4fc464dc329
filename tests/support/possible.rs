//! Which bytes a disk may hold: after each request, and after a crash.
//!
//! Each request writes one number below 64 everywhere, so a set of possible bytes is the bits of one word.

use std::ops::Range;

/// What each byte of a disk may be.
#[derive(Clone)]
pub(crate) struct Possible {
    /// What a read may answer.
    now: Vec<u64>,
    /// What may be found after a crash.
    durable: Vec<u64>,
}

impl Possible {
    /// A disk that holds these bytes for sure.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let now: Vec<u64> = bytes.iter().map(|byte| 1 << byte).collect();
        Self { durable: now.clone(), now }
    }

    /// A request that began: from now on a crash may leave its bytes.
    pub(crate) fn begun(&mut self, range: Range<usize>, byte: u8) {
        for at in range {
            self.now[at] |= 1 << byte;
            self.durable[at] |= 1 << byte;
        }
    }

    /// A request that succeeded: reads answer its bytes and no others.
    pub(crate) fn done(&mut self, range: Range<usize>, byte: u8) {
        self.now[range].fill(1 << byte);
    }

    /// A flush that succeeded: a crash leaves what reads answered.
    pub(crate) fn flushed(&mut self) {
        self.durable.clone_from(&self.now);
    }

    /// The disk became larger, for sure.
    pub(crate) fn grown(&mut self, size: usize) {
        self.now.resize(size, 1);
        self.durable.resize(size, 1);
    }

    /// The first byte that a read should not have answered.
    pub(crate) fn refutes_read(&self, found: &[u8]) -> Option<usize> {
        refutes(&self.now, found)
    }

    /// The first byte that should not be there after a crash.
    pub(crate) fn refutes_crash(&self, found: &[u8]) -> Option<usize> {
        refutes(&self.durable, found)
    }

    /// How large the disk is.
    pub(crate) fn size(&self) -> usize {
        self.now.len()
    }
}

fn refutes(possible: &[u64], found: &[u8]) -> Option<usize> {
    possible.iter().zip(found).position(|(possible, found)| *found > 63 || possible >> found & 1 == 0)
}
