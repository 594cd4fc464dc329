//! From the first cluster to a header.

use super::super::error::{Detail, Error, Malformed, Rule, Unsupported, first_byte_not_text, require};
use super::super::extension::parse_list;
use super::super::{Extension, Geometry, L2Width};
use super::check::{BACKING_FORMAT_MAX, BACKING_NAME_MAX, refuse_unknown};
use super::raw::{LENGTH_COMPRESSION, LENGTH_V3, RawHeader};
use super::{
    Autoclear, Backing, Compatible, Compression, CompressionField, Encryption, Header, Incompatible, Version,
};
use crate::units::{ByteCount, HostOffset};

impl Header {
    /// Reads the header from `cluster0`: the first cluster of the file, or all of a shorter file.
    ///
    /// [`RawHeader::cluster_size`] says how much that is. What is marked as dirty, as corrupt, as encrypted or
    /// as having an external data file is read like any other; whether to use it is for the caller to say.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] names the first field that breaks a rule. [`Error::Unsupported`] names a version,
    /// an incompatible feature, an encryption or a compression that is not known.
    pub fn parse(cluster0: &[u8]) -> Result<Self, Error> {
        let raw = RawHeader::parse(cluster0)?;
        let version = if raw.version == 2 { Version::V2 } else { Version::V3 };
        let incompatible = Incompatible::from_bits(raw.incompatible_features);
        refuse_unknown(incompatible)?;
        let l2 = if incompatible.is_extended_l2() { L2Width::Extended } else { L2Width::Standard };
        let geometry = Geometry::new(raw.cluster_bits, raw.refcount_order, l2)?;

        let cluster_size = raw.cluster_size().as_usize();
        let cluster0 = cluster0.get(..cluster_size).unwrap_or(cluster0);
        let parts = Parts::cut(&raw, version, cluster0)?;
        let extensions = parse_list(parts.extensions)?;
        let backing = parse_backing(parts.backing_name, &extensions)?;
        let header = Self {
            version,
            geometry,
            size: ByteCount::new(raw.size),
            encryption: parse_encryption(raw.crypt_method)?,
            l1_entries: raw.l1_size,
            l1_table: HostOffset::new(raw.l1_table_offset),
            refcount_table: HostOffset::new(raw.refcount_table_offset),
            refcount_table_clusters: raw.refcount_table_clusters,
            snapshot_count: raw.nb_snapshots,
            snapshot_table: HostOffset::new(raw.snapshots_offset),
            incompatible,
            compatible: Compatible::from_bits(raw.compatible_features),
            autoclear: Autoclear::from_bits(raw.autoclear_features),
            compression: parse_compression(raw.compression_type)?,
            compression_field: parts.compression_field,
            extra: parts.extra.to_vec(),
            extensions,
            backing,
        };
        header.check()?;
        Ok(header)
    }
}

/// The first cluster, cut where its fixed fields say.
struct Parts<'a> {
    compression_field: CompressionField,
    extra: &'a [u8],
    extensions: &'a [u8],
    backing_name: &'a [u8],
}

impl<'a> Parts<'a> {
    fn cut(raw: &RawHeader, version: Version, cluster0: &'a [u8]) -> Result<Self, Error> {
        let length = u64::from(raw.header_length);
        let cluster_size = raw.cluster_size().as_u64();
        if version == Version::V3 {
            let rule = Rule::Between(LENGTH_V3 as u64, cluster_size);
            let lawful = (LENGTH_V3 as u64..=cluster_size).contains(&length);
            require(lawful, "header", "header_length", length, rule)?;
            let lawful = length.is_multiple_of(8);
            require(lawful, "header", "header_length", length, Rule::MultipleOf(8))?;
        }
        let name = backing_name_range(raw)?;
        let names_begin = name.as_ref().map(|name| name.start);
        let extensions_end = names_begin.unwrap_or(cluster0.len() as u64);
        let compression_field = if length >= LENGTH_COMPRESSION as u64 {
            CompressionField::Present { padding: raw.padding }
        } else {
            CompressionField::Absent
        };
        Ok(Self {
            compression_field,
            extra: cut(cluster0, (LENGTH_COMPRESSION as u64).min(length)..length)?,
            extensions: cut(cluster0, length..extensions_end.max(length))?,
            backing_name: name.map_or(Ok(&[][..]), |name| cut(cluster0, name))?,
        })
    }
}

/// Where the backing name lies, empty names included (qcow2 specification, header, bytes 8-19).
fn backing_name_range(raw: &RawHeader) -> Result<Option<std::ops::Range<u64>>, Error> {
    let begin = raw.backing_file_offset;
    if begin == 0 {
        // The length has no meaning then.
        return Ok(None);
    }
    let cluster_size = raw.cluster_size().as_u64();
    let length_min = u64::from(raw.header_length);
    let lawful = (length_min..=cluster_size).contains(&begin);
    let rule = Rule::Between(length_min, cluster_size);
    require(lawful, "header", "backing_file_offset", begin, rule)?;
    let size = u64::from(raw.backing_file_size);
    let size_max = BACKING_NAME_MAX.min(cluster_size - begin);
    require(size <= size_max, "header", "backing_file_size", size, Rule::AtMost(size_max))?;
    Ok(Some(begin..begin + size))
}

/// The bytes of `range`, which lies in the first cluster, if the file is long enough for them.
fn cut(cluster0: &[u8], range: std::ops::Range<u64>) -> Result<&[u8], Error> {
    let end = range.end;
    let place = usize::try_from(range.start).ok().zip(usize::try_from(end).ok());
    place.and_then(|(start, end)| cluster0.get(start..end)).ok_or_else(|| {
        let found = cluster0.len() as u64;
        Malformed { structure: "header", field: "length", found, rule: Rule::AtLeast(end) }.into()
    })
}

fn parse_backing(name: &[u8], extensions: &[Extension]) -> Result<Option<Backing>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let name = text("backing name", name)?;
    Ok(Some(Backing { name, format: backing_format(extensions)? }))
}

/// The backing format that the extensions name. An empty one is none, as for QEMU.
pub(super) fn backing_format(extensions: &[Extension]) -> Result<Option<String>, Error> {
    let extension = extensions.iter().find(|extension| extension.kind == Extension::BACKING_FORMAT);
    let Some(extension) = extension.filter(|extension| !extension.data.is_empty()) else { return Ok(None) };
    let length = extension.data.len() as u64;
    let rule = Rule::AtMost(BACKING_FORMAT_MAX);
    require(length <= BACKING_FORMAT_MAX, "header extension", "backing format length", length, rule)?;
    text("backing format", &extension.data).map(Some)
}

/// `bytes` as text without control characters.
pub(super) fn text(field: &'static str, bytes: &[u8]) -> Result<String, Error> {
    let wrong = |at: usize| Malformed { structure: "header", field, found: at as u64, rule: Rule::Text };
    if let Some(at) = first_byte_not_text(bytes) {
        return Err(wrong(at).into());
    }
    String::from_utf8(bytes.to_vec()).map_err(|error| wrong(error.utf8_error().valid_up_to()).into())
}

fn parse_encryption(crypt_method: u32) -> Result<Encryption, Error> {
    match crypt_method {
        0 => Ok(Encryption::None),
        1 => Ok(Encryption::Aes),
        2 => Ok(Encryption::Luks),
        other => {
            let detail = Detail::Number(u64::from(other));
            Err(Unsupported { feature: "encryption method", detail }.into())
        }
    }
}

fn parse_compression(compression_type: u8) -> Result<Compression, Error> {
    match compression_type {
        0 => Ok(Compression::Deflate),
        1 => Ok(Compression::Zstd),
        other => {
            let detail = Detail::Number(u64::from(other));
            Err(Unsupported { feature: "compression type", detail }.into())
        }
    }
}
