//! For a terminal.

use super::{NodeKind, Picture, PictureNode, plain};
use std::fmt::Write as _;

impl Picture {
    /// The picture as text: a line for each node, a parent above its children.
    ///
    /// A chain goes straight down in one column; a branch stands to the right of the node that it leaves. No colours,
    /// and nothing that steers a terminal, whatever the names hold.
    #[must_use]
    pub fn to_text(&self) -> String {
        let rows = self.rows();
        let lines: Vec<(String, &PictureNode)> = rows
            .iter()
            .map(|row| {
                let mut line = String::new();
                let branches = row.parent.is_some_and(|parent| rows[parent].lane < row.lane);
                for lane in 0..row.lane {
                    line.push_str(if branches && lane + 1 == row.lane { "├─" } else { "│ " });
                }
                let _ = write!(line, "{} {}", glyph(row.node.kind, row.node.current), plain(&row.node.label));
                (line, row.node)
            })
            .collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        let mut text = plain(self.title()) + "\n";
        for (line, node) in lines {
            let mut row = line;
            let facts: Vec<String> = node.facts.iter().map(|fact| plain(fact)).collect();
            if !facts.is_empty() || node.current {
                row.extend(std::iter::repeat_n(' ', width - row.chars().count()));
            }
            for fact in &facts {
                row.push_str("  ");
                row.push_str(fact);
            }
            if node.current {
                row.push_str("  ◀ current");
            }
            text.push_str(&row);
            text.push('\n');
        }
        text
    }
}

/// The sign of a node.
fn glyph(kind: NodeKind, current: bool) -> char {
    match kind {
        NodeKind::Head => '◆',
        NodeKind::Group | NodeKind::Snapshot if current => '◉',
        NodeKind::Group | NodeKind::Snapshot => '●',
        NodeKind::GroupIncomplete => '◐',
        NodeKind::Base => '■',
        NodeKind::Retired => '○',
    }
}
