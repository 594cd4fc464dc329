//! What a longer chain costs whoever opens it, and whoever reads through it.

use crate::Result;
use crate::files::{self, scattered};
use criterion::{BenchmarkId, Criterion};
use snapgroup::storage::{Access, MapFrozen};
use snapgroup::units::GuestOffset;

const SIZE: u64 = 32 << 20;

pub(crate) fn run(criterion: &mut Criterion) -> Result<()> {
    let place = tempfile::tempdir()?;
    let directory = place.path();
    for depth in [1, 10, 100] {
        let names = files::chain(directory, depth, SIZE)?;
        let open = || files::open(directory, &names, Access::Read, MapFrozen::No).expect("open");
        let mut buffer = [0; 4096];
        let mut group = criterion.benchmark_group("chain_depth");
        group.bench_function(BenchmarkId::new("open_and_read_the_first_block", depth), |bencher| {
            bencher.iter(|| open().read(GuestOffset::ZERO, &mut buffer).expect("read"));
        });
        let (chain, mut at) = (open(), 0);
        group.bench_function(BenchmarkId::new("read_4_KiB_at_random", depth), |bencher| {
            bencher.iter(|| {
                let place = GuestOffset::new(scattered(&mut at, SIZE / 4096) * 4096);
                chain.read(place, &mut buffer).expect("read");
            });
        });
        group.finish();
    }
    Ok(())
}
