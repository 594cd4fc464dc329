//! What the store on disk promises besides: modes, links, pipes, the walls of its directory, and maps.

use crate::{Outcome, name};
use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::unistd::mkfifo;
use snapgroup::storage::{Access, BlobName, DiskOptions, DiskStore, Error, MapFrozen, Operation, Store};
use snapgroup::units::{ByteCount, HostOffset};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::TempDir;

fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(fs::symlink_metadata(path)?.permissions().mode() & 0o7777)
}

#[test]
fn a_link_a_directory_a_pipe_and_a_socket_are_not_regular() -> Outcome {
    let pool = TempDir::new()?;
    let outside = TempDir::new()?;
    fs::write(outside.path().join("secret"), b"not yours")?;
    fs::write(pool.path().join("plain"), b"ours")?;
    symlink(outside.path().join("secret"), pool.path().join("link-out"))?;
    symlink("plain", pool.path().join("link-in"))?;
    symlink("/proc/self/exe", pool.path().join("link-magic"))?;
    symlink("absent", pool.path().join("link-dangling"))?;
    fs::create_dir(pool.path().join("directory"))?;
    mkfifo(&pool.path().join("pipe"), Mode::S_IRWXU)?;
    let _socket = UnixListener::bind(pool.path().join("socket"))?;

    let store = DiskStore::open(pool.path())?;
    for odd in ["link-out", "link-in", "link-magic", "link-dangling", "directory", "pipe", "socket"] {
        for access in [Access::Read, Access::Write] {
            let opened = store.open(&name(odd), access);
            let Err(Error::NotRegular { name: who }) = opened else {
                panic!("{odd}, {access:?}: {opened:?}")
            };
            assert_eq!(who, name(odd));
        }
        let made = store.create(&name(odd));
        let Err(Error::Exists { .. }) = made else { panic!("{odd} made: {made:?}") };
        let removed = store.remove(&name(odd));
        let Err(Error::NotRegular { .. }) = removed else { panic!("{odd} removed: {removed:?}") };
        assert!(fs::symlink_metadata(pool.path().join(odd)).is_ok(), "{odd} is gone");
    }
    assert_eq!(store.list()?, [name("plain")]);
    assert!(!pool.path().join("absent").exists(), "a dangling link was followed");
    assert_eq!(fs::read(outside.path().join("secret"))?, b"not yours");
    Ok(())
}

#[test]
fn no_name_leads_out_of_the_directory() -> Outcome {
    let pool = TempDir::new()?;
    fs::create_dir(pool.path().join("inner"))?;
    fs::write(pool.path().join("outer"), b"not yours")?;
    let store = DiskStore::open(&pool.path().join("inner"))?;
    for way in ["../outer", "..", ".", "/etc/passwd", "a/../../outer"] {
        assert!(BlobName::parse(way).is_err(), "{way}");
    }
    // What looks like a way out is a name like any other.
    for way in ["..\\outer", "%2e%2e%2fouter", "..outer"] {
        store.create(&name(way))?;
        assert!(pool.path().join("inner").join(way).is_file(), "{way}");
    }
    Ok(())
}

#[test]
fn the_store_stays_in_the_directory_it_opened() -> Outcome {
    let parent = TempDir::new()?;
    let (path, moved) = (parent.path().join("pool"), parent.path().join("moved"));
    let store = DiskStore::create(&path)?;
    fs::rename(&path, &moved)?;
    fs::create_dir(&path)?;
    store.create(&name("a"))?;
    store.sync_names()?;
    assert_eq!(store.list()?, [name("a")]);
    assert!(moved.join("a").exists());
    assert!(!path.join("a").exists());
    Ok(())
}

/// The umask belongs to the process, so this test alone changes it, in a process of its own.
#[test]
fn files_are_0600_and_the_directory_0700_whatever_the_umask() -> Outcome {
    const CHILD: &str = "SNAPGROUP_TEST_UMASK";
    let test = "disk::files_are_0600_and_the_directory_0700_whatever_the_umask";
    let Ok(mask) = std::env::var(CHILD) else {
        for mask in ["000", "027", "777"] {
            let child = std::process::Command::new(std::env::current_exe()?)
                .args(["--exact", test, "--nocapture"])
                .env(CHILD, mask)
                .output()?;
            assert!(child.status.success(), "umask {mask}: {}", String::from_utf8_lossy(&child.stderr));
            assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "the child ran no test");
        }
        return Ok(());
    };
    let parent = TempDir::new()?;
    let old = umask(Mode::from_bits_truncate(u32::from_str_radix(&mask, 8)?));
    let path = parent.path().join("pool");
    let store = DiskStore::create(&path)?;
    store.create(&name("a"))?;
    let _owner = store.lock()?;
    let options = DiskOptions::new().with_file_mode(0o640);
    DiskStore::open_with(&path, options)?.create(&name("b"))?;
    umask(old);
    assert_eq!(mode(&path)?, 0o700);
    assert_eq!(mode(&path.join("a"))?, 0o600);
    assert_eq!(mode(&path.join("b"))?, 0o640);
    assert_eq!(mode(&path.join("snapgroup.lock"))?, 0o600);
    Ok(())
}

#[test]
fn a_directory_is_made_once_and_its_parents_never() -> Outcome {
    let parent = TempDir::new()?;
    let path = parent.path().join("pool");
    let opened = DiskStore::open(&path);
    let Err(Error::Io { operation: Operation::OpenStore, .. }) = opened else { panic!("{opened:?}") };
    DiskStore::create(&path)?.create(&name("a"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750))?;
    assert_eq!(DiskStore::create(&path)?.list()?, [name("a")]);
    assert_eq!(mode(&path)?, 0o750, "a directory that is there keeps its mode");
    let deep = DiskStore::create(&path.join("b").join("c"));
    let Err(Error::Io { operation: Operation::OpenStore, .. }) = deep else { panic!("{deep:?}") };
    let file = DiskStore::create(&path.join("a"));
    let Err(Error::Io { operation: Operation::OpenStore, .. }) = file else { panic!("{file:?}") };
    Ok(())
}

#[test]
fn files_that_are_no_blobs_are_not_listed() -> Outcome {
    use std::os::unix::ffi::OsStrExt;
    let pool = TempDir::new()?;
    fs::write(pool.path().join("plain"), b"")?;
    fs::write(pool.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), b"")?;
    fs::write(pool.path().join("line\nbreak"), b"")?;
    assert_eq!(DiskStore::open(pool.path())?.list()?, [name("plain")]);
    Ok(())
}

#[test]
fn the_lock_file_is_no_blob() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let lock_file = name("snapgroup.lock");
    for round in 0..2 {
        let made = store.create(&lock_file);
        let Err(Error::Exists { .. }) = made else { panic!("round {round}: {made:?}") };
        let opened = store.open(&lock_file, Access::Write);
        let Err(Error::NotFound { .. }) = opened else { panic!("round {round}: {opened:?}") };
        let removed = store.remove(&lock_file);
        let Err(Error::NotFound { .. }) = removed else { panic!("round {round}: {removed:?}") };
        drop(store.lock()?);
    }
    assert!(pool.path().join("snapgroup.lock").exists(), "the file outlives its lock");
    Ok(())
}

#[test]
fn a_location_is_the_path_of_the_file() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    store.create(&name("a"))?.write_at(HostOffset::ZERO, b"some")?;
    assert_eq!(fs::read(store.location(&name("a")))?, b"some");
    Ok(())
}

#[test]
fn identity_is_what_the_file_system_says() -> Outcome {
    let pool = TempDir::new()?;
    let store = DiskStore::open(pool.path())?;
    let blob = store.create(&name("a"))?;
    let identity = blob.identity();
    let metadata = fs::metadata(pool.path().join("a"))?;
    assert_eq!((identity.device, identity.number), (metadata.dev(), metadata.ino()));
    assert_eq!(blob.links()?, 1);
    fs::hard_link(pool.path().join("a"), pool.path().join("b"))?;
    assert_eq!(blob.links()?, 2);
    Ok(())
}

#[test]
fn a_punch_gives_space_back_where_the_file_system_can() -> Outcome {
    let pool = TempDir::new()?;
    let probe = fs::File::create(pool.path().join("probe"))?;
    let flags =
        nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let can = nix::fcntl::fallocate(&probe, flags, 0, libc::off_t::from(4096)).is_ok();
    let blob = DiskStore::open(pool.path())?.create(&name("a"))?;
    blob.write_at(HostOffset::ZERO, &[1; 1 << 20])?;
    blob.sync()?;
    let before = blob.allocated()?;
    blob.punch(HostOffset::ZERO, ByteCount::kib(512))?;
    if can {
        assert_eq!(blob.allocated()?, before.saturating_sub(ByteCount::kib(512)));
    }
    assert_eq!(blob.length()?, ByteCount::mib(1));
    Ok(())
}

#[test]
fn a_mapped_blob_reads_what_a_plain_one_reads() -> Outcome {
    let pool = TempDir::new()?;
    let plain = DiskStore::open(pool.path())?;
    let options = DiskOptions::new().with_map_frozen(MapFrozen::Yes);
    let mapped = DiskStore::open_with(pool.path(), options)?;
    for length in [0, 1, 511, 4095, 4096, 4097, 100_000] {
        let who = name(&format!("of-{length}"));
        let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
        plain.create(&who)?.write_at(HostOffset::ZERO, &bytes)?;
        let one = plain.open(&who, Access::Read)?;
        let other = mapped.open(&who, Access::Read)?;
        for start in [0, 1, 4095, 4096, 99_999] {
            for count in [0, 1, 4096, 100_000] {
                let mut left = vec![0xEE; count];
                let mut right = vec![0xEE; count];
                let at = HostOffset::new(start);
                let results = (one.read_at(at, &mut left).is_ok(), other.read_at(at, &mut right).is_ok());
                assert_eq!(results.0, results.1, "{count} at {start} of {length}");
                assert!(!results.0 || left == right, "{count} at {start} of {length}");
            }
        }
    }
    Ok(())
}

/// Without the bound of `storage/disk/bound.rs` this test dies of SIGBUS.
#[test]
fn a_reader_of_a_map_survives_every_cut_made_through_its_store() -> Outcome {
    const LENGTH: usize = 1 << 20;
    let pool = TempDir::new()?;
    let options = DiskOptions::new().with_map_frozen(MapFrozen::Yes);
    let store = DiskStore::open_with(pool.path(), options)?;
    let writer = store.create(&name("a"))?;
    let fill = || writer.write_at(HostOffset::ZERO, &[7; LENGTH]);
    fill()?;
    std::thread::scope(|scope| {
        let (store, writer) = (&store, &writer);
        let cutter = scope.spawn(move || -> Result<(), Error> {
            for _ in 0..200 {
                writer.set_length(ByteCount::new(1))?;
                fill()?;
            }
            Ok(())
        });
        let mut buffer = vec![0; LENGTH / 2];
        while !cutter.is_finished() {
            let reader = store.open(&name("a"), Access::Read).expect("the blob is there");
            for _ in 0..4 {
                match reader.read_at(HostOffset::new(LENGTH as u64 / 2), &mut buffer) {
                    Ok(()) => assert!(buffer.iter().all(|byte| *byte == 7 || *byte == 0)),
                    Err(Error::PastEnd { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        cutter.join().expect("the cutter does not panic")
    })?;
    Ok(())
}
