//! Who reads what was frozen: the handles to snapshots, and the layers that they rely on.

use super::pool::Pool;
use crate::catalog::{LayerId, LayerRecord};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The chains of all handles to snapshots, the uppermost layer first.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<(u64, HashMap<u64, Vec<LayerId>>)>);

impl Readers {
    /// Whether a handle reads a layer otherwise than through one of those that are `above` it now.
    pub(super) fn rely_on(&self, layer: LayerId, above: &[LayerId]) -> bool {
        self.0.lock().1.values().any(|chain| {
            let place = chain.iter().position(|id| *id == layer);
            place.is_some_and(|place| place == 0 || !above.contains(&chain[place - 1]))
        })
    }
}

/// One handle's claim to what it reads; it keeps the pool open, too.
#[derive(Debug)]
pub(super) struct Claim {
    pool: Arc<Pool>,
    number: u64,
}

impl Claim {
    /// Claims a chain, the uppermost layer first. The caller holds the pool's layout for reading.
    pub(super) fn to(pool: &Arc<Pool>, chain: &[LayerRecord]) -> Arc<Self> {
        let mut readers = pool.readers.0.lock();
        let number = readers.0;
        readers.0 += 1;
        readers.1.insert(number, chain.iter().map(|layer| layer.id).collect());
        drop(readers);
        Arc::new(Self { pool: Arc::clone(pool), number })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pool.readers.0.lock().1.remove(&self.number);
    }
}
