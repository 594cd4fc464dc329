//! What is under way when the power is cut: each a program of a few public calls on any pool.

use crate::dice::Dice;
use crate::world::{Made, World};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::GuestOffset;
use snapgroup::{
    AdoptVolume, ByteCount, CreateGroup, CreateSnapshot, CreateVolume, DeleteGroup, DeleteMode, DeleteScope,
    DeleteSnapshots, DeleteVolume, Direction, Export, ImportFrom, ImportVolume, LayerFormat, Members,
    ReclaimOptions, RepairOptions, RevertGroup, RevertVolume, SealOptions, SnapshotMode, Step,
    UpdateSnapshot, Uuid, When,
};

/// A program, by its name.
pub(crate) type Operation = (&'static str, fn(&mut World) -> Made<()>);

/// Every program that runs in every pool.
pub(crate) const OPERATIONS: &[Operation] = &[
    ("create volume", |world| {
        world.create(&CreateVolume::new("new", ByteCount::kib(8)), vec![0; 8192]).map(drop)
    }),
    ("clone", clone),
    ("volume above a base", above),
    ("adopt", adopt),
    ("write", write),
    ("discard", discard),
    ("resize", resize),
    ("snapshot", |world| {
        let disk = world.disk(0);
        world.write(disk, 700, 900, 33)?;
        world.snapshot(disk)?;
        world.write(disk, 600, 300, 34)?;
        world.flush(disk)
    }),
    ("group", group),
    ("full snapshot", |world| {
        let disk = world.disk(0);
        world.write(disk, 700, 900, 43)?;
        world.snapshot_as(&CreateSnapshot::new(disk, "full").in_full())?;
        world.write(disk, 600, 300, 44)?;
        world.flush(disk)
    }),
    ("full group", |world| {
        let (disk, Some(machine)) = (world.disk(0), world.things.machine) else { return Ok(()) };
        world.write(disk, 800, 700, 45)?;
        let wish = CreateGroup { mode: SnapshotMode::Full, ..CreateGroup::of_machine(machine, "full") };
        world.group_as(&wish).map(drop)
    }),
    ("delete, permissive", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        let deleted = world.engine().delete_snapshots(&DeleteSnapshots::one(snapshot));
        world.deleted(deleted)
    }),
    ("delete, enforcing, with all that descends", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        let wish = DeleteSnapshots {
            mode: DeleteMode::Enforcing,
            scope: DeleteScope::Chain,
            members: Members::EachOnItsOwn,
            ..DeleteSnapshots::one(snapshot)
        };
        let deleted = world.engine().delete_snapshots(&wish);
        world.deleted(deleted)
    }),
    ("delete group", |world| {
        let Some(group) = world.things.groups.first().copied() else { return Ok(()) };
        let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::new(group) };
        let deleted = world.engine().delete_group(&wish);
        world.deleted(deleted)
    }),
    ("delete group, each member on its own", |world| {
        let Some(group) = world.things.groups.first().copied() else { return Ok(()) };
        let wish = DeleteGroup { mode: DeleteMode::Enforcing, ..DeleteGroup::as_the_api_does(group) };
        let deleted = world.engine().delete_group(&wish);
        world.deleted(deleted)
    }),
    ("unlink", |world| {
        // The newest one is left by the revert to an older one, and nothing is above it.
        let (Some(old), Some(new)) = (world.things.snapshots.first(), world.things.snapshots.last()) else {
            return Ok(());
        };
        let (old, new) = (*old, *new);
        let reverted = world.engine().revert_volume(&RevertVolume::to(old));
        world.reverted(reverted)?;
        delete_later(world, &[new])?;
        reclaim(world, Direction::Auto, u64::MAX)
    }),
    ("pull", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        delete_later(world, &[snapshot])?;
        reclaim(world, Direction::Pull, 1200)
    }),
    ("commit", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        delete_later(world, &[snapshot])?;
        reclaim(world, Direction::Commit, 1200)
    }),
    ("merge all", |world| {
        let all = world.things.snapshots.clone();
        delete_later(world, &all)?;
        reclaim(world, Direction::Auto, u64::MAX)
    }),
    ("punch", |world| {
        // A fork: two layers above one whose snapshot goes, both written all over.
        let disk = world.disk(0);
        let fork = world.snapshot(disk)?;
        let size = world.size(disk).min(16_384);
        world.write(disk, 0, size, 41)?;
        world.snapshot(disk)?;
        world.handles.clear();
        let reverted = world.engine().revert_volume(&RevertVolume::to(fork));
        world.reverted(reverted)?;
        world.write(disk, 0, size, 42)?;
        world.flush(disk)?;
        delete_later(world, &[fork])?;
        reclaim(world, Direction::Auto, u64::MAX)
    }),
    ("revert", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        let reverted = world.engine().revert_volume(&RevertVolume::to(snapshot));
        world.reverted(reverted)
    }),
    ("revert, the present kept", |world| {
        let Some(snapshot) = world.things.snapshots.first().copied() else { return Ok(()) };
        let reverted = world.engine().revert_volume(&RevertVolume::to(snapshot).keeping());
        world.reverted(reverted)?;
        let disk = world.disk(0);
        world.write(disk, 0, 1000, 35)?;
        world.flush(disk)
    }),
    ("revert, and back", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        let reverted = world.engine().revert_volume(&RevertVolume::to(snapshot).keeping())?;
        let kept = reverted.kept[0].uuid;
        world.reverted(Ok(reverted))?;
        let back = world.engine().revert_volume(&RevertVolume::to(kept));
        world.reverted(back)
    }),
    ("revert group", |world| {
        let Some(group) = world.things.groups.first().copied() else { return Ok(()) };
        let reverted = world.engine().revert_group(&RevertGroup::new(group).keeping());
        world.reverted(reverted)
    }),
    ("ungroup", |world| {
        let Some(group) = world.things.groups.first().copied() else { return Ok(()) };
        world.engine().ungroup(group)?;
        world.forget_gone()?;
        world.done()
    }),
    ("export", export),
    ("import", |world| import(world, "foreign.qcow2", 8)),
    ("import of nothing", |world| import(world, "hollow.qcow2", 0)),
    ("seal", seal),
    ("repair", |world| {
        let disk = world.disk(0);
        world.write(disk, 300, 900, 47)?;
        world.flush(disk)?;
        world.handles.clear();
        // When a call fails it may leave what it could not look at.
        drop(world.engine().repair(&RepairOptions::perform())?);
        world.done()
    }),
    ("hold, release and rename", |world| {
        let Some(snapshot) = middle(world) else { return Ok(()) };
        world.engine().hold(snapshot, "somebody")?;
        world.done()?;
        world.engine().release(snapshot, "somebody")?;
        world.done()?;
        let update = UpdateSnapshot { name: Some("other".into()), ..UpdateSnapshot::default() };
        world.engine().update_snapshot(snapshot, &update)?;
        world.done()
    }),
    ("delete volume", |world| {
        let wish = DeleteVolume { mode: DeleteMode::Enforcing, ..DeleteVolume::new(world.disk(0)) };
        let deleted = world.engine().delete_volume(&wish);
        world.deleted(deleted)
    }),
    ("detach and attach", |world| {
        let (disk, Some(machine)) = (world.disk(0), world.things.machine) else { return Ok(()) };
        world.engine().detach_volume(disk, machine)?;
        world.done()?;
        world.engine().attach_volume(disk, machine, None)?;
        world.done()
    }),
    ("close", |world| {
        let disk = world.disk(0);
        world.write(disk, 1000, 700, 36)?;
        world.close()
    }),
    ("groups of new heads", |world| {
        if world.things.machine.is_none() {
            return Ok(());
        }
        world.group()?;
        // The heads of now, and the empty ones below them.
        world.group()?;
        let disk = world.disk(0);
        world.write(disk, 900, 300, 48)?;
        world.discard(disk, 0, 512)?;
        world.group()?;
        world.write(disk, 900, 300, 49)
    }),
    ("close, heads never written", |world| {
        let disk = world.disk(0);
        world.snapshot(disk)?;
        world.snapshot(disk)?;
        world.close()
    }),
    ("merge of new heads", |world| {
        let disk = world.disk(0);
        let empty = world.snapshot(disk)?;
        let other = world.snapshot(disk)?;
        world.resize(disk, world.size(disk) + 1024)?;
        delete_later(world, &[empty, other])?;
        reclaim(world, Direction::Auto, u64::MAX)
    }),
    ("zeros in a new head", |world| {
        let disk = world.disk(0);
        world.snapshot(disk)?;
        world.zeroes(disk, 0, 2048)?;
        world.flush(disk)?;
        world.snapshot(disk)?;
        world.discard(disk, 4096, 2048)?;
        world.flush(disk)
    }),
    ("another program writes a new head", beside),
];

/// A group of many disks, on a pool of its own.
pub(crate) const MANY: Operation = ("group", group);

/// A volume in a new pool.
pub(crate) const FRESH: Operation = ("open new", |world| {
    let disk = world.create(&CreateVolume::new("first", ByteCount::kib(8)), vec![0; 8192])?;
    world.write(disk, 500, 600, 30)?;
    world.flush(disk)
});

/// Sixty random writes, of which each tenth is followed by a flush.
pub(crate) const TRACE: Operation = ("trace", |world| {
    let disk = world.disk(0);
    let (size, mut dice) = (world.size(disk), Dice::of(5));
    for nth in 1..=60_u8 {
        let length = 1 + dice.roll(1500);
        let at = dice.roll(size - length);
        world.write(disk, at, length, nth)?;
        if nth % 10 == 0 {
            world.flush(disk)?;
        }
    }
    Ok(())
});

/// A snapshot of the first disk that has a parent and a child where there is one.
fn middle(world: &World) -> Option<Uuid> {
    let snapshots = &world.things.snapshots;
    snapshots.get(snapshots.len() / 2).copied()
}

fn clone(world: &mut World) -> Made<()> {
    let Some(snapshot) = world.things.snapshots.first().copied() else { return Ok(()) };
    let content = world.content.snapshots[&snapshot].to_vec();
    let disk = world.create(&CreateVolume::of_snapshot("clone", snapshot), content)?;
    world.write(disk, 300, 900, 37)?;
    world.flush(disk)
}

fn above(world: &mut World) -> Made<()> {
    let wish = CreateVolume::above("above", "golden.raw", LayerFormat::Raw);
    let mut content = vec![0; 8192];
    content[..3000].fill(9);
    let disk = world.create(&wish, content)?;
    world.write(disk, 2000, 2000, 38)?;
    world.flush(disk)
}

fn adopt(world: &mut World) -> Made<()> {
    let made =
        world.engine().adopt_volume(&AdoptVolume::new("foreign.qcow2", LayerFormat::Qcow2, "adopted"))?;
    let mut content = vec![0; 8192];
    content[1000..3000].fill(8);
    world.made(made.uuid, content);
    world.done()?;
    world.write(made.uuid, 0, 1500, 39)?;
    world.flush(made.uuid)
}

fn write(world: &mut World) -> Made<()> {
    let disk = world.disk(0);
    let size = world.size(disk);
    world.write(disk, 100, 1200, 21)?;
    world.write(disk, size - 700, 600, 22)?;
    world.flush(disk)?;
    world.write(disk, 900, 600, 23)?;
    world.write(disk, 5000, 200, 24)?;
    world.flush(disk)
}

fn discard(world: &mut World) -> Made<()> {
    let disk = world.disk(0);
    world.discard(disk, 0, 3000)?;
    world.zeroes(disk, 4000, 1500)?;
    world.flush(disk)?;
    world.write(disk, 600, 1500, 25)?;
    world.flush(disk)
}

fn resize(world: &mut World) -> Made<()> {
    let disk = world.disk(0);
    let size = world.size(disk);
    // The second time the L1 table gets larger, too.
    world.resize(disk, size + 1024)?;
    world.resize(disk, size + 70_000 / 512 * 512)?;
    world.write(disk, size - 100, 1500, 26)?;
    world.flush(disk)
}

fn group(world: &mut World) -> Made<()> {
    if world.things.machine.is_none() {
        return Ok(());
    }
    for index in 0..world.things.disks.len().min(2) {
        let disk = world.disk(index);
        world.write(disk, 800, 700, 27)?;
    }
    world.group()?;
    let disk = world.disk(0);
    world.write(disk, 900, 300, 28)?;
    world.flush(disk)
}

/// The process of the pool is killed, and another program writes the head that was made last, as an emulator does that
/// outlives it.
fn beside(world: &mut World) -> Made<()> {
    let disk = world.disk(0);
    world.snapshot(disk)?;
    let size = world.size(disk);
    let Some(head) = world.kill(disk)? else { return Ok(()) };
    let image = Image::open(head, "head", Access::Write, Limits::default())?;
    // Whole clusters: what is below need not be known.
    let length = size.min(image.geometry().cluster_size().as_usize());
    for byte in [50, 51] {
        image.write(GuestOffset::ZERO, &vec![byte; length], None)?;
        world.written_beside(disk, length, byte);
        image.flush()?;
        world.synced_beside(disk);
    }
    Ok(())
}

fn export(world: &mut World) -> Made<()> {
    let Some(snapshot) = world.things.snapshots.last().copied() else { return Ok(()) };
    let disk = world.disk(0);
    world.write(disk, 0, 600, 29)?;
    let target = MemoryStore::new().create(&BlobName::parse("export").expect("one component"))?;
    world.engine().export(snapshot, &Export::qcow2(), target)?;
    world.done()?;
    world.flush(disk)
}

/// Copies a file of 8 KiB that holds `byte` in the middle.
fn import(world: &mut World, file: &str, byte: u8) -> Made<()> {
    let from = ImportFrom::Pool(file.into());
    let mut importer = world.engine().importer(&ImportVolume::new(from, LayerFormat::Qcow2, "imported"))?;
    while importer.step(ByteCount::kib(1))? == Step::More {
        world.done()?;
    }
    let made = importer.finish()?;
    let mut content = vec![0; 8192];
    content[1000..3000].fill(byte);
    world.made(made.uuid, content);
    world.done()?;
    world.write(made.uuid, 0, 1500, 46)?;
    world.flush(made.uuid)
}

/// Seals everything, writes to a sealed layer as a merge does, and seals that one anew.
fn seal(world: &mut World) -> Made<()> {
    for again in [false, true] {
        if let (true, Some(snapshot)) = (again, middle(world)) {
            delete_later(world, &[snapshot])?;
            reclaim(world, Direction::Pull, u64::MAX)?;
        }
        let mut sealing = world.engine().seal(&SealOptions::default())?;
        while sealing.step(ByteCount::kib(4))? == Step::More {
            world.done()?;
        }
        // What could not be sealed is in the answer, and no error.
        world.refused += sealing.sealed().failed.len();
        world.done()?;
    }
    Ok(())
}

pub(crate) fn delete_later(world: &mut World, snapshots: &[Uuid]) -> Made<()> {
    if snapshots.is_empty() {
        return Ok(());
    }
    let wish = DeleteSnapshots {
        reclaim: When::Later,
        mode: DeleteMode::Enforcing,
        ..DeleteSnapshots::all(snapshots.iter().copied())
    };
    let deleted = world.engine().delete_snapshots(&wish);
    world.deleted(deleted)
}

/// Reclaims in steps of so many bytes, each a step of the program.
pub(crate) fn reclaim(world: &mut World, direction: Direction, budget: u64) -> Made<()> {
    let mut reclaim = world.engine().reclaim(&ReclaimOptions::towards(direction))?;
    while reclaim.step(ByteCount::new(budget))? == Step::More {
        world.done()?;
    }
    world.done()
}
