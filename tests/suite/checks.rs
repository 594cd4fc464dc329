//! Checks of whole pools.

use crate::support::{Home, Outcome, fill, make_machine, on_every_store, take};
use snapgroup::{
    CreateSnapshot, DeleteSnapshots, Direction, Engine, Event, Listener, PoolCheck, ReclaimOptions, When,
    Work,
};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

on_every_store! {
    a_check_answers_the_same_however_many_files_it_looks_at_side_by_side
}

fn a_check_answers_the_same_however_many_files_it_looks_at_side_by_side(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    for byte in 1..=15 {
        for disk in &vm.disks {
            fill(&engine.open_volume(*disk)?, 4096 * u64::from(byte), 9000, byte)?;
        }
        take(&engine, &vm, &format!("g{byte}"))?;
    }
    let mut chains = Vec::new();
    for disk in &vm.disks {
        chains.push(engine.chain(*disk)?);
    }
    engine.close()?;
    // One is no image any more, one is another one, and two are gone.
    home.patch(&chains[0][3].file, 0, b"none")?;
    home.put(&chains[2][2].file, &home.bytes(&chains[2][7].file)?)?;
    home.remove(&chains[1][4].file)?;
    home.remove(&chains[2][11].file)?;
    let check = |threads| -> Result<PoolCheck, Box<dyn std::error::Error>> {
        let engine = home.open_with(|options| options.threads = NonZeroUsize::new(threads))?;
        Ok(engine.check()?)
    };
    let alone = check(1)?;
    assert_eq!((alone.layers_checked, alone.layers.len(), alone.missing.len()), (48, 2, 2));
    for threads in [2, 3, 7, 100, 1 << 60, usize::MAX] {
        assert_eq!(check(threads)?, alone, "{threads} threads");
    }
    assert_eq!(check(0)?, alone, "as many as there are unless it is said");
    Ok(())
}

/// Whoever opens layers would wait behind him.
#[test]
fn who_ends_a_merge_does_not_wait_for_the_end_of_a_check() -> Outcome {
    let home = Home::memory();
    let to_merge: Arc<Mutex<Option<Engine>>> = Arc::default();
    let is_merged = Arc::new(AtomicBool::new(false));
    let listener = Listener::new({
        let (to_merge, is_merged) = (Arc::clone(&to_merge), Arc::clone(&is_merged));
        move |event| {
            let Event::Progress { work: Work::Check, .. } = event else { return };
            let Some(engine) = to_merge.lock().ok().and_then(|mut engine| engine.take()) else { return };
            let merging = thread::spawn(move || {
                let up = engine.reclaim(&ReclaimOptions::towards(Direction::Pull));
                up.and_then(|reclaim| reclaim.finish().map(drop))
            });
            // As long as it takes; where it waits for the check, an end all the same.
            let is_done = (0..5_000_000).any(|_| {
                thread::yield_now();
                merging.is_finished()
            });
            is_merged.store(is_done, Ordering::Relaxed);
        }
    });
    let engine = home.open_with(|options| options.listener = listener)?;
    let vm = make_machine(&engine, 1)?;
    let mut snapshots = Vec::new();
    for byte in 1..=2 {
        fill(&engine.open_volume(vm.root())?, 4096 * u64::from(byte), 9000, byte)?;
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(vm.root(), "s"))?.uuid);
    }
    let later = DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::one(snapshots[0]) };
    assert!(engine.delete_snapshots(&later)?.is_success());
    *to_merge.lock().map_err(|_| "nobody panics")? = Some(engine.clone());
    let found = engine.check()?;
    assert!(is_merged.load(Ordering::Relaxed), "the merge waited");
    assert!(found.is_clean(), "{found:?}");
    assert_eq!(engine.chain(vm.root())?.len(), 2);
    Ok(())
}
