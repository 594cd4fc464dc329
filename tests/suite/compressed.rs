//! Layers of compressed clusters that came from elsewhere, below layers with smaller ones.
//!
//! A compressed cluster is not changed in place: whoever writes into a part of one gives its room up. As long as
//! anybody reads the rest of it where it was, that must not come about.

use crate::support::{
    Dice, Home, Made, Outcome, assert_sound, on_every_store, read, read_snapshot, read_volume,
};
use snapgroup::storage::BlobName;
use snapgroup::{
    AdoptVolume, ByteCount, CreateSnapshot, CreateVolume, DeleteMode, DeleteVolume, Direction, Engine,
    Export, LayerFormat, ReclaimOptions, Reclaimed, Snapshot, Step, Uuid, Volume, When,
};

on_every_store! {
    whoever_reads_compressed_clusters_goes_on_reading_them_while_they_are_merged
    compressed_clusters_that_are_hidden_are_written_over
}

const CLUSTER: usize = 64 << 10;
const CLUSTERS: usize = 8;

/// What no compression makes smaller than its half, so that several clusters share one of the file.
fn half_random() -> Made<Vec<u8>> {
    let mut dice = Dice::new(11);
    let mut bytes = vec![0; CLUSTERS * CLUSTER];
    for cluster in bytes.chunks_mut(CLUSTER) {
        cluster[..36 << 10].fill_with(|| dice.byte());
    }
    Ok(bytes)
}

/// A disk with a snapshot, in clusters of 512 bytes, above a retired layer in compressed ones of 64 KiB.
struct Above {
    engine: Engine,
    volume: Uuid,
    snapshot: Uuid,
    /// Both open, and every table that they read through is known to them.
    disk: Volume,
    handle: Snapshot,
    content: Vec<u8>,
}

fn above(home: &Home, strokes: &[(usize, usize)]) -> Made<Above> {
    let engine = home.open()?;
    let bytes = half_random()?;
    let source = engine.create_volume(&CreateVolume::new("source", ByteCount::of(bytes.len())))?.uuid;
    engine.open_volume(source)?.write_at(0, &bytes)?;
    let taken = engine.create_snapshot(&CreateSnapshot::new(source, "s"))?.uuid;
    let file = home.touch()?.create(&BlobName::parse("old.qcow2")?)?;
    engine.export(taken, &Export::qcow2().compressed(), file)?;
    let old = engine.adopt_volume(&AdoptVolume::new("old.qcow2", LayerFormat::Qcow2, "old"))?.uuid;
    let frozen = engine.create_snapshot(&CreateSnapshot::new(old, "old"))?.uuid;
    let wish = CreateVolume { cluster_bits: Some(9), ..CreateVolume::of_snapshot("new", frozen) };
    let volume = engine.create_volume(&wish)?.uuid;
    let disk = engine.open_volume(volume)?;
    for (at, length) in strokes {
        disk.write_at(*at as u64, &vec![0xab; *length])?;
    }
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "new"))?.uuid;
    disk.write_at(100, &[0xcd; 100])?;
    let (mode, reclaim) = (DeleteMode::Enforcing, When::Later);
    assert!(engine.delete_volume(&DeleteVolume { mode, reclaim, ..DeleteVolume::new(old) })?.is_success());
    let (handle, content) = (engine.open_snapshot(snapshot)?, read_snapshot(&engine, snapshot)?);
    let above = Above { engine, volume, snapshot, disk, handle, content };
    above.assert_reads()?;
    Ok(above)
}

impl Above {
    fn assert_reads(&self) -> Outcome {
        let mut bytes = vec![0; self.content.len()];
        self.handle.read_at(0, &mut bytes)?;
        let differs = bytes.iter().zip(&self.content).position(|(one, other)| one != other);
        assert_eq!(differs, None, "a handle to the snapshot reads something else");
        let bytes = read(&self.disk, 512, self.content.len() - 512)?;
        assert!(bytes == self.content[512..], "the open disk reads something else");
        Ok(())
    }

    /// Reclaims in small steps; everybody reads the same between them.
    fn reclaim_down(&self) -> Made<Reclaimed> {
        let mut reclaim = self.engine.reclaim(&ReclaimOptions::towards(Direction::Commit))?;
        while reclaim.step(ByteCount::kib(32))? == Step::More {
            self.assert_reads()?;
        }
        assert_eq!(reclaim.owed(), []);
        self.assert_reads()?;
        assert!(read_snapshot(&self.engine, self.snapshot)? == self.content);
        assert_eq!(self.engine.chain(self.volume)?.len(), 2);
        Ok(reclaim.reclaimed().clone())
    }
}

fn whoever_reads_compressed_clusters_goes_on_reading_them_while_they_are_merged(home: &Home) -> Outcome {
    let strokes: Vec<_> = (0..CLUSTERS).map(|cluster| (cluster * CLUSTER + (60 << 10), 512)).collect();
    let above = above(home, &strokes)?;
    let done = above.reclaim_down()?;
    // Down, they would be given up while they are read: they are copied up.
    assert_eq!((done.bytes_committed.is_zero(), done.bytes_pulled.is_zero()), (true, false));
    let volume = above.volume;
    assert!(read_volume(&above.engine, volume)?[512..] == above.content[512..]);
    assert_sound(&above.engine)
}

fn compressed_clusters_that_are_hidden_are_written_over(home: &Home) -> Outcome {
    let strokes: Vec<_> = (0..CLUSTERS).step_by(2).map(|cluster| (cluster * CLUSTER, CLUSTER)).collect();
    let above = above(home, &strokes)?;
    let done = above.reclaim_down()?;
    assert_eq!((done.bytes_committed, done.bytes_pulled), (ByteCount::kib(256), ByteCount::ZERO));
    assert_sound(&above.engine)
}
