//! For Markdown.

use super::{NodeKind, Picture, plain};
use std::fmt::Write as _;

impl Picture {
    /// The picture as a Mermaid flow chart, for a fenced block of Markdown that is marked `mermaid`.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut chart = format!("---\ntitle: {}\n---\nflowchart LR\n", front_matter(self.title()));
        let rows = self.rows();
        for row in &rows {
            let mut lines = vec![escaped(&row.node.label)];
            lines.extend(row.node.facts.iter().map(|fact| escaped(fact)));
            let _ = writeln!(chart, "  n{}[\"{}\"]", row.index, lines.join("<br/>"));
        }
        for row in &rows {
            if let Some(parent) = row.parent {
                let _ = writeln!(chart, "  n{} --> n{}", rows[parent].index, row.index);
            }
        }
        for row in &rows {
            let (fill, line) = row.node.kind.colours();
            let width = if row.node.current { 3 } else { 1 };
            let dashes = match row.node.kind {
                NodeKind::Retired => ",stroke-dasharray:4 3",
                _ => "",
            };
            let _ = writeln!(
                chart,
                "  style n{} fill:{fill},stroke:{line},stroke-width:{width}px,color:#111{dashes}",
                row.index
            );
        }
        chart
    }
}

/// A text inside of quotation marks: all but letters, digits and a few signs as numbers of characters.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in plain(text).chars() {
        if c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | ',' | '/' | '(' | ')' | '+') {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "#{};", u32::from(c));
        }
    }
    escaped
}

/// A title as a quoted scalar of YAML.
fn front_matter(title: &str) -> String {
    format!("\"{}\"", plain(title).replace('\\', "\\\\").replace('"', "\\\""))
}
