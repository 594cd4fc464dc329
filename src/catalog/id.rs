//! The catalogue's own numbers: dense, in order of creation, never used twice. Callers see uuids.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// A machine.
    MachineId
);
id!(
    /// A volume.
    VolumeId
);
id!(
    /// A layer: one file of a backing chain.
    LayerId
);
id!(
    /// A snapshot of one volume.
    SnapshotId
);
id!(
    /// A tree of snapshots of one volume.
    TreeId
);
id!(
    /// A group of snapshots.
    GroupId
);
