//! One image against a plain byte model: random requests from a printed seed, reopened at any point.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]
#![expect(clippy::print_stdout, reason = "the seed of a failure is printed")]

use snapgroup::image::{Image, Limits, NewImage, Space};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{ByteCount, GuestOffset};

/// A small generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn an_image_reads_back_what_was_written_whatever_its_shape() {
    for seed in 1..=40u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let bits = [9, 10, 12, 16][dice.roll(4) as usize];
        let order = dice.roll(7) as u32;
        let size = (1 + dice.roll(600)) * 512;
        println!("seed {seed}: cluster bits {bits}, refcount order {order}, size {size}");
        let store = MemoryStore::new();
        let name = BlobName::parse("x").expect("a name");
        let new =
            NewImage { cluster_bits: bits, refcount_order: order, ..NewImage::of_size(ByteCount::new(size)) };
        let blob = store.create(&name).expect("new");
        new.layout("x").expect("lawful").write(&*blob).expect("memory");
        let open = || {
            let blob = store.open(&name, Access::Write).expect("there");
            let limits = Limits { table_cache: ByteCount::new(2 << bits), ..Limits::default() };
            Image::open(blob, "x", Access::Write, limits).expect("lawful")
        };
        let mut image = open();
        let mut model = vec![0u8; size as usize];
        for step in 0..200 {
            let at = dice.roll(model.len() as u64);
            let length = 1 + dice.roll((model.len() as u64 - at).min(5000));
            let range = at as usize..(at + length) as usize;
            match dice.roll(10) {
                0..=4 => {
                    let byte = dice.roll(255) as u8 + 1;
                    model[range.clone()].fill(byte);
                    image.write(GuestOffset::new(at), &model[range], None).expect("writes");
                }
                5 => {
                    model[range].fill(0);
                    let space = if dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                    image.zero(GuestOffset::new(at), ByteCount::new(length), space, None).expect("zeroes");
                }
                6 => image.flush().expect("flushes"),
                7 => {
                    image.flush().expect("flushes");
                    image = open();
                }
                8 => {
                    let report = image.check().expect("checks");
                    assert!(report.is_clean(), "step {step}: {report}");
                }
                _ => {
                    let grown = model.len() + 512 * dice.roll(20) as usize;
                    image.grow(ByteCount::of(grown), None).expect("grows");
                    model.resize(grown, 0);
                }
            }
            let mut found = vec![0xee; model.len()];
            let mut holes = Vec::new();
            image.read(GuestOffset::ZERO, &mut found, &mut holes).expect("reads");
            for hole in holes {
                found[hole].fill(0);
            }
            assert!(found == model, "step {step} differs");
        }
        let report = image.check().expect("checks");
        assert!(report.is_clean(), "at the end: {report}");
    }
}
