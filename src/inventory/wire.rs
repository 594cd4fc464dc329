//! How single values are written and read: whole numbers, and uuids without dashes.

use crate::units::ByteCount;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use uuid::Uuid;

/// A number that counts something.
pub(super) trait Whole: Sized {
    /// The largest one.
    const MAX: u64;

    /// The number, which is at most [`Whole::MAX`].
    fn from_whole(value: u64) -> Option<Self>;
}

impl Whole for u32 {
    const MAX: u64 = u32::MAX as u64;
    fn from_whole(value: u64) -> Option<Self> {
        Self::try_from(value).ok()
    }
}

impl Whole for ByteCount {
    const MAX: u64 = u64::MAX;
    fn from_whole(value: u64) -> Option<Self> {
        Some(Self::new(value))
    }
}

/// Reads a whole number, written as an integer or as a float without a fraction.
pub(super) fn whole<'de, D: Deserializer<'de>, T: Whole>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(WholeVisitor(PhantomData))
}

/// Reads a whole number or its absence.
pub(super) fn whole_optional<'de, D: Deserializer<'de>, T: Whole>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    struct Read<T>(T);
    impl<'de, T: Whole> Deserialize<'de> for Read<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Self)
        }
    }
    Ok(Option::<Read<T>>::deserialize(deserializer)?.map(|read| read.0))
}

/// Every integer up to here has a float of its own; beyond it, a float no longer says which integer was meant.
const FLOAT_EXACT_MAX: f64 = 9_007_199_254_740_992.0;

struct WholeVisitor<T>(PhantomData<T>);

impl<T: Whole> Visitor<'_> for WholeVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {}", T::MAX)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::from_whole(value).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        let Ok(value) = u64::try_from(value) else {
            return Err(E::invalid_value(de::Unexpected::Signed(value), &self));
        };
        self.visit_u64(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        if value.fract() == 0.0 && (0.0..=FLOAT_EXACT_MAX).contains(&value) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number from 0 to 2^53, checked above"
            )]
            return self.visit_u64(value as u64);
        }
        Err(E::invalid_value(de::Unexpected::Float(value), &self))
    }
}

/// A uuid as 32 hex digits without dashes, and read as nothing else.
struct Simple(Uuid);

impl Serialize for Simple {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.as_simple())
    }
}

impl<'de> Deserialize<'de> for Simple {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SimpleVisitor)
    }
}

struct SimpleVisitor;

impl Visitor<'_> for SimpleVisitor {
    type Value = Simple;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a uuid of 32 hex digits without dashes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Simple, E> {
        let digits_only = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match Uuid::try_parse(text) {
            Ok(uuid) if digits_only => Ok(Simple(uuid)),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// A uuid.
pub(super) mod uuid_simple {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Simple, Uuid};

    pub(in super::super) fn serialize<S: Serializer>(uuid: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        Simple(*uuid).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Uuid, D::Error> {
        Ok(Simple::deserialize(deserializer)?.0)
    }
}

/// A uuid or its absence.
pub(super) mod uuid_optional {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Simple, Uuid};

    pub(in super::super) fn serialize<S: Serializer>(
        uuid: &Option<Uuid>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        uuid.map(Simple).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Uuid>, D::Error> {
        Ok(Option::<Simple>::deserialize(deserializer)?.map(|simple| simple.0))
    }
}

/// A list of uuids.
pub(super) mod uuid_list {
    use super::{Deserialize, Deserializer, Serializer, Simple, Uuid};

    pub(in super::super) fn serialize<S: Serializer>(
        uuids: &[Uuid],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(uuids.iter().map(|uuid| Simple(*uuid)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Uuid>, D::Error> {
        Ok(Vec::<Simple>::deserialize(deserializer)?.into_iter().map(|simple| simple.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Sample {
        #[serde(deserialize_with = "whole")]
        count: u32,
        #[serde(default, deserialize_with = "whole_optional")]
        size: Option<ByteCount>,
    }

    fn read(json: &str) -> Result<Sample, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_float_without_a_fraction_is_an_integer() {
        let expected = Sample { count: 1, size: Some(ByteCount::new(1 << 40)) };
        assert_eq!(read(r#"{"count": 1.0, "size": 1099511627776.0}"#), Ok(expected));
        assert_eq!(
            read(r#"{"count": 4294967295, "size": null}"#),
            Ok(Sample { count: u32::MAX, size: None })
        );
        assert_eq!(read(r#"{"count": -0.0}"#), Ok(Sample { count: 0, size: None }));
    }

    #[test]
    fn what_counts_nothing_is_refused_and_named() {
        for found in ["1.5", "-1", "-1.0", "4294967296", "4294967296.0", "1e300", "\"1\"", "null", "true"] {
            let Err(message) = read(&format!(r#"{{"count": {found}}}"#)) else { panic!("{found} was read") };
            assert!(message.contains("a whole number from 0 to 4294967295"), "{found}: {message}");
        }
        let Err(message) = read(r#"{"count": 1.5}"#) else { panic!("1.5 was read") };
        assert!(message.contains("`1.5`"), "{message}");
    }

    #[test]
    fn a_size_past_what_a_float_can_tell_is_refused_as_a_float_only() {
        let whole = format!(r#"{{"count": 0, "size": {}}}"#, u64::MAX);
        assert_eq!(read(&whole), Ok(Sample { count: 0, size: Some(ByteCount::new(u64::MAX)) }));
        let Err(_) = read(r#"{"count": 0, "size": 18446744073709551615.0}"#) else {
            panic!("a guess was read")
        };
    }

    #[test]
    fn a_uuid_is_32_hex_digits_and_nothing_else() -> Result<(), serde_json::Error> {
        let text = "\"4b13e23059033e2dbfac63b5b16eba11\"";
        let uuid: Simple = serde_json::from_str(text)?;
        assert_eq!(serde_json::to_string(&uuid)?, text);
        for wrong in [
            "\"4b13e230-5903-3e2d-bfac-63b5b16eba11\"",
            "\"4b13e23059033e2dbfac63b5b16eba1\"",
            "\"4b13e23059033e2dbfac63b5b16eba1g\"",
            "\"\"",
            "7",
        ] {
            let Err(_) = serde_json::from_str::<Simple>(wrong) else { panic!("{wrong} was read") };
        }
        Ok(())
    }
}
