//! A moment as people are shown it.

use crate::catalog::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The one form: `Nov 14, 2017 10:20:57 PM`.
const FORM: &str = "%b %-d, %Y %-I:%M:%S %p";

/// A moment, in milliseconds since 1970-01-01 00:00 UTC.
///
/// Shown, and written in JSON, as `Nov 14, 2017 10:20:57 PM`: UTC, in English, day and hour without a leading
/// zero. **Milliseconds are dropped there**, so a date that was written and read is the start of its second.
/// Reading is strict: no other form is taken, and no day that the calendar does not have.
///
/// ```
/// use snapgroup::inventory::{Date, InvalidDate};
///
/// let date = Date::from_millis(1_510_698_057_123);
/// assert_eq!(date.to_string(), "Nov 14, 2017 10:20:57 PM");
/// assert_eq!("Nov 14, 2017 10:20:57 PM".parse(), Ok(Date::from_millis(date.as_millis() - 123)));
/// let Err(InvalidDate { text }) = "yesterday".parse::<Date>() else { panic!("a date") };
/// assert_eq!(text, "yesterday");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i64);

/// A text that is no [`Date`].
///
/// An example is at [`Date`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no date; expected the form \"Nov 14, 2017 10:20:57 PM\"")]
pub struct InvalidDate {
    /// The text.
    pub text: String,
}

impl Date {
    /// The start of the year 1.
    pub const MIN: Self = Self(-62_135_596_800_000);

    /// The last millisecond of the year 9998, so that every time zone can show it.
    pub const MAX: Self = Self(253_370_764_799_999);

    /// The moment `millis` milliseconds after 1970-01-01 00:00 UTC, or before it.
    ///
    /// A moment outside of [`Date::MIN`] and [`Date::MAX`] becomes the nearer of the two.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// The moment in fourteen digits, `20171114222057`: for names.
    pub(crate) fn digits(self) -> String {
        let moment = jiff::Timestamp::from_millisecond(self.0).expect("years 1 to 9998 are in the calendar");
        Offset::UTC.to_datetime(moment).strftime("%Y%m%d%H%M%S").to_string()
    }

    /// Milliseconds since 1970-01-01 00:00 UTC.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl From<Timestamp> for Date {
    fn from(timestamp: Timestamp) -> Self {
        Self::from_millis(timestamp.0)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).expect("years 1 to 9998 are in the calendar");
        write!(f, "{}", Offset::UTC.to_datetime(moment).strftime(FORM))
    }
}

impl FromStr for Date {
    type Err = InvalidDate;

    /// Reads the one form. What is read must be written back to the letter: so padding, other case, a 60th
    /// second or a sign are refused without a rule for each.
    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let invalid = || InvalidDate { text: text.to_owned() };
        let civil = DateTime::strptime(FORM, text).map_err(|_| invalid())?;
        let moment = Offset::UTC.to_timestamp(civil).map_err(|_| invalid())?;
        let date = Self::from_millis(moment.as_millisecond());
        if date.to_string() == text { Ok(date) } else { Err(invalid()) }
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_shown_in_utc_on_a_twelve_hour_clock() {
        for (millis, text) in [
            (0, "Jan 1, 1970 12:00:00 AM"),
            (-1, "Dec 31, 1969 11:59:59 PM"),
            (1_510_698_057_999, "Nov 14, 2017 10:20:57 PM"),
            (951_825_600_000, "Feb 29, 2000 12:00:00 PM"),
            (Date::MIN.as_millis(), "Jan 1, 0001 12:00:00 AM"),
            (Date::MAX.as_millis(), "Dec 31, 9998 11:59:59 PM"),
        ] {
            let date = Date::from_millis(millis);
            assert_eq!(date.to_string(), text);
            assert_eq!(text.parse(), Ok(Date::from_millis(millis.div_euclid(1000) * 1000)));
        }
    }

    #[test]
    fn a_moment_outside_of_the_calendar_becomes_its_edge() {
        assert_eq!(Date::from_millis(i64::MIN), Date::MIN);
        assert_eq!(Date::from_millis(i64::MAX), Date::MAX);
    }

    #[test]
    fn every_other_form_is_refused() {
        for text in [
            "",
            "Nov 14, 2017 10:20:57",
            "Nov 14, 2017 10:20:57 pm",
            "nov 14, 2017 10:20:57 PM",
            "November 14, 2017 10:20:57 PM",
            "Nov 04, 2017 10:20:57 PM",
            "Nov 14, 2017 01:20:57 PM",
            "Nov 14, 2017 13:20:57 PM",
            "Nov 14, 2017 0:20:57 PM",
            "Nov 14, 2017 10:20:60 PM",
            "Nov 31, 2017 10:20:57 PM",
            "Feb 29, 2017 10:20:57 PM",
            "Nov 14, 17 10:20:57 PM",
            "Nov 14, -2017 10:20:57 PM",
            "Nov 14, 9999 10:20:57 PM",
            " Nov 14, 2017 10:20:57 PM",
            "Nov 14, 2017 10:20:57 PM ",
            "2017-11-14T22:20:57Z",
        ] {
            let Err(InvalidDate { text: found }) = text.parse::<Date>() else { panic!("{text:?} was read") };
            assert_eq!(found, text);
        }
    }
}
