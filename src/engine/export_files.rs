//! Many snapshots in files of their own, copied side by side: all disks of a group, in files that are there all or none.

use super::abreast::try_abreast;
use super::error::Result;
use super::events::Work;
use super::export::{Copying, Export};
use super::operation::Operation;
use super::pool::Engine;
use super::uuid_arg::UuidArg;
use crate::chain::Step;
use crate::storage::ExportFile;
use crate::sync::Mutex;
use crate::units::ByteCount;
use std::path::PathBuf;

/// How much of a file is copied before a look at whether another one has failed.
const STEP: ByteCount = ByteCount::mib(16);

/// A snapshot, and the file that it is exported to.
#[doc = include_str!("examples/side_by_side.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileExport {
    /// The snapshot.
    pub snapshot: UuidArg,
    /// What the file shall be.
    pub export: Export,
    /// Where it shall be: anywhere, under a name that is not taken.
    pub path: PathBuf,
}

impl FileExport {
    /// A snapshot in a file at `path`.
    #[must_use]
    pub fn new(snapshot: impl Into<UuidArg>, export: Export, path: impl Into<PathBuf>) -> Self {
        Self { snapshot: snapshot.into(), export, path: path.into() }
    }
}

impl Engine {
    /// Copies each of several snapshots into a new file, as [`Engine::export_file`] does, several side by side
    /// ([`Options::threads`](super::Options::threads)). Answers how many bytes were copied into each, in the order of
    /// `exports`. All of them are of one moment of the books.
    ///
    /// The files have their names once all of them are whole and durable, and never before; they and their names are
    /// durable when this returns. A process that is killed, or a power cut, while the names are given may leave some
    /// of them; each that is there is whole. What a listener is told of the progress is of all of them together.
    ///
    /// ```
    /// # use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options};
    /// use snapgroup::{Export, FileExport};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let backups = directory.path();
    /// # let engine = Engine::in_memory(Options::default())?;
    /// # let machine = engine.create_machine(&CreateMachine::new("web-1"))?.uuid;
    /// # for name in ["system", "data"] {
    /// #     let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::gib(1)))?.uuid;
    /// #     engine.attach_volume(volume, machine, None)?;
    /// # }
    /// let monday = engine.create_group(&CreateGroup::of_machine(machine, "monday"))?.inventory;
    /// let exports: Vec<_> = monday
    ///     .volume_snapshot_refs
    ///     .iter()
    ///     .map(|member| {
    ///         let path = backups.join(format!("{}.qcow2", member.volume_uuid.simple()));
    ///         FileExport::new(member.volume_snapshot_uuid, Export::qcow2(), path)
    ///     })
    ///     .collect();
    /// engine.export_files(&exports)?;
    /// assert!(exports.iter().all(|export| export.path.exists()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Engine::export_file`], of the first export that has one: then none of the files is there, and what was at
    /// their paths is as it was. Two exports to one path are such an error. After
    /// [`storage::Error::SyncFailed`](crate::storage::Error::SyncFailed) of
    /// [`Operation::SyncNames`](crate::storage::Operation::SyncNames) all are there, but whether they are after a power cut is
    /// unknown.
    pub fn export_files(&self, exports: &[FileExport]) -> Result<Vec<ByteCount>> {
        self.during(Operation::Export, || self.export_files_untold(exports))
    }

    fn export_files_untold(&self, exports: &[FileExport]) -> Result<Vec<ByteCount>> {
        let pool = &self.pool;
        let files: Vec<_> =
            exports.iter().map(|export| Ok(ExportFile::create(&export.path)?)).collect::<Result<_>>()?;
        let copies = self.begin_exports(exports, &files)?;
        let totals: Vec<_> = copies.iter().map(|copying| copying.lock().flatten.total()).collect();
        let total = totals.iter().copied().sum();
        let done = Mutex::new(ByteCount::ZERO);
        try_abreast(pool.options.abreast(), &copies, |copying, place| {
            let flatten = &mut copying.lock().flatten;
            while !place.is_in_vain() {
                let before = flatten.written();
                let step = flatten.step(STEP)?;
                // Held while it is told, so that what is told never goes back.
                let mut done = done.lock();
                *done += flatten.written() - before;
                pool.tell_progress(Work::Export, *done, total);
                if step == Step::Done {
                    break;
                }
            }
            Ok(())
        })?;
        ExportFile::persist_all(files)?;
        Ok(totals)
    }

    fn begin_exports(&self, exports: &[FileExport], files: &[ExportFile]) -> Result<Vec<Mutex<Copying>>> {
        let pool = &self.pool;
        let _layout = pool.layout.read();
        let reader = pool.read()?;
        let begin = |(export, file): (&FileExport, &ExportFile)| {
            let snapshot = export.snapshot.parse()?;
            Ok(Mutex::new(pool.begin_export(&reader, snapshot, &export.export, file.blob())?))
        };
        exports.iter().zip(files).map(begin).collect()
    }
}
