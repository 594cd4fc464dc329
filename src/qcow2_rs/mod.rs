//! A device of the crate [`qcow2-rs`](https://docs.rs/qcow2-rs) over the chain of a snapshot, for hosts that serve disks
//! with it, through ublk for one. It reads, and never writes.
//!
//! This crate resolves the chain, opens the files with its locks, and looks at each of them first; what qcow2-rs does not
//! read right, or does not survive, is refused with a [`Rule`]. The device then reads through the files that are open, and no
//! name in a header is followed.
//!
//! ```no_run
//! use snapgroup::qcow2_rs::{DEPTH_MAX, DeviceError, LayerIo, Rule, SnapshotDevice};
//! use snapgroup::{Engine, Options};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::open("/var/lib/machines/web-1", Options::default())?;
//! let device = match SnapshotDevice::open(&engine, "4b13e23059033e2dbfac63b5b16eba11").await {
//!     Err(DeviceError::Guard { rule: Rule::TooDeep { .. }, .. }) => panic!("more than {DEPTH_MAX} layers"),
//!     opened => opened?,
//! };
//! println!("{} of {}", std::any::type_name_of_val(device.device()), device.size()); // qcow2-rs reads from LayerIo
//! let mut sectors = vec![0; 4096];
//! device.read_at(1 << 20, &mut sectors).await?;
//! # let _: &qcow2_rs::dev::Qcow2Dev<LayerIo> = device.device();
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! qcow2-rs 0.1.6 has no features, so all of it is linked, wanted or not:
//!
//! * **It turns off `log` in the whole program**: it enables `log/release_max_level_off`, and in a release build nothing that
//!   any crate logs through `log` is seen any more. Nothing can undo that. `tracing` is not concerned.
//! * About 90 packages: tokio with all of its features, tokio-uring, clap, an `env_logger` of 2022 with `atty`, and `bincode`
//!   1.3. The last three are no longer maintained (RUSTSEC-2021-0145, RUSTSEC-2024-0375, RUSTSEC-2025-0141). No runtime is
//!   started, and no ring is made: the futures of this device never wait, every read is done when it is polled.
//! * It is written with `unsafe` in 32 places. From damaged files some of them could be reached; the guard is there for that,
//!   and it is not a proof.
//! * A device is for one thread: it is `Send` and not `Sync`, and its futures are not `Send`.
//!
//! # Why it does not write
//!
//! Of what qcow2-rs 0.1.6 writes above a backing file some is lost, and what it writes into images with internal snapshots,
//! bitmaps or compressed clusters damages them. Besides, a disk that is written behind the pool's back is in no group as it
//! was. To write, open the volume: [`Engine::open_volume`].
//!
//! For reading in this process [`Engine::open_snapshot`] needs none of this and reads every chain that the pool has.

mod guard;
mod layer;

pub use guard::{DEPTH_MAX, Rule};
pub use layer::LayerIo;

use crate::engine::{self, Engine, Lent, UuidArg};
use crate::units::ByteCount;
use ::qcow2_rs::dev::{Qcow2Dev, Qcow2DevParams};
use ::qcow2_rs::error::Qcow2Error;
use ::qcow2_rs::meta::Qcow2Header;
use std::fmt;
use std::path::Path;

/// log2 of what a device reads at a time, and of what reads must be aligned to.
const BLOCK_BITS: u8 = 9;
/// How much of the tables of one layer is kept: in slices of 4 KiB.
const CACHE: (u8, usize) = (12, 1 << 20);

/// Why a snapshot has no device, or a read of it failed.
///
/// An example is at [`qcow2_rs`](crate::qcow2_rs).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The pool did not open the snapshot.
    #[error(transparent)]
    Pool(#[from] engine::Error),
    /// A layer is not one that qcow2-rs reads right.
    #[error("qcow2-rs is not to read {file}: {rule}")]
    Guard {
        /// The file of the layer.
        file: String,
        /// Why not.
        rule: Rule,
    },
    /// qcow2-rs failed.
    #[error("qcow2-rs: {0:?}")]
    Device(Qcow2Error),
    /// A read that is not of whole sectors inside the disk.
    #[error("{length} at {at:#x} are not whole sectors of 512 bytes inside a disk of {size}")]
    Outside {
        /// Where it begins.
        at: u64,
        /// How long it is.
        length: ByteCount,
        /// The size of the disk.
        size: ByteCount,
    },
    /// qcow2-rs read less than it was asked for, and did not say why.
    #[error("qcow2-rs read {found} at {at:#x}, and should have read {expected}")]
    Short {
        /// Where the read began.
        at: u64,
        /// How much was asked for.
        expected: ByteCount,
        /// How much was read.
        found: ByteCount,
    },
}

/// A device over the chain of one snapshot. The pool stays open, and keeps what is read, until it is dropped.
///
/// An example is at [`qcow2_rs`](crate::qcow2_rs).
pub struct SnapshotDevice {
    device: Qcow2Dev<LayerIo>,
    size: ByteCount,
    _lent: Lent,
}

impl SnapshotDevice {
    /// Opens the chain of a snapshot, and looks through the tables of each of its layers.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Pool`], as [`Engine::open_snapshot`]; [`DeviceError::Guard`]; [`DeviceError::Device`].
    pub async fn open(engine: &Engine, snapshot: impl Into<UuidArg>) -> Result<Self, DeviceError> {
        let lent = engine.lend_snapshot(snapshot)?;
        guard::admit(&lent.layers)?;
        let mut below: Option<Qcow2Dev<LayerIo>> = None;
        for (depth, layer) in lent.layers.iter().enumerate().rev() {
            let io = LayerIo::new(layer.blob().clone()).map_err(engine::Error::from)?;
            let header = Qcow2Header::from_buf(&io.head().map_err(engine::Error::from)?);
            let parameters = Qcow2DevParams::new(BLOCK_BITS, Some(CACHE), Some(CACHE), true, false);
            if depth > 0 {
                parameters.mark_backing_dev(Some(true));
            }
            let header = header.map_err(DeviceError::Device)?;
            let made = Qcow2Dev::new(Path::new(layer.name()), header, &parameters, io);
            let mut device = made.map_err(DeviceError::Device)?;
            if let Some(below) = below.take() {
                device.set_backing_dev(Box::new(below));
            }
            below = Some(device);
        }
        let device = below.expect("a snapshot has a layer of its own");
        device.qcow2_prep_io().await.map_err(DeviceError::Device)?;
        Ok(Self { device, size: lent.layers[0].size(), _lent: lent })
    }

    /// The size of the disk, a multiple of 512.
    #[must_use]
    pub fn size(&self) -> ByteCount {
        self.size
    }

    /// Fills `buffer` with the bytes from `at` on: whole sectors of 512 bytes, inside the disk.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Outside`]; [`DeviceError::Device`] and [`DeviceError::Short`] when a file cannot be read.
    pub async fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        let length = ByteCount::of(buffer.len());
        let is_whole = |number: u64| number.is_multiple_of(1 << BLOCK_BITS);
        let is_inside = at.checked_add(length.as_u64()).is_some_and(|end| end <= self.size.as_u64());
        if !is_whole(at) || !is_whole(length.as_u64()) || !is_inside {
            return Err(DeviceError::Outside { at, length, size: self.size });
        }
        if buffer.is_empty() {
            return Ok(());
        }
        let found = self.device.read_at(buffer, at).await.map_err(DeviceError::Device)?;
        let found = ByteCount::of(found);
        if found == length { Ok(()) } else { Err(DeviceError::Short { at, expected: length, found }) }
    }

    /// The device itself, for a server that is written against qcow2-rs. Reads must be as those of
    /// [`SnapshotDevice::read_at`]; every write fails.
    #[must_use]
    pub fn device(&self) -> &Qcow2Dev<LayerIo> {
        &self.device
    }
}

impl fmt::Debug for SnapshotDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotDevice").field("size", &self.size).finish_non_exhaustive()
    }
}
