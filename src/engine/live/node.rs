//! A disk as the process that runs its machine opens it: nodes of QEMU's block layer, as values that serialise to the
//! arguments of its `blockdev-add`.

use crate::catalog::LayerFormat;
use serde::ser::{Serialize, SerializeMap, Serializer};
use uuid::Uuid;

/// The longest name that QEMU gives a node: 31 bytes.
const NAME_MAX: usize = 31;
/// What the names of nodes made here begin with.
const NAME_PREFIX: &str = "snapgroup-";

/// One file of a backing chain.
#[doc = include_str!("../examples/adopting.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainFile {
    /// Where it is; an absolute path in a pool on disk.
    pub path: String,
    /// Its format.
    pub format: LayerFormat,
    /// The layer that it holds.
    pub layer_uuid: Uuid,
}

/// A node of a block layer: a format above a file, with or without what is below it.
///
/// Serialises to the arguments of QEMU's `blockdev-add`. QEMU is never left to find a backing file by itself: what is
/// below is said, or `null`.
#[doc = include_str!("../examples/preparing.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockNode {
    /// The name of the node: the same for the same layer, and at most 31 bytes long.
    pub node_name: String,
    /// The format.
    pub driver: LayerFormat,
    /// Where the file is.
    pub filename: String,
    /// Whether it is only read: all but the uppermost.
    pub read_only: bool,
    /// What it reads through to.
    pub backing: Option<Box<BlockNode>>,
}

impl BlockNode {
    /// The node of one file, for writing, without what is below it.
    #[must_use]
    pub fn alone(file: &ChainFile) -> Self {
        Self {
            node_name: node_name(file.layer_uuid),
            driver: file.format,
            filename: file.path.clone(),
            read_only: false,
            backing: None,
        }
    }

    /// The nodes of a whole chain, the uppermost for writing: for a process that opens the disk anew. None for no files.
    #[must_use]
    pub fn of_chain(chain: &[ChainFile]) -> Option<Self> {
        let mut below: Option<Self> = None;
        for (depth, file) in chain.iter().enumerate().rev() {
            let backing = below.map(Box::new);
            below = Some(Self { read_only: depth > 0, backing, ..Self::alone(file) });
        }
        below
    }
}

/// The name of the node of a layer: unique for all practical purposes, and known to both sides without being asked.
fn node_name(layer: Uuid) -> String {
    let digits = layer.simple().to_string();
    format!("{NAME_PREFIX}{}", &digits[..NAME_MAX - NAME_PREFIX.len()])
}

impl Serialize for BlockNode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("node-name", &self.node_name)?;
        map.serialize_entry("read-only", &self.read_only)?;
        map.serialize_entry("file", &FileNode { filename: &self.filename })?;
        match self.driver {
            LayerFormat::Raw => map.serialize_entry("driver", "raw")?,
            LayerFormat::Qcow2 => {
                map.serialize_entry("driver", "qcow2")?;
                map.serialize_entry("backing", &self.backing)?;
            }
        }
        map.end()
    }
}

/// The protocol node below a format.
struct FileNode<'a> {
    filename: &'a str,
}

impl Serialize for FileNode<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("driver", "file")?;
        map.serialize_entry("filename", self.filename)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u128, format: LayerFormat) -> ChainFile {
        let layer_uuid = Uuid::from_u128(number << 64);
        ChainFile { path: format!("/pool/{number}"), format, layer_uuid }
    }

    #[test]
    fn a_node_says_what_is_below_it_or_that_nothing_is() -> serde_json::Result<()> {
        let chain = [file(3, LayerFormat::Qcow2), file(2, LayerFormat::Qcow2), file(1, LayerFormat::Raw)];
        let names = [3_u128, 2, 1].map(|number| node_name(Uuid::from_u128(number << 64)));
        let alone = serde_json::to_value(BlockNode::alone(&chain[0]))?;
        let expected = serde_json::json!({
            "node-name": names[0], "driver": "qcow2", "read-only": false, "backing": null,
            "file": { "driver": "file", "filename": "/pool/3" },
        });
        assert_eq!(alone, expected);
        let whole = serde_json::to_value(BlockNode::of_chain(&chain).expect("three files"))?;
        let expected = serde_json::json!({
            "node-name": names[0], "driver": "qcow2", "read-only": false,
            "file": { "driver": "file", "filename": "/pool/3" },
            "backing": {
                "node-name": names[1], "driver": "qcow2", "read-only": true,
                "file": { "driver": "file", "filename": "/pool/2" },
                "backing": {
                    "node-name": names[2], "driver": "raw", "read-only": true,
                    "file": { "driver": "file", "filename": "/pool/1" },
                },
            },
        });
        assert_eq!(whole, expected);
        Ok(())
    }

    #[test]
    fn a_node_has_a_name_that_qemu_takes() {
        let name = node_name(Uuid::from_u128(u128::MAX));
        assert!(name.len() <= NAME_MAX);
        assert!(name.starts_with(|first: char| first.is_ascii_alphabetic()));
        assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter)));
    }
}
