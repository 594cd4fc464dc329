//! Disks that come as files: taken over as they lie, or imported, alone or above a snapshot.

use super::{History, Outcome};
use snapgroup::storage::{BlobName, MemoryStore, Store};
use snapgroup::{
    AdoptVolume, Compress, Export, ExportBase, ExportFormat, ImportFrom, ImportVolume, LayerFormat, Uuid,
};
use std::sync::Arc;

impl History {
    /// Exports a snapshot and makes a disk of the file.
    pub(super) fn bring_in(&mut self, uuid: Uuid) -> Outcome {
        let cluster_bits = self.bits();
        let compress = if self.below(2) == 0 { Compress::Clusters } else { Compress::No };
        let name = format!("arrival-{}.qcow2", self.model.disks.len());
        let format = ExportFormat::Qcow2 { cluster_bits, compress, base: None };
        let shape = format!("{cluster_bits} bits, compress: {compress:?}");
        let bytes = self.model.taken[&uuid].bytes.clone();
        if self.below(2) == 0 {
            self.count("adopt");
            self.log.push(format!("adopt {} from {name}, {shape}", uuid.simple()));
            self.engine().export(
                uuid,
                &Export { format },
                (self.home)().create(&BlobName::parse(&name)?)?,
            )?;
            let wish = AdoptVolume::new(&name, LayerFormat::Qcow2, "adopted");
            let made = self.engine().adopt_volume(&wish)?.uuid;
            self.model.add_disk(made, bytes, None);
            return Ok(());
        }
        let base = if self.below(2) == 0 { self.another_of_its_disk(uuid) } else { None };
        let above = if base.is_some() { "above a snapshot" } else { "alone" };
        self.count(format!("import {above}"));
        self.log.push(format!("import {above}: {} from {name}, {shape}", uuid.simple()));
        let format = match base {
            None => format,
            Some(base) => {
                let base = ExportBase {
                    snapshot: base.into(),
                    label: "base.qcow2".into(),
                    format: LayerFormat::Qcow2,
                };
                ExportFormat::Qcow2 { cluster_bits, compress, base: Some(base) }
            }
        };
        let store = Arc::new(MemoryStore::new());
        self.engine().export(uuid, &Export { format }, store.create(&BlobName::parse(&name)?)?)?;
        let from = ImportFrom::Store(store, name.clone());
        let wish = ImportVolume::new(from, LayerFormat::Qcow2, "imported");
        let wish = ImportVolume { cluster_bits: Some(self.bits()), base: base.map(Into::into), ..wish };
        let made = self.engine().import(&wish)?.uuid;
        self.model.add_disk(made, bytes, base);
        Ok(())
    }

    /// Any snapshot of the same disk, itself perhaps.
    fn another_of_its_disk(&mut self, uuid: Uuid) -> Option<Uuid> {
        let disk = self.model.taken[&uuid].disk;
        let all: Vec<Uuid> =
            self.model.taken.iter().filter(|(_, taken)| taken.disk == disk).map(|(uuid, _)| *uuid).collect();
        Some(all[self.below(all.len())])
    }
}
