//! The promises B7 and B8 of `snapgroup::storage`, as questions to any store.

use crate::dice::Dice;
use crate::promises::{ODD, at, bytes, pattern};
use crate::{Outcome, name};
use snapgroup::storage::{Access, Blob, Error, Operation, Store};
use snapgroup::units::{ByteCount, HostOffset};

/// Where random ranges lie: a few pages, and some of the mebibyte from which on holes are looked for.
const SPACE: usize = 3 << 19;

/// A place in [`SPACE`]: most often near the edge of a page or on it.
fn place(dice: &mut Dice) -> usize {
    let page = dice.roll(SPACE / 4096) * 4096;
    match dice.roll(4) {
        0 => dice.roll(SPACE),
        1 => page + dice.roll(3),
        _ => page,
    }
}

/// What a write at `start` leaves.
fn write(model: &mut Vec<u8>, start: usize, bytes: &[u8]) {
    let end = start + bytes.len();
    if !bytes.is_empty() && model.len() < end {
        model.resize(end, 0);
    }
    model[start.min(end)..end].copy_from_slice(bytes);
}

/// What a read with zeros past the end finds.
fn read(model: &[u8], start: usize, length: usize) -> Vec<u8> {
    let mut found: Vec<u8> = model.iter().skip(start).take(length).copied().collect();
    found.resize(length, 0);
    found
}

/// Changes a blob and its model in the same way, at random; long ranges are rare.
fn change(dice: &mut Dice, blob: &dyn Blob, model: &mut Vec<u8>) -> Result<(), Error> {
    let start = place(dice);
    let length = if dice.roll(4) == 0 { dice.roll(SPACE - start.min(SPACE - 1)) } else { dice.roll(20_000) };
    match dice.roll(4) {
        0 => {
            blob.punch(at(start), ByteCount::of(length))?;
            let end = model.len().min(start + length);
            model[start.min(end)..end].fill(0);
        }
        1 => {
            blob.set_length(ByteCount::of(start))?;
            model.resize(start, 0);
        }
        _ => {
            let filled = vec![u8::try_from(1 + dice.roll(255)).expect("below 256"); length];
            blob.write_at(at(start), &filled)?;
            write(model, start, &filled);
        }
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a failed run is repeated from its seed")]
pub(crate) fn b7_a_copy_is_what_a_read_and_a_write_would_do(store: &dyn Store) -> Outcome {
    for seed in 1..=6 {
        eprintln!("seed {seed}");
        let mut dice = Dice::of(seed);
        let (first, second) = (name(&format!("first-{seed}")), name(&format!("second-{seed}")));
        let blobs = [store.create(&first)?, store.create(&second)?];
        let readers = [store.open(&first, Access::Read)?, store.open(&second, Access::Read)?];
        let mut models = [Vec::new(), Vec::new()];
        for step in 0..40 {
            let (one, other) = (dice.roll(2), dice.roll(2));
            change(&mut dice, &*blobs[one], &mut models[one])?;
            let (start, from) = (place(&mut dice), place(&mut dice));
            let mut length = if dice.roll(3) == 0 { dice.roll(SPACE) } else { dice.roll(20_000) };
            if one == other {
                length = length.min(start.abs_diff(from));
            }
            blobs[one].copy_from(at(start), &*blobs[other], at(from), ByteCount::of(length))?;
            let copied = read(&models[other], from, length);
            if !copied.is_empty() {
                write(&mut models[one], start, &copied);
            }
            let what = format!("step {step}: {length} from {from} of {other} at {start} of {one}");
            for number in [0, 1] {
                let reader = &readers[number];
                assert_eq!(reader.length()?, ByteCount::of(models[number].len()), "{what}");
                assert!(
                    bytes(&**reader, 0, models[number].len())? == models[number],
                    "blob {number}, {what}"
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn b7_past_the_end_of_the_source_are_zeros(store: &dyn Store) -> Outcome {
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.write_at(at(0), &pattern(ODD))?;
    for length in [1, 4096, ODD, 2 << 20] {
        for from in [0, 1, 4096, ODD as u64 - 1, ODD as u64, 1 << 40, i64::MAX as u64, u64::MAX] {
            target.set_length(ByteCount::ZERO)?;
            target.write_at(at(0), &[9; 8192])?;
            target.copy_from(at(4095), &*source, HostOffset::new(from), ByteCount::of(length))?;
            let mut expected = vec![9; 8192];
            let from_there = usize::try_from(from).unwrap_or(usize::MAX);
            write(&mut expected, 4095, &read(&pattern(ODD), from_there, length));
            assert_eq!(target.length()?, ByteCount::of(expected.len()), "{length} from {from:#x}");
            assert!(bytes(&*target, 0, expected.len())? == expected, "{length} from {from:#x}");
        }
    }
    assert_eq!(source.length()?, ByteCount::of(ODD));
    Ok(())
}

pub(crate) fn b7_copying_nothing_changes_nothing(store: &dyn Store) -> Outcome {
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.write_at(at(0), &pattern(ODD))?;
    target.write_at(at(0), b"some")?;
    for (start, from) in [(0, 0), (4, 0), (ODD, 1), (0, ODD), (0, 10 * ODD)] {
        target.copy_from(at(start), &*source, at(from), ByteCount::ZERO)?;
        target.copy_from(at(start), &*target, at(from), ByteCount::ZERO)?;
        assert_eq!(target.length()?, ByteCount::new(4), "nothing from {from} at {start}");
    }
    assert_eq!(bytes(&*target, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn b7_a_copy_goes_from_any_handle_and_to_none_for_reading(store: &dyn Store) -> Outcome {
    store.create(&name("source"))?.write_at(at(0), &pattern(ODD))?;
    let target = store.create(&name("target"))?;
    let source = store.open(&name("source"), Access::Read)?;
    store.remove(&name("source"))?;
    target.copy_from(at(0), &*source, at(0), ByteCount::of(ODD))?;
    assert!(bytes(&*target, 0, ODD)? == pattern(ODD));

    let reader = store.open(&name("target"), Access::Read)?;
    for length in [0, 1, ODD, 2 << 20] {
        for from in [0, ODD] {
            let copied = reader.copy_from(at(1), &*source, at(from), ByteCount::of(length));
            let Err(Error::ReadOnly { name: who }) = copied else {
                panic!("{length} from {from}: {copied:?}")
            };
            assert_eq!(who, name("target"));
        }
    }
    assert!(bytes(&*target, 0, ODD)? == pattern(ODD));
    assert_eq!(target.length()?, ByteCount::of(ODD));
    Ok(())
}

pub(crate) fn b7_a_copy_that_no_file_could_hold_is_refused(store: &dyn Store) -> Outcome {
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.write_at(at(0), &pattern(ODD))?;
    target.write_at(at(0), b"some")?;
    let end = i64::MAX as u64;
    for (start, length) in
        [(0, end + 1), (end, 1), (end - 2, 3 + ODD as u64), (0, u64::MAX), (u64::MAX, u64::MAX)]
    {
        for from in [0, u64::MAX] {
            let (start, from) = (HostOffset::new(start), HostOffset::new(from));
            let copied = target.copy_from(start, &*source, from, ByteCount::new(length));
            let Err(Error::Io { operation: Operation::Write, .. }) = copied else {
                panic!("{length:#x} from {from} at {start}: {copied:?}");
            };
        }
    }
    assert_eq!(target.length()?, ByteCount::new(4));
    assert_eq!(bytes(&*target, 0, 4)?, b"some");
    Ok(())
}

pub(crate) fn b7_a_write_after_a_copy_is_seen_in_one_blob_only(store: &dyn Store) -> Outcome {
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.write_at(at(0), &[1; 4 * 4096])?;
    target.copy_from(at(4096), &*source, at(0), ByteCount::kib(16))?;
    source.write_at(at(0), &[2])?;
    target.write_at(at(4096 + 1), &[3])?;
    target.copy_from(at(8 * 4096), &*target, at(4096), ByteCount::kib(8))?;
    target.punch(at(2 * 4096), ByteCount::kib(4))?;
    source.set_length(ByteCount::new(3))?;
    assert_eq!(bytes(&*source, 0, 3)?, [2, 1, 1]);
    assert_eq!(bytes(&*target, 4096, 3)?, [1, 3, 1]);
    assert_eq!(bytes(&*target, 8 * 4096, 3)?, [1, 3, 1]);
    assert_eq!(bytes(&*target, 9 * 4096, 4096)?, [1; 4096]);
    assert_eq!(bytes(&*target, 3 * 4096, 8192)?, [1; 8192]);
    Ok(())
}

pub(crate) fn b7_two_threads_copy_to_different_ranges_at_once(store: &dyn Store) -> Outcome {
    const ROUNDS: usize = 200;
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.write_at(at(0), &[[1; 4096], [2; 4096]].concat())?;
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (source, target) = (&source, &target);
            // Every second stripe of a thread ends in the source's past: one lengthens, the other one may not cut.
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let start = at((2 * round + thread) * 100);
                    let from = at(if round.is_multiple_of(2) { thread * 4096 } else { 2 * 4096 - 50 });
                    let copied = target.copy_from(start, &**source, from, ByteCount::new(100));
                    copied.expect("a copy of a stripe succeeds");
                }
            });
        }
    });
    let all = bytes(&*target, 0, 2 * ROUNDS * 100)?;
    for (stripe, bytes) in all.chunks(100).enumerate() {
        let expected = match (stripe / 2 % 2, stripe % 2) {
            (0, 0) => [1; 100],
            (0, _) => [2; 100],
            _ => std::array::from_fn(|index| if index < 50 { 2 } else { 0 }),
        };
        assert_eq!(bytes, expected, "stripe {stripe}");
    }
    Ok(())
}

pub(crate) fn b7_a_copy_comes_from_and_goes_to_a_store_of_another_kind(store: &dyn Store) -> Outcome {
    let ours = store.create(&name("ours"))?;
    let mut expected = vec![0; 5 << 19];
    expected[70_000..90_000].copy_from_slice(&pattern(20_000));
    expected[2 << 20..].fill(7);
    let others = [crate::backends::plain_over_memory()?, crate::backends::simulated_over_memory()?];
    for (number, other) in others.iter().enumerate() {
        let theirs = other.store.create(&name("theirs"))?;
        theirs.write_at(at(0), &expected)?;
        ours.set_length(ByteCount::ZERO)?;
        ours.write_at(at(0), &[9; 1 << 20])?;
        ours.copy_from(at(3), &*theirs, at(0), ByteCount::of(expected.len()))?;
        assert_eq!(bytes(&*ours, 0, 3)?, [9; 3]);
        assert!(bytes(&*ours, 3, expected.len())? == expected, "from kind {number}");

        let back = other.store.create(&name("back"))?;
        back.copy_from(at(4096), &*ours, at(3), ByteCount::mib(4))?;
        assert!(bytes(&*back, 4096, expected.len())? == expected, "to kind {number}");
        assert_eq!(back.length()?, ByteCount::mib(4) + ByteCount::kib(4));
    }
    Ok(())
}

pub(crate) fn b7_a_large_copy_keeps_its_holes(store: &dyn Store) -> Outcome {
    let (source, target) = (store.create(&name("source"))?, store.create(&name("target"))?);
    source.set_length(ByteCount::gib(1))?;
    for start in [0, 1 << 29, (1 << 30) - 4096] {
        source.write_at(at(start), &pattern(4096))?;
    }
    target.write_at(at(1 << 20), &[9; 1 << 20])?;
    target.copy_from(at(0), &*source, at(0), ByteCount::gib(2))?;
    target.sync()?;
    assert_eq!(target.length()?, ByteCount::gib(2));
    for start in [0, 1 << 29, (1 << 30) - 4096] {
        assert!(bytes(&*target, start, 4096)? == pattern(4096), "at {start}");
    }
    assert!(bytes(&*target, 1 << 20, 1 << 20)?.iter().all(|byte| *byte == 0), "a hole hides what was there");
    assert!(target.allocated()? < ByteCount::mib(1), "{}", target.allocated()?);
    Ok(())
}

/// Every stretch of data, and a check of the rules for each.
fn stretches(blob: &dyn Blob) -> Result<Vec<std::ops::Range<usize>>, Error> {
    let length = blob.length()?;
    let mut found = Vec::new();
    let mut here = HostOffset::ZERO;
    while let Some(stretch) = blob.next_data(here)? {
        assert!(here <= stretch.start && stretch.start < stretch.end, "{stretch:?} from {here} on");
        assert!(stretch.end.as_length() <= length, "{stretch:?} of {length}");
        here = stretch.end;
        found.push(stretch.start.as_length().as_usize()..stretch.end.as_length().as_usize());
    }
    Ok(found)
}

#[expect(clippy::print_stderr, reason = "a failed run is repeated from its seed")]
pub(crate) fn b8_what_is_left_out_is_zeros(store: &dyn Store) -> Outcome {
    for seed in 1..=6 {
        eprintln!("seed {seed}");
        let mut dice = Dice::of(seed);
        let blob = store.create(&name(&format!("blob-{seed}")))?;
        let reader = store.open(&name(&format!("blob-{seed}")), Access::Read)?;
        let mut model = Vec::new();
        for step in 0..40 {
            change(&mut dice, &*blob, &mut model)?;
            for blob in [&blob, &reader] {
                let mut left_out = model.clone();
                for stretch in stretches(&**blob)? {
                    left_out[stretch].fill(0);
                }
                assert!(left_out.iter().all(|byte| *byte == 0), "step {step}");
            }
            let from = place(&mut dice);
            let first = model.iter().skip(from).position(|byte| *byte != 0);
            let found = blob.next_data(at(from))?;
            if let Some(first) = first {
                let found = found.expect("there is something");
                assert!(
                    at(from) <= found.start && found.start <= at(from + first),
                    "step {step}, from {from}"
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn b8_nothing_is_found_at_the_end_or_after_it(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    assert_eq!(blob.next_data(at(0))?, None);
    blob.write_at(at(0), &pattern(ODD))?;
    assert_eq!(blob.next_data(at(ODD - 1))?, Some(at(ODD - 1)..at(ODD)));
    for from in [ODD as u64, 3 * 4096, 1 << 40, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
        assert_eq!(blob.next_data(HostOffset::new(from))?, None, "from {from:#x}");
    }
    Ok(())
}

pub(crate) fn b8_a_large_hole_is_left_out(store: &dyn Store) -> Outcome {
    let blob = store.create(&name("a"))?;
    blob.set_length(ByteCount::gib(1))?;
    assert_eq!(blob.next_data(at(0))?, None);
    blob.write_at(at(1 << 29), &pattern(4096))?;
    let found = stretches(&*blob)?;
    let [stretch] = &found[..] else { panic!("{found:?}") };
    assert!(stretch.start <= 1 << 29 && (1 << 29) + 4096 <= stretch.end, "{stretch:?}");
    assert!(stretch.len() < 1 << 20, "{stretch:?}");
    let reader = store.open(&name("a"), Access::Read)?;
    blob.write_at(at(3 << 28), &pattern(4096))?;
    assert_eq!(stretches(&*reader)?.len(), 2, "what was written after the reader was made");
    Ok(())
}
