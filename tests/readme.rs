//! What the README says and this repository can tell: its program, its commands, its links, its dependencies. And the
//! pictures in `docs`, and the table of what was carried over.

#[expect(dead_code, reason = "its `main` writes what is compared here")]
#[path = "../examples/pictures.rs"]
mod pictures;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> io::Result<String> {
    fs::read_to_string(root().join("README.md"))
}

fn manifest() -> io::Result<String> {
    fs::read_to_string(root().join("Cargo.toml"))
}

/// The lines of every fenced block, with what stands behind its opening fence.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), Vec::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, lines)), None) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block is not closed");
    found
}

/// The crate documentation as Markdown.
fn crate_documentation() -> io::Result<String> {
    let source = fs::read_to_string(root().join("src/lib.rs"))?;
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    Ok(lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect())
}

/// The names under `[dependencies]` and `[target.….dependencies]`, in either way that Cargo writes them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let section = section.rsplit_once("'.").map_or(section, |(_, rest)| rest);
            inside = section == "dependencies";
            names.extend(section.strip_prefix("dependencies.").map(str::to_owned));
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

/// The first cell of every row of the table under a heading, without its backquotes.
fn first_cells(text: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = text.split_once(&format!("## {heading}\n")).expect("the README has the heading");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_program_is_the_one_that_the_crate_documentation_runs() -> io::Result<()> {
    let (readme, documentation) = (blocks(&readme()?), blocks(&crate_documentation()?));
    let shown = readme.iter().find(|(language, _)| language == "rust").expect("the README has a program");
    let run = documentation.first().expect("the crate documentation has a program");
    assert_eq!(run.0, "", "the program is compiled and run");
    assert_eq!(shown.1, run.1);
    Ok(())
}

#[test]
fn each_command_stands_on_a_line_of_its_own() -> io::Result<()> {
    let blocks = blocks(&readme()?);
    let shell = blocks.iter().filter(|(language, _)| language == "sh");
    let commands: Vec<&str> = shell.flat_map(|(_, lines)| lines).map(String::as_str).collect();
    assert_eq!(commands, ["cargo run --example quickstart", "cargo test"]);
    Ok(())
}

#[test]
fn a_pool_an_adoption_two_groups_a_deletion_and_a_revert_take_under_ten_commands() -> io::Result<()> {
    let readme = readme()?;
    // What they do is seen in `tests/cli.rs`, which runs them.
    let (_, marked) = readme.split_once("<!-- test: commands -->\n").expect("the README has commands");
    let (_, commands) = &blocks(marked)[0];
    let ours: Vec<&str> = commands.iter().filter_map(|line| line.strip_prefix("snapgroup ")).collect();
    assert!(ours.len() < 10, "{ours:?}");
    let wanted = [
        "init",
        "adopt",
        "group create",
        "group create",
        "plan delete",
        "group delete",
        "group revert",
        "check",
    ];
    let mut left = ours.iter();
    for wanted in wanted {
        assert!(
            left.any(|command| command.starts_with(wanted)),
            "{wanted} is not among {ours:?}, or not in its place"
        );
    }
    Ok(())
}

#[test]
fn the_pictures_in_the_docs_are_what_the_example_draws() -> Result<(), Box<dyn std::error::Error>> {
    for (name, drawn) in
        pictures::pictures()?.iter().flat_map(|(name, picture)| pictures::forms(name, picture))
    {
        let kept = fs::read_to_string(root().join("docs/pictures").join(&name))?;
        assert!(kept == drawn, "{name}: cargo run --example pictures -- docs/pictures");
    }
    // The one at the top of the README is the one of the groups.
    let groups = pictures::pictures()?[0].1.to_text();
    let shown = blocks(&readme()?).into_iter().find(|(language, _)| language == "text");
    assert_eq!(shown.map(|(_, lines)| lines.join("\n")).as_deref(), Some(groups.trim_end()));
    Ok(())
}

/// What the API has and its platform around it, each under one of the words of the table.
const CARRIED_OVER: [&str; 27] = [
    "POST /volume-snapshots/group",
    "PUT /volume-snapshots/group/{uuid}/actions",
    "DELETE /volume-snapshots/group/{uuid}",
    "deleteMode",
    "results",
    "volumeSnapshotRefs",
    "ErrorCode",
    "ungroup, revert, query, availability",
    "group tree",
    "snapshots: create, update, delete, delete several, query",
    "revert a volume, and undo it",
    "size and measuring",
    "shrinking",
    "`current`, `latest`, `distance`",
    "`scope` single or chain; `direction` pull, commit or auto",
    "quota",
    "tags",
    "a group before each revert",
    "trash",
    "clone references; flatten",
    "protection from deletion",
    "query language",
    "deletes that may be repeated",
    "progress, cancel",
    "events",
    "`deviceId`",
    "metadata against headers",
];

#[test]
fn every_feature_that_is_carried_over_has_a_row_that_says_where_it_is() -> io::Result<()> {
    let guide = fs::read_to_string(root().join("src/guide/the_api_carried_over.md"))?;
    let rows: Vec<(&str, &str)> =
        guide.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).collect();
    for feature in CARRIED_OVER {
        let row = rows.iter().find(|(there, _)| there.contains(feature));
        let (_, here) = row.unwrap_or_else(|| panic!("{feature:?} has no row"));
        assert!(here.contains("](crate::") || here.contains("each of them"), "{feature:?}: {here}");
    }
    let (_, missing) = guide.split_once("# What is not here, on purpose").expect("what is left out is said");
    for word in ["Accounts", "sessions", "Hosts", "primary storages", "Native snapshots"] {
        assert!(missing.contains(word), "{word}");
    }
    Ok(())
}

#[test]
fn every_type_at_the_door_is_held_to_what_types_can_do() -> io::Result<()> {
    // Each `pub use` of the door, and the names with a capital in it.
    let door = fs::read_to_string(root().join("src/engine/mod.rs"))?;
    let uses = door.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let names: BTreeSet<&str> = uses
        .flat_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()))
        .filter(|word| word.starts_with(char::is_uppercase))
        .collect();
    assert!(names.len() > 150 && names.contains("CreateGroup"), "the door was read wrongly: {names:?}");

    // Each is printed, sent and shared, which `tests/api.rs` holds when it is compiled.
    let api = fs::read_to_string(root().join("tests/api.rs"))?;
    let listed: BTreeSet<&str> = api.split(|letter: char| !letter.is_alphanumeric()).collect();
    for name in names.iter().filter(|name| !["Planned", "Quiesce", "Switch", "Result"].contains(name)) {
        assert!(listed.contains(name), "{name} is not in tests/api.rs");
    }
    Ok(())
}

#[test]
fn the_formats_of_the_guide_are_those_of_the_readme() -> io::Result<()> {
    let readme = readme()?;
    let (_, section) = readme.split_once("\n## Formats\n").expect("the README has the section");
    let section = section.split("\n## ").next().unwrap_or(section).trim();
    let guide = fs::read_to_string(root().join("src/guide/formats.md"))?;
    assert!(guide.contains(section), "src/guide/formats.md has another table");
    Ok(())
}

#[test]
fn every_chapter_of_the_guide_is_listed() -> io::Result<()> {
    let list = fs::read_to_string(root().join("src/guide/mod.rs"))?;
    for entry in fs::read_dir(root().join("src/guide"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(chapter) = name.strip_suffix(".md") else { continue };
        assert!(list.contains(&format!("//! | [`{chapter}`] |")), "{chapter} is not in the table");
        assert!(list.contains(&format!("pub mod {chapter} {{}}")), "{chapter} is no chapter");
    }
    Ok(())
}

#[test]
fn every_dependency_is_named_with_its_reason_and_no_other_one() -> io::Result<()> {
    let named = first_cells(&readme()?, "Dependencies, and what each is for");
    assert_eq!(named, dependencies(&manifest()?));
    Ok(())
}

#[test]
fn the_rust_version_is_the_one_that_cargo_asks_for() -> io::Result<()> {
    let manifest = manifest()?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("the manifest has a version").trim_matches('"');
    assert!(readme()?.contains(&format!("\nRust {version}. ")), "Rust {version}");
    Ok(())
}

#[test]
fn every_link_to_a_file_leads_to_one() -> io::Result<()> {
    let readme = readme()?;
    let links: Vec<&str> = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 3, "{links:?}");
    for link in links.iter().filter(|link| !link.contains("://")) {
        assert!(Path::new(&root()).join(link).is_file(), "{link}");
    }
    Ok(())
}

#[test]
fn both_ways_of_writing_a_dependency_are_read() {
    let manifest = "[package]\nname = 1\n[dependencies]\na = \"1\"\n[dependencies.b]\nversion = \"1\"\n\
                    [target.'cfg(target_os = \"linux\")'.dependencies]\nc = \"1\"\n\
                    [target.'cfg(unix)'.dependencies.d]\nversion = \"1\"\n[dev-dependencies]\ne = \"1\"\n\
                    [dev-dependencies.f]\nversion = \"1\"";
    let names: Vec<String> = dependencies(manifest).into_iter().collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}
