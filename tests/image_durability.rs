//! What a flush promises: its order, its price, and what a power cut or a failing disk leaves.

#![expect(clippy::print_stdout, reason = "a failing test shows which seed and which shape it was")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/internal.rs"]
mod internal;
#[path = "support/possible.rs"]
mod possible;
#[path = "support/power.rs"]
mod power;

use dice::Dice;
use possible::Possible;
use power::{PowerCutBlob, after_header_writes};
use snapgroup::chain::{Chain, Layer};
use snapgroup::image::{Image, L2Width, Limits, NewImage, Space, Version};
use snapgroup::storage::{
    Access, At, Blob, BlobName, Call, Fault, FaultKind, MemoryStore, Operation, SimulatedStore, Store, Times,
};
use snapgroup::units::{ByteCount, GuestOffset, HostOffset};
use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn StdError>>;

/// Two tables at most, so that tables are written back between flushes, too.
fn open(blob: Arc<dyn Blob>, cluster_bits: u32) -> Outcome<Image> {
    let limits = Limits { table_cache: ByteCount::new(2 << cluster_bits), ..Limits::default() };
    Ok(Image::open(blob, "x", Access::Write, limits)?)
}

fn name() -> BlobName {
    BlobName::parse("x").expect("one component")
}

// ---- The order and the price of a flush -----------------------------------------------------------------

/// An image on a store that records, with nothing recorded yet.
fn recorded(new: &NewImage) -> Outcome<(SimulatedStore, Image)> {
    let store = SimulatedStore::new(Arc::new(MemoryStore::new()));
    let blob = store.create(&name())?;
    new.layout("x")?.write(&*blob)?;
    let image = Image::open(blob, "x", Access::Write, Limits::default())?;
    store.record();
    Ok((store, image))
}

/// The changes among the calls.
fn changes(store: &SimulatedStore) -> Vec<Call> {
    let mut calls = store.take_calls();
    calls.retain(|call| {
        matches!(call.operation, Operation::Write | Operation::Sync | Operation::Punch | Operation::SetLength)
    });
    calls
}

fn syncs(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.operation == Operation::Sync).count()
}

/// Where the n-th sync is among the calls.
fn sync(calls: &[Call], nth: usize) -> usize {
    let mut syncs = calls.iter().enumerate().filter(|(_, call)| call.operation == Operation::Sync);
    syncs.nth(nth).expect("so many syncs").0
}

/// Where a change of this kind that covers `at` is among the calls.
fn change_at(calls: &[Call], operation: Operation, at: HostOffset) -> Vec<usize> {
    let covers = |call: &Call| call.operation == operation && call.at <= at && at < call.at + call.length;
    calls.iter().enumerate().filter(|(_, call)| covers(call)).map(|(index, _)| index).collect()
}

const CLUSTER: u64 = 65536;

#[test]
fn new_clusters_reach_the_disk_before_what_refers_to_them() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    image.write(GuestOffset::ZERO, &[1; 100], None)?;
    image.flush()?;
    // Header, refcount table, block and L1 table take clusters 0 to 3; the L2 table is 4, the data 5.
    let calls = changes(&store);
    let (first, second) = (sync(&calls, 0), sync(&calls, 1));
    assert_eq!(syncs(&calls), 2, "{calls:?}");
    for (what, cluster) in [("the refcounts", 2), ("the fresh L2 table", 4), ("the data", 5)] {
        let written = change_at(&calls, Operation::Write, HostOffset::new(cluster * CLUSTER));
        assert_eq!(written.len(), 1, "{what}: {calls:?}");
        assert!(written[0] < first, "{what} come after the first sync: {calls:?}");
    }
    let l1 = change_at(&calls, Operation::Write, HostOffset::new(3 * CLUSTER));
    assert!(l1.len() == 1 && first < l1[0] && l1[0] < second, "the L1 entry: {calls:?}");

    // In a table that is in use, the entry itself comes after the first sync.
    image.write(GuestOffset::new(CLUSTER), &[2; 100], None)?;
    image.flush()?;
    let calls = changes(&store);
    assert_eq!(syncs(&calls), 2, "{calls:?}");
    let entry = change_at(&calls, Operation::Write, HostOffset::new(4 * CLUSTER + 8));
    assert!(entry.len() == 1 && sync(&calls, 0) < entry[0] && entry[0] < sync(&calls, 1), "{calls:?}");
    let data = change_at(&calls, Operation::Write, HostOffset::new(6 * CLUSTER));
    assert!(data.len() == 1 && data[0] < sync(&calls, 0), "{calls:?}");
    Ok(())
}

#[test]
fn a_small_write_behind_the_end_of_the_file_writes_nothing_around_itself() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    // A whole cluster first: the next one begins where the file ends.
    image.write(GuestOffset::ZERO, &[1; 65536], None)?;
    assert_eq!(store.open(&name(), Access::Read)?.length()?.as_u64() % CLUSTER, 0);
    let _ = changes(&store);
    image.write(GuestOffset::new(CLUSTER + 1000), &[2; 100], None)?;
    let calls = changes(&store);
    let lengths: Vec<_> = calls.iter().map(|call| call.length).collect();
    assert_eq!(lengths, [ByteCount::new(100)], "{calls:?}");
    Ok(())
}

#[test]
fn zeros_where_zeros_are_read_already_take_no_room() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    for (at, length) in [(100, 1000), (CLUSTER - 10, 20), (5 * CLUSTER + 1, 3 * CLUSTER)] {
        image.zero(GuestOffset::new(at), ByteCount::new(length), Space::Free, None)?;
    }
    image.flush()?;
    assert_eq!(changes(&store), []);
    Ok(())
}

#[test]
fn a_freed_cluster_is_given_back_only_after_nothing_durable_refers_to_it() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    image.write(GuestOffset::ZERO, &[1; 65536 * 2], None)?;
    image.flush()?;
    let _ = changes(&store);
    let freed = HostOffset::new(5 * CLUSTER);
    image.zero(GuestOffset::ZERO, ByteCount::new(CLUSTER), Space::Free, None)?;
    // What is written before the flush goes elsewhere.
    image.write(GuestOffset::new(5 * CLUSTER), &[3; 65536], None)?;
    image.flush()?;
    let calls = changes(&store);
    assert!(change_at(&calls, Operation::Write, freed).is_empty(), "used again too early: {calls:?}");
    let last = sync(&calls, syncs(&calls) - 1);
    let punched = change_at(&calls, Operation::Punch, freed);
    assert!(punched.len() == 1 && last < punched[0], "{calls:?}");
    let refcounts = change_at(&calls, Operation::Write, HostOffset::new(2 * CLUSTER));
    let raised_first_then_lowered = [refcounts[0] < sync(&calls, 0), last < refcounts[refcounts.len() - 1]];
    assert_eq!(raised_first_then_lowered, [true, true], "{calls:?}");

    // After the flush the room is used again.
    image.write(GuestOffset::new(6 * CLUSTER), &[4; 65536], None)?;
    assert_eq!(change_at(&changes(&store), Operation::Write, freed).len(), 1);
    Ok(())
}

#[test]
fn the_room_of_a_refcount_table_is_used_again_only_after_the_header_names_another_one() -> Outcome {
    let new = NewImage { cluster_bits: 9, refcount_order: 6, ..NewImage::of_size(ByteCount::mib(8)) };
    let (store, image) = recorded(&new)?;
    let old = image.header().refcount_table;
    let mut clusters = (0..).map(|index| GuestOffset::new(index * 512));
    let mut write = || image.write(clusters.next().expect("endless"), &[1; 512], None);
    // Without a flush, until the table is too small.
    let mut calls = Vec::new();
    while image.header().refcount_table == old {
        write()?;
        calls = changes(&store);
    }
    write()?;
    calls.extend(changes(&store));
    let [header] = change_at(&calls, Operation::Write, HostOffset::ZERO)[..] else { panic!("{calls:?}") };
    let [used_again, ..] = change_at(&calls, Operation::Write, old)[..] else { panic!("{calls:?}") };
    let is_synced = calls[header..used_again].iter().any(|call| call.operation == Operation::Sync);
    assert!(is_synced, "a power cut may leave the old header, and data where its table was: {calls:?}");
    Ok(())
}

#[test]
fn room_that_was_kept_is_filled_before_an_entry_shows_it() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    image.write(GuestOffset::ZERO, &[1; 65536], None)?;
    image.zero(GuestOffset::ZERO, ByteCount::new(CLUSTER), Space::Keep, None)?;
    image.flush()?;
    let _ = changes(&store);
    image.write(GuestOffset::new(100), &[2; 100], None)?;
    image.flush()?;
    let calls = changes(&store);
    let data = change_at(&calls, Operation::Write, HostOffset::new(5 * CLUSTER + 100));
    let entry = change_at(&calls, Operation::Write, HostOffset::new(4 * CLUSTER));
    assert_eq!(syncs(&calls), 2, "{calls:?}");
    assert!(data.len() == 1 && data[0] < sync(&calls, 0), "{calls:?}");
    assert!(entry.len() == 1 && sync(&calls, 0) < entry[0] && entry[0] < sync(&calls, 1), "{calls:?}");
    Ok(())
}

#[test]
fn a_write_that_lengthens_the_last_cluster_is_synced_by_the_flush() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    image.write(GuestOffset::ZERO, &[1; 100], None)?;
    image.flush()?;
    let _ = changes(&store);
    // The file ends 100 bytes into the cluster.
    image.write(GuestOffset::new(5000), &[2; 100], None)?;
    image.flush()?;
    let calls = changes(&store);
    let data = change_at(&calls, Operation::Write, HostOffset::new(5 * CLUSTER + 5000));
    assert!(data.len() == 1 && syncs(&calls) == 1 && data[0] < sync(&calls, 0), "{calls:?}");
    Ok(())
}

#[test]
fn a_flush_costs_one_sync_or_none_more_than_it_must() -> Outcome {
    let (store, image) = recorded(&NewImage::of_size(ByteCount::gib(1)))?;
    for round in 0..20u64 {
        image.write(GuestOffset::new(round * 3 * CLUSTER), &[1; 100], None)?;
    }
    assert_eq!(syncs(&changes(&store)), 0, "writes sync nothing");
    image.flush()?;
    assert_eq!(syncs(&changes(&store)), 2, "with new clusters: two");
    image.flush()?;
    assert_eq!(syncs(&changes(&store)), 0, "nothing was written");
    for round in 0..20u64 {
        image.write(GuestOffset::new(round * 3 * CLUSTER), &[2; 100], None)?;
    }
    assert_eq!(syncs(&changes(&store)), 0, "writes in place sync nothing");
    image.flush()?;
    assert_eq!(syncs(&changes(&store)), 1, "without new clusters: one");
    image.zero(GuestOffset::ZERO, ByteCount::new(CLUSTER), Space::Keep, None)?;
    image.flush()?;
    assert_eq!(syncs(&changes(&store)), 1, "an entry alone: one");
    Ok(())
}

// ---- Requests, known to whoever checks ------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Request {
    Fill {
        range: Range<usize>,
        byte: u8,
    },
    /// Compressed, where nothing is yet; as it is where something is.
    Pack {
        range: Range<usize>,
        byte: u8,
    },
    Zero {
        range: Range<usize>,
        space: Space,
    },
    Grow {
        size: usize,
    },
    Flush,
}

/// What a test writes, and to what.
#[derive(Clone, Copy, Debug)]
struct Workload {
    version: Version,
    cluster_bits: u32,
    refcount_order: u32,
    size: usize,
    /// The longest request.
    longest: usize,
    overlay: bool,
    zeroes: bool,
    grows: bool,
    packs: bool,
    l2: L2Width,
    /// Whether an internal snapshot has what the first half of the disk holds before anything else is written.
    internal: bool,
}

const PLAIN: Workload = Workload {
    version: Version::V3,
    cluster_bits: 12,
    refcount_order: 4,
    size: 512 << 10,
    longest: 20_000,
    overlay: false,
    zeroes: false,
    grows: false,
    packs: false,
    l2: L2Width::Standard,
    internal: false,
};
/// Writes of some subclusters; the clusters are the smallest that have any.
const FINE: Workload =
    Workload { l2: L2Width::Extended, cluster_bits: 14, longest: 9000, zeroes: true, grows: true, ..PLAIN };
/// Tables and clusters that are copied before they are written.
const SHARED: Workload = Workload { internal: true, zeroes: true, grows: true, ..PLAIN };
const OVERLAY: Workload = Workload { overlay: true, ..PLAIN };
const ZEROES: Workload = Workload { zeroes: true, cluster_bits: 9, refcount_order: 0, ..PLAIN };
const OVERLAY_ZEROES: Workload = Workload { zeroes: true, grows: true, cluster_bits: 10, ..OVERLAY };
const VERSION_2: Workload = Workload { version: Version::V2, zeroes: true, ..OVERLAY };
/// Past the 2 MiB that one refcount table of one cluster counts.
const TABLE_GROWTH: Workload = Workload {
    cluster_bits: 9,
    refcount_order: 6,
    size: 3 << 20,
    longest: 200_000,
    zeroes: true,
    grows: true,
    ..PLAIN
};

/// Compressed clusters that share host clusters, written over, zeroed and packed anew.
const PACKED: Workload =
    Workload { packs: true, zeroes: true, cluster_bits: 10, size: 40 << 10, longest: 3000, ..PLAIN };
const PACKED_OVERLAY: Workload =
    Workload { overlay: true, grows: true, cluster_bits: 9, refcount_order: 1, ..PACKED };

impl Workload {
    /// Sixty requests, a flush after each ten.
    fn requests(&self, dice: &mut Dice) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut size = self.size;
        for index in 1..=60u8 {
            let at = dice.roll(size);
            let range = at..at + 1 + dice.roll(self.longest.min(size - at));
            requests.push(match dice.roll(8) {
                0 | 1 if self.zeroes => {
                    let space = if dice.roll(2) == 0 { Space::Keep } else { Space::Free };
                    Request::Zero { range, space }
                }
                2 if self.grows => {
                    size += 512 * dice.roll(100);
                    Request::Grow { size }
                }
                3..=5 if self.packs => {
                    let start = at >> self.cluster_bits << self.cluster_bits;
                    let end = size.min(start + (1 << self.cluster_bits));
                    Request::Pack { range: start..end, byte: index }
                }
                _ => Request::Fill { range, byte: index },
            });
            if index.is_multiple_of(10) {
                requests.push(Request::Flush);
            }
        }
        requests
    }

    /// What the overlay shows before anything is written to it.
    fn bytes(&self) -> Vec<u8> {
        match self.overlay {
            true => (0..self.size).map(|at| 61 + u8::from(at / 700 % 2 == 0)).collect(),
            false => vec![0; self.size],
        }
    }

    /// The layer below: longer than the overlay, so that growing has something to hide.
    fn below(&self) -> Outcome<Option<Arc<Layer>>> {
        if !self.overlay {
            return Ok(None);
        }
        let size = self.size + 30_000 / 512 * 512;
        let blob = MemoryStore::new().create(&name())?;
        NewImage { cluster_bits: 11, ..NewImage::of_size(ByteCount::of(size)) }.layout("b")?.write(&*blob)?;
        let image = open(blob, 11)?;
        let mut bytes = self.bytes();
        bytes.resize(size, 63);
        image.write(GuestOffset::ZERO, &bytes, None)?;
        image.freeze()?;
        Ok(Some(Arc::new(Layer::from(image))))
    }

    fn put(&self, blob: Arc<dyn Blob>) -> Outcome {
        let new = NewImage {
            version: self.version,
            cluster_bits: self.cluster_bits,
            refcount_order: self.refcount_order,
            l2: self.l2,
            ..NewImage::of_size(ByteCount::of(self.size))
        };
        new.layout("x")?.write(&*blob)?;
        if self.internal {
            let image = open(Arc::clone(&blob), self.cluster_bits)?;
            image.write(GuestOffset::ZERO, &self.bytes()[..self.size / 2], None)?;
            image.flush()?;
            internal::add(&*blob)?;
        }
        blob.sync()?;
        Ok(())
    }

    /// What the internal snapshot holds is what it held.
    fn assert_internal(&self, blob: &dyn Blob, below: Option<&Arc<Layer>>, what: &str) -> Outcome {
        if self.internal {
            let chain = self.chain(internal::gone_back(blob)?, below)?;
            assert!(read(&chain, self.size)? == self.bytes(), "{what}: the internal snapshot has changed");
        }
        Ok(())
    }

    fn chain(&self, blob: Arc<dyn Blob>, below: Option<&Arc<Layer>>) -> Outcome<Chain> {
        let head = Arc::new(Layer::from(open(blob, self.cluster_bits)?));
        Ok(Chain::new(std::iter::once(head).chain(below.cloned()).collect()))
    }
}

fn perform(chain: &Chain, request: &Request) -> snapgroup::image::Result<()> {
    let start = |range: &Range<usize>| GuestOffset::new(range.start as u64);
    match request {
        Request::Fill { range, byte } => chain.write(start(range), &vec![*byte; range.len()]),
        Request::Pack { range, byte } => {
            let cluster = vec![*byte; range.len()];
            let head = chain.head().as_qcow2().expect("the head is an image");
            match head.write_compressed(start(range), &cluster)? {
                true => Ok(()),
                false => chain.write(start(range), &cluster),
            }
        }
        Request::Zero { range, space } => chain.zero(start(range), ByteCount::of(range.len()), *space),
        Request::Grow { size } => chain.grow(ByteCount::of(*size)),
        Request::Flush => chain.flush(),
    }
}

fn begin(request: &Request, possible: &mut Possible) {
    match request {
        Request::Fill { range, byte } | Request::Pack { range, byte } => possible.begun(range.clone(), *byte),
        Request::Zero { range, .. } => possible.begun(range.clone(), 0),
        Request::Grow { .. } | Request::Flush => {}
    }
}

fn end(request: &Request, possible: &mut Possible) {
    match request {
        Request::Fill { range, byte } | Request::Pack { range, byte } => possible.done(range.clone(), *byte),
        Request::Zero { range, .. } => possible.done(range.clone(), 0),
        Request::Grow { size } => possible.grown(*size),
        Request::Flush => possible.flushed(),
    }
}

/// Reads the first `size` bytes.
fn read(chain: &Chain, size: usize) -> Outcome<Vec<u8>> {
    let mut found = vec![0xee; size];
    chain.read(GuestOffset::ZERO, &mut found)?;
    Ok(found)
}

// ---- Power cuts -----------------------------------------------------------------------------------------

/// Runs a workload and cuts the power at random points: no corruption, and nothing lost that was acknowledged.
fn survive_cuts(workload: &Workload, seed: u64, cuts: usize) -> Outcome {
    println!("seed {seed}: {workload:?}");
    let mut dice = Dice::of(seed);
    let below = workload.below()?;
    let blob = PowerCutBlob::default();
    workload.put(blob.blob())?;
    let first = blob.position();
    let requests = workload.requests(&mut dice);
    let chain = workload.chain(blob.blob(), below.as_ref())?;
    let mut spans = Vec::new();
    for request in &requests {
        let begun = blob.position();
        perform(&chain, request)?;
        spans.push(begun..blob.position());
    }

    let mut points: Vec<usize> = (0..cuts).map(|_| first + dice.roll(blob.position() - first + 1)).collect();
    // Where the header names other tables, every cut is another chance to find them missing.
    let log = blob.log();
    let switches = after_header_writes(&log).into_iter().filter(|point| *point > first);
    points.extend(switches.flat_map(|point| [point; 8]));
    points.sort_unstable();
    let mut possible = Possible::of(&workload.bytes());
    let (mut begun, mut done) = (0, 0);
    for (point, left) in power::cuts(&log, &points, &mut dice) {
        let what = format!("seed {seed}, cut at {point}");
        // Requests come one after the other: each one before the last has ended.
        while begun < spans.len() && spans[begun].start <= point {
            while done < begun {
                end(&requests[done], &mut possible);
                done += 1;
            }
            begin(&requests[begun], &mut possible);
            begun += 1;
        }
        while done < begun && spans[done].end <= point {
            end(&requests[done], &mut possible);
            done += 1;
        }
        let survivor = MemoryStore::new().create(&name())?;
        survivor.write_at(HostOffset::ZERO, &left)?;
        workload.assert_internal(&*survivor, below.as_ref(), &what)?;
        let chain = workload.chain(survivor, below.as_ref()).map_err(|error| format!("{what}: {error}"))?;
        let head = chain.head().as_qcow2().expect("the head is an image");
        let report = head.check()?;
        assert_eq!(report.corruptions, 0, "{what}: {report}");
        let found = read(&chain, possible.size())?;
        if let Some(at) = possible.refutes_crash(&found) {
            panic!("{what}: byte {at} is {} after {done} of {begun} requests", found[at]);
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_of_a_plain_image() -> Outcome {
    survive_cuts(&PLAIN, 1, 400)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_of_an_overlay() -> Outcome {
    survive_cuts(&OVERLAY, 2, 400)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_when_clusters_are_freed_and_used_again() -> Outcome {
    survive_cuts(&ZEROES, 3, 400)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_of_an_overlay_that_is_zeroed_and_grown() -> Outcome {
    survive_cuts(&OVERLAY_ZEROES, 4, 400)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_of_an_overlay_of_version_2() -> Outcome {
    survive_cuts(&VERSION_2, 5, 200)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_while_the_refcount_table_grows() -> Outcome {
    survive_cuts(&TABLE_GROWTH, 6, 60)
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_of_compressed_clusters() -> Outcome {
    for seed in 7..12 {
        survive_cuts(&PACKED, seed, 200)?;
        survive_cuts(&PACKED_OVERLAY, seed, 200)?;
    }
    Ok(())
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_of_subclusters() -> Outcome {
    survive_cuts(&FINE, 21, 200)?;
    survive_cuts(&Workload { overlay: true, ..FINE }, 22, 200)
}

#[test]
fn a_power_cut_loses_nothing_of_the_disk_nor_of_its_internal_snapshot() -> Outcome {
    survive_cuts(&SHARED, 23, 200)?;
    survive_cuts(&Workload { overlay: true, ..SHARED }, 24, 200)?;
    survive_cuts(&Workload { internal: true, ..FINE }, 25, 200)?;
    survive_cuts(&Workload { internal: true, overlay: true, ..FINE }, 26, 200)
}

// ---- A failing disk -------------------------------------------------------------------------------------

/// A disk to begin with: an image, what is below it, and what the guest sees.
struct Prepared {
    store: MemoryStore,
    below: Option<Arc<Layer>>,
    bytes: Vec<u8>,
}

impl Prepared {
    /// An image of which the first `filled` bytes were written before anything fails.
    fn new(workload: &Workload, filled: usize) -> Outcome<Self> {
        let store = MemoryStore::new();
        let below = workload.below()?;
        let blob = store.create(&name())?;
        workload.put(Arc::clone(&blob))?;
        let mut bytes = workload.bytes();
        bytes[..filled].fill(1);
        let chain = workload.chain(blob, below.as_ref())?;
        chain.write(GuestOffset::ZERO, &bytes[..filled])?;
        chain.flush()?;
        Ok(Self { store, below, bytes })
    }
}

/// Runs requests on a store where one call fails, or one and all after it; goes on after every error; then
/// opens the image again. Answers whether there were so many calls.
fn survive_fault(
    workload: &Workload,
    prepared: &Prepared,
    requests: &[Request],
    fault: Fault,
) -> Outcome<bool> {
    let below = &prepared.below;
    let memory = prepared.store.fork();
    let store = SimulatedStore::new(Arc::new(memory.clone()));
    let chain = workload.chain(store.open(&name(), Access::Write)?, below.as_ref())?;
    let At::CallOf(operation, nth) = fault.at else { panic!("one operation fails") };
    let before = store.counts().of(operation);
    store.fail(fault);
    let mut possible = Possible::of(&prepared.bytes);
    let (mut hit, mut size_max) = (0, workload.size);
    for (index, request) in requests.iter().enumerate() {
        let what = || format!("{fault:?}, request {index} {request:?}");
        if !matches!(request, Request::Grow { size } if *size < chain.size().as_usize()) {
            begin_within(request, &mut possible);
            match perform(&chain, request) {
                Ok(()) => end_within(request, &mut possible),
                Err(_) => hit += 1,
            }
        }
        if let Request::Grow { size } = request {
            size_max = size_max.max(*size);
        }
        // Reads may fail as well; what they answer must be true.
        if let (1, Ok(found)) = (hit, read(&chain, possible.size()))
            && let Some(at) = possible.refutes_read(&found)
        {
            panic!("{}: reads {} at {at}", what(), found[at]);
        }
    }
    let calls = store.counts().of(operation) - before;
    store.heal();
    if fault.times == Times::Once {
        // The disk is well again: what is there can be read, whatever failed before.
        let found = read(&chain, possible.size()).map_err(|error| format!("{fault:?}: {error}"))?;
        if let Some(at) = possible.refutes_read(&found) {
            panic!("{fault:?}: reads {} at {at} in the end", found[at]);
        }
    }
    drop(chain);

    let chain = workload.chain(memory.open(&name(), Access::Write)?, below.as_ref())?;
    let head = chain.head().as_qcow2().expect("the head is an image");
    let report = head.check()?;
    assert_eq!(report.corruptions, 0, "{fault:?}: {report}");
    let size = chain.size().as_usize();
    assert!((possible.size()..=size_max).contains(&size), "{fault:?}: {size} large");
    let found = read(&chain, possible.size())?;
    if let Some(at) = possible.refutes_crash(&found) {
        panic!("{fault:?}: byte {at} is {} when opened again", found[at]);
    }
    Ok(nth <= calls)
}

/// As `begin`, for a disk that a failed growth may have left smaller than the request.
fn begin_within(request: &Request, possible: &mut Possible) {
    if fits(request, possible) {
        begin(request, possible);
    }
}

fn end_within(request: &Request, possible: &mut Possible) {
    assert!(fits(request, possible), "{request:?} past the end was admitted");
    end(request, possible);
}

fn fits(request: &Request, possible: &Possible) -> bool {
    match request {
        Request::Fill { range, .. } | Request::Pack { range, .. } | Request::Zero { range, .. } => {
            range.end <= possible.size()
        }
        Request::Grow { .. } | Request::Flush => true,
    }
}

/// Fails each call of a workload that changes the disk, and some of those that read it.
fn survive_every_fault(
    workload: &Workload,
    filled: usize,
    requests: &[Request],
    reads_between: u64,
) -> Outcome {
    let reads = (Operation::Read, reads_between);
    let prepared = Prepared::new(workload, filled)?;
    let kinds = [
        FaultKind::EIO,
        FaultKind::ENOSPC,
        FaultKind::ShortWrite(ByteCount::new(700)),
        FaultKind::SyncFailed,
    ];
    let kind = |turn: u64| kinds[usize::try_from(turn % 4).expect("below 4")];
    for (operation, step) in
        [(Operation::Write, 1), (Operation::Sync, 1), (Operation::Length, 1), (Operation::Punch, 1), reads]
    {
        for turn in 1.. {
            let at = At::CallOf(operation, turn * step);
            let reached = survive_fault(workload, &prepared, requests, Fault::once(at, kind(turn)))?;
            if turn % 3 == 0 {
                survive_fault(workload, &prepared, requests, Fault::for_ever(at, kind(turn / 4)))?;
            }
            if !reached {
                println!("{turn} times {step} of {operation:?}");
                break;
            }
        }
    }
    Ok(())
}

const SMALL: Workload =
    Workload { size: 40 << 10, longest: 5000, cluster_bits: 9, zeroes: true, grows: true, ..PLAIN };

#[test]
fn an_image_is_lawful_whichever_call_of_the_disk_fails() -> Outcome {
    survive_every_fault(&SMALL, 0, &SMALL.requests(&mut Dice::of(11)), 37)
}

#[test]
fn an_overlay_is_lawful_whichever_call_of_the_disk_fails() -> Outcome {
    let workload = Workload { overlay: true, ..SMALL };
    survive_every_fault(&workload, 0, &workload.requests(&mut Dice::of(12)), 37)
}

#[test]
fn an_image_with_compressed_clusters_is_lawful_whichever_call_of_the_disk_fails() -> Outcome {
    survive_every_fault(&PACKED, 0, &PACKED.requests(&mut Dice::of(13)), 37)?;
    survive_every_fault(&PACKED_OVERLAY, 0, &PACKED_OVERLAY.requests(&mut Dice::of(14)), 37)
}

#[test]
fn an_image_with_an_internal_snapshot_is_lawful_whichever_call_of_the_disk_fails() -> Outcome {
    let workload = Workload { internal: true, overlay: true, ..SMALL };
    survive_every_fault(&workload, 0, &workload.requests(&mut Dice::of(15)), 37)?;
    let workload = Workload { internal: true, size: 80 << 10, longest: 9000, grows: false, ..FINE };
    survive_every_fault(&workload, 0, &workload.requests(&mut Dice::of(16))[..25], 37)
}

#[test]
fn an_image_is_lawful_whichever_call_fails_while_its_refcount_table_grows() -> Outcome {
    // One refcount table of one cluster counts 2 MiB: this one is full soon after the first request.
    let workload = Workload { refcount_order: 6, size: 2300 << 10, ..SMALL };
    // Both requests lie in one L2 table, and the first one needs a new refcount block: nothing but the flush, or
    // the growth itself, makes the table name it.
    let filled = 61 << 15;
    let fill = |at: usize, length, byte| Request::Fill { range: at..at + length, byte };
    let requests = [
        fill(filled, 17_000, 2),
        fill(filled + 17_000, 15_500, 3),
        Request::Zero { range: 0..5_000, space: Space::Free },
        Request::Flush,
        fill(filled + 40_000, 9_000, 4),
        fill(0, 2_000, 5),
        Request::Flush,
        fill(9_000, 2_000, 6),
    ];
    let prepared = Prepared::new(&workload, filled)?;
    let image = open(prepared.store.fork().open(&name(), Access::Write)?, 9)?;
    image.write(GuestOffset::new(filled as u64), &[2; 17_000], None)?;
    assert_eq!(image.header().refcount_table_clusters, 1, "full only after the first request");
    image.write(GuestOffset::new(filled as u64 + 17_000), &[3; 15_500], None)?;
    assert!(image.header().refcount_table_clusters > 1, "full after the second request");
    survive_every_fault(&workload, filled, &requests, 150)
}
