//! What the calls of the crate cost, each beside what nobody can do without: bare system calls, or another reader of
//! qcow2 that is linked in.
//!
//! ```sh
//! cargo bench --bench pool                     # everything
//! cargo bench --bench pool -- group_create     # one group
//! cargo bench --bench pool -- --test           # each body once
//! ```
//!
//! `TMPDIR` is where the files go. Criterion keeps what it has found in `target/criterion` and compares with the run
//! before. Beside QEMU and on larger disks: `benches/versus`.

mod catalogue_scale;
mod chain_depth;
mod check;
mod copy_on_write;
mod delete;
mod export;
mod files;
mod group_create;
mod image_io;
mod in_memory;
mod machine;
mod reclaim;
mod recovery;

use criterion::Criterion;
use std::time::Duration;

/// What goes wrong in a measurement ends it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let criterion = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2));
    let mut criterion = criterion.warm_up_time(Duration::from_millis(500)).configure_from_args();
    for group in [
        image_io::run,
        copy_on_write::run,
        group_create::run,
        delete::run,
        reclaim::run,
        chain_depth::run,
        check::run,
        catalogue_scale::run,
        recovery::run,
        export::run,
        in_memory::run,
    ] {
        group(&mut criterion)?;
    }
    criterion.final_summary();
    Ok(())
}
