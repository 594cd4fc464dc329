//! Records one after the other: lazily, in the order of creation, forwards and backwards. They cost what is taken.

use super::error::{Place, Result};
use super::index;
use super::kind::{Id, Record};
use super::reader::{Reader, short_key};
use super::tables::{self, IdKey};
use redb::{AccessGuard, Range};
use std::fmt;
use std::marker::PhantomData;

/// Records of one kind in the order of their ids.
pub struct Records<R> {
    range: Range<'static, &'static IdKey, &'static [u8]>,
    record: PhantomData<R>,
}

impl<R> Records<R> {
    pub(super) fn new(range: Range<'static, &'static IdKey, &'static [u8]>) -> Self {
        Self { range, record: PhantomData }
    }
}

impl<R> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

/// What a range of a table of records yields.
type Entry = redb::Result<(AccessGuard<'static, &'static IdKey>, AccessGuard<'static, &'static [u8]>)>;

/// Decodes one entry of a table of records.
fn record_at<R: Record>(entry: Entry) -> Result<R> {
    let (key, value) = entry?;
    tables::decode_record(tables::key_id(key.value()), value.value())
}

impl<R: Record> Iterator for Records<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.range.next().map(record_at)
    }
}

impl<R: Record> DoubleEndedIterator for Records<R> {
    fn next_back(&mut self) -> Option<Result<R>> {
        self.range.next_back().map(record_at)
    }
}

/// Records that stand in an index under one value, in the order of their ids.
pub struct Found<'r, R> {
    reader: &'r Reader,
    range: Range<'static, &'static [u8], ()>,
    record: PhantomData<R>,
}

impl<'r, R> Found<'r, R> {
    pub(super) fn new(reader: &'r Reader, range: Range<'static, &'static [u8], ()>) -> Self {
        Self { reader, range, record: PhantomData }
    }
}

impl<R> fmt::Debug for Found<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").finish_non_exhaustive()
    }
}

impl<R: Record> Found<'_, R> {
    fn record_of(
        &self,
        entry: redb::Result<(AccessGuard<'static, &'static [u8]>, AccessGuard<'static, ()>)>,
    ) -> Result<R> {
        let (key, _) = entry?;
        let number = index::number_of(key.value()).ok_or_else(short_key)?;
        self.reader.named(Place::Index, R::Id::of(number))
    }
}

impl<R: Record> Iterator for Found<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        let entry = self.range.next()?;
        Some(self.record_of(entry))
    }
}

impl<R: Record> DoubleEndedIterator for Found<'_, R> {
    fn next_back(&mut self) -> Option<Result<R>> {
        let entry = self.range.next_back()?;
        Some(self.record_of(entry))
    }
}
