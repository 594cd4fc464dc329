//! What can be wrong with bytes: one rule per variant, with the structure, the field and the value.

use std::fmt;

/// Why bytes are not a value, or a value cannot be bytes.
#[doc = include_str!("examples/errors.md")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field breaks a rule of the format.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The bytes may be in order, but use something that this crate does not know.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// A field that breaks a rule of the format.
///
/// An example is at [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The record, in the words of the specification: "header", "L2 entry".
    pub structure: &'static str,
    /// The field of the record.
    pub field: &'static str,
    /// The value of the field, or what the rule counts: a length, a position.
    pub found: u64,
    /// The rule that the value breaks.
    pub rule: Rule,
}

/// A rule of the format.
///
/// An example is at [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The file begins with the four bytes of the format.
    Magic,
    /// No more than this.
    AtMost(u64),
    /// No less than this.
    AtLeast(u64),
    /// No less than the first and no more than the second.
    Between(u64, u64),
    /// Exactly this.
    Exactly(u64),
    /// One of these.
    OneOf(&'static [u64]),
    /// A multiple of this.
    MultipleOf(u64),
    /// A multiple of the cluster size.
    ClusterAligned,
    /// Less than this.
    Below(u64),
    /// Offset and length of a table together are a position in a file: below 2^63.
    InsideFileOffsets,
    /// All that belongs to the header lies in the first cluster.
    InsideCluster0,
    /// Bits without a meaning are zero.
    ReservedBitsZero,
    /// Text in UTF-8 without control characters. Found is the position of the first other byte.
    Text,
    /// The record appears once.
    Once,
    /// The field needs something else that is not there.
    Needs(&'static str),
    /// The field excludes something else that is there.
    Excludes(&'static str),
    /// The field says the same as another.
    AgreesWith(&'static str),
    /// What is compressed is one whole cluster, of this many bytes.
    WholeCluster(u64),
}

/// Something that this crate does not know.
///
/// An example is at [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What it is: "external data file", "incompatible feature".
    pub feature: &'static str,
    /// How the file says so.
    pub detail: Detail,
}

/// How a file asks for something unknown.
///
/// An example is at [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// By being there.
    Present,
    /// By these bits.
    Bits(u64),
    /// By this number.
    Number(u64),
}

impl Rule {
    /// Whether the rule is about a number one counts with, and not about an offset or bits.
    const fn is_decimal(self) -> bool {
        matches!(
            self,
            Self::AtMost(_)
                | Self::AtLeast(_)
                | Self::Between(..)
                | Self::Exactly(_)
                | Self::OneOf(_)
                | Self::MultipleOf(_)
                | Self::Text
                | Self::Once
                | Self::WholeCluster(_)
        )
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "must be 0x514649fb"),
            Self::AtMost(limit) => write!(f, "must be at most {limit}"),
            Self::AtLeast(limit) => write!(f, "must be at least {limit}"),
            Self::Between(low, high) => write!(f, "must be between {low} and {high}"),
            Self::Exactly(value) => write!(f, "must be {value}"),
            Self::OneOf(values) => write!(f, "must be one of {values:?}"),
            Self::MultipleOf(unit) => write!(f, "must be a multiple of {unit}"),
            Self::ClusterAligned => write!(f, "must be a multiple of the cluster size"),
            Self::Below(limit) => write!(f, "must be below {limit:#x}"),
            Self::InsideFileOffsets => write!(f, "must end below 2^63"),
            Self::InsideCluster0 => write!(f, "must lie inside the first cluster"),
            Self::ReservedBitsZero => write!(f, "must have its reserved bits zero"),
            Self::Text => write!(f, "must be text in UTF-8 without control characters"),
            Self::Once => write!(f, "must appear once"),
            Self::Needs(other) => write!(f, "must come with {other}"),
            Self::Excludes(other) => write!(f, "must not come with {other}"),
            Self::AgreesWith(other) => write!(f, "must agree with {other}"),
            Self::WholeCluster(size) => write!(f, "must be a whole cluster of {size}"),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { structure, field, found, rule } = self;
        match rule {
            Rule::Text => write!(f, "{structure}: {field} {rule}, but for byte {found}"),
            rule if rule.is_decimal() => write!(f, "{structure}: {field} is {found}, {rule}"),
            _ => write!(f, "{structure}: {field} is {found:#x}, {rule}"),
        }
    }
}

impl std::error::Error for Malformed {}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let feature = self.feature;
        match self.detail {
            Detail::Present => write!(f, "{feature} is not supported"),
            Detail::Bits(bits) => write!(f, "{feature} bits {bits:#x} are not supported"),
            Detail::Number(number) => write!(f, "{feature} {number} is not supported"),
        }
    }
}

impl std::error::Error for Unsupported {}

/// Passes when `holds`, and names the broken rule when not.
pub(super) fn require(
    holds: bool,
    structure: &'static str,
    field: &'static str,
    found: u64,
    rule: Rule,
) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Malformed { structure, field, found, rule }.into())
}

/// The position of the first byte that is not text in UTF-8 without control characters.
pub(super) fn first_byte_not_text(bytes: &[u8]) -> Option<usize> {
    let (text, valid) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, bytes.len()),
        Err(error) => {
            let valid = error.valid_up_to();
            (bytes.get(..valid).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or(""), valid)
        }
    };
    let control = text.char_indices().find(|(_, character)| character.is_control()).map(|(at, _)| at);
    control.or((valid < bytes.len()).then_some(valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_the_field_the_value_and_the_rule() {
        let unaligned = Malformed {
            structure: "header",
            field: "l1_table_offset",
            found: 0x201,
            rule: Rule::ClusterAligned,
        };
        assert_eq!(
            Error::from(unaligned).to_string(),
            "header: l1_table_offset is 0x201, must be a multiple of the cluster size"
        );
        let large =
            Malformed { structure: "header", field: "nb_snapshots", found: 65537, rule: Rule::AtMost(65536) };
        assert_eq!(large.to_string(), "header: nb_snapshots is 65537, must be at most 65536");
        let unknown = Unsupported { feature: "incompatible feature", detail: Detail::Bits(0x20) };
        assert_eq!(Error::from(unknown).to_string(), "incompatible feature bits 0x20 are not supported");
    }

    #[test]
    fn text_ends_at_the_first_control_character_or_foreign_byte() {
        assert_eq!(first_byte_not_text(b"base.qcow2"), None);
        assert_eq!(first_byte_not_text("caf\u{e9}".as_bytes()), None);
        assert_eq!(first_byte_not_text(b"a\0b"), Some(1));
        assert_eq!(first_byte_not_text(b"ab\n"), Some(2));
        assert_eq!(first_byte_not_text(b"abc\xff"), Some(3));
        assert_eq!(first_byte_not_text(b"a\x1fb\xff"), Some(1));
        assert_eq!(first_byte_not_text("a\u{85}".as_bytes()), Some(1));
    }
}
