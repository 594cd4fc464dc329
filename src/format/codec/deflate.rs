//! Raw deflate streams (RFC 1951), without the header and the checksum of zlib.

use super::Broken;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The binary logarithm of the window in which a match may lie. QEMU writes with this one, and readers may hold no
/// larger one.
const WINDOW_BITS: u8 = 12;

/// Decodes until the cluster is full. All windows that deflate knows are read: the cluster is decoded in one go, so
/// whatever a match may refer to is there.
pub(super) fn decode(stream: &[u8], cluster: &mut [u8]) -> Result<(), Broken> {
    let mut inflate = Decompress::new(false);
    let ended = inflate.decompress(stream, cluster, FlushDecompress::Finish);
    let decoded = usize::try_from(inflate.total_out()).unwrap_or(usize::MAX);
    match ended {
        Ok(_) if decoded == cluster.len() => Ok(()),
        _ => Err(Broken { decoded }),
    }
}

/// Compresses a cluster; `None` when it does not get smaller.
pub(super) fn encode(cluster: &[u8]) -> Option<Vec<u8>> {
    let mut stream = vec![0; cluster.len().saturating_sub(1)];
    let mut deflate = Compress::new_with_window_bits(Compression::default(), false, WINDOW_BITS);
    let ended = deflate.compress(cluster, &mut stream, FlushCompress::Finish);
    let Ok(Status::StreamEnd) = ended else { return None };
    stream.truncate(usize::try_from(deflate.total_out()).ok()?);
    Some(stream)
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    /// What is left of a stream, bit by bit. Inflating knows no window here, so that it can tell how large it must be.
    struct Bits<'a>(&'a [u8], usize);

    impl Bits<'_> {
        fn take(&mut self, count: u32) -> usize {
            let bit = |at: usize| usize::from(self.0[at / 8] >> (at % 8) & 1);
            let value = (0..count as usize).map(|index| bit(self.1 + index) << index).sum();
            self.1 += count as usize;
            value
        }

        /// One symbol of a canonical code (RFC 1951, 3.2.2).
        fn symbol(&mut self, words: &[Vec<usize>; 16]) -> usize {
            let (mut word, mut first) = (0, 0);
            for of_length in &words[1..] {
                word = word << 1 | self.take(1);
                if let Some(symbol) = word.checked_sub(first).and_then(|index| of_length.get(index)) {
                    return *symbol;
                }
                first = (first + of_length.len()) << 1;
            }
            panic!("no such word");
        }

        /// The words of a dynamic block (RFC 1951, 3.2.7).
        fn lengths(&mut self) -> (Vec<usize>, Vec<usize>) {
            const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
            let (literals, distances) = (257 + self.take(5), 1 + self.take(5));
            let mut of_lengths = [0; 19];
            for symbol in &ORDER[..4 + self.take(4)] {
                of_lengths[*symbol] = self.take(3);
            }
            let of_lengths = words(&of_lengths);
            let mut lengths = Vec::new();
            while lengths.len() < literals + distances {
                let (length, times) = match self.symbol(&of_lengths) {
                    16 => (lengths[lengths.len() - 1], 3 + self.take(2)),
                    17 => (0, 3 + self.take(3)),
                    18 => (0, 11 + self.take(7)),
                    length => (length, 1),
                };
                lengths.extend(std::iter::repeat_n(length, times));
            }
            let distances = lengths.split_off(literals);
            (lengths, distances)
        }
    }

    /// The symbols whose words have this length, for each length.
    fn words(lengths: &[usize]) -> [Vec<usize>; 16] {
        std::array::from_fn(|length| {
            (0..lengths.len()).filter(|symbol| length > 0 && lengths[*symbol] == length).collect()
        })
    }

    /// How far the matches of a stream look back at most (RFC 1951, 3.2.5).
    fn farthest(stream: &[u8]) -> usize {
        let (mut bits, mut farthest) = (Bits(stream, 0), 0);
        loop {
            let (last, kind) = (bits.take(1), bits.take(2));
            let (literals, distances) = match kind {
                0 => {
                    bits.1 = bits.1.next_multiple_of(8);
                    let length = bits.take(16);
                    bits.1 += 16 + length * 8;
                    if last == 1 {
                        return farthest;
                    }
                    continue;
                }
                1 => {
                    let lengths = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
                    (lengths, vec![5; 30])
                }
                _ => bits.lengths(),
            };
            let (literals, distances) = (words(&literals), words(&distances));
            loop {
                let extra = match bits.symbol(&literals) {
                    256 => break,
                    symbol @ 265..=284 => (symbol - 261) / 4,
                    0..=255 => continue,
                    _ => 0,
                };
                bits.take(u32::try_from(extra).expect("5 at most"));
                let symbol = bits.symbol(&distances);
                let extra = (symbol / 2).saturating_sub(1);
                let base = if symbol < 2 { symbol + 1 } else { ((2 + symbol % 2) << extra) + 1 };
                farthest = farthest.max(base + bits.take(u32::try_from(extra).expect("13 at most")));
            }
            if last == 1 {
                return farthest;
            }
        }
    }

    /// Noise that comes again after `distance`: whoever may look back so far finds it.
    fn repeated(distance: usize) -> Vec<u8> {
        let mut cluster: Vec<u8> = noise(7, distance).iter().copied().cycle().take(45_000).collect();
        cluster.resize(64 << 10, 0);
        cluster
    }

    #[test]
    fn no_match_looks_back_more_than_4_kib() {
        for distance in [100, 3000, 3800, 4090, 4096, 4097, 5000, 8192, 20_000, 32_000] {
            let stream = encode(&repeated(distance)).expect("the zeros at least get smaller");
            let farthest = farthest(&stream);
            assert!(farthest <= 4096, "{distance}: {farthest}");
            assert!(distance > 3800 || farthest >= distance, "{distance}: {farthest}");
        }
    }

    #[test]
    fn streams_of_every_window_are_read() {
        let mut looked_back = Vec::new();
        for bits in 9..=15 {
            let cluster = [repeated(300), repeated(20_000)].concat();
            let mut stream = vec![0; cluster.len()];
            let mut deflate = Compress::new_with_window_bits(Compression::best(), false, bits);
            let ended = deflate.compress(&cluster, &mut stream, FlushCompress::Finish);
            assert_eq!(ended.ok(), Some(Status::StreamEnd), "{bits}");
            let mut decoded = vec![0; cluster.len()];
            decode(&stream, &mut decoded).expect("it was just encoded");
            assert!(decoded == cluster, "{bits}");
            looked_back.push(farthest(&stream));
        }
        assert!(looked_back.is_sorted() && looked_back[0] <= 512, "{looked_back:?}");
        assert!(looked_back[6] >= 20_000, "{looked_back:?}");
    }
}
