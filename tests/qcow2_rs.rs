//! The device of qcow2-rs over our chains reads what we read, and what it would read wrong is refused.

use snapgroup::qcow2_rs::{DeviceError, Rule, SnapshotDevice};
use snapgroup::storage::DiskStore;
use snapgroup::{
    ByteCount, CreateSnapshot, CreateVolume, DeleteSnapshots, Direction, Engine, L2Entries, Options,
    ReclaimOptions, Uuid, When,
};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs a future that never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a future of the device waits"),
    }
}

const SIZE: ByteCount = ByteCount::mib(8);

/// A volume with snapshots, each after writes of its own at random places; the seed is printed.
fn layered(
    engine: &Engine,
    request: &CreateVolume,
    depth: u64,
    seed: u64,
) -> Result<(Uuid, Vec<Uuid>), snapgroup::Error> {
    println!("seed {seed}");
    let mut dice = seed;
    let mut next = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    let volume = engine.create_volume(request)?.uuid;
    let disk = engine.open_volume(volume)?;
    let mut snapshots = Vec::new();
    for layer in 0..depth {
        for _ in 0..24 {
            let at = next(SIZE.as_u64() - 200_000);
            match next(4) {
                0 => disk.write_zeroes(at, next(200_000))?,
                1 => disk.discard(at, next(200_000))?,
                _ => {
                    let length = usize::try_from(next(200_000)).expect("a small number");
                    disk.write_at(
                        at,
                        &vec![u8::try_from(layer * 16 + next(15) + 1).expect("a byte"); length],
                    )?;
                }
            }
        }
        snapshots.push(engine.create_snapshot(&CreateSnapshot::new(volume, format!("s{layer}")))?.uuid);
    }
    Ok((volume, snapshots))
}

/// Compares every byte, in reads of many lengths.
fn assert_same(engine: &Engine, snapshot: Uuid, device: &SnapshotDevice) -> Outcome {
    let ours = engine.open_snapshot(snapshot)?;
    assert_eq!(ours.size(), device.size());
    let (mut at, mut length) = (0_u64, 512_usize);
    while at < SIZE.as_u64() {
        let rest = usize::try_from(SIZE.as_u64() - at)?;
        let here = length.min(rest);
        let (mut one, mut other) = (vec![0xAA; here], vec![0x55; here]);
        ours.read_at(at, &mut one)?;
        ready(device.read_at(at, &mut other))?;
        assert!(one == other, "{here} bytes at {at:#x} differ");
        at += here as u64;
        length = (length * 3 + 512) % 700_416 / 512 * 512 + 512;
    }
    Ok(())
}

#[test]
fn a_chain_of_ours_reads_through_the_device_as_we_read_it() -> Outcome {
    let engine = Engine::in_memory(Options::default())?;
    for (cluster_bits, seed) in [(12, 1), (16, 2), (21, 3)] {
        let request = CreateVolume { cluster_bits: Some(cluster_bits), ..CreateVolume::new("disk", SIZE) };
        let (_, snapshots) = layered(&engine, &request, 6, seed)?;
        for snapshot in snapshots {
            assert_same(&engine, snapshot, &ready(SnapshotDevice::open(&engine, snapshot))?)?;
        }
    }
    Ok(())
}

#[test]
fn a_device_goes_on_reading_the_same_while_layers_below_it_are_reclaimed() -> Outcome {
    let directory = tempfile::tempdir()?;
    let engine = Engine::open(directory.path(), Options::default())?;
    for (seed, direction) in [(4, Direction::Pull), (5, Direction::Commit), (6, Direction::Auto)] {
        let (_, snapshots) = layered(&engine, &CreateVolume::new("disk", SIZE), 6, seed)?;
        let devices: Vec<_> = [2, 4, 5]
            .into_iter()
            .map(|place| Ok((snapshots[place], ready(SnapshotDevice::open(&engine, snapshots[place]))?)))
            .collect::<Result<_, DeviceError>>()?;
        let gone = [snapshots[1], snapshots[3]];
        assert!(
            engine
                .delete_snapshots(&DeleteSnapshots { reclaim: When::Later, ..DeleteSnapshots::all(gone) })?
                .is_success()
        );
        engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
        for (snapshot, device) in &devices {
            assert_same(&engine, *snapshot, device)?;
        }
    }
    Ok(())
}

#[track_caller]
fn assert_refused(engine: &Engine, snapshot: Uuid, expected: &Rule) {
    match ready(SnapshotDevice::open(engine, snapshot)) {
        Err(DeviceError::Guard { rule, .. }) => assert_eq!(&rule, expected),
        other => panic!("{other:?}, and not refused with {expected:?}"),
    }
}

#[test]
fn what_it_would_read_wrong_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let store: Arc<DiskStore> = Arc::new(DiskStore::create(directory.path())?);
    let engine = Engine::open_on(store, Options::default())?;
    let taken = |volume: Uuid| engine.create_snapshot(&CreateSnapshot::new(volume, "s"));

    // A disk that has grown.
    let grown = engine.create_volume(&CreateVolume::new("grown", SIZE))?.uuid;
    let small = taken(grown)?.uuid;
    engine.resize_volume(grown, ByteCount::mib(16))?;
    assert_refused(
        &engine,
        taken(grown)?.uuid,
        &Rule::SmallerThanAbove { size: SIZE, above: ByteCount::mib(16) },
    );
    assert!(ready(SnapshotDevice::open(&engine, small)).is_ok());

    let extended = CreateVolume { l2: Some(L2Entries::Extended), ..CreateVolume::new("extended", SIZE) };
    let extended = engine.create_volume(&extended)?.uuid;
    assert_refused(&engine, taken(extended)?.uuid, &Rule::Features);

    let fine = CreateVolume { cluster_bits: Some(11), ..CreateVolume::new("fine", SIZE) };
    let fine = engine.create_volume(&fine)?.uuid;
    assert_refused(&engine, taken(fine)?.uuid, &Rule::Clusters { size: ByteCount::kib(2) });

    std::fs::write(directory.path().join("disk.raw"), vec![7; 1 << 20])?;
    let raw = snapgroup::AdoptVolume::new("disk.raw", snapgroup::LayerFormat::Raw, "raw");
    let raw = engine.adopt_volume(&raw)?.uuid;
    assert_refused(&engine, taken(raw)?.uuid, &Rule::Raw);
    Ok(())
}

#[test]
fn a_read_that_is_not_of_whole_sectors_inside_the_disk_is_refused_and_every_write_fails() -> Outcome {
    let engine = Engine::in_memory(Options::default())?;
    let (_, snapshots) = layered(&engine, &CreateVolume::new("disk", SIZE), 2, 9)?;
    let device = ready(SnapshotDevice::open(&engine, snapshots[1]))?;
    for (at, length) in
        [(1, 512), (512, 100), (SIZE.as_u64(), 512), (SIZE.as_u64() - 512, 1024), (u64::MAX - 511, 512)]
    {
        let refused = ready(device.read_at(at, &mut vec![0; length]));
        assert!(matches!(refused, Err(DeviceError::Outside { .. })), "{length} at {at}: {refused:?}");
    }
    ready(device.read_at(0, &mut []))?;
    assert!(ready(device.device().write_at(&[1; 512], 0)).is_err());
    assert_same(&engine, snapshots[1], &device)
}
