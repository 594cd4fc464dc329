//! What becomes of a retired layer: the choice, by exact byte counts.
//!
//! | layers above | what is done |
//! |---|---|
//! | none | its file is removed |
//! | one, and merging copies nothing | the two become one |
//! | one | what the one above hides is freed in place; merged when the caller says so |
//! | several | what all of them hide is freed in place; copied into each when the caller says so |

use super::refusal::Refusal;
use crate::units::ByteCount;
use std::fmt;
use std::str::FromStr;

/// Which way the bytes go when a retired layer and the one above it become one.
#[doc = include_str!("../engine/examples/how_to_delete.md")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// Whatever copies the fewest bytes: freeing in place copies none, so two layers become one only when that
    /// copies none either. Files that a running machine has open keep their names.
    #[default]
    Auto,
    /// Up: what the retired layer has and the one above it lacks is moved into the one above.
    Pull,
    /// Down: what the one above has is moved into the retired layer, whose file takes its place.
    Commit,
}

impl Direction {
    /// The direction as it is written in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pull => "pull",
            Self::Commit => "commit",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Direction {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "pull" => Ok(Self::Pull),
            "commit" => Ok(Self::Commit),
            other => {
                Err(Refusal::BadValue { what: format!("direction {other:?}"), rule: "auto, pull or commit" })
            }
        }
    }
}

/// What merging a retired layer with the one above it would copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    /// Up; `None` when it cannot be done.
    pub(crate) pull: Option<ByteCount>,
    /// Down; `None` when it cannot be done.
    pub(crate) commit: Option<ByteCount>,
}

/// What is done with a retired layer that has layers above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Move its bytes into each layer above, and drop it.
    Pull,
    /// Move the bytes of the one above into it, and let it take that one's place.
    Commit,
    /// Free what is hidden; it stays.
    Punch,
}

/// Chooses for a layer with one layer above it, or for one of several (`only_child` is false then).
pub(crate) fn choose(costs: Costs, only_child: bool, direction: Direction) -> Way {
    let is_free = |cost: Option<ByteCount>| cost.is_some_and(ByteCount::is_zero);
    match direction {
        Direction::Pull if costs.pull.is_some() => Way::Pull,
        Direction::Commit if only_child && costs.commit.is_some() => Way::Commit,
        // A commit that cannot be done goes the other way: the caller wants one layer less.
        Direction::Commit if only_child && costs.pull.is_some() => Way::Pull,
        Direction::Auto if only_child && is_free(costs.pull) => Way::Pull,
        Direction::Auto if only_child && is_free(costs.commit) => Way::Commit,
        _ => Way::Punch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(pull: Option<u64>, commit: Option<u64>) -> Costs {
        Costs { pull: pull.map(ByteCount::new), commit: commit.map(ByteCount::new) }
    }

    #[test]
    fn directions_are_read_as_they_are_written_and_nothing_else_is() {
        let all = [(Direction::Auto, "auto"), (Direction::Pull, "pull"), (Direction::Commit, "commit")];
        for (direction, text) in all {
            assert_eq!((direction.to_string().as_str(), format!(" {text} ").parse()), (text, Ok(direction)));
        }
        for text in ["", "Pull", "up"] {
            assert!(matches!(text.parse::<Direction>(), Err(Refusal::BadValue { .. })), "{text}");
        }
    }

    #[test]
    fn by_itself_only_what_copies_nothing_is_merged() {
        for (pull, commit, way) in [
            (Some(0), Some(0), Way::Pull),
            (Some(0), Some(9), Way::Pull),
            (Some(9), Some(0), Way::Commit),
            (Some(9), Some(9), Way::Punch),
            (None, Some(0), Way::Commit),
            (None, None, Way::Punch),
        ] {
            assert_eq!(choose(costs(pull, commit), true, Direction::Auto), way, "{pull:?} {commit:?}");
            assert_eq!(choose(costs(pull, commit), false, Direction::Auto), Way::Punch);
        }
    }

    #[test]
    fn what_the_caller_says_is_done_where_it_can_be() {
        let both = costs(Some(9), Some(9));
        assert_eq!(choose(both, true, Direction::Pull), Way::Pull);
        assert_eq!(choose(both, false, Direction::Pull), Way::Pull);
        assert_eq!(choose(both, true, Direction::Commit), Way::Commit);
        assert_eq!(choose(both, false, Direction::Commit), Way::Punch);
        assert_eq!(choose(costs(Some(9), None), true, Direction::Commit), Way::Pull);
        assert_eq!(choose(costs(None, Some(9)), true, Direction::Pull), Way::Punch);
    }
}
