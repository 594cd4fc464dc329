//! The pools in which operations are cut short: one for each way in which a pool can look.
//!
//! All are tiny: a disk of 16 KiB in clusters of 512 bytes, unless the shape is about something else.

use crate::operations::{delete_later, reclaim};
use crate::world::{Made, Noting, Template, World, options};
use snapgroup::image::{BackingLabel, Image, Limits, NewImage, Version};
use snapgroup::storage::{BlobName, MemoryStore, Store};
use snapgroup::units::{GuestOffset, HostOffset};
use snapgroup::{
    AdoptVolume, ByteCount, CreateVolume, Direction, LayerFormat, Options, QuickRepair, ReclaimOptions,
    RevertVolume, Uuid,
};
use std::sync::Arc;

/// A shape: its name, what is special about how it is opened, and how it comes about.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    tune: fn(&mut Options),
    build: fn(&mut World) -> Made<()>,
}

const SIZE: usize = 16_384;

const fn shape(name: &'static str, build: fn(&mut World) -> Made<()>) -> Shape {
    Shape { name, tune: |_| {}, build }
}

pub(crate) const SHAPES: &[Shape] = &[
    shape("empty disk", |world| disk(world, 9, SIZE).map(drop)),
    shape("linear chain", |world| linear(world, 9, SIZE)),
    shape("fork", |world| {
        linear(world, 9, SIZE)?;
        back_to(world, 0)?;
        grow_branch(world, 11)
    }),
    shape("middle deleted", |world| {
        linear(world, 9, SIZE)?;
        let middle = world.things.snapshots[1];
        delete_later(world, &[middle])
    }),
    shape("middle reclaimed", |world| {
        linear(world, 9, SIZE)?;
        let middle = world.things.snapshots[1];
        delete_later(world, &[middle])?;
        reclaim(world, Direction::Auto, u64::MAX)
    }),
    shape("reverted, then a branch", |world| {
        linear(world, 9, SIZE)?;
        back_to(world, 1)?;
        grow_branch(world, 12)?;
        back_to(world, 2)
    }),
    shape("raw base", |world| {
        let wish = AdoptVolume::new("golden.raw", LayerFormat::Raw, "disk");
        let made = world.engine().adopt_volume(&wish)?.uuid;
        let mut content = vec![0; 8192];
        content[..3000].fill(9);
        world.made(made, content);
        world.attach(made)?;
        chain(world, made)
    }),
    shape("version 2", |world| adopted(world, "old.qcow2", 7, 0..2000)),
    shape("compressed base", |world| adopted(world, "packed.qcow2", 6, 0..4096)),
    shape("adopted chain", |world| adopted(world, "upper.qcow2", 8, 1024..3072)),
    shape("clusters of 64 KiB", |world| linear(world, 16, 3 * 65_536)),
    shape("clusters of 4 KiB", |world| linear(world, 12, 24_576)),
    shape("clusters of 2 MiB", |world| linear(world, 21, 65_536)),
    shape("resized overlay", |world| {
        linear(world, 9, SIZE)?;
        let disk = world.disk(0);
        world.resize(disk, SIZE + 40_960)?;
        world.write(disk, SIZE - 300, 900, 13)?;
        world.flush(disk)
    }),
    shape("short middle layer", |world| {
        let disk = disk(world, 9, 4096)?;
        world.write(disk, 3000, 1000, 14)?;
        world.snapshot(disk)?;
        world.resize(disk, SIZE)?;
        world.write(disk, 3500, 3000, 15)?;
        world.snapshot(disk)?;
        back_to(world, 0)?;
        world.resize(disk, 12_288)?;
        world.write(disk, 4096, 700, 16)?;
        world.snapshot(disk)?;
        world.write(disk, 100, 700, 17)?;
        world.flush(disk)
    }),
    shape("clones", |world| {
        linear(world, 9, SIZE)?;
        for index in [0, 1] {
            let snapshot = world.things.snapshots[index];
            let content = world.content.snapshots[&snapshot].to_vec();
            let clone = world.create(&CreateVolume::of_snapshot("clone", snapshot), content)?;
            world.write(clone, 2000, 1500, 18)?;
            world.flush(clone)?;
        }
        Ok(())
    }),
    shape("a clone of a deleted snapshot", |world| {
        linear(world, 9, SIZE)?;
        let snapshot = world.things.snapshots[1];
        let content = world.content.snapshots[&snapshot].to_vec();
        world.create(&CreateVolume::of_snapshot("clone", snapshot), content)?;
        delete_later(world, &[snapshot])
    }),
    shape("holds", |world| {
        linear(world, 9, SIZE)?;
        let (first, last) = (world.things.snapshots[0], world.things.snapshots[2]);
        world.engine().hold(first, "backup")?;
        world.engine().hold(last, "backup")?;
        Ok(())
    }),
    shape("groups of two disks", |world| {
        groups(world, 2)?;
        world.group().map(drop)
    }),
    shape("a group of which a member is gone", |world| {
        groups(world, 2)?;
        let member = world.things.snapshots[0];
        delete_later(world, &[member])
    }),
    shape("holes", |world| {
        let disk = disk(world, 9, SIZE)?;
        world.write(disk, 0, SIZE, 19)?;
        world.snapshot(disk)?;
        world.discard(disk, 512, 6000)?;
        world.zeroes(disk, 9000, 3000)?;
        world.snapshot(disk)?;
        world.write(disk, 3000, 1000, 20)?;
        world.discard(disk, 10_000, 2048)?;
        world.snapshot(disk)?;
        Ok(())
    }),
    shape("deep chain", |world| {
        let disk = disk(world, 9, SIZE)?;
        for step in 0..6_u8 {
            world.write(disk, usize::from(step) * 1500, 2500, 1 + step)?;
            world.snapshot(disk)?;
        }
        Ok(())
    }),
    shape("everything deleted", |world| {
        linear(world, 9, SIZE)?;
        let all = world.things.snapshots.clone();
        delete_later(world, &all)
    }),
    shape("a file to be removed", |world| {
        linear(world, 9, SIZE)?;
        let last = world.things.snapshots[2];
        back_to(world, 0)?;
        delete_later(world, &[last])
    }),
    shape("half pulled", |world| {
        linear(world, 9, SIZE)?;
        let middle = world.things.snapshots[1];
        delete_later(world, &[middle])?;
        half(world, Direction::Pull)
    }),
    shape("half committed", |world| {
        linear(world, 9, SIZE)?;
        let middle = world.things.snapshots[1];
        delete_later(world, &[middle])?;
        half(world, Direction::Commit)
    }),
    Shape {
        name: "quick repair",
        tune: |options| options.quick_repair = QuickRepair::On,
        build: |world| linear(world, 9, SIZE),
    },
    Shape {
        name: "short chains",
        tune: |options| options.chain_max = 4,
        build: |world| {
            linear(world, 9, SIZE)?;
            let middle = world.things.snapshots[1];
            delete_later(world, &[middle])
        },
    },
];

/// A pool of one machine with so many disks, each with a little content.
pub(crate) fn of_many_disks(disks: usize) -> Made<Template> {
    let store = MemoryStore::new();
    let options = options(900 + disks as u64);
    let template =
        Template { store: store.clone(), things: Default::default(), content: Default::default(), options };
    let mut world = World::open(&template, Arc::new(store.clone()), 900 + disks as u64, Noting::Count)?;
    for index in 0..disks {
        let made = disk(&mut world, 9, 4096)?;
        if index < 4 {
            world.write(made, 512, 700, 5)?;
            world.flush(made)?;
        }
    }
    world.rest(store, template.options)
}

impl Shape {
    /// Makes the pool; `seed` makes its uuids unlike those of other pools.
    pub(crate) fn template(&self, seed: u64) -> Made<Template> {
        let store = MemoryStore::new();
        foreign_files(&store);
        let mut options = options(seed);
        (self.tune)(&mut options);
        let template = Template {
            store: store.clone(),
            things: Default::default(),
            content: Default::default(),
            options,
        };
        let mut world = World::open(&template, Arc::new(store.clone()), seed, Noting::Count)?;
        (self.build)(&mut world)?;
        world.rest(store, template.options)
    }
}

/// Files of somebody else beside the pool's.
pub(crate) const FOREIGN: [&str; 7] = [
    "foreign.qcow2",
    "golden.raw",
    "hollow.qcow2",
    "lower.qcow2",
    "old.qcow2",
    "packed.qcow2",
    "upper.qcow2",
];

fn foreign_files(store: &MemoryStore) {
    let name = |text: &str| BlobName::parse(text).expect("one component");
    let golden = store.create(&name("golden.raw")).expect("a new store");
    golden.write_at(HostOffset::ZERO, &[9; 3000]).expect("in memory");
    golden.set_length(ByteCount::kib(8)).expect("in memory");
    let plain = NewImage { cluster_bits: 9, ..NewImage::of_size(ByteCount::kib(8)) };
    let backed = NewImage {
        backing: Some(BackingLabel { name: "lower.qcow2".into(), format: "qcow2".into() }),
        ..plain.clone()
    };
    let old = NewImage { version: Version::V2, ..plain.clone() };
    let parts = [
        ("foreign.qcow2", &plain, 8, 1000..3000),
        ("hollow.qcow2", &plain, 0, 0..0),
        ("lower.qcow2", &plain, 8, 1024..2048),
        ("upper.qcow2", &backed, 8, 2048..3072),
        ("old.qcow2", &old, 7, 0..2000),
    ];
    for (file, new, byte, range) in parts {
        let image = image(store, &name(file), new);
        let at = GuestOffset::new(range.start as u64);
        image.write(at, &vec![byte; range.len()], None).expect("in memory");
        image.flush().expect("in memory");
    }
    let packed = image(store, &name("packed.qcow2"), &plain);
    for cluster in 0..8 {
        packed.write_compressed(GuestOffset::new(cluster * 512), &[6; 512]).expect("in memory");
    }
    packed.flush().expect("in memory");
}

fn image(store: &MemoryStore, name: &BlobName, new: &NewImage) -> Image {
    let blob = store.create(name).expect("a new store");
    new.layout(name.as_str()).and_then(|layout| layout.write(&*blob)).expect("in memory");
    Image::open(blob, name.as_str(), snapgroup::storage::Access::Write, Limits::default()).expect("just made")
}

fn disk(world: &mut World, cluster_bits: u8, size: usize) -> Made<Uuid> {
    let wish = CreateVolume::new(format!("disk-{}", world.things.disks.len()), ByteCount::new(size as u64));
    let wish = CreateVolume { cluster_bits: Some(cluster_bits), ..wish };
    let disk = world.create(&wish, vec![0; size])?;
    world.attach(disk)?;
    Ok(disk)
}

/// Three snapshots one after the other, each with some of the disk written before it, and a head with some, too.
fn linear(world: &mut World, cluster_bits: u8, size: usize) -> Made<()> {
    let disk = disk(world, cluster_bits, size)?;
    chain(world, disk)
}

fn chain(world: &mut World, disk: Uuid) -> Made<()> {
    let step = world.size(disk) / 8;
    for (index, byte) in [(0, 1), (1, 2), (2, 3)] {
        world.write(disk, index * step, 2 * step + 100, byte)?;
        match index {
            1 => drop(world.group()?),
            _ => drop(world.snapshot(disk)?),
        }
    }
    world.write(disk, 3 * step, step, 4)?;
    world.flush(disk)
}

fn back_to(world: &mut World, snapshot: usize) -> Made<()> {
    world.handles.clear();
    let wish = RevertVolume::to(world.things.snapshots[snapshot]);
    let reverted = world.engine().revert_volume(&wish);
    world.reverted(reverted)
}

/// A reclaim that stops after its first step.
fn half(world: &mut World, direction: Direction) -> Made<()> {
    let mut reclaim = world.engine().reclaim(&ReclaimOptions::towards(direction))?;
    assert_eq!(reclaim.step(ByteCount::new(600))?, snapgroup::Step::More, "it is over at once");
    Ok(())
}

fn grow_branch(world: &mut World, byte: u8) -> Made<()> {
    let disk = world.disk(0);
    world.write(disk, 512, 3000, byte)?;
    world.snapshot(disk)?;
    world.write(disk, 2000, 3000, byte + 1)?;
    world.flush(disk)
}

fn groups(world: &mut World, disks: usize) -> Made<()> {
    for index in 0..disks {
        let made = disk(world, 9, SIZE)?;
        world.write(made, index * 1000, 3000, 1)?;
    }
    world.group()?;
    let disk = world.disk(0);
    world.write(disk, 2000, 3000, 2)?;
    world.flush(disk)
}

/// Takes over a file of somebody else that holds `byte` in `range`, and takes snapshots of it.
fn adopted(world: &mut World, file: &str, byte: u8, range: std::ops::Range<usize>) -> Made<()> {
    let made = world.engine().adopt_volume(&AdoptVolume::new(file, LayerFormat::Qcow2, "disk"))?.uuid;
    let mut content = vec![0; 8192];
    content[range].fill(byte);
    world.made(made, content);
    world.attach(made)?;
    chain(world, made)
}
