//! How many files the store on disk has open at once.

use crate::{Outcome, name};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use snapgroup::storage::{Access, Blob, DiskOptions, DiskStore, Error, Hold, MapFrozen, Operation, Store};
use snapgroup::units::HostOffset;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// The files of a directory that this process has open.
fn open_below(directory: &Path) -> std::io::Result<usize> {
    let mut open = 0;
    for descriptor in fs::read_dir("/proc/self/fd")? {
        // One that is closed meanwhile leads nowhere.
        let target = fs::read_link(descriptor?.path()).unwrap_or_default();
        open += usize::from(target.parent() == Some(directory));
    }
    Ok(open)
}

fn narrow(pool: &Path, most: usize) -> snapgroup::storage::Result<DiskStore> {
    DiskStore::open_with(pool, DiskOptions::new().with_descriptors_max(most))
}

/// Makes so many files, each with its own byte.
fn fill(pool: &Path, files: u8) -> std::io::Result<()> {
    (0..files).try_for_each(|byte| fs::write(pool.join(format!("{byte}")), [byte; 16]))
}

fn opened(store: &dyn Store, files: u8) -> Result<Vec<Arc<dyn Blob>>, Error> {
    (0..files).map(|byte| store.open(&name(&format!("{byte}")), Access::Read)).collect()
}

fn first_byte(blob: &dyn Blob) -> Result<u8, Error> {
    let mut byte = [0xEE];
    blob.read_at(HostOffset::ZERO, &mut byte)?;
    Ok(byte[0])
}

#[test]
fn two_hundred_files_are_read_through_three_descriptors() -> Outcome {
    let pool = TempDir::new()?;
    let pool = pool.path().canonicalize()?;
    fill(&pool, 200)?;
    let store = narrow(&pool, 3)?;
    let blobs = opened(&store, 200)?;
    for step in [1, 7, 199] {
        for index in 0..200 {
            let byte = u8::try_from(index * step % 200)?;
            assert_eq!(first_byte(&*blobs[usize::from(byte)])?, byte);
            assert!(open_below(&pool)? <= 3, "{} are open", open_below(&pool)?);
        }
    }
    drop(blobs);
    assert_eq!(open_below(&pool)?, 0);
    // What was dropped makes room.
    let blob = store.open(&name("0"), Access::Read)?;
    for byte in 1..200 {
        assert_eq!(first_byte(&*store.open(&name(&format!("{byte}")), Access::Read)?)?, byte);
    }
    fs::rename(pool.join("0"), pool.join("moved"))?;
    assert_eq!(first_byte(&*blob)?, 0, "it was closed though two are free");
    Ok(())
}

#[test]
fn threads_read_more_files_than_may_be_open() -> Outcome {
    let pool = TempDir::new()?;
    fill(pool.path(), 50)?;
    let store = narrow(pool.path(), 2)?;
    let blobs = opened(&store, 50)?;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4_u8)
            .map(|thread| {
                let blobs = &blobs;
                scope.spawn(move || {
                    for round in 0..2000_usize {
                        let index = (round * (3 + usize::from(thread)) + usize::from(thread)) % 50;
                        assert_eq!(usize::from(first_byte(&*blobs[index])?), index);
                    }
                    Ok::<(), Error>(())
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
    })?;
    Ok(())
}

#[test]
fn a_name_is_removed_from_under_a_closed_file_and_made_anew() -> Outcome {
    let pool = TempDir::new()?;
    fill(pool.path(), 10)?;
    let store = narrow(pool.path(), 1)?;
    let blobs = opened(&store, 10)?;
    store.remove(&name("3"))?;
    store.create(&name("3"))?.write_at(HostOffset::ZERO, &[33; 16])?;
    for round in 0..3 {
        for (index, blob) in blobs.iter().enumerate() {
            assert_eq!(usize::from(first_byte(&**blob)?), index, "round {round}");
        }
        assert_eq!(first_byte(&*store.open(&name("3"), Access::Read)?)?, 33);
    }
    Ok(())
}

#[test]
fn another_file_in_the_place_of_a_closed_one_is_refused() -> Outcome {
    let pool = TempDir::new()?;
    fill(pool.path(), 2)?;
    let store = narrow(pool.path(), 1)?;
    let blobs = opened(&store, 2)?;
    fs::write(pool.path().join("other"), [99; 16])?;
    fs::rename(pool.path().join("other"), pool.path().join("0"))?;
    let read = first_byte(&*blobs[0]);
    let Err(Error::Io { operation: Operation::Open, name, source }) = read else { panic!("{read:?}") };
    assert_eq!((name.as_str(), source.raw_os_error()), ("0", Some(libc::ESTALE)));
    fs::remove_file(pool.path().join("0"))?;
    let read = first_byte(&*blobs[0]);
    let Err(Error::NotFound { .. }) = read else { panic!("{read:?}") };
    Ok(())
}

#[test]
fn a_mapped_file_is_read_without_a_descriptor() -> Outcome {
    let pool = TempDir::new()?;
    let pool = pool.path().canonicalize()?;
    fill(&pool, 5)?;
    let options = DiskOptions::new().with_descriptors_max(1).with_map_frozen(MapFrozen::Yes);
    let blobs = opened(&DiskStore::open_with(&pool, options)?, 5)?;
    for byte in 0..5 {
        fs::remove_file(pool.join(format!("{byte}")))?;
        assert_eq!(first_byte(&*blobs[usize::from(byte)])?, byte);
    }
    Ok(())
}

/// A lock on one byte of a file by another open file, as another process would have it.
fn lock(file: &File, kind: i32, byte: i64) -> nix::Result<()> {
    let range = libc::flock {
        l_type: i16::try_from(kind).expect("small"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("small"),
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(drop)
}

/// The byte that says "I let nobody else write" in QEMU's `block/file-posix.c`, and the one that says "I write".
const BARS_WRITE: i64 = 201;
const USES_WRITE: i64 = 101;

#[test]
fn a_closed_file_is_held_again_when_it_is_opened_and_a_writer_is_noticed_then() -> Outcome {
    let pool = TempDir::new()?;
    fill(pool.path(), 2)?;
    let store = narrow(pool.path(), 1)?;
    let blobs = opened(&store, 2)?;
    let outsider = File::options().read(true).write(true).open(pool.path().join("0"))?;
    let is_barred = || match lock(&outsider, libc::F_WRLCK, BARS_WRITE) {
        Ok(()) => lock(&outsider, libc::F_UNLCK, BARS_WRITE).map(|()| false),
        Err(nix::errno::Errno::EAGAIN) => Ok(true),
        Err(errno) => Err(errno),
    };

    blobs[0].hold(Hold::Read)?;
    assert!(is_barred()?);
    assert_eq!(first_byte(&*blobs[1])?, 1);
    assert!(!is_barred()?, "a file that is closed is held");
    assert_eq!(first_byte(&*blobs[0])?, 0);
    assert!(is_barred()?, "it is open again and not held");

    assert_eq!(first_byte(&*blobs[1])?, 1);
    lock(&outsider, libc::F_RDLCK, USES_WRITE)?;
    let read = first_byte(&*blobs[0]);
    let Err(Error::InUse { .. }) = read else { panic!("somebody writes to it: {read:?}") };
    lock(&outsider, libc::F_UNLCK, USES_WRITE)?;
    assert_eq!(first_byte(&*blobs[0])?, 0);

    // Its name can go all the same, and who reads it reads on.
    assert_eq!(first_byte(&*blobs[1])?, 1);
    lock(&outsider, libc::F_RDLCK, USES_WRITE)?;
    store.remove(&name("0"))?;
    assert_eq!(first_byte(&*blobs[0])?, 0);
    Ok(())
}

/// The limit belongs to the process, so this test alone changes it, in a process of its own.
#[test]
fn what_the_process_may_have_open_is_enough_for_any_number_of_files() -> Outcome {
    const CHILD: &str = "SNAPGROUP_TEST_DESCRIPTORS";
    let test = "disk_descriptors::what_the_process_may_have_open_is_enough_for_any_number_of_files";
    let Ok(most) = std::env::var(CHILD) else {
        for most in ["default", "1000"] {
            let child = std::process::Command::new(std::env::current_exe()?)
                .args(["--exact", test, "--nocapture"])
                .env(CHILD, most)
                .output()?;
            assert!(child.status.success(), "{most}: {}", String::from_utf8_lossy(&child.stderr));
            assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the child ran no test");
        }
        return Ok(());
    };
    let pool = TempDir::new()?;
    fill(pool.path(), 200)?;
    setrlimit(Resource::RLIMIT_NOFILE, 60, 60)?;
    let options = match most.parse() {
        Ok(most) => DiskOptions::new().with_descriptors_max(most),
        Err(_) => DiskOptions::new(),
    };
    let blobs = opened(&DiskStore::open_with(pool.path(), options)?, 200)?;
    for (index, blob) in blobs.iter().enumerate() {
        assert_eq!(usize::from(first_byte(&**blob)?), index);
    }
    Ok(())
}
