//! The catalogue of a real pool, with bytes of it changed, cut off or added: it is refused with not a byte of any file
//! changed, or opened as something that was committed.
//!
//! Held: never a panic; what is refused is refused as no catalogue or as a damaged one; what is opened has no record
//! that disagrees with another one, its disks read as they were, and it goes on being a pool.

use super::image;
use crate::dice::Dice;
use snapgroup::query::Query;
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreatePool, CreateVolume, Engine, Error, Ids, Kind,
    Options, QuickRepair, Uuid,
};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

const CATALOGUE: &str = "snapgroup.redb";

/// What a pool holds.
struct Base {
    store: MemoryStore,
    disks: Vec<Uuid>,
    groups: usize,
    /// Whether it was closed: what it holds is then all that may be found in it.
    is_closed: bool,
}

/// Changes the catalogue of a pool, and uses what is left.
pub fn run(bytes: &[u8]) {
    let mut dice = Dice::written(bytes);
    let bases = bases();
    let base = &bases[dice.roll(bases.len())];
    let store = base.store.fork();
    let name = BlobName::parse(CATALOGUE).expect("one component");
    let blob = store.open(&name, Access::Write).expect("the pool has a catalogue");
    let mut catalogue = image::bytes_of(&*blob);
    for _ in 0..1 + dice.roll(4) {
        mutate(&mut dice, &mut catalogue);
    }
    store.remove(&name).expect("memory does not fail");
    let blob = store.create(&name).expect("memory does not fail");
    blob.write_at(snapgroup::units::HostOffset::ZERO, &catalogue).expect("memory does not fail");
    let before = picture(&store);
    match open(&store, 2, QuickRepair::Off) {
        Ok(engine) => {
            r#use(&engine, base);
            engine.close().expect("memory does not fail");
        }
        Err(error) => {
            assert!(picture(&store) == before, "a refusal has changed a file: {error}");
            let is_named = matches!(error, Error::NewerVersion { .. }) || error.kind() == Kind::Corrupt;
            assert!(is_named, "{error:?}");
        }
    }
}

/// Pools that were closed, or whose process died; with and without quick repair; with little and with more in them.
fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let make = |groups, quick_repair, is_closed| {
            let store = MemoryStore::new();
            let engine = open(&store, 1, quick_repair).expect("memory does not fail");
            let machine =
                engine.create_machine(&CreateMachine::new("vm")).expect("memory does not fail").uuid;
            let disks = [0, 1].map(|index| {
                let wish = CreateVolume::new(format!("disk-{index}"), ByteCount::kib(8));
                let wish = CreateVolume { cluster_bits: Some(9), chain_max: Some(400), ..wish };
                let disk = engine.create_volume(&wish).expect("memory does not fail").uuid;
                engine.attach_volume(disk, machine, None).expect("memory does not fail");
                disk
            });
            for index in 0..groups {
                let wish = CreateGroup::of_machine(machine, format!("group-{index}"));
                engine.create_group(&wish).expect("memory does not fail");
            }
            let (copy, disks) = (store.fork(), disks.to_vec());
            engine.close().expect("memory does not fail");
            Base { store: if is_closed { store } else { copy }, disks, groups, is_closed }
        };
        vec![
            make(2, QuickRepair::Off, true),
            make(2, QuickRepair::Off, false),
            make(2, QuickRepair::On, false),
            make(60, QuickRepair::Off, true),
            make(60, QuickRepair::Off, false),
        ]
    })
}

fn open(store: &MemoryStore, opening: u64, quick_repair: QuickRepair) -> snapgroup::Result<Engine> {
    let create = if opening == 1 { CreatePool::Here } else { CreatePool::Never };
    let (clock, ids) = (Clock::Stepping(0), Ids::Seeded(opening));
    let options = Options { create, clock, ids, quick_repair, ..Options::default() };
    Engine::open_on(Arc::new(store.clone()), options)
}

fn picture(store: &MemoryStore) -> BTreeMap<BlobName, Vec<u8>> {
    let names = store.list().expect("memory tells").into_iter();
    let read = names.map(|name| {
        let blob = store.open(&name, Access::Read).expect("it is there");
        (name, image::bytes_of(&*blob))
    });
    read.collect()
}

/// One change; most of them at the begin of a page, where there is something to change.
fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let pages = bytes.len() / 4096;
    if pages == 0 {
        return bytes.push(dice.byte());
    }
    let page = dice.roll(pages) * 4096;
    let at = match dice.roll(4) {
        0 => dice.roll(320),
        1 => page + dice.roll(64),
        2 => page + dice.roll(4096),
        _ => dice.roll(bytes.len()),
    };
    match dice.roll(10) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.roll(5)],
        2 => bytes[at] = dice.byte(),
        3 => {
            let word = [0, 1, u64::MAX, 1 << 63, dice.number()][dice.roll(5)].to_be_bytes();
            let end = bytes.len().min(at + 8);
            bytes[at..end].copy_from_slice(&word[..end - at]);
        }
        4 => {
            let from = dice.roll(pages) * 4096;
            bytes.copy_within(from..from + 4096, page);
        }
        5 => bytes[page..page + 4096].fill([0, 0xff][dice.roll(2)]),
        6 => bytes.truncate(at),
        7 => bytes.truncate(page),
        8 => bytes.resize(bytes.len() + dice.roll(3) * 4096, 0),
        _ => {
            let length = dice.roll(64).min(bytes.len() - at);
            bytes[at..at + length].fill_with(|| dice.byte());
        }
    }
}

/// Asks a pool for everything, and takes one more group.
fn r#use(engine: &Engine, base: &Base) {
    let groups = engine.query_groups(&Query::default()).expect("groups can be told").items;
    let missing = base.groups.saturating_sub(groups.len());
    // Without its last commit, which may look as if it had not arrived, a pool that was not closed lacks a group.
    assert!(missing <= usize::from(!base.is_closed), "{missing} groups are lost");
    engine.query_snapshots(&Query::default()).expect("snapshots can be told");
    engine.query_machines(&Query::default()).expect("machines can be told");
    let check = engine.check().expect("memory does not fail");
    assert!(check.is_sound(), "{check:#?}");
    for disk in &base.disks {
        let open = engine.open_volume(*disk).expect("the disk is there");
        let mut bytes = vec![1; open.size().as_usize()];
        open.read_at(0, &mut bytes).expect("memory does not fail");
        assert!(bytes.iter().all(|byte| *byte == 0), "a disk reads as something else");
    }
    let machine = engine.query_machines(&Query::default()).expect("machines can be told").items[0].uuid;
    engine.create_group(&CreateGroup::of_machine(machine, "one more")).expect("it goes on being a pool");
    let check = engine.check().expect("memory does not fail");
    assert!(check.is_sound(), "{check:#?}");
}
