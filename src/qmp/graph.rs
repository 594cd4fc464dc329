//! What QEMU's block layer has open.

use super::QmpError;
use super::connection::malformed;
use crate::engine::LayerFormat;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The nodes with a name, and which of them something uses: a device of the guest, or an export.
#[derive(Debug)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    used: Vec<String>,
}

/// One node, as `query-named-block-nodes` tells of it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Node {
    #[serde(rename = "node-name", default)]
    pub(super) name: String,
    drv: String,
    file: String,
    pub(super) ro: bool,
    /// What it reads through to; absent when nothing is open below it, whatever its header says.
    backing_file: Option<String>,
    pub(super) cache: Option<Cache>,
}

/// How a node uses the cache of the host.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Cache {
    pub(super) direct: bool,
    #[serde(rename = "no-flush")]
    pub(super) no_flush: bool,
}

/// A device of a guest, as `query-block` tells of it.
#[derive(Debug, Deserialize)]
struct Device {
    inserted: Option<User>,
}

/// What uses a node.
#[derive(Debug, Deserialize)]
struct User {
    #[serde(rename = "node-name", default)]
    node_name: String,
}

impl Graph {
    /// Reads what was answered to `query-named-block-nodes`, `query-block` and `query-block-exports`.
    pub(super) fn of(nodes: Value, devices: Value, exports: Value) -> Result<Self, QmpError> {
        let devices: Vec<Device> = read("query-block", devices)?;
        let exports: Vec<User> = read("query-block-exports", exports)?;
        let users = devices.into_iter().filter_map(|device| device.inserted).chain(exports);
        let used = users.map(|user| user.node_name).collect();
        Ok(Self { nodes: read("query-named-block-nodes", nodes)?, used })
    }

    /// The node of a name.
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The one node that has a file open as a format.
    pub(super) fn node_of(&self, file: &str, format: LayerFormat) -> Result<&Node, QmpError> {
        let format = match format {
            LayerFormat::Qcow2 => "qcow2",
            LayerFormat::Raw => "raw",
        };
        let found: Vec<&Node> =
            self.nodes.iter().filter(|node| node.drv == format && node.has_open(file)).collect();
        match found[..] {
            [node] => Ok(node),
            _ => Err(QmpError::Node { file: file.to_owned(), found: found.len() }),
        }
    }

    /// Whether something uses a node directly.
    pub(super) fn is_used(&self, name: &str) -> bool {
        self.used.iter().any(|used| used == name)
    }
}

impl Node {
    /// Whether something is open below it.
    pub(super) fn is_above_another(&self) -> bool {
        self.backing_file.is_some()
    }

    /// Whether this is the file that it was opened from. A node that was opened with other options than its file's own is
    /// described by all of them.
    fn has_open(&self, file: &str) -> bool {
        match self.file.strip_prefix("json:") {
            None => self.file == file,
            Some(options) => serde_json::from_str::<Value>(options)
                .is_ok_and(|options| options.pointer("/file/filename").and_then(Value::as_str) == Some(file)),
        }
    }
}

fn read<T: DeserializeOwned>(command: &str, answer: Value) -> Result<T, QmpError> {
    serde_json::from_value(answer).map_err(|error| malformed(command, error.to_string()))
}
