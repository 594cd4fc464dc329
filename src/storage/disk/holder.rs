//! Who holds a lock on a byte of a file, for the message only.
//!
//! For a lock of an open file the kernel says that it is held, but not by whom; what each process holds
//! stands in `/proc/<process>/fdinfo`. Reading all of that is slow, so it is done only once a lock was found. What
//! cannot be read is passed over: the answer is a name or none, never an error.

use super::super::Identity;
use nix::sys::stat::{major, minor};
use std::fs;

/// The process that holds a lock on `byte` of the file, as far as can be seen.
///
/// This process is named when no other one is found: it holds locks of its own beside those that are looked for.
pub(super) fn find(identity: Identity, byte: i64) -> Option<u32> {
    let mut own = None;
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path()))
    });
    for (process, path) in processes {
        let Ok(descriptors) = fs::read_dir(path.join("fdinfo")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(text) = fs::read_to_string(descriptor.path()) else { continue };
            if text.lines().any(|line| is_lock(line, identity, byte)) {
                if process != std::process::id() {
                    return Some(process);
                }
                own = Some(process);
            }
        }
    }
    own
}

/// Whether a line tells of a lock on this byte of this file:
/// `lock: 1: OFDLCK  ADVISORY  READ -1 fe:00:12345 101 101`.
fn is_lock(line: &str, identity: Identity, byte: i64) -> bool {
    let Some(line) = line.strip_prefix("lock:") else { return false };
    let mut words = line.split_ascii_whitespace().rev();
    let (Some(last), Some(first), Some(file)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let starts = first.parse::<i64>().is_ok_and(|first| first <= byte);
    let ends = last == "EOF" || last.parse::<i64>().is_ok_and(|last| byte <= last);
    starts && ends && is_file(file, identity)
}

/// Whether `fe:00:12345` is the file: its device in hexadecimal, its number in decimal.
fn is_file(text: &str, identity: Identity) -> bool {
    let mut parts = text.split(':');
    let mut hexadecimal = || parts.next().and_then(|part| u64::from_str_radix(part, 16).ok());
    let device = (hexadecimal(), hexadecimal());
    let number = parts.next().and_then(|part| part.parse().ok());
    device == (Some(major(identity.device)), Some(minor(identity.device))) && number == Some(identity.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::makedev;

    #[test]
    fn a_lock_is_of_one_file_and_of_its_bytes() {
        let file = Identity { device: makedev(0xfe, 0), number: 12345 };
        let line = "lock:\t1: OFDLCK  ADVISORY  READ  -1 fe:00:12345 100 103";
        assert!(is_lock(line, file, 101));
        assert!(is_lock("lock:\t1: OFDLCK ADVISORY WRITE -1 fe:00:12345 0 EOF", file, 101));
        assert!(!is_lock(line, file, 104));
        assert!(!is_lock(line, file, 99));
        assert!(!is_lock(line, Identity { number: 1234, ..file }, 101));
        assert!(!is_lock(line, Identity { device: makedev(0xfe, 1), ..file }, 101));
        for other in ["", "lock:", "lock: 1", "pos:\t0", "lock:\t1: a b c d e:f g h", "ino:\t12345"] {
            assert!(!is_lock(other, file, 101), "{other:?}");
        }
    }
}
