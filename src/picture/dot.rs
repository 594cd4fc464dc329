//! For Graphviz.

use super::{NodeKind, Picture, plain};
use std::fmt::Write as _;

impl Picture {
    /// The picture in the language of Graphviz: `dot -Tpdf` draws it. An arrow leads from each node to what descends
    /// from it.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph snapgroup {\n");
        let _ = writeln!(dot, "  label={}; labelloc=t; rankdir=LR;", quoted(&[plain(self.title())]));
        dot.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
        let rows = self.rows();
        for row in &rows {
            let (fill, line) = row.node.kind.colours();
            let mut lines = vec![plain(&row.node.label)];
            lines.extend(row.node.facts.iter().map(|fact| plain(fact)));
            let width = if row.node.current { 3 } else { 1 };
            let style = match row.node.kind {
                NodeKind::Retired => ", style=\"rounded,filled,dashed\"",
                _ => "",
            };
            let _ = writeln!(
                dot,
                "  n{} [label={}, fillcolor=\"{fill}\", color=\"{line}\", penwidth={width}{style}];",
                row.index,
                quoted(&lines)
            );
        }
        for row in &rows {
            if let Some(parent) = row.parent {
                let _ = writeln!(dot, "  n{} -> n{};", rows[parent].index, row.index);
            }
        }
        dot + "}\n"
    }
}

/// Lines as one string of the language.
fn quoted(lines: &[String]) -> String {
    let lines: Vec<String> =
        lines.iter().map(|line| line.replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}
