//! Snapshots of all disks of a virtual machine as one group, on real qcow2 backing chains, in process.
//!
//! A *pool* is one directory, or one store in memory: qcow2 files, and a catalogue that says what they are. This
//! crate makes the disks in it or takes over disks that are there, reads and writes them, and takes *groups*: one
//! snapshot of each disk of a machine, all of one moment, either all of them or none. Taking one copies nothing: the
//! file that was written becomes the snapshot, and a new one above it is written from then on. Old snapshots are
//! read beside the disks as they are now, and QEMU reads the same files. There is no daemon, no subprocess and no
//! network; there is [`Engine`] and plain calls on it.
//!
//! # A whole program
//!
//! ```
//! use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options};
//!
//! fn main() -> snapgroup::Result<()> {
//!     let engine = Engine::in_memory(Options::default())?; // on disk: Engine::open("pool", Options::default())
//!     let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
//!     for name in ["system", "database"] {
//!         let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::gib(100)))?.uuid;
//!         engine.attach_volume(volume, machine, None)?;
//!     }
//!     let disk = engine.open_volume(engine.machine(machine)?.all_volumes[1].uuid)?;
//!     disk.write_at(4096, b"version 1")?;
//!     let group = engine.create_group(&CreateGroup::of_machine(machine, "before-upgrade"))?.inventory;
//!     disk.write_at(4096, b"version 2")?;
//!
//!     let mut then = [0; 9];
//!     engine.open_snapshot(group.volume_snapshot_refs[1].volume_snapshot_uuid)?.read_at(4096, &mut then)?;
//!     assert_eq!(&then, b"version 1");
//!     Ok(())
//! }
//! ```
//!
//! The [`guide`] goes on from here, in chapters: concepts, a first pool, groups, live machines, deleting and space, reverting,
//! bringing disks in, taking data out, errors, formats here and elsewhere, durability, beyond one machine, security, hosts with a
//! runtime, testing, and where each call of the API is that is carried over. Longer programs are in `examples`: `quickstart`, on
//! disk; `in_memory`, for tests and fuzzers; `delete_and_reclaim` and `revert`; `backup` and `test_farm`; `async_host`; `live`, for a
//! machine that another process runs.
//!
//! # The words
//!
//! | word | what it is |
//! |---|---|
//! | pool | one directory, or one store in memory, with a catalogue and the files of the layers; opened as [`Engine`] |
//! | machine | a virtual machine in the books: its name, the volumes attached to it, whether another process runs it |
//! | volume | a disk: `Root` or `Data`, a device id in its machine, a size; opened for reading and writing as [`Volume`] |
//! | layer | one file. The *head* is what a volume writes to; every layer below it is *frozen* and keeps its content |
//! | chain | the layers that a volume reads through, the head first: [`Engine::chain`] |
//! | snapshot | a name for the content of a volume at one moment; it names one frozen layer; read as [`Snapshot`] |
//! | tree | the snapshots of one volume that descend from the same first one |
//! | group | the snapshots of all disks of a machine at one moment |
//! | ref | the group's own record of one member: it copies names, path and device id, and outlives the snapshot |
//! | availability | whether the disks of a machine are still those of a group: [`Engine::check_availability`] |
//!
//! Taking a snapshot freezes the head, which holds the snapshot from then on, and puts a new, empty overlay above it,
//! which becomes the head. So the name of a file does not tell what it holds; the catalogue does.
//!
//! # Groups
//!
//! A group is asked for by the machine or by its root volume. Shareable volumes are left out, and the answer says so.
//! The handles may stay open: writes wait for the moment to pass, reads at most for a flush. A caller that gives its own
//! `resource_uuid` may repeat a call whose answer it never saw.
//!
//! ```
//! # use snapgroup::{ByteCount, CreateMachine, CreateVolume, Engine, Options};
//! use snapgroup::query::{GroupField, Query, Test};
//! use snapgroup::{CreateGroup, Kind, UpdateGroup};
//!
//! # fn main() -> snapgroup::Result<()> {
//! # let engine = Engine::in_memory(Options::default())?;
//! # let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
//! # let root = engine.create_volume(&CreateVolume::new("system", ByteCount::mib(64)).as_root())?;
//! # engine.attach_volume(root.uuid, machine.uuid, None)?;
//! let mut request = CreateGroup::of_root_volume(root.uuid, "nightly-1");
//! request.resource_uuid = Some("4b13e23059033e2dbfac63b5b16eba11".into());
//! let first = engine.create_group(&request)?;
//! assert!(engine.create_group(&request)?.repeated);
//!
//! // The same uuid with another wish is refused, and nothing has happened.
//! request.name = "nightly-2".into();
//! let Err(error) = engine.create_group(&request) else { panic!("two groups with one uuid") };
//! assert_eq!(error.kind(), Kind::Refused);
//!
//! request.resource_uuid = None;
//! let second = engine.create_group(&request)?.inventory;
//! assert_eq!(second.parent_group_uuid, Some(first.inventory.uuid));
//!
//! engine.update_group(second.uuid, &UpdateGroup { name: Some("weekly".into()), ..Default::default() })?;
//! let nightly = Query::all().with(GroupField::Name, Test::Like("nightly-%".into()));
//! assert_eq!(engine.query_groups(&nightly)?.total, 1);
//!
//! // The group goes; its snapshots stay.
//! engine.ungroup(second.uuid)?;
//! assert!(engine.open_snapshot(second.volume_snapshot_refs[0].volume_snapshot_uuid).is_ok());
//! assert_eq!(engine.group_tree(machine.uuid)?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Snapshots of one volume
//!
//! ```
//! # use snapgroup::{ByteCount, CreateVolume, Engine, Options};
//! use snapgroup::CreateSnapshot;
//!
//! # fn main() -> snapgroup::Result<()> {
//! # let engine = Engine::in_memory(Options::default())?;
//! # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(64)))?;
//! let disk = engine.open_volume(volume.uuid)?;
//! disk.write_at(0, b"old")?;
//! let monday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "monday"))?;
//!
//! disk.discard(0, 65_536)?;
//! engine.resize_volume(volume.uuid, ByteCount::mib(128))?;
//!
//! let snapshot = engine.open_snapshot(monday.uuid)?;
//! assert_eq!((snapshot.size(), disk.size()), (ByteCount::mib(64), ByteCount::mib(128)));
//! let mut buffer = [0; 3];
//! snapshot.read_at(0, &mut buffer)?;
//! assert_eq!(&buffer, b"old");
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! * **Durable when it returns.** A call on [`Engine`] that changes something has synced what it changed before it
//!   returns. Guest data is durable after [`Volume::flush`]; taking a snapshot or a group flushes its disks.
//! * **All or nothing.** A group is there with every member, or nothing has changed, whatever crashes when. What a
//!   crash left half done is removed when the pool is opened the next time; [`Engine::recovered`] says what it was.
//! * **One moment.** A write that was seen to finish before another one began is in a group whenever that other one
//!   is. This holds for writes through the [`Volume`]s of this process.
//! * **Frozen is frozen.** What a snapshot shows never changes. Below a head only layers are written to that no snapshot
//!   names any more, and those that take over what such a layer held; what is read through them stays the same at
//!   every instant.
//! * **Deleting is a commit.** The snapshots are gone from the books when [`Engine::delete_group`] returns, all or none;
//!   their bytes follow, at once or in steps that can stop anywhere, and [`Engine::owed`] lists what is left.
//! * **The catalogue decides.** Which file is below which is a record. A header that says otherwise is an error that
//!   names the file, and is not followed. A pool is owned by one [`Engine`] and its clones at a time.
//! * **QEMU and this crate keep out of each other's way.** Files that are open here hold the image locks that QEMU would
//!   hold: for writing on heads, for reading on what is below. What stands against them is refused, there and here.
//! * **A lost catalogue is not a lost pool.** Each file says in its header whose layer it is, what it reads through to,
//!   and which snapshot the layer below it holds, which costs no write and no sync of its own. [`Engine::rebuild`] makes
//!   the catalogue anew from the files alone, says what it could not know, and guesses nothing. What is damaged in
//!   images is mended by [`Engine::repair`], as far as that can be done without guessing.
//! * **After a failed sync nothing more is written** through this pool until it is opened again: nobody knows what
//!   that sync lost.
//!
//! # What is not
//!
//! * A disk that says a sync is done when it is not can lose what was promised.
//! * Whoever may write to the pool's directory can break what is in it. Files that were exchanged are noticed where
//!   their headers differ; guest data that was altered in place is noticed by [`Engine::verify`], in layers that
//!   [`Engine::seal`] has read before. A seal is no signature: who writes to the directory can make another one.
//! * Guest writes since the last flush may be lost in a crash, each as a whole or in part.
//! * A group is consistent as after a power cut, unless a hook asked the guest to settle first ([`Quiesce`]).
//! * QEMU's image locks keep out programs that speak them: QEMU does. `dd` does not, nor does QEMU when it is told to
//!   lock nothing.
//! * What only the catalogue knows is lost with it: descriptions, tags, holds, seals. A rebuilt one may show snapshots
//!   that were deleted, and a disk whose uppermost file is lost, too, as the file below it was.
//! * A pool of [`Engine::in_memory`] is gone with its last clone and its last handle.
//!
//! What else is not there yet is listed in the README.
//!
//! # Errors
//!
//! Every call on [`Engine`], [`Volume`] and [`Snapshot`] fails with [`Error`]. Three things can be asked of it:
//!
//! * [`Error::kind`]: what to do. [`Kind::Refused`]: ask differently. [`Kind::Corrupt`]: bytes on disk are not what
//!   they must be; run [`Engine::check`]. [`Kind::Failed`]: the disk or the system failed; open the pool again.
//! * [`Error::code`]: the [`Code`] of the API whose behaviour this crate carries over, such as `SYS.1007`.
//!   [`Error::to_error_code`] is the whole error in that API's JSON shape.
//! * The variant, with its values; a [`Refusal`] has one for every rule.
//!
//! [`Error::OutcomeUnknown`] is the one that leaves a question open: the last sync failed, and only opening the pool
//! again tells whether the call took place. Repeating it then with the same `resource_uuid` is safe.
//!
//! # In a program of your own
//!
//! * Calls are synchronous, and block for as long as the disk takes or another call holds the same machine. In an
//!   asynchronous program make them from a thread that may block, such as `spawn_blocking` gives.
//! * [`Engine`], [`Volume`] and [`Snapshot`] are cheap to clone, `Send` and `Sync`; any thread may use them.
//! * The crate starts no thread and no runtime, writes no log, prints nothing and compiles no C. What it does can be watched
//!   ([`Options::listener`], or spans of `tracing`): [`guide::features`].
//! * Pools on disk need Linux. Pools in memory ask nothing of the operating system.
//! * Handles keep the pool open. [`Engine::close`] tells of an error that dropping the last one cannot tell of.
//!
//! # The rooms of the crate
//!
//! Each names only those below it.
//!
//! | room | what is in it |
//! |---|---|
//! | here | the door: [`Engine`], its requests, its handles, [`Error`] |
//! | [`guide`] | chapters, and nothing else |
//! | `qmp` | with the feature: the hooks of live groups for a running QEMU |
//! | `object_store` | with the feature `object-store`: groups kept elsewhere, and restored |
//! | `qcow2_rs` | with the feature `qcow2-rs`: a device of that crate over a snapshot |
//! | [`inventory`] | what callers are shown, serialisable as the API's JSON |
//! | [`picture`] | trees drawn as text, SVG, DOT and Mermaid |
//! | [`query`] | conditions, sort and pages for the `query_` calls |
//! | [`chain`] | images stacked: one disk through its whole chain |
//! | [`image`] | one qcow2 file: made, opened, read, written, checked, repaired |
//! | [`storage`] | bytes at rest: on disk, in memory, simulated, with the list of what each backend promises |
//! | [`mod@format`] | qcow2 bytes to values and back, without any I/O |
//! | [`units`] | offsets, clusters and sizes as types of their own |
//!
//! Two more are private: the catalogue, kept in `redb`, and the plans, which decide what a call will do.

#![deny(missing_docs, missing_debug_implementations, unreachable_pub)]
#![warn(clippy::cast_possible_truncation, clippy::print_stdout, clippy::print_stderr)]

mod catalog;
pub mod chain;
mod engine;
pub mod format;
pub mod guide;
pub mod image;
pub mod inventory;
#[cfg(feature = "object-store")]
pub mod object_store;
pub mod picture;
mod plan;
#[cfg(feature = "qcow2-rs")]
pub mod qcow2_rs;
#[cfg(all(feature = "qmp", unix))]
pub mod qmp;
pub mod storage;
mod sync;
pub mod units;

pub use catalog::query;
pub use engine::*;
pub use units::ByteCount;
pub use uuid::Uuid;
