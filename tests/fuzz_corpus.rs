//! Replays what the fuzzer has found interesting, without the fuzzer.

#[path = "../fuzz/targets/header.rs"]
mod header;

use snapgroup::format::Header;
use std::fs;
use std::io;
use std::path::Path;

/// What is in the corpus of one target.
fn corpus(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let seeds = fs::read_dir(folder)?.map(|entry| fs::read(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    assert!(!seeds.is_empty(), "the corpus of {target} is empty");
    Ok(seeds)
}

#[test]
fn the_corpus_of_headers_holds_headers() -> io::Result<()> {
    let seeds = corpus("header")?;
    let read = seeds.iter().filter(|seed| Header::parse(seed).is_ok()).count();
    assert!(read >= 9, "only {read} of {} seeds are headers", seeds.len());
    Ok(())
}

#[test]
fn every_header_of_the_corpus_survives_the_way_out_and_back_whole_or_cut() -> io::Result<()> {
    for seed in corpus("header")? {
        for length in 0..=seed.len() {
            header::run(&seed[..length]);
        }
    }
    Ok(())
}

#[test]
fn every_header_of_the_corpus_with_one_byte_changed_survives_or_is_refused() -> io::Result<()> {
    for mut seed in corpus("header")? {
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
