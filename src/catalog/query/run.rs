//! Answering: candidates from the first condition that an index serves, or all records; then every condition on each.

use super::super::error::{Error, Place, Result};
use super::super::kind::{Id, Record};
use super::super::reader::Reader;
use super::super::record::{GroupRecord, MachineRecord, RefRecord, SnapshotRecord, TreeRecord, VolumeRecord};
use super::fields::{Field, FieldType, GroupField, Ids, MachineField, SnapshotField, TreeField, VolumeField};
use super::like::like;
use super::{Condition, Direction, Page, Query, Test, Value};

impl Reader {
    /// The machines that meet the conditions.
    ///
    /// # Errors
    ///
    /// [`Error::BadValue`] when a condition compares a field with what it never is.
    pub fn query_machines(&self, query: &Query<MachineField>) -> Result<Page<MachineRecord>> {
        run(self, query)
    }

    /// The volumes that meet the conditions.
    ///
    /// # Errors
    ///
    /// As [`Reader::query_machines`].
    pub fn query_volumes(&self, query: &Query<VolumeField>) -> Result<Page<VolumeRecord>> {
        run(self, query)
    }

    /// The snapshots that meet the conditions.
    ///
    /// # Errors
    ///
    /// As [`Reader::query_machines`].
    pub fn query_snapshots(&self, query: &Query<SnapshotField>) -> Result<Page<SnapshotRecord>> {
        run(self, query)
    }

    /// The trees that meet the conditions.
    ///
    /// # Errors
    ///
    /// As [`Reader::query_machines`].
    pub fn query_trees(&self, query: &Query<TreeField>) -> Result<Page<TreeRecord>> {
        run(self, query)
    }

    /// The groups that meet the conditions, each with its members.
    ///
    /// # Errors
    ///
    /// As [`Reader::query_machines`].
    pub fn query_groups(&self, query: &Query<GroupField>) -> Result<Page<(GroupRecord, Vec<RefRecord>)>> {
        let Page { items, total } = run(self, query)?;
        let with_refs = |group: GroupRecord| Ok((self.refs_of(group.id)?, group));
        let items = items.into_iter().map(with_refs).map(|item| item.map(|(refs, group)| (group, refs)));
        Ok(Page { items: items.collect::<Result<_>>()?, total })
    }
}

/// Whether indexes may propose candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indexes {
    Used,
    #[cfg(test)]
    Ignored,
}

fn run<F: Field>(reader: &Reader, query: &Query<F>) -> Result<Page<F::Record>> {
    answer(reader, query, Indexes::Used)
}

pub(super) fn answer<F: Field>(
    reader: &Reader,
    query: &Query<F>,
    indexes: Indexes,
) -> Result<Page<F::Record>> {
    let conditions = query.conditions.iter().map(checked).collect::<Result<Vec<_>>>()?;
    if conditions.is_empty() && query.sort.is_none() {
        return everything(reader, query);
    }
    let mut selection = Selection { reader, conditions: &conditions, total: 0 };
    let ids = match indexes {
        Indexes::Used => candidates(reader, &conditions)?,
        #[cfg(test)]
        Indexes::Ignored => None,
    };
    let candidates: Box<dyn Iterator<Item = Result<F::Record>>> = match ids {
        Some(ids) => {
            let record = |id| reader.named(Place::Index, <F::Record as Record>::Id::of(id));
            Box::new(ids.into_iter().map(record))
        }
        None => Box::new(reader.all(<F::Record as Record>::Id::of(0))?),
    };
    let items = match query.sort {
        None => selection.in_order(candidates, query)?,
        Some((field, direction)) => selection.sorted(candidates, query, field, direction)?,
    };
    Ok(Page { items, total: selection.total })
}

/// One page of all records, without looking at the others.
fn everything<F: Field>(reader: &Reader, query: &Query<F>) -> Result<Page<F::Record>> {
    let total = reader.count::<<F::Record as Record>::Id>()?;
    let records = reader.all(<F::Record as Record>::Id::of(0))?;
    let items = records.skip(query.start).take(query.limit).collect::<Result<_>>()?;
    Ok(Page { items, total: usize::try_from(total).unwrap_or(usize::MAX) })
}

/// What the first condition that an index serves proposes.
pub(super) fn candidates<F: Field>(reader: &Reader, conditions: &[Condition<F>]) -> Result<Option<Ids>> {
    for Condition { field, test } in conditions {
        let values = match test {
            Test::Equal(value) => std::slice::from_ref(value),
            Test::In(values) => values.as_slice(),
            _ => continue,
        };
        let mut ids = Some(Ids::new());
        for value in values {
            let more = field.drive(reader, value)?;
            ids = ids.zip(more).map(|(ids, more)| ids.into_iter().chain(more).collect());
        }
        if ids.is_some() {
            return Ok(ids);
        }
    }
    Ok(None)
}

/// The records that meet the conditions, counted.
struct Selection<'q, F> {
    reader: &'q Reader,
    conditions: &'q [Condition<F>],
    total: usize,
}

impl<F: Field> Selection<'_, F> {
    fn takes(&self, record: &F::Record) -> Result<bool> {
        for Condition { field, test } in self.conditions {
            if !passes(test, &field.values(self.reader, record)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn in_order(
        &mut self,
        candidates: impl Iterator<Item = Result<F::Record>>,
        query: &Query<F>,
    ) -> Result<Vec<F::Record>> {
        let mut items = Vec::new();
        for record in candidates {
            let record = record?;
            if self.takes(&record)? {
                if self.total >= query.start && items.len() < query.limit {
                    items.push(record);
                }
                self.total += 1;
            }
        }
        Ok(items)
    }

    /// Keeps only the sorted values in memory; the records of the page are read again.
    fn sorted(
        &mut self,
        candidates: impl Iterator<Item = Result<F::Record>>,
        query: &Query<F>,
        field: F,
        direction: Direction,
    ) -> Result<Vec<F::Record>> {
        let mut order = Vec::new();
        for record in candidates {
            let record = record?;
            if self.takes(&record)? {
                order.push((field.values(self.reader, &record)?.into_iter().min(), record.id()));
            }
        }
        self.total = order.len();
        order.sort_by(|(one, one_id), (other, other_id)| {
            let by_value = match direction {
                Direction::Ascending => one.cmp(other),
                Direction::Descending => other.cmp(one),
            };
            by_value.then(one_id.cmp(other_id))
        });
        let page = order.into_iter().skip(query.start).take(query.limit);
        page.map(|(_, id)| self.reader.named(Place::Record(id.entity()), id)).collect()
    }
}

/// A condition whose values are as the field has them.
fn checked<F: Field>(condition: &Condition<F>) -> Result<Condition<F>> {
    let field = condition.field;
    let take = |value: &Value| field.kind().take(&field, value);
    let take_all = |values: &Vec<Value>| values.iter().map(take).collect::<Result<Vec<_>>>();
    let take_pattern = |pattern: &String| match field.kind() {
        FieldType::Text | FieldType::Uuid => Ok(pattern.clone()),
        expected => {
            let found = Value::Text(pattern.clone());
            Err(Error::BadValue { field: format!("{field:?}"), expected, found })
        }
    };
    let test = match &condition.test {
        Test::Equal(value) => Test::Equal(take(value)?),
        Test::NotEqual(value) => Test::NotEqual(take(value)?),
        Test::Less(value) => Test::Less(take(value)?),
        Test::LessOrEqual(value) => Test::LessOrEqual(take(value)?),
        Test::Greater(value) => Test::Greater(take(value)?),
        Test::GreaterOrEqual(value) => Test::GreaterOrEqual(take(value)?),
        Test::In(values) => Test::In(take_all(values)?),
        Test::NotIn(values) => Test::NotIn(take_all(values)?),
        Test::Null => Test::Null,
        Test::NotNull => Test::NotNull,
        Test::Like(pattern) => Test::Like(take_pattern(pattern)?),
        Test::NotLike(pattern) => Test::NotLike(take_pattern(pattern)?),
    };
    Ok(Condition { field, test })
}

/// Whether the values of a field pass a test.
fn passes(test: &Test, values: &[Value]) -> bool {
    let some = |passes: &dyn Fn(&Value) -> bool| values.iter().any(passes);
    let none = |passes: &dyn Fn(&Value) -> bool| !values.is_empty() && !values.iter().any(passes);
    let looks = |pattern: &str, value: &Value| match value {
        Value::Text(text) => like(pattern, text),
        Value::Number(_) | Value::Flag(_) => false,
    };
    match test {
        Test::Equal(wanted) => some(&|value| value == wanted),
        Test::NotEqual(unwanted) => none(&|value| value == unwanted),
        Test::Less(bound) => some(&|value| value < bound),
        Test::LessOrEqual(bound) => some(&|value| value <= bound),
        Test::Greater(bound) => some(&|value| value > bound),
        Test::GreaterOrEqual(bound) => some(&|value| value >= bound),
        Test::In(wanted) => some(&|value| wanted.contains(value)),
        Test::NotIn(unwanted) => none(&|value| unwanted.contains(value)),
        Test::Null => values.is_empty(),
        Test::NotNull => !values.is_empty(),
        Test::Like(pattern) => some(&|value| looks(pattern, value)),
        Test::NotLike(pattern) => none(&|value| looks(pattern, value)),
    }
}
