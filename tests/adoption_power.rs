//! A power cut in the one change that an adoption makes to a file of somebody else.

use parking_lot::Mutex;
use snapgroup::ByteCount;
use snapgroup::image::{Facts, Image, LayerIdentity, Limits};
use snapgroup::storage::{Access, Blob, BlobName, Hold, Holder, Identity, MemoryStore, Result, Store};
use snapgroup::units::HostOffset;
use std::sync::Arc;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// An overlay as `qemu-img create -b` makes it: its feature names alone are 392 bytes, so that the header reaches
/// into the second sector.
const HEADER: &[u8] = include_bytes!("fixtures/format/backing.header.bin");
const SECTOR: usize = 512;
const IDENTITY: LayerIdentity = LayerIdentity { pool: [1; 16], volume: [2; 16], layer: [3; 16] };

/// A write, or a sync.
#[derive(Debug)]
enum Event {
    Write(usize, Vec<u8>),
    Sync,
}

/// Notes every write and every sync.
#[derive(Debug)]
struct Noted {
    inner: Arc<dyn Blob>,
    events: Mutex<Vec<Event>>,
}

impl Blob for Noted {
    fn length(&self) -> Result<ByteCount> {
        self.inner.length()
    }
    fn read_at(&self, at: HostOffset, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(at, buffer)
    }
    fn write_at(&self, at: HostOffset, bytes: &[u8]) -> Result<()> {
        let start = at.as_length().as_usize();
        self.events.lock().push(Event::Write(start, bytes.to_vec()));
        self.inner.write_at(at, bytes)
    }
    fn set_length(&self, length: ByteCount) -> Result<()> {
        self.inner.set_length(length)
    }
    fn punch(&self, at: HostOffset, length: ByteCount) -> Result<()> {
        self.inner.punch(at, length)
    }
    fn sync(&self) -> Result<()> {
        self.events.lock().push(Event::Sync);
        self.inner.sync()
    }
    fn allocated(&self) -> Result<ByteCount> {
        self.inner.allocated()
    }
    fn identity(&self) -> Identity {
        self.inner.identity()
    }
    fn writer_elsewhere(&self) -> Result<Option<Holder>> {
        self.inner.writer_elsewhere()
    }

    fn hold(&self, hold: Hold) -> Result<()> {
        self.inner.hold(hold)
    }
}

fn file(bytes: &[u8]) -> std::result::Result<Arc<dyn Blob>, Box<dyn std::error::Error>> {
    let blob = MemoryStore::new().create(&BlobName::parse("overlay.qcow2")?)?;
    blob.write_at(HostOffset::ZERO, bytes)?;
    blob.set_length(ByteCount::mib(1))?;
    Ok(blob)
}

/// The file with those sectors of a write that `arrives` lets through.
fn torn(file: &[u8], start: usize, bytes: &[u8], arrives: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut file = file.to_vec();
    for (index, byte) in bytes.iter().enumerate() {
        if arrives((start + index) / SECTOR) {
            file[start + index] = *byte;
        }
    }
    file
}

#[test]
fn a_header_that_is_stamped_is_whole_whichever_sectors_of_whichever_write_arrive() -> Outcome {
    let noted = Arc::new(Noted { inner: file(HEADER)?, events: Mutex::default() });
    let before = Facts::of(&*noted, "overlay")?;
    let label = before.backing_label.clone();
    assert!(label.is_some() && before.identity.is_none());
    let image = Image::open(noted.clone(), "overlay", Access::Write, Limits::default())?;
    image.stamp(IDENTITY)?;
    assert_eq!(Facts::of(&*noted, "overlay")?.identity, Some(IDENTITY));

    let mut now = HEADER.to_vec();
    now.resize(4096, 0);
    let events = noted.events.lock();
    for (index, event) in events.iter().enumerate() {
        let Event::Write(start, bytes) = event else { continue };
        assert!(matches!(events.get(index + 1), Some(Event::Sync)), "the next write could overtake this one");
        let (first, last) = (start / SECTOR, (start + bytes.len() - 1) / SECTOR);
        assert!(last - first < 8, "few sectors, so that every subset can be tried");
        for arriving in 0..1u32 << (last - first + 1) {
            let bytes = torn(&now, *start, bytes, |sector| arriving >> (sector - first) & 1 == 1);
            let facts = Facts::of(&*file(&bytes)?, "overlay")?;
            assert_eq!(facts.backing_label, label, "write {index}, sectors {arriving:b}");
            assert!(facts.identity.is_none_or(|identity| identity == IDENTITY), "half a note");
        }
        now = torn(&now, *start, bytes, |_| true);
    }
    Ok(())
}
