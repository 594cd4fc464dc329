//! Guest requests through QEMU.

use crate::qemu::Qemu;

impl Qemu<'_> {
    /// Runs the commands in one `qemu-io` and answers what it printed. A pattern that differs is a failure.
    pub(crate) fn io(&self, image: &[&str], commands: &[String]) -> String {
        if commands.is_empty() {
            return String::new();
        }
        let mut arguments = image.to_vec();
        commands.iter().for_each(|command| arguments.extend(["-c", command]));
        let said = self.succeed("qemu-io", &arguments);
        assert!(!said.contains("failed") && !said.contains("error"), "qemu-io {arguments:?}:\n{said}");
        said
    }
}
