//! The log of a block device, as QEMU's `blklogwrites` writes it and the kernel's dm-log-writes defines it
//! (`Documentation/admin-guide/device-mapper/log-writes.rst`): a superblock, then for each request an entry and its data,
//! each at a sector of its own. Numbers are little-endian.

use crate::support::deeds::Made;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
/// Durable when it returns, with or without a flush.
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const PAGE: usize = 4096;

/// One request to the device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Where it ends in the log.
    pub(crate) end: u64,
    at: u64,
    length: usize,
    /// Where its data is in the log.
    data: u64,
    flags: u64,
}

impl Entry {
    pub(crate) fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    pub(crate) fn is_durable_itself(&self) -> bool {
        self.flags & FUA != 0
    }

    pub(crate) fn is_write(&self) -> bool {
        self.length > 0
    }
}

/// The entries of a log.
pub(crate) fn read(file: &File) -> Made<Vec<Entry>> {
    let number = |at: u64| -> Made<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if number(0)? != MAGIC || number(8)? != 1 {
        return Err("no log of a block device".into());
    }
    let (count, sector) = (number(16)?, number(24)? & 0xffff_ffff);
    let mut at = sector;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (first, sectors, flags) = (number(at)?, number(at + 8)?, number(at + 16)?);
        let data = at + sector;
        let held = if flags & DISCARD == 0 { sectors * sector } else { 0 };
        at = data + held;
        let length = usize::try_from(sectors * sector)?;
        entries.push(Entry { end: at, at: first * sector, length, data, flags });
    }
    Ok(entries)
}

/// What a device holds; pages that are not here are zeros.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Device(BTreeMap<u64, [u8; PAGE]>);

impl Device {
    /// What a file holds.
    pub(crate) fn of(path: &Path) -> Made<Self> {
        let (file, mut device) = (File::open(path)?, Self::default());
        let length = file.metadata()?.len();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < length {
            let count = file.read_at(&mut buffer, at)?;
            device.put(at, &buffer[..count]);
            at += u64::try_from(count)?;
        }
        Ok(device)
    }

    /// Makes a request of the log.
    pub(crate) fn apply(&mut self, log: &File, entry: &Entry) -> Made<()> {
        let mut bytes = vec![0; entry.length];
        if entry.flags & DISCARD == 0 {
            log.read_exact_at(&mut bytes, entry.data)?;
        }
        self.put(entry.at, &bytes);
        Ok(())
    }

    fn put(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let inside = usize::try_from(at % PAGE as u64).expect("less than a page");
            let (here, rest) = bytes.split_at(bytes.len().min(PAGE - inside));
            let number = at / PAGE as u64;
            let page = self.0.entry(number).or_insert([0; PAGE]);
            page[inside..inside + here.len()].copy_from_slice(here);
            if page.iter().all(|byte| *byte == 0) {
                self.0.remove(&number);
            }
            at += here.len() as u64;
            bytes = rest;
        }
    }

    /// Makes a file hold this.
    pub(crate) fn write_to(&self, path: &Path, length: u64) -> Made<()> {
        let file = File::options().write(true).create(true).truncate(true).open(path)?;
        file.set_len(length)?;
        for (number, page) in &self.0 {
            file.write_all_at(page, number * PAGE as u64)?;
        }
        Ok(())
    }
}
