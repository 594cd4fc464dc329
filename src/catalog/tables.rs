//! The tables of the database and their keys. All numbers in keys are big-endian, so keys sort as numbers do.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name of an entry | its bytes |
//! | `machines` … `groups` | id (u64) | record ([`encoding`](super::encoding)) |
//! | `refs` | id of the group (u64), ordinal (u32) | record |
//! | `uuids` | 16 bytes | kind (u8), id (u64) |
//! | `index` | see [`index`](super::index) | nothing |

use super::encoding::{Malformed, decode};
use super::error::{Error, Place, Result};
use super::id::{GroupId, MachineId};
use super::kind::{Entity, Id, Kind, Record};
use super::record::{PreparedRecord, RefRecord, SnapshotRecord, Timestamp};
use redb::{ReadableTable, TableDefinition};
use uuid::Uuid;

/// The key of a record.
pub type IdKey = [u8; 8];
/// The key of a ref.
pub type RefKey = [u8; 12];
/// What the uuid table holds for a uuid.
pub type EntityValue = [u8; 9];

/// The version of the catalogue's format: of the tables and of their keys.
pub const FORMAT: u64 = 1;

/// What the catalogue knows about itself.
pub const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
/// The groups that are prepared, by machine. In no catalogue of before there was one.
pub const PREPARED: TableDefinition<'static, &'static IdKey, &'static [u8]> =
    TableDefinition::new("prepared");
/// The members of the groups.
pub const REFS: TableDefinition<'static, &'static RefKey, &'static [u8]> = TableDefinition::new("refs");
/// Whose a uuid is.
pub const UUIDS: TableDefinition<'static, &'static [u8; 16], &'static EntityValue> =
    TableDefinition::new("uuids");
/// Everything that is found by something else than its id or uuid.
pub const INDEX: TableDefinition<'static, &'static [u8], ()> = TableDefinition::new("index");

/// The table of the records of a kind.
pub const fn records(kind: Kind) -> TableDefinition<'static, &'static IdKey, &'static [u8]> {
    TableDefinition::new(match kind {
        Kind::Machine => "machines",
        Kind::Volume => "volumes",
        Kind::Layer => "layers",
        Kind::Snapshot => "snapshots",
        Kind::Tree => "trees",
        Kind::Group => "groups",
    })
}

/// The entries of the `meta` table.
pub mod meta {
    /// The format version (u64). In every version of the format it stands here and looks like this.
    pub const FORMAT: &str = "format";
    /// The uuid of the pool (16 bytes).
    pub const POOL: &str = "pool";
    /// When the catalogue was created (i64, milliseconds).
    pub const CREATED: &str = "created";
    /// The number of commits so far (u64).
    pub const GENERATION: &str = "generation";
    /// The next id of each kind (6 times u64, in the order of the kinds' numbers).
    pub const NEXT: &str = "next";
    /// How often the catalogue was opened, its making counted (u64).
    pub const EPOCH: &str = "epoch";
    /// What all snapshots take up together (u64).
    pub const SNAPSHOT_BYTES: &str = "snapshot-bytes";
    /// In a catalogue that was made anew: the first id of a layer that is its own (u64). Absent in others.
    pub const REBUILT: &str = "rebuilt";
}

/// The key of a record.
pub fn id_key<I: Id>(id: I) -> IdKey {
    id.number().to_be_bytes()
}

/// The id of a key.
pub fn key_id<I: Id>(key: &IdKey) -> I {
    I::of(u64::from_be_bytes(*key))
}

/// The key of a ref.
pub fn ref_key(group: GroupId, ordinal: u32) -> RefKey {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&group.0.to_be_bytes());
    key[8..].copy_from_slice(&ordinal.to_be_bytes());
    key
}

/// What the uuid table holds for a thing.
pub fn entity_value(entity: Entity) -> EntityValue {
    let mut value = [0; 9];
    value[0] = entity.kind() as u8;
    value[1..].copy_from_slice(&entity.number().to_be_bytes());
    value
}

/// The thing of a value of the uuid table.
pub fn value_entity(uuid: Uuid, value: &EntityValue) -> Result<Entity> {
    let [kind, number @ ..] = *value;
    let known = Kind::of(kind).ok_or(Malformed::Number { found: kind });
    let kind = known.map_err(|source| Error::Malformed { place: Place::Uuid(uuid), source })?;
    Ok(Entity::new(kind, u64::from_be_bytes(number)))
}

/// The record that stands under an id; it must say so itself.
pub fn decode_record<R: Record>(id: R::Id, bytes: &[u8]) -> Result<R> {
    let place = Place::Record(id.entity());
    let record: R = decode(bytes).map_err(|source| Error::Malformed { place, source })?;
    if record.id() == id {
        Ok(record)
    } else {
        Err(Error::Malformed { place, source: Malformed::Misplaced { id: record.id().number() } })
    }
}

/// The ref that stands under a key; it must say so itself.
pub fn decode_ref(key: &RefKey, bytes: &[u8]) -> Result<RefRecord> {
    let (group, ordinal) = super::index::ref_of(key).expect("twelve bytes hold a group and an ordinal");
    let place = Place::Ref(group, ordinal);
    let record: RefRecord = decode(bytes).map_err(|source| Error::Malformed { place, source })?;
    if (record.group, record.ordinal) == (group, ordinal) {
        Ok(record)
    } else {
        Err(Error::Malformed { place, source: Malformed::Misplaced { id: record.group.0 } })
    }
}

/// The bytes of an entry of the `meta` table, which must have exactly this many.
fn entry<const LENGTH: usize>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &'static str,
) -> Result<[u8; LENGTH]> {
    let value = table.get(name)?;
    let bytes = value.as_ref().map(|value| value.value()).unwrap_or_default();
    bytes.try_into().map_err(|_| Error::Malformed {
        place: Place::Meta(name),
        source: Malformed::Length { found: bytes.len(), expected: LENGTH },
    })
}

/// The prepared group that stands under its machine; it must say so itself.
pub fn decode_prepared(machine: MachineId, bytes: &[u8]) -> Result<PreparedRecord> {
    let place = Place::Prepared(machine);
    let record: PreparedRecord = decode(bytes).map_err(|source| Error::Malformed { place, source })?;
    if record.machine == machine {
        Ok(record)
    } else {
        Err(Error::Malformed { place, source: Malformed::Misplaced { id: record.machine.0 } })
    }
}

/// One number of the `meta` table.
pub fn meta_number(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &'static str,
) -> Result<u64> {
    Ok(u64::from_be_bytes(entry(table, name)?))
}

/// The uuid of the pool.
pub fn meta_pool(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Uuid> {
    Ok(Uuid::from_bytes(entry(table, meta::POOL)?))
}

/// When the catalogue was created.
pub fn meta_created(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Timestamp> {
    Ok(Timestamp(i64::from_be_bytes(entry(table, meta::CREATED)?)))
}

/// The counters of the ids.
pub fn meta_next(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<[u64; Kind::ALL.len()]> {
    let bytes: [u8; 8 * Kind::ALL.len()] = entry(table, meta::NEXT)?;
    let (numbers, _) = bytes.as_chunks::<8>();
    let mut next = [0; Kind::ALL.len()];
    for (counter, number) in next.iter_mut().zip(numbers) {
        *counter = u64::from_be_bytes(*number);
    }
    Ok(next)
}

/// What the snapshots of a table take up together.
pub fn sum_snapshot_bytes(table: &impl ReadableTable<&'static IdKey, &'static [u8]>) -> Result<u64> {
    let mut sum = 0_u64;
    for entry in table.iter()? {
        let (key, value) = entry?;
        let snapshot: SnapshotRecord = decode_record(key_id(key.value()), value.value())?;
        sum = sum.saturating_add(snapshot.size.as_u64());
    }
    Ok(sum)
}

/// The bytes of the counters of the ids.
pub fn next_value(next: [u64; Kind::ALL.len()]) -> Vec<u8> {
    next.into_iter().flat_map(u64::to_be_bytes).collect()
}
