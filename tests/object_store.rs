//! Groups in an archive and back: what was sealed and nothing else, each layer once, whatever breaks off when.

#[path = "support/dice.rs"]
mod dice;

use dice::Dice;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use snapgroup::object_store::{Archive, ArchiveError, RestoreGroup, Uuids};
use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, DeleteSnapshots, Direction, Engine,
    Kind, Options, Uuid, Volume,
};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Runs a future in this thread.
fn wait<T>(future: impl Future<Output = T> + Send) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

/// A machine of two disks, with what is written to them at random.
struct Site {
    engine: Engine,
    machine: Uuid,
    disks: Vec<Volume>,
    dice: Dice,
}

const SIZE: ByteCount = ByteCount::mib(12);

impl Site {
    fn new(engine: Engine, seed: u64) -> Result<Self, snapgroup::Error> {
        println!("seed {seed}");
        let machine = engine.create_machine(&CreateMachine::new("web"))?.uuid;
        let mut disks = Vec::new();
        for (place, name) in ["system", "data"].into_iter().enumerate() {
            let mut request = CreateVolume::new(name, SIZE);
            if place == 0 {
                request = request.as_root();
            }
            let volume = engine.create_volume(&request)?.uuid;
            engine.attach_volume(volume, machine, Some(if place == 0 { 0 } else { 5 }))?;
            disks.push(engine.open_volume(volume)?);
        }
        Ok(Self { engine, machine, disks, dice: Dice::of(seed) })
    }

    /// Some writes, zeros and discards on each disk.
    fn write(&mut self) -> Result<(), snapgroup::Error> {
        let dice = &mut self.dice;
        for disk in &self.disks {
            for _ in 0..6 {
                let length = dice.roll(300_000) + 1;
                let at = dice.roll(disk.size().as_usize() - length) as u64;
                match dice.roll(4) {
                    0 => disk.write_zeroes(at, length as u64)?,
                    1 => disk.discard(at, length as u64)?,
                    _ => {
                        let bytes: Vec<u8> =
                            (0..length).map(|_| u8::try_from(dice.roll(256)).expect("a byte")).collect();
                        disk.write_at(at, &bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn group(&self, name: &str) -> Result<Uuid, snapgroup::Error> {
        let request = CreateGroup::of_machine(self.machine, name);
        let request = CreateGroup { description: Some(format!("{name}, described")), ..request };
        Ok(self.engine.create_group(&request)?.inventory.uuid)
    }

    /// What the disks of a group hold.
    fn contents(&self, group: Uuid) -> Result<Vec<Vec<u8>>, snapgroup::Error> {
        let members = self.engine.group(group)?.volume_snapshot_refs;
        members
            .iter()
            .map(|member| {
                let snapshot = self.engine.open_snapshot(member.volume_snapshot_uuid)?;
                let mut bytes = vec![0; snapshot.size().as_usize()];
                snapshot.read_at(0, &mut bytes)?;
                Ok(bytes)
            })
            .collect()
    }
}

fn in_memory() -> Result<Engine, snapgroup::Error> {
    Engine::in_memory(Options::default())
}

/// Restores a group into a new pool, and compares all that can be seen of it.
#[track_caller]
fn assert_restores(archive: &Archive, site: &Site, group: Uuid, contents: &[Vec<u8>]) -> Outcome {
    let engine = in_memory()?;
    let restored = wait(archive.restore_group(&engine, group, &RestoreGroup::default()))?;
    let manifest = wait(archive.manifest(group))?;
    assert_eq!(restored.group.name, manifest.name);
    assert_eq!(restored.group.description, manifest.description);
    let machine = engine.machine(restored.machine)?;
    assert_eq!(machine.name, "web");
    let shown: Vec<_> = machine
        .all_volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.device_id, volume.volume_type))
        .collect();
    let there = site.engine.machine(site.machine)?;
    let expected: Vec<_> = there
        .all_volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.device_id, volume.volume_type))
        .collect();
    assert_eq!(shown, expected);
    for ((volume, member), expected) in
        restored.volumes.iter().zip(&restored.group.volume_snapshot_refs).zip(contents)
    {
        let (disk, snapshot) =
            (engine.open_volume(*volume)?, engine.open_snapshot(member.volume_snapshot_uuid)?);
        let (mut now, mut then) = (vec![1; expected.len()], vec![2; expected.len()]);
        assert_eq!(
            (disk.size(), snapshot.size()),
            (ByteCount::of(expected.len()), ByteCount::of(expected.len()))
        );
        disk.read_at(0, &mut now)?;
        snapshot.read_at(0, &mut then)?;
        assert!(now == *expected && then == *expected, "{} holds something else", member.volume_name);
    }
    let verified = wait(archive.verify_group(group))?;
    assert_eq!(verified.bytes_fetched, restored.bytes_fetched);
    Ok(())
}

#[test]
fn every_group_comes_back_from_memory_and_from_a_directory_as_it_was() -> Outcome {
    let directory = tempfile::tempdir()?;
    let stores: [Arc<dyn ObjectStore>; 2] =
        [Arc::new(InMemory::new()), Arc::new(LocalFileSystem::new_with_prefix(directory.path())?)];
    for (seed, store) in [1, 2].into_iter().zip(stores) {
        let mut site = Site::new(in_memory()?, seed)?;
        let archive = Archive::new(store, "pools/a")?;
        let mut groups = Vec::new();
        for name in ["a", "b", "c"] {
            site.write()?;
            let group = site.group(name)?;
            groups.push((group, site.contents(group)?));
            wait(archive.export_group(&site.engine, group))?;
            site.engine.resize_volume(site.disks[1].uuid(), site.disks[1].size() + ByteCount::mib(1))?;
        }
        let mut uuids: Vec<Uuid> = groups.iter().map(|(group, _)| *group).collect();
        uuids.sort_unstable();
        assert_eq!(wait(archive.groups())?, uuids);
        for (group, contents) in &groups {
            assert_restores(&archive, &site, *group, contents)?;
        }
    }
    Ok(())
}

#[test]
fn a_layer_that_is_there_is_not_sent_again() -> Outcome {
    let mut site = Site::new(in_memory()?, 3)?;
    let archive = Archive::new(Arc::new(InMemory::new()), "")?;
    site.write()?;
    let first = site.group("a")?;
    let sent = wait(archive.export_group(&site.engine, first))?;
    assert_eq!((sent.layers_sent, sent.layers_there), (2, 0));

    site.disks[0].write_at(0, &[1; 100])?;
    let second = site.group("b")?;
    let sent = wait(archive.export_group(&site.engine, second))?;
    assert_eq!((sent.layers_sent, sent.layers_there), (2, 2));
    assert!(sent.bytes_sent < ByteCount::kib(130), "{} for one cluster", sent.bytes_sent);

    let again = wait(archive.export_group(&site.engine, second))?;
    assert_eq!((again.layers_sent, again.layers_there, again.bytes_sent), (0, 4, ByteCount::ZERO));
    Ok(())
}

#[test]
fn a_layer_that_the_pool_has_merged_is_another_one_and_both_groups_restore() -> Outcome {
    let mut site = Site::new(in_memory()?, 4)?;
    let archive = Archive::new(Arc::new(InMemory::new()), "x")?;
    site.write()?;
    let first = site.group("a")?;
    site.write()?;
    let second = site.group("b")?;
    let (one, other) = (site.contents(first)?, site.contents(second)?);
    wait(archive.export_group(&site.engine, first))?;
    assert!(
        site.engine
            .delete_group(&DeleteGroup { direction: Direction::Pull, ..DeleteGroup::new(first) })?
            .is_success()
    );
    let sent = wait(archive.export_group(&site.engine, second))?;
    assert_eq!(sent.layers_there, 0, "a layer that took in another one has the seal that it had");
    assert_restores(&archive, &site, first, &one)?;
    assert_restores(&archive, &site, second, &other)
}

mod breaking {
    //! A back end that breaks off.

    use super::{Arc, InMemory, ObjectStore, Path, PutPayload};
    use async_trait::async_trait;
    use futures_core::stream::BoxStream;
    use object_store::{
        CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
        PutMultipartOptions, PutOptions, PutResult, Result, UploadPart,
    };
    use std::fmt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What becomes of a request after the last one that is answered.
    #[derive(Clone, Copy, Debug)]
    pub(super) enum Then {
        Fail,
        Hang,
    }

    /// Answers so many requests. Two clones count together.
    #[derive(Clone, Debug)]
    pub(super) struct Breaking {
        pub(super) inner: Arc<InMemory>,
        pub(super) left: Arc<AtomicUsize>,
        pub(super) then: Then,
    }

    impl Breaking {
        async fn pass(&self) -> Result<()> {
            let passes = |left: usize| left.checked_sub(1);
            match (self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, passes), self.then) {
                (Ok(_), _) => Ok(()),
                (Err(_), Then::Fail) => {
                    Err(Error::Generic { store: "breaking", source: "it has broken off".into() })
                }
                (Err(_), Then::Hang) => std::future::pending().await,
            }
        }
    }

    impl fmt::Display for Breaking {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a back end that breaks off")
        }
    }

    #[derive(Debug)]
    struct Parts(Breaking, Box<dyn MultipartUpload>);

    #[async_trait]
    impl MultipartUpload for Parts {
        fn put_part(&mut self, data: PutPayload) -> UploadPart {
            let (breaking, part) = (self.0.clone(), self.1.put_part(data));
            Box::pin(async move {
                breaking.pass().await?;
                part.await
            })
        }

        async fn complete(&mut self) -> Result<PutResult> {
            self.0.pass().await?;
            self.1.complete().await
        }

        async fn abort(&mut self) -> Result<()> {
            self.1.abort().await
        }
    }

    #[async_trait]
    impl ObjectStore for Breaking {
        async fn put_opts(
            &self,
            place: &Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> Result<PutResult> {
            self.pass().await?;
            self.inner.put_opts(place, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            place: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.pass().await?;
            Ok(Box::new(Parts(self.clone(), self.inner.put_multipart_opts(place, options).await?)))
        }

        async fn get_opts(&self, place: &Path, options: GetOptions) -> Result<GetResult> {
            self.pass().await?;
            self.inner.get_opts(place, options).await
        }

        fn delete_stream(
            &self,
            places: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(places)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }
}

use breaking::{Breaking, Then};

fn breaking(inner: &Arc<InMemory>, left: usize, then: Then) -> Result<Archive, ArchiveError> {
    Archive::new(Arc::new(Breaking { inner: Arc::clone(inner), left: Arc::new(left.into()), then }), "x")
        .map(|archive| archive.with_part(ByteCount::mib(5)))
}

/// A site with more data in one layer than one piece takes.
fn large_site(seed: u64) -> Result<(Site, Uuid), snapgroup::Error> {
    let mut site = Site::new(in_memory()?, seed)?;
    site.disks[0].write_at(0, &vec![7; ByteCount::mib(11).as_usize()])?;
    site.write()?;
    let group = site.group("g")?;
    Ok((site, group))
}

#[test]
fn an_export_that_breaks_off_anywhere_is_no_group_and_the_next_one_completes_it() -> Outcome {
    let (site, group) = large_site(5)?;
    let contents = site.contents(group)?;
    for left in 0.. {
        let store = Arc::new(InMemory::new());
        let whole = Archive::new(store.clone(), "x")?;
        let then = if left % 2 == 0 { Then::Fail } else { Then::Hang };
        let archive = breaking(&store, left, then)?;
        let export = archive.export_group(&site.engine, group);
        let exported = pin!(export).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Ok(_)) = exported {
            assert!(left > 8, "an export of several pieces takes more than {left} requests");
            assert_restores(&whole, &site, group, &contents)?;
            return Ok(());
        }
        assert_eq!(wait(whole.groups())?.len(), 0, "after {left} requests");
        let refused = wait(whole.restore_group(&in_memory()?, group, &RestoreGroup::default()));
        assert!(matches!(refused, Err(ArchiveError::NoGroup { .. })), "after {left} requests: {refused:?}");
        wait(whole.export_group(&site.engine, group))?;
        if left % 4 == 1 {
            assert_restores(&whole, &site, group, &contents)?;
        } else {
            wait(whole.verify_group(group))?;
        }
    }
    unreachable!("it ends when an export completes")
}

#[test]
fn a_restore_that_breaks_off_anywhere_leaves_nothing_behind() -> Outcome {
    let (site, group) = large_site(6)?;
    let store = Arc::new(InMemory::new());
    wait(Archive::new(store.clone(), "x")?.export_group(&site.engine, group))?;
    let engine = in_memory()?;
    for left in 0.. {
        let then = if left % 2 == 0 { Then::Fail } else { Then::Hang };
        let archive = breaking(&store, left, then)?;
        let request = RestoreGroup { uuids: Uuids::Kept, ..RestoreGroup::default() };
        let restored = {
            let restore = pin!(archive.restore_group(&engine, group, &request));
            restore.poll(&mut Context::from_waker(Waker::noop()))
        };
        if let Poll::Ready(Ok(restored)) = restored {
            assert!(left > 6, "a restore of several pieces takes more than {left} requests");
            assert_eq!((restored.machine, restored.group.uuid), (site.machine, group));
            return Ok(());
        }
        assert_eq!(engine.query_machines(&snapgroup::query::Query::all())?.total, 0, "after {left} requests");
        assert_eq!(engine.query_volumes(&snapgroup::query::Query::all())?.total, 0, "after {left} requests");
    }
    unreachable!("it ends when a restore completes")
}

/// Every object of a store, with its bytes.
fn objects(
    store: &InMemory,
    group: Uuid,
    archive: &Archive,
) -> Result<Vec<Path>, Box<dyn std::error::Error>> {
    let manifest = wait(archive.manifest(group))?;
    let mut found = vec![Path::from(format!("x/groups/{}.json", group.simple()))];
    for layer in manifest.members.iter().flat_map(|member| &member.layers) {
        let layer = format!("x/layers/{}/{}", layer.uuid.simple(), layer.seal);
        found.extend(["seal", "data"].map(|object| Path::from(format!("{layer}/{object}"))));
    }
    found.retain(|place| wait(store.head(place)).is_ok());
    Ok(found)
}

#[test]
fn whatever_is_altered_cut_off_or_missing_in_the_archive_is_found_and_nothing_is_restored() -> Outcome {
    let mut site = Site::new(in_memory()?, 7)?;
    site.write()?;
    let group = site.group("g")?;
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(store.clone(), "x")?;
    wait(archive.export_group(&site.engine, group))?;
    let engine = in_memory()?;
    let refused = |what: &str| -> Outcome {
        let verified = wait(archive.verify_group(group));
        assert!(verified.is_err(), "{what}: verified");
        let restored = wait(archive.restore_group(&engine, group, &RestoreGroup::default()));
        assert!(restored.is_err(), "{what}: restored");
        assert_eq!(engine.query_volumes(&snapgroup::query::Query::all())?.total, 0, "{what}");
        Ok(())
    };
    let places = objects(&store, group, &archive)?;
    assert_eq!(places.len(), 5, "{places:?}");
    for place in &places {
        let bytes = wait(async { store.get(place).await?.bytes().await })?.to_vec();
        let is_manifest = place.as_ref().ends_with(".json");
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            // White space between the fields of a manifest says nothing.
            if is_manifest && bytes[at].is_ascii_whitespace() {
                continue;
            }
            wait(store.put(place, PutPayload::from(altered)))?;
            refused(&format!("{place} with another byte at {at}"))?;
            wait(store.put(place, PutPayload::from(bytes[..at].to_vec())))?;
            refused(&format!("{place} cut off at {at}"))?;
        }
        wait(store.delete(place))?;
        refused(&format!("without {place}"))?;
        wait(store.put(place, PutPayload::from(bytes)))?;
    }
    wait(archive.verify_group(group))?;
    Ok(())
}

#[test]
fn a_layer_that_has_rotted_in_the_pool_is_not_sent_as_if_it_were_whole() -> Outcome {
    let directory = tempfile::tempdir()?;
    let site = Site::new(Engine::open(directory.path(), Options::default())?, 8)?;
    site.disks[0].write_at(0, b"a mark that is nowhere else")?;
    let group = site.group("g")?;
    let member = site.engine.group(group)?.volume_snapshot_refs[0].volume_snapshot_uuid;
    let layers = site.engine.sealed_layers(member)?;
    let file = directory.path().join(layers[0].file());
    drop(layers);
    let mut bytes = std::fs::read(&file)?;
    let mark = b"a mark that is nowhere else";
    let place =
        bytes.windows(mark.len()).position(|window| window == mark).expect("the guest's data is in the file");
    bytes[place] ^= 1;
    std::fs::write(&file, bytes)?;

    let archive = Archive::new(Arc::new(InMemory::new()), "")?;
    match wait(archive.export_group(&site.engine, group)) {
        Err(ArchiveError::Pool(error)) => assert_eq!(error.kind(), Kind::Corrupt, "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(wait(archive.groups())?.len(), 0);
    Ok(())
}

#[test]
fn a_group_without_one_of_its_members_is_not_exported() -> Outcome {
    let site = Site::new(in_memory()?, 9)?;
    let group = site.group("g")?;
    let member = site.engine.group(group)?.volume_snapshot_refs[1].clone();
    assert!(site.engine.delete_snapshots(&DeleteSnapshots::one(member.volume_snapshot_uuid))?.is_success());
    let archive = Archive::new(Arc::new(InMemory::new()), "")?;
    match wait(archive.export_group(&site.engine, group)) {
        Err(ArchiveError::NotWhole { volume, .. }) => assert_eq!(volume, member.volume_uuid),
        other => panic!("{other:?}"),
    }
    assert_eq!(wait(archive.groups())?.len(), 0);
    Ok(())
}

#[test]
fn a_restore_that_would_keep_uuids_which_are_taken_is_refused_and_touches_nothing() -> Outcome {
    let site = Site::new(in_memory()?, 10)?;
    let group = site.group("g")?;
    let archive = Archive::new(Arc::new(InMemory::new()), "")?;
    wait(archive.export_group(&site.engine, group))?;
    let generation = site.engine.generation();
    let request = RestoreGroup { uuids: Uuids::Kept, ..RestoreGroup::default() };
    match wait(archive.restore_group(&site.engine, group, &request)) {
        Err(ArchiveError::Pool(error)) => assert_eq!(error.kind(), Kind::Refused, "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(site.engine.generation(), generation);
    // Beside what is there it is restored under fresh ones.
    let request = RestoreGroup { machine_name: Some("copy".into()), ..RestoreGroup::default() };
    let restored = wait(archive.restore_group(&site.engine, group, &request))?;
    assert_eq!(site.engine.machine(restored.machine)?.name, "copy");
    Ok(())
}
