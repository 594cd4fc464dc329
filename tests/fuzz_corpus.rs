//! Replays what the fuzzer has found interesting, and what once was a crash, without the fuzzer; and a few inputs more
//! for each target, from seeds.
//!
//! `SNAPGROUP_INPUTS=n` runs n of these for each target, `SNAPGROUP_SEED=n` begins with another one.

#[path = "../fuzz/targets/dice.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's targets are a library")]
mod dice;
#[path = "support/history/mod.rs"]
#[expect(dead_code, reason = "other tests run histories from seeds")]
mod history;
#[path = "../fuzz/targets"]
#[expect(unreachable_pub, reason = "the fuzzer's targets are a library")]
mod targets {
    pub mod adoption;
    pub mod catalogue;
    pub mod codec;
    pub mod differential;
    pub mod faults;
    pub mod header;
    pub mod image;
    pub mod operations;
    pub mod powercut;
    pub mod skeleton;
    pub mod structured;
    mod world;
}

use dice::Dice;
use snapgroup::format::{Compression, Header};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use targets::{
    adoption, catalogue, codec, differential, faults, header, image, operations, powercut, skeleton,
    structured,
};

/// A target of the fuzzer.
type Target = fn(&[u8]);

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// What is in the corpus of one target, each with its name.
fn corpus(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let entries = fs::read_dir(folder(target))?.collect::<io::Result<Vec<_>>>()?;
    let read = |entry: &fs::DirEntry| -> io::Result<(String, Vec<u8>)> {
        Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
    };
    let seeds = entries.iter().map(read).collect::<io::Result<Vec<_>>>()?;
    assert!(!seeds.is_empty(), "the corpus of {target} is empty");
    Ok(seeds)
}

/// Runs one input, and names it when it fails.
fn run(target: Target, name: &str, bytes: &[u8]) {
    let ran = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    assert!(ran.is_ok(), "{name}: {bytes:?}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the corpus of a target, and inputs of so many seeds.
fn replay(name: &str, target: Target, seeds: u64) -> io::Result<()> {
    for (seed, bytes) in corpus(name)? {
        run(target, &format!("{name}/{seed}"), &bytes);
    }
    let first = number("SNAPGROUP_SEED", 1);
    for seed in first..first + number("SNAPGROUP_INPUTS", seeds) {
        run(target, &format!("{name}, seed {seed}"), &input(seed));
    }
    Ok(())
}

/// Up to 240 bytes.
fn input(seed: u64) -> Vec<u8> {
    let mut dice = Dice::of(seed);
    (0..16 + dice.roll(224)).map(|_| dice.byte()).collect()
}

// ---- Headers ------------------------------------------------------------------------------------------------

#[test]
fn the_corpus_of_headers_holds_headers() -> io::Result<()> {
    let seeds = corpus("header")?;
    let read = seeds.iter().filter(|(_, seed)| Header::parse(seed).is_ok()).count();
    assert!(read >= 9, "only {read} of {} seeds are headers", seeds.len());
    Ok(())
}

#[test]
fn every_header_of_the_corpus_survives_the_way_out_and_back_whole_or_cut() -> io::Result<()> {
    for (_, seed) in corpus("header")? {
        for length in 0..=seed.len() {
            header::run(&seed[..length]);
        }
    }
    Ok(())
}

#[test]
fn every_header_of_the_corpus_with_one_byte_changed_survives_or_is_refused() -> io::Result<()> {
    for (_, mut seed) in corpus("header")? {
        for at in 0..seed.len().min(256) {
            let kept = seed[at];
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                seed[at] = value;
                header::run(&seed);
            }
            seed[at] = kept;
        }
    }
    Ok(())
}

// ---- The other targets --------------------------------------------------------------------------------------

#[test]
fn bytes_as_an_image_are_answered_or_refused() -> io::Result<()> {
    for (name, seed) in corpus("image")? {
        for length in (0..seed.len()).step_by(509) {
            run(image::run, &format!("{name}, cut to {length}"), &seed[..length]);
        }
    }
    replay("image", image::run, 10)
}

#[test]
fn broken_tables_are_survived_and_a_repair_keeps_what_was_readable() -> io::Result<()> {
    replay("structured", structured::run, 400)
}

#[test]
fn no_stream_makes_a_decoder_write_past_its_cluster() -> io::Result<()> {
    replay("codec", codec::run, 200)
}

#[test]
fn what_is_done_to_a_pool_reads_as_plain_bytes_say() -> io::Result<()> {
    replay("operations", operations::run, 20)
}

#[test]
fn after_every_error_of_the_store_the_pool_is_as_it_was_or_as_it_was_asked_to_be() -> io::Result<()> {
    replay("faults", faults::run, 60)
}

#[test]
fn after_every_power_cut_the_pool_is_as_it_was_or_as_it_was_asked_to_be() -> io::Result<()> {
    replay("powercut", powercut::run, 60)
}

#[test]
fn files_that_are_refused_are_not_changed() -> io::Result<()> {
    replay("adoption", adoption::run, 100)
}

#[test]
fn a_damaged_catalogue_is_refused_as_such_or_holds_what_was_committed() -> io::Result<()> {
    replay("catalogue", catalogue::run, 60)
}

#[test]
#[ignore = "needs qemu-img"]
fn what_is_read_of_an_image_qemu_reads_as_well() -> io::Result<()> {
    assert!(differential::is_possible(), "there is no qemu-img in the path");
    replay("differential", differential::run, 0)
}

// ---- The seeds ----------------------------------------------------------------------------------------------

/// Makes the seeds of the corpus: `cargo test --test fuzz_corpus -- --ignored`. What the fuzzer has found stays.
#[test]
#[ignore = "writes into the tree"]
fn seeds_of_every_target_are_written() -> io::Result<()> {
    let put = |target: &str, seed: u64, bytes: &[u8]| {
        fs::create_dir_all(folder(target))?;
        fs::write(folder(target).join(format!("seed-{seed:02}")), bytes)
    };
    for target in ["adoption", "catalogue", "differential", "faults", "operations", "powercut", "structured"]
    {
        for seed in 0..16 {
            put(target, seed, &input(1000 + seed))?;
        }
    }
    let images = (0..).map(|seed| skeleton::valid(&mut Dice::of(seed), None));
    for (seed, image) in (0..).zip(images.filter(|image| image.len() < 12_000).take(12)) {
        put("image", seed, &image)?;
    }
    for seed in 0..8 {
        let mut cluster: Vec<u8> = input(seed).repeat(40);
        cluster.resize([512, 4096][seed as usize % 2], 7);
        let (which, compression) = [(0, Compression::Deflate), (1, Compression::Zstd)][seed as usize / 4];
        let stream = compression.encode(&cluster).unwrap_or_default();
        put("codec", seed, &[&[which, seed as u8 % 2], &stream[..]].concat())?;
    }
    Ok(())
}
