//! What is inside a compressed cluster: bytes to a cluster, and a cluster to bytes.
//!
//! ```text
//! deflate     a raw deflate stream                       written with a window of 4 KiB, read with one of 32
//! zstd        Zstandard frames, one behind the other     one frame is written
//! ```
//! Either way the stream holds one whole cluster. What follows it up to the end of its last sector has no meaning.
//! (qcow2 specification, header, byte 104, and compressed clusters descriptor.)
//!
//! Decoding needs the memory of the cluster, of the window, and of one block of the stream, whatever the stream says.

mod deflate;
mod zstd;

use super::Compression;
use super::error::{Error, Rule, require};

impl Compression {
    /// Decodes one compressed cluster. `stream` may go on behind it; `cluster` is as large as a cluster.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with [`Rule::WholeCluster`] when the stream breaks off, is broken, or does not end with
    /// the cluster. `cluster` may then hold anything. A deflate stream may go on behind the cluster (QEMU reads
    /// such ones), unless what it says next is unlawful; a Zstandard frame may not.
    pub fn decode(self, stream: &[u8], cluster: &mut [u8]) -> Result<(), Error> {
        let size = cluster.len() as u64;
        let decoded = match self {
            Self::Deflate => deflate::decode(stream, cluster),
            Self::Zstd => zstd::decode(stream, cluster),
        };
        let (holds, found) = match decoded {
            Ok(()) => (true, size),
            Err(Broken { decoded }) => (false, decoded as u64),
        };
        require(holds, "compressed cluster", "decoded length", found, Rule::WholeCluster(size))
    }

    /// Compresses one cluster; `None` when it does not get smaller.
    ///
    /// Deflate looks back 4 KiB at most: so much is what readers of this format are sure to look back (QEMU itself
    /// writes so).
    #[must_use]
    pub fn encode(self, cluster: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Deflate => deflate::encode(cluster),
            Self::Zstd => zstd::encode(cluster),
        }
    }
}

/// A stream that does not hold a cluster.
#[derive(Debug)]
struct Broken {
    /// How many bytes it gave before it broke, or broke off; more than a cluster when it does not end with it.
    decoded: usize,
}

#[cfg(test)]
mod tests;
