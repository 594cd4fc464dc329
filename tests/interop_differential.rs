//! Images of all shapes, most of them with broken tables, read here and by `qemu-img`:
//! `cargo test --release --test interop_differential -- --ignored`.
//!
//! An image is read by both, and then as the same bytes; or refused by both; or refused here alone, by a rule that is
//! named below. What is read here and refused by QEMU is a failure.
//!
//! `SNAPGROUP_IMAGES=n` compares n of them, `SNAPGROUP_SEED=n` begins with another one.

#![expect(clippy::print_stdout, reason = "how many images came out in which way is worth reading")]

#[path = "../fuzz/targets/dice.rs"]
#[expect(unreachable_pub, dead_code, reason = "a part of the fuzzer's targets, which are a library")]
mod dice;
#[path = "../fuzz/targets/skeleton.rs"]
#[expect(unreachable_pub, reason = "a part of the fuzzer's targets, which are a library")]
mod skeleton;

use dice::Dice;
use snapgroup::format;
use snapgroup::image::{Error, Image, Limits};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{GuestOffset, HostOffset};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Larger disks, of headers that claim so, are not compared.
const SIZE_MAX: usize = 4 << 20;

/// How an image came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Same,
    BothRefuse,
    Stricter(&'static str),
    TooLarge,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is read here of a whole image.
fn read(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let blob = MemoryStore::new().create(&BlobName::parse("x").expect("one component"))?;
    blob.write_at(HostOffset::ZERO, bytes)?;
    let image = Image::open(blob, "x", Access::Read, Limits::default())?;
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

fn compare(directory: &Path, bytes: &[u8]) -> Outcome<Class> {
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

#[test]
#[ignore = "needs qemu-img"]
fn what_is_read_here_is_read_by_qemu_as_the_same_bytes() -> Outcome {
    let directory = tempfile::TempDir::new()?;
    let mut classes: BTreeMap<Class, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    let first = number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_IMAGES", 400) {
        let mut dice = Dice::of(seed);
        let mut bytes = skeleton::valid(&mut dice, None);
        let mutations = skeleton::mutate(&mut dice, &mut bytes);
        match compare(directory.path(), &bytes) {
            Ok(class) => {
                assert!(mutations > 0 || class == Class::Same, "seed {seed}: a whole image is {class:?}");
                *classes.entry(class).or_default() += 1;
            }
            Err(error) => failures.push(format!("seed {seed}: {error}")),
        }
    }
    println!("{classes:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(classes.len() >= 3, "hardly anything was compared");
    Ok(())
}
