//! Records that must be there, because another record or an index says so.

use super::error::{Error, Place, Result};
use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::kind::Id;
use super::reader::Reader;
use super::record::{GroupRecord, LayerRecord, MachineRecord, SnapshotRecord, TreeRecord, VolumeRecord};
use super::view::{DiskView, MachineView};

/// Writes the look-up of one kind of record that must be there.
macro_rules! need {
    ($(#[$doc:meta])* $name:ident, $find:ident, $id:ty, $record:ty) => {
        $(#[$doc])*
        pub fn $name(&self, id: $id) -> Result<$record> {
            self.$find(id)?.ok_or(Error::Dangling { from: Place::Index, to: id.entity() })
        }
    };
}

impl Reader {
    need!(
        /// The machine with an id that something else names.
        need_machine, machine, MachineId, MachineRecord
    );
    need!(
        /// The volume with an id that something else names.
        need_volume, volume, VolumeId, VolumeRecord
    );
    need!(
        /// The layer with an id that something else names.
        need_layer, layer, LayerId, LayerRecord
    );
    need!(
        /// The snapshot with an id that something else names.
        need_snapshot, snapshot, SnapshotId, SnapshotRecord
    );
    need!(
        /// The tree with an id that something else names.
        need_tree, tree, TreeId, TreeRecord
    );
    need!(
        /// The group with an id that something else names.
        need_group, group, GroupId, GroupRecord
    );

    /// A volume and all that it reads, by an id that something else names.
    pub fn need_disk(&self, id: VolumeId) -> Result<DiskView> {
        let view = self.volume_view(id)?;
        Ok(view.ok_or(Error::Dangling { from: Place::Index, to: id.entity() })?.disk)
    }

    /// A machine with its volumes, by an id that something else names.
    pub fn need_machine_view(&self, id: MachineId) -> Result<MachineView> {
        self.machine_view(id)?.ok_or(Error::Dangling { from: Place::Index, to: id.entity() })
    }
}
