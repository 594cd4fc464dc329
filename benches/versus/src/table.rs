//! What was measured, as lines from one process to another, and as the table that is printed.

use std::fmt;

/// The sides that have a column.
pub const OURS: &str = "ours";
pub const MAPPED: &str = "ours, mapped";
pub const QEMU: &str = "QEMU";
pub const IMAGO: &str = "imago";
pub const QCOW2_RS: &str = "qcow2-rs";
pub const IMG_QCOW2: &str = "rust-img-qcow2";
pub const FLOOR: &str = "floor";
const COLUMNS: [&str; 7] = [OURS, MAPPED, QEMU, IMAGO, QCOW2_RS, IMG_QCOW2, FLOOR];
/// Those that somebody else wrote and that are linked in.
const IN_PROCESS: [&str; 3] = [IMAGO, QCOW2_RS, IMG_QCOW2];

/// What a scenario has found.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A row of the table.
    Row(Row),
    /// A cost against something that grows.
    Curve {
        /// What is measured, and against what.
        what: String,
        /// Where, and how much in the words that are printed.
        points: Vec<(String, String)>,
    },
    /// The most memory that a scenario took up.
    Memory {
        /// Its name.
        scenario: String,
        /// In bytes.
        peak: u64,
    },
}

/// A row of the table: the same work, on every side, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    goal: String,
    work: String,
    cells: Vec<(String, f64)>,
    wants: Vec<Want>,
}

/// What a row should show.
#[derive(Clone, Debug, PartialEq)]
struct Want {
    wanted: String,
    found: String,
    met: Met,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    Yes,
    No,
    /// The side that is compared with is not there.
    Unknown,
}

impl Row {
    /// A row without anything wanted of it.
    pub fn new(goal: &str, work: impl Into<String>, cells: Vec<(String, f64)>) -> Self {
        Self { goal: goal.to_owned(), work: work.into(), cells, wants: Vec::new() }
    }

    /// The seconds of a side.
    pub fn of(&self, side: &str) -> Option<f64> {
        self.cells.iter().find(|(name, _)| name == side).map(|(_, seconds)| *seconds)
    }

    /// Ours is to be so many times faster than another side.
    pub fn faster(self, than: &str, times: f64) -> Self {
        self.side_faster(OURS, than, times)
    }

    /// One side is to be so many times faster than another one.
    pub fn side_faster(self, side: &str, than: &str, times: f64) -> Self {
        let ratio = self.of(than).zip(self.of(side)).map(|(than, side)| than / side);
        let who = if side == OURS { String::new() } else { format!("{side}: ") };
        self.want(format!("{who}>= {times} x {than}"), ratio, |ratio| ratio >= times)
    }

    /// A side is to be so many times faster than the fastest of those that are linked in.
    pub fn faster_than_peers(self, side: &str, times: f64) -> Self {
        let best = self.best_peer();
        let ratio = best.zip(self.of(side)).map(|(best, side)| best / side);
        let who = if side == OURS { String::new() } else { format!("{side}: ") };
        self.want(format!("{who}>= {times} x best in process"), ratio, |ratio| ratio >= times)
    }

    fn best_peer(&self) -> Option<f64> {
        IN_PROCESS.iter().filter_map(|peer| self.of(peer)).min_by(f64::total_cmp)
    }

    /// Ours is to take at most so many times as long as `reference` says.
    pub fn within(self, of: &str, reference: Option<f64>, times: f64) -> Self {
        let ratio = self.of(OURS).zip(reference).map(|(ours, reference)| ours / reference);
        self.want(format!("<= {times} x {of}"), ratio, |ratio| ratio <= times)
    }

    /// Ours is to take at most as long as this.
    pub fn at_most(self, seconds: f64) -> Self {
        let ours = self.of(OURS);
        let met = ours.map_or(Met::Unknown, |ours| if ours <= seconds { Met::Yes } else { Met::No });
        let found = ours.map_or_else(|| "-".to_owned(), time);
        self.with(Want { wanted: format!("<= {}", time(seconds)), found, met })
    }

    /// Something else that was found and should be so.
    pub fn holds(self, wanted: impl Into<String>, found: impl Into<String>, holds: bool) -> Self {
        let met = if holds { Met::Yes } else { Met::No };
        self.with(Want { wanted: wanted.into(), found: found.into(), met })
    }

    fn want(self, wanted: String, ratio: Option<f64>, holds: impl Fn(f64) -> bool) -> Self {
        let (found, met) = match ratio {
            None => ("-".to_owned(), Met::Unknown),
            Some(ratio) => (format!("{ratio:.2}"), if holds(ratio) { Met::Yes } else { Met::No }),
        };
        self.with(Want { wanted, found, met })
    }

    fn with(mut self, want: Want) -> Self {
        self.wants.push(want);
        self
    }
}

/// Seconds as people read them.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.0} {unit}") }
}

/// Bytes as people read them.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 40 => format!("{} TiB", b >> 40),
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

const TAB: char = '\t';

impl Line {
    /// The line as text without line breaks.
    pub fn encode(&self) -> String {
        let mut words = Vec::new();
        match self {
            Self::Row(row) => {
                words.extend(["row".to_owned(), row.goal.clone(), row.work.clone()]);
                words.push(row.cells.len().to_string());
                for (name, seconds) in &row.cells {
                    words.extend([name.clone(), seconds.to_string()]);
                }
                for want in &row.wants {
                    words.extend([want.wanted.clone(), want.found.clone(), format!("{:?}", want.met)]);
                }
            }
            Self::Curve { what, points } => {
                words.extend(["curve".to_owned(), what.clone()]);
                words.extend(points.iter().flat_map(|(at, cost)| [at.clone(), cost.clone()]));
            }
            Self::Memory { scenario, peak } => {
                words.extend(["memory".to_owned(), scenario.clone(), peak.to_string()]);
            }
        }
        words.join(&TAB.to_string())
    }

    /// The line that [`Line::encode`] has made.
    pub fn decode(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(TAB).collect();
        let (kind, words) = words.split_first()?;
        match *kind {
            "row" => {
                let (head, words) = words.split_at_checked(3)?;
                let (cells, wants) = words.split_at_checked(2 * head[2].parse::<usize>().ok()?)?;
                let cells =
                    cells.chunks_exact(2).map(|cell| Some((cell[0].to_owned(), cell[1].parse().ok()?)));
                let wants = wants.chunks_exact(3).map(|want| Want {
                    wanted: want[0].to_owned(),
                    found: want[1].to_owned(),
                    met: match want[2] {
                        "Yes" => Met::Yes,
                        "No" => Met::No,
                        _ => Met::Unknown,
                    },
                });
                Some(Self::Row(Row {
                    goal: head[0].to_owned(),
                    work: head[1].to_owned(),
                    cells: cells.collect::<Option<_>>()?,
                    wants: wants.collect(),
                }))
            }
            "curve" => {
                let (what, points) = words.split_first()?;
                let points = points.chunks_exact(2).map(|point| (point[0].to_owned(), point[1].to_owned()));
                Some(Self::Curve { what: (*what).to_owned(), points: points.collect() })
            }
            "memory" => {
                let [scenario, peak] = words else { return None };
                Some(Self::Memory { scenario: (*scenario).to_owned(), peak: peak.parse().ok()? })
            }
            _ => None,
        }
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Table(Vec<Line>);

impl Table {
    /// Adds a line at the end.
    pub fn add(&mut self, line: Line) {
        self.0.push(line);
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().filter_map(|line| if let Line::Row(row) = line { Some(row) } else { None })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> =
            COLUMNS.into_iter().filter(|column| self.rows().any(|row| row.of(column).is_some())).collect();
        writeln!(f, "\n| goal | work | {} | wanted | ratio | met |", columns.join(" | "))?;
        writeln!(f, "|---|---|{}---|---|---|", "---|".repeat(columns.len()))?;
        for row in self.rows() {
            let cells = columns.iter().map(|column| row.of(column).map_or_else(|| "-".to_owned(), time));
            write!(f, "| {} | {} | {} |", row.goal, row.work, cells.collect::<Vec<_>>().join(" | "))?;
            let Some((first, more)) = row.wants.split_first() else {
                writeln!(f, " | | |")?;
                continue;
            };
            writeln!(f, " {} | {} | {} |", first.wanted, first.found, first.met)?;
            for want in more {
                let blank = " |".repeat(columns.len());
                writeln!(f, "| | |{blank} {} | {} | {} |", want.wanted, want.found, want.met)?;
            }
        }
        for line in &self.0 {
            if let Line::Curve { what, points } = line {
                write!(f, "\n{what}\n\n|")?;
                points.iter().try_for_each(|(at, _)| write!(f, " {at} |"))?;
                write!(f, "\n|{}\n|", "---|".repeat(points.len()))?;
                points.iter().try_for_each(|(_, cost)| write!(f, " {cost} |"))?;
                writeln!(f)?;
            }
        }
        let peaks = self.0.iter().filter_map(|line| match line {
            Line::Memory { scenario, peak } => Some(format!("{scenario} {}", bytes(*peak))),
            _ => None,
        });
        writeln!(f, "\nMost memory: {}", peaks.collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::No => "**no**",
            Self::Unknown => "absent",
        })
    }
}
