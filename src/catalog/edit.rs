//! One change of the catalogue, as data. A list of them is published in one commit.

use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::record::{
    GroupRecord, LayerRecord, MachineRecord, PreparedRecord, RefRecord, SnapshotRecord, TreeRecord,
    VolumeRecord,
};

/// One change. `Put` makes a record or replaces the one with its id; `Remove` wants the record to be there.
///
/// Edits take effect one after the other: a uuid that an edit gives up is free for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    PutMachine(MachineRecord),
    RemoveMachine(MachineId),
    PutVolume(VolumeRecord),
    RemoveVolume(VolumeId),
    PutLayer(LayerRecord),
    RemoveLayer(LayerId),
    /// The file of a layer has arrived. Its record stays as it is otherwise; when it is gone, so is the news.
    SettleLayer(LayerId),
    PutSnapshot(SnapshotRecord),
    RemoveSnapshot(SnapshotId),
    PutTree(TreeRecord),
    RemoveTree(TreeId),
    PutGroup(GroupRecord),
    RemoveGroup(GroupId),
    PutRef(RefRecord),
    RemoveRef {
        group: GroupId,
        ordinal: u32,
    },
    PutPrepared(PreparedRecord),
    RemovePrepared(MachineId),
}

/// Lets a record be published as it is.
macro_rules! put {
    ($($record:ident => $edit:ident),*) => {$(
        impl From<$record> for Edit {
            fn from(record: $record) -> Self {
                Self::$edit(record)
            }
        }
    )*};
}

put!(
    MachineRecord => PutMachine,
    VolumeRecord => PutVolume,
    LayerRecord => PutLayer,
    SnapshotRecord => PutSnapshot,
    TreeRecord => PutTree,
    GroupRecord => PutGroup,
    RefRecord => PutRef,
    PreparedRecord => PutPrepared
);
