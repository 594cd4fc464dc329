//! How a record is written: one byte that says in which version, then the record.
//!
//! It is postcard: fields in the order of the struct, numbers as varints, an absent value as one zero byte. So a field
//! added, removed, moved or retyped is a new version; the golden bytes below stand guard. What is not understood to
//! its last byte is refused, never guessed at.
//!
//! | version | since |
//! |---|---|
//! | 1 | the first one |
//! | 2 | a layer ends with the header that is being written and with what it has taken in, a snapshot with its holds; in version 1 there are none |
//! | 3 | a layer ends with the kind of its L2 entries; in version 2 they are standard ones |
//! | 4 | a layer ends with its seal; in version 3 there is none |
//! | 5 | a volume ends with its own longest chain; in version 4 there is none. A group may have frozen file systems; groups that are prepared are there |
//! | 6 | a layer ends with whether its file is durable; in version 5 it is |

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is written.
const VERSION: u8 = 6;
/// The first version; all of them are read.
const VERSION_FIRST: u8 = 1;
/// How many fields a record has got since at most.
const ADDED_MAX: usize = 5;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// There are none.
    #[error("there are no bytes")]
    Empty,
    /// They are in a version that is not understood.
    #[error("it is written in version {found}, not {VERSION}")]
    Version {
        /// Their version.
        found: u8,
    },
    /// They end early or hold a value that the type does not have.
    #[error("its fields do not decode")]
    Fields {
        /// What the decoder said.
        source: postcard::Error,
    },
    /// They go on after the record.
    #[error("{count} bytes follow it")]
    Trailing {
        /// How many bytes follow.
        count: usize,
    },
    /// A value of fixed length has another one.
    #[error("it is {found} bytes long, not {expected}")]
    Length {
        /// Its length.
        found: usize,
        /// The length that it must have.
        expected: usize,
    },
    /// It stands under a key that is not its own.
    #[error("it says to be {id}")]
    Misplaced {
        /// The number that it says to have.
        id: u64,
    },
    /// A number that has no meaning.
    #[error("{found} has no meaning here")]
    Number {
        /// The number.
        found: u8,
    },
}

/// The bytes of a record.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION])
        .expect("a record holds only types that know their length, and memory takes any number of bytes")
}

/// The record in these bytes.
///
/// # Errors
///
/// [`Malformed`], which says which rule is broken.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match bytes {
        [] => Err(Malformed::Empty),
        [VERSION, fields @ ..] => decode_fields(fields),
        // What was added since is absent, which is one zero byte, or the record is as it was.
        [VERSION_FIRST..VERSION, fields @ ..] => (1..=ADDED_MAX)
            .fold(decode_fields(fields), |found, added| {
                found.or_else(|_| decode_fields(&[fields, &[0; ADDED_MAX][..added]].concat()))
            }),
        [found, ..] => Err(Malformed::Version { found: *found }),
    }
}

fn decode_fields<T: DeserializeOwned>(fields: &[u8]) -> Result<T, Malformed> {
    let (record, rest) = postcard::take_from_bytes(fields).map_err(|source| Malformed::Fields { source })?;
    if rest.is_empty() { Ok(record) } else { Err(Malformed::Trailing { count: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::*;
    use super::*;
    use crate::storage::BlobName;
    use crate::units::ByteCount;
    use std::fmt::{Debug, Write};
    use uuid::Uuid;

    /// One record of each kind, with every optional field present, as it is written.
    macro_rules! for_each_record {
        ($do:ident) => {
            $do(full_machine());
            $do(full_volume());
            $do(full_layer());
            $do(full_snapshot());
            $do(tree(5, 2, Some(4)));
            $do(full_group());
            $do(member(6, 1, &full_snapshot(), &volume(2, 1, 0, 3)));
            $do(full_prepared());
        };
    }

    fn full_machine() -> MachineRecord {
        let mut record = machine(1);
        (record.description, record.group_current) = (Some(String::from("web")), Some(GroupId(300)));
        record
    }

    fn full_volume() -> VolumeRecord {
        VolumeRecord { chain_max: Some(300), ..volume(2, 1, 0, 3) }
    }

    fn tags() -> Tags {
        Tags {
            tag_uuids: vec![Uuid::from_u128(0xfeed)],
            user_tags: vec![String::from("nightly")],
            system_tags: vec![String::from("s")],
        }
    }

    fn full_snapshot() -> SnapshotRecord {
        let mut record = snapshot(4, &volume(2, 1, 0, 3), 3, Some(2), Some(6));
        (record.description, record.tags) = (Some(String::from("d")), tags());
        record.holds = vec![String::from("backup")];
        record
    }

    fn full_layer() -> LayerRecord {
        let mut record = layer(3, 2, Some(1), LayerState::Retired);
        record.rewrite = Some(HeaderRewrite {
            header: vec![0x51, 0x46, 0x49, 0xfb],
            parent: Some(LayerId(9)),
            backing_label: Some(String::from("layer-9.qcow2")),
        });
        record.taken_in = Some(TakenIn { from: LayerId(7), up_to: 300 });
        record.l2 = L2Entries::Extended;
        record.seal = Some(Seal {
            blob: BlobName::parse("seal-3.sums").unwrap(),
            length: ByteCount::kib(1),
            checksum: 0xdead_beef,
            file_length: ByteCount::mib(1),
            file_identity: (300, 7),
            file_stamp: Some(1_000),
            sealed: Timestamp(3_000),
        });
        record.settled = Settled::No;
        record
    }

    fn full_group() -> GroupRecord {
        let mut record = group(6, 1, 2, Some(5));
        record.tags = tags();
        record
    }

    fn full_prepared() -> PreparedRecord {
        PreparedRecord {
            machine: MachineId(1),
            group: Uuid::from_u128(0x6060),
            name: String::from("live"),
            description: Some(String::from("d")),
            left_out: vec![Uuid::from_u128(0xbeef)],
            tags: tags(),
            wish: WishMark(300),
            cluster_bits: 16,
            members: vec![PreparedMember {
                volume: VolumeId(2),
                snapshot: Uuid::from_u128(1),
                layer: Uuid::from_u128(2),
                tree: Uuid::from_u128(3),
                blob: BlobName::parse("layer-2.qcow2").unwrap(),
            }],
            created: Timestamp(3_000),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    const GOLDEN_MACHINE: &str = "06011001a5a5a5a5a5a5a50000000000000001096d616368696e652d3101037765\
        620001ac02d00fa01f";
    const GOLDEN_VOLUME: &str = "06021002a5a5a5a5a5a5a5000000000000000208766f6c756d652d320106612064\
        69736b0000010100b8178080808004030000d00fa01f01ac02";
    const V4_VOLUME: &str = "04021002a5a5a5a5a5a5a5000000000000000208766f6c756d652d320106612064\
        69736b0000010100b8178080808004030000d00fa01f";
    const GOLDEN_LAYER: &str = "06031003a5a5a5a5a5a5a500000000000000030d6c617965722d332e71636f773200020101010d6c6179\
        65722d312e71636f77328080808004100200d00f0104514649fb0109010d6c617965722d392e71636f77\
        320107ac0201010b7365616c2d332e73756d738008effdb6f50d808040ac020701e807f02e01";
    const V5_LAYER: &str = "05031003a5a5a5a5a5a5a500000000000000030d6c617965722d332e71636f773200020101010d6c6179\
        65722d312e71636f77328080808004100200d00f0104514649fb0109010d6c617965722d392e71636f77\
        320107ac0201010b7365616c2d332e73756d738008effdb6f50d808040ac020701e807f02e";
    const V3_LAYER: &str = "03031003a5a5a5a5a5a5a500000000000000030d6c617965722d332e71636f773200020101010d6c6179\
        65722d312e71636f77328080808004100200d00f0104514649fb0109010d6c617965722d392e71636f77\
        320107ac0201";
    const V2_LAYER: &str = "02031003a5a5a5a5a5a5a500000000000000030d6c617965722d332e71636f773200020101010d6c\
        617965722d312e71636f77328080808004100200d00f0104514649fb0109010d6c617965722d392e71636f77320107ac02";
    const GOLDEN_SNAPSHOT: &str = "06041004a5a5a5a5a5a5a500000000000000040a736e617073686f742d340101\
        64021002a5a5a5a5a5a5a500000000000000020002010203018080c00180808080040106011000000000000000\
        00000000000000feed01076e696768746c7901017307f02ef02e01066261636b7570";
    const V1_LAYER: &str = "01031003a5a5a5a5a5a5a500000000000000030d6c617965722d332e71636f773200020101010d6c6179\
        65722d312e71636f77328080808004100200d00f";
    const V1_SNAPSHOT: &str = "01041004a5a5a5a5a5a5a500000000000000040a736e617073686f742d34010164021002a5a5a5a5a5a5\
        a500000000000000020002010203018080c0018080808004010601100000000000000000000000000000\
        feed01076e696768746c7901017307f02ef02e";
    const GOLDEN_PREPARED: &str = "06011000000000000000000000000000006060046c697665010164011000000000000000000000000000\
        00beef01100000000000000000000000000000feed01076e696768746c79010173ac0210010210000000\
        000000000000000000000000011000000000000000000000000000000002100000000000000000000000\
        00000000030d6c617965722d322e71636f7732f02e";
    const GOLDEN_TREE: &str = "06051005a5a5a5a5a5a5a50000000000000005020104d00fa01f";
    const GOLDEN_GROUP: &str = "06061006a5a5a5a5a5a5a500000000000000060767726f75702d3601126265666f72\
        65207468652075706772616465011001a5a5a5a5a5a5a500000000000000010201050000011000000000000000\
        00000000000000feed01076e696768746c7901017309f02ef02e";
    const GOLDEN_REF: &str = "060601041004a5a5a5a5a5a5a500000000000000040a736e617073686f742d34000002\
        1002a5a5a5a5a5a5a5000000000000000208766f6c756d652d32000d6c617965722d332e71636f7732b817f02e\
        f02e";

    #[test]
    fn records_are_written_in_these_bytes() {
        assert_eq!(hex(&encode(&full_machine())), GOLDEN_MACHINE);
        assert_eq!(hex(&encode(&full_volume())), GOLDEN_VOLUME);
        assert_eq!(hex(&encode(&full_layer())), GOLDEN_LAYER);
        assert_eq!(hex(&encode(&full_snapshot())), GOLDEN_SNAPSHOT);
        assert_eq!(hex(&encode(&tree(5, 2, Some(4)))), GOLDEN_TREE);
        assert_eq!(hex(&encode(&full_group())), GOLDEN_GROUP);
        assert_eq!(hex(&encode(&member(6, 1, &full_snapshot(), &volume(2, 1, 0, 3)))), GOLDEN_REF);
        assert_eq!(hex(&encode(&full_prepared())), GOLDEN_PREPARED);
    }

    fn bytes(text: &str) -> Vec<u8> {
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
        (0..text.len()).step_by(2).map(pair).collect()
    }

    #[test]
    fn records_of_version_4_are_read() {
        fn check<T: DeserializeOwned + PartialEq + Debug>(golden: &str, record: T) {
            let bytes = bytes(&format!("04{}", &golden[2..]));
            assert_eq!(decode::<T>(&bytes).unwrap(), record);
        }
        check(V4_VOLUME, volume(2, 1, 0, 3));
        check(GOLDEN_MACHINE, full_machine());
        check(V5_LAYER, LayerRecord { settled: Settled::Yes, ..full_layer() });
        check(GOLDEN_GROUP, full_group());
    }

    #[test]
    fn records_of_version_5_are_read() {
        let before = LayerRecord { settled: Settled::Yes, ..full_layer() };
        assert_eq!(decode::<LayerRecord>(&bytes(V5_LAYER)).unwrap(), before);
        let volume_bytes = bytes(&format!("05{}", &GOLDEN_VOLUME[2..]));
        assert_eq!(decode::<VolumeRecord>(&volume_bytes).unwrap(), full_volume());
    }

    #[test]
    fn a_consistency_is_written_as_the_number_that_it_got_when_it_came_to_be() {
        let written = |consistency| encode(&consistency)[1];
        assert_eq!(written(Consistency::Crash), 0);
        assert_eq!(written(Consistency::Application), 1);
        assert_eq!(written(Consistency::FileSystem), 2);
    }

    #[test]
    fn records_of_versions_2_and_3_are_read() {
        let before = LayerRecord { seal: None, settled: Settled::Yes, ..full_layer() };
        assert_eq!(decode::<LayerRecord>(&bytes(V3_LAYER)).unwrap(), before);
        let before = LayerRecord { l2: L2Entries::Standard, ..before };
        assert_eq!(decode::<LayerRecord>(&bytes(V2_LAYER)).unwrap(), before);
        let snapshot_bytes = bytes(&format!("02{}", &GOLDEN_SNAPSHOT[2..]));
        assert_eq!(decode::<SnapshotRecord>(&snapshot_bytes).unwrap(), full_snapshot());
    }

    #[test]
    fn records_of_version_1_are_read() {
        let before = layer(3, 2, Some(1), LayerState::Retired);
        assert_eq!(decode::<LayerRecord>(&bytes(V1_LAYER)).unwrap(), before);
        let before = SnapshotRecord { holds: Vec::new(), ..full_snapshot() };
        assert_eq!(decode::<SnapshotRecord>(&bytes(V1_SNAPSHOT)).unwrap(), before);
        let tree_bytes = bytes(&format!("01{}", &GOLDEN_TREE[2..]));
        assert_eq!(decode::<TreeRecord>(&tree_bytes).unwrap(), tree(5, 2, Some(4)));
    }

    #[test]
    fn what_is_written_is_read() {
        fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: T) {
            assert_eq!(decode::<T>(&encode(&record)).unwrap(), record);
        }
        for_each_record!(check);
    }

    #[test]
    fn every_truncation_is_refused() {
        #[expect(clippy::needless_pass_by_value, reason = "one record of each type is handed over")]
        fn check<T: Serialize + DeserializeOwned + Debug>(record: T) {
            let bytes = encode(&record);
            assert_eq!(decode::<T>(&[]).unwrap_err(), Malformed::Empty);
            for length in 1..bytes.len() {
                let Err(Malformed::Fields { .. }) = decode::<T>(&bytes[..length]) else {
                    panic!("{length} of {} bytes were taken for {record:?}", bytes.len());
                };
            }
        }
        for_each_record!(check);
    }

    #[test]
    fn no_flipped_bit_panics() {
        #[expect(clippy::needless_pass_by_value, reason = "one record of each type is handed over")]
        fn check<T: Serialize + DeserializeOwned + Debug>(record: T) {
            let bytes = encode(&record);
            for at in 0..bytes.len() {
                for flip in 1..=u8::MAX {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    let decoded = decode::<T>(&bytes);
                    if at == 0 {
                        match VERSION ^ flip {
                            // What earlier versions may leave out, no record here leaves out.
                            VERSION_FIRST..VERSION => drop(decoded),
                            found => assert_eq!(decoded.unwrap_err(), Malformed::Version { found }),
                        }
                    }
                }
            }
        }
        for_each_record!(check);
    }

    #[test]
    fn bytes_behind_a_record_are_refused() {
        let mut bytes = encode(&machine(1));
        bytes.extend([0, 0]);
        assert_eq!(decode::<MachineRecord>(&bytes).unwrap_err(), Malformed::Trailing { count: 2 });
    }
}
