//! What must hold of every state in which a pool may be found.
//!
//! The invariants are those of a pool that promises to be durable and atomic: it opens (I1); every disk and every
//! snapshot reads as a plain byte model says (I2, I3); a call took place wholly or not at all (I4); every image is sound
//! (I5); the directory holds what the catalogue names and nothing else (I6, I7); opening twice is opening once (I8);
//! what was acknowledged is there (I9).

use crate::openings::{Opening, Openings};
use crate::shapes::FOREIGN;
use crate::witness::Witness;
use crate::world::{Closed, Moment, books, sealed};
use snapgroup::image::check;
use snapgroup::storage::{
    Access, At, BlobName, CrashState, Fault, FaultKind, MemoryStore, SimulatedStore, Store,
};
use snapgroup::{
    CreatePool, Direction, Engine, Generation, Ids, Options, ReclaimOptions, Recovered, VerifyDepth, VerifyOf,
};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

pub(crate) const CATALOGUE: &str = "snapgroup.redb";

/// What was already found out about states that are alike. The moments are those of one run.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// What the books say, by the bytes of the catalogue before and its generation after it was opened.
    books: HashMap<(Option<u128>, Generation), Arc<Vec<String>>>,
    /// Pools in which all is well: the books and how often they had changed, the bytes of all other files, and what was
    /// acknowledged.
    sound: HashSet<(usize, Generation, u128, usize)>,
    known: Vec<Arc<Vec<String>>>,
    openings: Openings<(Arc<Vec<String>>, Generation)>,
    /// Pools that were given back, by the bytes of all files but the catalogue, whose images are sound as they are.
    arrived: HashSet<u128>,
    /// The states that were judged, with the first and the last of the moments that they were judged by.
    judged: HashSet<(u128, usize, usize)>,
    /// The pools that were opened.
    pub(crate) opened: u64,
    /// Those of them that were read from end to end.
    pub(crate) read: u64,
}

impl Memo {
    /// Whether a state was not judged by these moments before; from now on it was.
    pub(crate) fn is_new(&mut self, state: &CrashState, allowed: &[Moment]) -> bool {
        let position = |moment: Option<&Moment>| moment.map_or(0, |moment| moment.position);
        self.judged.insert((state.digest(), position(allowed.first()), position(allowed.last())))
    }

    fn number(&mut self, books: &Arc<Vec<String>>) -> usize {
        if let Some(number) = self.known.iter().position(|known| known == books) {
            return number;
        }
        self.known.push(Arc::clone(books));
        self.known.len() - 1
    }
}

/// Judges a pool as it is found. One of `allowed` must be the moment: the first of them was acknowledged.
pub(crate) fn judge(
    state: &CrashState,
    allowed: &[Moment],
    options: &Options,
    memo: &mut Memo,
) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| judge_all(state, allowed, options, memo))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    })
}

fn judge_all(
    state: &CrashState,
    allowed: &[Moment],
    options: &Options,
    memo: &mut Memo,
) -> Result<(), String> {
    let name = BlobName::parse(CATALOGUE).expect("one component");
    if allowed[0].closed == Closed::Yes && !memo.arrived.contains(&state.digest_without(&name)) {
        open_without_the_pool(&state.store())?;
        memo.arrived.insert(state.digest_without(&name));
    }
    let foreseen = memo.openings.find(state).map(|opening| {
        let (told, generation) = &opening.outcome;
        (Arc::clone(told), *generation, opening.seen.digest_after(state, &name))
    });
    if let Some((told, generation, layers)) = &foreseen
        && !memo.openings.is_audited()
        && allowed.iter().any(|moment| moment.books == *told)
        && let key = (memo.number(told), *generation, *layers, allowed[0].position)
        && memo.sound.contains(&key)
    {
        return Ok(());
    }
    memo.opened += 1;
    let (store, catalogue) = (state.store(), state.digest_of(&name));
    let opened = Opened::of(&store, options)?;
    let engine = opened.engine();
    let recovered = engine.recovered();
    if !recovered.unfinished.is_empty() || !recovered.left_alone.is_empty() {
        return Err(format!("recovery left something: {recovered:?}"));
    }
    let key = (catalogue, engine.generation());
    let told = match memo.books.get(&key) {
        Some(told) if catalogue.is_some() => Arc::clone(told),
        _ => {
            let broken = engine.verify_catalogue().map_err(|error| format!("the catalogue: {error:?}"))?;
            if !broken.is_empty() {
                return Err(format!("the catalogue: {broken:?}"));
            }
            let told = Arc::new(books(engine).map_err(|error| format!("the books: {error:?}"))?);
            memo.books.insert(key, Arc::clone(&told));
            told
        }
    };
    let layers = state.digest_of_others(&store, &name);
    let found = (Arc::clone(&told), engine.generation(), layers);
    match foreseen {
        Some(foreseen) if foreseen != found => {
            return Err(format!("it was to be {foreseen:?} when it is opened, and is {found:?}"));
        }
        Some(_) => {}
        None => {
            let outcome = (Arc::clone(&told), engine.generation());
            if let Some(seen) = opened.witness.notes().seen() {
                memo.openings.insert(state, Opening { outcome, seen });
            }
        }
    }
    let matching: Vec<&Moment> = allowed.iter().filter(|moment| moment.books == told).collect();
    if matching.is_empty() {
        let expected: Vec<String> = allowed.iter().map(|moment| difference(&moment.books, &told)).collect();
        return Err(format!("the books are of no moment: {}", expected.join(" / ")));
    }
    let key = (memo.number(&told), engine.generation(), layers, allowed[0].position);
    if memo.sound.contains(&key) {
        return Ok(());
    }
    memo.read += 1;
    read_all(engine, &store, &matching)?;
    let found = engine.verify(&VerifyOf::Pool, VerifyDepth::Looks);
    let found = sealed(&found.map_err(|error| format!("the seals: {error:?}"))?);
    // A seal goes before its layer is written to, in a commit of its own.
    let kept = |file: &&String| allowed.iter().all(|moment| moment.sealed.contains(*file));
    if let Some(lost) = allowed[0].sealed.iter().filter(kept).find(|file| !found.contains(*file)) {
        return Err(format!("{lost} is not sealed any more"));
    }

    drop(opened);
    let before = state.digest_of_others(&store, &name);
    let opened = Opened::of(&store, options).map_err(|error| format!("the second time: {error}"))?;
    let engine = opened.engine();
    let mut again = engine.recovered().clone();
    // What is owed is told each time, until it is dealt with.
    again.owed.clear();
    if again != Recovered::default() {
        return Err(format!("recovered twice: {again:?}"));
    }
    let again = books(engine).map_err(|error| format!("the books: {error:?}"))?;
    if again != *told || state.digest_of_others(&store, &name) != before {
        return Err(format!("another pool the second time: {}", difference(&told, &again)));
    }
    if !engine.recovered().owed.is_empty() {
        let reclaim = engine.reclaim(&ReclaimOptions::towards(Direction::Commit));
        let reclaimed = reclaim.and_then(|reclaim| reclaim.finish());
        reclaimed.map_err(|error| format!("reclaimed afterwards: {error:?}"))?;
        read_all(engine, &store, &matching).map_err(|wrong| format!("reclaimed afterwards, {wrong}"))?;
    }
    memo.sound.insert(key);
    Ok(())
}

/// Looks at the images of a pool that was given back as any other program finds them, which knows of no pool.
fn open_without_the_pool(store: &MemoryStore) -> Result<(), String> {
    for name in store.list().expect("in memory").iter().filter(|name| name.as_str().starts_with("layer-")) {
        let blob = store.open(name, Access::Read).expect("in memory");
        let report = check(&*blob, name.as_str());
        if !report.as_ref().is_ok_and(|report| report.is_sound()) {
            return Err(format!("{name} has not arrived when the pool was given back: {report:?}"));
        }
    }
    Ok(())
}

/// A pool that is open until the power is cut once more: nothing is tidied up when it is dropped.
struct Opened {
    engine: Option<Engine>,
    witness: Witness,
    disk: SimulatedStore,
}

impl Opened {
    fn of(store: &MemoryStore, options: &Options) -> Result<Self, String> {
        let create = match options.create {
            CreatePool::IfEmpty => CreatePool::IfEmpty,
            _ => CreatePool::Never,
        };
        let options = Options { create, ids: Ids::Seeded(u64::MAX), ..options.clone() };
        let name = BlobName::parse(CATALOGUE).expect("one component");
        let witness = Witness::of(store, &name);
        let disk = SimulatedStore::new(Arc::new(witness.clone()));
        let engine = Engine::open_on(Arc::new(disk.clone()), options);
        let engine = engine.map_err(|error| format!("it does not open: {error:?}"))?;
        Ok(Self { engine: Some(engine), witness, disk })
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is open until it is dropped")
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.disk.fail(Fault::for_ever(At::Call(1), FaultKind::EIO));
        // The database would make a last commit, which fails in the end. While a thread unwinds it does not try.
        let engine = self.engine.take();
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _engine = engine;
            resume_unwind(Box::new(()))
        }));
        debug_assert!(unwound.is_err());
    }
}

/// Reads every disk and every snapshot, checks every image, and looks through the directory.
fn read_all(engine: &Engine, store: &MemoryStore, moments: &[&Moment]) -> Result<(), String> {
    let check = engine.check().map_err(|error| format!("the check: {error:?}"))?;
    let sound = check.violations.is_empty() && check.missing.is_empty() && check.unnamed.is_empty();
    if !sound || !check.is_sound() {
        return Err(format!("the check found {check:?}"));
    }
    for name in store.list().expect("in memory") {
        let ours = ["layer-", "seal-"].iter().any(|prefix| name.as_str().starts_with(prefix));
        let known = name.as_str() == CATALOGUE || ours;
        if !known && !FOREIGN.contains(&name.as_str()) {
            return Err(format!("{name} is left"));
        }
    }
    let verified = engine.verify(&VerifyOf::Pool, VerifyDepth::Content);
    let verified = verified.map_err(|error| format!("the seals: {error:?}"))?;
    if !verified.is_good() {
        return Err(format!("the seals say {verified:?}"));
    }
    for (snapshot, expected) in &moments[0].content.snapshots {
        let content =
            engine.open_snapshot(*snapshot).map_err(|error| format!("snapshot {snapshot}: {error:?}"))?;
        let mut bytes = vec![0xee; content.size().as_usize()];
        content.read_at(0, &mut bytes).map_err(|error| format!("snapshot {snapshot}: {error:?}"))?;
        if bytes != **expected {
            return Err(format!("snapshot {snapshot} has changed at {:?}", differs(&bytes, expected)));
        }
    }
    for disk in moments[0].content.volumes.keys() {
        let volume = engine.open_volume(*disk).map_err(|error| format!("disk {disk}: {error:?}"))?;
        let mut bytes = vec![0xee; volume.size().as_usize()];
        volume.read_at(0, &mut bytes).map_err(|error| format!("disk {disk}: {error:?}"))?;
        let possible: Vec<&Arc<Vec<u8>>> = moments
            .iter()
            .filter_map(|moment| moment.content.volumes.get(disk))
            .flatten()
            .filter(|content| content.len() == bytes.len())
            .collect();
        if possible.iter().any(|content| ***content == bytes) {
            continue;
        }
        let wrong = (0..bytes.len()).find(|at| !possible.iter().any(|content| content[*at] == bytes[*at]));
        if let Some(at) = wrong {
            let expected: Vec<u8> = possible.iter().map(|content| content[at]).collect();
            return Err(format!("disk {disk} holds {} at {at}, and not one of {expected:?}", bytes[at]));
        }
    }
    Ok(())
}

fn differs(found: &[u8], expected: &[u8]) -> Option<(usize, u8, u8)> {
    let mut pairs = found.iter().zip(expected).enumerate();
    pairs
        .find(|(_, (found, expected))| found != expected)
        .map(|(at, (found, expected))| (at, *found, *expected))
}

/// The lines that only one of two has.
fn difference(expected: &[String], found: &[String]) -> String {
    let missing = expected.iter().filter(|line| !found.contains(line)).map(|line| format!("- {line}"));
    let extra = found.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}"));
    missing.chain(extra).collect::<Vec<_>>().join("; ")
}
