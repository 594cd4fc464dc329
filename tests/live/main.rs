//! Groups of a machine that another process runs: every answer of that process, every point at which somebody dies.

mod driven;
mod phases;
mod power;
mod reclaim;
mod site;
mod vmm;
