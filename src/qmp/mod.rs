//! A running QEMU, spoken to over its sockets: the hooks of a live group ([`Engine::create_group_live`]) for a virtual
//! machine, and for a `qemu-storage-daemon`.
//!
//! [`QemuSwitch`] switches the disks: one `blockdev-add` for each overlay, one `transaction` of `blockdev-snapshot` for all,
//! and a look at QEMU's graph afterwards. [`GuestAgent`] lets the guest's file systems be frozen meanwhile. Both speak over
//! unix sockets, synchronously, and wait no longer than they are told to.
//!
//! QEMU must have been given a monitor of its own for this (`-qmp unix:/run/vm.qmp,server=on,wait=off`): a monitor takes
//! one client at a time.
//!
//! ```no_run
//! use snapgroup::qmp::{GuestAgent, QemuSwitch, QmpError};
//! use snapgroup::{CreateGroup, Engine, Error, LiveOptions, Options};
//! use std::time::Duration;
//!
//! # fn main() -> snapgroup::Result<()> {
//! let engine = Engine::open("/var/lib/machines/web-1", Options::default())?;
//! let mut agent = GuestAgent::at("/run/web-1.qga");
//! let mut qemu = QemuSwitch::at("/run/web-1.qmp")
//!     .answered_within(Duration::from_secs(5))
//!     .with_node("4b13e23059033e2dbfac63b5b16eba11".parse().expect("a uuid"), "virtio0") // by file names unless given
//!     .with_option("discard", "unmap"); // of each overlay
//! let request = CreateGroup::of_machine("4b13e23059033e2dbfac63b5b16eba11", "nightly");
//! match engine.create_group_live(&request, &mut agent, &mut qemu, &LiveOptions::default()) {
//!     Ok(taken) => println!("{:?}", taken.created.inventory.consistency),
//!     Err(Error::NotSwitched { source }) => match source.downcast_ref::<QmpError>() {
//!         Some(QmpError::Connect { .. }) => println!("it does not run"),
//!         _ => return Err(Error::NotSwitched { source }),
//!     },
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Engine::create_group_live`]: crate::Engine::create_group_live

mod agent;
mod connection;
mod graph;
mod switch;

pub use agent::GuestAgent;
pub use switch::QemuSwitch;

use std::io;

/// Why QEMU, or the agent in its guest, did not do what it was asked for.
///
/// An example is at [`qmp`](crate::qmp).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// Nobody answers at the socket.
    #[error("no connection to {socket}")]
    Connect {
        /// The socket.
        socket: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or the answer did not come in time. Whether the command was done is unknown.
    #[error("{command} was not answered")]
    Unanswered {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command was refused: it was not done.
    #[error("{command} was refused: {desc} ({class})")]
    Refused {
        /// The command.
        command: String,
        /// The class of the error, as QMP names it: `GenericError`, `CommandNotFound`, ...
        class: String,
        /// What it says to people.
        desc: String,
    },
    /// The answer is not what the protocol says.
    #[error("{command} was answered with something else than is understood: {rule}")]
    Malformed {
        /// The command.
        command: String,
        /// The rule that is broken.
        rule: String,
    },
    /// No node, or more than one, has a file open as its format.
    #[error("{found} nodes have {file} open: say which one with QemuSwitch::with_node")]
    Node {
        /// The file of the head.
        file: String,
        /// How many nodes have it open.
        found: usize,
    },
}
