//! The index: which keys each record puts into it. A pure function of the record, so that a commit can change
//! exactly the difference between an old record and its successor, and `verify` can build it anew and compare.
//!
//! A key is `[index u8][value][tail]`; the tail is the id (u64), or for a ref its group and ordinal (u64, u32), big-endian.
//! A value is an id (u64), a uuid (16 bytes), a text, or nothing. A text is written with each zero byte as
//! `00 ff` and with `00 00` behind it. So no value is the beginning of another one, a scan over a prefix finds
//! exactly one value, and the keys of one value stand in the order of creation.

use super::id::{GroupId, LayerId, MachineId, SnapshotId, TreeId, VolumeId};
use super::kind::Id;
use super::record::{
    GroupRecord, LayerRecord, LayerState, MachineRecord, RefRecord, Settled, SnapshotRecord, Tags,
    TreeRecord, VolumeRecord,
};
use std::collections::BTreeSet;
use std::fmt;
use uuid::Uuid;

/// The keys of one record; each once.
pub type Keys = BTreeSet<Vec<u8>>;

/// The numbers of the indexes; they are in the file, so a number is never given to another index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Index {
    MachineByName = 0x10,
    VolumeByMachine = 0x20,
    VolumeByName = 0x21,
    VolumeByHead = 0x22,
    LayerByParent = 0x30,
    LayerByBlob = 0x31,
    LayerByVolume = 0x32,
    /// The value is nothing: the retired layers.
    LayerRetired = 0x33,
    /// The value is nothing: the layers whose files are to be removed.
    LayerGarbage = 0x34,
    /// The value is nothing: the layers whose headers are being written.
    LayerRewriting = 0x35,
    /// The value is nothing: the layers that are being filled.
    LayerBuilding = 0x36,
    /// The value is nothing: the layers whose files may not be durable, but for those that are to be removed.
    LayerUnsettled = 0x37,
    SnapshotByVolume = 0x40,
    SnapshotByLayer = 0x41,
    SnapshotByParent = 0x42,
    SnapshotByName = 0x43,
    SnapshotByTree = 0x44,
    SnapshotByGroup = 0x45,
    SnapshotByTagUuid = 0x46,
    SnapshotByUserTag = 0x47,
    SnapshotBySystemTag = 0x48,
    TreeByVolume = 0x50,
    GroupByMachine = 0x60,
    GroupByName = 0x61,
    GroupByParent = 0x62,
    GroupByTagUuid = 0x63,
    GroupByUserTag = 0x64,
    GroupBySystemTag = 0x65,
    /// By the id of the snapshot.
    RefBySnapshot = 0x70,
    /// By the uuid of a snapshot that is gone, which nothing else resolves any more.
    RefByGoneSnapshot = 0x71,
    /// By the uuid of the volume, so that it is found when the volume is gone, too.
    RefByVolume = 0x72,
}

/// What a key is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Nothing,
    Number(u64),
    Uuid(Uuid),
    Text(&'a str),
}

impl<I: Id> From<I> for Value<'_> {
    fn from(id: I) -> Self {
        Self::Number(id.number())
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Number(number) => number.fmt(f),
            Self::Uuid(uuid) => uuid.simple().fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What all keys of one value begin with.
pub fn prefix(index: Index, value: Value<'_>) -> Vec<u8> {
    let mut key = vec![index as u8];
    match value {
        Value::Nothing => {}
        Value::Number(number) => key.extend(number.to_be_bytes()),
        Value::Uuid(uuid) => key.extend(uuid.as_bytes()),
        Value::Text(text) => {
            for byte in text.bytes() {
                key.push(byte);
                if byte == 0 {
                    key.push(0xff);
                }
            }
            key.extend([0, 0]);
        }
    }
    key
}

/// The first key after all those that begin with `prefix`.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    let last = end.last_mut().expect("a prefix begins with the number of an index, and none of them is 0xff");
    *last += 1;
    end
}

/// The number of the id at the end of a key.
pub fn number_of(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|tail| u64::from_be_bytes(*tail))
}

/// The group and the ordinal at the end of the key of a ref.
pub fn ref_of(key: &[u8]) -> Option<(GroupId, u32)> {
    let (before, ordinal) = key.split_last_chunk()?;
    let group = before.last_chunk()?;
    Some((GroupId(u64::from_be_bytes(*group)), u32::from_be_bytes(*ordinal)))
}

/// Gathers the keys of one record, all with the same tail.
struct Gatherer {
    tail: Vec<u8>,
    keys: Keys,
}

impl Gatherer {
    fn of<I: Id>(id: I) -> Self {
        Self { tail: id.number().to_be_bytes().to_vec(), keys: Keys::new() }
    }

    fn put<'a>(&mut self, index: Index, value: impl Into<Value<'a>>) {
        let mut key = prefix(index, value.into());
        key.extend(&self.tail);
        self.keys.insert(key);
    }

    fn put_if<'a>(&mut self, index: Index, value: Option<impl Into<Value<'a>>>) {
        if let Some(value) = value {
            self.put(index, value);
        }
    }

    fn put_tags(&mut self, tags: &Tags, [tag_uuid, user, system]: [Index; 3]) {
        for uuid in &tags.tag_uuids {
            self.put(tag_uuid, Value::Uuid(*uuid));
        }
        for tag in &tags.user_tags {
            self.put(user, Value::Text(tag));
        }
        for tag in &tags.system_tags {
            self.put(system, Value::Text(tag));
        }
    }
}

impl MachineRecord {
    /// What the index holds about a machine.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<MachineId>(self.id);
        keys.put(Index::MachineByName, Value::Text(&self.name));
        keys.keys
    }
}

impl VolumeRecord {
    /// What the index holds about a volume.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<VolumeId>(self.id);
        for attachment in &self.attachments {
            keys.put(Index::VolumeByMachine, attachment.machine);
        }
        keys.put(Index::VolumeByName, Value::Text(&self.name));
        keys.put(Index::VolumeByHead, self.head);
        keys.keys
    }
}

impl LayerRecord {
    /// What the index holds about a layer.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<LayerId>(self.id);
        keys.put_if(Index::LayerByParent, self.parent);
        keys.put(Index::LayerByBlob, Value::Text(self.blob.as_str()));
        keys.put(Index::LayerByVolume, self.volume);
        match self.state {
            LayerState::Retired => keys.put(Index::LayerRetired, Value::Nothing),
            LayerState::Garbage => keys.put(Index::LayerGarbage, Value::Nothing),
            LayerState::Building => keys.put(Index::LayerBuilding, Value::Nothing),
            LayerState::Head | LayerState::Frozen => {}
        }
        if self.rewrite.is_some() {
            keys.put(Index::LayerRewriting, Value::Nothing);
        }
        if self.settled == Settled::No && self.state != LayerState::Garbage {
            keys.put(Index::LayerUnsettled, Value::Nothing);
        }
        keys.keys
    }
}

impl SnapshotRecord {
    /// What the index holds about a snapshot.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<SnapshotId>(self.id);
        keys.put(Index::SnapshotByVolume, self.volume);
        keys.put(Index::SnapshotByLayer, self.layer);
        keys.put_if(Index::SnapshotByParent, self.parent);
        keys.put(Index::SnapshotByName, Value::Text(&self.name));
        keys.put(Index::SnapshotByTree, self.tree);
        keys.put_if(Index::SnapshotByGroup, self.group);
        let tags = [Index::SnapshotByTagUuid, Index::SnapshotByUserTag, Index::SnapshotBySystemTag];
        keys.put_tags(&self.tags, tags);
        keys.keys
    }
}

impl TreeRecord {
    /// What the index holds about a tree.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<TreeId>(self.id);
        keys.put(Index::TreeByVolume, self.volume);
        keys.keys
    }
}

impl GroupRecord {
    /// What the index holds about a group.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<GroupId>(self.id);
        keys.put(Index::GroupByMachine, self.machine);
        keys.put(Index::GroupByName, Value::Text(&self.name));
        keys.put_if(Index::GroupByParent, self.parent);
        keys.put_tags(&self.tags, [Index::GroupByTagUuid, Index::GroupByUserTag, Index::GroupBySystemTag]);
        keys.keys
    }
}

impl RefRecord {
    /// What the index holds about a ref.
    pub fn index_keys(&self) -> Keys {
        let mut keys = Gatherer::of::<GroupId>(self.group);
        keys.tail.extend(self.ordinal.to_be_bytes());
        keys.put(Index::RefBySnapshot, self.snapshot);
        if self.snapshot_deleted {
            keys.put(Index::RefByGoneSnapshot, Value::Uuid(self.snapshot_uuid));
        }
        keys.put(Index::RefByVolume, Value::Uuid(self.volume_uuid));
        keys.keys
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn no_text_is_the_beginning_of_another_one() {
        let texts = ["", "a", "ab", "a\0", "a\0b", "\0", "\0\0", "\u{ff}", "a\u{1}"];
        for one in texts {
            let one_prefix = prefix(Index::GroupByName, Value::Text(one));
            for other in texts.into_iter().filter(|other| *other != one) {
                let other_prefix = prefix(Index::GroupByName, Value::Text(other));
                assert!(!other_prefix.starts_with(&one_prefix), "{one:?} begins {other:?}");
                assert_eq!(one < other, one_prefix < other_prefix, "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_its_keys_and_before_all_others() {
        for value in [Value::Number(u64::MAX), Value::Number(7), Value::Text("x"), Value::Nothing] {
            let start = prefix(Index::LayerByParent, value);
            let end = after(&start);
            for tail in [0, 1, u64::MAX] {
                let mut key = start.clone();
                key.extend(tail.to_be_bytes());
                assert!(start < key && key < end);
            }
            assert!(!end.starts_with(&start));
        }
        assert_eq!(after(&[0x30, 0xff, 0xff]), [0x31]);
        assert_eq!(after(&prefix(Index::LayerByParent, Value::Number(7))), [0x30, 0, 0, 0, 0, 0, 0, 0, 8]);
    }

    #[test]
    fn keys_are_written_in_these_bytes() {
        let mut record = layer(3, 2, Some(1), LayerState::Retired);
        record.blob = crate::storage::BlobName::parse("b").unwrap();
        let id = [0, 0, 0, 0, 0, 0, 0, 3];
        let mut expected = vec![
            vec![0x30, 0, 0, 0, 0, 0, 0, 0, 1],
            vec![0x31, b'b', 0, 0],
            vec![0x32, 0, 0, 0, 0, 0, 0, 0, 2],
            vec![0x33],
        ];
        expected.iter_mut().for_each(|key| key.extend(id));
        assert_eq!(record.index_keys().into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_layer_that_may_not_have_arrived_is_found_until_its_file_is_to_be_removed() {
        let mut record = layer(3, 2, None, LayerState::Frozen);
        let key = [&[0x37][..], &3_u64.to_be_bytes()].concat();
        assert!(!record.index_keys().contains(&key));
        record.settled = Settled::No;
        assert!(record.index_keys().contains(&key));
        record.state = LayerState::Garbage;
        assert!(!record.index_keys().contains(&key));
    }

    #[test]
    fn a_tag_given_twice_is_one_key() {
        let mut record = group(1, 1, 0, None);
        let without = record.index_keys().len();
        record.tags.user_tags = vec![String::from("x"), String::from("x")];
        assert_eq!(record.index_keys().len(), without + 1);
    }

    #[test]
    fn the_tail_of_a_key_is_found_again() {
        let disk = volume(1, 1, 0, 12);
        let record = member(5, 2, &snapshot(10, &disk, 10, None, Some(5)), &disk);
        for key in record.index_keys() {
            assert_eq!(ref_of(&key), Some((GroupId(5), 2)));
        }
        for key in machine(9).index_keys() {
            assert_eq!(number_of(&key), Some(9));
        }
    }
}
