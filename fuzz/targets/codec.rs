//! A compressed cluster: no stream makes a decoder panic, or write past the cluster, or take memory without bound; and
//! what is encoded is decoded.

use crate::dice::Dice;
use snapgroup::format::Compression;

/// Decodes the bytes as a stream, then encodes them as a cluster.
pub fn run(bytes: &[u8]) {
    let mut dice = Dice::written(bytes);
    let compression = [Compression::Deflate, Compression::Zstd][dice.roll(2)];
    let size = 1 << [9, 12, 16, 21][dice.roll(4)];
    let stream = dice.rest();
    let mut cluster = vec![0xee; size];
    if compression.decode(stream, &mut cluster).is_ok() {
        let mut again = vec![0x11; size];
        compression.decode(stream, &mut again).expect("the same stream");
        assert!(cluster == again, "two readings differ");
        // A stream without an end, which fills the cluster all the same, takes what follows for more of it, and that may be
        // unlawful. What has been decoded does not depend on it.
        if compression.decode(&[stream, &[0; 64]].concat(), &mut again).is_ok() {
            assert!(cluster == again, "what follows the stream has changed it");
        }
        round_trip(compression, &cluster);
    }
    let mut cluster = stream.to_vec();
    cluster.resize(size.min(1 << 16), 0x5a);
    round_trip(compression, &cluster);
}

fn round_trip(compression: Compression, cluster: &[u8]) {
    let Some(stream) = compression.encode(cluster) else { return };
    assert!(stream.len() < cluster.len(), "nothing was gained");
    // What follows a stream that ends has no meaning.
    for behind in [&[][..], &[0; 64], &[0xff; 64]] {
        let mut decoded = vec![0xee; cluster.len()];
        compression.decode(&[&stream, behind].concat(), &mut decoded).expect("it was just encoded");
        assert!(decoded == cluster, "another cluster comes back");
    }
}
