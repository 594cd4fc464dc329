//! What a name on the command line stands for: a uuid, or the one thing that has the name.

use crate::output::{Failure, Outcome};
use snapgroup::query::{
    Field, GroupField, MachineField, Page, Query, SnapshotField, Test, Value, VolumeField,
};
use snapgroup::{Engine, Uuid};

/// How many that have one name are named in the message.
const SHOWN: usize = 4;

/// Writes the search for one noun.
macro_rules! find {
    ($name:ident, $what:literal, $query:ident, $field:ty) => {
        pub(crate) fn $name(engine: &Engine, said: &str) -> Outcome<Uuid> {
            let ask = |query: &Query<$field>| -> Outcome<Page<Uuid>> {
                let page = engine.$query(query)?;
                Ok(Page { items: page.items.iter().map(|found| found.uuid).collect(), total: page.total })
            };
            one($what, said, <$field>::Uuid, <$field>::Name, ask)
        }
    };
}

find!(machine, "machine", query_machines, MachineField);
find!(volume, "volume", query_volumes, VolumeField);
find!(group, "group", query_groups, GroupField);
find!(snapshot, "snapshot", query_snapshots, SnapshotField);

/// The one that has a uuid or a name.
fn one<F: Field>(
    what: &str,
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
        [] => Err(Failure::Said(format!("there is no {what} {said:?}"))),
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
