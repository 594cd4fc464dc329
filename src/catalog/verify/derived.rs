//! C23 to C25 and C27: the tables that are derived from the records, built anew and compared.

use super::super::error::Result;
use super::super::index::Keys;
use super::super::kind::{Entity, Id, Record};
use super::super::reader::Reader;
use super::super::tables;
use super::{Violation, World};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What the derived tables must hold.
#[derive(Default)]
struct Expected {
    uuids: BTreeMap<Uuid, Entity>,
    keys: Keys,
    entities: Vec<Entity>,
}

impl Expected {
    fn add<'r, R: Record + 'r>(&mut self, records: impl Iterator<Item = &'r R>) {
        for record in records {
            let entity = record.id().entity();
            self.uuids.insert(record.uuid(), entity);
            self.keys.extend(record.keys());
            self.entities.push(entity);
        }
    }
}

impl World {
    pub(super) fn check_derived(&mut self, reader: &Reader) -> Result<()> {
        let mut expected = Expected::default();
        expected.add(self.machines.values());
        expected.add(self.volumes.values());
        expected.add(self.layers.values());
        expected.add(self.snapshots.values());
        expected.add(self.trees.values());
        expected.add(self.groups.values());
        for member in &self.refs {
            expected.keys.extend(member.index_keys());
        }
        self.check_uuids(reader, expected.uuids)?;
        self.check_index(reader, expected.keys)?;
        self.check_counters(reader, expected.entities)?;
        self.check_sum(reader)
    }

    /// C27.
    fn check_sum(&mut self, reader: &Reader) -> Result<()> {
        let found = reader.snapshot_bytes()?;
        let expected = self.snapshots.values().map(|snapshot| snapshot.size).sum();
        if found != expected {
            self.found(Violation::SnapshotBytes { found, expected });
        }
        Ok(())
    }

    /// C23.
    fn check_uuids(&mut self, reader: &Reader, mut expected: BTreeMap<Uuid, Entity>) -> Result<()> {
        for entry in reader.uuid_table()?.range::<&[u8; 16]>(..)? {
            let (key, value) = entry?;
            let uuid = Uuid::from_bytes(*key.value());
            let found = tables::value_entity(uuid, value.value())?;
            let owner = expected.remove(&uuid);
            if owner != Some(found) {
                self.found(Violation::UuidTable { uuid, found: Some(found), expected: owner });
            }
        }
        for (uuid, owner) in expected {
            self.found(Violation::UuidTable { uuid, found: None, expected: Some(owner) });
        }
        Ok(())
    }

    /// C24.
    fn check_index(&mut self, reader: &Reader, mut expected: Keys) -> Result<()> {
        for entry in reader.index_table()?.range::<&[u8]>(..)? {
            let (key, _) = entry?;
            if !expected.remove(key.value()) {
                self.found(Violation::IndexExtra { key: key.value().to_vec() });
            }
        }
        for key in expected {
            self.found(Violation::IndexLacks { key });
        }
        Ok(())
    }

    /// C25.
    fn check_counters(&mut self, reader: &Reader, entities: Vec<Entity>) -> Result<()> {
        let next = tables::meta_next(reader.meta_table())?;
        for entity in entities {
            let next = next[entity.kind().slot()];
            if entity.number() >= next {
                self.found(Violation::Counter { entity, next });
            }
        }
        Ok(())
    }
}
