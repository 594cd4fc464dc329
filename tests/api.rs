//! What every public type can do: be printed, be sent to another thread, be shared by threads. Held when this is compiled.

use snapgroup::inventory::{
    AvailabilityInventory, DeleteResult, ErrorCode, Forest, GroupInventory, GroupTreeInventory,
    MachineInventory, RevertResult, SnapshotInventory, TreeInventory, VolumeInventory,
};
use snapgroup::{
    AdoptVolume, BaseImage, BlockNode, BookChange, ByteCount, ChainReport, Change, CreateGroup,
    CreateMachine, CreatePlan, CreateSnapshot, CreateVolume, CreatedGroup, CreatedLive, DeleteGroup,
    DeletePlan, DeleteSnapshots, DeleteVolume, Deleted, Deletion, Diff, DiffOptions, DiffPair, Engine, Error,
    Event, Export, ExportBase, Exporter, Figures, Generation, GroupOf, HookError, ImportFrom, ImportVolume,
    Importer, Kind, LayerInternals, LayerVerdict, Listener, LiveOptions, Operation, Options, OrderBreach,
    Outcome, Owed, PendingGroup, PlannedMember, PoolCheck, PreparedDisk, PreparedGroup, Progress,
    RebuildOptions, Rebuilt, Reclaim, ReclaimOptions, Reclaimed, Recovered, Refusal, RepairOptions, Repaired,
    Retention, RevertGroup, RevertPlan, RevertVolume, Reverted, RunId, SealContents, SealId, SealOptions,
    Sealed, SealedLayer, Sealing, Snapshot, Space, SpaceOf, Thin, ThinPlan, UpdateGroup, UpdateSnapshot,
    UpdateVolume, UuidArg, Verification, Volume, chain, format, image, picture, query, storage,
};
use std::fmt::Debug;

/// Compiles when each can be printed, sent and shared.
macro_rules! are_shared {
    ($($type:ty,)*) => {
        const _: () = {
            const fn is_shared<T: Debug + Send + Sync + 'static>() {}
            $(is_shared::<$type>();)*
        };
    };
}

are_shared! {
    Engine, Volume, Snapshot, Diff, Exporter, Importer, Reclaim, Sealing, PreparedGroup, SealedLayer,
    Options, Listener, Event, BookChange, Operation, Outcome, RunId, Generation,
    Error, Kind, Refusal, HookError, UuidArg, ByteCount,
    CreateMachine, CreateVolume, BaseImage, AdoptVolume, ChainReport, UpdateVolume, DeleteVolume,
    CreateSnapshot, UpdateSnapshot, DeleteSnapshots,
    CreateGroup, CreatedGroup, GroupOf, UpdateGroup, DeleteGroup, Deletion, Deleted,
    LiveOptions, CreatedLive, PendingGroup, PreparedDisk, BlockNode,
    RevertGroup, RevertVolume, Reverted,
    CreatePlan, PlannedMember, DeletePlan, RevertPlan, Figures, Thin, ThinPlan, Retention,
    ReclaimOptions, Reclaimed, Owed, Progress, Space, SpaceOf, DiffOptions, DiffPair, Change,
    Export, ExportBase, ImportVolume, ImportFrom,
    SealOptions, Sealed, SealId, SealContents, Verification, LayerVerdict,
    PoolCheck, RepairOptions, Repaired, RebuildOptions, Rebuilt, Recovered, LayerInternals, OrderBreach,
    GroupInventory, SnapshotInventory, VolumeInventory, MachineInventory, TreeInventory, GroupTreeInventory,
    Forest<GroupTreeInventory>, AvailabilityInventory, DeleteResult, RevertResult, ErrorCode,
    query::Query<query::GroupField>, picture::Picture,
    chain::Chain, chain::Layer, chain::Flatten, chain::Diff, chain::Extents, image::Image, image::Error, image::Facts,
    image::CheckReport, image::NewImage, format::Header, format::Geometry, format::Error,
    storage::MemoryStore, storage::FusedStore, storage::SimulatedStore, storage::SimulatedDisk, storage::Error,
    storage::BlobName,
}

#[cfg(target_os = "linux")]
are_shared! { snapgroup::FileExport, }

/// The same of the types of one room.
macro_rules! are_shared_in {
    ($($room:ident)::+: $($type:ident $(<$($of:tt),*>)?,)*) => {
        const _: () = {
            use $($room)::+ as room;
            const fn is_shared<T: Debug + Send + Sync + 'static>() {}
            $(is_shared::<room::$type$(<$($of),*>)?>();)*
        };
    };
}

are_shared_in! {
    snapgroup:
    AdoptRule, Among, Became, BookEntry, CatalogueCheck, CatalogueError, CatalogueFault, ChainCap, ChainChange, ChainFile, ChainFull, ChainLayer,
    Clock, Code, Compress, CreatePool, DeleteMode, DeleteScope, Direction, Epoch, ExportFormat, FoundFile,
    Ids, IfNotFrozen, IncompleteGroup, KeptBy, L2Entries, LayerCheck, LayerFormat, LayerRepair, LayerState,
    LeftFile, LeftOut, LeftOutVolume, LeftOver, LostSnapshot, LostVolume, LowerLayers, Match, Members,
    NoQuiesce, NotASealId, NotTheSeal, OpenPrepared, OrderRule, OwedReason, Present, Proof, QuickRepair,
    RebuiltSnapshot, RebuiltVolume, RefusedFile, Renew, Reversion, Running, SealWhen, SealedData<'static>,
    SealingProgress, Sharing, SnapshotMode, Stretch, ThinnedGroup, Touch, Unsealed, Usage, Verdict,
    VerifyDepth, VerifyOf, VolumeKind, When, WithMemory, Work, WritesTo,
}

are_shared_in! {
    snapgroup::chain:
    ChainMap, Change, ChangeKind, Compress, Exactness, Extent, ExtentKind, FlattenBase, Ranges, RawLayer,
    Step,
}

are_shared_in! {
    snapgroup::chain::merge:
    Commit, Copies, Progress, Pull, Punch,
}

are_shared_in! {
    snapgroup::format:
    Autoclear, Backing, BitmapEntry, BitmapFlags, BitmapTableEntry, BitmapsExtension, Compatible,
    CompressedExtent, Compression, CompressionField, Copied, CryptoExtension, Detail, Encryption, Extension,
    Incompatible, L1Entry, L2Entry, L2Width, LayerIdentity, LayerNotes, Malformed, RawHeader, Rule,
    SnapshotClaim, SnapshotEntry, Subcluster, Subclusters, Unsupported, Version,
}

are_shared_in! {
    snapgroup::format::refcount:
    RefcountTableEntry,
}

are_shared_in! {
    snapgroup::image:
    BackingLabel, Content<'static>, Finding, HeaderDraft, Held, ImageRepair, InternalSnapshot, Layout,
    Limits, Mapping, Mend, PersistentBitmap, RepairMode, Run, Space,
}

are_shared_in! {
    snapgroup::inventory:
    AttachmentInventory, Consistency, Date, ForestNode<String>, ImageFormat, InvalidDate,
    InventoriesAnswer<String>, InventoryAnswer<String>, MachineState, Named, RefInventory, ResourceState,
    ResultsAnswer<String>, SnapshotStatus, SnapshotType, TreeNode, UnavailableReason, VolumeStatus,
    VolumeType,
}

are_shared_in! {
    snapgroup::picture:
    NodeKind, PictureNode,
}

are_shared_in! {
    snapgroup::query:
    Condition<u8>, Direction, FieldType, MachineField, Page<String>, RefField, SnapshotField, Test,
    TreeField, Value, VolumeField,
}

are_shared_in! {
    snapgroup::storage:
    Access, At, Bounds, Call, Choice, Counts, CrashBlob, CrashState, CrashStates, DiskChange, DiskEvent, DiskLog,
    Fault, FaultKind, FileSystem, Hold, Holder, Identity, InvalidName, Operation, PowerCut,
    Stamp, Times,
}

#[cfg(target_os = "linux")]
are_shared_in! { snapgroup::storage: ImageLocks, MapFrozen, Replace, }

are_shared_in! {
    snapgroup::units:
    ByteCount, ClusterCount, GuestCluster, GuestOffset, HostCluster, HostOffset,
}

#[cfg(target_os = "linux")]
are_shared! { storage::DiskStore, storage::DiskOptions, storage::ExportFile, }

#[cfg(feature = "qmp")]
are_shared! { snapgroup::qmp::QemuSwitch, snapgroup::qmp::GuestAgent, snapgroup::qmp::QmpError, }

#[cfg(feature = "object-store")]
are_shared! {
    snapgroup::object_store::Archive, snapgroup::object_store::ArchiveError, snapgroup::object_store::Manifest,
    snapgroup::object_store::RestoreGroup, snapgroup::object_store::Restored, snapgroup::object_store::Exported,
}

/// A device of qcow2-rs is for one thread at a time.
#[cfg(feature = "qcow2-rs")]
const _: () = {
    const fn is_sent<T: Debug + Send + 'static>() {}
    is_sent::<snapgroup::qcow2_rs::SnapshotDevice>();
};

/// The futures of an archive go where a runtime of several threads sends them.
#[cfg(feature = "object-store")]
const _: () = {
    use snapgroup::object_store::{Archive, RestoreGroup};
    const fn is_sent<T: Send>(_: &T) {}
    #[expect(dead_code, reason = "it is enough that it compiles")]
    fn each(archive: &Archive, engine: &Engine, group: snapgroup::Uuid, request: &RestoreGroup) {
        is_sent(&archive.export_group(engine, group));
        is_sent(&archive.restore_group(engine, group, request));
        is_sent(&archive.verify_group(group));
    }
};

#[test]
fn errors_can_be_taken_apart_boxed_and_walked() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let engine = Engine::in_memory(Options::default())?;
    let Err(error) = engine.volume("not a uuid") else { panic!("it was taken for one") };
    let Error::Refused(Refusal::MalformedUuid { text }) = &error else { panic!("{error:?}") };
    assert_eq!((text.as_str(), error.kind()), ("not a uuid", Kind::Refused));
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    assert!(boxed.downcast_ref::<Error>().is_some());
    Ok(())
}
