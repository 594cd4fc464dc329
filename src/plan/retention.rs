//! Which groups of a machine are kept, by age and by tag: a pure function of when they were taken.
//!
//! No clock is read. A period is an hour, a day, a week or a month of the calendar in UTC, and those periods count in
//! which a group was taken: the newest group of each of the last `n` such periods is kept. So a machine that was
//! switched off for a year keeps what it has.

use std::collections::BTreeSet;
use std::fmt;

/// What is kept of the groups of a machine. A group is kept if any one rule keeps it; without a rule, all are kept.
#[doc = include_str!("../engine/examples/retention.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest groups, this many.
    pub last: u32,
    /// The newest group of each of the last hours in which one was taken, this many.
    pub hourly: u32,
    /// The same of days.
    pub daily: u32,
    /// The same of weeks, which begin on Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// Groups with one of these tags, a user's or a system's.
    pub tagged: Vec<String>,
    /// Which groups are looked at; the others are kept, and are counted in no period.
    pub among: Among,
}

/// Which groups a retention looks at.
#[doc = include_str!("../engine/examples/retention.md")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Among {
    /// All groups of the machine.
    #[default]
    All,
    /// Those that no person asked for: they have the system tag [`Among::AUTOMATIC`], as the groups that a revert keeps
    /// have it. Whoever takes groups by the clock gives them the same tag.
    Automatic,
    /// Those with this tag, a user's or a system's.
    Tagged(String),
}

impl Among {
    /// The system tag of groups and snapshots that no person asked for.
    pub const AUTOMATIC: &str = super::revert::BY_SYSTEM;
}

/// Why a group is kept.
#[doc = include_str!("../engine/examples/retention.md")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeptBy {
    /// It is one of the newest.
    Last,
    /// It is the newest of its hour.
    Hourly,
    /// It is the newest of its day.
    Daily,
    /// It is the newest of its week.
    Weekly,
    /// It is the newest of its month.
    Monthly,
    /// It has a tag that keeps it.
    Tag,
    /// A member of it is held.
    Hold,
    /// The retention does not look at groups like it.
    NotAmong,
    /// The retention has no rule.
    NoRule,
}

impl KeptBy {
    /// The reason in one word, or two.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Tag => "tag",
            Self::Hold => "held",
            Self::NotAmong => "not looked at",
            Self::NoRule => "no rule",
        }
    }
}

impl fmt::Display for KeptBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A group, as far as a retention cares.
#[derive(Clone, Debug)]
pub(crate) struct Aged {
    /// Milliseconds since 1970.
    pub(crate) taken: i64,
    pub(crate) tags: Vec<String>,
    pub(crate) is_held: bool,
}

/// A unit of the calendar.
#[derive(Clone, Copy)]
enum Unit {
    Hour,
    Day,
    Week,
    Month,
}

impl Retention {
    /// Why each group is kept; no reason, and it goes. The groups are in the order in which they were taken.
    pub(crate) fn reasons(&self, groups: &[Aged]) -> Vec<BTreeSet<KeptBy>> {
        let mut reasons: Vec<BTreeSet<KeptBy>> = vec![BTreeSet::new(); groups.len()];
        let mut looked_at = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            if group.is_held {
                reasons[index].insert(KeptBy::Hold);
            }
            if self.is_among(group) {
                looked_at.push(index);
            } else {
                reasons[index].insert(KeptBy::NotAmong);
            }
            if self.tagged.iter().any(|tag| group.tags.contains(tag)) {
                reasons[index].insert(KeptBy::Tag);
            }
            if !self.has_rule() {
                reasons[index].insert(KeptBy::NoRule);
            }
        }
        looked_at.reverse();
        for index in looked_at.iter().take(self.last as usize) {
            reasons[*index].insert(KeptBy::Last);
        }
        let periods = [
            (Unit::Hour, self.hourly, KeptBy::Hourly),
            (Unit::Day, self.daily, KeptBy::Daily),
            (Unit::Week, self.weekly, KeptBy::Weekly),
            (Unit::Month, self.monthly, KeptBy::Monthly),
        ];
        for (unit, count, reason) in periods {
            let mut seen = BTreeSet::new();
            for index in &looked_at {
                if seen.len() < count as usize && seen.insert(period(groups[*index].taken, unit)) {
                    reasons[*index].insert(reason);
                }
            }
        }
        reasons
    }

    fn has_rule(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly];
        counts.iter().any(|count| *count > 0) || !self.tagged.is_empty()
    }

    fn is_among(&self, group: &Aged) -> bool {
        let has = |tag: &str| group.tags.iter().any(|found| found == tag);
        match &self.among {
            Among::All => true,
            Among::Automatic => has(Among::AUTOMATIC),
            Among::Tagged(tag) => has(tag),
        }
    }
}

/// The number of the period that a moment is in.
fn period(taken: i64, unit: Unit) -> i64 {
    const HOUR: i64 = 3_600_000;
    let day = taken.div_euclid(24 * HOUR);
    match unit {
        Unit::Hour => taken.div_euclid(HOUR),
        Unit::Day => day,
        // 1970 began on a Thursday.
        Unit::Week => (day + 3).div_euclid(7),
        Unit::Month => month(day),
    }
}

/// The number of the month that a day since 1970 is in. Years are counted from the first of March, so that the day that a
/// leap year has is the last one; 400 years have 146,097 days.
fn month(day: i64) -> i64 {
    const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
    let day = day + FROM_MARCH_OF_YEAR_0;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * of_year + 2) / 153
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    /// Monday, 1 January 2024, in UTC.
    const MONDAY: i64 = 1_704_067_200_000;

    fn at(taken: i64) -> Aged {
        Aged { taken, tags: Vec::new(), is_held: false }
    }

    fn kept(retention: &Retention, groups: &[Aged]) -> Vec<usize> {
        let reasons = retention.reasons(groups);
        (0..groups.len()).filter(|index| !reasons[*index].is_empty()).collect()
    }

    /// Months as the calendar of another crate has them, a day before and after each change among them.
    #[test]
    fn every_day_of_a_thousand_years_is_in_its_month() {
        let mut date = jiff::civil::date(1500, 1, 1);
        let mut day = date.since(jiff::civil::date(1970, 1, 1)).expect("days").get_days().into();
        while date.year() < 2500 {
            let of_1970 = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
            assert_eq!(month(day) - month(0), of_1970, "{date}");
            (date, day) = (date.tomorrow().expect("a day"), day + 1);
        }
    }

    #[test]
    fn each_reason_has_words_of_its_own() {
        use KeptBy::{Daily, Hold, Hourly, Last, Monthly, NoRule, NotAmong, Tag, Weekly};
        let words =
            [Last, Hourly, Daily, Weekly, Monthly, Tag, Hold, NotAmong, NoRule].map(|kept| kept.to_string());
        let once: std::collections::BTreeSet<&String> = words.iter().collect();
        assert_eq!((once.len(), words[0].as_str(), words[6].as_str()), (words.len(), "last", "held"));
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let mut previous = month(-800_000);
        for day in -800_000..800_000_i64 {
            let seconds = day * 86_400;
            let moment = jiff::Timestamp::from_second(seconds).expect("in range");
            let date = jiff::tz::Offset::UTC.to_datetime(moment).date();
            let found = month(day);
            assert!(day == -800_000 || (found != previous) == (date.day() == 1), "day {day}");
            previous = found;
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        assert_eq!(period(MONDAY, Unit::Week), period(MONDAY + 7 * DAY - 1, Unit::Week));
        assert_eq!(period(MONDAY - 1, Unit::Week) + 1, period(MONDAY, Unit::Week));
    }

    #[test]
    fn the_newest_of_each_period_in_which_one_was_taken_is_kept() {
        // Two a day, with a week off after the third day.
        let days = [0, 1, 2, 10, 11];
        let groups: Vec<Aged> =
            days.iter().flat_map(|day| [at(MONDAY + day * DAY), at(MONDAY + day * DAY + DAY / 2)]).collect();
        assert_eq!(kept(&Retention { daily: 3, ..Retention::default() }, &groups), [5, 7, 9]);
        assert_eq!(kept(&Retention { last: 3, ..Retention::default() }, &groups), [7, 8, 9]);
        assert_eq!(kept(&Retention { weekly: 2, ..Retention::default() }, &groups), [5, 9]);
        assert_eq!(kept(&Retention { monthly: 7, ..Retention::default() }, &groups), [9]);
        assert_eq!(kept(&Retention { hourly: 2, weekly: 9, ..Retention::default() }, &groups), [5, 8, 9]);
    }

    #[test]
    fn what_it_does_not_look_at_stays_and_takes_nobodys_place() {
        let tagged = |taken, tag: &str| Aged { tags: vec![tag.to_owned()], ..at(taken) };
        let groups = [
            tagged(MONDAY, Among::AUTOMATIC),
            tagged(MONDAY + DAY, Among::AUTOMATIC),
            tagged(MONDAY + 2 * DAY, "mine"),
            Aged { is_held: true, ..tagged(MONDAY - DAY, Among::AUTOMATIC) },
        ];
        let groups = [groups[3].clone(), groups[0].clone(), groups[1].clone(), groups[2].clone()];
        let among = Retention { last: 1, among: Among::Automatic, ..Retention::default() };
        assert_eq!(kept(&among, &groups), [0, 2, 3]);
        let tag = Retention { tagged: vec!["mine".to_owned()], ..Retention::default() };
        assert_eq!(kept(&tag, &groups), [0, 3]);
    }

    #[test]
    fn without_a_rule_everything_is_kept() {
        assert_eq!(kept(&Retention::default(), &[at(MONDAY), at(MONDAY + 1)]), [0, 1]);
    }
}
