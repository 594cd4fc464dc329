//! Operations as spans: one of each, entered while it works, with what it changed, how far it came and how it ended.

use snapgroup::storage::{BlobName, MemoryStore, Store};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, Engine, Event, Export, Listener,
    Operation, Options, ReclaimOptions, SealOptions, Step, Uuid, When,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

type Held = Result<(), Box<dyn std::error::Error>>;

/// One span or event, with its fields as text.
#[derive(Clone, Debug)]
struct Seen {
    name: &'static str,
    level: Level,
    /// The names of the spans that it is in, the outermost first.
    within: Vec<&'static str>,
    fields: BTreeMap<&'static str, String>,
    is_closed: bool,
}

/// A subscriber that keeps everything of this crate. For one thread.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    spans: Vec<Seen>,
    handles: Vec<usize>,
    entered: Vec<usize>,
    events: Vec<Seen>,
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

fn place(id: &Id) -> usize {
    usize::try_from(id.into_u64()).expect("a small number") - 1
}

impl Kept {
    fn within(&self) -> Vec<&'static str> {
        self.entered.iter().map(|place| self.spans[*place].name).collect()
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "snapgroup"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut kept = self.0.lock().expect("one thread");
        let (name, level) = (span.metadata().name(), *span.metadata().level());
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        let within = kept.within();
        kept.spans.push(Seen { name, level, within, fields, is_closed: false });
        kept.handles.push(1);
        Id::from_u64(kept.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().expect("one thread").spans[place(span)].fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut kept = self.0.lock().expect("one thread");
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let (name, level, within) = (event.metadata().name(), *event.metadata().level(), kept.within());
        kept.events.push(Seen { name, level, within, fields, is_closed: true });
    }

    fn enter(&self, span: &Id) {
        self.0.lock().expect("one thread").entered.push(place(span));
    }

    fn exit(&self, span: &Id) {
        let left = self.0.lock().expect("one thread").entered.pop();
        assert_eq!(left, Some(place(span)), "a span was left that is not the innermost one");
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.0.lock().expect("one thread").handles[place(span)] += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut kept = self.0.lock().expect("one thread");
        let place = place(&span);
        kept.handles[place] -= 1;
        kept.spans[place].is_closed = kept.handles[place] == 0;
        kept.spans[place].is_closed
    }
}

impl Keeper {
    /// The spans since the last time.
    fn spans(&self) -> Vec<Seen> {
        self.0.lock().expect("one thread").spans.clone()
    }

    /// The only span of that name.
    fn span(&self, name: &str) -> Seen {
        let found: Vec<Seen> = self.spans().into_iter().filter(|span| span.name == name).collect();
        let [span] = &found[..] else { panic!("one span {name}: {found:?}") };
        span.clone()
    }

    /// The events with this message, in a span of this name.
    fn events(&self, message: &str, within: &str) -> Vec<Seen> {
        let kept = self.0.lock().expect("one thread");
        let is_meant = |event: &&Seen| {
            event.fields.get("message").is_some_and(|found| found == message)
                && event.within.last() == Some(&within)
        };
        kept.events.iter().filter(is_meant).cloned().collect()
    }
}

/// A machine of one disk.
fn machine(engine: &Engine) -> Result<(Uuid, Uuid), snapgroup::Error> {
    let machine = engine.create_machine(&CreateMachine::new("vm"))?.uuid;
    let volume = engine.create_volume(&CreateVolume::new("root", ByteCount::mib(4)).as_root())?.uuid;
    engine.attach_volume(volume, machine, None)?;
    Ok((machine, volume))
}

fn kept(work: impl FnOnce(&Keeper) -> Held) -> Held {
    let keeper = Keeper::default();
    tracing::subscriber::with_default(keeper.clone(), || work(&keeper))
}

#[test]
fn each_operation_is_a_span_of_its_name_that_says_how_it_ended() -> Held {
    kept(|keeper| {
        let (told, heard) = std::sync::mpsc::channel();
        let listener = Listener::new(move |event| drop(told.send(event.clone())));
        let engine = Engine::in_memory(Options { listener, ..Options::default() })?;
        let (vm, volume) = machine(&engine)?;
        let disk = engine.open_volume(volume)?;
        disk.write_at(0, &[1; 200_000])?;
        let group = engine.create_group(&CreateGroup::of_machine(vm, "g"))?.inventory;
        assert!(engine.check()?.is_clean());
        assert!(engine.delete_group(&DeleteGroup::new(group.uuid))?.is_success());
        drop(disk);
        engine.close()?;

        let spans = keeper.spans();
        assert!(spans.iter().all(|span| span.is_closed && span.fields["outcome"] == "done"), "{spans:?}");
        assert!(spans.iter().all(|span| span.level == Level::INFO));
        let names: Vec<&str> = spans.iter().map(|span| span.name).collect();
        let expected = [
            "open",
            "create_machine",
            "create_volume",
            "attach_volume",
            "open_volume",
            "create_group",
            "check",
            "delete_group",
            "reclaim",
            "close",
        ];
        assert_eq!(names, expected);
        // Whoever listens is told of the same ones.
        let began: Vec<&str> = heard
            .try_iter()
            .filter_map(|event| {
                if let Event::Began { operation, .. } = event { Some(operation.name()) } else { None }
            })
            .collect();
        assert_eq!(began, expected);
        Ok(())
    })
}

#[test]
fn what_is_part_of_an_operation_is_a_span_in_its_span() -> Held {
    kept(|keeper| {
        let engine = Engine::in_memory(Options::default())?;
        let (vm, _) = machine(&engine)?;
        let group = engine.create_group(&CreateGroup::of_machine(vm, "g"))?.inventory;
        assert!(engine.delete_group(&DeleteGroup::new(group.uuid))?.is_success());
        assert_eq!(keeper.span("reclaim").within, ["delete_group"]);
        assert_eq!(keeper.span("create_group").within, [""; 0]);
        Ok(())
    })
}

#[test]
fn a_span_holds_each_record_that_its_commits_have_changed() -> Held {
    kept(|keeper| {
        let engine = Engine::in_memory(Options::default())?;
        let (vm, volume) = machine(&engine)?;
        let group = engine.create_group(&CreateGroup::of_machine(vm, "g"))?.inventory;
        let changed = keeper.events("changed", "create_group");
        assert!(changed.iter().all(|event| event.level == Level::DEBUG));
        let how = |what: &str, uuid: Uuid| {
            let uuid = uuid.simple().to_string();
            let is_meant = |event: &&Seen| event.fields["what"] == what && event.fields["uuid"] == uuid;
            changed.iter().find(is_meant).map(|event| event.fields["how"].as_str())
        };
        assert_eq!(how("Group", group.uuid), Some("Created"));
        assert_eq!(how("Volume", volume), Some("Changed"));
        assert_eq!(how("Snapshot", group.volume_snapshot_refs[0].volume_snapshot_uuid), Some("Created"));
        Ok(())
    })
}

#[test]
fn work_in_steps_is_one_span_with_its_progress_up_to_the_end() -> Held {
    kept(|keeper| {
        let engine = Engine::in_memory(Options::default())?;
        let (vm, volume) = machine(&engine)?;
        let disk = engine.open_volume(volume)?;
        disk.write_at(0, &[1; 400_000])?;
        let first = engine.create_group(&CreateGroup::of_machine(vm, "a"))?.inventory;
        disk.write_at(0, &[2; 70_000])?;
        let second = engine.create_group(&CreateGroup::of_machine(vm, "b"))?.inventory;
        let blob = MemoryStore::new().create(&BlobName::parse("copy")?)?;
        let snapshot = second.volume_snapshot_refs[0].volume_snapshot_uuid;
        let mut exporter = engine.exporter(snapshot, &Export::raw(), blob)?;
        while exporter.step(ByteCount::kib(64))? == Step::More {}
        let mut sealing = engine.seal(&SealOptions::default())?;
        while sealing.step(ByteCount::kib(64))? == Step::More {}
        assert!(
            engine
                .delete_group(&DeleteGroup { reclaim: When::Later, ..DeleteGroup::new(first.uuid) })?
                .is_success()
        );
        let mut reclaim = engine.reclaim(&ReclaimOptions::towards(snapgroup::Direction::Pull))?;
        while reclaim.step(ByteCount::kib(64))? == Step::More {}

        for name in ["export", "seal", "reclaim"] {
            let span = keeper.span(name);
            assert_eq!((span.fields["outcome"].as_str(), span.within.len()), ("done", 0), "{name}");
            let progress = keeper.events("progress", name);
            assert!(progress.len() > 1, "{name} told of its progress {} times", progress.len());
            let last = progress.last().expect("there are some");
            assert_eq!(last.fields["done"], last.fields["total"], "{name}");
        }
        Ok(())
    })
}

#[test]
fn an_operation_that_is_refused_says_so_with_its_code_and_one_dropped_is_given_up() -> Held {
    kept(|keeper| {
        let engine = Engine::in_memory(Options::default())?;
        let (vm, volume) = machine(&engine)?;
        assert!(engine.create_group(&CreateGroup::of_machine(vm, "")).is_err());
        let span = keeper.span("create_group");
        assert_eq!((span.fields["outcome"].as_str(), span.fields["code"].as_str()), ("refused", "SYS.1007"));
        assert_eq!(keeper.events("refused", "create_group").len(), 1);

        engine.open_volume(volume)?.write_at(0, &[1; 200_000])?;
        engine.create_group(&CreateGroup::of_machine(vm, "g"))?;
        let mut sealing = engine.seal(&SealOptions::default())?;
        assert_eq!(sealing.step(ByteCount::kib(64))?, Step::More);
        drop(sealing);
        assert_eq!(keeper.span("seal").fields["outcome"], "given up");
        assert!(keeper.span("seal").is_closed);
        Ok(())
    })
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let mut names: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
