//! Files outside of any store: whole or not at all, and read only.

use crate::promises::{ODD, at, bytes, pattern};
use crate::{Outcome, name};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use snapgroup::storage::{
    Access, Blob, DiskStore, Error, ExportFile, MemoryStore, Operation, Replace, Store, open_file,
};
use snapgroup::units::ByteCount;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// All names in a directory, sorted.
fn names(directory: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>();
    if let Ok(names) = &mut names {
        names.sort();
    }
    names
}

#[test]
fn nothing_is_at_the_path_until_all_of_it_is() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("export.raw");
    let file = ExportFile::create(&path)?;
    file.blob().write_at(at(0), &pattern(ODD))?;
    file.blob().sync()?;
    assert!(!path.exists());
    file.persist()?;
    assert!(fs::read(&path)? == pattern(ODD));
    assert_eq!(names(directory.path())?, ["export.raw"]);
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&path)?.nlink(), 1);
    Ok(())
}

#[test]
fn the_old_file_stays_whole_until_the_new_one_takes_its_name() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("export.raw");
    fs::write(&path, b"old")?;
    let old = open_file(&path)?;
    let file = ExportFile::create_with(&path, Replace::Atomically)?;
    file.blob().write_at(at(0), b"new!")?;
    assert_eq!(fs::read(&path)?, b"old");
    file.persist()?;
    assert_eq!(fs::read(&path)?, b"new!");
    assert_eq!(names(directory.path())?, ["export.raw"]);
    assert_eq!(bytes(&*old, 0, 3)?, b"old", "B6");
    Ok(())
}

#[test]
fn what_is_dropped_leaves_nothing() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("export.raw");
    for old in [None, Some(b"old")] {
        if let Some(old) = old {
            fs::write(&path, old)?;
        }
        let before = names(directory.path())?;
        let file = ExportFile::create_with(&path, Replace::Atomically)?;
        let blob = file.blob();
        blob.write_at(at(0), b"new!")?;
        assert_eq!(names(directory.path())?.len(), before.len() + 1);
        drop(file);
        assert_eq!(names(directory.path())?, before);
        assert_eq!(bytes(&*blob, 0, 4)?, b"new!", "B6");
    }
    assert_eq!(fs::read(&path)?, b"old");
    Ok(())
}

#[test]
fn a_taken_path_is_refused_early_and_late_and_stays_as_it_is() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("taken");
    let takers: [fn(&Path) -> std::io::Result<()>; 3] =
        [|path| fs::write(path, b"old"), |path| symlink("absent", path), |path| fs::create_dir(path)];
    for (number, take) in takers.iter().enumerate() {
        let late = ExportFile::create(&path)?;
        take(&path)?;
        let refused = [ExportFile::create(&path).map(drop), late.persist()];
        for (when, refused) in refused.into_iter().enumerate() {
            let Err(Error::Exists { name: who }) = refused else { panic!("{number}, {when}: {refused:?}") };
            assert_eq!(who, name("taken"));
        }
        assert_eq!(names(directory.path())?, ["taken"], "taker {number}");
        match number {
            0 => assert_eq!(fs::read(&path)?, b"old"),
            1 => assert_eq!(fs::read_link(&path)?, Path::new("absent")),
            _ => assert!(path.is_dir()),
        }
        if number < 2 { fs::remove_file(&path)? } else { fs::remove_dir(&path)? }
    }
    Ok(())
}

#[test]
fn many_files_get_their_names_all_or_none() -> Outcome {
    let directory = TempDir::new()?;
    let make = |name: &str, replace| -> Result<ExportFile, Error> {
        let file = ExportFile::create_with(&directory.path().join(name), replace)?;
        file.blob().write_at(at(0), name.as_bytes())?;
        Ok(file)
    };
    ExportFile::persist_all([make("a", Replace::Never)?, make("b", Replace::Never)?])?;
    ExportFile::persist_all([])?;
    assert_eq!(names(directory.path())?, ["a", "b"]);
    assert_eq!(
        (fs::read(directory.path().join("a"))?, fs::read(directory.path().join("b"))?),
        (b"a".into(), b"b".into())
    );

    // The last one finds its name taken.
    let files = [make("c", Replace::Never)?, make("d", Replace::Never)?, make("e", Replace::Never)?];
    fs::write(directory.path().join("e"), b"somebody's")?;
    let Err(Error::Exists { name }) = ExportFile::persist_all(files) else { panic!("it was taken") };
    assert_eq!(name.as_str(), "e");
    assert_eq!(names(directory.path())?, ["a", "b", "e"]);
    assert_eq!(fs::read(directory.path().join("e"))?, b"somebody's");

    // What was replaced by then does not come back.
    let files = [make("a", Replace::Atomically)?, make("c", Replace::Never)?, make("f", Replace::Never)?];
    files[0].blob().write_at(at(0), b"new")?;
    fs::write(directory.path().join("f"), b"somebody's")?;
    let Err(Error::Exists { .. }) = ExportFile::persist_all(files) else { panic!("it was taken") };
    assert_eq!(names(directory.path())?, ["a", "b", "e", "f"]);
    assert_eq!(fs::read(directory.path().join("a"))?, b"new");
    Ok(())
}

#[test]
fn a_link_is_replaced_and_a_directory_is_not() -> Outcome {
    let directory = TempDir::new()?;
    let (link, target) = (directory.path().join("link"), directory.path().join("target"));
    fs::write(&target, b"old")?;
    symlink("target", &link)?;
    let file = ExportFile::create_with(&link, Replace::Atomically)?;
    file.blob().write_at(at(0), b"new!")?;
    file.persist()?;
    assert_eq!(fs::read(&target)?, b"old");
    assert!(fs::symlink_metadata(&link)?.is_file());

    let inner = directory.path().join("inner");
    fs::create_dir(&inner)?;
    let persisted = ExportFile::create_with(&inner, Replace::Atomically)?.persist();
    let Err(Error::Io { operation: Operation::Persist, .. }) = persisted else { panic!("{persisted:?}") };
    assert_eq!(names(directory.path())?, ["inner", "link", "target"]);
    Ok(())
}

#[test]
fn a_path_without_a_directory_or_a_name_is_refused() -> Outcome {
    let directory = TempDir::new()?;
    for path in ["absent/export.raw", "..", "a/.."].map(|path| directory.path().join(path)) {
        let made = ExportFile::create(&path);
        let Err(Error::Io { operation: Operation::Create, .. }) = made else { panic!("{path:?}: {made:?}") };
    }
    for path in ["/", ""] {
        let made = ExportFile::create(Path::new(path));
        let Err(Error::Io { operation: Operation::Create, .. }) = made else { panic!("{path:?}: {made:?}") };
    }
    assert!(names(directory.path())?.is_empty());
    Ok(())
}

#[test]
fn a_name_of_any_bytes_is_a_name() -> Outcome {
    let directory = TempDir::new()?;
    for odd in [&b"\xFF\xFE"[..], b"line\nbreak", &[b'x'; 255], b" ", "ü".as_bytes()] {
        let path = directory.path().join(OsStr::from_bytes(odd));
        let file = ExportFile::create(&path)?;
        file.blob().write_at(at(0), odd)?;
        file.persist()?;
        assert_eq!(fs::read(&path)?, odd);
        assert_eq!(bytes(&*open_file(&path)?, 0, odd.len())?, odd);
        let Err(Error::Exists { .. }) = ExportFile::create(&path) else { panic!("{path:?} made twice") };
    }
    Ok(())
}

#[test]
fn the_file_goes_where_its_directory_went() -> Outcome {
    let parent = TempDir::new()?;
    let (first, moved) = (parent.path().join("first"), parent.path().join("moved"));
    fs::create_dir(&first)?;
    let file = ExportFile::create(&first.join("export.raw"))?;
    fs::rename(&first, &moved)?;
    fs::create_dir(&first)?;
    file.persist()?;
    assert_eq!(names(&moved)?, ["export.raw"]);
    assert!(names(&first)?.is_empty());
    Ok(())
}

#[test]
fn the_bytes_of_a_new_file_are_a_blob_like_any_other() -> Outcome {
    let directory = TempDir::new()?;
    let store = DiskStore::create(&directory.path().join("pool"))?;
    let on_disk = store.create(&name("a"))?;
    let in_memory = MemoryStore::new().create(&name("a"))?;
    for (number, source) in [on_disk, in_memory].into_iter().enumerate() {
        source.write_at(at(0), &pattern(ODD))?;
        let path = directory.path().join(format!("export-{number}.raw"));
        let file = ExportFile::create(&path)?;
        let blob = file.blob();
        assert_eq!(blob.length()?, ByteCount::ZERO);
        blob.copy_from(at(4096), &*source, at(1), ByteCount::of(ODD))?;
        blob.write_at(at(0), b"start")?;
        blob.punch(at(8192), ByteCount::kib(4))?;
        blob.set_length(ByteCount::mib(2))?;
        let read = bytes(&*blob, 1 << 21, 1);
        let Err(Error::PastEnd { name: who, .. }) = read else { panic!("{read:?}") };
        assert_eq!(who, name(&format!("export-{number}.raw")));
        file.persist()?;

        let mut expected = vec![0; 2 << 20];
        expected[4096..4096 + ODD - 1].copy_from_slice(&pattern(ODD)[1..]);
        expected[..5].copy_from_slice(b"start");
        expected[8192..8192 + 4096].fill(0);
        assert!(fs::read(&path)? == expected, "kind {number}");
        blob.write_at(at(0), b"after")?;
        assert_eq!(fs::read(&path)?[..5], *b"after");
        assert_eq!(blob.identity(), open_file(&path)?.identity());
    }
    Ok(())
}

#[test]
fn an_existing_file_is_read_and_never_changed() -> Outcome {
    let directory = TempDir::new()?;
    let (path, link) = (directory.path().join("import.raw"), directory.path().join("link"));
    fs::write(&path, pattern(ODD))?;
    symlink("import.raw", &link)?;
    for path in [&path, &link] {
        let blob = open_file(path)?;
        assert!(bytes(&*blob, 0, ODD)? == pattern(ODD));
        let read = bytes(&*blob, ODD, 1);
        let Err(Error::PastEnd { .. }) = read else { panic!("{read:?}") };
        let changes = [
            blob.write_at(at(0), b"else"),
            blob.set_length(ByteCount::ZERO),
            blob.punch(at(0), ByteCount::new(4)),
            blob.copy_from(at(0), &*blob, at(4), ByteCount::new(4)),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let Err(Error::ReadOnly { .. }) = change else { panic!("change {number}: {change:?}") };
        }
        let copy = MemoryStore::new().create(&name("copy"))?;
        copy.copy_from(at(0), &*blob, at(0), ByteCount::of(ODD))?;
        assert!(bytes(&*copy, 0, ODD)? == pattern(ODD));
    }
    assert!(fs::read(&path)? == pattern(ODD));
    Ok(())
}

#[test]
fn what_is_no_plain_file_is_not_opened() -> Outcome {
    let directory = TempDir::new()?;
    let path = |text: &str| directory.path().join(text);
    fs::create_dir(path("directory"))?;
    mkfifo(&path("pipe"), Mode::S_IRWXU)?;
    let _socket = UnixListener::bind(path("socket"))?;
    symlink("pipe", path("link"))?;
    symlink("absent", path("dangling"))?;
    for odd in ["directory", "pipe", "socket", "link"] {
        let opened = open_file(&path(odd));
        let Err(Error::NotRegular { name: who }) = opened else { panic!("{odd}: {opened:?}") };
        assert_eq!(who, name(odd));
    }
    let opened = open_file(Path::new("/dev/null"));
    let Err(Error::NotRegular { .. }) = opened else { panic!("{opened:?}") };
    for absent in ["absent", "dangling"] {
        let opened = open_file(&path(absent));
        let Err(Error::NotFound { name: who }) = opened else { panic!("{absent}: {opened:?}") };
        assert_eq!(who, name(absent));
    }
    Ok(())
}

/// Two file systems, if this machine has them: the kernel then refuses to copy, and it is read and written.
#[test]
fn a_copy_between_file_systems_arrives() -> Outcome {
    let (Ok(one), Ok(other)) = (TempDir::new(), TempDir::new_in("/dev/shm")) else { return Ok(()) };
    let stores = [DiskStore::open(one.path())?, DiskStore::open(other.path())?];
    let blobs: Vec<Arc<dyn Blob>> =
        stores.iter().map(|store| store.create(&name("a"))).collect::<Result<_, _>>()?;
    for (source, target) in [(0, 1), (1, 0)] {
        let content = [pattern(3 << 20), vec![0; 3 << 20], pattern(ODD)].concat();
        blobs[source].set_length(ByteCount::ZERO)?;
        blobs[source].write_at(at(0), &content)?;
        blobs[source].punch(at(3 << 20), ByteCount::mib(3))?;
        blobs[target].copy_from(at(77), &*blobs[source], at(0), ByteCount::of(content.len()))?;
        let reader = stores[target].open(&name("a"), Access::Read)?;
        assert!(bytes(&*reader, 77, content.len())? == content, "{source} to {target}");
    }
    Ok(())
}
