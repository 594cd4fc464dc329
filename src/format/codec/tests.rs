//! Both codecs: what is encoded is decoded, and whatever else is decoded is refused by name.

use super::super::{Malformed, Rule};
use super::*;

const BOTH: [Compression; 2] = [Compression::Deflate, Compression::Zstd];

/// Bytes that do not compress.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_be_bytes()[2]
    };
    (0..length).map(|_| next()).collect()
}

/// Bytes that compress: zeros, text, a little noise that comes again, noise before zeros.
fn compressible(length: usize) -> Vec<Vec<u8>> {
    let text = b"one group, all disks; all of one moment, either all of them or none. ";
    let mut mixed = noise(4, length / 8);
    mixed.resize(length, 0);
    vec![
        vec![0; length],
        text.iter().copied().cycle().take(length).collect(),
        noise(3, 97).iter().copied().cycle().take(length).collect(),
        mixed,
    ]
}

fn refused(compression: Compression, stream: &[u8], size: usize) -> u64 {
    let mut cluster = vec![0xee; size];
    let decoded = compression.decode(stream, &mut cluster);
    let Err(Error::Malformed(Malformed { field: "decoded length", found, rule, .. })) = decoded else {
        panic!("{compression:?}: {decoded:?}")
    };
    assert_eq!(rule, Rule::WholeCluster(size as u64));
    found
}

#[test]
fn every_cluster_is_decoded_as_it_was_encoded_whatever_lies_behind_it() {
    for compression in BOTH {
        for bits in 9..=21 {
            for (kind, cluster) in compressible(1 << bits).into_iter().enumerate() {
                let Some(mut stream) = compression.encode(&cluster) else {
                    // The one encoder is better than the other.
                    assert_eq!((compression, kind), (Compression::Zstd, 3), "{bits}");
                    continue;
                };
                assert!(stream.len() < cluster.len(), "{compression:?} {bits} {kind}");
                stream.extend(noise(5, 511));
                let mut decoded = vec![0xee; cluster.len()];
                compression.decode(&stream, &mut decoded).expect("it was just encoded");
                assert!(decoded == cluster, "{compression:?} {bits} {kind}");
            }
        }
    }
}

#[test]
fn noise_does_not_get_smaller() {
    for compression in BOTH {
        for bits in 9..=21 {
            assert_eq!(compression.encode(&noise(bits, 1 << bits)), None, "{compression:?} {bits}");
        }
    }
}

#[test]
fn a_stream_that_breaks_off_before_the_cluster_is_full_is_refused() {
    for compression in BOTH {
        for cluster in compressible(4096).into_iter().take(3) {
            let stream = compression.encode(&cluster).expect("it gets smaller");
            // The last two bytes of a deflate stream may hold no more than its end, which nobody asks for.
            let end = if compression == Compression::Deflate { 2 } else { 0 };
            for length in 0..stream.len() - end {
                let found = refused(compression, &stream[..length], cluster.len());
                assert!(found <= cluster.len() as u64, "{compression:?} {length}: {found}");
            }
        }
    }
}

#[test]
fn a_stream_of_less_than_a_cluster_is_refused() {
    for compression in BOTH {
        let stream = compression.encode(&[0; 4096]).expect("it gets smaller");
        assert_eq!(refused(compression, &stream, 8192), 4096, "{compression:?}");
    }
}

#[test]
fn a_frame_of_more_than_a_cluster_is_refused_and_a_deflate_stream_is_cut() {
    let stream = Compression::Zstd.encode(&vec![9; 1 << 20]).expect("it gets smaller");
    assert!(refused(Compression::Zstd, &stream, 512) > 512);
    let one_block = Compression::Zstd.encode(&[9; 4096]).expect("it gets smaller");
    assert_eq!(refused(Compression::Zstd, &one_block, 512), 4096);
    let stream = Compression::Deflate.encode(&vec![9; 1 << 20]).expect("it gets smaller");
    let mut cluster = [0; 512];
    Compression::Deflate.decode(&stream, &mut cluster).expect("the cluster is full");
    assert_eq!(cluster, [9; 512]);
}

#[test]
fn a_cluster_may_be_made_of_several_frames_and_of_some_to_skip() {
    let (one, two) = (vec![1; 3000], vec![2; 1096]);
    let frames: Vec<Vec<u8>> =
        [&one, &two].map(|piece| Compression::Zstd.encode(piece).expect("it gets smaller")).into();
    // Skipped: the magic number, the length, both in the other byte order, and so many bytes (RFC 8878, 3.1.2).
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
    let stream = [&skipped[..], &frames[0], &skipped, &frames[1]].concat();
    let mut cluster = vec![0; 4096];
    Compression::Zstd.decode(&stream, &mut cluster).expect("two frames");
    assert!(cluster == [one, two].concat());
    assert_eq!(refused(Compression::Zstd, &skipped, 4096), 0);
    assert_eq!(refused(Compression::Zstd, &skipped[..10], 4096), 0);
}

#[test]
fn a_window_of_128_mib_is_the_largest() {
    // The magic number, no size and no checksum, a window of 128 MiB, and one last block: a byte 512 times (RFC 8878, 3.1.1).
    let mut stream = [0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 0b11, 0x10, 0, 7];
    let mut cluster = [0; 512];
    Compression::Zstd.decode(&stream, &mut cluster).expect("a lawful window");
    assert_eq!(cluster, [7; 512]);
    stream[5] += 1;
    assert_eq!(refused(Compression::Zstd, &stream, 512), 0);
}

#[test]
fn what_is_encoded_is_smaller_whatever_of_it_is_noise() {
    for compression in BOTH {
        for zeros in 0..128 {
            let mut cluster = noise(6, 512 - zeros);
            cluster.resize(512, 0);
            let length = compression.encode(&cluster).map_or(0, |stream| stream.len());
            assert!(length < 512, "{compression:?} {zeros}: {length}");
        }
    }
}

#[test]
fn hostile_streams_are_refused_or_decoded_but_nothing_else() {
    for compression in BOTH {
        assert_eq!(refused(compression, &[], 512), 0);
        assert_eq!(refused(compression, &[0xff; 1024], 512), 0);
        for seed in 1..1500 {
            let rolls = noise(seed, 64);
            let mut cluster = vec![0; 2048];
            // Noise, and a good stream with some bytes changed.
            let _ = compression.decode(&noise(seed, usize::from(rolls[0]) * 4), &mut cluster);
            let source = &compressible(2048)[usize::from(rolls[1] % 3)];
            let mut stream = compression.encode(source).expect("it gets smaller");
            for pair in rolls[2..2 + usize::from(rolls[2] % 8) * 2].chunks(2) {
                let at = usize::from(pair[0]) * 256 % stream.len();
                stream[at] = pair[1];
                let at = usize::from(pair[1]) % stream.len().min(24);
                stream[at] ^= 1 << (pair[0] % 8);
            }
            let _ = compression.decode(&stream, &mut cluster);
        }
    }
}
