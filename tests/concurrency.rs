//! Calls that meet: what holds of them in whatever order their threads go on.
//!
//! Built as usual, each scenario runs ten times, or `SNAPGROUP_SCHEDULES` times, on the threads of the system, over a store
//! whose calls give way to other threads. Built with `--cfg snapgroup_shuttle` (in `RUSTFLAGS`) a scheduler decides at every lock of the crate,
//! and at every call to the file of a layer, which thread goes on. A schedule that fails, or in which nobody can go on,
//! is printed, and comes again from the same seed: `SNAPGROUP_SEED` says which schedules, `SNAPGROUP_SCHEDULES` how many
//! of each scenario (1000 unless said otherwise). Not scheduled are the locks of the database and of the stores: nobody
//! waits in them for another thread.
//!
//! Races that were planted, and found within 50 schedules of each scenario: a machine's lock that is given back before the
//! commit of its group; heads that are frozen one by one, writes that no gate stops; a disk that is opened by what was
//! read before its lock was had; a repair that does not wait for files that are being made; a reclaim without the locks of
//! the volumes; no locks at all; a last handle that lets others in before it has flushed; a sweep beside those who read; a
//! verification that does not look again. A queue of commits that answers before its commit is found by the catalogue's
//! own tests, since its locks are not scheduled. Not found: a reader of a disk that does not hold its chain while it
//! reads, and a snapshot that is opened, or a merge that is ended, without the lock of the layout; a sealing that does not
//! look again before it is published. Found by threads alone: a merge that asks who reads before those have claimed their layers who are
//! just opening them; a check that does not look again at what was not clean.

#[path = "concurrency/explore.rs"]
mod explore;
#[path = "concurrency/pausing.rs"]
mod pausing;

use explore::{Threads, explore};
use pausing::PausingStore;
use snapgroup::storage::MemoryStore;
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction,
    Engine, Error, Ids, Options, ReclaimOptions, Refusal, Renew, RepairOptions, SealOptions, Step, Uuid,
    VerifyDepth, VerifyOf, When,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

type Outcome<T = ()> = Result<T, Error>;

const CLUSTER: usize = 512;
const SIZE: ByteCount = ByteCount::kib(32);

/// A pool as it was prepared once, of which each schedule has a copy.
struct Prepared {
    store: MemoryStore,
    machine: Uuid,
    disks: Vec<Uuid>,
    /// The snapshots of the first disk, and what each holds.
    snapshots: Vec<(Uuid, Vec<u8>)>,
}

static PREPARED: OnceLock<Prepared> = OnceLock::new();

fn open(store: &MemoryStore, seed: u64) -> Outcome<Engine> {
    let options = Options { clock: Clock::Stepping(0), ids: Ids::Seeded(seed), ..Options::default() };
    Engine::open_on(Arc::new(PausingStore(store.clone())), options)
}

/// A machine of two disks; the first one has four snapshots that write over each other, and data of its own.
fn prepare() -> Outcome<Prepared> {
    let store = MemoryStore::new();
    let engine = open(&store, 1)?;
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let mut disks = Vec::new();
    for name in ["root", "data"] {
        let wish = CreateVolume { cluster_bits: Some(9), ..CreateVolume::new(name, SIZE) };
        let wish = if name == "root" { wish.as_root() } else { wish };
        let disk = engine.create_volume(&wish)?.uuid;
        engine.attach_volume(disk, machine, None)?;
        disks.push(disk);
    }
    let mut snapshots = Vec::new();
    for byte in 1..=4_u8 {
        let disk = engine.open_volume(disks[0])?;
        disk.write_at(u64::from(byte) * 1024, &[byte; 3 * CLUSTER])?;
        disk.write_at(16_384, &[byte; CLUSTER])?;
        drop(disk);
        let snapshot = engine.create_snapshot(&CreateSnapshot::new(disks[0], format!("s{byte}")))?.uuid;
        snapshots.push((snapshot, content(&engine, snapshot)?));
    }
    engine.open_volume(disks[0])?.write_at(20_480, &[5; CLUSTER])?;
    engine.close()?;
    Ok(Prepared { store, machine, disks, snapshots })
}

fn content(engine: &Engine, snapshot: Uuid) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0xee; SIZE.as_usize()];
    engine.open_snapshot(snapshot)?.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A copy of the pool, open, with a first deletion behind it whose bytes are still there.
fn with_retired() -> Outcome<(Engine, &'static Prepared)> {
    let (engine, pool) = fresh()?;
    let deletion = DeleteSnapshots::all([pool.snapshots[1].0, pool.snapshots[3].0]);
    assert!(engine.delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..deletion })?.is_success());
    Ok((engine, pool))
}

fn fresh() -> Outcome<(Engine, &'static Prepared)> {
    let pool = PREPARED.get().expect("it was prepared first");
    Ok((open(&pool.store.fork(), 2)?, pool))
}

/// Everything that must hold in the end, whatever met.
fn assert_whole(engine: &Engine, living: &[&(Uuid, Vec<u8>)]) -> Outcome {
    let found = engine.check()?;
    assert!(found.is_sound() && found.unnamed.is_empty(), "{found:#?}");
    for (snapshot, expected) in living {
        assert!(content(engine, *snapshot)? == *expected, "a snapshot has changed");
    }
    Ok(())
}

/// Reads a snapshot over and over: it is there as it was, or it is not there.
fn read_while(engine: &Engine, snapshot: &(Uuid, Vec<u8>)) -> Outcome {
    for _ in 0..2 {
        match content(engine, snapshot.0) {
            Ok(found) => assert!(found == snapshot.1, "a snapshot has changed"),
            Err(Error::Refused(Refusal::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes to a disk and sees its own bytes, and those of nobody else in its range.
fn write_while(engine: &Engine, disk: Uuid) -> Outcome {
    let disk = engine.open_volume(disk)?;
    for byte in 0x10..0x13 {
        let range = vec![byte; 2 * CLUSTER + 100];
        disk.write_at(2000, &range)?;
        let mut found = vec![0; range.len()];
        disk.read_at(2000, &mut found)?;
        assert!(found == range, "what was written is not read");
    }
    disk.flush()
}

/// What the disk holds after [`write_while`] over the last snapshot.
fn assert_written(engine: &Engine, pool: &Prepared) -> Outcome {
    let mut expected = pool.snapshots[3].1.clone();
    expected[20_480..20_480 + CLUSTER].fill(5);
    expected[2000..2000 + 2 * CLUSTER + 100].fill(0x12);
    let mut found = vec![0; expected.len()];
    engine.open_volume(pool.disks[0])?.read_at(0, &mut found)?;
    assert!(found == expected, "the disk does not hold what was written");
    Ok(())
}

/// Goes on with a reclaim in small steps. What another call is in the way of may be owed.
fn reclaim_while(engine: &Engine, direction: Direction) -> Outcome {
    let mut reclaim = engine.reclaim(&ReclaimOptions::towards(direction))?;
    while reclaim.step(ByteCount::of(2 * CLUSTER))? == Step::More {}
    Ok(())
}

fn run(name: &str, scenario: fn() -> Outcome) {
    explore(
        name,
        || {
            if PREPARED.get().is_none() {
                let prepared = prepare().expect("nothing fails in memory");
                // Two tests may get here at once; one of the two is as good as the other.
                drop(PREPARED.set(prepared));
            }
        },
        move || scenario().expect("nothing fails in memory"),
    );
}

#[test]
fn a_group_is_of_one_moment_whatever_is_written_meanwhile() {
    run("a group is of one moment whatever is written meanwhile", || {
        let (engine, pool) = fresh()?;
        let mut threads = Threads::default();
        let disks = pool.disks.iter().map(|disk| engine.open_volume(*disk)).collect::<Outcome<Vec<_>>>()?;
        threads.start({
            let disks = disks.clone();
            move || {
                for byte in 1..=3 {
                    disks[0].write_at(0, &[byte; 8])?;
                    disks[1].write_at(0, &[byte; 8])?;
                }
                Ok(())
            }
        });
        threads.start({
            let disk = disks[1].clone();
            move || {
                disk.write_at(4096, &[7; 700])?;
                disk.flush()
            }
        });
        for name in ["one", "other"] {
            let engine = engine.clone();
            threads.start(move || {
                let group = engine.create_group(&CreateGroup::of_machine(pool.machine, name))?.inventory;
                let mut seen = Vec::new();
                for member in &group.volume_snapshot_refs {
                    let found = content(&engine, member.volume_snapshot_uuid)?;
                    assert!(found[..8].iter().all(|byte| *byte == found[0]), "half a write is in a group");
                    let later = &found[4096..4796];
                    assert!(
                        later.iter().all(|byte| *byte == later[0]) || member.volume_uuid == pool.disks[0],
                        "half a write is in a group"
                    );
                    seen.push(found[0]);
                }
                // The second disk is written after the first one.
                assert!(seen[1] <= seen[0] && seen[0] <= seen[1] + 1, "no moment was like this: {seen:?}");
                Ok(())
            });
        }
        threads.join();
        for disk in &disks {
            let mut found = [0; 8];
            disk.read_at(0, &mut found)?;
            assert_eq!(found, [3; 8]);
        }
        let living: Vec<_> = pool.snapshots.iter().collect();
        assert_whole(&engine, &living)
    });
}

#[test]
fn a_disk_that_is_opened_while_its_head_changes_writes_to_the_new_one() {
    run("a disk that is opened while its head changes writes to the new one", || {
        let (engine, pool) = fresh()?;
        let disk = pool.disks[1];
        let mut threads = Threads::default();
        threads.start({
            let engine = engine.clone();
            move || {
                for byte in 1..=2 {
                    engine.open_volume(disk)?.write_at(0, &[byte; 8])?;
                    let mut found = [0; 8];
                    engine.open_volume(disk)?.read_at(0, &mut found)?;
                    assert_eq!(found, [byte; 8], "what was written is not read");
                }
                Ok(())
            }
        });
        threads.start({
            let engine = engine.clone();
            move || {
                for name in ["one", "other"] {
                    let snapshot = engine.create_snapshot(&CreateSnapshot::new(disk, name))?.uuid;
                    let (before, after) = (content(&engine, snapshot)?, content(&engine, snapshot)?);
                    assert!(before == after, "a snapshot has changed");
                }
                Ok(())
            }
        });
        threads.join();
        let mut found = [0; 8];
        engine.open_volume(disk)?.read_at(0, &mut found)?;
        assert_eq!(found, [2; 8], "a write is lost");
        let living: Vec<_> = pool.snapshots.iter().collect();
        assert_whole(&engine, &living)
    });
}

#[test]
fn a_deletion_takes_nothing_from_those_who_read() {
    run("a deletion takes nothing from those who read", || {
        let (engine, pool) = fresh()?;
        let mut threads = Threads::default();
        for snapshot in [&pool.snapshots[1], &pool.snapshots[2]] {
            let engine = engine.clone();
            threads.start(move || read_while(&engine, snapshot));
        }
        threads.start({
            let engine = engine.clone();
            move || engine.delete_snapshots(&DeleteSnapshots::one(pool.snapshots[1].0)).map(drop)
        });
        threads.start({
            let engine = engine.clone();
            move || write_while(&engine, pool.disks[0])
        });
        threads.join();
        assert_written(&engine, pool)?;
        assert_whole(&engine, &[&pool.snapshots[0], &pool.snapshots[2], &pool.snapshots[3]])
    });
}

#[test]
fn a_snapshot_that_is_being_opened_when_it_is_deleted_and_written_to_reads_as_it_was() {
    run("a snapshot that is being opened when it is deleted and written to reads as it was", || {
        let (engine, pool) = fresh()?;
        let mut threads = Threads::default();
        threads.start({
            let engine = engine.clone();
            move || read_while(&engine, &pool.snapshots[1])
        });
        threads.start({
            let engine = engine.clone();
            move || {
                let deletion = DeleteSnapshots::one(pool.snapshots[1].0);
                let deleted =
                    engine.delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..deletion })?;
                assert!(deleted.is_success());
                reclaim_while(&engine, Direction::Commit)
            }
        });
        threads.join();
        assert_whole(&engine, &[&pool.snapshots[0], &pool.snapshots[2], &pool.snapshots[3]])
    });
}

fn reclaim_against_writes_and_reads(direction: Direction) -> Outcome {
    let (engine, pool) = with_retired()?;
    let mut threads = Threads::default();
    threads.start({
        let engine = engine.clone();
        move || reclaim_while(&engine, direction)
    });
    threads.start({
        let engine = engine.clone();
        move || write_while(&engine, pool.disks[0])
    });
    threads.start({
        let engine = engine.clone();
        move || read_while(&engine, &pool.snapshots[2])
    });
    threads.join();
    assert_written(&engine, pool)?;
    assert_whole(&engine, &[&pool.snapshots[0], &pool.snapshots[2]])
}

#[test]
fn a_merge_upwards_shows_writers_and_readers_the_same() {
    run("a merge upwards shows writers and readers the same", || {
        reclaim_against_writes_and_reads(Direction::Pull)
    });
}

#[test]
fn a_merge_downwards_shows_writers_and_readers_the_same() {
    run("a merge downwards shows writers and readers the same", || {
        reclaim_against_writes_and_reads(Direction::Commit)
    });
}

#[test]
fn freeing_in_place_shows_writers_and_readers_the_same() {
    run("freeing in place shows writers and readers the same", || {
        reclaim_against_writes_and_reads(Direction::Auto)
    });
}

#[test]
fn two_reclaims_do_not_do_each_others_work_twice() {
    run("two reclaims do not do each others work twice", || {
        let (engine, pool) = with_retired()?;
        let mut threads = Threads::default();
        for direction in [Direction::Pull, Direction::Commit] {
            let engine = engine.clone();
            threads.start(move || reclaim_while(&engine, direction));
        }
        threads.join();
        engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
        assert_eq!(engine.chain(pool.disks[0])?.len(), 3, "a retired layer is left");
        assert_whole(&engine, &[&pool.snapshots[0], &pool.snapshots[2]])
    });
}

#[test]
fn a_repair_takes_no_file_from_a_call_that_is_making_it() {
    run("a repair takes no file from a call that is making it", || {
        let (engine, pool) = fresh()?;
        let is_repaired = Arc::new(AtomicBool::new(false));
        let mut threads = Threads::default();
        threads.start({
            let (engine, is_repaired) = (engine.clone(), Arc::clone(&is_repaired));
            move || {
                // A repair takes longer than a volume: one is being made at any moment of it.
                for number in 0..200 {
                    if is_repaired.load(Ordering::Relaxed) {
                        break;
                    }
                    let wish = CreateVolume::new(format!("v{number}"), SIZE);
                    engine.create_volume(&CreateVolume { cluster_bits: Some(9), ..wish })?;
                }
                Ok(())
            }
        });
        threads.start({
            let engine = engine.clone();
            move || {
                let repaired = engine.repair(&RepairOptions::perform());
                is_repaired.store(true, Ordering::Relaxed);
                let removed = repaired?.removed;
                assert!(removed.is_empty(), "a file was taken for nobody's: {removed:?}");
                Ok(())
            }
        });
        threads.join();
        let living: Vec<_> = pool.snapshots.iter().collect();
        assert_whole(&engine, &living)
    });
}

#[test]
fn a_handle_that_is_dropped_without_a_flush_loses_nothing() {
    run("a handle that is dropped without a flush loses nothing", || {
        let (engine, pool) = fresh()?;
        let mut threads = Threads::default();
        for index in 0..3_u8 {
            let engine = engine.clone();
            threads.start(move || {
                let at = 1000 + u64::from(index) * 700;
                engine.open_volume(pool.disks[1])?.write_at(at, &[index + 1; 700])?;
                let mut found = [0; 700];
                engine.open_volume(pool.disks[1])?.read_at(at, &mut found)?;
                assert_eq!(found, [index + 1; 700], "what was written is not read");
                Ok(())
            });
        }
        threads.join();
        let mut found = [0; 2100];
        engine.open_volume(pool.disks[1])?.read_at(1000, &mut found)?;
        assert!((0..2100).all(|at| usize::from(found[at]) == at / 700 + 1), "a write is lost");
        assert_whole(&engine, &[])
    });
}

#[test]
fn a_seal_that_is_made_while_layers_are_merged_is_of_what_is_there() {
    run("a seal that is made while layers are merged is of what is there", || {
        let (engine, pool) = with_retired()?;
        let mut threads = Threads::default();
        for direction in [Direction::Pull, Direction::Commit] {
            let engine = engine.clone();
            threads.start(move || reclaim_while(&engine, direction));
        }
        threads.start({
            let engine = engine.clone();
            move || {
                let mut sealing = engine.seal(&SealOptions::default())?;
                while sealing.step(ByteCount::of(2 * CLUSTER))? == Step::More {}
                let found = engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?;
                assert!(found.is_good(), "a merge was taken for damage: {found:?}");
                Ok(())
            }
        });
        threads.join();
        let found = engine.verify(&VerifyOf::Pool, VerifyDepth::Content)?;
        assert!(found.is_good(), "a merge was taken for damage: {found:?}");
        assert_whole(&engine, &[&pool.snapshots[0], &pool.snapshots[2]])
    });
}

/// How often a pool is checked while something else is done to it. A scheduler lets them meet at every call.
const CHECKS: usize = if cfg!(snapgroup_shuttle) { 2 } else { 200 };

/// Checks the pool over and over while something else is done to it: all the time it is clean.
fn check_against(work: impl FnOnce(&Engine, &Prepared) -> Outcome + Send + 'static) -> Outcome {
    let (engine, pool) = with_retired()?;
    let is_done = Arc::new(AtomicBool::new(false));
    let mut threads = Threads::default();
    threads.start({
        let (engine, is_done) = (engine.clone(), Arc::clone(&is_done));
        move || {
            let done = work(&engine, pool);
            is_done.store(true, Ordering::Relaxed);
            done
        }
    });
    threads.start({
        let engine = engine.clone();
        move || {
            for _ in 0..CHECKS {
                let found = engine.check()?;
                assert!(found.is_clean(), "what is under way was taken for damage: {found:#?}");
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok(())
        }
    });
    threads.join();
    assert_whole(&engine, &[&pool.snapshots[0], &pool.snapshots[2]])
}

#[test]
fn a_check_takes_no_merge_for_damage() {
    run("a check takes no merge for damage", || {
        check_against(|engine, _| reclaim_while(engine, Direction::Pull))?;
        check_against(|engine, _| reclaim_while(engine, Direction::Commit))
    });
}

#[test]
fn a_check_takes_no_disk_that_grows_and_no_guest_for_damage() {
    run("a check takes no disk that grows and no guest for damage", || {
        check_against(|engine, pool| {
            for round in 1..=8 {
                engine.resize_volume(pool.disks[1], SIZE + ByteCount::kib(32 * round))?;
                let disk = engine.open_volume(pool.disks[1])?;
                disk.write_at(1024 * round, &[7; 20 * CLUSTER])?;
                disk.discard(0, 16_384)?;
            }
            Ok(())
        })
    });
}

#[test]
fn a_check_takes_no_sealing_for_a_file_of_nobody() {
    run("a check takes no sealing for a file of nobody", || {
        check_against(|engine, _| {
            for _ in 0..4 {
                let all = SealOptions { renew: Renew::All, ..SealOptions::default() };
                assert!(engine.seal(&all)?.finish()?.failed.is_empty());
            }
            // Each merge crosses out what was sealed.
            reclaim_while(engine, Direction::Pull)
        })
    });
}
