//! The marks of the active tables: set if and only if the refcount is 1 (qcow2 specification, cluster mapping).

use super::super::check::References;
use super::super::error::Result;
use super::Subject;
use crate::format::{Copied, L1Entry, L2Entry};
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
            for (place, raw) in self.entries(at, geometry.cluster_size())? {
                let entry = match L2Entry::decode(raw, 0, geometry, self.header.version) {
                    Ok(L2Entry::Data { at, copied }) if copied != mark_of(at) => {
                        L2Entry::Data { at, copied: mark_of(at) }
                    }
                    Ok(L2Entry::Zero { allocation: Some(at), copied }) if copied != mark_of(at) => {
                        L2Entry::Zero { allocation: Some(at), copied: mark_of(at) }
                    }
                    _ => continue,
                };
                each(place, entry.encode(geometry).0)?;
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
