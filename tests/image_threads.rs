//! One image in the hands of many threads.

use snapgroup::image::{Error, Image, Limits, NewImage, Space};
use snapgroup::storage::{Access, Blob, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

const THREADS: usize = 6;

fn put(new: &NewImage) -> Outcome<Arc<dyn Blob>> {
    let blob = MemoryStore::new().create(&BlobName::parse("x")?)?;
    new.layout("x")?.write(&*blob)?;
    Ok(blob)
}

fn open(blob: &Arc<dyn Blob>, cluster_bits: u32) -> Outcome<Image> {
    let limits = Limits { table_cache: ByteCount::new(2 << cluster_bits), ..Limits::default() };
    Ok(Image::open(Arc::clone(blob), "x", Access::Write, limits)?)
}

fn read(image: &Image, at: u64, length: usize) -> snapgroup::image::Result<Vec<u8>> {
    let (mut found, mut holes) = (vec![0xee; length], Vec::new());
    image.read(GuestOffset::new(at), &mut found, &mut holes)?;
    holes.into_iter().for_each(|hole| found[hole].fill(0));
    Ok(found)
}

#[test]
fn threads_that_write_their_own_ranges_see_them_while_others_read_and_flush() -> Outcome {
    for cluster_bits in [9, 12] {
        const PIECE: usize = 700;
        const PIECES: usize = 120;
        let size = PIECE * PIECES * THREADS;
        let blob = put(&NewImage {
            cluster_bits,
            refcount_order: 6,
            ..NewImage::of_size(ByteCount::of(size.next_multiple_of(512)))
        })?;
        let image = open(&blob, cluster_bits)?;
        let done = AtomicBool::new(false);
        // The ranges are interleaved and not aligned: neighbours share clusters and tables.
        let place = |thread: usize, piece: usize| ((piece * THREADS + thread) * PIECE) as u64;
        let byte =
            |thread: usize, round: usize| u8::try_from(1 + thread + round * THREADS).expect("below 256");
        thread::scope(|scope| {
            let writers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (image, place, byte) = (&image, &place, &byte);
                    scope.spawn(move || {
                        for round in 0..3 {
                            for piece in 0..PIECES {
                                let at = place(thread, piece);
                                if (piece + round) % 5 == 0 {
                                    let length = ByteCount::of(PIECE);
                                    image.zero(GuestOffset::new(at), length, Space::Free, None)?;
                                    assert_eq!(read(image, at, PIECE)?, [0; PIECE]);
                                }
                                image.write(GuestOffset::new(at), &[byte(thread, round); PIECE], None)?;
                                assert_eq!(read(image, at, PIECE)?, [byte(thread, round); PIECE]);
                            }
                        }
                        Ok::<_, Error>(())
                    })
                })
                .collect();
            let (image, done) = (&image, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    image.flush().expect("memory");
                    let report = image.check().expect("memory");
                    assert!(report.is_clean(), "while others write: {report}");
                    read(image, 0, size).expect("reads");
                }
            });
            let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            done.store(true, Ordering::Release);
            results.into_iter().try_for_each(|result| result.expect("no writer panicked"))
        })?;
        image.flush()?;
        let again = open(&blob, cluster_bits)?;
        for thread in 0..THREADS {
            for piece in 0..PIECES {
                assert_eq!(read(&again, place(thread, piece), PIECE)?, [byte(thread, 2); PIECE]);
            }
        }
        assert!(again.check()?.is_clean());
    }
    Ok(())
}

#[test]
fn a_frozen_image_never_changes_again_whoever_is_writing_it() -> Outcome {
    for round in 0..60u8 {
        let blob = put(&NewImage { cluster_bits: 9, ..NewImage::of_size(ByteCount::kib(256)) })?;
        let image = open(&blob, 9)?;
        image.write(GuestOffset::ZERO, &[1; 40_000], None)?;
        let start = Barrier::new(THREADS + 1);
        let frozen = thread::scope(|scope| {
            for thread in 0..THREADS {
                let (image, start) = (&image, &start);
                scope.spawn(move || {
                    start.wait();
                    for turn in 0..400u64 {
                        let at = GuestOffset::new((turn * 977 + thread as u64 * 4096) % 200_000);
                        let written = match (turn + thread as u64) % 3 {
                            0 => image.zero(at, ByteCount::new(3000), Space::Free, None),
                            _ => image.write(at, &[2 + round; 3000], None),
                        };
                        match written {
                            Ok(()) => {}
                            Err(Error::ReadOnly { .. }) => return,
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            start.wait();
            for _ in 0..usize::from(round) * 20 {
                thread::yield_now();
            }
            image.freeze()?;
            let mut bytes = vec![0; blob.length()?.as_usize()];
            blob.read_at(HostOffset::ZERO, &mut bytes)?;
            Ok::<_, Error>((bytes, read(&image, 0, 256 << 10)?))
        })?;
        let mut bytes = vec![0; blob.length()?.as_usize()];
        blob.read_at(HostOffset::ZERO, &mut bytes)?;
        assert!(bytes == frozen.0, "round {round}: the file was written after it was frozen");
        assert!(read(&image, 0, 256 << 10)? == frozen.1, "round {round}: its content changed");
        assert!(
            read(&open(&blob, 9)?, 0, 256 << 10)? == frozen.1,
            "round {round}: not all of it was durable"
        );
    }
    Ok(())
}

#[test]
fn a_disk_that_several_threads_grow_at_once_has_the_largest_size() -> Outcome {
    for _ in 0..30 {
        let blob = put(&NewImage { cluster_bits: 9, ..NewImage::of_size(ByteCount::new(700 * 512)) })?;
        let image = open(&blob, 9)?;
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for thread in 1..=THREADS {
                let (image, start) = (&image, &start);
                scope.spawn(move || {
                    start.wait();
                    match image.grow(ByteCount::mib(thread as u64), None) {
                        // A larger one came first.
                        Ok(()) | Err(Error::Shrink { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                });
            }
        });
        assert_eq!(image.size(), ByteCount::mib(THREADS as u64));
        image.write(GuestOffset::new((THREADS << 20) as u64 - 512), &[1; 512], None)?;
        assert!(image.check()?.is_clean());
        assert_eq!(open(&blob, 9)?.size(), ByteCount::mib(THREADS as u64));
    }
    Ok(())
}
