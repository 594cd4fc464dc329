//! The machine, and how much memory this process has taken up.

use crate::Result;
use crate::qemu;
use std::fs;

/// What the figures depend on, in one line.
pub fn describe() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let qemu = qemu::version().unwrap_or_else(|| "absent".to_owned());
    let place = std::env::var("VERSUS_DIR").unwrap_or_else(|_| std::env::temp_dir().display().to_string());
    let file_system = file_system_of(&place).unwrap_or_else(|| "unknown".to_owned());
    format!("{cpu}, {count} processors, Linux {}, {file_system}, QEMU {qemu}", kernel.trim())
}

/// The most memory that this process has taken up since [`forget_peak`], or since it began, in bytes.
pub fn peak_memory() -> Result<u64> {
    let peak = field("/proc/self/status", "VmHWM").ok_or("the system does not tell of the peak")?;
    Ok(peak.trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// The peak is looked for anew from here on.
pub fn forget_peak() {
    // A system that does not offer it goes on telling the peak since the begin.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system with the longest mount point above a path.
fn file_system_of(path: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    mounts
        .filter(|(at, _)| path.starts_with(at))
        .max_by_key(|(at, _)| at.len())
        .map(|(_, kind)| kind.to_owned())
}
