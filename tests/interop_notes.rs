//! What QEMU makes of our notes in a header: whatever it rewrites, they stay, and a catalogue is made anew from them.
//!
//! Needs `qemu-img` in the path: `cargo test --test interop_notes -- --ignored`.

#[path = "support/qemu.rs"]
mod qemu;

use qemu::{Checked, Qemu};
use snapgroup::image::Facts;
use snapgroup::storage::{Access, BlobName, DiskStore, Store};
use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, Engine, Options, RebuildOptions};
use std::error::Error as StdError;
use std::path::Path;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

fn facts(directory: &Path, file: &str) -> Outcome<Facts> {
    let blob = DiskStore::open(directory)?.open(&BlobName::parse(file)?, Access::Read)?;
    Ok(Facts::of(&*blob, file)?)
}

#[test]
#[ignore = "needs qemu-img"]
fn qemu_keeps_our_notes_whatever_it_rewrites_and_they_are_worth_as_much_as_before() -> Outcome {
    for bits in [12, 16, 21] {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        let engine = Engine::open(path, Options { cluster_bits: bits, ..Options::default() })?;
        let volume = engine.create_volume(&CreateVolume::new("disk", ByteCount::mib(4)))?.uuid;
        engine.open_volume(volume)?.write_at(0, b"first")?;
        let snapshot = engine.create_snapshot(&CreateSnapshot::new(volume, "first"))?.uuid;
        engine.open_volume(volume)?.write_at(0, b"later")?;
        let chain = engine.chain(volume)?;
        engine.close()?;
        let (head, below) = (chain[0].file.as_str(), chain[1].file.as_str());
        let before = facts(path, head)?;
        let notes = before.notes.clone().ok_or("an overlay has notes")?;
        assert_eq!(notes.claims.len(), 1);
        let qemu = Qemu::in_directory(path);
        let rewrites: [&[&str]; 6] = [
            &["rebase", "-u", "-f", "qcow2", "-b", below, "-F", "qcow2", head],
            &["amend", "-f", "qcow2", "-o", "lazy_refcounts=on", head],
            &["snapshot", "-c", "inner", head],
            &["snapshot", "-d", "inner", head],
            &["bitmap", "--add", head, "dirty"],
            &["resize", "-q", "-f", "qcow2", head, "5M"],
        ];
        for rewrite in rewrites {
            qemu.img(rewrite);
            let after = facts(path, head)?;
            assert_eq!(
                (&after.identity, &after.notes),
                (&before.identity, &before.notes),
                "{bits} {rewrite:?}"
            );
        }
        assert_eq!(qemu.check(head).0, Checked::Clean);

        std::fs::remove_file(path.join("snapgroup.redb"))?;
        let rebuilt = Engine::rebuild(path, &Options::default(), &RebuildOptions::default())?;
        assert!(rebuilt.is_whole(), "{rebuilt:?}");
        let engine = Engine::open(path, Options::default())?;
        assert!(engine.check()?.is_sound());
        let (mut then, mut now) = ([0; 5], [0; 5]);
        engine.open_snapshot(snapshot)?.read_at(0, &mut then)?;
        engine.open_volume(volume)?.read_at(0, &mut now)?;
        assert_eq!((&then, &now), (b"first", b"later"));
        engine.close()?;

        // A commit into the layer below rewrites that one: what is there of ids and notes stays.
        let kept = facts(path, below)?;
        qemu.img(&["commit", "-q", "-f", "qcow2", head]);
        let after = facts(path, below)?;
        assert_eq!((&after.identity, &after.notes), (&kept.identity, &kept.notes));
    }
    Ok(())
}
