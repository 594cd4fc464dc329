//! Plans and the report of a check as a person reads them: lines, without an end of line after the last one.

use super::check::PoolCheck;
use super::plans::{CreatePlan, DeletePlan, RevertPlan};
use super::reclaim::Figures;
use super::retention::ThinPlan;
use crate::inventory::ErrorCode;
use std::fmt::{self, Display, Formatter};
use uuid::Uuid;

/// What would be done to files, in a line for the bytes, and one for every file and for every chain.
impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "copied up {}, copied down {}, copied whole {}, freed {}, at most {} more than now on the way",
            self.bytes_pulled.rounded(),
            self.bytes_committed.rounded(),
            self.bytes_flattened.rounded(),
            self.bytes_freed().rounded(),
            self.bytes_extra_peak.rounded()
        )?;
        if self.files_made > 0 {
            let files = if self.files_made == 1 { "file" } else { "files" };
            write!(f, "\n{:>8}  {} new {files}", "made", self.files_made)?;
        }
        for (what, files) in [("written", &self.files_written), ("removed", &self.files_removed)] {
            for file in files {
                write!(f, "\n{what:>8}  {file}")?;
            }
        }
        for chain in &self.chains {
            let (volume, before, after) = (chain.volume_uuid.simple(), chain.before, chain.after);
            write!(f, "\nchain of {volume}: {before} -> {after} layers")?;
        }
        Ok(())
    }
}

/// A line for every snapshot and for every group that would be gone with them, then the figures.
impl Display for DeletePlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for line in &self.results {
            let done = if line.already_deleted { "was gone" } else { "would be deleted" };
            writeln!(f, "snapshot {}: {}", shown(line.snapshot_uuid), verdict(done, line.error.as_ref()))?;
        }
        for group in &self.groups_removed {
            writeln!(f, "group {}: no member would be left", group.simple())?;
        }
        self.figures.fmt(f)
    }
}

/// A line for every volume, then the figures.
impl Display for RevertPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for line in &self.results {
            let verdict = verdict("would be reverted", line.error.as_ref());
            write!(f, "volume {}: {verdict}", shown(line.volume_uuid))?;
            if let (Some(before), Some(after)) = (line.virtual_size_before, line.virtual_size) {
                write!(f, ", {} -> {}", before.rounded(), after.rounded())?;
            }
            writeln!(f)?;
        }
        self.figures.fmt(f)
    }
}

/// A line for every member and for what stands against the group as a whole, then the figures.
impl Display for CreatePlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for member in &self.members {
            writeln!(f, "snapshot {}: {}", member.name, verdict("would be taken", member.refused.as_ref()))?;
        }
        if let Some(refused) = &self.refused {
            writeln!(f, "the group: {}", verdict("", Some(refused)))?;
        }
        self.figures.fmt(f)
    }
}

/// A line for every group, and, when some would go, the plan of their deletion.
impl Display for ThinPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut lines = self.groups.iter().map(|group| {
            let reasons = group.kept_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let verdict = if reasons.is_empty() { "goes".to_owned() } else { format!("stays: {reasons}") };
            format!("group {} of {}: {verdict}", group.name, group.created)
        });
        match &self.deletion {
            Some(deletion) => lines.try_for_each(|line| writeln!(f, "{line}")).and_then(|()| deletion.fmt(f)),
            None if self.groups.is_empty() => f.write_str("there is no group"),
            None => f.write_str(&lines.collect::<Vec<_>>().join("\n")),
        }
    }
}

/// A line for everything that is wrong, and one that sums up.
impl Display for PoolCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "catalogue: {violation}")?;
        }
        for layer in &self.layers {
            let report = layer.report.as_ref().map(ToString::to_string);
            writeln!(f, "{}: {}", layer.file, report.or_else(|| layer.error.clone()).unwrap_or_default())?;
        }
        for file in &self.missing {
            writeln!(f, "{file}: missing")?;
        }
        for file in &self.unnamed {
            writeln!(f, "{file}: no record names it")?;
        }
        for file in &self.seals_missing {
            writeln!(f, "{file}: missing; sealing makes such checksums anew")?;
        }
        let layers = match self.layers_checked {
            1 => "1 layer".to_owned(),
            count => format!("{count} layers"),
        };
        let verdict = if self.is_clean() {
            "clean"
        } else if self.is_sound() {
            "sound: what is told costs space or proofs, no content"
        } else {
            "not sound"
        };
        write!(f, "{layers} checked: {verdict}")
    }
}

fn verdict(done: &str, refused: Option<&ErrorCode>) -> String {
    refused.map_or_else(|| done.to_owned(), |error| format!("refused: {}", error.on_one_line()))
}

fn shown(uuid: Option<Uuid>) -> String {
    uuid.map_or_else(|| "-".to_owned(), |uuid| uuid.simple().to_string())
}
