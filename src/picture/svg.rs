//! For a page.

use super::walk::Row;
use super::{NodeKind, Picture, plain};
use std::fmt::Write as _;

/// The height of a row in pixels.
const ROW: usize = 34;
/// The width of a lane.
const LANE: usize = 26;
/// What is left free around the picture.
const MARGIN: usize = 16;
/// The room of the title.
const TITLE: usize = 34;
/// The room between a label and its facts.
const GAP: usize = 12;
/// The radius of a node.
const RADIUS: usize = 8;
/// How wide a character of a label is taken to be, on the safe side for the font that is asked for: a current one is bold.
const CHARACTER: usize = 9;
/// How wide one of the facts is, which are set smaller.
const CHARACTER_SMALL: usize = 7;
/// The line of descent.
const EDGE: &str = "#8a8a8a";
/// The colours of a dark page, for whoever prefers one: the nodes keep theirs, and a retired one shows the page.
const DARK: &str = "@media (prefers-color-scheme: dark) { .page, .retired { fill: #0d1117 } text { fill: #e6edf3 } \
                    tspan { fill: #9198a1 } }";

impl Picture {
    /// The picture as SVG: one file, no script, no reference to anything outside. It is light or dark as the reader
    /// prefers pages to be, and each node tells in words what it is to whoever points at it or hears it read.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let rows = self.rows();
        let lanes = rows.iter().map(|row| row.lane + 1).max().unwrap_or(1);
        let texts = MARGIN + lanes * LANE + 8;
        let line =
            |row: &Row<'_>| wide(&row.node.label, CHARACTER) + GAP + wide(&facts(row), CHARACTER_SMALL);
        let widest = rows.iter().map(line).max().unwrap_or(0);
        let width = (texts + widest).max(MARGIN + wide(self.title(), CHARACTER + 1)) + MARGIN;
        let height = TITLE + rows.len() * ROW + 2 * MARGIN;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" font-family=\"ui-sans-serif, system-ui, sans-serif\" font-size=\"14\">\n\
             <title>{title}</title>\n\
             <style>{DARK}</style>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#ffffff\"/>\n\
             <text x=\"{MARGIN}\" y=\"{}\" font-size=\"16\" font-weight=\"600\" fill=\"#111\">{title}</text>\n",
            MARGIN + 16,
            title = escaped(self.title()),
        );
        for (place, row) in rows.iter().enumerate() {
            if let Some(parent) = row.parent {
                edge(&mut svg, centre(parent, &rows[parent]), centre(place, row));
            }
        }
        for (place, row) in rows.iter().enumerate() {
            node(&mut svg, centre(place, row), texts, row);
        }
        svg + "</svg>\n"
    }
}

/// How wide a text is taken to be: the characters of East Asia and signs beyond them are twice as wide as others.
fn wide(text: &str, character: usize) -> usize {
    plain(text).chars().map(|c| if c < '\u{1100}' { character } else { 2 * character }).sum()
}

/// Where the sign of a row stands.
fn centre(place: usize, row: &Row<'_>) -> (usize, usize) {
    (MARGIN + RADIUS + row.lane * LANE, TITLE + MARGIN + place * ROW + ROW / 2)
}

/// A line from a parent to a child: straight down in one lane, around a corner into another one.
fn edge(svg: &mut String, (from_x, from_y): (usize, usize), (to_x, to_y): (usize, usize)) {
    let path = if from_x == to_x {
        format!("M{from_x} {from_y}V{to_y}")
    } else {
        format!("M{from_x} {from_y}V{}Q{from_x} {to_y} {} {to_y}H{to_x}", to_y - 10, from_x + 10)
    };
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{EDGE}\" stroke-width=\"2\"/>");
}

fn node(svg: &mut String, (x, y): (usize, usize), texts: usize, row: &Row<'_>) {
    let (fill, line) = row.node.kind.colours();
    let width = if row.node.current { 4 } else { 2 };
    let is_retired = row.node.kind == NodeKind::Retired;
    let dashes = if is_retired { " stroke-dasharray=\"3 2\" class=\"retired\"" } else { "" };
    let style = format!("fill=\"{fill}\" stroke=\"{line}\" stroke-width=\"{width}\"{dashes}");
    let said = if row.node.current { ", current" } else { "" };
    let _ = write!(svg, "<g><title>{}: {}{said}</title>", row.node.kind.as_str(), escaped(&row.node.label));
    let _ = match row.node.kind {
        // The head is a square on its corner, a base one on its side: known without their colour.
        NodeKind::Head => write!(
            svg,
            "<path d=\"M{x} {}L{} {y}L{x} {}L{} {y}Z\" {style}/>",
            y - RADIUS - 1,
            x + RADIUS + 1,
            y + RADIUS + 1,
            x - RADIUS - 1
        ),
        NodeKind::Base => write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {style}/>",
            x - RADIUS + 1,
            y - RADIUS + 1,
            2 * RADIUS - 2,
            2 * RADIUS - 2
        ),
        _ => write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{RADIUS}\" {style}/>"),
    };
    let weight = if row.node.current { " font-weight=\"600\"" } else { "" };
    let _ = writeln!(
        svg,
        "<text x=\"{texts}\" y=\"{}\" fill=\"#111\"{weight}>{}<tspan dx=\"{GAP}\" fill=\"#666\" font-weight=\"400\" font-size=\"12\">{}</tspan></text></g>",
        y + 5,
        escaped(&row.node.label),
        escaped(&facts(row))
    );
}

/// What is said of a node, on one line.
fn facts(row: &Row<'_>) -> String {
    let mut facts = row.node.facts.clone();
    if row.node.current {
        facts.push("current".to_owned());
    }
    facts.join(" · ")
}

/// A text between tags.
fn escaped(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
