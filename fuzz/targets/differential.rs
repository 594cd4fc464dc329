//! An image with broken tables, read here and by `qemu-img`.
//!
//! Held: both read the same bytes; or both refuse it; or it is refused here alone, by a rule that has a name below.
//! What is read here and refused by QEMU is a failure. Without `qemu-img` there is nothing to compare with.

use super::skeleton;
use crate::dice::Dice;
use snapgroup::format;
use snapgroup::image::{Error, Image, Limits};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{GuestOffset, HostOffset};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What went wrong with a comparison.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Larger disks, of headers that claim so, are not compared.
const SIZE_MAX: usize = 4 << 20;

/// How an image came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Same,
    BothRefuse,
    Stricter(&'static str),
    TooLarge,
}

/// Whether `qemu-img` can be asked.
pub fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| Command::new("qemu-img").arg("--version").output().is_ok())
}

/// Makes an image of choices, and compares.
pub fn run(bytes: &[u8]) {
    if !is_possible() {
        return;
    }
    let (image, mutations) = image(&mut Dice::written(bytes));
    let class = compare(directory(), &image).unwrap_or_else(|error| panic!("{error}"));
    assert!(mutations > 0 || class == Class::Same, "a whole image is {class:?}");
}

/// An image, and how many of its bytes were changed.
pub fn image(dice: &mut Dice) -> (Vec<u8>, usize) {
    let mut bytes = skeleton::valid(dice, None);
    let mutations = skeleton::mutate(dice, &mut bytes);
    (bytes, mutations)
}

/// Where the two meet: a directory of this process.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("snapgroup-differential-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("there is a place for temporary files");
        path
    })
}

/// Compares what is read here and by QEMU; the directory is for the two files.
///
/// # Errors
///
/// When they disagree, in words.
pub fn compare(directory: &Path, bytes: &[u8]) -> Outcome<Class> {
    let ours = read(bytes);
    if ours.as_ref().is_ok_and(|content| content.len() > SIZE_MAX) {
        return Ok(Class::TooLarge);
    }
    // QEMU shows whole sectors, and leaves out the rest of the last one.
    let ours = ours.map(|mut content| {
        content.truncate(content.len() & !511);
        content
    });
    match (ours, read_by_qemu(directory, bytes)?) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Ok(Class::Same),
        (Ok(ours), Ok(theirs)) => {
            let first = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            Err(format!("other bytes: {} here, {} there, from {first:?} on", ours.len(), theirs.len()).into())
        }
        (Err(_), Err(_)) => Ok(Class::BothRefuse),
        (Err(error), Ok(_)) => match rule_of(&error) {
            Some(rule) => Ok(Class::Stricter(rule)),
            None => Err(format!("refused here by a rule without a name: {error}").into()),
        },
        (Ok(_), Err(said)) => Err(format!("read here, refused by QEMU: {said}").into()),
    }
}

/// What is read here of a whole image.
fn read(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let blob = MemoryStore::new().create(&BlobName::parse("x").expect("one component"))?;
    blob.write_at(HostOffset::ZERO, bytes)?;
    let image = Image::open(blob, "x", Access::Read, Limits::default())?;
    if !image.is_readable() {
        // It would be read where it has nothing; QEMU asks for its key or its data file first.
        let (feature, refused) = ("keeps its data from being read", "reading data of");
        return Err(Error::Unsupported { image: "x".to_owned(), feature, refused });
    }
    let size = image.size().as_usize().min(SIZE_MAX + 1);
    let (mut content, mut holes) = (vec![0; size], Vec::new());
    image.read(GuestOffset::ZERO, &mut content, &mut holes)?;
    holes.into_iter().for_each(|hole| content[hole].fill(0));
    Ok(content)
}

/// What QEMU reads of it, or why it does not.
fn read_by_qemu(directory: &Path, bytes: &[u8]) -> Outcome<Result<Vec<u8>, String>> {
    let (image, raw) = (directory.join("x.qcow2"), directory.join("x.raw"));
    std::fs::write(&image, bytes)?;
    drop(std::fs::remove_file(&raw));
    let convert = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .args([&image, &raw])
        .output()?;
    if !convert.status.success() {
        return Ok(Err(String::from_utf8_lossy(&convert.stderr).into_owned()));
    }
    Ok(Ok(std::fs::read(raw)?))
}

/// The rules that are enforced here, and not by QEMU when it only reads.
fn rule_of(error: &Error) -> Option<&'static str> {
    match error {
        Error::Format { source: format::Error::Malformed(_), .. } => {
            Some("a record breaks a rule of the format")
        }
        Error::Format { source: format::Error::Unsupported(_), .. } => Some("a record is of a later format"),
        Error::OutsideFile { .. } => Some("a table or a cluster begins behind the end of the file"),
        Error::OnHeader { .. } => Some("a table lies on the header"),
        Error::OnTables { .. } => Some("a table or a cluster lies on the image's own tables"),
        Error::Unsupported { .. } => Some("a feature that is not read here"),
        _ => None,
    }
}
