//! What a file shows, by QEMU.

use crate::qemu::Qemu;
use std::error::Error;
use std::path::Path;

/// Sees that QEMU reads exactly these bytes of an image and everything below it. It may be open here.
pub(crate) fn assert_shows(directory: &Path, file: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let qemu = Qemu::in_directory(directory);
    let said = qemu.img(&["info", "-U", "-f", "qcow2", "--output=json", file]);
    let info: serde_json::Value = serde_json::from_str(&said)?;
    assert_eq!(info["virtual-size"], bytes.len(), "{file}");
    let expected = directory.join("shown.raw");
    std::fs::write(&expected, bytes)?;
    qemu.img(&["compare", "-U", "-q", "-f", "qcow2", "-F", "raw", file, "shown.raw"]);
    std::fs::remove_file(expected)?;
    Ok(())
}
