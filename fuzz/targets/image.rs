//! Arbitrary bytes as an image: everything there is to ask of one is answered or refused.

use snapgroup::image::{self, Facts, Image, Limits, RepairMode, Space};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::ops::Range;
use std::sync::Arc;

/// What is read of one image at most. The size that a header claims costs nothing.
const READ_MAX: u64 = 1 << 20;

/// The tables that are held at most: few, so that they are dropped and read again.
pub(super) fn limits() -> Limits {
    Limits { table_cache: ByteCount::new(4096), ..Limits::default() }
}

/// Opens the bytes as an image in every way there is.
pub fn run(bytes: &[u8]) {
    let blob = blob_of(bytes);
    drop(Facts::of(&*blob, "x"));
    if let Ok(image) = Image::open(Arc::clone(&blob), "x", Access::Read, limits()) {
        drop(content(&image));
        ask(&image);
    }
    drop(image::check(&*blob, "x"));
    let before = bytes_of(&*blob);
    drop(image::repair(&*blob, "x", RepairMode::Plan));
    assert!(bytes_of(&*blob) == before, "reading has written");
    drop(image::repair(&*blob_of(bytes), "x", RepairMode::Perform));
    if let Ok(image) = Image::open(blob, "x", Access::Write, limits()) {
        change(&image);
        ask(&image);
    }
}

/// A blob in memory that holds these bytes.
pub(super) fn blob_of(bytes: &[u8]) -> Arc<dyn Blob> {
    let name = BlobName::parse("x").expect("one component");
    let blob = MemoryStore::new().create(&name).expect("the store is empty");
    blob.write_at(HostOffset::ZERO, bytes).expect("memory takes every write");
    blob
}

/// All bytes of a blob that an input has filled; a repair may have made it longer, though not by much.
pub(super) fn bytes_of(blob: &dyn Blob) -> Vec<u8> {
    let length = blob.length().expect("memory tells");
    assert!(length < ByteCount::mib(256), "{length} were made of an input");
    let mut bytes = vec![0; length.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes).expect("all of it is there");
    bytes
}

/// What one piece of a disk reads as, and where the layer below has the say; absent when it is refused.
pub(super) type Piece = Option<(Vec<u8>, Vec<Range<usize>>)>;

/// What a disk reads as, in pieces of a cluster or less, from its begin on and at its end.
pub(super) fn content(image: &Image) -> Vec<Piece> {
    let size = image.size().as_u64();
    let step = image.geometry().cluster_size().as_u64().min(1 << 16);
    let last = size.saturating_sub(3 * step);
    let starts = (0..size.min(READ_MAX)).step_by(usize::try_from(step).expect("64 KiB at most"));
    let mut pieces = Vec::new();
    for at in starts.chain((last > READ_MAX).then_some(last)) {
        let length = usize::try_from(step.min(size - at)).expect("64 KiB at most");
        let (mut bytes, mut holes) = (vec![0; length], Vec::new());
        let read = image.read(GuestOffset::new(at), &mut bytes, &mut holes);
        pieces.push(read.ok().map(|()| (bytes, holes)));
    }
    pieces
}

/// Asks what changes nothing.
pub(super) fn ask(image: &Image) {
    let size = image.size().as_u64();
    for at in [0, 4096, 1 << 20, size / 2, size.saturating_sub(5000)] {
        drop(image.run_at(GuestOffset::new(at), ByteCount::mib(1)));
    }
    drop(image.check());
}

/// Changes an image of which nothing is known; it may refuse all of it.
pub(super) fn change(image: &Image) {
    let size = image.size().as_u64();
    for at in [0, 3000, size / 2, size.saturating_sub(2000)] {
        drop(image.write(GuestOffset::new(at), &[7; 2000], None));
        drop(image.write_compressed(GuestOffset::new(at & !0xffff), &[1; 512]));
    }
    drop(image.flush());
    drop(image.zero(GuestOffset::new(100), ByteCount::kib(60), Space::Keep, None));
    drop(image.zero(GuestOffset::ZERO, ByteCount::kib(100), Space::Free, None));
    drop(image.flush());
    drop(image.grow(image.size() + ByteCount::kib(100), None));
    drop(image.write(GuestOffset::new(size), &[9; 2000], None));
    drop(image.freeze());
}
