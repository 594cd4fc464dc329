//! A directory that nobody vouches for: its files are taken over, if they may be. Names, contents and what the headers
//! name below come from the input.
//!
//! Held: what is refused is not changed, and neither is what lies below a head; what is taken over reads the same after
//! a reopening; and the pool's own check finds nothing wrong.

use super::skeleton;
use crate::dice::Dice;
use snapgroup::image::{BackingLabel, NewImage};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::HostOffset;
use snapgroup::{
    AdoptVolume, ByteCount, Clock, CreatePool, CreateSnapshot, Engine, Ids, LayerFormat, LowerLayers,
    Options, Uuid,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names such as are in a pool, or would be if they were allowed to.
const NAMES: [&str; 8] =
    ["a.qcow2", "b.qcow2", "base.raw", "a:b", "snapgroup.lock", "snapgroup.redb.new", "layer-1.qcow2", " "];

/// Fills a directory, takes over what it can, and uses it.
pub fn run(bytes: &[u8]) {
    let mut dice = Dice::written(bytes);
    let store = MemoryStore::new();
    for _ in 0..1 + dice.roll(4) {
        let name = name(&mut dice);
        let content = content(&mut dice);
        let Ok(name) = BlobName::parse(&name) else { continue };
        let Ok(blob) = store.create(&name) else { continue };
        blob.write_at(HostOffset::ZERO, &content).expect("memory takes every write");
        if dice.roll(8) == 0 {
            blob.set_length(ByteCount::of(512 * dice.roll(300))).expect("memory takes every length");
        }
    }
    let Some(engine) = open(&store, 1) else { return };
    let mut adopted = Vec::new();
    for file in store.list().expect("memory tells") {
        let format = [LayerFormat::Qcow2, LayerFormat::Qcow2, LayerFormat::Raw][dice.roll(3)];
        let lower = [LowerLayers::Frozen, LowerLayers::Snapshots][dice.roll(2)];
        let before = picture(&store);
        let wish = AdoptVolume { lower, ..AdoptVolume::new(file.as_str(), format, "disk") };
        let answer = engine.adopt_volume(&wish);
        let after = picture(&store);
        for (name, bytes) in &before {
            let may_change = answer.is_ok() && *name == file && format == LayerFormat::Qcow2;
            assert!(may_change || after.get(name) == Some(bytes), "{name} was changed: {answer:?}");
        }
        if let Ok(volume) = answer {
            adopted.push(volume.uuid);
        } else {
            assert_eq!(after.len(), before.len(), "a refusal has left a file");
        }
    }
    let shown = adopted.iter().map(|volume| (*volume, r#use(&engine, *volume))).collect::<Vec<_>>();
    assert_sound(&engine);
    engine.close().expect("memory does not fail");
    let engine = open(&store, 2).expect("it was open before");
    for (volume, bytes) in shown {
        assert!(read(&engine, volume) == bytes, "another content after a reopening");
    }
    assert_sound(&engine);
}

fn name(dice: &mut Dice) -> String {
    match dice.roll(10) {
        index @ 0..=7 => NAMES[index].to_owned(),
        8 => "n".repeat(dice.roll(300)),
        _ => text(dice),
    }
}

fn text(dice: &mut Dice) -> String {
    let bytes: Vec<u8> = (0..dice.roll(16)).map(|_| dice.byte()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn label(dice: &mut Dice) -> Option<BackingLabel> {
    let name = match dice.roll(8) {
        0 | 1 => return None,
        2 => "base.raw".to_owned(),
        3 => ["../a.qcow2", "./a.qcow2", "/etc/passwd", "file:a.qcow2", "json:{}", ".", ".."][dice.roll(7)]
            .to_owned(),
        4 => text(dice).replace(char::is_control, "?"),
        _ => ["a.qcow2", "b.qcow2"][dice.roll(2)].to_owned(),
    };
    let name = if name.is_empty() { "-".to_owned() } else { name };
    let format = ["qcow2", "qcow2", "raw", "vmdk"][dice.roll(4)].to_owned();
    Some(BackingLabel { name, format })
}

fn content(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(6) {
        0 => (0..dice.roll(64)).map(|_| dice.byte()).collect(),
        1 => vec![dice.byte(); 512 * dice.roll(100)],
        2 => {
            let new = NewImage { backing: label(dice), ..NewImage::of_size(ByteCount::kib(40)) };
            let Ok(layout) = new.layout("x") else { return Vec::new() };
            let blob = super::image::blob_of(&[]);
            layout.write(&*blob).expect("memory takes every write");
            super::image::bytes_of(&*blob)
        }
        kind => {
            let label = label(dice);
            let mut image = skeleton::valid(dice, label);
            if kind == 3 {
                skeleton::mutate(dice, &mut image);
            }
            image
        }
    }
}

fn open(store: &MemoryStore, opening: u64) -> Option<Engine> {
    let (clock, ids) = (Clock::Stepping(0), Ids::Seeded(opening));
    let options = Options { create: CreatePool::Here, clock, ids, ..Options::default() };
    Engine::open_on(Arc::new(store.clone()), options).ok()
}

/// The files that are not the pool's own.
fn picture(store: &MemoryStore) -> BTreeMap<BlobName, Vec<u8>> {
    let names = store.list().expect("memory tells").into_iter();
    let others = names.filter(|name| !name.as_str().starts_with("snapgroup."));
    let read = others.map(|name| {
        let blob = store.open(&name, Access::Read).expect("it is there");
        (name, super::image::bytes_of(&*blob))
    });
    read.collect()
}

/// Writes to a volume, takes a snapshot of it, and answers what it shows.
fn r#use(engine: &Engine, volume: Uuid) -> Option<Vec<u8>> {
    let before = read(engine, volume);
    if let Ok(open) = engine.open_volume(volume)
        && open.size() >= ByteCount::new(512)
        && open.write_at(0, &[0x77; 512]).is_ok()
    {
        open.flush().expect("memory does not fail");
        drop(open);
        let mut expected = before;
        if let Some(bytes) = &mut expected {
            bytes[..512].fill(0x77);
            assert!(read(engine, volume) == expected, "another content is read than was written");
        }
    }
    drop(engine.create_snapshot(&CreateSnapshot::new(volume, "s")));
    read(engine, volume)
}

/// What a volume shows at its begin; nothing when it is refused.
fn read(engine: &Engine, volume: Uuid) -> Option<Vec<u8>> {
    let open = engine.open_volume(volume).ok()?;
    let length = open.size().as_u64().min(1 << 18);
    let mut bytes = vec![0xee; usize::try_from(length).expect("256 KiB at most")];
    open.read_at(0, &mut bytes).ok().map(|()| bytes)
}

fn assert_sound(engine: &Engine) {
    let check = engine.check().expect("memory does not fail");
    assert!(check.violations.is_empty() && check.missing.is_empty(), "{check:#?}");
    for layer in &check.layers {
        assert!(layer.report.as_ref().is_some_and(|report| report.is_sound()), "{layer:#?}");
    }
}
