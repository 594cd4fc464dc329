//! The lock of a store on disk, across opens and processes; and the look at QEMU's locks on an image.

use crate::{Outcome, name};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use snapgroup::storage::{Access, DiskOptions, DiskStore, Error, Hold, Holder, ImageLocks, Store};
use snapgroup::units::HostOffset;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Tells a child which store to take.
const CHILD: &str = "SNAPGROUP_TEST_LOCK";

fn range(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).expect("small"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("small"),
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

#[test]
fn a_second_open_in_this_process_is_refused_and_told_who_holds_it() -> Outcome {
    let pool = TempDir::new()?;
    let one = DiskStore::open(pool.path())?;
    let other = DiskStore::open(pool.path())?;
    let owner = one.lock()?;
    let second = other.lock();
    let Err(Error::Locked { location, holder }) = second else { panic!("two owners: {second:?}") };
    assert_eq!(location, pool.path().display().to_string());
    assert_eq!(holder, Some(Holder { process: Some(std::process::id()) }));
    drop(one);
    assert!(other.lock().is_err(), "the owner outlives the store it came from");
    drop(owner);
    drop(other.lock()?);
    Ok(())
}

#[test]
fn another_process_is_refused_and_let_in_when_the_owner_is_killed() -> Outcome {
    if let Some(path) = std::env::var_os(CHILD) {
        let _owner = DiskStore::open(path.as_ref())?.lock()?;
        let mut out = std::io::stdout();
        writeln!(out, "\nowned")?;
        out.flush()?;
        // Until the parent kills this process, or goes away.
        std::io::stdin().lines().for_each(drop);
        return Ok(());
    }
    let pool = TempDir::new()?;
    let mut child = Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "disk_locks::another_process_is_refused_and_let_in_when_the_owner_is_killed",
            "--nocapture",
        ])
        .env(CHILD, pool.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let owned = lines.by_ref().map_while(Result::ok).any(|line| line == "owned");
    assert!(owned, "the child could not take the store");

    let store = DiskStore::open(pool.path())?;
    let second = store.lock();
    let Err(Error::Locked { holder, .. }) = second else { panic!("two owners: {second:?}") };
    assert_eq!(holder, Some(Holder { process: Some(child.id()) }));
    child.kill()?;
    child.wait()?;
    drop(store.lock()?);
    Ok(())
}

#[test]
fn a_note_in_the_lock_file_that_is_no_number_is_no_holder() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let _owner = store.lock()?;
    for note in ["", "not a number", "-1", "99999999999999999999999999"] {
        std::fs::write(pool.path().join("snapgroup.lock"), note)?;
        let second = store.lock();
        let Err(Error::Locked { holder, .. }) = second else { panic!("{note:?}: {second:?}") };
        assert_eq!(holder, Some(Holder { process: None }), "{note:?}");
    }
    Ok(())
}

#[test]
fn a_lock_file_that_is_a_link_is_refused_and_not_followed() -> Outcome {
    let pool = TempDir::new()?;
    let outside = TempDir::new()?;
    std::fs::write(outside.path().join("victim"), b"not yours")?;
    std::os::unix::fs::symlink(outside.path().join("victim"), pool.path().join("snapgroup.lock"))?;
    let locked = DiskStore::open(pool.path())?.lock();
    let Err(Error::NotRegular { .. }) = locked else { panic!("{locked:?}") };
    assert_eq!(std::fs::read(outside.path().join("victim"))?, b"not yours");
    Ok(())
}

#[test]
fn a_writer_elsewhere_is_seen_by_byte_101_and_by_no_other() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let blob = store.create(&name("a"))?;
    blob.write_at(HostOffset::ZERO, b"some")?;
    let reader = store.open(&name("a"), Access::Read)?;
    let path = pool.path().join("a");

    // What QEMU holds for reading an image: nobody writes.
    let qemu = File::options().read(true).write(true).open(&path)?;
    for byte in [100, 201, 203] {
        fcntl(&qemu, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte, 1)))?;
    }
    assert_eq!(blob.writer_elsewhere()?, None);
    assert_eq!(reader.writer_elsewhere()?, None);

    // And for writing it: a shared lock on 101.
    for kind in [libc::F_RDLCK, libc::F_WRLCK] {
        fcntl(&qemu, FcntlArg::F_OFD_SETLK(&range(kind, 101, 1)))?;
        for blob in [&blob, &reader] {
            // Best effort: where /proc tells, it tells the truth. A child that another test is about to start may have the
            // file for a moment, too.
            let mut seen = Vec::new();
            while seen.len() < 100_000 {
                let Some(Holder { process }) = blob.writer_elsewhere()? else {
                    panic!("the writer is not seen")
                };
                seen.push(process);
                if process.is_none_or(|process| process == std::process::id()) {
                    break;
                }
                std::thread::yield_now();
            }
            assert!(seen.len() < 100_000, "another one: {:?}", seen.last());
        }
    }
    // Let go of by hand: a child that another test is about to start may have the file for a moment.
    fcntl(&qemu, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, 101, 1)))?;
    assert_eq!(blob.writer_elsewhere()?, None);
    Ok(())
}

#[test]
fn looking_for_a_writer_takes_no_lock() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let blob = store.create(&name("a"))?;
    assert_eq!(blob.writer_elsewhere()?, None);
    let qemu = File::options().read(true).write(true).open(pool.path().join("a"))?;
    fcntl(&qemu, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, 0, 0)))?;
    Ok(())
}

/// Whether another open file could put a lock of its own on a byte.
fn is_free(file: &File, byte: i64) -> Result<bool, Box<dyn std::error::Error>> {
    let mut found = range(libc::F_WRLCK, byte, 1);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(i32::from(found.l_type) == libc::F_UNLCK)
}

/// The bytes below 256 that are locked.
fn locked(file: &File) -> Result<Vec<i64>, Box<dyn std::error::Error>> {
    let mut bytes = Vec::new();
    for byte in 0..256 {
        if !is_free(file, byte)? {
            bytes.push(byte);
        }
    }
    Ok(bytes)
}

#[test]
fn a_hold_locks_the_bytes_that_qemu_would_and_goes_with_its_handle() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let blob = store.create(&name("a"))?;
    let outsider = File::options().read(true).write(true).open(pool.path().join("a"))?;
    assert_eq!(locked(&outsider)?, [0_i64; 0]);
    blob.hold(Hold::Read)?;
    assert_eq!(locked(&outsider)?, [100, 201, 203]);
    blob.hold(Hold::Write)?;
    assert_eq!(locked(&outsider)?, [100, 101, 103, 201, 203]);
    blob.hold(Hold::Read)?;
    assert_eq!(locked(&outsider)?, [100, 201, 203]);
    drop(blob);
    assert_eq!(locked(&outsider)?, [0_i64; 0]);
    Ok(())
}

#[test]
fn handles_of_one_store_do_not_stand_in_each_others_way() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let one = store.create(&name("a"))?;
    let other = store.open(&name("a"), Access::Write)?;
    let third = store.open(&name("a"), Access::Read)?;
    let outsider = File::options().read(true).write(true).open(pool.path().join("a"))?;
    one.hold(Hold::Write)?;
    other.hold(Hold::Write)?;
    third.hold(Hold::Read)?;
    assert_eq!(third.writer_elsewhere()?, None, "a store's own hold is nobody else's");
    // What the others need stays, though the one that put the locks there is gone.
    drop(one);
    assert_eq!(locked(&outsider)?, [100, 101, 103, 201, 203]);
    drop(other);
    assert_eq!(locked(&outsider)?, [100, 201, 203]);
    drop(third);
    assert_eq!(locked(&outsider)?, [0_i64; 0]);
    Ok(())
}

#[test]
fn a_hold_is_refused_by_every_byte_that_stands_against_it_and_leaves_what_was_held() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let blob = store.create(&name("a"))?;
    let other = store.open(&name("a"), Access::Write)?;
    let outsider = File::options().read(true).write(true).open(pool.path().join("a"))?;
    let cases = [(Hold::Read, &[101, 103, 200][..]), (Hold::Write, &[101, 103, 200, 201, 203][..])];
    for (hold, against) in cases {
        for byte in 100..256 {
            fcntl(&outsider, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte, 1)))?;
            let held = blob.hold(hold);
            if against.contains(&byte) {
                let Err(Error::InUse { holder: Holder { process }, .. }) = &held else {
                    panic!("{hold:?} beside a lock on {byte}: {held:?}")
                };
                assert!(process.is_none_or(|process| process == std::process::id()), "{process:?}");
            } else {
                held?;
            }
            fcntl(&outsider, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, byte, 1)))?;
        }
        // Of the attempts that failed nothing is left, of the ones before everything.
        let left = locked(&outsider)?;
        assert_eq!(left.contains(&101), hold == Hold::Write);
        assert!(left.contains(&201));
    }
    other.hold(Hold::Read)?;
    fcntl(&outsider, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, 201, 1)))?;
    assert!(other.hold(Hold::Write).is_err());
    drop(blob);
    assert_eq!(locked(&outsider)?, [100, 201, 203], "a refused hold takes nothing away from the one before");
    Ok(())
}

#[test]
fn a_store_that_ignores_image_locks_takes_none_and_sees_nobody() -> Outcome {
    let pool = TempDir::new()?;
    let options = DiskOptions::new().with_image_locks(ImageLocks::Ignore);
    let store = DiskStore::open_with(pool.path(), options)?;
    let blob = store.create(&name("a"))?;
    let outsider = File::options().read(true).write(true).open(pool.path().join("a"))?;
    fcntl(&outsider, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, 101, 1)))?;
    blob.hold(Hold::Write)?;
    assert_eq!(blob.writer_elsewhere()?, None);
    assert_eq!(locked(&outsider)?, [0_i64; 0]);
    Ok(())
}
