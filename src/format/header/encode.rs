//! From a header to the first cluster.

use super::super::error::{Error, Rule, require};
use super::super::extension::encode_list;
use super::raw::RawHeader;
use super::{Compression, CompressionField, Encryption, Header, Version};

impl Header {
    /// The header as it is stored: fixed fields, extensions with their end marker, backing name.
    ///
    /// What follows in the first cluster has no meaning; a writer fills it with zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names a field that breaks a rule, or says that the whole does not fit into the
    /// first cluster.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let mut tail = self.extra.clone();
        encode_list(&self.extensions, &mut tail);
        let fields = self.to_raw(0).encode();
        let name_at = fields.len() + tail.len();
        let name = self.backing.as_ref().map_or("", |backing| &backing.name);

        let length = (name_at + name.len()) as u64;
        let fits = length <= self.geometry.cluster_size().as_u64();
        require(fits, "header", "length", length, Rule::InsideCluster0)?;
        let mut bytes = self.to_raw(name_at as u64).encode();
        bytes.extend(tail);
        bytes.extend(name.as_bytes());
        Ok(bytes)
    }

    /// The fixed fields of a header whose backing name, if any, begins at `name_at`.
    fn to_raw(&self, name_at: u64) -> RawHeader {
        let name_length = self.backing.as_ref().map_or(0, |backing| backing.name.len());
        RawHeader {
            version: match self.version {
                Version::V2 => 2,
                Version::V3 => 3,
            },
            backing_file_offset: if self.backing.is_some() { name_at } else { 0 },
            backing_file_size: u32::try_from(name_length).expect("a checked name is short"),
            cluster_bits: self.geometry.cluster_bits(),
            size: self.size.as_u64(),
            crypt_method: match self.encryption {
                Encryption::None => 0,
                Encryption::Aes => 1,
                Encryption::Luks => 2,
            },
            l1_size: self.l1_entries,
            l1_table_offset: self.l1_table.as_u64(),
            refcount_table_offset: self.refcount_table.as_u64(),
            refcount_table_clusters: self.refcount_table_clusters,
            nb_snapshots: self.snapshot_count,
            snapshots_offset: self.snapshot_table.as_u64(),
            incompatible_features: self.incompatible.bits(),
            compatible_features: self.compatible.bits(),
            autoclear_features: self.autoclear.bits(),
            refcount_order: self.geometry.refcount_order(),
            header_length: u32::try_from(self.length()).unwrap_or(u32::MAX),
            compression_type: match self.compression {
                Compression::Deflate => 0,
                Compression::Zstd => 1,
            },
            padding: match self.compression_field {
                CompressionField::Absent => [0; 7],
                CompressionField::Present { padding } => padding,
            },
        }
    }
}
