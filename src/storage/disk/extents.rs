//! What the file system knows of where the data of a file lies: finding it, and sharing it with another file.
//!
//! Sharing is asked for with `copy_file_range`. On a file system whose files can share extents the kernel first tries what
//! the request `FICLONERANGE` does, and copies only where that is not possible: so whatever that request could share is
//! shared (`tests/shared_extents.rs` asks both, on XFS and btrfs). Beyond it, `copy_file_range` shares the whole blocks of
//! a range that ends within one, where `FICLONERANGE` fails as a whole; it copies on the server of a network file system;
//! and it needs no unsafe code. What both need are offsets that are multiples of the file system's block: clusters are,
//! unless they are smaller than it.

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;
use std::ops::Range;

/// What one call to the kernel copies at most, so that a signal is not kept waiting for a whole disk.
const AT_A_TIME: u64 = 1 << 30;

/// The next stretch of data at or after `from`; `None` when only holes follow. Everything up to the end counts
/// as data where the file system does not know.
pub(super) fn next_data(file: &File, from: u64) -> io::Result<Option<Range<u64>>> {
    // The position of the file is moved by this; nothing here reads or writes at it.
    let found = i64::try_from(from).map_or(Err(Errno::ENXIO), |from| lseek(file, from, Whence::SeekData));
    let start = match found {
        Ok(start) => u64::try_from(start).unwrap_or(from),
        Err(Errno::ENXIO) => return Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENOTTY) => from,
        Err(errno) => return Err(errno.into()),
    };
    let found = i64::try_from(start).map_or(Err(Errno::ENXIO), |start| lseek(file, start, Whence::SeekHole));
    let end = match found {
        // A hole right here was punched since the data was found.
        Ok(end) => u64::try_from(end).ok().filter(|end| *end > start),
        Err(Errno::ENXIO) => return Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENOTTY) => None,
        Err(errno) => return Err(errno.into()),
    };
    let end = match end {
        Some(end) => end,
        None => file.metadata()?.len(),
    };
    Ok((start < end).then_some(start..end))
}

/// Has the kernel copy a range as far as it can, and answers how far that was: the rest is to be read and written.
/// What can be shared is shared.
///
/// Whatever stops it is no error yet: two file systems, one that cannot, ranges that overlap, a sandbox; or a full
/// disk, of which the write that follows tells. Only a disk that fails ([`Errno::EIO`]) is not asked again.
pub(super) fn copy(source: &File, from: u64, target: &File, at: u64, length: u64) -> io::Result<u64> {
    let (Ok(mut here), Ok(mut there)) = (i64::try_from(from), i64::try_from(at)) else { return Ok(0) };
    let mut done = 0;
    while done < length {
        let count = usize::try_from((length - done).min(AT_A_TIME)).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut here), target, Some(&mut there), count) {
            // The source got shorter meanwhile, or its file system does not know its length.
            Ok(0) => break,
            Ok(copied) => done += copied as u64,
            Err(Errno::EINTR) => {}
            Err(Errno::EIO) => return Err(Errno::EIO.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_the_kernel_says_it_copied_is_copied_and_nothing_else() -> io::Result<()> {
        let (source, target) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let bytes: Vec<u8> = (1..=251).cycle().take(100_000).collect();
        source.write_all_at(&bytes, 0)?;
        for (from, at, length) in
            [(0, 0, 100_000), (4096, 8192, 4096), (1, 7, 99_999), (5, 3, 0), (90_000, 0, 20_000)]
        {
            target.set_len(0)?;
            target.write_all_at(&[9; 120_000], 0)?;
            let done = copy(&source, from, &target, at, length)?;
            assert!(done <= length.min(100_000 - from), "{done} of {length}");
            let mut expected = vec![9; 120_000];
            let (here, there, count) = (index(from), index(at), index(done));
            expected[there..there + count].copy_from_slice(&bytes[here..here + count]);
            let mut found = vec![0; 120_000];
            target.read_exact_at(&mut found, 0)?;
            assert!(found == expected, "{length} from {from} at {at}");
        }
        Ok(())
    }

    #[test]
    fn what_the_kernel_refuses_is_left_to_others_and_moves_nothing() -> io::Result<()> {
        let file = tempfile::tempfile()?;
        file.write_all_at(&[7; 10_000], 0)?;
        assert_eq!(copy(&file, 0, &file, 10, 100)?, 0, "the ranges overlap");
        assert_eq!(copy(&file, u64::MAX, &file, 0, 1)?, 0);
        assert_eq!(copy(&file, 0, &file, u64::MAX, 1)?, 0);
        assert_eq!(copy(&file, 10_000, &file, 0, 1)?, 0, "nothing is there");
        assert_eq!(file.metadata()?.len(), 10_000);
        Ok(())
    }

    #[test]
    fn a_file_that_cannot_be_searched_is_taken_at_its_length() -> io::Result<()> {
        // A file of the system that has a length of zero, and bytes.
        let file = File::open("/proc/self/stat")?;
        assert_eq!(next_data(&file, 0)?, None);
        let file = tempfile::tempfile()?;
        file.write_all_at(&[7; 10], 0)?;
        assert_eq!(next_data(&file, 3)?, Some(3..10));
        Ok(())
    }

    fn index(number: u64) -> usize {
        usize::try_from(number).expect("the numbers of these tests are small")
    }
}
