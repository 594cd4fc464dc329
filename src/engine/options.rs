//! How a pool is opened, and where its moments and its uuids come from.

use super::events::Listener;
use crate::catalog::{CatalogOptions, CatalogueCheck, QuickRepair, Timestamp};
use crate::image::Limits;
use crate::sync::Mutex;
use crate::units::ByteCount;
use std::num::NonZeroUsize;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Whether a pool is made where there is none.
#[doc = include_str!("examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreatePool {
    /// In a directory that holds no file, or is not there yet; one that holds files is refused.
    #[default]
    IfEmpty,
    /// Beside whatever the directory holds: for adopting the images in it.
    Here,
    /// Never: what is not there is an error.
    Never,
}

/// Where the moments in the books come from. Only people read them; nothing is ordered by them.
#[doc = include_str!("examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// The clock of the system.
    #[default]
    System,
    /// One second further at every reading, from this many milliseconds since 1970 on: for tests.
    Stepping(i64),
}

/// Where fresh uuids come from.
#[doc = include_str!("examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ids {
    /// The random numbers of the system.
    #[default]
    Random,
    /// A sequence that is the same for the same seed: for tests. Two pools must not share a seed in earnest.
    Seeded(u64),
}

/// What happens when a chain is as long as it may be and a snapshot is asked for.
#[doc = include_str!("examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainFull {
    /// The oldest layers that no snapshot names any more are merged first, by copying up; refused when that is not
    /// enough.
    #[default]
    Merge,
    /// It is refused.
    Refuse,
    /// The snapshot is a full one: the disk is copied into a layer of its own, which starts a new tree
    /// ([`SnapshotMode::Full`](super::SnapshotMode::Full)).
    Full,
}

/// Usual lengths of chains, in layers with the head counted: see [`Options::chain_max`]. A longer chain keeps more
/// snapshots before one must be copied or merged; a shorter one has fewer files to open.
///
/// ```
/// use snapgroup::{Engine, Options, chain_max};
///
/// let engine = Engine::in_memory(Options { chain_max: chain_max::LONG, ..Options::default() })?;
/// assert_eq!(Options::default().chain_max, chain_max::USUAL);
/// assert!(chain_max::SHORTEST < chain_max::SHORT && chain_max::LONG < chain_max::LONGEST);
/// # Ok::<(), snapgroup::Error>(())
/// ```
pub mod chain_max {
    /// For disks of which little is kept.
    pub const SHORTEST: u32 = 10;
    /// For a snapshot a day, kept for a month.
    pub const SHORT: u32 = 30;
    /// The default.
    pub const USUAL: u32 = 64;
    /// For snapshots that are kept for months.
    pub const LONG: u32 = 120;
    /// For snapshots that are kept for as long as there is room.
    pub const LONGEST: u32 = 200;
}

/// When the layers that become frozen are sealed: read once, with a checksum of each cluster noted.
#[doc = include_str!("examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealWhen {
    /// By [`Engine::seal`](super::Engine::seal) and nothing else.
    #[default]
    OnRequest,
    /// By the call that freezes them too, when its group or snapshot is there and writes go on: it then takes as long
    /// as reading what was written since the last one. What cannot be sealed does not undo it.
    WhenFrozen,
}

/// What becomes of a group that was prepared and neither committed nor aborted before the pool was closed, or this
/// process died.
#[doc = include_str!("examples/opening.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenPrepared {
    /// It is aborted: nobody has switched to its overlays. One of which an overlay was written to, or is in use, is kept
    /// all the same.
    #[default]
    Abort,
    /// It is kept: somebody may have switched. [`Engine::resume_group`](super::Engine::resume_group) takes it up.
    Keep,
}

/// How a pool is opened. `Options::default()` is right for most.
///
/// ```
/// use snapgroup::{ByteCount, ChainFull, CreatePool, Options, chain_max};
///
/// let options = Options {
///     // A mistyped path makes no pool.
///     create: CreatePool::Never,
///     // A disk that has taken 30 layers is copied, and starts anew.
///     chain_max: chain_max::SHORT,
///     chain_full: ChainFull::Full,
///     snapshot_bytes_max: Some(ByteCount::tib(2)),
///     ..Options::default()
/// };
/// # assert_ne!(options, Options::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether a pool is made where there is none. Default: in an empty or new directory.
    pub create: CreatePool,
    /// The longest chain, in layers, the head counted, of a volume that is not told its own
    /// ([`CreateVolume::chain_max`](super::CreateVolume::chain_max),
    /// [`UpdateVolume::chain_max`](super::UpdateVolume::chain_max)). Default [`chain_max::USUAL`]; others of use are beside it. A snapshot
    /// that would make a longer one is refused, or made in another way. While a full snapshot is copied the chain is
    /// one layer longer.
    pub chain_max: u32,
    /// What happens when a snapshot would make a longer one. Default: retired layers are merged first.
    pub chain_full: ChainFull,
    /// The snapshots that the pool may hold. Default: any number.
    pub snapshots_max: Option<u64>,
    /// What the snapshots of the pool may take up together: the allocated bytes of the file of each one's layer, as they
    /// were noted when it was frozen, or merged last. Heads, bases that no snapshot names, and what deleted snapshots still
    /// owe ([`Engine::owed`](super::Engine::owed)) do not count. A snapshot adds what its head takes up at that moment, a
    /// full one at most what is copied, and one of a disk that another process writes to what its head takes up when the
    /// group is prepared. A merge is never refused. Default: any number.
    pub snapshot_bytes_max: Option<ByteCount>,
    /// log2 of the cluster size of new volumes, 9 to 21. Default 16: 64 KiB.
    pub cluster_bits: u8,
    /// How much memory an open image may take up.
    pub image_limits: Limits,
    /// How many threads a call that works on many files may work on them with, side by side: [`Engine::check`](super::Engine::check),
    /// [`Engine::diff_many`](super::Engine::diff_many), [`Engine::export_files`](super::Engine::export_files). They end
    /// with the call, and each takes the memory of one check, diff or export. Default: four in a pool that
    /// [`Engine::open`](super::Engine::open) has opened; on any other store one, so that its calls come in the same order
    /// in every run. What a call answers is the same, and in the same order, however many there are.
    pub threads: Option<NonZeroUsize>,
    /// How much memory the catalogue may keep of itself. Default 32 MiB.
    pub catalogue_cache: ByteCount,
    /// Whether every commit pays for a quick opening after a crash. Default off: such an opening then takes about
    /// two seconds for a million snapshots, and nothing that a person would notice for a thousand.
    pub quick_repair: QuickRepair,
    /// What is checked of the catalogue when the pool is opened. Default: every page of it.
    pub catalogue_check: CatalogueCheck,
    /// When what becomes frozen is sealed. Default: on request.
    pub seal: SealWhen,
    /// What becomes of groups that were prepared and not committed. Default: they are aborted, unless an overlay was
    /// written to or is in use. A program whose virtual machines do not hold QEMU's image locks, and may outlive it, says
    /// [`OpenPrepared::Keep`].
    pub prepared: OpenPrepared,
    /// How files are made and read in a directory. Default: files of mode 0600, no maps.
    #[cfg(target_os = "linux")]
    pub disk: crate::storage::DiskOptions,
    /// Directories beside the pool's, by absolute paths, in which images of disks lie that volumes are overlays of: golden
    /// images that many pools share. Their files are named by their paths, reached without following a link below the
    /// directory, locked as a reader locks them, and never written nor removed. A pool that
    /// has layers in one must be told of it each time it is opened; without, they are missing. Default: none.
    #[cfg(target_os = "linux")]
    pub base_directories: Vec<std::path::PathBuf>,
    /// Who is told of what happens in the pool. Default: nobody.
    pub listener: Listener,
    /// Default: the system's clock.
    pub clock: Clock,
    /// Default: random.
    pub ids: Ids,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: CreatePool::default(),
            chain_max: chain_max::USUAL,
            chain_full: ChainFull::default(),
            snapshots_max: None,
            snapshot_bytes_max: None,
            cluster_bits: 16,
            image_limits: Limits::default(),
            threads: None,
            catalogue_cache: ByteCount::mib(32),
            quick_repair: QuickRepair::Off,
            catalogue_check: CatalogueCheck::default(),
            seal: SealWhen::default(),
            prepared: OpenPrepared::default(),
            #[cfg(target_os = "linux")]
            disk: crate::storage::DiskOptions::default(),
            #[cfg(target_os = "linux")]
            base_directories: Vec::new(),
            listener: Listener::default(),
            clock: Clock::default(),
            ids: Ids::default(),
        }
    }
}

/// The files of a directory that are worked on side by side unless it is told otherwise.
const THREADS: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");

impl Options {
    /// How many files are worked on side by side.
    pub(super) fn abreast(&self) -> NonZeroUsize {
        self.threads.unwrap_or(NonZeroUsize::MIN)
    }

    /// What a pool in a directory is opened with.
    #[cfg(target_os = "linux")]
    pub(super) fn of_directory(self) -> Self {
        Self { threads: self.threads.or(Some(THREADS)), ..self }
    }

    /// How the catalogue is kept open.
    pub(super) fn of_catalogue(&self) -> CatalogOptions {
        CatalogOptions {
            cache: self.catalogue_cache,
            quick_repair: self.quick_repair,
            check: self.catalogue_check,
        }
    }
}

/// The clock and the uuids of one open pool.
#[derive(Debug)]
pub(super) struct Source {
    clock: Clock,
    ids: Ids,
    taken: Mutex<(i64, u64)>,
}

impl Source {
    pub(super) fn new(options: &Options) -> Self {
        Self { clock: options.clock, ids: options.ids, taken: Mutex::new((0, 0)) }
    }

    /// The moment.
    pub(super) fn now(&self) -> Timestamp {
        match self.clock {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Stepping(start) => {
                let mut taken = self.taken.lock();
                taken.0 += 1;
                Timestamp(start.saturating_add((taken.0 - 1).saturating_mul(1000)))
            }
        }
    }

    /// A fresh uuid.
    pub(super) fn mint(&self) -> Uuid {
        match self.ids {
            Ids::Random => Uuid::new_v4(),
            Ids::Seeded(seed) => {
                let mut taken = self.taken.lock();
                taken.1 += 2;
                let high = scramble(seed ^ (taken.1 << 32));
                let low = scramble(high ^ taken.1);
                let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
                uuid::Builder::from_random_bytes(bytes).into_uuid()
            }
        }
    }
}

/// The finishing step of the SplitMix64 generator: every bit of the input changes half of the output.
fn scramble(input: u64) -> u64 {
    let mut value = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_at_the_end_of_time_stays_there() {
        let options = Options { clock: Clock::Stepping(i64::MAX - 1000), ..Options::default() };
        let source = Source::new(&options);
        let moments = [(); 3].map(|()| source.now().0);
        assert_eq!(moments, [i64::MAX - 1000, i64::MAX, i64::MAX]);
    }

    #[test]
    fn a_seeded_sequence_repeats_and_never_gives_a_uuid_twice() {
        let options = Options { ids: Ids::Seeded(7), ..Options::default() };
        let (first, second) = (Source::new(&options), Source::new(&options));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let uuid = first.mint();
            assert_eq!(uuid, second.mint());
            assert!(seen.insert(uuid), "{uuid} came twice");
        }
    }
}
