//! Groups of a machine that another process runs.

use clap::ValueEnum;

/// How a running QEMU is reached.
#[cfg(feature = "qmp")]
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A machine that QEMU runs")]
pub(crate) struct Live {
    /// The socket of QEMU's monitor: its disks are switched by QMP.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) qmp: Option<std::path::PathBuf>,
    /// The socket of the guest agent: the guest's file systems are frozen meanwhile.
    #[arg(long, value_name = "SOCKET", requires = "qmp")]
    pub(crate) agent: Option<std::path::PathBuf>,
    /// Take the group, crash-consistent, of a guest that cannot be frozen.
    #[arg(long, requires = "agent")]
    pub(crate) take_anyway: bool,
    /// The node of a disk in QEMU's block graph, when it is not found by its file; may be given several times.
    #[arg(long, value_name = "VOLUME=NODE", requires = "qmp", value_parser = node)]
    pub(crate) node: Vec<(String, String)>,
}

#[cfg(feature = "qmp")]
fn node(said: &str) -> Result<(String, String), String> {
    let found = said.split_once('=').filter(|(volume, node)| !volume.is_empty() && !node.is_empty());
    let (volume, node) = found.ok_or_else(|| format!("{said:?} is not VOLUME=NODE"))?;
    Ok((volume.to_owned(), node.to_owned()))
}

/// What the guest is known to have done at the moment of a group.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Settled {
    /// Nothing: it is as after a power cut.
    Crash,
    /// Its file systems were frozen.
    FileSystem,
    /// Its programs had settled.
    Application,
}
