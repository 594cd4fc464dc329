//! What a merge and a full snapshot move in a pool in memory: no byte of a page, only the page's owner.

use crate::support::{Made, Outcome, assert_sound, fill, read_snapshot, read_volume};
use snapgroup::storage::MemoryStore;
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, Options, ReclaimOptions,
    Step, Uuid, When,
};
use std::sync::Arc;

const MIB: usize = 1 << 20;
/// What each layer of the disk has.
const DATA: usize = 4 * MIB;
/// What tables and the catalogue may take up.
const SMALL: ByteCount = ByteCount::kib(512);

/// A disk with one snapshot above the other, each with data of its own.
struct Site {
    store: MemoryStore,
    engine: Engine,
    volume: Uuid,
    lower: Uuid,
    upper: Uuid,
}

impl Site {
    fn new() -> Made<Self> {
        let store = MemoryStore::new();
        let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(16)))?.uuid;
        let mut taken = Vec::new();
        for (at, byte) in [(0, 1), (DATA as u64, 2)] {
            fill(&engine.open_volume(volume)?, at, DATA, byte)?;
            taken.push(engine.create_snapshot(&CreateSnapshot::new(volume, "s"))?.uuid);
        }
        Ok(Self { store, engine, volume, lower: taken[0], upper: taken[1] })
    }
}

#[test]
fn a_merge_takes_no_memory_at_any_instant_of_it() -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        let Site { store, engine, volume, lower, upper } = Site::new()?;
        let shown = read_snapshot(&engine, upper)?;
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(lower) })?
                .is_success()
        );
        let before = store.held();
        assert!(before >= ByteCount::of(2 * DATA), "{before}");
        let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
        let mut steps = 0;
        while reclaim.step(ByteCount::mib(1))? == Step::More {
            steps += 1;
            let held = store.held();
            assert!(held < before + SMALL, "{direction}, step {steps}: {held} after {before}");
        }
        assert!(steps >= 3, "it was looked at while both layers had the data");
        assert_eq!(reclaim.progress().copied, ByteCount::of(DATA), "{direction}: as on disk");
        drop(reclaim);
        assert!(store.held() < before + SMALL);
        // What two layers share is one's own as soon as it is written.
        fill(&engine.open_volume(volume)?, 0, DATA, 9)?;
        assert!(read_snapshot(&engine, upper)? == shown);
        assert_sound(&engine)?;
    }
    Ok(())
}

#[test]
fn a_full_snapshot_takes_no_memory_beside_what_it_copies() -> Outcome {
    let Site { store, engine, volume, upper, .. } = Site::new()?;
    let before = store.held();
    let full = engine.create_snapshot(&CreateSnapshot::new(volume, "full").in_full())?.uuid;
    let held = store.held();
    assert!(held < before + SMALL, "{held} after {before}");
    assert!(read_snapshot(&engine, full)? == read_snapshot(&engine, upper)?);
    assert!(read_volume(&engine, volume)? == read_snapshot(&engine, upper)?);
    assert_sound(&engine)
}
