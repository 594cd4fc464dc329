//! What deletions still owe: the layers whose bytes were not dealt with, and why.

use super::super::error::{Error, Result};
use super::super::pool::{Engine, Pool};
use super::model::{Decision, Model};
use super::survey::Records;
use crate::catalog::{LayerId, LayerRecord, LayerState, Reader};
use crate::inventory::ErrorCode;
use crate::plan::reclaim::Direction;
use crate::storage::{Access, Store};
use crate::units::ByteCount;
use std::fmt;
use uuid::Uuid;

/// Why the bytes of a layer were not dealt with.
#[doc = include_str!("../examples/reclaiming.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwedReason {
    /// Nobody has asked for it since: [`Engine::reclaim`] does it.
    Waiting,
    /// Nothing reads it any more; its file is to be removed.
    ToBeRemoved,
    /// Something stands in the way: [`Owed::error`] says what.
    Hindered,
}

impl fmt::Display for OwedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waits for a reclaim",
            Self::ToBeRemoved => "its file is to be removed",
            Self::Hindered => "something stands in the way",
        })
    }
}

/// A layer that no snapshot names any more and whose bytes were not dealt with.
#[doc = include_str!("../examples/reclaiming.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owed {
    /// Its file.
    pub file: String,
    /// The volume that it was made for, when that is still there.
    pub volume_uuid: Option<Uuid>,
    /// The bytes that the file takes up; absent when it cannot be asked.
    pub allocated: Option<ByteCount>,
    /// How many layers read through it directly.
    pub needed_by: usize,
    /// Why.
    pub reason: OwedReason,
    /// What stands in the way.
    pub error: Option<ErrorCode>,
}

impl Engine {
    /// What deletions still owe: layers that wait for a reclaim, files that are to be removed, and those where
    /// something stands in the way. A retired layer with which nothing more can be done as long as others read
    /// through it is not among them. Looks at the tables of every retired layer and of what is around it.
    ///
    /// # Errors
    ///
    /// [`Error::Catalog`].
    #[doc = include_str!("../examples/reclaiming.md")]
    pub fn owed(&self) -> Result<Vec<Owed>> {
        let pool = &self.pool;
        let _layout = pool.layout.read();
        let reader = pool.read()?;
        let mut owed = Vec::new();
        for layer in reader.layers_garbage()? {
            owed.push(pool.owed(&layer?, OwedReason::ToBeRemoved, None)?);
        }
        for layer in reader.layers_retired()? {
            let layer = layer?;
            match pool.is_settled(&reader, layer.id) {
                Ok(true) => {}
                Ok(false) => owed.push(pool.owed(&layer, OwedReason::Waiting, None)?),
                Err(error) => owed.push(pool.owed(&layer, OwedReason::Hindered, Some(&error))?),
            }
        }
        Ok(owed)
    }
}

impl Pool {
    /// Whether nothing more can be done with a retired layer by itself.
    fn is_settled(&self, reader: &Reader, id: LayerId) -> Result<bool> {
        if Records::above(reader, id)?.is_empty() {
            return Ok(false);
        }
        let (_, around) = Self::around(reader, id)?;
        let mut model = Model::default();
        self.survey(reader, id, &mut model)?;
        let is_settled = model.decide(id, Direction::Auto) == Decision::Nothing;
        if !is_settled {
            self.refuse_busy(reader, &around)?;
        }
        Ok(is_settled)
    }

    /// The line of a layer that something hinders; none when it is no longer there.
    pub(super) fn owed_by(&self, id: LayerId, error: &Error) -> Result<Option<Owed>> {
        let layer = self.read()?.layer(id)?.filter(|layer| layer.state == LayerState::Retired);
        layer.map(|layer| self.owed(&layer, OwedReason::Hindered, Some(error))).transpose()
    }

    pub(super) fn owed(
        &self,
        layer: &LayerRecord,
        reason: OwedReason,
        error: Option<&Error>,
    ) -> Result<Owed> {
        let reader = self.read()?;
        let blob = self.store().open(&layer.blob, Access::Read);
        Ok(Owed {
            file: layer.blob.to_string(),
            volume_uuid: reader.volume(layer.volume)?.map(|volume| volume.uuid),
            allocated: blob.and_then(|blob| blob.allocated()).ok(),
            needed_by: Records::above(&reader, layer.id)?.len(),
            reason,
            error: error.map(Error::to_error_code),
        })
    }
}
