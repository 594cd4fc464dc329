//! What a layer's file knows of the catalogue: what follows the ids in the payload of our header extension.
//!
//! ```text
//! bytes 56-63    generation in which the content was last changed from below the guest; all ones while it is filled
//! bytes 64-71    generation of the catalogue that these notes were written in
//! bytes 72-79    number of the layer: heads made later have larger ones
//! bytes 80-87    generation that notes above must be as young as
//! bytes 88-103   layer that this one reads through to, zeros when none
//! bytes 104-119  machine that had the volume, zeros when none
//! bytes 120-123  device id there
//! byte  124      kind of the volume: 1 root, 2 data, 3 memory, 0 unknown
//! byte  125      1 shareable volume, 2 adopted file, 4 the file below has no ids, 8 claims are missing
//! bytes 126-127  number of claims
//! bytes 128-129  length of the names
//! bytes 130-131  zero
//! bytes 132-135  CRC-32 of bytes 8-55, 64-131 and from 136 to the end of the names
//! bytes 136-     claims, 104 bytes each; then the names; then room
//!
//! claim    0-15  layer                     80-87    when the snapshot was taken, milliseconds since 1970
//!         16-31  snapshot that it holds    88-91    members of the group when it was taken
//!         32-47  volume of the snapshot    92-95    place in the group
//!         48-63  group, zeros when none    96-99    device id then
//!         64-79  machine of the group      100      kind of the volume; 101-103 zero
//!
//! names   of the volume, of the machine, then for each claim of the snapshot and of the group; each two bytes of
//!         length and so many of text; the last ones are absent where there is no room for them
//! ```
//! All numbers are big-endian. Only bytes 56 to 63 are ever changed on their own: they lie in one sector, since
//! extensions are aligned to 8 bytes, and no checksum covers them.

use super::bytes::Record;
use super::error::Error;
use super::identity::LayerIdentity;

const CHANGED: usize = 56;
const WRITTEN: usize = 64;
const CRC: usize = 132;
const FIXED: usize = 136;
const CLAIM: usize = 104;
/// The ids are checked, too: notes are never believed of another layer.
const IDS: usize = 8;
/// More than this is never written.
const LENGTH_MAX: usize = 32_768;

const SHAREABLE: u8 = 1;
const ADOPTED: u8 = 2;
const ABOVE_BASE: u8 = 4;
const CUT: u8 = 8;

/// What a layer's file knows of the catalogue: hints for the day on which it is lost, read at no other time.
#[doc = include_str!("examples/notes.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerNotes {
    /// The generation of the catalogue in which the content was last changed by a merge, or
    /// [`LayerNotes::BEING_FILLED`].
    pub changed: u64,
    /// The generation of the catalogue that these notes were written in.
    pub written: u64,
    /// The number of the layer: of two heads of a volume the one that was made later has the larger one.
    pub number: u64,
    /// Notes of files above this one that are older than this generation are of files that it has taken the place of.
    pub floor: u64,
    /// The layer that this one reads through to.
    pub parent: Option<[u8; 16]>,
    /// Whether the file below has no ids of its own, since nothing is ever written to it.
    pub above_base: bool,
    /// Whether the file was there before the pool had it: its name is not made of the layer's id.
    pub adopted: bool,
    /// The machine that had the volume.
    pub machine: Option<[u8; 16]>,
    /// The device id of the volume there.
    pub device_id: u32,
    /// The kind of the volume: 1 root, 2 data, 3 memory, 0 unknown.
    pub kind: u8,
    /// Whether several machines may have the volume.
    pub shareable: bool,
    /// The name of the volume; empty when it is not known.
    pub volume_name: String,
    /// The name of the machine; empty when it is not known.
    pub machine_name: String,
    /// Which layers hold which snapshots, as far as this file was told: first what the layer below holds.
    pub claims: Vec<SnapshotClaim>,
    /// Whether there was no room for all claims. Set by [`LayerNotes::encode`].
    pub cut: bool,
}

/// That a layer holds a snapshot. True as long as the layer was not changed after this was written.
///
/// An example is at [`LayerNotes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotClaim {
    /// The layer.
    pub layer: [u8; 16],
    /// The snapshot.
    pub snapshot: [u8; 16],
    /// The volume that it is of.
    pub volume: [u8; 16],
    /// The group that it was taken in.
    pub group: Option<[u8; 16]>,
    /// The machine of the group.
    pub machine: [u8; 16],
    /// When it was taken, in milliseconds since 1970.
    pub created: i64,
    /// How many members the group had.
    pub members: u32,
    /// Its place in the group.
    pub ordinal: u32,
    /// The device id of the volume then.
    pub device_id: u32,
    /// The kind of the volume: 1 root, 2 data, 3 memory, 0 unknown.
    pub kind: u8,
    /// The name of the snapshot; empty when there was no room for it.
    pub name: String,
    /// The name of the group; empty when there was no room for it.
    pub group_name: String,
}

impl LayerNotes {
    /// Where in the payload [`LayerNotes::changed`] is.
    pub const CHANGED_AT: usize = CHANGED;
    /// The value of [`LayerNotes::changed`] in a file that is not whole yet.
    pub const BEING_FILLED: u64 = u64::MAX;

    /// The payload of the extension, ids and notes, in at most `room` bytes: without the last names when they do not
    /// fit, then without the last claims; without any notes when there is no room for them.
    #[must_use]
    pub fn encode(&self, identity: &LayerIdentity, room: usize) -> Vec<u8> {
        let mut bytes = identity.encode();
        let room = room.min(LENGTH_MAX);
        if room < FIXED {
            return bytes;
        }
        let fitting = (room - FIXED) / CLAIM;
        let claims = &self.claims[..self.claims.len().min(fitting)];
        let names = self.names(claims, room - FIXED - claims.len() * CLAIM);
        for number in [self.changed, self.written, self.number, self.floor] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.parent.unwrap_or_default());
        bytes.extend(self.machine.unwrap_or_default());
        bytes.extend(self.device_id.to_be_bytes());
        let cut = self.cut || claims.len() < self.claims.len();
        let flags =
            [(self.shareable, SHAREABLE), (self.adopted, ADOPTED), (self.above_base, ABOVE_BASE), (cut, CUT)];
        bytes.push(self.kind);
        bytes.push(flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag));
        let short = |length: usize| u16::try_from(length).expect("the whole is at most 32 KiB");
        bytes.extend(short(claims.len()).to_be_bytes());
        bytes.extend(short(names.len()).to_be_bytes());
        bytes.extend([0; 6]);
        debug_assert_eq!(bytes.len(), FIXED);
        claims.iter().for_each(|claim| claim.encode(&mut bytes));
        bytes.extend(names);
        let crc = checksum(&bytes, bytes.len());
        bytes[CRC..FIXED].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// As many of the names as fit.
    fn names(&self, claims: &[SnapshotClaim], room: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let of_claims = claims.iter().flat_map(|claim| [&claim.name, &claim.group_name]);
        for name in [&self.volume_name, &self.machine_name].into_iter().chain(of_claims) {
            let length = u16::try_from(name.len()).ok().filter(|_| bytes.len() + 2 + name.len() <= room);
            let Some(length) = length else { break };
            bytes.extend(length.to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    /// Reads the notes of a payload; `None` when there are none, or when they do not pass their checksum.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        Self::read(Record::new("layer notes", payload), payload).ok().flatten()
    }

    fn read(record: Record<'_>, payload: &[u8]) -> Result<Option<Self>, Error> {
        let count = usize::from(record.u16(126)?);
        let names_length = usize::from(record.u16(128)?);
        let end = FIXED + count * CLAIM + names_length;
        record.slice(0, end)?;
        if record.u32(CRC)? != checksum(payload, end) {
            return Ok(None);
        }
        let mut names = Names(record.slice(FIXED + count * CLAIM, names_length)?);
        let volume_name = names.take();
        let machine_name = names.take();
        let mut claims = Vec::with_capacity(count);
        for index in 0..count {
            let at = FIXED + index * CLAIM;
            let claim = SnapshotClaim::read(Record::new("snapshot claim", record.slice(at, CLAIM)?))?;
            claims.push(SnapshotClaim { name: names.take(), group_name: names.take(), ..claim });
        }
        let flags = record.u8(125)?;
        let has = |flag| flags & flag != 0;
        Ok(Some(Self {
            changed: record.u64(CHANGED)?,
            written: record.u64(WRITTEN)?,
            number: record.u64(72)?,
            floor: record.u64(80)?,
            parent: known(record.array(88)?),
            above_base: has(ABOVE_BASE),
            adopted: has(ADOPTED),
            machine: known(record.array(104)?),
            device_id: record.u32(120)?,
            kind: record.u8(124)?,
            shareable: has(SHAREABLE),
            volume_name,
            machine_name,
            claims,
            cut: has(CUT),
        }))
    }
}

impl SnapshotClaim {
    fn encode(&self, bytes: &mut Vec<u8>) {
        for id in [self.layer, self.snapshot, self.volume, self.group.unwrap_or_default(), self.machine] {
            bytes.extend(id);
        }
        bytes.extend(self.created.to_be_bytes());
        for number in [self.members, self.ordinal, self.device_id] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend([self.kind, 0, 0, 0]);
    }

    fn read(record: Record<'_>) -> Result<Self, Error> {
        Ok(Self {
            layer: record.array(0)?,
            snapshot: record.array(16)?,
            volume: record.array(32)?,
            group: known(record.array(48)?),
            machine: record.array(64)?,
            created: i64::from_be_bytes(record.array(80)?),
            members: record.u32(88)?,
            ordinal: record.u32(92)?,
            device_id: record.u32(96)?,
            kind: record.u8(100)?,
            name: String::new(),
            group_name: String::new(),
        })
    }
}

/// An id, when it is not all zeros.
fn known(id: [u8; 16]) -> Option<[u8; 16]> {
    (id != [0; 16]).then_some(id)
}

fn checksum(payload: &[u8], end: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for range in [IDS..CHANGED, WRITTEN..CRC, FIXED..end] {
        hasher.update(&payload[range]);
    }
    hasher.finalize()
}

/// The names that are left; empty ones when they have come to an end.
struct Names<'a>(&'a [u8]);

impl Names<'_> {
    fn take(&mut self) -> String {
        let cut = self
            .0
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let (name, rest) = cut.unwrap_or_default();
        self.0 = rest;
        String::from_utf8_lossy(name).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: LayerIdentity = LayerIdentity { pool: [1; 16], volume: [2; 16], layer: [3; 16] };

    fn notes() -> LayerNotes {
        let claim = SnapshotClaim {
            layer: [5; 16],
            snapshot: [6; 16],
            volume: [7; 16],
            group: Some([8; 16]),
            machine: [9; 16],
            created: -11,
            members: 12,
            ordinal: 13,
            device_id: 14,
            kind: 1,
            name: "first".into(),
            group_name: "grüppe".into(),
        };
        LayerNotes {
            changed: 19,
            written: 18,
            number: 15,
            floor: 17,
            parent: Some([4; 16]),
            above_base: true,
            adopted: false,
            machine: Some([16; 16]),
            device_id: 17,
            kind: 2,
            shareable: true,
            volume_name: "disk".into(),
            machine_name: "web".into(),
            claims: vec![claim.clone(), SnapshotClaim { group: None, name: String::new(), ..claim }],
            cut: false,
        }
    }

    #[test]
    fn notes_are_read_as_they_were_written_and_the_ids_before_them_as_ever() -> Result<(), Error> {
        let bytes = notes().encode(&IDENTITY, 4096);
        assert_eq!(LayerNotes::parse(&bytes), Some(notes()));
        assert_eq!(LayerIdentity::parse(&bytes)?, IDENTITY);
        let others = LayerNotes { above_base: false, adopted: true, shareable: false, cut: true, ..notes() };
        assert_eq!(LayerNotes::parse(&others.encode(&IDENTITY, 4096)), Some(others));
        Ok(())
    }

    #[test]
    fn the_fixed_part_has_these_bytes() {
        let plain = LayerNotes { claims: Vec::new(), ..notes() };
        let bytes = plain.encode(&IDENTITY, FIXED);
        let mut golden = IDENTITY.encode();
        for number in [19_u64, 18, 15, 17] {
            golden.extend(number.to_be_bytes());
        }
        golden.extend([4; 16]);
        golden.extend([16; 16]);
        golden.extend([0, 0, 0, 17, 2, 5, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[..CRC], golden);
        assert_eq!(bytes.len(), FIXED);
    }

    #[test]
    fn what_does_not_fit_is_left_out_names_first_and_claims_from_the_end() {
        let parse = |room| LayerNotes::parse(&notes().encode(&IDENTITY, room));
        for room in 0..1000 {
            assert!(notes().encode(&IDENTITY, room).len() <= room.max(56), "{room}");
        }
        let with_one_name = parse(FIXED + 2 * CLAIM + 6).expect("two claims fit");
        assert_eq!((with_one_name.volume_name.as_str(), with_one_name.machine_name.as_str()), ("disk", ""));
        let without_names = parse(FIXED + 2 * CLAIM).expect("two claims fit");
        assert_eq!((without_names.claims.len(), without_names.volume_name.as_str()), (2, ""));
        assert!(!without_names.cut);
        let cut = parse(FIXED + 2 * CLAIM - 1).expect("one claim fits");
        assert_eq!((cut.claims.len(), cut.cut), (1, true));
        assert_eq!(parse(FIXED).map(|notes| notes.claims.len()), Some(0));
        assert_eq!(parse(FIXED - 1), None);
    }

    #[test]
    fn a_flipped_bit_voids_the_notes_unless_it_is_in_the_generation_of_the_last_change() {
        let bytes = notes().encode(&IDENTITY, 4096);
        for bit in IDS * 8..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let in_place = (CHANGED..WRITTEN).contains(&(bit / 8));
            assert_eq!(LayerNotes::parse(&flipped).is_some(), in_place, "bit {bit}");
        }
    }

    #[test]
    fn no_cut_payload_is_taken_for_notes() {
        let bytes = notes().encode(&IDENTITY, 4096);
        for length in 0..bytes.len() {
            assert_eq!(LayerNotes::parse(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn never_more_is_written_than_others_leave_room_for() {
        let mut many = notes();
        many.claims = vec![many.claims[0].clone(); 1000];
        let bytes = many.encode(&IDENTITY, usize::MAX);
        assert!(bytes.len() <= LENGTH_MAX, "{}", bytes.len());
        assert!(LayerNotes::parse(&bytes).is_some_and(|notes| notes.cut && notes.claims.len() > 200));
    }
}
