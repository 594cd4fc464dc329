//! An image that is whole but for a few entries of its tables: it gets past the door, where most arbitrary bytes do
//! not.
//!
//! Held: a whole image behaves as plain bytes do; what is not whole answers or refuses; a repair foretells what it
//! does, leaves what was readable as it was, says in the end what a check finds, and does nothing the second time.

use super::image::{Piece, ask, blob_of, bytes_of, change, content, limits};
use super::skeleton;
use crate::dice::Dice;
use snapgroup::image::{self, BackingLabel, Finding, Image, RepairMode};
use snapgroup::storage::{Access, Blob};
use snapgroup::units::GuestOffset;
use std::sync::Arc;

/// Makes an image, breaks it, looks at it, writes to it, repairs it.
pub fn run(bytes: &[u8]) {
    let mut dice = Dice::written(bytes);
    let label = label(&mut dice);
    let mut image = skeleton::valid(&mut dice, label);
    assert!(image::check(&*blob_of(&image), "x").is_ok_and(|report| report.is_clean()));
    let mutations = skeleton::mutate(&mut dice, &mut image);
    let blob = blob_of(&image);
    let before = read_only(&blob);
    assert!(mutations > 0 || before.iter().all(Option::is_some), "a whole image is not read");
    assert!(bytes_of(&*blob) == image, "reading has written");
    write(&mut dice, blob_of(&image), mutations);
    repair(&mut dice, &image, &before, mutations);
}

/// Names that a header may give to the file below.
fn label(dice: &mut Dice) -> Option<BackingLabel> {
    let names = ["base.raw", "../base", "/etc/passwd", "json:{}", "nbd://host", "", ":", "a:b", "./x"];
    let name = names.get(dice.roll(24))?;
    let name = if name.is_empty() { "n".repeat(1 + dice.roll(300)) } else { (*name).to_owned() };
    Some(BackingLabel { name, format: ["raw", "qcow2", "vmdk"][dice.roll(3)].to_owned() })
}

fn read_only(blob: &Arc<dyn Blob>) -> Vec<Piece> {
    let Ok(image) = Image::open(Arc::clone(blob), "x", Access::Read, limits()) else { return Vec::new() };
    ask(&image);
    content(&image)
}

/// Writes to an image. One without fault must read as plain bytes, across a reopening, and stay without fault.
fn write(dice: &mut Dice, blob: Arc<dyn Blob>, mutations: usize) {
    let is_clean = image::check(&*blob, "x").is_ok_and(|report| report.is_clean());
    let Ok(image) = Image::open(Arc::clone(&blob), "x", Access::Write, limits()) else { return };
    let pieces = content(&image);
    // A compressed cluster may be broken inside, and the header may claim any size: neither is for the check.
    let is_small = image.size().as_usize() <= 1 << 20;
    if !is_clean || !is_small || pieces.iter().any(Option::is_none) {
        return change(&image);
    }
    let mut model = flat(&pieces);
    for _ in 0..4 {
        let at = dice.roll(model.len().max(1));
        let length = (1 + dice.roll(5000)).min(model.len() - at);
        let byte = dice.byte();
        image.write(GuestOffset::new(at as u64), &vec![byte; length], None).expect("it is whole");
        model[at..at + length].fill(byte);
    }
    assert!(flat(&content(&image)) == model, "another content is read than was written");
    image.flush().expect("it is whole");
    drop(image);
    let image = Image::open(Arc::clone(&blob), "x", Access::Write, limits()).expect("it was just written");
    assert!(flat(&content(&image)) == model, "another content is read after a reopening");
    let report = image.check().expect("it is whole");
    drop(image);
    // Where two entries share a cluster, as nobody makes them, and one of them is written to, the other one is the only one
    // from then on and not marked as such. It is the same under QEMU; no byte is in danger, and a repair marks it.
    let is_unmarked = |finding: &Finding| matches!(finding, Finding::CopiedDisagrees { refcount: 1, .. });
    let is_left_unmarked = mutations > 0 && report.findings.iter().all(is_unmarked);
    assert!(report.is_clean() || is_left_unmarked, "writing has broken it: {report}");
    let mended = image::repair(&*blob, "x", RepairMode::Perform).expect("it is whole");
    assert!(mended.after.as_ref().unwrap_or(&mended.before).is_clean(), "it is not mended: {mended:?}");
    let image = Image::open(blob, "x", Access::Read, limits()).expect("it was just mended");
    assert!(flat(&content(&image)) == model, "another content is read after a repair");
}

/// The content with zeros where the layer below has the say.
fn flat(pieces: &[Piece]) -> Vec<u8> {
    let pieces = pieces.iter().flatten();
    let zeroed = pieces.map(|(bytes, holes)| {
        let mut bytes = bytes.clone();
        holes.iter().for_each(|hole| bytes[hole.clone()].fill(0));
        bytes
    });
    zeroed.collect::<Vec<_>>().concat()
}

fn repair(dice: &mut Dice, bytes: &[u8], before: &[Piece], mutations: usize) {
    let blob = blob_of(bytes);
    let plan = image::repair(&*blob, "x", RepairMode::Plan);
    assert!(bytes_of(&*blob) == bytes, "a plan has written");
    let Ok(done) = image::repair(&*blob, "x", RepairMode::Perform) else { return };
    let plan = plan.expect("what could be done could be planned");
    assert_eq!((&plan.mends, &plan.before), (&done.mends, &done.before), "it was not as foretold");
    let last = done.after.as_ref().unwrap_or(&done.before);
    assert_eq!(
        Some(last),
        image::check(&*blob, "x").ok().as_ref(),
        "the last word is not what a check finds"
    );
    for (index, (then, now)) in before.iter().zip(read_only(&blob)).enumerate() {
        assert!(then.is_none() || *then == now, "piece {index} was readable and has changed");
    }
    assert!(!before.is_empty() || done.mends.is_empty() || !read_only(&blob).is_empty());
    let opened = Image::open(Arc::clone(&blob), "x", Access::Read, limits());
    assert!(!last.is_clean() || opened.is_ok(), "what is clean cannot be opened: {opened:?}");
    let once = bytes_of(&*blob);
    let again = image::repair(&*blob, "x", RepairMode::Perform).expect("it was just repaired");
    if last.is_clean() {
        assert_eq!(again.mends, [], "what is clean was mended again");
        assert!(bytes_of(&*blob) == once, "a second repair has written");
    }
    write(dice, blob, mutations);
}
