//! The walls between the rooms of `src`, held by reading it. See `ROOMS` for who may name whom.
//!
//! The reading is rough: comments and the insides of literals are blanked, what is left is cut into words, and
//! every path that starts in this crate (`crate::`, or `super::` far enough up) is followed, through groups of
//! `use`, to the room that it enters. [`breaches`] is a function of paths and texts; the tests at the end plant
//! one breach of each rule and see it found.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Every room, and the rooms that it may name. What is not here has no wall and is a breach by itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("sync", &[]),
    ("format", &["units"]),
    ("storage", &["units"]),
    ("image", &["format", "storage", "units", "sync"]),
    ("chain", &["image", "format", "storage", "units", "sync"]),
    ("catalog", &["storage", "units"]),
    ("plan", &["catalog", "units"]),
    ("inventory", &["catalog", "units"]),
    ("picture", &["inventory", "units"]),
    ("guide", &[]),
    ("qmp", &["engine"]),
    ("object_store", &["engine", "inventory", "units"]),
    ("qcow2_rs", &["engine", "chain", "image", "format", "storage", "units"]),
    ("engine", &["picture", "inventory", "plan", "catalog", "chain", "image", "storage", "units", "sync"]),
];

/// Programs that link the library as others do.
const PROGRAMS: &str = "src/bin/";

/// Single items that a room may name in a room that is closed to it.
const DOORS: &[(&str, &[&str])] = &[("plan", &["storage::BlobName", "storage::InvalidName"])];

/// Paths that a room may not name: the prefix of the file, the path, and why.
const BANNED_IN: &[(&str, &str, &str)] = &[
    ("src/format", "std::fs", "format is bytes and values: no I/O"),
    ("src/format", "std::io", "format is bytes and values: no I/O"),
    ("src/format", "std::time", "format is bytes and values: no clock"),
    ("src/plan", "std::fs", "plan decides: no store"),
    ("src/plan", "std::io", "plan decides: no store"),
    ("src/plan", "std::time", "plan decides: no clock"),
    ("src/plan", "Instant", "plan decides: no clock"),
    ("src/plan", "SystemTime", "plan decides: no clock"),
    ("src/plan", "Uuid::new_v4", "plan decides: no randomness"),
];

/// Paths that only some files may name: the path, the prefixes of those files, and why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("std::fs", &["src/storage/disk"], "only the disk touches files"),
    ("nix", &["src/storage/disk"], "only the disk makes system calls"),
    ("shuttle", &["src/sync.rs"], "one file says whose the locks are"),
    ("unsafe", &["src/storage/disk/mapped.rs"], "unsafe is in one file"),
    ("tracing", &["src/engine/spans.rs"], "spans are made where operations begin and end"),
    (
        "engine::Error",
        &["src/engine", "src/object_store", "src/qcow2_rs"],
        "an error that gathers all stands above all",
    ),
];

/// Macros that nothing may call.
const MACROS_BANNED: &[&str] = &["todo", "unimplemented", "dbg"];

/// The lines of a file, its `#[cfg(test)]` tail left out.
const LINES_MAX: usize = 500;
/// From here on a file is named as getting long.
const LINES_LONG: usize = 400;

/// A rule, where it is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Breach {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a file that is getting long is named, not refused")]
fn no_room_of_this_crate_names_what_it_may_not() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > ROOMS.len(), "only {} files were found", files.len());

    let mut found = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path)?;
        let name: Vec<_> = path
            .strip_prefix(root)
            .expect("every file was found under the root")
            .components()
            .map(|component| component.as_os_str().to_string_lossy())
            .collect();
        let name = name.join("/");
        let length = lines_of_code(&text);
        if (LINES_LONG + 1..=LINES_MAX).contains(&length) {
            eprintln!("{name} is getting long: {length} lines of at most {LINES_MAX}");
        }
        found.extend(breaches(&name, &text));
    }
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} breaches:\n{}", found.len(), found.join("\n"));
    Ok(())
}

/// Calls of an engine that can fail and are no operation by themselves: they look records up, or are another call in short.
const LOOK_UPS: &[&str] = &[
    "chain",
    "check_availability",
    "export",
    "export_file",
    "group",
    "group_tree",
    "import",
    "in_memory",
    "internals",
    "machine",
    "open",
    "owed",
    "picture_of_groups",
    "picture_of_layers",
    "prepared_groups",
    "rebuild",
    "resume_group",
    "snapshot",
    "usage",
    "volume",
];

#[test]
fn every_call_of_an_engine_that_is_no_look_up_is_an_operation() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src/engine")];
    let (mut untold, mut calls) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            for (name, body) in calls_of_engine(&fs::read_to_string(&path)?) {
                calls += 1;
                let begins = ["during(", "Running::begin(", "Reclaim::of(", "Sealing::of("];
                if !begins.iter().any(|begin| body.contains(begin)) {
                    untold.push(name);
                }
            }
        }
    }
    untold.sort();
    assert_eq!(untold, LOOK_UPS, "of {calls} calls");
    Ok(())
}

#[test]
fn every_call_of_an_engine_has_an_example() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src/engine")];
    let (mut bare, mut calls) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            for block in text.split("\nimpl Engine {").skip(1) {
                let block = block.split("\n}\n").next().unwrap_or(block);
                let mut said = String::new();
                for line in block.lines() {
                    let line = line.trim_start();
                    if let Some(call) = line.strip_prefix("pub fn ") {
                        calls += 1;
                        if !said.contains("```") && !said.contains("examples/") {
                            bare.push(
                                call.chars()
                                    .take_while(|&character| is_word(&character.to_string()))
                                    .collect::<String>(),
                            );
                        }
                    }
                    match line.starts_with("///") || line.starts_with("#[") {
                        true => said.push_str(line),
                        false => said.clear(),
                    }
                }
            }
        }
    }
    assert!(bare.is_empty(), "without an example, of {calls}: {bare:?}");
    Ok(())
}

/// The public functions of `impl Engine` that can fail, each with its text.
fn calls_of_engine(text: &str) -> Vec<(String, String)> {
    let mut calls = Vec::new();
    for block in text.split("\nimpl Engine {").skip(1) {
        let block = block.split("\n}\n").next().unwrap_or(block);
        for call in block.split("\n    pub fn ").skip(1) {
            let body = call.split("\n    }\n").next().unwrap_or(call);
            let name: String = body.chars().take_while(|character| is_word(&character.to_string())).collect();
            let signature = body.split(" {\n").next().unwrap_or(body);
            if signature.contains("Result<") {
                calls.push((name, body.to_owned()));
            }
        }
    }
    calls
}

/// Every rule that the file breaks. `file` is its path from the root of the crate, with `/` between.
fn breaches(file: &str, text: &str) -> Vec<Breach> {
    let tokens = tokens(&blanked(text));
    let mut found: Vec<Breach> = Vec::new();
    let mut breach = |line: usize, rule: String| {
        let breach = Breach { file: file.to_owned(), line, rule };
        if !found.contains(&breach) {
            found.push(breach);
        }
    };

    if file.starts_with(PROGRAMS) {
        // A crate of its own: it has the door of the library and no other way in.
        return found;
    }
    let Some(modules) = modules_of(file) else {
        check_table_of_contents(&tokens, &mut breach);
        return found;
    };
    let room = modules[0].as_str();
    let Some((_, may_name)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        breach(1, format!("`{room}` is no room: give it a row in the table of this test"));
        return found;
    };

    for path in paths(&tokens, &modules) {
        let Named { line, words } = &path;
        if let Some(inside) = path.inside() {
            let Some(entered) = inside.first() else { continue };
            let by_door = || {
                let doors = DOORS.iter().filter(|(name, _)| *name == room).flat_map(|(_, doors)| *doors);
                inside.len() > 1 && doors.into_iter().any(|door| *door == inside[..2].join("::"))
            };
            if entered != room && !may_name.contains(&entered.as_str()) && !by_door() {
                breach(*line, format!("`{room}` may not name `crate::{}`", inside.join("::")));
            }
        }
        for (folder, banned, why) in BANNED_IN {
            if file.starts_with(folder) && names(words, banned) {
                breach(*line, format!("`{banned}` is named: {why}"));
            }
        }
        for (only, folders, why) in ONLY_IN {
            if !folders.iter().any(|folder| file.starts_with(folder)) && names(words, only) {
                breach(*line, format!("`{only}` is named outside of `{}`: {why}", folders.join("` and `")));
            }
        }
    }
    for call in tokens.windows(3) {
        let is_call = call[1].word == "!" && ["(", "[", "{"].contains(&call[2].word.as_str());
        if is_call && MACROS_BANNED.contains(&call[0].word.as_str()) {
            breach(call[0].line, format!("`{}!` is no code", call[0].word));
        }
    }
    let length = lines_of_code(text);
    if length > LINES_MAX {
        breach(LINES_MAX + 1, format!("{length} lines; at most {LINES_MAX} before the tests"));
    }
    found
}

/// `lib.rs` is a table of contents: attributes, `mod` and `pub use`, and nothing else.
fn check_table_of_contents(tokens: &[Token], breach: &mut impl FnMut(usize, String)) {
    let mut at = 0;
    while at < tokens.len() {
        let words: Vec<&str> = tokens[at..].iter().take(4).map(|token| token.word.as_str()).collect();
        let end = match words[..] {
            ["#", ..] => closing(tokens, at),
            ["mod", _, ";", ..] => at + 2,
            ["pub", "mod", _, ";"] => at + 3,
            ["pub", "use", ..] => tokens[at..]
                .iter()
                .position(|token| token.word == ";")
                .map_or(tokens.len(), |ahead| at + ahead),
            _ => {
                let line = tokens[at].line;
                breach(
                    line,
                    format!("`{}`: lib.rs is a table of contents and defines nothing", words.join(" ")),
                );
                return;
            }
        };
        at = end + 1;
    }
}

/// The index of the bracket that closes the first one from `at` on.
fn closing(tokens: &[Token], at: usize) -> usize {
    let mut open = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.word.as_str() {
            "[" => open += 1,
            "]" if open == 1 => return index,
            "]" => open -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The modules that a file of `src` is, from the crate's root: `src/a/b.rs` and `src/a/b/mod.rs` are `a`, `b`.
/// None for `lib.rs`.
fn modules_of(file: &str) -> Option<Vec<String>> {
    let inner = file.strip_prefix("src/").unwrap_or(file);
    let inner = inner.strip_suffix(".rs").unwrap_or(inner);
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    (inner != "lib").then(|| inner.split('/').map(str::to_owned).collect())
}

/// The lines before the first `#[cfg(test)]` that stands at the margin and is followed by a `mod` with a body.
fn lines_of_code(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.windows(2).position(|pair| {
        pair[0].trim_end() == "#[cfg(test)]"
            && pair[1].starts_with("mod ")
            && pair[1].trim_end().ends_with('{')
    });
    tail.unwrap_or(lines.len())
}

/// Whether the words of a path hold those of `sought` (`std::fs`) beside each other.
fn names(words: &[String], sought: &str) -> bool {
    let sought: Vec<&str> = sought.split("::").collect();
    words.windows(sought.len()).any(|window| window == sought)
}

/// A path as it is written out: the groups of a `use` unfolded, `super` and `self` followed from the module that
/// it stands in. A path into this crate starts with `crate`.
#[derive(Debug)]
struct Named {
    line: usize,
    words: Vec<String>,
}

impl Named {
    /// What comes after `crate`.
    fn inside(&self) -> Option<&[String]> {
        match self.words.split_first() {
            Some((first, rest)) if first == "crate" => Some(rest),
            _ => None,
        }
    }
}

/// Every path in the file, and every single word as a path of one.
fn paths(tokens: &[Token], modules: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    // Bodies of modules written in place are one deeper: `super` in them leads to this file's own module.
    let mut modules_open: Vec<(String, usize)> = Vec::new();
    let mut braces_open = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].word.as_str() {
            "{" => braces_open += 1,
            "}" => {
                modules_open.retain(|(_, depth)| *depth < braces_open);
                braces_open = braces_open.saturating_sub(1);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token.word == "{") => {
                modules_open.push((tokens[at + 1].word.clone(), braces_open + 1));
                at += 1;
            }
            word if is_word(word) && word != "as" => {
                let mut here = modules.to_vec();
                here.extend(modules_open.iter().map(|(name, _)| name.clone()));
                at = unfold(tokens, at, &here, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Unfolds the path that starts at `at`, and answers where it ends.
fn unfold(tokens: &[Token], at: usize, here: &[String], found: &mut Vec<Named>) -> usize {
    // Each open group remembers the path before its brace.
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut line = tokens[at].line;
    let mut at = at;
    let word_at = |at: usize| tokens.get(at).map_or("", |token| token.word.as_str());
    loop {
        let word = word_at(at);
        if is_word(word) && word != "as" {
            line = tokens[at].line;
            words.push(word.to_owned());
            at += 1;
            if word_at(at) == "::" {
                at += 1;
                if word_at(at) == "{" {
                    groups.push(words.clone());
                    at += 1;
                    continue;
                }
                if is_word(word_at(at)) {
                    continue;
                }
                if word_at(at) == "*" {
                    words.push("*".to_owned());
                    at += 1;
                }
            }
        } else if word == "*" && !groups.is_empty() {
            words.push(word.to_owned());
            at += 1;
        }
        if !words.is_empty() {
            found.push(Named { line, words: followed(std::mem::take(&mut words), here) });
        }
        if groups.is_empty() {
            return at;
        }
        match word_at(at) {
            "," => {
                words = groups.last().cloned().unwrap_or_default();
                at += 1;
                if word_at(at) == "}" {
                    words.clear();
                }
            }
            "as" => at += 2,
            "}" => {
                groups.pop();
                at += 1;
                if groups.is_empty() {
                    return at;
                }
            }
            "" => return at,
            _ => at += 1,
        }
    }
}

/// The path with `super` and `self` followed from the module `here`.
fn followed(words: Vec<String>, here: &[String]) -> Vec<String> {
    let mut module: Option<Vec<String>> = None;
    let mut rest = words.as_slice();
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "self" if module.is_none() && !after.is_empty() => module = Some(here.to_vec()),
            "super" => {
                let mut above = module.unwrap_or_else(|| here.to_vec());
                above.pop();
                module = Some(above);
            }
            _ => break,
        }
        rest = after;
    }
    let Some(module) = module else { return words };
    std::iter::once("crate".to_owned()).chain(module).chain(rest.iter().cloned()).collect()
}

/// A word, `::`, or one other character, with the line that it stands in.
#[derive(Debug)]
struct Token {
    line: usize,
    word: String,
}

fn is_word(word: &str) -> bool {
    word.starts_with(|character: char| character.is_alphanumeric() || character == '_')
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\n' {
            line += 1;
        } else if character.is_alphanumeric() || character == '_' {
            let mut word = String::from(character);
            while let Some(&next) = characters.peek()
                && (next.is_alphanumeric() || next == '_')
            {
                word.push(next);
                characters.next();
            }
            found.push(Token { line, word });
        } else if character == ':' && characters.peek() == Some(&':') {
            characters.next();
            found.push(Token { line, word: "::".to_owned() });
        } else if !character.is_whitespace() {
            found.push(Token { line, word: character.to_string() });
        }
    }
    found
}

/// The text with comments and the insides of literals turned into blanks; the lines stay where they are.
fn blanked(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = literal_end(&characters, at).unwrap_or(at);
        if end == at {
            kept.push(characters[at]);
            at += 1;
        } else {
            kept.extend(
                characters[at..end].iter().map(|&character| if character == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    kept
}

/// Where the comment or literal that starts at `at` ends; none when there is none.
fn literal_end(characters: &[char], at: usize) -> Option<usize> {
    let from = |start: usize, sought: &str| starts_with(characters, start, sought);
    let length = characters.len();
    if from(at, "//") {
        return Some((at..length).find(|&index| characters[index] == '\n').unwrap_or(length));
    }
    if from(at, "/*") {
        let (mut depth, mut index) = (1_usize, at + 2);
        while index < length && depth > 0 {
            (depth, index) = if from(index, "/*") {
                (depth + 1, index + 2)
            } else if from(index, "*/") {
                (depth - 1, index + 2)
            } else {
                (depth, index + 1)
            };
        }
        return Some(index.min(length));
    }
    let in_word = at > 0 && (characters[at - 1].is_alphanumeric() || characters[at - 1] == '_');
    if !in_word && (from(at, "r\"") || from(at, "r#") || from(at, "br\"") || from(at, "br#")) {
        let start = at + if from(at, "b") { 2 } else { 1 };
        let marks = characters[start..].iter().take_while(|&&character| character == '#').count();
        if characters.get(start + marks) != Some(&'"') {
            return None;
        }
        let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', marks)).collect();
        let end = (start + marks + 1..length).find(|&index| from(index, &close));
        return Some(end.map_or(length, |end| end + close.len()));
    }
    if from(at, "\"") {
        let mut index = at + 1;
        while index < length && characters[index] != '"' {
            index += if characters[index] == '\\' { 2 } else { 1 };
        }
        return Some((index + 1).min(length));
    }
    if from(at, "'") {
        // 'x' and '\n' are characters, 'name is a lifetime.
        if characters.get(at + 1) == Some(&'\\') {
            let end = (at + 3..length).find(|&index| characters[index] == '\'');
            return Some(end.map_or(length, |end| end + 1));
        }
        return (characters.get(at + 2) == Some(&'\'')).then_some(at + 3);
    }
    None
}

fn starts_with(characters: &[char], at: usize, sought: &str) -> bool {
    sought.chars().enumerate().all(|(ahead, character)| characters.get(at + ahead) == Some(&character))
}

mod planted {
    //! One breach of each rule, planted and found; and what only looks like one, passed over.

    use super::{Breach, LINES_MAX, ROOMS, breaches};

    #[track_caller]
    fn assert_breach(file: &str, text: &str, line: usize, rule: &str) {
        let found = breaches(file, text);
        let [Breach { line: line_found, rule: rule_found, .. }] = &found[..] else {
            panic!("{file}: one breach was planted, found {found:?}");
        };
        assert!(rule_found.contains(rule), "{rule_found}");
        assert_eq!(*line_found, line, "{rule_found}");
    }

    #[track_caller]
    fn assert_sound(file: &str, text: &str) {
        assert_eq!(breaches(file, text), [], "{file}: {text}");
    }

    #[test]
    fn every_room_is_kept_out_of_every_room_not_in_its_row() {
        for (room, may_name) in ROOMS {
            for (other, _) in ROOMS {
                let text = format!("\nuse crate::{other}::Thing;\n");
                for file in
                    [format!("src/{room}.rs"), format!("src/{room}/mod.rs"), format!("src/{room}/deep/er.rs")]
                {
                    if other == room || may_name.contains(other) {
                        assert_sound(&file, &text);
                    } else {
                        assert_breach(
                            &file,
                            &text,
                            2,
                            &format!("`{room}` may not name `crate::{other}::Thing`"),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_group_of_use_hides_nothing() {
        let text = "use crate::{\n  units::{self, ByteCount as Count},\n  storage::{Blob, Store},\n};";
        let found = breaches("src/format/header.rs", text);
        let rules: Vec<_> = found.iter().map(|breach| (breach.line, breach.rule.as_str())).collect();
        assert_eq!(
            rules,
            [
                (3, "`format` may not name `crate::storage::Blob`"),
                (3, "`format` may not name `crate::storage::Store`"),
            ]
        );
        assert_breach("src/format/header.rs", "use crate::{units::A, engine};", 1, "`crate::engine`");
        assert_breach("src/format/header.rs", "use crate::storage::*;", 1, "`crate::storage");
        assert_breach("src/format/header.rs", "use crate::*;", 1, "`crate::*`");
    }

    #[test]
    fn a_path_in_code_is_followed_as_well() {
        assert_breach("src/image/mod.rs", "fn f() -> crate::chain::Chain {}", 1, "`crate::chain::Chain`");
        assert_breach("src/units.rs", "let x = [crate::format::A; 2];", 1, "`crate::format::A`");
        assert_breach("src/units.rs", "pub(in crate::engine) fn f() {}", 1, "`crate::engine`");
        assert_sound("src/units.rs", "pub(crate) fn f() {}");
    }

    #[test]
    fn climbing_out_of_a_room_is_entering_another() {
        assert_breach("src/image/mod.rs", "use super::chain::Chain;", 1, "`crate::chain::Chain`");
        assert_breach("src/image/write.rs", "use super::super::chain::Chain;", 1, "`crate::chain::Chain`");
        assert_breach(
            "src/image/a/b.rs",
            "use super::super::super::{format::A, plan::B};",
            1,
            "`crate::plan::B`",
        );
        assert_breach("src/image/a.rs", "mod b { use super::super::super::plan::B; }", 1, "`crate::plan::B`");
        assert_breach("src/image/a.rs", "use self::super::super::plan::B;", 1, "`crate::plan::B`");
        assert_sound("src/image/write.rs", "use super::chain::Link; mod tests { use super::super::plan; }");
        assert_sound("src/image/a.rs", "mod b { mod c {} } use super::plan::Local;");
    }

    #[test]
    fn plan_may_name_a_blob_and_nothing_else_of_the_storage() {
        assert_sound("src/plan/group.rs", "use crate::storage::{BlobName, InvalidName};");
        assert_breach(
            "src/plan/group.rs",
            "use crate::storage::{BlobName, Store};",
            1,
            "`crate::storage::Store`",
        );
        assert_breach("src/plan/group.rs", "use crate::storage;", 1, "`crate::storage`");
        assert_breach(
            "src/inventory/group.rs",
            "use crate::storage::BlobName;",
            1,
            "`crate::storage::BlobName`",
        );
    }

    #[test]
    fn format_does_no_io_and_asks_no_clock() {
        for banned in ["std::io", "std::time"] {
            assert_breach("src/format/header.rs", &format!("use {banned}::X;"), 1, &format!("`{banned}`"));
        }
        assert_breach("src/format/header.rs", "use std::{fmt, io::Read};", 1, "`std::io`");
        let found = breaches("src/format/mod.rs", "use std::fs::File;");
        assert_eq!(found.len(), 2, "it is banned in format and everywhere else: {found:?}");
    }

    #[test]
    fn plan_asks_no_clock_and_no_dice() {
        assert_breach("src/plan/a.rs", "fn f(now: Instant) {}", 1, "`Instant`");
        assert_breach("src/plan/a.rs", "fn f(now: SystemTime) {}", 1, "`SystemTime`");
        assert_breach("src/plan/a.rs", "let id = uuid::Uuid::new_v4();", 1, "`Uuid::new_v4`");
        assert_breach("src/plan/a.rs", "use std::time::Duration;", 1, "`std::time`");
        assert_breach("src/plan/a.rs", "use std::io;", 1, "`std::io`");
        assert_sound(
            "src/engine/a.rs",
            "let id = uuid::Uuid::new_v4(); let now = std::time::SystemTime::now();",
        );
    }

    #[test]
    fn only_the_disk_touches_files() {
        for named in ["use std::fs;", "use std::{fs, fmt};", "std::fs::remove_file(path)"] {
            assert_breach("src/storage/memory.rs", named, 1, "`std::fs` is named outside");
            assert_sound("src/storage/disk.rs", named);
            assert_sound("src/storage/disk/blob.rs", named);
        }
        assert_breach("src/engine/mod.rs", "use nix::fcntl;", 1, "`nix` is named outside");
        assert_sound("src/storage/disk/lock.rs", "use nix::fcntl;");
    }

    #[test]
    fn unsafe_is_in_one_file() {
        assert_breach("src/storage/disk/blob.rs", "let x = unsafe { y };", 1, "`unsafe` is named outside");
        assert_sound("src/storage/disk/mapped.rs", "let x = unsafe { y };");
        assert_sound("src/storage/disk/blob.rs", "#![deny(unsafe_code)]");
    }

    #[test]
    fn spans_are_made_in_one_file() {
        assert_breach("src/engine/export.rs", "fn f() { tracing::info_span!(\"x\") }", 1, "`tracing`");
        assert_sound("src/engine/spans.rs", "fn f() { ::tracing::info_span!(\"x\") }");
    }

    #[test]
    fn the_error_that_gathers_all_is_named_at_the_top_only() {
        let found = breaches("src/plan/mod.rs", "fn f() -> crate::engine::Error {}");
        let rules: Vec<_> = found.iter().map(|breach| breach.rule.as_str()).collect();
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(rules[1].contains("stands above all"), "{rules:?}");
        assert_sound("src/engine/group.rs", "fn f() -> crate::engine::Error {}");
    }

    #[test]
    fn what_is_not_done_is_not_code() {
        for called in ["todo!()", "unimplemented!(\"x\")", "dbg!(x)"] {
            assert_breach("src/chain/mod.rs", &format!("fn f() {{\n {called} }}"), 2, "is no code");
        }
        assert_sound("src/chain/mod.rs", "fn todo(dbg: u8) -> bool { dbg != 1 }");
    }

    #[test]
    fn a_file_is_at_most_so_long_before_its_tests() {
        let line = "fn f() {}\n";
        let tail = "#[cfg(test)]\nmod tests {\n";
        assert_sound("src/chain/mod.rs", &line.repeat(LINES_MAX));
        assert_sound("src/chain/mod.rs", &(line.repeat(LINES_MAX) + tail + &line.repeat(LINES_MAX) + "}"));
        assert_breach("src/chain/mod.rs", &line.repeat(LINES_MAX + 1), LINES_MAX + 1, "501 lines");
        let not_the_tail = "#[cfg(test)]\nmod tests;\n";
        assert_breach(
            "src/chain/mod.rs",
            &(not_the_tail.to_owned() + &line.repeat(LINES_MAX)),
            LINES_MAX + 1,
            "502",
        );
    }

    #[test]
    fn the_root_defines_nothing() {
        let sound = "//! Doc.\n#![doc = \"a\"]\n#![cfg_attr(docsrs, feature(doc_cfg))]\n\
                     mod catalog;\n#[doc(hidden)]\npub mod chain;\npub use engine::{Engine, Error};\n";
        assert_sound("src/lib.rs", sound);
        for planted in [
            "pub struct X;",
            "fn f() {}",
            "use engine::X;",
            "mod x { }",
            "pub type A = B;",
            "const A: u8 = 1;",
        ] {
            assert_breach("src/lib.rs", &format!("{sound}{planted}"), 8, "defines nothing");
        }
    }

    #[test]
    fn a_file_without_a_room_is_a_breach() {
        assert_breach("src/helper.rs", "", 1, "`helper` is no room");
        assert_breach("src/helper/deep.rs", "", 1, "`helper` is no room");
    }

    #[test]
    fn what_is_said_is_not_named() {
        for said in [
            "// crate::engine::Error, todo!(), unsafe",
            "/// [`crate::engine`]\nfn f() {}",
            "/* crate::engine /* nested */ crate::plan */",
            "const A: &str = \"crate::engine \\\" std::fs\";",
            "const A: &str = r#\"crate::engine \" unsafe\"#;",
            "const A: &[u8] = b\"crate::engine\";",
            "fn f<'a>(x: &'a str) -> char { '\"' } // crate::engine",
            "const A: [char; 3] = ['\\'', '\"', '\\u{22}']; // crate::engine",
            "fn r#type() {}",
        ] {
            assert_sound("src/units.rs", said);
        }
        assert_breach(
            "src/units.rs",
            "const A: char = '\"'; use crate::plan::A; // \"",
            1,
            "`crate::plan::A`",
        );
        assert_breach("src/units.rs", "const A: &str = \"\n\"; use crate::plan::A;", 2, "`crate::plan::A`");
    }
}
