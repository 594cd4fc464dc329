//! A branching tree, drawn in four ways: the layers of a disk and the groups of its machine.
//!
//! `cargo run --example pictures` prints the texts. `cargo run --example pictures -- DIR` writes each picture in each
//! form into `DIR`, which is made when it is absent; those in `docs/pictures` were made by it.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::picture::Picture;
use snapgroup::{
    ByteCount, Clock, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, Direction, Engine, Ids, Options,
    RevertGroup,
};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let pictures = pictures()?;
    match std::env::args().nth(1) {
        None => pictures.iter().for_each(|(_, picture)| println!("{}", picture.to_text())),
        Some(directory) => {
            std::fs::create_dir_all(&directory)?;
            for (name, drawn) in pictures.iter().flat_map(|(name, picture)| forms(name, picture)) {
                std::fs::write(Path::new(&directory).join(name), drawn)?;
            }
        }
    }
    Ok(())
}

/// The groups of a machine, and the layers of one of its disks.
pub(crate) fn pictures() -> snapgroup::Result<[(&'static str, Picture); 2]> {
    // The same ids and dates in every run, so that the same pictures come of it.
    let options =
        Options { ids: Ids::Seeded(7), clock: Clock::Stepping(1_700_000_000_000), ..Options::default() };
    let engine = Engine::in_memory(options)?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
    let mut disks = Vec::new();
    for name in ["system", "database"] {
        let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::gib(20)))?;
        engine.attach_volume(volume.uuid, machine.uuid, None)?;
        disks.push(volume.uuid);
    }
    let write = |at: u64, length: usize| -> snapgroup::Result<()> {
        for disk in &disks {
            engine.open_volume(*disk)?.write_at(at, &vec![7; length])?;
        }
        Ok(())
    };
    let take = |name: &str| engine.create_group(&CreateGroup::of_machine(machine.uuid, name));

    write(0, 3 << 20)?;
    take("installed")?;
    write(4 << 20, 1 << 20)?;
    let before = take("before-upgrade")?.inventory.uuid;
    write(8 << 20, 5 << 20)?;
    take("upgraded")?;
    write(1 << 20, 1 << 20)?;
    take("tuned")?;
    // The upgrade did not work out: back, and on from there. What was is kept as a branch.
    engine.revert_group(&RevertGroup::new(before))?;
    write(0, 64 << 10)?;
    let second = take("second-try")?.inventory;
    write(32 << 20, 256 << 10)?;
    take("works")?;
    // Two things read through this one, so its layers stay, retired.
    assert!(
        engine
            .delete_group(&DeleteGroup { direction: Direction::Auto, ..DeleteGroup::new(before) })?
            .is_success()
    );
    engine.hold(second.volume_snapshot_refs[0].volume_snapshot_uuid, "audit")?;

    Ok([("groups", engine.picture_of_groups(machine.uuid)?), ("layers", engine.picture_of_layers(disks[0])?)])
}

/// A picture in each form, with the name of its file.
pub(crate) fn forms(name: &str, picture: &Picture) -> [(String, String); 4] {
    [
        (format!("{name}.txt"), picture.to_text()),
        (format!("{name}.svg"), picture.to_svg()),
        (format!("{name}.dot"), picture.to_dot()),
        (format!("{name}.mmd"), picture.to_mermaid()),
    ]
}
