//! A blob whose power can be cut: it keeps a log of all that was asked of it, and answers what a cut at any point
//! of the log may leave (promise B4 of the storage room).

use crate::dice::Dice;
use snapgroup::storage::{Blob, BlobName, Error, Hold, Holder, Identity, Result};
use snapgroup::units::{ByteCount, HostOffset};
use std::sync::Mutex;

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One change, or a sync.
#[derive(Clone, Debug)]
enum Event {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
    Punch { at: usize, length: usize },
    Sync,
}

/// A blob in memory that keeps its log.
#[derive(Debug, Default)]
pub(crate) struct PowerCutBlob {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    log: Vec<Event>,
}

impl PowerCutBlob {
    /// How much has been logged.
    pub(crate) fn position(&self) -> usize {
        self.with(|inner| inner.log.len())
    }

    /// The points of the log right after a write of the header.
    pub(crate) fn after_header_writes(&self) -> Vec<usize> {
        self.with(|inner| {
            let writes = inner.log.iter().enumerate();
            let headers = writes.filter(|(_, event)| matches!(event, Event::Write { at: 0, .. }));
            headers.map(|(index, _)| index + 1).collect()
        })
    }

    /// What cuts at `points`, in rising order, leave: everything up to the last sync before the cut, and of what
    /// came after it each sector of each write at random.
    pub(crate) fn cuts<'a>(
        &'a self,
        points: &'a [usize],
        dice: &'a mut Dice,
    ) -> impl Iterator<Item = (usize, Vec<u8>)> + 'a {
        let log = self.with(|inner| inner.log.clone());
        let (mut durable, mut synced) = (Vec::new(), 0);
        points.iter().map(move |&point| {
            let last = log[..point].iter().rposition(|event| matches!(event, Event::Sync)).unwrap_or(0);
            for event in &log[synced..last.max(synced)] {
                apply(&mut durable, event, &mut |_| true);
            }
            synced = last.max(synced);
            let mut left = durable.clone();
            // Few survive, half do, or nearly all: each finds other mistakes.
            let of_ten = [1, 5, 9][dice.roll(3)];
            for event in &log[synced..point] {
                apply(&mut left, event, &mut |_| dice.roll(10) < of_ten);
            }
            (point, left)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().expect("no test panics while it holds the bytes"))
    }

    fn change(&self, event: Event) {
        self.with(|inner| {
            apply(&mut inner.bytes, &event, &mut |_| true);
            inner.log.push(event);
        });
    }
}

/// Applies the parts of a change that `survives` picks.
fn apply(bytes: &mut Vec<u8>, event: &Event, survives: &mut dyn FnMut(usize) -> bool) {
    match event {
        Event::Sync => {}
        Event::Length(length) => {
            if survives(0) {
                bytes.resize(*length, 0);
            }
        }
        Event::Punch { at, length } => {
            let end = bytes.len().min(at + length);
            if *at < end && survives(0) {
                bytes[*at..end].fill(0);
            }
        }
        Event::Write { at, bytes: written } => {
            let mut done = 0;
            while done < written.len() {
                let here = at + done;
                let piece = (SECTOR - here % SECTOR).min(written.len() - done);
                if survives(here) {
                    if bytes.len() < here + piece {
                        bytes.resize(here + piece, 0);
                    }
                    bytes[here..here + piece].copy_from_slice(&written[done..done + piece]);
                }
                done += piece;
            }
        }
    }
}

impl Blob for PowerCutBlob {
    fn length(&self) -> Result<ByteCount> {
        Ok(self.with(|inner| ByteCount::of(inner.bytes.len())))
    }

    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        self.with(|inner| {
            let start = at.as_length().as_usize();
            let end = start + buffer.len();
            let Some(bytes) = inner.bytes.get(start..end) else {
                return Err(Error::PastEnd {
                    name: BlobName::parse("power-cut").expect("one component"),
                    at,
                    length: ByteCount::of(buffer.len()),
                    end: ByteCount::of(inner.bytes.len()),
                });
            };
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.change(Event::Write { at: at.as_length().as_usize(), bytes: bytes.to_vec() });
        Ok(())
    }

    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.change(Event::Length(length.as_usize()));
        Ok(())
    }

    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.change(Event::Punch { at: at.as_length().as_usize(), length: length.as_usize() });
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.change(Event::Sync);
        Ok(())
    }

    fn allocated(&self) -> Result<ByteCount> {
        self.length()
    }

    fn identity(&self) -> Identity {
        Identity { device: 0, number: 0 }
    }

    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        Ok(None)
    }

    fn hold(&self, _: Hold) -> Result<()> {
        Ok(())
    }
}
