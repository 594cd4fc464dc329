//! Zstandard frames (RFC 8878).
//!
//! A checksum behind a frame is not compared: the format asks for none, and QEMU writes none.

use super::Broken;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// The largest window that a frame may ask for: 128 MiB (zstd's own readers enforce). It is not allocated.
const WINDOW_MAX: u64 = 1 << 27;

/// Decodes frames until the cluster is full.
pub(super) fn decode(stream: &[u8], cluster: &mut [u8]) -> Result<(), Broken> {
    let (mut rest, mut done) = (stream, 0);
    while done < cluster.len() {
        // A new one for each frame: only one that was used before allocates the window.
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW_MAX);
        match frame.init(&mut rest) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let skipped = usize::try_from(length).ok().and_then(|length| rest.get(length..));
                rest = skipped.ok_or(Broken { decoded: done })?;
                continue;
            }
            Err(_) => return Err(Broken { decoded: done }),
        }
        // One byte more than there is room for: a frame that has not ended by then does not end with the cluster.
        let room = cluster.len() - done;
        match frame.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(room + 1)) {
            Ok(true) => {}
            Ok(false) => return Err(Broken { decoded: cluster.len() + 1 }),
            Err(_) => return Err(Broken { decoded: done }),
        }
        let bytes = frame.collect().unwrap_or_default();
        let Some(piece) = cluster.get_mut(done..done + bytes.len()) else {
            return Err(Broken { decoded: done + bytes.len() });
        };
        piece.copy_from_slice(&bytes);
        done += bytes.len();
    }
    Ok(())
}

/// Compresses a cluster into one frame; `None` when it does not get smaller. The encoder is a quick one: of what zstd
/// itself makes smaller, such as a mixture of noise and long runs, it gives some up.
pub(super) fn encode(cluster: &[u8]) -> Option<Vec<u8>> {
    let stream = compress_to_vec(cluster, CompressionLevel::Fastest);
    if stream.len() >= cluster.len() {
        return None;
    }
    // The encoder is young, and what it gets wrong would be noticed only when the guest reads it: look at once.
    let mut decoded = vec![0; cluster.len()];
    decode(&stream, &mut decoded).ok()?;
    (decoded == cluster).then_some(stream)
}
