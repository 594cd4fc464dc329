//! Questions about many records: conditions on fields, sorted, in pages.
//!
//! * A field has any number of values: none where it is absent, several where it reaches through a list (the refs of a group,
//!   the tags, the attachments).
//! * `Equal`, `Less`, `In`, `Like` and their like hold when **some** value passes. `NotEqual`, `NotIn`, `NotLike` hold
//!   when there is a value and **none** is the one that is not wanted. So nothing but `Null` holds for an absent field.
//! * All conditions must hold, each on its own: two conditions on refs may be met by two refs.
//! * Without a sort, answers come in the order of creation; with one, equals do. Absent values come first when ascending.
//!
//! An index only ever proposes candidates; every condition is then tested on every candidate. So an answer does not
//! depend on whether an index was used, only its price does.

mod drive;
mod fields;
mod like;
mod run;
mod values;

#[cfg(test)]
mod tests;

pub use fields::{
    Field, FieldType, GroupField, MachineField, RefField, SnapshotField, TreeField, VolumeField,
};

/// The most records that are answered when nothing is said.
///
/// An example is at [`Query`](None).
pub const LIMIT_DEFAULT: usize = 1000;

/// A question about the records that have fields `F`.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<F> {
    /// What must hold; everything when empty.
    pub conditions: Vec<Condition<F>>,
    /// By what to sort; by creation when absent.
    pub sort: Option<(F, Direction)>,
    /// How many of the records that meet the conditions are skipped.
    pub start: usize,
    /// The most records that are answered.
    pub limit: usize,
}

impl<F> Default for Query<F> {
    fn default() -> Self {
        Self { conditions: Vec::new(), sort: None, start: 0, limit: LIMIT_DEFAULT }
    }
}

impl<F> Query<F> {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn with(mut self, field: F, test: Test) -> Self {
        self.conditions.push(Condition { field, test });
        self
    }

    /// Sorts by a field.
    #[must_use]
    pub fn sorted(mut self, field: F, direction: Direction) -> Self {
        self.sort = Some((field, direction));
        self
    }

    /// Asks for one page.
    #[must_use]
    pub fn page(mut self, start: usize, limit: usize) -> Self {
        (self.start, self.limit) = (start, limit);
        self
    }
}

/// What must hold for one field.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition<F> {
    /// The field.
    pub field: F,
    /// What its values must pass.
    pub test: Test,
}

/// What the values of a field must pass.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Test {
    /// Some value is this one.
    Equal(Value),
    /// There is a value, and none is this one.
    NotEqual(Value),
    /// Some value is less.
    Less(Value),
    /// Some value is less, or this one.
    LessOrEqual(Value),
    /// Some value is greater.
    Greater(Value),
    /// Some value is greater, or this one.
    GreaterOrEqual(Value),
    /// Some value is one of these.
    In(Vec<Value>),
    /// There is a value, and none is one of these.
    NotIn(Vec<Value>),
    /// There is no value.
    Null,
    /// There is a value.
    NotNull,
    /// Some value looks like this: `%` is any text, `_` any one character, `\` takes the next one as it is.
    Like(String),
    /// There is a value, and none looks like this.
    NotLike(String),
}

/// A value to compare with. Dates are numbers: milliseconds since 1970. Uuids are texts of 32 hex digits, dashes allowed.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// So that a plain number in the code is one.
impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<uuid::Uuid> for Value {
    fn from(uuid: uuid::Uuid) -> Self {
        Self::Text(uuid.simple().to_string())
    }
}

/// Which way to sort.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// One page of an answer.
#[doc = include_str!("../../engine/examples/querying.md")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The records of the page.
    pub items: Vec<T>,
    /// How many records meet the conditions, whatever the page.
    pub total: usize,
}
