//! Pictures of trees: one walk, four ways to draw it.
//!
//! * `walk` - the order of the rows, and the lane of each
//! * `text` - for a terminal, with Unicode's box characters
//! * `dot` - for Graphviz
//! * `mermaid` - for Markdown that is shown by a forge
//! * `svg` - for a page, without any script
//!
//! The names in a picture come from users: each way of drawing takes away from them whatever would mean something
//! to a terminal, a parser or a browser.

mod dot;
mod mermaid;
mod svg;
mod text;
mod walk;

use crate::inventory::Forest;

/// A tree, ready to be drawn.
///
/// [`Engine::picture_of_groups`](crate::Engine::picture_of_groups) and
/// [`Engine::picture_of_layers`](crate::Engine::picture_of_layers) make it.
///
/// ```
/// # use snapgroup::{ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, Options};
/// # fn main() -> snapgroup::Result<()> {
/// # let engine = Engine::in_memory(Options::default())?;
/// # let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
/// # let volume = engine.create_volume(&CreateVolume::new("system", ByteCount::gib(1)))?;
/// # engine.attach_volume(volume.uuid, machine.uuid, None)?;
/// # for name in ["monday", "tuesday"] {
/// #     engine.create_group(&CreateGroup::of_machine(machine.uuid, name))?;
/// # }
/// use snapgroup::picture::{NodeKind, PictureNode};
///
/// let picture = engine.picture_of_groups(machine.uuid)?;
/// assert_eq!(
///     picture.to_text(),
///     "groups of web-1\n\
///      ● monday   1 snapshot\n\
///      ◉ tuesday  1 snapshot  ◀ current\n"
/// );
/// assert!(picture.to_dot().starts_with("digraph") && picture.to_mermaid().contains("tuesday"));
///
/// // Or drawn by the caller.
/// assert_eq!(picture.title(), "groups of web-1");
/// let newest: &PictureNode = &picture.nodes().nodes()[1].value;
/// assert_eq!((newest.label.as_str(), newest.kind, newest.current), ("tuesday", NodeKind::Group, true));
/// std::fs::write(std::env::temp_dir().join("groups.svg"), picture.to_svg()).expect("a writable directory");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    title: String,
    nodes: Forest<PictureNode>,
}

/// A node of a [`Picture`].
///
/// An example is at [`Picture`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PictureNode {
    /// What it is called.
    pub label: String,
    /// What it is.
    pub kind: NodeKind,
    /// What is to be said of it, in short.
    pub facts: Vec<String>,
    /// Whether the disks descend from it, or are written to it.
    pub current: bool,
}

/// What a node of a [`Picture`] stands for.
///
/// An example is at [`Picture`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeKind {
    /// A group of which every member is there.
    Group,
    /// A group of which a member is gone.
    GroupIncomplete,
    /// The layer that a volume writes to.
    Head,
    /// A frozen layer that a snapshot names.
    Snapshot,
    /// A frozen layer without a name: a base image, or one that was adopted below a head.
    Base,
    /// A layer that no snapshot names any more, kept while others read through it.
    Retired,
}

impl Picture {
    /// A picture of a forest.
    pub(crate) fn new(title: String, nodes: Forest<PictureNode>) -> Self {
        Self { title, nodes }
    }

    /// What the picture shows.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The nodes, each under the one that it descends from or reads through to.
    #[must_use]
    pub fn nodes(&self) -> &Forest<PictureNode> {
        &self.nodes
    }
}

impl NodeKind {
    /// The word for it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::GroupIncomplete => "incomplete group",
            Self::Head => "head",
            Self::Snapshot => "snapshot",
            Self::Base => "base",
            Self::Retired => "retired",
        }
    }

    /// The colours of the fill and of the line: told apart by their lightness, too.
    const fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Group | Self::Snapshot => ("#d6e6f7", "#1f5c99"),
            Self::GroupIncomplete => ("#fbe3cd", "#a65a10"),
            Self::Head => ("#d9f0dc", "#1e7a34"),
            Self::Base => ("#ececec", "#555555"),
            Self::Retired => ("#ffffff", "#999999"),
        }
    }
}

/// A text on one line, without the characters that steer a terminal or turn the direction of writing.
fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
