//! Every public item has an example, held by reading `src`.
//!
//! Public is what says `pub`: the crate denies `unreachable_pub`, but for the catalogue and the plans, of which is public
//! what `src/engine/mod.rs` hands on by name, and the questions (`src/catalog/query`).
//!
//! An item has an example when a block of Rust code calls it (a function: its name and a parenthesis) or names it (a type,
//! a trait, a constant), and that block stands
//!
//! 1. in its own documentation, or in a file that this includes;
//! 2. on its page: in the documentation of the type that it is a method of, or of another method there (but for the calls of
//!    an engine); for what is no method, in that of its module;
//! 3. on the page that its documentation, or that of its type, leads to in words: "An example is at [`Type`]".
//!
//! A type may also have an example of its own that does not name it, as what a call answers often is not named.
//! Variants, fields, constants of a type and what a trait asks for in an `impl` need none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of which only a part is public.
const CLOSED: &[&str] = &["src/catalog/", "src/plan/", "src/sync.rs"];
/// A part of them that is public as a whole.
const OPEN: &[&str] = &["src/catalog/query/mod.rs", "src/catalog/query/fields.rs"];
/// Where the other parts are handed on, by name.
const DOOR: &str = "src/engine/mod.rs";

/// What is public in the reading of this file and not for callers, and why.
const EXCEPTED: &[(&str, &str, &str)] = &[
    ("src/catalog/query/fields.rs", "Ids", "the answer of a method that is hidden"),
    ("src/engine/plans.rs", "Sealed", "keeps others from implementing a trait, and is in a closed module"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Function,
    Named,
}

/// An item of the sources.
#[derive(Debug)]
struct Item {
    file: String,
    line: usize,
    name: String,
    /// The type that it is a method of; with a dollar when a macro writes it.
    owner: Option<String>,
    kind: Kind,
    is_public: bool,
    /// Its documentation, with what this includes.
    docs: String,
}

impl Item {
    fn place(&self) -> String {
        let owner = self.owner.as_ref().map(|owner| format!("{owner}::")).unwrap_or_default();
        format!("{}:{}: {owner}{}", self.file, self.line, self.name)
    }
}

/// The blocks of Rust code of a documentation.
fn examples_in(docs: &str) -> String {
    let mut code = String::new();
    let mut inside = None;
    for line in docs.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(language), None) => {
                let is_code =
                    language.split(',').all(|word| matches!(word, "" | "rust" | "no_run" | "should_panic"));
                inside = Some(is_code);
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                code.push_str(line);
                code.push('\n');
            }
            (None, _) => {}
        }
    }
    code
}

/// Where a documentation leads to for an example: what stands between the brackets of a sentence about one.
fn leads(docs: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for sentence in docs.split(". ").flat_map(|part| part.split(".\n")) {
        for opening in ["n example is at [`", "nother example is at [`"] {
            if let Some((_, rest)) = sentence.split_once(opening) {
                found.extend(rest.split_once('`').map(|(target, _)| target));
            }
        }
    }
    found
}

/// Whether a text has a name that is not a part of a longer one, and `after` right behind it.
fn has(text: &str, name: &str, after: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let behind = &text[at + name.len()..];
        !text[..at].ends_with(is_word) && !behind.starts_with(is_word) && behind.starts_with(after)
    })
}

/// The items of one file, and what its `//!` says.
fn items_of(file: &str, text: &str, folder: &Path) -> (Vec<Item>, String) {
    let (mut items, mut of_file, mut docs) = (Vec::new(), String::new(), String::new());
    // What is open around a line: how far it is indented, what it is an `impl` or a trait of, whether that is public.
    let mut around: Vec<(usize, Option<String>, bool)> = Vec::new();
    let (mut is_hidden, mut in_macro) = (false, false);
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.starts_with("#[cfg(test)]") {
            if text.lines().nth(number + 1).is_some_and(|next| next.ends_with('{')) {
                break;
            }
            continue;
        }
        if indent == 0 {
            in_macro = trimmed.ends_with("!(");
        }
        if let Some(said) = trimmed.strip_prefix("//!") {
            of_file.push_str(said.strip_prefix(' ').unwrap_or(said));
            of_file.push('\n');
            continue;
        }
        if let Some(said) = trimmed.strip_prefix("///") {
            docs.push_str(said.strip_prefix(' ').unwrap_or(said));
            docs.push('\n');
            continue;
        }
        if let Some((_, rest)) = trimmed.split_once("doc = include_str!(\"") {
            let path = rest.split('"').next().unwrap_or_default();
            let included = fs::read_to_string(folder.join(path));
            docs.push_str(&included.unwrap_or_else(|error| panic!("{file} includes {path}: {error}")));
            continue;
        }
        if trimmed.starts_with("#[") || trimmed.starts_with(")]") || trimmed.is_empty() {
            is_hidden |= trimmed.starts_with("#[doc(hidden)]");
            continue;
        }
        if trimmed.starts_with('}') {
            around.retain(|(outer, ..)| *outer < indent);
        }
        let is_pub = trimmed.starts_with("pub ");
        let said = trimmed.trim_start_matches("pub ");
        let words = said.trim_start_matches("const ").trim_start_matches("async ").trim_start_matches("fn ");
        let is_function = said.strip_suffix(words).is_some_and(|before| before.ends_with("fn "));
        let named = |text: &str| -> String {
            text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$')).collect()
        };
        let mut declared = None;
        for word in ["struct ", "enum ", "trait ", "type ", "const ", "mod "] {
            if let Some(rest) = said.strip_prefix(word).filter(|_| !is_function) {
                declared = Some((word, named(rest)));
            }
        }
        let inside = around.last();
        if is_function {
            let owner = inside.and_then(|(_, owner, _)| owner.clone());
            let in_public_trait = inside.is_some_and(|(_, _, is_trait)| *is_trait);
            items.push(Item {
                file: file.to_owned(),
                line: number + 1,
                name: named(words),
                owner,
                kind: Kind::Function,
                is_public: (is_pub || in_public_trait) && !is_hidden,
                docs: std::mem::take(&mut docs),
            });
        } else if let Some((word, name)) = declared {
            let is_associated = inside.is_some_and(|(_, owner, _)| owner.is_some());
            if word == "mod " {
                if trimmed.ends_with('{') {
                    // What stands in it may do with its examples.
                    of_file.push_str(&docs);
                }
            } else if !is_associated {
                items.push(Item {
                    file: file.to_owned(),
                    line: number + 1,
                    name: name.clone(),
                    owner: None,
                    kind: Kind::Named,
                    is_public: is_pub && !is_hidden && !name.starts_with('$'),
                    docs: std::mem::take(&mut docs),
                });
            }
            if word == "trait " && trimmed.ends_with('{') {
                around.push((indent, Some(name), is_pub));
            }
        } else if let Some(rest) = trimmed.strip_prefix("impl") {
            if trimmed.ends_with('{') && !rest.contains(" for ") {
                let rest = match rest.strip_prefix('<') {
                    Some(bounded) => bounded.split_once('>').map_or("", |(_, rest)| rest),
                    None => rest,
                };
                around.push((indent, Some(named(rest.trim_start())), false));
            }
        } else if in_macro && indent == 4 && trimmed.starts_with(|c: char| c.is_ascii_uppercase()) {
            // A type that a macro of this file makes, with its documentation.
            items.push(Item {
                file: file.to_owned(),
                line: number + 1,
                name: named(trimmed),
                owner: None,
                kind: Kind::Named,
                is_public: true,
                docs: std::mem::take(&mut docs),
            });
        }
        docs.clear();
        is_hidden = false;
    }
    (items, of_file)
}

/// All that is public and has no example.
fn undocumented(files: &BTreeMap<String, String>, root: &Path) -> (usize, Vec<String>) {
    let (mut items, mut of_files) = (Vec::new(), BTreeMap::new());
    for (file, text) in files {
        let folder = root.join(file).parent().expect("a file is in a folder").to_owned();
        let (found, said) = items_of(file, text, &folder);
        items.extend(found);
        of_files.insert(file.as_str(), said);
    }
    let handed_on: BTreeSet<(&str, &str)> = files.get(DOOR).map_or_else(BTreeSet::new, |door| {
        let groups = door.split("pub use crate::").skip(1).filter_map(|rest| rest.split(';').next());
        let names = groups.flat_map(|group| {
            let room = group.split("::").next().unwrap_or_default();
            group.split(|c: char| !c.is_alphanumeric()).map(move |name| (room, name))
        });
        names.collect()
    });
    let room = |file: &str| file.split('/').nth(1).unwrap_or_default().to_owned();
    let is_public = |item: &Item| {
        let is_within = |rooms: &[&str]| rooms.iter().any(|room| item.file.starts_with(room));
        let whose = item.owner.as_deref().unwrap_or(&item.name);
        let is_open = !is_within(CLOSED) || is_within(OPEN);
        item.is_public && (is_open || handed_on.contains(&(room(&item.file).as_str(), whose)))
    };
    // The pages, by the room and the name of the type: what is said of it and of its methods. Methods that a macro writes
    // are on the pages of all types of their file.
    let mut pages: BTreeMap<(String, String), String> = BTreeMap::new();
    for item in &items {
        let name = item.owner.clone().unwrap_or_else(|| item.name.clone());
        let page = pages.entry((room(&item.file), name)).or_default();
        page.push_str(&item.docs);
        page.push('\n');
    }
    let of_module = |file: &str, name: &str| {
        let module = file.rsplit('/').next() == Some("mod.rs") && file.rsplit('/').nth(1) == Some(name);
        module.then(|| of_files[file].clone())
    };
    let page_of = |near: &str, target: &str| -> Vec<String> {
        let name = target.rsplit("::").next().unwrap_or(target);
        let here = pages.get(&(room(near), name.to_owned())).cloned();
        let modules = files.keys().filter_map(|file| of_module(file, name));
        let elsewhere = pages.iter().filter(|((_, other), _)| other == name).map(|(_, page)| page.clone());
        match here {
            Some(page) => vec![page],
            None => modules.chain(elsewhere).collect(),
        }
    };
    let mut missing = Vec::new();
    let mut count = 0;
    for item in items.iter().filter(|item| is_public(item)) {
        let is_this = |(file, name, _): &(&str, &str, &str)| *file == item.file && *name == item.name;
        // A name that a macro puts in is not known here.
        if item.name.starts_with('$') || EXCEPTED.iter().any(is_this) {
            continue;
        }
        count += 1;
        let shows = |code: &str| match item.kind {
            Kind::Function => has(code, &item.name, "(") || has(code, &item.name, "::<"),
            Kind::Named => has(code, &item.name, ""),
        };
        if item.kind == Kind::Named && !examples_in(&item.docs).is_empty() {
            continue;
        }
        let mut texts = vec![item.docs.clone()];
        match &item.owner {
            Some(owner) if owner.starts_with('$') => {
                texts.extend(
                    items.iter().filter(|other| other.file == item.file).map(|other| other.docs.clone()),
                );
            }
            // Its page has a hundred calls: each shows itself.
            Some(owner) if owner == "Engine" => {}
            Some(owner) => texts.extend(page_of(&item.file, owner)),
            None => texts.push(of_files[item.file.as_str()].clone()),
        }
        let led: Vec<String> = texts
            .iter()
            .flat_map(|text| leads(text))
            .flat_map(|target| page_of(&item.file, target))
            .collect();
        texts.extend(led);
        if !texts.iter().any(|text| shows(&examples_in(text))) {
            missing.push(item.place());
        }
    }
    (count, missing)
}

fn sources(root: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path
                .strip_prefix(root)
                .expect("it was found under the root")
                .to_string_lossy()
                .replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !name.starts_with("src/bin/") {
                files.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(files)
}

#[test]
fn every_public_item_has_an_example_that_shows_it() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (count, missing) = undocumented(&sources(root)?, root);
    assert!(count > 900, "only {count} public items were found");
    assert!(missing.is_empty(), "{} of {count} have none:\n{}", missing.len(), missing.join("\n"));
    Ok(())
}

/// What is missed in one file.
fn missed_in(text: &str) -> Vec<String> {
    let files = [("src/room/one.rs".to_owned(), text.to_owned())].into();
    undocumented(&files, Path::new("/nowhere")).1
}

#[test]
fn what_has_no_example_is_found() {
    for (text, missed) in [
        ("pub struct A;\n", vec!["1: A"]),
        ("/// A.\n///\n/// ```\n/// let a = 1;\n/// ```\npub struct A;\n", vec![]),
        ("/// ```text\n/// A\n/// ```\npub struct A;\n", vec!["4: A"]),
        ("/// ```\n/// b();\n/// ```\npub fn a() {}\n", vec!["4: a"]),
        ("/// ```\n/// a();\n/// ```\npub fn a() {}\n", vec![]),
        ("pub(crate) fn a() {}\nfn b() {}\n", vec![]),
        ("pub async fn a() {}\npub const fn b() {}\n", vec!["1: a", "2: b"]),
        // On the page of the type, called by its whole name.
        (
            "/// ```\n/// A::one(); a.two(1);\n/// ```\npub struct A;\nimpl A {\n    pub fn one() {}\n    pub const fn two() {}\n    pub fn on() {}\n}\n",
            vec!["8: A::on"],
        ),
        // Of what a trait asks for in an impl nothing is asked; of the trait itself it is.
        ("impl Clone for A {\n    fn clone(&self) {}\n}\n", vec![]),
        ("/// ```\n/// T\n/// ```\npub trait T {\n    fn asked(&self);\n}\n", vec!["5: T::asked"]),
        // Led there in words, where it must be shown.
        (
            "/// ```\n/// B.b()\n/// ```\npub struct A;\n/// An example is at [`A`].\npub struct B;\nimpl B {\n    pub fn b() {}\n    pub fn c() {}\n}\n",
            vec!["9: B::c"],
        ),
        ("pub struct A;\n/// An example is at [`A`].\npub struct B;\n", vec!["1: A", "3: B"]),
        ("/// ```\n/// A\n/// ```\npub const A: u32 = 1;\npub type C = u32;\n", vec!["5: C"]),
        ("#[cfg(test)]\nmod tests {\n    pub fn a() {}\n}\n", vec![]),
    ] {
        let missed: Vec<_> = missed.iter().map(|place| format!("src/room/one.rs:{place}")).collect();
        assert_eq!(missed_in(text), missed, "{text}");
    }
}
