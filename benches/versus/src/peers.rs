//! Who reads and writes disks in this process.

use crate::Result;
use crate::files::ChainFiles;
#[cfg(feature = "peers")]
use crate::table::{IMAGO, IMG_QCOW2, QCOW2_RS};
use crate::table::{MAPPED, OURS};
use snapgroup::chain::{Chain, Layer};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, DiskOptions, DiskStore, Hold, MapFrozen, Store};
use snapgroup::units::GuestOffset;
use std::path::Path;
use std::sync::Arc;

/// A disk that is open.
pub trait Disk {
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()>;
    fn write(&self, at: u64, data: &[u8]) -> Result<()>;
    /// Makes it durable.
    fn flush(&self) -> Result<()>;
}

/// Somebody who opens chains of images.
#[derive(Clone, Copy)]
pub struct Peer {
    /// The column of the table.
    pub name: &'static str,
    /// The longest chain that is tried: those that recurse need a stack for each layer.
    pub depth_max: usize,
    /// Whether it writes to heads. A map is of what is frozen and changes nothing there.
    pub writes: bool,
    /// Opens a chain, its head for `access`.
    pub open: fn(&Path, &ChainFiles, Access) -> Result<Box<dyn Disk>>,
}

/// All of them, ours first.
pub fn all() -> Vec<Peer> {
    let ours = [
        Peer { name: OURS, depth_max: usize::MAX, writes: true, open: open_ours },
        Peer { name: MAPPED, depth_max: usize::MAX, writes: false, open: open_mapped },
    ];
    #[cfg(feature = "peers")]
    let others = [
        Peer { name: IMAGO, depth_max: 100, writes: true, open: linked::imago },
        Peer { name: QCOW2_RS, depth_max: 100, writes: true, open: linked::qcow2_rs },
        Peer { name: IMG_QCOW2, depth_max: 10, writes: true, open: linked::img_qcow2 },
    ];
    #[cfg(not(feature = "peers"))]
    let others = [];
    ours.into_iter().chain(others).collect()
}

/// Opens a chain as the engine does, the locks that QEMU knows included.
pub fn open_chain(directory: &Path, files: &ChainFiles, head: Access, map: MapFrozen) -> Result<Chain> {
    let store = DiskStore::open_with(directory, DiskOptions::new().with_map_frozen(map))?;
    let layers = files.names.iter().enumerate().map(|(depth, name)| {
        let access = if depth == 0 { head } else { Access::Read };
        let blob = store.open(&BlobName::parse(name)?, access)?;
        blob.hold(if access == Access::Read { Hold::Read } else { Hold::Write })?;
        Ok(Arc::new(Layer::from(Image::open(blob, name, access, Limits::default())?)))
    });
    Ok(Chain::new(layers.collect::<Result<_>>()?))
}

fn open_ours(directory: &Path, files: &ChainFiles, head: Access) -> Result<Box<dyn Disk>> {
    Ok(Box::new(open_chain(directory, files, head, MapFrozen::No)?))
}

fn open_mapped(directory: &Path, files: &ChainFiles, head: Access) -> Result<Box<dyn Disk>> {
    Ok(Box::new(open_chain(directory, files, head, MapFrozen::Yes)?))
}

impl Disk for Chain {
    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(Self::read(self, GuestOffset::new(at), buffer)?)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        Ok(Self::write(self, GuestOffset::new(at), data)?)
    }

    fn flush(&self) -> Result<()> {
        Ok(Self::flush(self)?)
    }
}

#[cfg(feature = "peers")]
mod linked {
    use super::{Access, ChainFiles, Disk, Path, Result};
    use imago::file::File;
    use imago::qcow2::Qcow2;
    use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
    use img_qcow2::Qcow2Reader;
    use qcow2_rs::dev::{Qcow2Dev, Qcow2DevParams};
    use qcow2_rs::sync_io::Qcow2IoSync;
    use qcow2_rs::utils::qcow2_setup_dev_sync;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    pub fn imago(directory: &Path, files: &ChainFiles, head: Access) -> Result<Box<dyn Disk>> {
        let builder = Qcow2::<File>::builder_path(directory.join(files.head()));
        let image = builder.write(head == Access::Write).open(PermissiveImplicitOpenGate::default())?;
        Ok(Box::new(FormatAccess::new(image)))
    }

    impl Disk for FormatAccess<File> {
        fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
            Ok(Self::read(self, buffer, at)?)
        }

        fn write(&self, at: u64, data: &[u8]) -> Result<()> {
            Ok(Self::write(self, data, at)?)
        }

        fn flush(&self) -> Result<()> {
            Self::flush(self)?;
            Ok(self.sync()?)
        }
    }

    pub fn qcow2_rs(directory: &Path, files: &ChainFiles, head: Access) -> Result<Box<dyn Disk>> {
        // With a slice of a table in the cache a write to an overlay can be lost (0.1.6): whole tables then.
        let whole_tables = (head == Access::Write).then_some((16, 64 << 16));
        let parameters = Qcow2DevParams::new(9, None, whole_tables, head == Access::Read, false);
        let device = qcow2_setup_dev_sync(&directory.join(files.head()), &parameters)?;
        ready(device.qcow2_prep_io())?;
        Ok(Box::new(Device(device)))
    }

    struct Device(Qcow2Dev<Qcow2IoSync>);

    impl Disk for Device {
        fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
            let read = ready(self.0.read_at(buffer, at))?;
            if read == buffer.len() { Ok(()) } else { Err("a short read".into()) }
        }

        fn write(&self, at: u64, data: &[u8]) -> Result<()> {
            Ok(ready(self.0.write_at(data, at))?)
        }

        fn flush(&self) -> Result<()> {
            ready(self.0.flush_meta())?;
            Ok(ready(self.0.fsync_range(0, usize::MAX))?)
        }
    }

    /// Runs a future that never waits: every call below it blocks.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
        }
    }

    pub fn img_qcow2(directory: &Path, files: &ChainFiles, head: Access) -> Result<Box<dyn Disk>> {
        let path = directory.join(files.head());
        let reader = match head {
            Access::Read => Qcow2Reader::open(path)?,
            Access::Write => Qcow2Reader::open_rw(path)?,
        };
        Ok(Box::new(reader))
    }

    impl Disk for Qcow2Reader {
        fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
            Ok(self.read_at(at, buffer)?)
        }

        fn write(&self, at: u64, data: &[u8]) -> Result<()> {
            Ok(self.write_at(at, data)?)
        }

        fn flush(&self) -> Result<()> {
            Ok(Self::flush(self)?)
        }
    }
}
