//! Thinning out the groups of a machine.

use super::Towards;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Thin {
    /// The machine.
    pub(crate) vm: String,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Look only at groups that no person asked for; the others stay.
    #[arg(long, conflicts_with = "only_tagged")]
    pub(crate) only_automatic: bool,
    /// Look only at groups with this tag; the others stay.
    #[arg(long, value_name = "TAG")]
    pub(crate) only_tagged: Option<String>,
    /// Which way bytes go when layers are merged.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) direction: Towards,
    /// Leave the bytes to `snapgroup reclaim`.
    #[arg(long)]
    pub(crate) later: bool,
}

/// A group is kept if any one of these keeps it, or a member of it is held.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Keep {
    /// The newest groups, so many.
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep_last: Option<u32>,
    /// The newest of each of the last so many hours in which one was taken.
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep_hourly: Option<u32>,
    /// The same of days.
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep_daily: Option<u32>,
    /// The same of weeks, which begin on Monday.
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep_weekly: Option<u32>,
    /// The same of months.
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep_monthly: Option<u32>,
    /// Groups with this tag; may be given several times.
    #[arg(long, value_name = "TAG")]
    pub(crate) keep_tagged: Vec<String>,
}
