//! The bare system calls that nobody can do without.

use crate::Result;
use crate::measure::timed;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// So many new small files, their directory synced, one record synced at the end of a file.
pub fn small_files_and_a_record(directory: &Path, count: usize) -> Result<Duration> {
    let record = directory.join("floor-record");
    let mut record_file = OpenOptions::new().create(true).append(true).open(&record)?;
    let names: Vec<_> = (0..count).map(|index| directory.join(format!("floor-{index}"))).collect();
    let handle = File::open(directory)?;
    let taken = timed(|| {
        for name in &names {
            File::create(name)?.write_all(&[1; 1024])?;
        }
        handle.sync_all()?;
        record_file.write_all(&[1; 600])?;
        Ok(record_file.sync_data()?)
    })?;
    for name in names {
        fs::remove_file(name)?;
    }
    Ok(taken)
}

/// A file copied by the kernel, and synced.
pub fn copy_and_sync(from: &str, to: &str) -> Result<Duration> {
    let taken = timed(|| {
        let (mut source, mut target) = (File::open(from)?, File::create(to)?);
        io::copy(&mut source, &mut target)?;
        Ok(target.sync_data()?)
    })?;
    fs::remove_file(to)?;
    Ok(taken)
}
