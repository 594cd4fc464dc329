//! What a name on the command line stands for: a uuid, or the one thing that has the name.

use crate::output::{Failure, Outcome};
use snapgroup::query::{
    Field, GroupField, MachineField, Page, Query, SnapshotField, Test, Value, VolumeField,
};
use snapgroup::{Engine, PreparedGroup, Uuid};

/// How many that have one name are named in the message.
const SHOWN: usize = 4;

/// Writes the search for one noun. `list` is the command that lists what there is.
macro_rules! find {
    ($name:ident, $what:literal, $list:literal, $query:ident, $field:ty) => {
        pub(crate) fn $name(engine: &Engine, said: &str) -> Outcome<Uuid> {
            let ask = |query: &Query<$field>| -> Outcome<Page<Uuid>> {
                let page = engine.$query(query)?;
                Ok(Page { items: page.items.iter().map(|found| found.uuid).collect(), total: page.total })
            };
            one(($what, $list), said, <$field>::Uuid, <$field>::Name, ask)
        }
    };
}

find!(machine, "machine", "vm list", query_machines, MachineField);
find!(volume, "volume", "volume list", query_volumes, VolumeField);
find!(group, "group", "group list", query_groups, GroupField);
find!(snapshot, "snapshot", "snapshot list", query_snapshots, SnapshotField);

/// The one that has a uuid or a name.
fn one<F: Field>(
    (what, list): (&str, &str),
    said: &str,
    uuid_field: F,
    name_field: F,
    ask: impl Fn(&Query<F>) -> Outcome<Page<Uuid>>,
) -> Outcome<Uuid> {
    if let Ok(uuid) = Uuid::try_parse(said)
        && !ask(&Query::all().with(uuid_field, Test::Equal(Value::from(uuid))))?.items.is_empty()
    {
        return Ok(uuid);
    }
    let named = ask(&Query::all().with(name_field, Test::Equal(Value::Text(said.to_owned()))))?;
    match named.items[..] {
        [one] => Ok(one),
        [] => Err(Failure::Said(format!("there is no {what} {said:?}; `snapgroup {list}` lists them"))),
        _ => {
            let uuids: Vec<String> =
                named.items.iter().take(SHOWN).map(|uuid| uuid.simple().to_string()).collect();
            let more = if named.items.len() > SHOWN { ", ..." } else { "" };
            Err(Failure::Said(format!(
                "{} have the name {said:?}; say which by its uuid: {}{more}",
                named.total,
                uuids.join(", ")
            )))
        }
    }
}

/// What the uuids in a message are the names of: a person has said names.
pub(crate) fn names_in(engine: &Engine, failure: &Failure) -> Vec<String> {
    let Failure::Call(error) = failure else { return Vec::new() };
    let message = error.to_error_code().on_one_line();
    let words = message.split(|letter: char| !letter.is_ascii_hexdigit()).filter(|word| word.len() == 32);
    let mut found: Vec<String> = Vec::new();
    for uuid in words.filter_map(|word| Uuid::try_parse(word).ok()) {
        let name = (engine.volume(uuid).map(|it| ("volume", it.name)))
            .or_else(|_| engine.machine(uuid).map(|it| ("machine", it.name)))
            .or_else(|_| engine.snapshot(uuid).map(|it| ("snapshot", it.name)))
            .or_else(|_| engine.group(uuid).map(|it| ("group", it.name)));
        if let Ok((what, name)) = name {
            found.push(format!("{} is the {what} {name:?}", uuid.simple()));
        }
    }
    found.dedup();
    found
}

/// The prepared group that has a uuid or a name.
pub(crate) fn prepared(engine: &Engine, said: &str) -> Outcome<PreparedGroup> {
    let is_meant =
        |uuid: &Uuid, name: &str| name == said || Uuid::try_parse(said).is_ok_and(|said| said == *uuid);
    let mut pending = engine.prepared_groups()?;
    pending.retain(|group| is_meant(&group.uuid, &group.name));
    match pending.as_slice() {
        [one] => Ok(engine.resume_group(one.uuid)?),
        [] => Err(Failure::Said(format!(
            "there is no prepared group {said:?}; `snapgroup group prepared` lists them"
        ))),
        _ => Err(Failure::Said(format!(
            "{} prepared groups have the name {said:?}; say which by its uuid",
            pending.len()
        ))),
    }
}

/// What `first` finds, or else what `second` does.
pub(crate) fn either<A>(
    said: &str,
    what: &str,
    first: impl FnOnce() -> Outcome<A>,
    second: impl FnOnce() -> Outcome<A>,
) -> Outcome<A> {
    match first() {
        Err(Failure::Said(_)) => second().map_err(|failure| match failure {
            Failure::Said(_) => Failure::Said(format!("no {what} has the name {said:?}, or several have")),
            other => other,
        }),
        other => other,
    }
}
