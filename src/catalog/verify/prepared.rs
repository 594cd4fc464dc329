//! C26: groups that are prepared.

use super::super::error::Result;
use super::super::reader::Reader;
use super::super::record::{PreparedRecord, Running};
use super::{Violation, World};
use std::collections::BTreeSet;
use uuid::Uuid;

impl World {
    pub(super) fn check_prepared(&mut self, reader: &Reader) -> Result<()> {
        for prepared in reader.prepared()? {
            let mut uuids = vec![prepared.group];
            for member in &prepared.members {
                uuids.extend([member.snapshot, member.layer, member.tree]);
            }
            let distinct: BTreeSet<Uuid> = uuids.iter().copied().collect();
            let mut is_lawful = distinct.len() == uuids.len() && self.is_of_its_machine(&prepared);
            for uuid in uuids {
                is_lawful &= reader.resolve(uuid)?.is_none();
            }
            if !is_lawful {
                self.found(Violation::Prepared { machine: prepared.machine });
            }
        }
        Ok(())
    }

    fn is_of_its_machine(&self, prepared: &PreparedRecord) -> bool {
        let is_elsewhere =
            self.machines.get(&prepared.machine).is_some_and(|machine| machine.running == Running::Elsewhere);
        let volumes: BTreeSet<_> = prepared.members.iter().map(|member| member.volume).collect();
        let are_attached = volumes.iter().all(|id| {
            self.volumes.get(id).is_some_and(|volume| volume.attachment(prepared.machine).is_some())
        });
        is_elsewhere && are_attached && volumes.len() == prepared.members.len() && !volumes.is_empty()
    }
}
