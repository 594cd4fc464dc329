//! The marks of the active tables: set if and only if the refcount is 1 (qcow2 specification, cluster mapping).

use super::super::check::References;
use super::super::error::Result;
use super::Subject;
use crate::format::{Copied, L1Entry, L2Entry, Subclusters};
use crate::units::{ByteCount, HostOffset};

impl Subject<'_> {
    /// How many marks are wrong.
    pub(super) fn wrong_marks(&self, references: &References) -> Result<u64> {
        let mut wrong = 0;
        self.each_wrong_mark(references, &mut |_, _| {
            wrong += 1;
            Ok(())
        })?;
        Ok(wrong)
    }

    /// Puts every mark right that is wrong.
    pub(super) fn mend_marks(&self, references: &References) -> Result<()> {
        let mut wrote = false;
        self.each_wrong_mark(references, &mut |at, entry| {
            wrote = true;
            Ok(self.blob.write_at(at, &entry.to_be_bytes())?)
        })?;
        if wrote {
            self.blob.sync()?;
        }
        Ok(())
    }

    /// Names every entry whose mark is wrong: where it lies, and what it is to be. Nothing else of it changes.
    fn each_wrong_mark(
        &self,
        references: &References,
        each: &mut dyn FnMut(HostOffset, u64) -> Result<()>,
    ) -> Result<()> {
        let geometry = self.header.geometry;
        let mark_of = |at: HostOffset| match references.of_others(geometry.host_cluster(at)) {
            1 => Copied::Yes,
            _ => Copied::No,
        };
        let l1 = self.header.l1_table;
        for (place, raw) in self.entries(l1, ByteCount::new(u64::from(self.header.l1_entries) * 8))? {
            let Ok(L1Entry::Table { at, copied }) = L1Entry::decode(raw, geometry) else { continue };
            if copied != mark_of(at) {
                each(place, L1Entry::Table { at, copied: mark_of(at) }.encode())?;
            }
            let words = self.entries(at, geometry.cluster_size())?;
            for entry in words.chunks_exact(geometry.l2_entry_size() / L1Entry::SIZE) {
                let ((place, raw), bitmap) = (entry[0], entry.get(1).map_or(0, |(_, bitmap)| *bitmap));
                let decoded = L2Entry::decode(raw, bitmap, geometry, self.header.version);
                let Ok(Some(there)) = decoded.map(|entry| entry.subclusters(geometry)) else { continue };
                let Some(at) = there.at.filter(|at| there.copied != mark_of(*at)) else { continue };
                // The mark is in the first word, whichever the width.
                let marked = Subclusters { copied: mark_of(at), ..there };
                each(place, marked.entry(geometry).encode(geometry).0)?;
            }
        }
        Ok(())
    }

    /// The entries of a table, each with its place.
    fn entries(&self, at: HostOffset, length: ByteCount) -> Result<Vec<(HostOffset, u64)>> {
        if length.is_zero() {
            return Ok(Vec::new());
        }
        let bytes = self.read(at, length)?;
        let entries = bytes.chunks_exact(8).enumerate();
        Ok(entries
            .map(|(index, raw)| {
                let raw = u64::from_be_bytes(raw.try_into().expect("eight bytes"));
                (at + ByteCount::of(index * 8), raw)
            })
            .collect())
    }
}
