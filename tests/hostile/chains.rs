//! Chains made to do harm: they come back to themselves, they go on for long, they lie between things that are no files.

use crate::names::above;
use crate::support::{Outcome, Pool, bounded};
use snapgroup::image::{BackingLabel, Image, Limits, NewImage};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::GuestOffset;
use snapgroup::{
    AdoptRule, AdoptVolume, ByteCount, CreatePool, CreateSnapshot, Engine, Error, LayerFormat, Options,
};
use std::sync::Arc;

#[test]
fn a_chain_that_comes_back_to_itself_ends_at_once() -> Outcome {
    for (files, at) in [
        (vec![("x", "x")], "x"),
        (vec![("x", "b"), ("b", "x")], "x"),
        (vec![("x", "b"), ("b", "c"), ("c", "b")], "b"),
        (vec![("x", "./x")], "x"),
    ] {
        let images = files
            .iter()
            .map(|(name, below)| Ok((*name, above(below.as_bytes(), Some("qcow2"))?)))
            .collect::<Outcome<Vec<_>>>()?;
        let held: Vec<(&str, &[u8])> = images.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
        let pool = Pool::new(&held)?;
        let report = pool.engine.validate_chain(&AdoptVolume::new("x", LayerFormat::Qcow2, "v"))?;
        let refused = report.refused.ok_or("it was taken")?;
        assert_eq!((refused.file.as_str(), report.files.len()), (at, files.len()));
        for answer in [pool.adopt("x"), pool.import("x")] {
            let Err(Error::NotAdoptable { blob, rule }) = answer else { panic!("{files:?}: {answer:?}") };
            assert_eq!((blob, rule), (refused.file.clone(), refused.rule.clone()));
        }
    }
    Ok(())
}

/// One that recurses would end here, and one that compares each file with all before it would take long.
#[test]
fn a_chain_of_thousands_is_followed_as_far_as_it_may_go() -> Outcome {
    const DEPTH: usize = 1200;
    let images = (0..DEPTH)
        .map(|index| {
            let below = format!("{}", index + 1);
            Ok((index.to_string(), above(below.as_bytes(), Some("qcow2"))?))
        })
        .collect::<Outcome<Vec<_>>>()?;
    let held: Vec<(&str, &[u8])> = images.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    for (chain_max, refused, files) in [(256, "256", 256), (10_000, "1200", DEPTH)] {
        let pool = Pool::with(&held, |options| options.chain_max = chain_max)?;
        let wish = AdoptVolume::new("0", LayerFormat::Qcow2, "v");
        let report = bounded("a long chain", || pool.engine.validate_chain(&wish))?;
        assert_eq!(report.files.len(), files);
        assert_eq!(report.refused.map(|refused| refused.file).as_deref(), Some(refused));
    }
    Ok(())
}

/// No depth is a matter of the stack, of open files or of a square of the depth.
#[test]
fn a_chain_of_ten_thousand_is_adopted_read_and_made_longer() -> Outcome {
    const DEPTH: usize = 10_000;
    let (store, size) = (MemoryStore::new(), ByteCount::kib(4));
    for index in (0..DEPTH).rev() {
        let name = index.to_string();
        let below = (index + 1 < DEPTH)
            .then(|| BackingLabel { name: (index + 1).to_string(), format: "qcow2".to_owned() });
        let blob = store.create(&BlobName::parse(&name)?)?;
        NewImage { cluster_bits: 9, backing: below, ..NewImage::of_size(size) }
            .layout(&name)?
            .write(&*blob)?;
        if index + 1 == DEPTH {
            let bottom = Image::open(blob, &name, Access::Write, Limits::default())?;
            bottom.write(GuestOffset::ZERO, &[7; 1000], None)?;
            bottom.flush()?;
        }
    }
    let options = Options { create: CreatePool::Here, chain_max: 12_000, ..Options::default() };
    let engine = Engine::open_on(Arc::new(store), options)?;
    let disk = engine.adopt_volume(&AdoptVolume::new("0", LayerFormat::Qcow2, "v"))?.uuid;
    let handle = engine.open_volume(disk)?;
    handle.write_at(500, &[8; 100])?;
    let snapshot = engine.create_snapshot(&CreateSnapshot::new(disk, "s"))?.uuid;
    handle.write_at(0, &[9; 100])?;
    let (mut now, mut then) = ([0; 1001], [0; 1001]);
    handle.read_at(0, &mut now)?;
    engine.open_snapshot(snapshot)?.read_at(0, &mut then)?;
    let mut expected = [7; 1001];
    expected[500..600].fill(8);
    expected[1000] = 0;
    assert!(then == expected);
    expected[..100].fill(9);
    assert!(now == expected);
    assert_eq!(engine.chain(disk)?.len(), DEPTH + 1);
    Ok(())
}

#[test]
fn what_validation_refuses_adoption_refuses_in_the_same_words_and_nothing_has_changed() -> Outcome {
    let missing = above(b"absent", Some("raw"))?;
    let mut dirty = above(b"base", Some("raw"))?;
    dirty[79] |= 1;
    let fine = above(b"base", Some("raw"))?;
    let pool = Pool::new(&[("missing", &missing), ("dirty", &dirty), ("base", &[0; 512]), ("fine", &fine)])?;
    pool.adopt("fine")?;
    for file in ["missing", "dirty", "fine", "absent", "..", "snapgroup.redb", ""] {
        let generation = pool.engine.generation();
        let wish = AdoptVolume::new(file, LayerFormat::Qcow2, "another");
        let refused = pool.engine.validate_chain(&wish)?.refused.ok_or("it was taken")?;
        let Err(Error::NotAdoptable { blob, rule }) = pool.engine.adopt_volume(&wish) else {
            panic!("{file}")
        };
        assert_eq!((blob, rule), (refused.file, refused.rule), "{file}");
        assert_eq!(pool.engine.generation(), generation);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
mod on_disk {
    use super::*;
    use snapgroup::{ImportFrom, ImportVolume};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// A directory of everything that is no plain file, and of images that name each of them.
    #[test]
    fn a_directory_full_of_traps_is_opened_and_none_of_them_is_taken() -> Outcome {
        let home = tempfile::tempdir()?;
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("good"), above(b"base", Some("raw"))?)?;
        std::fs::write(at("base"), [3; 512])?;
        std::fs::create_dir(at("directory"))?;
        symlink("base", at("link"))?;
        symlink("/etc/passwd", at("passwd"))?;
        symlink("link-to-itself", at("link-to-itself"))?;
        symlink("/dev/zero", at("zero"))?;
        symlink(".", at("here"))?;
        let _listening = UnixListener::bind(at("socket"))?;
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600))?;
        std::fs::hard_link(at("good"), at("good-again"))?;
        std::fs::write(home.path().join(std::ffi::OsStr::from_bytes(b"no\xfftext")), [0; 512])?;
        std::fs::write(at("new\nline"), [0; 512])?;
        let traps =
            ["directory", "link", "passwd", "link-to-itself", "zero", "here", "socket", "pipe", "new\nline"];
        for (index, trap) in traps.iter().enumerate() {
            for format in ["raw", "qcow2"] {
                std::fs::write(
                    at(&format!("above-{index}-{format}")),
                    above(trap.as_bytes(), Some(format))?,
                )?;
            }
        }
        let engine = Engine::open(home.path(), Options { create: CreatePool::Here, ..Options::default() })?;
        for (index, trap) in traps.iter().enumerate() {
            for (format, name) in [(LayerFormat::Raw, "raw"), (LayerFormat::Qcow2, "qcow2")] {
                let above = format!("above-{index}-{name}");
                for wish in [
                    AdoptVolume::new(*trap, format, "v"),
                    AdoptVolume::new(above.as_str(), LayerFormat::Qcow2, "v"),
                ] {
                    let report = engine.validate_chain(&wish)?;
                    assert!(!report.is_adoptable(), "{wish:?}: {report:?}");
                    let Err(Error::NotAdoptable { .. }) = engine.adopt_volume(&wish) else {
                        panic!("{wish:?}")
                    };
                    for from in [ImportFrom::Pool(wish.file.clone()), ImportFrom::Path(at(&wish.file))] {
                        let imported = engine.import(&ImportVolume::new(from, wish.format, "v"));
                        assert!(imported.is_err(), "{wish:?}: {imported:?}");
                    }
                }
            }
        }
        let device = ImportVolume::new(ImportFrom::Path("/dev/zero".into()), LayerFormat::Raw, "v");
        let Err(Error::NotAdoptable { .. }) = engine.import(&device) else { panic!("a device was imported") };
        engine.adopt_volume(&AdoptVolume::new("good", LayerFormat::Qcow2, "v"))?;
        // Under its second name it is the same file.
        let again = engine.adopt_volume(&AdoptVolume::new("good-again", LayerFormat::Qcow2, "w"));
        let Err(Error::NotAdoptable { rule, .. }) = again else { panic!("{again:?}") };
        assert!(matches!(rule, AdoptRule::SecondName { .. }), "{rule}");
        engine.close()?;
        assert!(Engine::open(home.path(), Options::default())?.check()?.is_clean());
        Ok(())
    }

    /// The caller names a path, and the header beside it a disk of the pool, which may be another's.
    #[test]
    fn an_import_by_a_path_into_the_pool_reads_no_disk_of_it_and_no_catalogue() -> Outcome {
        let home = tempfile::tempdir()?;
        let engine = Engine::open(home.path(), Options { create: CreatePool::Here, ..Options::default() })?;
        let secret =
            engine.create_volume(&snapgroup::CreateVolume::new("s", snapgroup::ByteCount::mib(1)))?;
        let disk = secret.install_path.rsplit('/').next().ok_or("no name")?.to_owned();
        for (below, format) in
            [(disk.as_str(), "qcow2"), ("snapgroup.redb", "raw"), ("snapgroup.lock", "raw")]
        {
            let path = home.path().join("x");
            std::fs::write(&path, above(below.as_bytes(), Some(format))?)?;
            let from = ImportFrom::Path(path);
            let imported = engine.import(&ImportVolume::new(from, LayerFormat::Qcow2, "v"));
            let Err(Error::NotAdoptable { blob, .. }) = imported else { panic!("{below}: {imported:?}") };
            assert_eq!(blob, below);
        }
        Ok(())
    }

    #[test]
    fn a_loop_through_a_second_name_is_seen_by_the_file_and_not_by_its_name() -> Outcome {
        let home = tempfile::tempdir()?;
        std::fs::write(home.path().join("a"), above(b"b", Some("qcow2"))?)?;
        std::fs::hard_link(home.path().join("a"), home.path().join("b"))?;
        let engine = Engine::open(home.path(), Options { create: CreatePool::Here, ..Options::default() })?;
        let report = engine.validate_chain(&AdoptVolume::new("a", LayerFormat::Qcow2, "v"))?;
        let refused = report.refused.ok_or("it was taken")?;
        assert!(refused.file == "b" && refused.rule == AdoptRule::Loop, "{refused:?}");
        Ok(())
    }
}
