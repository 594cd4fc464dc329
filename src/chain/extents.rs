//! What one layer defines of a disk, by its tables alone.

use super::{Layer, Ranges, RawLayer};
use crate::image::{Held, Image, Result, Version};
use crate::units::{ByteCount, GuestOffset, HostOffset};

/// A raw file has no clusters; it is looked at in sectors.
const SECTOR: ByteCount = ByteCount::new(512);

/// What one layer defines. All ranges end with the layer's own disk.
#[doc = include_str!("examples/extents.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents {
    /// The size of the layer's disk in bytes.
    pub size: ByteCount,
    /// The size of a cluster in bytes, which is what takes up room in the file; 512 for a raw file.
    pub cluster_size: ByteCount,
    /// The size of what is mapped on its own: a subcluster with extended L2 entries, else a cluster.
    pub subcluster_size: ByteCount,
    /// The largest disk that the layer may become.
    pub size_max: ByteCount,
    /// Whether the layer is a raw file, which defines every byte and is never written.
    pub is_raw: bool,
    /// Whether a cluster can be marked as zeros in the table: version 3 of the format can, version 2 cannot.
    pub has_zero_clusters: bool,
    /// Whether the layer holds internal snapshots. They read through what is below it, too, where nothing here tells.
    pub has_internal_snapshots: bool,
    /// What the layer has as data, compressed or not.
    pub data: Ranges,
    /// The part of `data` that is compressed.
    pub compressed: Ranges,
    /// What the layer defines as zeros in its table; the holes of a raw file.
    pub zero: Ranges,
    /// The part of `zero` for which the file holds a cluster all the same.
    pub zero_allocated: Ranges,
}

impl Extents {
    /// What the layer defines as zeros on a disk of `size` bytes: its zero clusters, and everything past its own
    /// end.
    #[must_use]
    pub fn zeros(&self, size: ByteCount) -> Ranges {
        let mut zeros = self.zero.clone();
        zeros.insert(GuestOffset::end_of(self.size)..GuestOffset::end_of(size.max(self.size)));
        zeros.clipped(size)
    }

    /// What the layer defines on a disk of `size` bytes, as data or as zeros: where the layers below it have
    /// nothing to say.
    #[must_use]
    pub fn defined(&self, size: ByteCount) -> Ranges {
        self.data.union(&self.zeros(size)).clipped(size)
    }

    /// The clusters, as a part of the disk, that the file has for plain data or keeps for later.
    #[must_use]
    pub fn held(&self) -> Ranges {
        let plain = self.data.subtract(&self.compressed).union(&self.zero_allocated);
        plain.round_out(self.cluster_size, self.size)
    }

    /// What the layer leaves to those below it, on its own disk.
    #[must_use]
    pub fn absent(&self) -> Ranges {
        self.defined(self.size).complement(self.size)
    }
}

impl Layer {
    /// What the layer defines. Costs the tables that the layer has, and memory for each stretch.
    ///
    /// # Errors
    ///
    /// Those of [`Image::survey`]; [`Error::Storage`](crate::image::Error::Storage).
    pub fn extents(&self) -> Result<Extents> {
        match self {
            Self::Qcow2(image) => of_image(image),
            Self::Raw(raw) => of_raw(raw),
        }
    }
}

/// A raw file defines every byte: as zeros where it has holes, as data elsewhere.
fn of_raw(raw: &RawLayer) -> Result<Extents> {
    let size = raw.size();
    let (mut data, mut from) = (Ranges::new(), HostOffset::ZERO);
    while let Some(stretch) = raw.blob().next_data(from)? {
        data.insert(GuestOffset::new(stretch.start.as_u64())..GuestOffset::new(stretch.end.as_u64()));
        from = stretch.end;
    }
    let data = data.round_out(SECTOR, size);
    let zero = data.complement(size);
    Ok(Extents {
        size,
        cluster_size: SECTOR,
        subcluster_size: SECTOR,
        size_max: size,
        is_raw: true,
        data,
        zero,
        ..Extents::default()
    })
}

fn of_image(image: &Image) -> Result<Extents> {
    let header = image.header();
    let mut extents = Extents {
        size: image.size(),
        cluster_size: image.geometry().cluster_size(),
        subcluster_size: image.geometry().subcluster_size(),
        size_max: image.size_max()?,
        has_zero_clusters: header.version == Version::V3,
        has_internal_snapshots: header.snapshot_count > 0,
        ..Extents::default()
    };
    image.survey(|held, range| match held {
        Held::Data => extents.data.insert(range),
        Held::Compressed => {
            extents.data.insert(range.clone());
            extents.compressed.insert(range);
        }
        Held::Zero => extents.zero.insert(range),
        Held::ZeroAllocated => {
            extents.zero.insert(range.clone());
            extents.zero_allocated.insert(range);
        }
    })?;
    // The disk may have grown since its size was asked for: what is new is for the next look.
    let Extents { size, .. } = extents;
    extents.data = extents.data.clipped(size);
    extents.compressed = extents.compressed.clipped(size);
    extents.zero = extents.zero.clipped(size);
    extents.zero_allocated = extents.zero_allocated.clipped(size);
    Ok(extents)
}
