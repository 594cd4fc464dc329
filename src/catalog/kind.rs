//! The kinds of things that have an id and a uuid, and what they have in common.

use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::index::Keys;
use super::record::{GroupRecord, LayerRecord, MachineRecord, SnapshotRecord, TreeRecord, VolumeRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use uuid::Uuid;

/// A kind of thing that has an id and a uuid. The number is what the uuid table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Machine = 1,
    Volume = 2,
    Layer = 3,
    Snapshot = 4,
    Tree = 5,
    Group = 6,
}

impl Kind {
    /// All kinds, each at its [`Kind::slot`].
    pub const ALL: [Self; 6] =
        [Self::Machine, Self::Volume, Self::Layer, Self::Snapshot, Self::Tree, Self::Group];

    /// Its place in an array with one element per kind.
    pub const fn slot(self) -> usize {
        self as usize - 1
    }

    /// The kind of a number in the uuid table.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine",
            Self::Volume => "volume",
            Self::Layer => "layer",
            Self::Snapshot => "snapshot",
            Self::Tree => "tree",
            Self::Group => "group",
        })
    }
}

/// One thing that has an id: what a uuid resolves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    Machine(MachineId),
    Volume(VolumeId),
    Layer(LayerId),
    Snapshot(SnapshotId),
    Tree(TreeId),
    Group(GroupId),
}

impl Entity {
    /// The thing of a kind with a number.
    pub const fn new(kind: Kind, number: u64) -> Self {
        match kind {
            Kind::Machine => Self::Machine(MachineId(number)),
            Kind::Volume => Self::Volume(VolumeId(number)),
            Kind::Layer => Self::Layer(LayerId(number)),
            Kind::Snapshot => Self::Snapshot(SnapshotId(number)),
            Kind::Tree => Self::Tree(TreeId(number)),
            Kind::Group => Self::Group(GroupId(number)),
        }
    }

    /// Its kind.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Machine(_) => Kind::Machine,
            Self::Volume(_) => Kind::Volume,
            Self::Layer(_) => Kind::Layer,
            Self::Snapshot(_) => Kind::Snapshot,
            Self::Tree(_) => Kind::Tree,
            Self::Group(_) => Kind::Group,
        }
    }

    /// Its number among those of its kind.
    pub const fn number(self) -> u64 {
        match self {
            Self::Machine(id) => id.0,
            Self::Volume(id) => id.0,
            Self::Layer(id) => id.0,
            Self::Snapshot(id) => id.0,
            Self::Tree(id) => id.0,
            Self::Group(id) => id.0,
        }
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.number())
    }
}

/// An id of one kind.
pub trait Id: Copy + Ord + fmt::Debug {
    /// The kind of what it names.
    const KIND: Kind;

    /// The id with a number.
    fn of(number: u64) -> Self;

    /// The plain number.
    fn number(self) -> u64;

    /// The id with its kind.
    fn entity(self) -> Entity {
        Entity::new(Self::KIND, self.number())
    }
}

/// A record that has an id and a uuid.
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// Its id.
    type Id: Id;

    /// Its id.
    fn id(&self) -> Self::Id;

    /// Its uuid; a record keeps it for life.
    fn uuid(&self) -> Uuid;

    /// What the index holds about it.
    fn keys(&self) -> Keys;
}

/// Ties an id to its kind and to its record.
macro_rules! kind {
    ($kind:ident, $id:ident, $record:ident) => {
        impl Id for $id {
            const KIND: Kind = Kind::$kind;

            fn of(number: u64) -> Self {
                Self(number)
            }

            fn number(self) -> u64 {
                self.0
            }
        }

        impl From<$id> for Entity {
            fn from(id: $id) -> Self {
                Self::$kind(id)
            }
        }

        impl Record for $record {
            type Id = $id;

            fn id(&self) -> $id {
                self.id
            }

            fn uuid(&self) -> Uuid {
                self.uuid
            }

            fn keys(&self) -> Keys {
                self.index_keys()
            }
        }
    };
}

kind!(Machine, MachineId, MachineRecord);
kind!(Volume, VolumeId, VolumeRecord);
kind!(Layer, LayerId, LayerRecord);
kind!(Snapshot, SnapshotId, SnapshotRecord);
kind!(Tree, TreeId, TreeRecord);
kind!(Group, GroupId, GroupRecord);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_in_its_slot_and_is_found_by_its_number() {
        for (slot, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.slot(), slot);
            assert_eq!(Kind::of(kind as u8), Some(kind));
            let entity = Entity::new(kind, 7);
            assert_eq!((entity.kind(), entity.number()), (kind, 7));
        }
        assert_eq!(Kind::of(0), None);
        assert_eq!(Kind::of(7), None);
    }
}
