//! A snapshot in a file of its own, which needs nothing of the pool: raw, qcow2, or what differs from an earlier
//! export.

use super::diff::shared_layers;
use super::error::Result;
use super::events::Work;
use super::layers::format_name;
use super::operation::{Operation, Running};
use super::pool::{Engine, Pool};
use super::readers::Claim;
use super::uuid_arg::UuidArg;
use crate::catalog::{LayerFormat, Reader};
use crate::chain::{Compress, Flatten, FlattenBase, Layer, Step};
use crate::image::{BackingLabel, Image, NewImage};
use crate::plan::refusal::Refusal;
use crate::storage::{Access, Blob};
use crate::units::ByteCount;
use std::sync::Arc;
use uuid::Uuid;

/// The longest name of a backing file (qcow2 specification, header, bytes 16-19).
const LABEL_MAX: usize = 1023;

/// How messages call the file that is written.
const TARGET: &str = "the exported image";

/// How much an export that runs to its end does in one go.
const WHOLE: ByteCount = ByteCount::gib(1);

/// What an exported file shall be. The default is a raw file.
///
/// ```
/// use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, Engine, Export, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let engine = Engine::in_memory(Options::default())?;
/// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(64)))?.uuid;
/// # engine.open_volume(volume)?.write_at(0, &[7; 65_536])?;
/// let monday = engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?.uuid;
/// engine.export_file(monday, &Export::raw(), directory.path().join("monday.raw"))?;
/// engine.export_file(monday, &Export::qcow2().compressed(), directory.path().join("monday.qcow2"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Its format, and what belongs to it.
    pub format: ExportFormat,
}

/// The format of an exported file.
#[doc = include_str!("examples/exporting.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportFormat {
    /// The bytes of the disk, one after the other. Blocks of 4 KiB that are all zeros become holes.
    #[default]
    Raw,
    /// A qcow2 image of version 3 that says nothing of the pool. Clusters of zeros take up no room.
    Qcow2 {
        /// log2 of the cluster size, 9 to 21; 16 is usual.
        cluster_bits: u8,
        /// Whether clusters are compressed, with deflate, when they get smaller by it.
        compress: Compress,
        /// An earlier export that the image shall be above. It then holds only the clusters in which the snapshots
        /// differ, zeros as zero clusters.
        base: Option<ExportBase>,
    },
}

impl Export {
    /// A raw file.
    #[must_use]
    pub fn raw() -> Self {
        Self { format: ExportFormat::Raw }
    }

    /// A qcow2 image that stands alone, in clusters of 64 KiB.
    #[must_use]
    pub fn qcow2() -> Self {
        Self { format: ExportFormat::Qcow2 { cluster_bits: 16, compress: Compress::No, base: None } }
    }

    /// A qcow2 image, in clusters of 64 KiB, of what differs from an earlier export. An example is at [`ExportBase`].
    #[must_use]
    pub fn above(base: ExportBase) -> Self {
        Self { format: ExportFormat::Qcow2 { cluster_bits: 16, compress: Compress::No, base: Some(base) } }
    }

    /// The same with compressed clusters; a raw file has none.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        if let ExportFormat::Qcow2 { compress, .. } = &mut self.format {
            *compress = Compress::Clusters;
        }
        self
    }
}

/// The export of another snapshot of the same volume, as an image above it names it.
///
/// ```
/// use snapgroup::{ByteCount, CreateSnapshot, CreateVolume, Engine, Export, ExportBase, LayerFormat, Options};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let engine = Engine::in_memory(Options::default())?;
/// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::mib(64)))?.uuid;
/// # let disk = engine.open_volume(volume)?;
/// # disk.write_at(0, &[7; 1 << 20])?;
/// let monday = engine.create_snapshot(&CreateSnapshot::new(volume, "monday"))?.uuid;
/// engine.export_file(monday, &Export::qcow2(), directory.path().join("monday.qcow2"))?;
/// # disk.write_at(0, &[8; 65_536])?;
/// let tuesday = engine.create_snapshot(&CreateSnapshot::new(volume, "tuesday"))?.uuid;
///
/// // Only what differs from Monday, in a file that names Monday's.
/// let monday =
///     ExportBase { snapshot: monday.into(), label: "monday.qcow2".into(), format: LayerFormat::Qcow2 };
/// let copied =
///     engine.export_file(tuesday, &Export::above(monday), directory.path().join("tuesday.qcow2"))?;
/// assert_eq!(copied, ByteCount::kib(64));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportBase {
    /// The snapshot whose content the base has. Nobody looks whether the file has it.
    pub snapshot: UuidArg,
    /// The text that is written as the name of the backing file: 1 to 1023 bytes without control characters. It is
    /// for whoever opens the image; a relative name is looked for beside it.
    pub label: String,
    /// The format of the base.
    pub format: LayerFormat,
}

/// An export under way. Dropping it leaves the target incomplete and touches nothing else.
#[doc = include_str!("examples/exporting.md")]
#[derive(Debug)]
#[must_use = "nothing is copied before it is stepped"]
pub struct Exporter {
    pool: Arc<Pool>,
    copying: Copying,
    running: Running,
}

/// A snapshot on its way into a target.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) flatten: Flatten,
    /// Keeps the layers as they are while the content is read.
    _claims: Vec<Arc<Claim>>,
}

impl Exporter {
    /// How many bytes of the disk are to be read and copied, in whole clusters of the target, or whole blocks of
    /// 4 KiB for a raw one.
    #[must_use]
    pub fn total(&self) -> ByteCount {
        self.copying.flatten.total()
    }

    /// How many of them are done, those that turned out to be zeros and need no room included.
    #[must_use]
    pub fn written(&self) -> ByteCount {
        self.copying.flatten.written()
    }

    /// Copies about `budget` bytes, at least one cluster. [`Step::Done`] says that the target is complete and its
    /// bytes are durable.
    ///
    /// # Errors
    ///
    /// [`Error::Image`](super::Error::Image) when the snapshot cannot be read or the target cannot be written. The
    /// target is then of no use.
    #[doc = include_str!("examples/exporting.md")]
    pub fn step(&mut self, budget: ByteCount) -> Result<Step> {
        let running = self.running.clone();
        running.step(|| {
            let step = self.copying.flatten.step(budget)?;
            self.pool.tell_progress(Work::Export, self.written(), self.total());
            Ok(step)
        })
    }
}

impl Engine {
    /// Copies the content of a snapshot into `target`, an empty blob. Answers how many bytes were copied, as
    /// [`Exporter::total`]. The bytes are durable when it returns; nothing in the pool is changed, and the volume may
    /// be written meanwhile.
    ///
    /// The target holds nothing of use before the end, and after an error.
    ///
    /// # Errors
    ///
    /// As [`Engine::exporter`] and [`Exporter::step`].
    #[doc = include_str!("examples/exporting.md")]
    pub fn export(
        &self,
        snapshot: impl Into<UuidArg>,
        export: &Export,
        target: Arc<dyn Blob>,
    ) -> Result<ByteCount> {
        let mut exporter = self.exporter(snapshot, export, target)?;
        while exporter.step(WHOLE)? == Step::More {}
        Ok(exporter.total())
    }

    /// As [`Engine::export`], into a new file at `path`, which may be anywhere. The file is there whole or not at all,
    /// and durable when this returns; one that is there already is an error and stays as it is.
    ///
    /// ```
    /// # use snapgroup::{ByteCount, CreateVolume, Engine, Options};
    /// use snapgroup::{CreateSnapshot, Export, ExportBase, LayerFormat};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let backups = directory.path();
    /// # let engine = Engine::in_memory(Options::default())?;
    /// # let volume = engine.create_volume(&CreateVolume::new("data", ByteCount::gib(1)))?;
    /// # let disk = engine.open_volume(volume.uuid)?;
    /// let monday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "monday"))?;
    /// engine.export_file(monday.uuid, &Export::qcow2(), backups.join("monday.qcow2"))?;
    ///
    /// disk.write_at(1 << 20, b"new")?;
    /// let tuesday = engine.create_snapshot(&CreateSnapshot::new(volume.uuid, "tuesday"))?;
    /// let base = ExportBase {
    ///     snapshot: monday.uuid.into(),
    ///     label: "monday.qcow2".into(),
    ///     format: LayerFormat::Qcow2,
    /// };
    /// let copied = engine.export_file(tuesday.uuid, &Export::above(base), backups.join("tuesday.qcow2"))?;
    /// assert_eq!(copied, ByteCount::kib(64));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Engine::export`]; [`Error::Storage`](super::Error::Storage) when the path is taken or cannot be written.
    #[cfg(target_os = "linux")]
    pub fn export_file(
        &self,
        snapshot: impl Into<UuidArg>,
        export: &Export,
        path: impl AsRef<std::path::Path>,
    ) -> Result<ByteCount> {
        let file = crate::storage::ExportFile::create(path.as_ref())?;
        let copied = self.export(snapshot, export, file.blob())?;
        file.persist()?;
        Ok(copied)
    }

    /// Begins an export that goes on step by step. Reads the tables of the snapshot once, to know what there is to
    /// do.
    ///
    /// # Errors
    ///
    /// SYS.1003 when a snapshot is not there; SYS.1007 when the target is not empty, the image cannot be, or the base
    /// is a snapshot of another volume or has a name that no header can hold; SYS.1006 when a file of the chain is
    /// missing or not what the catalogue says. The target is then still empty.
    /// [`Error::Image`](super::Error::Image) when the tables are broken or the target cannot be written.
    #[doc = include_str!("examples/exporting.md")]
    pub fn exporter(
        &self,
        snapshot: impl Into<UuidArg>,
        export: &Export,
        target: Arc<dyn Blob>,
    ) -> Result<Exporter> {
        let running = Running::begin(&self.pool.options.listener, Operation::Export);
        let copying = running.within(|| self.exporter_untold(snapshot, export, target))?;
        Ok(Exporter { pool: Arc::clone(&self.pool), copying, running })
    }

    fn exporter_untold(
        &self,
        snapshot: impl Into<UuidArg>,
        export: &Export,
        target: Arc<dyn Blob>,
    ) -> Result<Copying> {
        let _layout = self.pool.layout.read();
        self.pool.begin_export(&self.pool.read()?, snapshot.into().parse()?, export, target)
    }
}

impl Pool {
    /// Begins to copy a snapshot into an empty target. The caller holds the layout for reading.
    pub(super) fn begin_export(
        self: &Arc<Self>,
        reader: &Reader,
        snapshot: Uuid,
        export: &Export,
        target: Arc<dyn Blob>,
    ) -> Result<Copying> {
        let content = self.open_content(reader, snapshot)?;
        let mut claims = vec![Arc::clone(&content.claim)];
        let length = target.length()?;
        if !length.is_zero() {
            let what = format!("a target that holds {length}");
            return Err(Refusal::BadValue { what, rule: "an empty one" }.into());
        }
        let source = &content.chain;
        let flatten = match &export.format {
            ExportFormat::Raw => Flatten::to_raw(source, target)?,
            ExportFormat::Qcow2 { cluster_bits, compress, base } => {
                let (label, below) = match base {
                    None => (None, None),
                    Some(base) => {
                        let there = self.open_content(reader, base.snapshot.parse()?)?;
                        let shared = shared_layers(&there, &content)?;
                        claims.push(Arc::clone(&there.claim));
                        (Some(base.label()?), Some(FlattenBase { chain: there.chain, shared }))
                    }
                };
                let size = source.size();
                let cluster_bits = *cluster_bits;
                let image = NewImage {
                    cluster_bits: u32::from(cluster_bits),
                    backing: label,
                    ..NewImage::of_size(size)
                };
                let layout = image.layout(TARGET).map_err(|error| Refusal::ImpossibleImage {
                    size,
                    cluster_bits,
                    why: error.to_string(),
                })?;
                layout.write(&*target)?;
                let image = Image::open(target, TARGET, Access::Write, self.options.image_limits)?;
                Flatten::to_image(source, below.as_ref(), Arc::new(Layer::from(image)), *compress)?
            }
        };
        Ok(Copying { flatten, _claims: claims })
    }
}

impl ExportBase {
    /// What the header says of the base.
    fn label(&self) -> std::result::Result<BackingLabel, Refusal> {
        if self.label.is_empty() {
            return Err(Refusal::Empty { field: "label of the base" });
        }
        if self.label.len() > LABEL_MAX || self.label.chars().any(char::is_control) {
            let what = format!("{:?} as the name of a base", self.label);
            return Err(Refusal::BadValue { what, rule: "at most 1023 bytes, no control characters" });
        }
        Ok(BackingLabel { name: self.label.clone(), format: format_name(self.format).to_owned() })
    }
}
