//! Another backing name in a header: drafted, written, and written again after a cut.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/power.rs"]
mod power;

use dice::Dice;
use power::{PowerCutBlob, after_header_writes};
use snapgroup::format::{Extension, Header};
use snapgroup::image::{BackingLabel, Content, Error, Facts, HeaderDraft, Image, LayerIdentity, Limits};
use snapgroup::image::{NewImage, Version, write_header};
use snapgroup::storage::{Access, At, Blob, BlobName, Fault, FaultKind, MemoryStore, Operation};
use snapgroup::storage::{SimulatedStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const IDENTITY: LayerIdentity = LayerIdentity { pool: [1; 16], volume: [2; 16], layer: [3; 16] };

fn label(name: &str, format: &str) -> BackingLabel {
    BackingLabel { name: name.into(), format: format.into() }
}

fn overlay(backing: Option<BackingLabel>) -> NewImage {
    let size = ByteCount::mib(1);
    NewImage { cluster_bits: 12, backing, identity: Some(IDENTITY), ..NewImage::of_size(size) }
}

fn put(new: &NewImage) -> Outcome<Arc<dyn Blob>> {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    new.layout("x")?.write(&*blob)?;
    Ok(blob)
}

fn open(blob: &Arc<dyn Blob>) -> Outcome<Image> {
    Ok(Image::open(Arc::clone(blob), "x", Access::Write, Limits::default())?)
}

fn start_of(blob: &dyn Blob, length: usize) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; length];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn write_at(image: &Image, at: u64, data: &[u8]) -> Outcome {
    Ok(image.write(GuestOffset::new(at), data, None)?)
}

/// A name of `length` bytes.
fn name(length: usize) -> String {
    "abcdefghij".chars().cycle().take(length).collect()
}

#[test]
fn a_header_names_another_backing_file_or_none_and_keeps_everything_else() -> Outcome {
    for version in [Version::V2, Version::V3] {
        for (from, to) in [(5, Some(300)), (300, Some(5)), (300, None), (5, Some(1023))] {
            let new = NewImage { version, ..overlay(Some(label(&name(from), "qcow2"))) };
            let blob = put(&new)?;
            let image = open(&blob)?;
            write_at(&image, 5000, &[7; 9000])?;
            let before = image.header();
            let backing = to.map(|to| label(&name(to), "raw"));
            let draft = image.draft_backing(backing.clone())?;
            assert_eq!(image.header(), before, "a draft changes nothing");
            image.put_header(&draft)?;
            let mut expected = before;
            let unnamed = |header: &Header| {
                let mut header = header.clone();
                header.set_backing(None);
                header
            };
            expected = unnamed(&expected);
            let again = open(&blob)?;
            assert_eq!(again.header(), image.header(), "in memory and on disk");
            assert_eq!(unnamed(&again.header()), expected);
            let facts = Facts::of(&*blob, "x")?;
            assert_eq!(facts.backing_label, backing.as_ref().map(|backing| backing.name.clone()));
            assert_eq!(facts.backing_format, backing.map(|backing| backing.format));
            assert_eq!(facts.identity, Some(IDENTITY));
            let mut found = vec![0; 9000];
            again.read(GuestOffset::new(5000), &mut found, &mut Vec::new())?;
            assert_eq!(found, [7; 9000], "what was written before is flushed with it");
            assert_eq!(start_of(&*blob, draft.bytes().len())?, draft.bytes());
            assert!(image.check()?.is_clean());
        }
    }
    Ok(())
}

#[test]
fn nothing_of_a_longer_former_name_is_left_wherever_it_lay() -> Outcome {
    let blob = put(&overlay(Some(label(&name(900), "qcow2"))))?;
    // As another writer may have it: the name far behind the extensions.
    let mut cluster = start_of(&*blob, 4096)?;
    let old_at = u64::from_be_bytes(cluster[8..16].try_into()?);
    let old = usize::try_from(old_at)?;
    let text = cluster[old..old + 900].to_vec();
    cluster[old..].fill(0);
    cluster[3000..3900].copy_from_slice(&text);
    cluster[8..16].copy_from_slice(&3000u64.to_be_bytes());
    blob.write_at(HostOffset::ZERO, &cluster)?;
    let image = open(&blob)?;
    image.put_header(&image.draft_backing(Some(label("b", "raw")))?)?;
    let after = start_of(&*blob, 4096)?;
    let text = String::from_utf8_lossy(&after).into_owned();
    assert!(!text.contains("abc"), "the old name is still there");
    assert_eq!(Facts::of(&*blob, "x")?.backing_label.as_deref(), Some("b"));
    Ok(())
}

#[test]
fn a_name_that_does_not_fit_is_refused_before_anything_is_written() -> Outcome {
    let new = NewImage { cluster_bits: 9, ..overlay(Some(label("base", "qcow2"))) };
    let blob = put(&new)?;
    let image = open(&blob)?;
    let before = start_of(&*blob, 512)?;
    for wrong in [name(512), name(1024), String::new(), "a\nb".into()] {
        let Err(Error::Format { .. }) = image.draft_backing(Some(label(&wrong, "qcow2"))) else {
            panic!("{wrong:?} is taken")
        };
    }
    assert_eq!(start_of(&*blob, 512)?, before);
    image.put_header(&image.draft_backing(Some(label(&name(200), "qcow2")))?)?;
    Ok(())
}

#[test]
fn a_frozen_image_keeps_its_header() -> Outcome {
    let blob = put(&overlay(None))?;
    let image = open(&blob)?;
    let draft = image.draft_backing(Some(label("base", "raw")))?;
    image.freeze()?;
    let Err(Error::ReadOnly { .. }) = image.put_header(&draft) else { panic!("it is written") };
    assert_eq!(Facts::of(&*blob, "x")?.backing_label, None);
    Ok(())
}

#[test]
fn every_mixture_of_the_sectors_of_two_headers_is_repaired_from_the_draft() -> Outcome {
    const SECTORS: usize = 4;
    for (from, to) in [(1023, 1000), (10, 1023), (1023, 10), (900, 0)] {
        let blob = put(&overlay(Some(label(&name(from), "qcow2"))))?;
        let image = open(&blob)?;
        let old = start_of(&*blob, SECTORS * 512)?;
        let backing = (to > 0).then(|| label(&"z".repeat(to), "raw"));
        let draft = image.draft_backing(backing)?;
        let mut new = old.clone();
        new[..draft.bytes().len()].copy_from_slice(draft.bytes());
        for mixture in 0..1usize << SECTORS {
            let mut mixed = old.clone();
            for sector in (0..SECTORS).filter(|sector| mixture >> sector & 1 == 1) {
                mixed[sector * 512..][..512].copy_from_slice(&new[sector * 512..][..512]);
            }
            blob.write_at(HostOffset::ZERO, &mixed)?;
            for _ in 0..2 {
                write_header(&*blob, "x", draft.bytes())?;
                assert_eq!(start_of(&*blob, SECTORS * 512)?, new, "mixture {mixture:b}");
            }
        }
        // Nothing at all is left of the header.
        blob.write_at(HostOffset::ZERO, &[0xff; SECTORS * 512])?;
        write_header(&*blob, "x", draft.bytes())?;
        assert_eq!(start_of(&*blob, draft.bytes().len())?, draft.bytes());
        open(&blob)?;
    }
    Ok(())
}

#[test]
fn a_draft_that_is_older_than_the_tables_of_the_image_does_not_bring_the_old_ones_back() -> Outcome {
    for put_before in [false, true] {
        // Few clusters are counted by one block: the refcount table moves soon, and so does the L1 table.
        let new = NewImage { cluster_bits: 9, refcount_order: 6, ..overlay(Some(label("base", "qcow2"))) };
        let blob = put(&new)?;
        let image = open(&blob)?;
        let draft = image.draft_backing(Some(label("other", "raw")))?;
        let drafted = image.header();
        if put_before {
            image.put_header(&draft)?;
        }
        image.grow(ByteCount::mib(64), None)?;
        write_at(&image, 0, &vec![5; 3 << 20])?;
        image.flush()?;
        let moved = image.header();
        assert_ne!(moved.refcount_table, drafted.refcount_table, "the refcount table was to move");
        assert_ne!(moved.l1_table, drafted.l1_table, "the L1 table was to move");
        // A crash, and the note of the draft is found.
        drop(image);
        write_header(&*blob, "x", draft.bytes())?;
        let image = open(&blob)?;
        let mut expected = moved;
        expected.set_backing(image.header().backing);
        assert_eq!(image.header(), expected);
        assert_eq!(Facts::of(&*blob, "x")?.backing_label.as_deref(), Some("other"));
        let mut found = vec![0; 3 << 20];
        image.read(GuestOffset::ZERO, &mut found, &mut Vec::new())?;
        assert!(found.iter().all(|byte| *byte == 5));
        assert!(image.check()?.is_clean());
        // The open image does the same with an old draft.
        let draft = image.draft_backing(None)?;
        image.grow(ByteCount::mib(65), None)?;
        image.put_header(&draft)?;
        assert_eq!(open(&blob)?.size(), ByteCount::mib(65));
        assert!(open(&blob)?.check()?.is_clean());
    }
    Ok(())
}

#[test]
fn bytes_that_are_no_header_of_this_image_are_refused_and_not_written() -> Outcome {
    let blob = put(&overlay(None))?;
    let draft = open(&blob)?.draft_backing(Some(label("base", "raw")))?;
    let before = start_of(&*blob, 4096)?;
    for cut in [0, 50, 111] {
        let Err(Error::Format { .. }) = write_header(&*blob, "x", &draft.bytes()[..cut]) else {
            panic!("{cut} bytes are a header")
        };
    }
    for other in [
        NewImage { cluster_bits: 13, ..overlay(None) },
        NewImage { refcount_order: 5, ..overlay(None) },
        NewImage { version: Version::V2, ..overlay(None) },
    ] {
        let other = open(&put(&other)?)?.draft_backing(None)?;
        let Err(Error::OtherImage { .. }) = write_header(&*blob, "x", other.bytes()) else {
            panic!("the header of another image is written")
        };
    }
    assert_eq!(start_of(&*blob, 4096)?, before);
    Ok(())
}

#[test]
fn an_image_whose_header_could_not_be_written_is_not_written_any_more() -> Outcome {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let blob = store.create(&BlobName::parse("x")?)?;
    overlay(Some(label(&name(900), "qcow2"))).layout("x")?.write(&*blob)?;
    let image = open(&blob)?;
    let draft = image.draft_backing(Some(label(&name(1000), "raw")))?;
    store.fail(Fault::once(At::CallOf(Operation::Write, 1), FaultKind::ShortWrite(ByteCount::new(512))));
    let Err(Error::Storage(_)) = image.put_header(&draft) else { panic!("the fault went unseen") };
    let Err(Error::Failed { .. }) = image.write(GuestOffset::ZERO, &[1; 512], None) else {
        panic!("it is written")
    };
    let Err(Error::Failed { .. }) = image.absorb(GuestOffset::ZERO, Content::Zero(ByteCount::kib(4))) else {
        panic!("it absorbs")
    };
    drop(image);
    write_header(&*blob, "x", draft.bytes())?;
    assert_eq!(Facts::of(&*blob, "x")?.backing_label, Some(name(1000)));
    assert!(open(&blob)?.check()?.is_clean());
    Ok(())
}

/// What is under test with a blob whose power is cut: guest data absorbed, then the backing name taken away.
fn absorb_and_rebase(blob: &Arc<dyn Blob>) -> Outcome<HeaderDraft> {
    let image = open(blob)?;
    image.absorb(GuestOffset::ZERO, Content::Data(&[7; 64 << 10]))?;
    let draft = image.draft_backing(None)?;
    image.put_header(&draft)?;
    Ok(draft)
}

#[test]
fn a_header_without_the_backing_file_is_never_seen_before_what_was_absorbed_from_it() -> Outcome {
    for seed in 1..=40 {
        let mut dice = Dice::of(seed);
        let cut = PowerCutBlob::default();
        let blob = cut.blob();
        overlay(Some(label(&name(1000), "qcow2"))).layout("x")?.write(&*blob)?;
        blob.sync()?;
        let begun = cut.position();
        let draft = absorb_and_rebase(&blob)?;
        let mut points: Vec<_> = (begun..=cut.position()).collect();
        // Right behind the write of the header a cut may leave any mixture: look there more often.
        let log = cut.log();
        let header = after_header_writes(&log).into_iter().filter(|point| *point > begun);
        points.extend(header.flat_map(|point| [point; 8]));
        points.sort_unstable();
        let mut rebased = 0;
        for (point, left) in power::cuts(&log, &points, &mut dice) {
            let blob = MemoryStore::new().create(&BlobName::parse("left")?)?;
            blob.write_at(HostOffset::ZERO, &left)?;
            let facts = Facts::of(&*blob, "x");
            // Half a header, or none of the old name: the write of the header was under way.
            if facts.is_err() || facts.is_ok_and(|facts| facts.backing_label.as_ref() != Some(&name(1000))) {
                rebased += 1;
                write_header(&*blob, "x", draft.bytes())?;
                let image = open(&blob)?;
                let (mut found, mut holes) = (vec![0; 64 << 10], Vec::new());
                image.read(GuestOffset::ZERO, &mut found, &mut holes)?;
                assert!(holes.is_empty() && found.iter().all(|byte| *byte == 7), "seed {seed}, cut {point}");
            }
            // At any point the note brings the new header about.
            write_header(&*blob, "x", draft.bytes())?;
            assert!(open(&blob)?.check()?.is_sound(), "seed {seed}, cut {point}");
            let header = Image::header_of(&*blob, "x")?;
            assert_eq!(header.backing, None);
            assert!(header.extensions.iter().any(|extension| extension.kind == Extension::OURS));
        }
        assert!(rebased > 0, "seed {seed}: the last cut shows the new header");
    }
    Ok(())
}
