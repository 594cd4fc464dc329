//! Machines.

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Vm {
    /// Note a machine.
    Create {
        /// Its name.
        name: String,
        /// Its description.
        #[arg(long)]
        description: Option<String>,
    },
    /// List all machines.
    List,
    /// Show a machine and its volumes.
    Show {
        /// The machine.
        vm: String,
    },
    /// Say whether another process runs the machine.
    Running {
        /// The machine.
        vm: String,
        /// `here` when its disks are free, `elsewhere` when another process has them.
        #[arg(value_enum)]
        place: Place,
    },
    /// Forget a machine without groups; its volumes stay.
    Delete {
        /// The machine.
        vm: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Place {
    Here,
    Elsewhere,
}
