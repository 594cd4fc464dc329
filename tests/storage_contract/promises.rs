//! The promises B1 to B6 and S1 to S5 of `snapgroup::storage`, as questions to any store; B7 and B8 are in
//! `copies`.
//!
//! B4, B5 and S2 speak of power cuts. Here is only what can be asked without one.

pub(crate) use crate::copies::*;
use crate::{Outcome, name};
use snapgroup::storage::{Access, Blob, BlobName, Error, Hold, Operation, Store, read_zero_extended};
use snapgroup::units::{ByteCount, HostOffset};

/// A length that is no multiple of any page, and longer than one.
pub(crate) const ODD: usize = 2 * 4096 + 77;

pub(crate) fn at(offset: usize) -> HostOffset {
    HostOffset::new(offset as u64)
}

pub(crate) fn bytes(blob: &dyn Blob, start: usize, length: usize) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0xEE; length];
    blob.read_at(at(start), &mut buffer)?;
    Ok(buffer)
}

/// Bytes that differ from their neighbours, never zero.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (1..=251).cycle().take(length).collect()
}

pub(crate) fn b1_a_write_is_seen_through_every_handle(store: &dyn Store) -> Outcome {
    let writer = store.create(&name("a"))?;
    writer.write_at(at(0), &pattern(ODD))?;
    let reader = store.open(&name("a"), Access::Read)?;
    let other = store.open(&name("a"), Access::Write)?;
    for start in [0, 1, 4095, 4096, ODD - 1] {
        other.write_at(at(start), &[0xAA])?;
        for blob in [&writer, &reader, &other] {
            assert_eq!(bytes(&**blob, start, 1)?, [0xAA], "at {start}");
        }
    }
    other.write_at(at(ODD), b"more")?;
    assert_eq!(bytes(&*reader, ODD, 4)?, b"more", "a read of what was written after the open");
    assert_eq!(reader.length()?, ByteCount::of(ODD + 4));
    Ok(())
}

pub(crate) fn b1_two_threads_write_different_ranges_at_once(store: &dyn Store) -> Outcome {
    const ROUNDS: usize = 200;
    let blob = store.create(&name("a"))?;
    std::thread::scope(|scope| {
        for thread in 0..2_u8 {
            let blob = &blob;
            // Stripes of 100 bytes: neighbours share pages and sectors.
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let start = (2 * round + usize::from(thread)) * 100;
                    blob.write_at(at(start), &[thread + 1; 100]).expect("a write of a stripe succeeds");
                }
            });
        }
    });
    let all = bytes(&*blob, 0, 2 * ROUNDS * 100)?;
    for (stripe, bytes) in all.chunks(100).enumerate() {
        let expected = if stripe.is_multiple_of(2) { 1 } else { 2 };
        assert!(bytes.iter().all(|byte| *byte == expected), "stripe {stripe}");
    }
    Ok(())
}

pub(crate) fn b2_a_read_fills_the_buffer_or_fails(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), &pattern(ODD))?;
    let reader = store.open(&name("a"), Access::Read)?;
    for blob in [&blob, &reader] {
        assert_eq!(bytes(&**blob, 0, ODD)?, pattern(ODD));
        assert_eq!(bytes(&**blob, ODD - 1, 1)?.len(), 1);
        for (start, length) in [(0, ODD + 1), (ODD - 1, 2), (ODD, 1), (10 * ODD, 1), (4096, ODD)] {
            let read = bytes(&**blob, start, length);
            let Err(Error::PastEnd { name: who, at: from, length: wanted, end }) = read else {
                panic!("{length} bytes at {start} of {ODD}: {read:?}");
            };
            assert_eq!(who, name("a"));
            assert_eq!((from, wanted, end), (at(start), ByteCount::of(length), ByteCount::of(ODD)));
        }
        for start in [0, ODD, 10 * ODD] {
            blob.read_at(at(start), &mut [])?;
        }
    }
    Ok(())
}

pub(crate) fn b2_a_read_at_the_end_of_all_addresses_is_past_the_end(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), b"some")?;
    let reader = store.open(&name("a"), Access::Read)?;
    for start in [u64::MAX, u64::MAX - 1, i64::MAX as u64, i64::MAX as u64 + 1] {
        for blob in [&blob, &reader] {
            let read = blob.read_at(HostOffset::new(start), &mut [0; 4]);
            let Err(Error::PastEnd { .. }) = read else { panic!("at {start:#x}: {read:?}") };
        }
    }
    Ok(())
}

pub(crate) fn b3_a_write_past_the_end_leaves_a_gap_of_zeros(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), b"start")?;
    blob.write_at(at(ODD), b"end")?;
    assert_eq!(blob.length()?, ByteCount::of(ODD + 3));
    let mut expected = b"start".to_vec();
    expected.resize(ODD, 0);
    expected.extend(b"end");
    assert_eq!(bytes(&*blob, 0, ODD + 3)?, expected);
    Ok(())
}

pub(crate) fn b3_writing_nothing_changes_nothing(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), b"some")?;
    for start in [0, 4, ODD] {
        blob.write_at(at(start), &[])?;
        assert_eq!(blob.length()?, ByteCount::new(4), "nothing written at {start}");
    }
    blob.punch(at(1), ByteCount::ZERO)?;
    assert_eq!(bytes(&*blob, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn b3_a_longer_length_shows_zeros_and_never_old_bytes(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    for cut in [0, 1, 511, 4095, 4096, 4097, ODD - 1, ODD] {
        blob.set_length(ByteCount::ZERO)?;
        blob.write_at(at(0), &pattern(ODD))?;
        blob.set_length(ByteCount::of(cut))?;
        blob.set_length(ByteCount::of(2 * ODD))?;
        let mut expected = pattern(cut);
        expected.resize(2 * ODD, 0);
        assert!(bytes(&*blob, 0, 2 * ODD)? == expected, "cut at {cut}");
    }
    Ok(())
}

pub(crate) fn b3_a_shorter_length_cuts_the_bytes_off_for_every_handle(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), &pattern(4 * ODD))?;
    let reader = store.open(&name("a"), Access::Read)?;
    assert_eq!(bytes(&*reader, 3 * ODD, 1)?.len(), 1, "read once before the cut");
    blob.set_length(ByteCount::new(5))?;
    for blob in [&blob, &reader] {
        assert_eq!(blob.length()?, ByteCount::new(5));
        assert_eq!(bytes(&**blob, 0, 5)?, pattern(5));
        for start in [5, 3 * ODD] {
            let read = bytes(&**blob, start, 1);
            let Err(Error::PastEnd { .. }) = read else { panic!("at {start}: {read:?}") };
        }
    }
    blob.write_at(at(ODD), b"again")?;
    assert_eq!(bytes(&*reader, ODD - 1, 6)?, b"\0again", "cut and grown, through an older handle");
    Ok(())
}

pub(crate) fn b3_a_punched_range_reads_as_zeros_and_nothing_else_does(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    let edges = [0, 1, 511, 4095, 4096, 4097, 8192, ODD - 1, ODD];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end > start) {
            blob.write_at(at(0), &pattern(ODD))?;
            blob.punch(at(start), ByteCount::of(end - start))?;
            let mut expected = pattern(ODD);
            expected[start..end].fill(0);
            assert!(bytes(&*blob, 0, ODD)? == expected, "punched {start}..{end}");
        }
    }
    Ok(())
}

pub(crate) fn b3_a_punch_never_changes_the_length(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), &pattern(ODD))?;
    for (start, length) in [
        (0, ByteCount::new(1)),
        (ODD as u64 - 1, ByteCount::mib(1)),
        (ODD as u64, ByteCount::new(1)),
        (100 * ODD as u64, ByteCount::kib(64)),
        (4096, ByteCount::new(u64::MAX)),
        (u64::MAX, ByteCount::new(u64::MAX)),
    ] {
        blob.punch(HostOffset::new(start), length)?;
        assert_eq!(blob.length()?, ByteCount::of(ODD), "punched {length} at {start}");
    }
    assert_eq!(bytes(&*blob, 1, 4095)?, &pattern(4096)[1..]);
    assert!(bytes(&*blob, 4096, ODD - 4096)?.iter().all(|byte| *byte == 0));
    Ok(())
}

pub(crate) fn b3_a_length_or_a_write_that_no_file_could_have_is_refused(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), b"some")?;
    for end in [u64::MAX, i64::MAX as u64 + 1] {
        let set = blob.set_length(ByteCount::new(end));
        let Err(Error::Io { operation: Operation::SetLength, .. }) = set else { panic!("{end:#x}: {set:?}") };
        for start in [end, end - 1] {
            let written = blob.write_at(HostOffset::new(start), b"far");
            let Err(Error::Io { operation: Operation::Write, .. }) = written else {
                panic!("{start:#x}: {written:?}");
            };
        }
    }
    assert_eq!(bytes(&*blob, 0, 4)?, b"some");
    assert_eq!(blob.length()?, ByteCount::new(4));
    Ok(())
}

pub(crate) fn b4_a_sync_succeeds_on_every_handle(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.sync()?;
    blob.write_at(at(0), b"some")?;
    blob.sync()?;
    store.open(&name("a"), Access::Read)?.sync()?;
    store.remove(&name("a"))?;
    blob.sync()?;
    assert_eq!(bytes(&*blob, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn b6_a_handle_outlives_the_name(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), b"some")?;
    let reader = store.open(&name("a"), Access::Read)?;
    store.remove(&name("a"))?;
    let successor = store.create(&name("a"))?;
    successor.write_at(at(0), b"new!")?;

    blob.write_at(at(4), b" more")?;
    assert_eq!(bytes(&*blob, 0, 9)?, b"some more");
    assert_eq!(bytes(&*reader, 0, 9)?, b"some more");
    assert_eq!(bytes(&*successor, 0, 4)?, b"new!");
    assert_eq!(successor.length()?, ByteCount::new(4));
    Ok(())
}

pub(crate) fn b_a_handle_for_reading_refuses_every_change(store: &dyn Store) -> Outcome {
    store.create(&name("a"))?.write_at(at(0), b"some")?;
    let reader = store.open(&name("a"), Access::Read)?;
    let changes = [
        reader.write_at(at(0), b"else"),
        reader.write_at(at(0), b""),
        reader.set_length(ByteCount::ZERO),
        reader.set_length(ByteCount::new(4)),
        reader.punch(at(0), ByteCount::new(4)),
        reader.copy_from(at(0), &*reader, at(0), ByteCount::new(4)),
        reader.copy_from(at(0), &*reader, at(0), ByteCount::ZERO),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let Err(Error::ReadOnly { name: who }) = change else { panic!("change {number}: {change:?}") };
        assert_eq!(who, name("a"));
    }
    assert_eq!(bytes(&*reader, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn b_a_mebibyte_comes_back_as_it_was_written(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    let all = pattern(1 << 20);
    blob.write_at(at(13), &all)?;
    assert!(bytes(&*blob, 13, all.len())? == all);
    assert!(bytes(&*store.open(&name("a"), Access::Read)?, 13, all.len())? == all);
    Ok(())
}

pub(crate) fn b_what_is_allocated_does_not_count_holes(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.set_length(ByteCount::gib(1))?;
    assert!(blob.allocated()? < ByteCount::mib(1), "an empty gibibyte: {}", blob.allocated()?);
    blob.write_at(at(1 << 29), &pattern(1 << 20))?;
    blob.sync()?;
    let held = blob.allocated()?;
    assert!(held >= ByteCount::mib(1) && held < ByteCount::mib(2), "a mebibyte: {held}");
    Ok(())
}

pub(crate) fn b9_handles_of_one_store_hold_a_blob_beside_each_other(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    let reader = store.open(&name("a"), Access::Read)?;
    for hold in [Hold::Write, Hold::Read, Hold::Write] {
        blob.hold(hold)?;
        reader.hold(Hold::Read)?;
        store.open(&name("a"), Access::Write)?.hold(Hold::Write)?;
        assert_eq!(blob.writer_elsewhere()?, None);
        assert_eq!(reader.writer_elsewhere()?, None);
    }
    Ok(())
}

/// More changes than any clock of a backend could take for one moment.
const CHANGES_MAX: u32 = 1_000_000;

pub(crate) fn b10_after_a_change_the_stamp_is_another_one(store: &dyn Store) -> Outcome {
    type Change = fn(&dyn Blob, &dyn Blob) -> Result<(), Error>;
    let changes: [(&str, Change); 4] = [
        ("write", |blob, _| blob.write_at(at(1), b"x")),
        ("copy", |blob, other| blob.copy_from(at(0), other, at(0), ByteCount::new(2))),
        ("punch", |blob, _| blob.punch(at(0), ByteCount::new(3))),
        ("length", |blob, _| blob.set_length(blob.length()? + ByteCount::new(1))),
    ];
    let (blob, other) = (store.create(&name("a"))?, store.create(&name("b"))?);
    let reader = store.open(&name("a"), Access::Read)?;
    blob.write_at(at(0), &pattern(ODD))?;
    other.write_at(at(0), b"other")?;
    for (what, change) in changes {
        let before = reader.stamp()?;
        assert!(before.is_some(), "this backend gives stamps");
        let mut count = 0;
        while reader.stamp()? == before {
            assert!(count < CHANGES_MAX, "{what} is not seen in the stamp");
            change(&*blob, &*other)?;
            count += 1;
        }
    }
    Ok(())
}

pub(crate) fn b10_what_is_not_changed_keeps_its_stamp(store: &dyn Store) -> Outcome {
    let (blob, other) = (store.create(&name("a"))?, store.create(&name("b"))?);
    blob.write_at(at(0), &pattern(ODD))?;
    let before = blob.stamp()?;
    bytes(&*blob, 0, ODD)?;
    blob.sync()?;
    blob.next_data(at(0))?;
    other.write_at(at(0), b"other")?;
    other.copy_from(at(0), &*blob, at(0), ByteCount::of(ODD))?;
    assert_eq!(store.open(&name("a"), Access::Read)?.stamp()?, before);
    Ok(())
}

pub(crate) fn s1_a_new_blob_is_empty_and_open_for_writing(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    assert_eq!(blob.length()?, ByteCount::ZERO);
    assert_eq!(blob.allocated()?, ByteCount::ZERO);
    blob.write_at(at(0), b"some")?;
    assert_eq!(bytes(&*blob, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn s1_a_taken_name_is_refused_and_its_bytes_stay(store: &dyn Store) -> Outcome {
    store.create(&name("a"))?.write_at(at(0), b"some")?;
    let again = store.create(&name("a"));
    let Err(Error::Exists { name: who }) = again else { panic!("made twice: {again:?}") };
    assert_eq!(who, name("a"));
    assert_eq!(bytes(&*store.open(&name("a"), Access::Read)?, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn s2_names_can_be_synced_after_every_change(store: &dyn Store) -> Outcome {
    store.sync_names()?;
    store.create(&name("a"))?;
    store.sync_names()?;
    store.remove(&name("a"))?;
    store.sync_names()?;
    assert_eq!(store.list()?, []);
    Ok(())
}

pub(crate) fn s3_an_odd_name_is_one_plain_name(store: &dyn Store) -> Outcome {
    let odd =
        ["...", "a:b", "a b", "ü", "-rf", "~", "a\\b", "nbd:host", "json:{}", &"x".repeat(255)].map(name);
    for (number, name) in odd.iter().enumerate() {
        store.create(name)?.write_at(at(number), b"!")?;
    }
    for (number, name) in odd.iter().enumerate() {
        assert_eq!(store.open(name, Access::Read)?.length()?, ByteCount::of(number + 1), "{name}");
    }
    let mut sorted = odd.to_vec();
    sorted.sort();
    assert_eq!(store.list()?, sorted);
    Ok(())
}

pub(crate) fn s4_a_store_has_one_owner_at_a_time(store: &dyn Store) -> Outcome {
    for round in 0..3 {
        let owner = store.lock()?;
        for attempt in 0..2 {
            let second = store.lock();
            let Err(Error::Locked { holder, .. }) = second else {
                panic!("round {round}, attempt {attempt}: two owners: {second:?}");
            };
            assert_eq!(holder.and_then(|holder| holder.process), Some(std::process::id()));
        }
        drop(owner);
    }
    Ok(())
}

pub(crate) fn s4_owning_a_store_adds_no_name(store: &dyn Store) -> Outcome {
    let owner = store.lock()?;
    assert_eq!(store.list()?, []);
    drop(owner);
    assert_eq!(store.list()?, []);
    Ok(())
}

pub(crate) fn s5_what_is_done_to_one_blob_is_not_seen_in_another(store: &dyn Store) -> Outcome {
    let one = store.create(&name("one"))?;
    let other = store.create(&name("other"))?;
    one.write_at(at(0), &pattern(ODD))?;
    other.write_at(at(0), &[7; ODD])?;
    one.punch(at(0), ByteCount::kib(4))?;
    one.set_length(ByteCount::new(5000))?;
    store.remove(&name("one"))?;
    assert!(bytes(&*other, 0, ODD)? == [7; ODD]);
    assert_eq!(other.length()?, ByteCount::of(ODD));
    assert_eq!(store.list()?, [name("other")]);
    Ok(())
}

pub(crate) fn s5_identity_tells_blobs_apart_and_names_of_one_time_together(store: &dyn Store) -> Outcome {
    let one = store.create(&name("one"))?;
    let other = store.create(&name("other"))?;
    assert_ne!(one.identity(), other.identity());
    assert_eq!(one.identity(), store.open(&name("one"), Access::Read)?.identity());
    store.remove(&name("one"))?;
    let successor = store.create(&name("one"))?;
    assert_ne!(one.identity(), successor.identity(), "the old blob is still open");
    Ok(())
}

pub(crate) fn s_a_name_that_is_absent_is_not_found(store: &dyn Store) -> Outcome {
    let absent = name("absent");
    let refused: [Result<(), Error>; 3] = [
        store.open(&absent, Access::Read).map(drop),
        store.open(&absent, Access::Write).map(drop),
        store.remove(&absent),
    ];
    for (number, call) in refused.into_iter().enumerate() {
        let Err(Error::NotFound { name: who }) = call else { panic!("call {number}: {call:?}") };
        assert_eq!(who, absent);
    }
    assert_eq!(store.list()?, []);
    Ok(())
}

pub(crate) fn s_names_are_listed_in_order(store: &dyn Store) -> Outcome {
    let names: Vec<BlobName> = (0..40).map(|number| name(&format!("blob-{:02}", number * 17 % 40))).collect();
    for name in &names {
        store.create(name)?;
    }
    let mut sorted = names;
    sorted.sort();
    assert_eq!(store.list()?, sorted);
    assert_eq!(store.list()?, sorted, "a second list is whole again");
    Ok(())
}

pub(crate) fn s_a_removed_name_can_be_made_anew(store: &dyn Store) -> Outcome {
    store.create(&name("a"))?.write_at(at(0), b"some")?;
    store.remove(&name("a"))?;
    assert_eq!(store.list()?, []);
    assert_eq!(store.create(&name("a"))?.length()?, ByteCount::ZERO);
    Ok(())
}

pub(crate) fn s_a_location_tells_the_name(store: &dyn Store) -> Outcome {
    let one = store.location(&name("one.qcow2"));
    assert!(one.ends_with("one.qcow2"), "{one}");
    assert_ne!(one, store.location(&name("other.qcow2")));
    Ok(())
}

pub(crate) fn z_a_read_across_the_end_is_extended_with_zeros(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.write_at(at(0), &pattern(ODD))?;
    let end = blob.length()?;
    let mut endless = pattern(ODD);
    endless.resize(4 * ODD, 0);
    for start in [0, 1, ODD - 1, ODD, ODD + 1, 3 * ODD] {
        for length in [0, 1, 512, ODD] {
            let mut buffer = vec![0xEE; length];
            read_zero_extended(&*blob, end, at(start), &mut buffer)?;
            assert!(buffer == endless[start..start + length], "{length} at {start}");
        }
    }
    let mut buffer = [0xEE; 8];
    read_zero_extended(&*blob, end, HostOffset::new(u64::MAX), &mut buffer)?;
    assert_eq!(buffer, [0; 8]);
    let read = read_zero_extended(&*blob, end + ByteCount::new(1), at(ODD), &mut buffer);
    let Err(Error::PastEnd { .. }) = read else { panic!("the length was wrong: {read:?}") };
    Ok(())
}
