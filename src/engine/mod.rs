//! The door: plain calls in, inventories out.
//!
//! Every call that changes something goes one way: parse the request, lock, read a view, let `plan` decide,
//! `perform` it, let what is in memory follow. Nothing is shown that is not durable.

mod abreast;
mod adopt;
mod adopt_rule;
mod catalogue_error;
mod check;
mod delete;
mod diff;
mod diff_many;
mod epoch;
mod error;
mod events;
mod export;
#[cfg(target_os = "linux")]
mod export_files;
mod full;
mod generation;
mod group;
mod handles;
mod hold;
mod import;
mod internals;
mod layers;
#[cfg(feature = "qcow2-rs")]
mod lend;
mod live;
mod locks;
mod machine;
mod naming;
mod notes;
mod operation;
mod options;
mod perform;
mod picture;
mod plans;
mod pool;
mod query;
mod quota;
mod readers;
mod rebuild;
mod reclaim;
mod recover;
mod remove_volume;
mod repair;
mod retention;
mod revert;
mod revert_repeat;
mod room;
mod round;
mod seal;
mod show;
mod snapshot;
mod space;
mod spans;
mod told;
mod tree;
mod unsettled;
mod update_group;
mod update_volume;
mod uuid_arg;
mod validate;
mod volume;
mod watch;

pub use adopt::AdoptVolume;
pub use adopt_rule::AdoptRule;
pub use catalogue_error::{CatalogueError, CatalogueFault};
pub use check::{ChainLayer, LayerCheck, PoolCheck};
pub use delete::{DeleteGroup, DeleteSnapshots, Deleted, Deletion, When};
pub use diff::{Diff, DiffOptions};
pub use diff_many::DiffPair;
pub use epoch::Epoch;
pub use error::{Error, Kind, Result};
pub use events::{Became, BookChange, BookEntry, Event, Listener, Work};
pub use export::{Export, ExportBase, ExportFormat, Exporter};
#[cfg(target_os = "linux")]
pub use export_files::FileExport;
pub use generation::Generation;
pub use group::{CreateGroup, CreatedGroup, GroupOf, LeftOutVolume};
pub use handles::Volume;
pub use hold::UpdateSnapshot;
pub use import::{ImportFrom, ImportVolume, Importer};
pub use internals::LayerInternals;
#[cfg(feature = "qcow2-rs")]
pub(crate) use lend::Lent;
pub use live::{
    BlockNode, ChainFile, CreatedLive, HookError, IfNotFrozen, LiveOptions, NoQuiesce, PendingGroup,
    PreparedDisk, PreparedGroup, Quiesce, Switch, WritesTo,
};
pub use machine::CreateMachine;
pub use operation::{Operation, Outcome, RunId};
pub use options::{ChainFull, Clock, CreatePool, Ids, OpenPrepared, Options, SealWhen, chain_max};
pub use plans::{CreatePlan, DeletePlan, Planned, PlannedMember, RevertPlan};
pub use pool::Engine;
pub use quota::Usage;
pub use rebuild::{
    IncompleteGroup, LeftFile, LostSnapshot, LostVolume, Proof, RebuildOptions, Rebuilt, RebuiltSnapshot,
    RebuiltVolume,
};
pub use reclaim::{ChainChange, Figures, Owed, OwedReason, Progress, Reclaim, ReclaimOptions, Reclaimed};
pub use recover::Recovered;
pub use remove_volume::DeleteVolume;
pub use repair::{LayerRepair, LeftOver, RepairOptions, Repaired};
pub use retention::{Thin, ThinPlan, ThinnedGroup};
pub use revert::{Match, Present, Reversion, RevertGroup, RevertVolume, Reverted};
pub use seal::{
    LayerVerdict, NotASealId, NotTheSeal, Renew, SealContents, SealId, SealOptions, Sealed, SealedData,
    SealedLayer, Sealing, SealingProgress, Stretch, Touch, Unsealed, Verdict, Verification, VerifyDepth,
    VerifyOf,
};
pub use snapshot::{CreateSnapshot, Snapshot};
pub use space::{Space, SpaceOf};
pub use update_group::UpdateGroup;
pub use update_volume::{ChainCap, UpdateVolume};
pub use uuid_arg::UuidArg;
pub use validate::{ChainReport, FoundFile, RefusedFile};
pub use volume::{BaseImage, CreateVolume};
pub use watch::{OrderBreach, OrderRule, watch_order};

pub use crate::catalog::{
    CatalogueCheck, L2Entries, LayerFormat, LayerState, QuickRepair, Running, Sharing, VolumeKind,
};
pub use crate::chain::{Change, ChangeKind, Compress, Exactness, Step};
pub use crate::image::RepairMode;
pub use crate::inventory::Consistency;
pub use crate::plan::adopt::LowerLayers;
pub use crate::plan::delete::{DeleteMode, DeleteScope, Members};
pub use crate::plan::full::SnapshotMode;
pub use crate::plan::group::{LeftOut, WithMemory};
pub use crate::plan::reclaim::Direction;
pub use crate::plan::refusal::{Code, Refusal};
pub use crate::plan::retention::{Among, KeptBy, Retention};
