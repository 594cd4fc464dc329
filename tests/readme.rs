//! What the README says and this repository can tell: its program, its commands, its links, its dependencies.

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
