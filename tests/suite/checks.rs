//! Checks of whole pools.

use crate::support::{Home, Outcome, fill, make_machine, on_every_store, take};
use snapgroup::PoolCheck;
use std::num::NonZeroUsize;

on_every_store! {
    a_check_answers_the_same_however_many_files_it_looks_at_side_by_side
}

fn a_check_answers_the_same_however_many_files_it_looks_at_side_by_side(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 3)?;
    for byte in 1..=15 {
        for disk in &vm.disks {
            fill(&engine.open_volume(*disk)?, 4096 * u64::from(byte), 9000, byte)?;
        }
        take(&engine, &vm, &format!("g{byte}"))?;
    }
    let mut chains = Vec::new();
    for disk in &vm.disks {
        chains.push(engine.chain(*disk)?);
    }
    engine.close()?;
    // One is no image any more, one is another one, and two are gone.
    home.patch(&chains[0][3].file, 0, b"none")?;
    home.put(&chains[2][2].file, &home.bytes(&chains[2][7].file)?)?;
    home.remove(&chains[1][4].file)?;
    home.remove(&chains[2][11].file)?;
    let check = |threads| -> Result<PoolCheck, Box<dyn std::error::Error>> {
        let engine = home.open_with(|options| options.threads = NonZeroUsize::new(threads))?;
        Ok(engine.check()?)
    };
    let alone = check(1)?;
    assert_eq!((alone.layers_checked, alone.layers.len(), alone.missing.len()), (48, 2, 2));
    for threads in [2, 3, 7, 100, 1 << 60, usize::MAX] {
        assert_eq!(check(threads)?, alone, "{threads} threads");
    }
    assert_eq!(check(0)?, alone, "as many as there are unless it is said");
    Ok(())
}
