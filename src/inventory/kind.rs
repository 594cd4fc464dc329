//! The words that the API uses for what a thing is and for the state that it is in.

use crate::catalog;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Writes one set of words: an enum, and each value's word in JSON and in text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$value_doc])* #[serde(rename = $word)] $value,)+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$value,)+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// What a volume is to its machine.
    #[doc = include_str!("../engine/examples/volumes.md")]
    VolumeType {
        /// The disk that the machine boots from; one each.
        Root = "Root",
        /// Any other disk.
        Data = "Data",
        /// The memory of the machine.
        Memory = "Memory",
    }
);

words!(
    /// How a snapshot is made.
    #[doc = include_str!("../engine/examples/snapshots.md")]
    SnapshotType {
        /// By an overlay above a frozen file: what this crate makes.
        Hypervisor = "Hypervisor",
        /// By the storage itself. Never made here; read from answers of other systems.
        Storage = "Storage",
    }
);

words!(
    /// Whether a resource may be used.
    #[doc = include_str!("examples/kinds.md")]
    ResourceState {
        /// It may.
        Enabled = "Enabled",
        /// It may not. Never set here; read from answers of other systems.
        Disabled = "Disabled",
    }
);

words!(
    /// Where a snapshot is in its life.
    ///
    /// An example is at [`ResourceState`].
    SnapshotStatus {
        /// Being made. Never shown here: a snapshot is in the books at once or not at all.
        Creating = "Creating",
        /// There.
        Ready = "Ready",
        /// Being deleted. Never shown here, for the same reason.
        Deleting = "Deleting",
        /// Gone.
        Deleted = "Deleted",
    }
);

words!(
    /// Where a volume is in its life.
    ///
    /// An example is at [`ResourceState`].
    VolumeStatus {
        /// There.
        Ready = "Ready",
        /// Gone.
        Deleted = "Deleted",
    }
);

words!(
    /// Whether another process runs a machine.
    #[doc = include_str!("../engine/examples/preparing.md")]
    MachineState {
        /// Another process has its disks open.
        Running = "Running",
        /// No other process has. Handles on its disks may be open in this one.
        Stopped = "Stopped",
    }
);

words!(
    /// How bytes are laid out in a file.
    ///
    /// An example is at [`ResourceState`].
    ImageFormat {
        /// qcow2.
        Qcow2 = "qcow2",
        /// The bytes of the disk and nothing else.
        Raw = "raw",
    }
);

words!(
    /// How far the content of a group's members can be trusted to agree.
    #[doc = include_str!("../engine/examples/preparing.md")]
    Consistency {
        /// As after a power cut: one moment for all disks.
        Crash = "Crash",
        /// The file systems of the guest were frozen meanwhile.
        FileSystem = "FileSystem",
        /// The programs of the guest were asked to settle first, and said that they had.
        Application = "Application",
    }
);

impl From<catalog::VolumeKind> for VolumeType {
    fn from(kind: catalog::VolumeKind) -> Self {
        match kind {
            catalog::VolumeKind::Root => Self::Root,
            catalog::VolumeKind::Data => Self::Data,
            catalog::VolumeKind::Memory => Self::Memory,
        }
    }
}

impl From<catalog::Running> for MachineState {
    fn from(running: catalog::Running) -> Self {
        match running {
            catalog::Running::Here => Self::Stopped,
            catalog::Running::Elsewhere => Self::Running,
        }
    }
}

impl From<catalog::LayerFormat> for ImageFormat {
    fn from(format: catalog::LayerFormat) -> Self {
        match format {
            catalog::LayerFormat::Qcow2 => Self::Qcow2,
            catalog::LayerFormat::Raw => Self::Raw,
        }
    }
}

impl From<catalog::Consistency> for Consistency {
    fn from(consistency: catalog::Consistency) -> Self {
        match consistency {
            catalog::Consistency::Crash => Self::Crash,
            catalog::Consistency::FileSystem => Self::FileSystem,
            catalog::Consistency::Application => Self::Application,
        }
    }
}

impl From<Consistency> for catalog::Consistency {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Crash => Self::Crash,
            Consistency::FileSystem => Self::FileSystem,
            Consistency::Application => Self::Application,
        }
    }
}
