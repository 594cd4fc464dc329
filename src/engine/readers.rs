//! Who reads what was frozen: the handles to snapshots, and the layers that they rely on.
//!
//! A handle opens the files of its chain once and keeps what it has read of their tables. So it goes on reading
//! through a layer as that was, whatever is written to the file later: it then needs below that layer what everybody
//! else no longer needs.

use super::pool::Pool;
use crate::catalog::{LayerId, LayerRecord};
use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The chains of all handles to snapshots.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<(u64, HashMap<u64, Reading>)>);

/// What one handle reads.
#[derive(Debug)]
struct Reading {
    /// Its layers, the uppermost first.
    chain: Vec<LayerId>,
    /// The place of the uppermost one that was written to since.
    written: Option<usize>,
}

/// How a handle reads a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Through {
    /// The layers from the handle's uppermost one down to this one.
    pub(super) layers: Vec<LayerId>,
    /// Whether one above it was written to since the handle was opened.
    pub(super) is_written: bool,
}

impl Readers {
    /// How each handle that reads a layer reads it.
    pub(super) fn of(&self, layer: LayerId) -> Vec<Through> {
        let readers = self.0.lock();
        let through = readers.1.values().filter_map(|reading| {
            let place = reading.chain.iter().position(|id| *id == layer)?;
            let is_written = reading.written.is_some_and(|written| written < place);
            Some(Through { layers: reading.chain[..=place].to_vec(), is_written })
        });
        through.collect()
    }

    /// Notes that a layer was written to: what the handles know of it is of before.
    pub(super) fn note_written(&self, layer: LayerId) {
        for reading in self.0.lock().1.values_mut() {
            let place = reading.chain.iter().position(|id| *id == layer);
            reading.written = reading.written.into_iter().chain(place).min();
        }
    }
}

/// One handle's claim to what it reads; it keeps the pool open, too.
#[derive(Debug)]
pub(super) struct Claim {
    pool: Arc<Pool>,
    number: u64,
}

impl Claim {
    /// Claims a chain, the uppermost layer first, before any file of it is opened. The caller holds the pool's layout
    /// for reading.
    pub(super) fn to(pool: &Arc<Pool>, chain: &[LayerRecord]) -> Arc<Self> {
        let mut readers = pool.readers.0.lock();
        let number = readers.0;
        readers.0 += 1;
        let chain = chain.iter().map(|layer| layer.id).collect();
        readers.1.insert(number, Reading { chain, written: None });
        drop(readers);
        Arc::new(Self { pool: Arc::clone(pool), number })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pool.readers.0.lock().1.remove(&self.number);
    }
}
