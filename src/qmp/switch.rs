//! The disks of a running QEMU, switched in one transaction.

use super::QmpError;
use super::connection::Connection;
use super::graph::{Graph, Node};
use crate::engine::{BlockNode, HookError, PreparedDisk, Switch, WritesTo};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// How long a command may take, when nothing else is said.
const WITHIN: Duration = Duration::from_secs(30);

/// Switches the disks of a running QEMU, through its monitor at a unix socket.
///
/// The node of each disk is found by the file of its head, which QEMU must have been given by the same path; where it was
/// not, and where a disk is not taken by its format's node, [`QemuSwitch::with_node`] says the node for the first group.
/// Overlays are opened with the cache mode of their heads, and named by their layers.
///
/// A transaction that QEMU refuses for one disk is undone for the others. When the guest writes meanwhile, QEMU (10.0 was
/// seen to) may take a write into an overlay and cut that off afterwards. Such an overlay is kept, and the error is
/// [`SwitchUnknown`](crate::Error::SwitchUnknown); a guest that was frozen writes nothing.
///
/// An example is at [`qmp`](crate::qmp).
#[derive(Debug)]
pub struct QemuSwitch {
    socket: PathBuf,
    within: Duration,
    nodes: BTreeMap<Uuid, String>,
    options: Map<String, Value>,
    connection: Option<Connection>,
}

impl QemuSwitch {
    /// The QEMU whose monitor is at this socket. Nothing is asked before it is needed.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            within: WITHIN,
            nodes: BTreeMap::new(),
            options: Map::new(),
            connection: None,
        }
    }

    /// The same, with another limit to how long a command may take than 30 s.
    #[must_use]
    pub fn answered_within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// The same, with the name of the node that a volume writes to.
    #[must_use]
    pub fn with_node(mut self, volume: Uuid, node_name: impl Into<String>) -> Self {
        self.nodes.insert(volume, node_name.into());
        self
    }

    /// The same, with a further argument of `blockdev-add` for each overlay, such as `discard` with `unmap`.
    #[must_use]
    pub fn with_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), Value::String(value.into()));
        self
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::to_monitor(&self.socket, self.within)?,
        };
        let answer = connection.ask(command, arguments, self.within);
        // After anything else answers may be under way that belong to no question: the next one is asked anew.
        if matches!(answer, Ok(_) | Err(QmpError::Refused { .. })) {
            self.connection = Some(connection);
        }
        answer
    }

    fn graph(&mut self) -> Result<Graph, QmpError> {
        // Flat: otherwise each node tells of all below it once more.
        let nodes = self.ask("query-named-block-nodes", &json!({ "flat": true }))?;
        let devices = self.ask("query-block", &Value::Null)?;
        let exports = self.ask("query-block-exports", &Value::Null)?;
        Graph::of(nodes, devices, exports)
    }

    /// The node that a disk writes to before the switch: the one that was said, the one that was made for an earlier group,
    /// or the one that has the file of the head open.
    fn head<'g>(&self, graph: &'g Graph, disk: &PreparedDisk) -> Result<&'g Node, QmpError> {
        let file = &disk.chain[1];
        if let Some(name) = self.nodes.get(&disk.volume_uuid) {
            return graph.node(name).ok_or_else(|| QmpError::Node { file: file.path.clone(), found: 0 });
        }
        match graph.node(&BlockNode::alone(file).node_name) {
            Some(node) => Ok(node),
            None => graph.node_of(&file.path, file.format),
        }
    }

    /// Opens the overlay of each disk, and switches all of them at once.
    fn add_and_switch(&mut self, disks: &[PreparedDisk], added: &mut Vec<String>) -> Result<(), QmpError> {
        let graph = self.graph()?;
        let mut actions = Vec::with_capacity(disks.len());
        for disk in disks {
            let head = self.head(&graph, disk)?;
            let mut overlay = serde_json::to_value(&disk.overlay).expect("names and paths are strings");
            if let Some(cache) = head.cache {
                overlay["cache"] = json!({ "direct": cache.direct, "no-flush": cache.no_flush });
            }
            for (name, value) in &self.options {
                overlay[name] = value.clone();
            }
            let name = &disk.overlay.node_name;
            actions
                .push(json!({ "type": "blockdev-snapshot", "data": { "node": head.name, "overlay": name } }));
            self.ask("blockdev-add", &overlay)?;
            added.push(name.clone());
        }
        self.ask("transaction", &json!({ "actions": actions })).map(drop)
    }

    /// Closes overlays that nothing writes to. One that is in use is not closed by QEMU.
    fn close(&mut self, names: &[String]) {
        for name in names {
            drop(self.ask("blockdev-del", &json!({ "node-name": name })));
        }
    }

    fn look_at(&mut self, disks: &[PreparedDisk]) -> Result<Vec<WritesTo>, QmpError> {
        let graph = self.graph()?;
        let mut seen = Vec::with_capacity(disks.len());
        let mut idle = Vec::new();
        for disk in disks {
            let head = self.head(&graph, disk).ok();
            let overlay = graph.node(&disk.overlay.node_name);
            let is_above = overlay.is_some_and(|node| node.is_above_another() && !node.ro);
            let is_used = head.is_some_and(|head| graph.is_used(&head.name));
            seen.push(match (is_above, head) {
                (true, _) if !is_used => WritesTo::Overlay,
                (false, Some(head)) if !head.ro => WritesTo::Head,
                _ => WritesTo::Unknown,
            });
            if seen.last() == Some(&WritesTo::Head) && overlay.is_some() {
                idle.push(disk.overlay.node_name.clone());
            }
        }
        self.close(&idle);
        Ok(seen)
    }
}

impl Switch for QemuSwitch {
    fn reach(&mut self) -> Result<(), HookError> {
        // Given back at once: whatever refuses the group next would keep it from others.
        self.connection = None;
        Connection::to_monitor(&self.socket, self.within)?;
        Ok(())
    }

    fn switch(&mut self, disks: &[PreparedDisk]) -> Result<(), HookError> {
        let mut added = Vec::with_capacity(disks.len());
        let switched = self.add_and_switch(disks, &mut added);
        if let Err(QmpError::Refused { .. } | QmpError::Node { .. }) = &switched {
            self.close(&added);
        }
        Ok(switched?)
    }

    fn look(&mut self, disks: &[PreparedDisk]) -> Result<Vec<WritesTo>, HookError> {
        let seen = self.look_at(disks);
        // A monitor takes one client at a time: it is given back.
        self.connection = None;
        Ok(seen?)
    }
}
