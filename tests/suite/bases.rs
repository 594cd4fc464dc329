//! Base directories: golden images beside the pool, which are read and never written or removed.

use crate::adoption::{above, rule_of, written};
use crate::support::{Home, Made, Outcome, SIZE, assert_sound, fill, read_volume, volume};
use snapgroup::storage::{Access, BlobName, DiskStore, Error as StorageError, Hold, MemoryStore, Store};
use snapgroup::{
    AdoptVolume, BaseImage, ChainReport, CreateSnapshot, CreateVolume, DeleteMode, DeleteSnapshots,
    Direction, Engine, Error, LayerFormat, LowerLayers, RebuildOptions, VolumeKind,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A pool's directory and one of golden images beside it.
struct Place {
    pool: Home,
    golden: TempDir,
}

impl Place {
    fn new() -> Made<Self> {
        Ok(Self { pool: Home::disk()?, golden: TempDir::new()? })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.golden.path().join(file)
    }

    fn text(&self, file: &str) -> Made<String> {
        Ok(self.path(file).to_str().ok_or("a path is text")?.to_owned())
    }

    /// The bytes of every golden image.
    fn picture(&self) -> Made<Vec<(PathBuf, Vec<u8>)>> {
        let mut picture = Vec::new();
        let mut folders = vec![self.golden.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path)?;
                    picture.push((path, bytes));
                }
            }
        }
        picture.sort();
        Ok(picture)
    }

    fn open(&self) -> Made<Engine> {
        self.open_with(&[self.golden.path()])
    }

    fn open_with(&self, bases: &[&Path]) -> Made<Engine> {
        let mut options = self.pool.options();
        options.create = snapgroup::CreatePool::Here;
        options.base_directories = bases.iter().map(|base| (*base).to_owned()).collect();
        Ok(Engine::open(self.pool.path(), options)?)
    }

    /// `sub/lower.raw`, and `upper.qcow2` above it.
    fn put_chain(&self) -> Outcome {
        fs::create_dir(self.path("sub"))?;
        fs::write(self.path("sub/lower.raw"), vec![1; 200_000])?;
        let upper = written(&above("sub/lower.raw", "raw"), &[(4096, 8192, 2)])?;
        Ok(fs::write(self.path("upper.qcow2"), upper)?)
    }
}

fn qcow2(file: &str) -> AdoptVolume {
    AdoptVolume::new(file, LayerFormat::Qcow2, "adopted")
}

fn above_base(file: String, format: LayerFormat) -> CreateVolume {
    CreateVolume { base: Some(BaseImage { file, format }), size: None, ..volume("v", VolumeKind::Data) }
}

/// What a guest sees through the chain.
fn content() -> Vec<u8> {
    let mut content = vec![0; SIZE.as_usize()];
    content[..200_000].fill(1);
    content[4096..12_288].fill(2);
    content
}

/// The rule that a file broke, in a report as in the refusal.
fn refused(engine: &Engine, wish: &AdoptVolume) -> Made<String> {
    let generation = engine.generation();
    let Err(error) = engine.adopt_volume(wish) else { panic!("{wish:?} was taken") };
    assert_eq!(engine.generation(), generation);
    let ChainReport { refused: Some(told), .. } = engine.validate_chain(wish)? else {
        panic!("it is adoptable")
    };
    let rule = rule_of(&error)?;
    assert_eq!(rule, format!("{}: {}", told.file, told.rule));
    Ok(rule)
}

#[test]
fn a_volume_above_a_golden_image_reads_through_it_and_leaves_it_as_it_is() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let before = place.picture()?;
    let upper = place.text("upper.qcow2")?;
    let engine = place.open()?;
    let disk = engine.create_volume(&above_base(upper.clone(), LayerFormat::Qcow2))?.uuid;
    assert!(read_volume(&engine, disk)? == content());
    let chain = engine.chain(disk)?;
    assert_eq!((chain[1].file.as_str(), chain[2].file.as_str()), (&*upper, &*place.text("sub/lower.raw")?));
    fill(&engine.open_volume(disk)?, 0, 300_000, 3)?;
    assert_sound(&engine)?;
    engine.close()?;

    // Opened anew it is the same; not told of the directory, the pool does not reach it.
    let engine = place.open()?;
    let mut expected = content();
    expected[..300_000].fill(3);
    assert!(read_volume(&engine, disk)? == expected);
    engine.close()?;
    let engine = place.open_with(&[])?;
    let Err(Error::LayerMissing { blob, .. }) = engine.open_volume(disk) else { panic!("it was opened") };
    assert_eq!(blob, upper);
    assert_eq!(place.picture()?, before);
    Ok(())
}

#[test]
fn a_chain_that_leads_into_a_base_directory_is_adopted_by_either_kind_of_name() -> Outcome {
    for label in ["relative", "absolute"] {
        let place = Place::new()?;
        place.put_chain()?;
        let upper = place.text("upper.qcow2")?;
        let name = match label {
            "absolute" => upper.clone(),
            // As QEMU finds it, from the directory of the image on.
            _ => {
                fs::create_dir(place.pool.path().join("golden"))?;
                fs::create_dir(place.pool.path().join("golden/sub"))?;
                fs::copy(&upper, place.pool.path().join("golden/upper.qcow2"))?;
                fs::copy(place.path("sub/lower.raw"), place.pool.path().join("golden/sub/lower.raw"))?;
                "golden/upper.qcow2".to_owned()
            }
        };
        place.pool.put("top.qcow2", &written(&above(&name, "qcow2"), &[(8192, 4096, 3)])?)?;
        let inside = place.pool.path().join("golden");
        let engine = match label {
            "absolute" => place.open()?,
            _ => place.open_with(&[&inside])?,
        };
        let disk = engine.adopt_volume(&qcow2("top.qcow2"))?.uuid;
        let mut expected = content();
        expected[8192..12_288].fill(3);
        assert!(read_volume(&engine, disk)? == expected, "{label}");
        assert_eq!(engine.chain(disk)?.len(), 3);
        assert_sound(&engine)?;
    }
    Ok(())
}

#[test]
fn the_path_of_a_file_of_the_pool_is_its_name_there() -> Outcome {
    let place = Place::new()?;
    place.pool.put("base.raw", &[7; 4096])?;
    let path = place.pool.path().join("base.raw");
    let label = path.to_str().ok_or("a path is text")?;
    place.pool.put("top.qcow2", &written(&above(label, "raw"), &[])?)?;
    let engine = place.open_with(&[])?;
    let disk = engine.adopt_volume(&qcow2("top.qcow2"))?.uuid;
    assert_eq!(engine.chain(disk)?[1].file, "base.raw");
    assert!(read_volume(&engine, disk)?[..4096].iter().all(|byte| *byte == 7));
    // The directory that the path leads to is another one now.
    engine.close()?;
    let store = DiskStore::open(place.pool.path())?;
    assert_eq!(store.name_of(label), Some(BlobName::parse("base.raw")?));
    let aside = TempDir::new()?;
    fs::rename(place.pool.path(), aside.path().join("pool"))?;
    fs::create_dir(place.pool.path())?;
    assert_eq!(store.name_of(label), None);
    Ok(())
}

#[test]
fn what_lies_in_no_base_directory_or_behind_a_link_is_refused() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let elsewhere = TempDir::new()?;
    fs::copy(place.path("upper.qcow2"), elsewhere.path().join("upper.qcow2"))?;
    fs::write(elsewhere.path().join("secret.raw"), [5; 4096])?;
    symlink(elsewhere.path(), place.path("folder"))?;
    symlink(elsewhere.path().join("secret.raw"), place.path("link.raw"))?;
    let engine = place.open()?;
    let golden = place.text("")?;
    let golden = golden.trim_end_matches('/');
    let other = elsewhere.path().to_str().ok_or("a path is text")?.to_owned();
    let nowhere = "it is neither in the pool's directory nor in a declared base directory";
    for (file, rule) in [
        (format!("{other}/secret.raw"), nowhere),
        ("/etc/passwd".to_owned(), nowhere),
        (golden.to_owned(), nowhere),
        (format!("{golden}x/secret.raw"), nowhere),
        (format!("{golden}/../etc/passwd"), nowhere),
        (format!("{golden}/./upper.qcow2"), nowhere),
        (format!("{golden}//upper.qcow2"), nowhere),
        (format!("{golden}/absent.raw"), "it is not in a declared base directory"),
        (format!("{golden}/link.raw"), "it is not a regular file"),
        (format!("{golden}/sub"), "it is not a regular file"),
    ] {
        let wish = AdoptVolume::new(file.clone(), LayerFormat::Raw, "adopted");
        assert_eq!(refused(&engine, &wish)?, format!("{file}: {rule}"));
        // A header that says so is believed no more.
        place.pool.put("odd.qcow2", &written(&above(&file, "raw"), &[])?)?;
        refused(&engine, &qcow2("odd.qcow2"))?;
    }
    // Of a link on the way, what is behind it is not there.
    let behind = format!("{golden}/folder/secret.raw");
    let wish = AdoptVolume::new(behind.clone(), LayerFormat::Raw, "adopted");
    assert!(refused(&engine, &wish)?.starts_with(&behind));
    // An image in a base directory leads no further than one in the pool.
    for label in ["../secret.raw", &format!("{other}/secret.raw"), "file:sub/lower.raw", "folder/secret.raw"]
    {
        fs::write(place.path("odd.qcow2"), written(&above(label, "raw"), &[])?)?;
        let Err(error) = engine.create_volume(&above_base(place.text("odd.qcow2")?, LayerFormat::Qcow2))
        else {
            panic!("{label} was followed");
        };
        rule_of(&error)?;
    }
    let Err(Error::Storage(StorageError::Io { .. })) = place.pool_of("relative").map(drop) else {
        panic!("a relative base directory was taken");
    };
    Ok(())
}

impl Place {
    fn pool_of(&self, base: &str) -> Result<Engine, Error> {
        let mut options = self.pool.options();
        options.base_directories = vec![base.into()];
        let other = TempDir::new().expect("a directory");
        Engine::open(other.path(), options)
    }
}

#[test]
fn a_golden_image_is_no_head_and_neither_is_one_of_a_pool_a_golden_image() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let engine = place.open()?;
    let upper = place.text("upper.qcow2")?;
    assert_eq!(
        refused(&engine, &qcow2(&upper))?,
        format!(
            "{upper}: it lies in a base directory, where nothing is written: make a volume above it instead"
        )
    );
    drop(engine);

    // The pool's directory by another path, and a file of it by a hard link.
    place.pool.put("own.raw", &[1; 4096])?;
    let alias = TempDir::new()?;
    symlink(place.pool.path(), alias.path().join("pool"))?;
    fs::hard_link(place.pool.path().join("own.raw"), place.path("second.raw"))?;
    let by_path = alias.path().join("pool");
    let engine = place.open_with(&[&by_path, place.golden.path()])?;
    for file in [by_path.join("own.raw"), place.path("second.raw")] {
        let file = file.to_str().ok_or("a path is text")?;
        let rule = refused(&engine, &AdoptVolume::new(file, LayerFormat::Raw, "adopted"))?;
        assert_eq!(rule, format!("{file}: it is own.raw of the pool's directory"));
    }
    drop(engine);

    // A file of another pool changes when that one reclaims.
    let other = Engine::open(place.path("pool"), place.pool.options())?;
    let disk = other.create_volume(&volume("w", VolumeKind::Data))?.uuid;
    other.create_snapshot(&CreateSnapshot::new(disk, "s"))?;
    let file = other.chain(disk)?[1].file.clone();
    other.close()?;
    let engine = place.open()?;
    let file = place.text(&format!("pool/{file}"))?;
    let Err(error) = engine.create_volume(&above_base(file.clone(), LayerFormat::Qcow2)) else {
        panic!("a file of another pool was taken");
    };
    assert_eq!(rule_of(&error)?, format!("{file}: it lies in the directory of another pool"));
    Ok(())
}

#[test]
fn nothing_that_is_reclaimed_or_removed_touches_a_base_directory() -> Outcome {
    for direction in [Direction::Pull, Direction::Commit] {
        let place = Place::new()?;
        place.put_chain()?;
        let before = place.picture()?;
        let label = place.text("upper.qcow2")?;
        place.pool.put("top.qcow2", &written(&above(&label, "qcow2"), &[(8192, 4096, 3)])?)?;
        let engine = place.open()?;
        let wish = AdoptVolume { lower: LowerLayers::Snapshots, ..qcow2("top.qcow2") };
        let disk = engine.adopt_volume(&wish)?.uuid;
        let snapshots: Vec<_> = engine.query_snapshots(&Default::default())?.items;
        let names: Vec<_> = snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect();
        assert!(names.contains(&"upper.qcow2") && names.contains(&"lower.raw"), "{names:?}");
        let mine = engine.create_snapshot(&CreateSnapshot::new(disk, "mine"))?.uuid;
        fill(&engine.open_volume(disk)?, 0, 100_000, 4)?;
        let seen = read_volume(&engine, disk)?;
        for snapshot in snapshots.iter().map(|snapshot| snapshot.uuid).chain([mine]) {
            let mode = DeleteMode::Enforcing;
            assert!(
                engine
                    .delete_snapshots(&DeleteSnapshots { direction, mode, ..DeleteSnapshots::one(snapshot) })?
                    .is_success()
            );
            assert!(read_volume(&engine, disk)? == seen);
        }
        assert_sound(&engine)?;
        assert_eq!(place.picture()?, before, "{direction}");
        assert!(engine.delete_volume(&snapgroup::DeleteVolume::new(disk))?.is_success());
        engine.close()?;
        assert_eq!(place.picture()?, before, "{direction}");
    }
    Ok(())
}

#[test]
fn a_store_reads_a_base_directory_and_does_nothing_else_there() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let name = BlobName::in_base(&place.text("sub/lower.raw")?)?;
    let fresh = BlobName::in_base(&place.text("fresh.raw")?)?;
    let disk = DiskStore::open(place.pool.path())?.with_bases([place.golden.path()])?;
    let Err(StorageError::ReadOnly { .. }) = disk.open(&name, Access::Write) else { panic!("it was opened") };
    let blob = disk.open(&name, Access::Read)?;
    assert_eq!(disk.location(&name), name.as_str());
    let Err(StorageError::ReadOnly { .. }) = blob.punch(snapgroup::units::HostOffset::ZERO, SIZE) else {
        panic!("it was punched");
    };
    blob.hold(Hold::Read)?;
    for store in [&disk as &dyn Store, &MemoryStore::new()] {
        for name in [&name, &fresh] {
            let Err(StorageError::ReadOnly { .. }) = store.create(name) else { panic!("{name} was made") };
            let Err(StorageError::ReadOnly { .. }) = store.remove(name) else { panic!("{name} was removed") };
        }
        assert!(!store.list()?.contains(&name));
    }
    assert_eq!(MemoryStore::new().name_of(name.as_str()), None);
    // Nobody who speaks the locks of images writes to it meanwhile.
    let other = DiskStore::open(&place.path("sub"))?;
    let writer = other.open(&BlobName::parse("lower.raw")?, Access::Write)?;
    let Err(StorageError::InUse { .. }) = writer.hold(Hold::Write) else {
        panic!("it is written while it is read")
    };
    Ok(())
}

#[test]
fn a_base_directory_is_the_one_that_was_declared() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    for path in [Path::new("golden"), Path::new("../golden"), &place.path("sub/..")] {
        let declared = DiskStore::open(place.pool.path())?.with_bases([path]);
        let Err(StorageError::Io { .. }) = declared else { panic!("{path:?} was taken") };
    }
    let disk = DiskStore::open(place.pool.path())?.with_bases([place.golden.path()])?;
    let lower = place.text("sub/lower.raw")?;
    assert!(disk.name_of(&lower).is_some());
    let through_a_file = BlobName::in_base(&format!("{lower}/x"))?;
    let Err(StorageError::NotFound { .. }) = disk.open(&through_a_file, Access::Read) else {
        panic!("a file has a file below it")
    };
    // Another one has taken its place.
    let aside = TempDir::new()?;
    fs::rename(place.golden.path(), aside.path().join("golden"))?;
    fs::create_dir(place.golden.path())?;
    assert_eq!(disk.name_of(&lower), None);
    Ok(())
}

#[test]
fn a_lost_catalogue_comes_back_with_what_lies_in_a_base_directory() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let engine = place.open()?;
    let disk = engine.create_volume(&above_base(place.text("upper.qcow2")?, LayerFormat::Qcow2))?.uuid;
    fill(&engine.open_volume(disk)?, 0, 4096, 9)?;
    let seen = read_volume(&engine, disk)?;
    engine.close()?;
    fs::remove_file(place.pool.path().join("snapgroup.redb"))?;
    let mut options = place.pool.options();
    options.base_directories = vec![place.golden.path().to_owned()];
    assert!(Engine::rebuild(place.pool.path(), &options, &RebuildOptions::default())?.is_whole());
    let engine = place.open()?;
    assert!(read_volume(&engine, disk)? == seen);
    assert_sound(&engine)
}

#[test]
fn a_base_that_is_gone_costs_a_rebuild_the_disks_above_it_and_no_others() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let engine = place.open()?;
    let above = engine.create_volume(&above_base(place.text("upper.qcow2")?, LayerFormat::Qcow2))?.uuid;
    let alone = engine.create_volume(&volume("alone", VolumeKind::Data))?.uuid;
    engine.close()?;
    fs::remove_file(place.pool.path().join("snapgroup.redb"))?;
    fs::remove_file(place.path("upper.qcow2"))?;
    let mut options = place.pool.options();
    options.base_directories = vec![place.golden.path().to_owned()];
    let rebuilt = Engine::rebuild(place.pool.path(), &options, &RebuildOptions::default())?;
    assert_eq!(rebuilt.volumes.iter().map(|known| known.uuid).collect::<Vec<_>>(), [alone]);
    assert_eq!(rebuilt.volumes_lost.iter().map(|known| known.uuid).collect::<Vec<_>>(), [above]);
    Ok(())
}

#[test]
fn images_are_imported_whose_chain_leads_into_a_base_directory() -> Outcome {
    let place = Place::new()?;
    place.put_chain()?;
    let outside = TempDir::new()?;
    let label = place.text("upper.qcow2")?;
    fs::write(outside.path().join("x.qcow2"), written(&above(&label, "qcow2"), &[])?)?;
    let engine = place.open()?;
    let from = snapgroup::ImportFrom::Path(outside.path().join("x.qcow2"));
    let disk = engine.import(&snapgroup::ImportVolume::new(from, LayerFormat::Qcow2, "v"))?.uuid;
    assert!(read_volume(&engine, disk)? == content());
    Ok(())
}
