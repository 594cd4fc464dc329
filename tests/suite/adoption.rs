//! Adoption: files that were there before become volumes with their whole chain, and nothing below a head changes.

use crate::support::{
    Home, Made, Outcome, SIZE, assert_sound, file_of, fill, make_machine, on_every_store, read_snapshot,
    read_volume, take, volume,
};
use snapgroup::image::{BackingLabel, Image, Limits, NewImage, Version};
use snapgroup::query::{Query, SnapshotField};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::{GuestOffset, HostOffset};
use snapgroup::{
    AdoptVolume, BaseImage, ByteCount, CreateVolume, Engine, Error, Kind, LayerFormat, LayerState,
    LowerLayers, Uuid, VolumeKind,
};

on_every_store! {
    a_qcow2_file_becomes_a_head_that_is_written_in_place
    a_version_2_image_is_taken_over_and_read_again
    a_raw_file_gets_an_overlay_and_never_changes
    a_chain_of_three_is_read_through_and_only_its_head_changes
    each_layer_below_becomes_a_snapshot_when_asked
    an_adopted_disk_is_in_the_next_group
    a_base_carries_two_volumes_and_never_changes
    a_base_can_be_larger_or_smaller_than_the_volume
    an_adopted_volume_is_found_again_and_a_repeat_is_known
    a_file_that_is_not_there_is_refused
    a_name_that_leads_out_of_the_directory_is_refused
    a_backing_file_that_is_missing_is_refused
    a_backing_file_without_a_format_is_refused
    a_label_that_is_no_plain_name_is_refused
    a_chain_that_comes_back_to_itself_is_refused
    a_chain_that_is_too_deep_is_refused
    a_head_cannot_be_a_base_or_be_adopted_twice
    a_frozen_layer_cannot_be_adopted_as_a_head
    an_image_with_anything_wrong_is_refused
    an_image_that_is_not_what_was_said_is_refused
    what_cannot_be_written_is_not_adopted_as_a_head
    the_catalogue_is_no_disk
    a_head_with_a_name_that_this_crate_gives_is_refused
    a_taken_uuid_is_refused_before_the_file_is_touched
    a_copy_of_a_layer_is_another_file
}

/// The bytes of a new image.
pub(crate) fn bytes_of(new: &NewImage) -> Made<Vec<u8>> {
    written(new, &[])
}

/// The bytes of a new image in which some ranges, aligned to clusters, were filled.
pub(crate) fn written(new: &NewImage, fills: &[(u64, usize, u8)]) -> Made<Vec<u8>> {
    let store = MemoryStore::new();
    let name = BlobName::parse("image")?;
    let blob = store.create(&name)?;
    new.layout("image")?.write(&*blob)?;
    let image = Image::open(blob.clone(), "image", Access::Write, Limits::default())?;
    for (at, length, byte) in fills {
        image.write(GuestOffset::new(*at), &vec![*byte; *length], None)?;
    }
    image.flush()?;
    let mut bytes = vec![0; blob.length()?.as_usize()];
    blob.read_at(HostOffset::ZERO, &mut bytes)?;
    Ok(bytes)
}

fn alone() -> NewImage {
    NewImage { cluster_bits: 12, ..NewImage::of_size(SIZE) }
}

pub(crate) fn above(name: &str, format: &str) -> NewImage {
    let backing = BackingLabel { name: name.into(), format: format.into() };
    NewImage { backing: Some(backing), ..alone() }
}

fn adopt(file: &str, format: LayerFormat) -> AdoptVolume {
    AdoptVolume { file: file.into(), format, name: "adopted".into(), ..AdoptVolume::default() }
}

fn qcow2(file: &str) -> AdoptVolume {
    adopt(file, LayerFormat::Qcow2)
}

/// `top.qcow2` above `middle.qcow2` above `base.raw`.
fn put_chain(home: &Home) -> Outcome {
    let mut raw = vec![1; 65_536];
    raw.resize(200_000, 1);
    home.put("base.raw", &raw)?;
    home.put("middle.qcow2", &written(&above("base.raw", "raw"), &[(4096, 8192, 2)])?)?;
    home.put("top.qcow2", &written(&above("./middle.qcow2", "qcow2"), &[(8192, 4096, 3)])?)
}

/// What a guest sees through that chain.
fn chain_content(layers: u8) -> Vec<u8> {
    let mut content = vec![0; SIZE.as_usize()];
    content[..200_000].fill(1);
    if layers > 1 {
        content[4096..12_288].fill(2);
    }
    if layers > 2 {
        content[8192..12_288].fill(3);
    }
    content
}

/// The rule that a file broke.
fn rule(home: &Home, engine: &Engine, wish: &AdoptVolume) -> Made<String> {
    let error = home.refusal(engine, || engine.adopt_volume(wish))?;
    rule_of(&error)
}

pub(crate) fn rule_of(error: &Error) -> Made<String> {
    let Error::NotAdoptable { blob, rule } = error else { panic!("{error:?}") };
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Refused));
    Ok(format!("{blob}: {rule}"))
}

fn a_qcow2_file_becomes_a_head_that_is_written_in_place(home: &Home) -> Outcome {
    home.put("disk.qcow2", &written(&alone(), &[(0, 4096, 5)])?)?;
    let engine = home.open()?;
    let disk = engine.adopt_volume(&AdoptVolume { kind: VolumeKind::Root, ..qcow2("disk.qcow2") })?;
    assert_eq!(file_of(&disk.install_path), "disk.qcow2");
    assert_eq!((disk.size, disk.current_tree_uuid), (SIZE, None));
    fill(&engine.open_volume(disk.uuid)?, 4096, 4096, 6)?;
    let content = read_volume(&engine, disk.uuid)?;
    assert!(content[..4096].iter().all(|b| *b == 5) && content[4096..8192].iter().all(|b| *b == 6));
    assert_eq!(engine.chain(disk.uuid)?.len(), 1);
    assert_eq!(home.picture()?.len(), 2, "no file was made");
    assert_sound(&engine)
}

fn a_version_2_image_is_taken_over_and_read_again(home: &Home) -> Outcome {
    let old = NewImage { version: Version::V2, ..alone() };
    home.put("old.qcow2", &written(&old, &[(0, 4096, 5)])?)?;
    let engine = home.open()?;
    let disk = engine.adopt_volume(&qcow2("old.qcow2"))?.uuid;
    engine.close()?;
    let engine = home.open()?;
    assert!(read_volume(&engine, disk)?[..4096].iter().all(|byte| *byte == 5));
    fill(&engine.open_volume(disk)?, 100, 10_000, 6)?;
    assert_sound(&engine)
}

fn a_raw_file_gets_an_overlay_and_never_changes(home: &Home) -> Outcome {
    let raw = vec![4; 100_000];
    home.put("disk.img", &raw)?;
    let engine = home.open()?;
    let disk = engine.adopt_volume(&adopt("disk.img", LayerFormat::Raw))?;
    assert_eq!(disk.size, ByteCount::new(100_352), "rounded up to a sector");
    let content = read_volume(&engine, disk.uuid)?;
    assert_eq!((&content[..100_000], &content[100_000..]), (&raw[..], &[0; 352][..]));
    fill(&engine.open_volume(disk.uuid)?, 0, 100_352, 5)?;
    let chain = engine.chain(disk.uuid)?;
    assert_eq!((chain[1].file.as_str(), chain[1].state), ("disk.img", LayerState::Frozen));
    assert!(home.bytes("disk.img")? == raw);
    assert_sound(&engine)
}

fn a_chain_of_three_is_read_through_and_only_its_head_changes(home: &Home) -> Outcome {
    put_chain(home)?;
    let before = home.picture()?;
    let engine = home.open()?;
    let disk = engine.adopt_volume(&qcow2("top.qcow2"))?.uuid;
    let mut content = chain_content(3);
    assert!(read_volume(&engine, disk)? == content);
    fill(&engine.open_volume(disk)?, 5000, 20_000, 9)?;
    content[5000..25_000].fill(9);
    engine.close()?;
    let engine = home.open()?;
    assert!(read_volume(&engine, disk)? == content);
    let files: Vec<_> = engine.chain(disk)?.into_iter().map(|layer| (layer.file, layer.state)).collect();
    let expected = [
        ("top.qcow2".to_owned(), LayerState::Head),
        ("middle.qcow2".to_owned(), LayerState::Frozen),
        ("base.raw".to_owned(), LayerState::Frozen),
    ];
    assert_eq!(files, expected);
    assert_eq!(engine.query_snapshots(&Query::all())?.total, 0);
    for file in ["middle.qcow2", "base.raw"] {
        assert!(home.bytes(file)? == before[file], "{file} has changed");
    }
    assert_sound(&engine)
}

fn each_layer_below_becomes_a_snapshot_when_asked(home: &Home) -> Outcome {
    put_chain(home)?;
    let before = home.picture()?;
    let engine = home.open()?;
    let wish = AdoptVolume { lower: LowerLayers::Snapshots, ..qcow2("top.qcow2") };
    let disk = engine.adopt_volume(&wish)?;
    let by_distance = Query::all().sorted(SnapshotField::Distance, snapgroup::query::Direction::Ascending);
    let snapshots = engine.query_snapshots(&by_distance)?.items;
    let shown: Vec<_> =
        snapshots.iter().map(|s| (s.distance, s.name.as_str(), s.latest, s.parent_uuid)).collect();
    assert_eq!(shown, [(1, "base.raw", false, None), (2, "middle.qcow2", true, Some(snapshots[0].uuid))]);
    assert_eq!(disk.current_tree_uuid, Some(snapshots[0].tree_uuid));
    let base = read_snapshot(&engine, snapshots[0].uuid)?;
    assert_eq!((base.len(), base.iter().all(|byte| *byte == 1 || *byte == 0)), (200_192, true));
    assert!(read_snapshot(&engine, snapshots[1].uuid)? == chain_content(2));
    let next = engine.create_snapshot(&snapgroup::CreateSnapshot {
        volume_uuid: Some(disk.uuid.into()),
        name: "next".into(),
        ..snapgroup::CreateSnapshot::default()
    })?;
    assert_eq!((next.distance, next.parent_uuid), (3, Some(snapshots[1].uuid)));
    for file in ["middle.qcow2", "base.raw"] {
        assert!(home.bytes(file)? == before[file], "{file} has changed");
    }
    // A raw file alone: it is the one snapshot.
    home.put("alone.raw", &[7; 512])?;
    let wish = AdoptVolume { lower: LowerLayers::Snapshots, ..adopt("alone.raw", LayerFormat::Raw) };
    let raw = engine.adopt_volume(&wish)?;
    let of_raw = Query::all().with(SnapshotField::VolumeUuid, snapgroup::query::Test::Equal(raw.uuid.into()));
    let of_raw = engine.query_snapshots(&of_raw)?.items;
    assert_eq!((of_raw.len(), of_raw[0].distance, of_raw[0].latest), (1, 1, true));
    assert_eq!(read_snapshot(&engine, of_raw[0].uuid)?, [7; 512]);
    assert_sound(&engine)
}

fn an_adopted_disk_is_in_the_next_group(home: &Home) -> Outcome {
    put_chain(home)?;
    let engine = home.open()?;
    let mut vm = make_machine(&engine, 1)?;
    let disk = engine.adopt_volume(&qcow2("top.qcow2"))?.uuid;
    engine.attach_volume(disk, vm.uuid, None)?;
    vm.disks.push(disk);
    let group = take(&engine, &vm, "g")?;
    let member = &group.volume_snapshot_refs[1];
    assert_eq!(file_of(&member.volume_snapshot_install_path), "top.qcow2");
    let frozen = home.bytes("top.qcow2")?;
    fill(&engine.open_volume(disk)?, 0, 300_000, 8)?;
    assert!(home.bytes("top.qcow2")? == frozen, "a frozen file was written");
    assert!(read_snapshot(&engine, member.volume_snapshot_uuid)? == chain_content(3));
    assert_sound(&engine)
}

fn a_base_carries_two_volumes_and_never_changes(home: &Home) -> Outcome {
    put_chain(home)?;
    let before = home.picture()?;
    let engine = home.open()?;
    let base = BaseImage { file: "top.qcow2".into(), format: LayerFormat::Qcow2 };
    let on_base =
        |name: &str| CreateVolume { size: None, base: Some(base.clone()), ..volume(name, VolumeKind::Data) };
    let one = engine.create_volume(&on_base("one"))?;
    let other = engine.create_volume(&on_base("other"))?;
    assert_eq!((one.size, other.size), (SIZE, SIZE));
    fill(&engine.open_volume(one.uuid)?, 0, 50_000, 0x11)?;
    fill(&engine.open_volume(other.uuid)?, 30_000, 50_000, 0x22)?;
    let (mut first, mut second) = (chain_content(3), chain_content(3));
    first[..50_000].fill(0x11);
    second[30_000..80_000].fill(0x22);
    assert!(read_volume(&engine, one.uuid)? == first && read_volume(&engine, other.uuid)? == second);
    for file in ["top.qcow2", "middle.qcow2", "base.raw"] {
        assert!(home.bytes(file)? == before[file], "{file} has changed");
    }
    assert_sound(&engine)?;
    engine.close()?;
    assert!(read_volume(&home.open()?, other.uuid)? == second);
    Ok(())
}

fn a_base_can_be_larger_or_smaller_than_the_volume(home: &Home) -> Outcome {
    home.put("base.raw", &[6; 300_032])?;
    let engine = home.open()?;
    let base = || Some(BaseImage { file: "base.raw".into(), format: LayerFormat::Raw });
    for size in [512, 100_352, 300_032, 700_416] {
        let wish =
            CreateVolume { size: Some(ByteCount::new(size)), base: base(), ..volume("v", VolumeKind::Data) };
        let disk = engine.create_volume(&wish)?;
        assert_eq!(disk.size, ByteCount::new(size));
        let content = read_volume(&engine, disk.uuid)?;
        let shown = usize::try_from(size.min(300_032))?;
        assert!(content[..shown].iter().all(|byte| *byte == 6));
        assert!(content[shown..].iter().all(|byte| *byte == 0));
        // What grows over a longer base is zeros, not what the base has there.
        let grown = ByteCount::new(size + 100_352);
        engine.resize_volume(disk.uuid, grown)?;
        let content = read_volume(&engine, disk.uuid)?;
        assert!(content[usize::try_from(size)?..].iter().all(|byte| *byte == 0), "the base shows at {size}");
    }
    assert_sound(&engine)
}

fn an_adopted_volume_is_found_again_and_a_repeat_is_known(home: &Home) -> Outcome {
    put_chain(home)?;
    let engine = home.open()?;
    let wish = AdoptVolume { resource_uuid: Some(Uuid::from_u128(3).into()), ..qcow2("top.qcow2") };
    let disk = engine.adopt_volume(&wish)?;
    let before = (home.picture()?, engine.generation());
    assert_eq!(engine.adopt_volume(&wish)?, disk);
    assert!(before == (home.picture()?, engine.generation()));
    engine.close()?;
    let engine = home.open()?;
    assert_eq!(engine.adopt_volume(&wish)?, disk);
    let error =
        home.refusal(&engine, || engine.adopt_volume(&AdoptVolume { name: "other".into(), ..wish.clone() }))?;
    assert_eq!(error.code().as_str(), "SYS.1002");
    Ok(())
}

fn a_file_that_is_not_there_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    for format in [LayerFormat::Qcow2, LayerFormat::Raw] {
        let expected = "absent: it is not in the pool's directory";
        assert_eq!(rule(home, &engine, &adopt("absent", format))?, expected);
    }
    let base = Some(BaseImage { file: "absent".into(), format: LayerFormat::Raw });
    let wish = CreateVolume { base, ..volume("v", VolumeKind::Data) };
    let error = home.refusal(&engine, || engine.create_volume(&wish))?;
    assert_eq!(rule_of(&error)?, "absent: it is not in the pool's directory");
    Ok(())
}

fn a_name_that_leads_out_of_the_directory_is_refused(home: &Home) -> Outcome {
    let engine = home.open()?;
    for file in ["", ".", "..", "/etc/passwd", "../disk.raw", "a/b", "a\0b", &"x".repeat(256)] {
        for format in [LayerFormat::Qcow2, LayerFormat::Raw] {
            rule(home, &engine, &adopt(file, format))?;
        }
        let base = Some(BaseImage { file: file.into(), format: LayerFormat::Raw });
        let wish = CreateVolume { base, ..volume("v", VolumeKind::Data) };
        rule_of(&home.refusal(&engine, || engine.create_volume(&wish))?)?;
    }
    Ok(())
}

fn a_backing_file_that_is_missing_is_refused(home: &Home) -> Outcome {
    put_chain(home)?;
    home.remove("base.raw")?;
    let engine = home.open()?;
    assert_eq!(rule(home, &engine, &qcow2("top.qcow2"))?, "base.raw: it is not in the pool's directory");
    Ok(())
}

fn a_backing_file_without_a_format_is_refused(home: &Home) -> Outcome {
    put_chain(home)?;
    let mut bytes = home.bytes("top.qcow2")?;
    // The extension that gives the format becomes one that nobody knows.
    let kind = 0xe279_2aca_u32.to_be_bytes();
    let at = bytes.windows(4).position(|found| found == kind).ok_or("no format is written")?;
    bytes[at..at + 4].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    home.put("top.qcow2", &bytes)?;
    let engine = home.open()?;
    let expected =
        "top.qcow2: it gives no format for its backing file \"./middle.qcow2\", and none is guessed";
    assert_eq!(rule(home, &engine, &qcow2("top.qcow2"))?, expected);
    home.put("top.qcow2", &bytes_of(&above("middle.qcow2", "vmdk"))?)?;
    let expected = "top.qcow2: its backing file \"middle.qcow2\" has the format \"vmdk\"";
    assert_eq!(rule(home, &engine, &qcow2("top.qcow2"))?, expected);
    Ok(())
}

fn a_label_that_is_no_plain_name_is_refused(home: &Home) -> Outcome {
    put_chain(home)?;
    let engine = home.open()?;
    for label in [
        "/base.raw",
        "../base.raw",
        "./../base.raw",
        "sub/base.raw",
        "././base.raw",
        "nbd:localhost:10809",
        "file:base.raw",
        "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"base.raw\"}}",
        "fat:rw:x",
        ".",
        "..",
    ] {
        home.put("odd.qcow2", &bytes_of(&above(label, "raw"))?)?;
        let found = rule(home, &engine, &qcow2("odd.qcow2"))?;
        let expected = format!(
            "odd.qcow2: its backing file {label:?} is not the name of a file in the pool's directory or in a declared \
             base directory"
        );
        assert_eq!(found, expected);
    }
    // A colon is no protocol where it is said that this is a file.
    home.put("a:b.raw", &[1; 512])?;
    home.put("odd.qcow2", &bytes_of(&above("./a:b.raw", "raw"))?)?;
    let disk = engine.adopt_volume(&qcow2("odd.qcow2"))?.uuid;
    assert_eq!(engine.chain(disk)?[1].file, "a:b.raw");
    Ok(())
}

fn a_chain_that_comes_back_to_itself_is_refused(home: &Home) -> Outcome {
    home.put("a", &bytes_of(&above("b", "qcow2"))?)?;
    home.put("b", &bytes_of(&above("c", "qcow2"))?)?;
    home.put("c", &bytes_of(&above("b", "qcow2"))?)?;
    home.put("self", &bytes_of(&above("self", "qcow2"))?)?;
    let engine = home.open()?;
    assert_eq!(rule(home, &engine, &qcow2("a"))?, "b: the chain comes back to it: it is a loop");
    assert_eq!(rule(home, &engine, &qcow2("self"))?, "self: the chain comes back to it: it is a loop");
    Ok(())
}

fn a_chain_that_is_too_deep_is_refused(home: &Home) -> Outcome {
    put_chain(home)?;
    let engine = home.open_with(|options| options.chain_max = 2)?;
    let expected = "base.raw: the chain is longer than 2 layers";
    assert_eq!(rule(home, &engine, &qcow2("top.qcow2"))?, expected);
    // A new overlay counts, too.
    let base = Some(BaseImage { file: "middle.qcow2".into(), format: LayerFormat::Qcow2 });
    let wish = CreateVolume { base, ..volume("v", VolumeKind::Data) };
    rule_of(&home.refusal(&engine, || engine.create_volume(&wish))?)?;
    engine.adopt_volume(&qcow2("middle.qcow2"))?;
    Ok(())
}

fn a_head_cannot_be_a_base_or_be_adopted_twice(home: &Home) -> Outcome {
    put_chain(home)?;
    home.put("upper.qcow2", &bytes_of(&above("top.qcow2", "qcow2"))?)?;
    let engine = home.open()?;
    engine.adopt_volume(&qcow2("top.qcow2"))?;
    let expected = "top.qcow2: it is the head of a volume of this pool";
    assert_eq!(rule(home, &engine, &qcow2("top.qcow2"))?, expected);
    let expected = "top.qcow2: it is the head of a volume: its content still changes";
    assert_eq!(rule(home, &engine, &qcow2("upper.qcow2"))?, expected);
    let base = Some(BaseImage { file: "top.qcow2".into(), format: LayerFormat::Qcow2 });
    let wish = CreateVolume { base, ..volume("v", VolumeKind::Data) };
    assert_eq!(rule_of(&home.refusal(&engine, || engine.create_volume(&wish))?)?, expected);
    let expected = "top.qcow2: the pool has it as qcow2";
    assert_eq!(rule(home, &engine, &adopt("top.qcow2", LayerFormat::Raw))?, expected);
    Ok(())
}

fn a_frozen_layer_cannot_be_adopted_as_a_head(home: &Home) -> Outcome {
    put_chain(home)?;
    let engine = home.open()?;
    engine.adopt_volume(&qcow2("top.qcow2"))?;
    let found = rule(home, &engine, &qcow2("middle.qcow2"))?;
    assert_eq!(found, "middle.qcow2: it is a layer of this pool already; make a volume above it instead");
    // But two heads may share it.
    home.put("second.qcow2", &written(&above("middle.qcow2", "qcow2"), &[(0, 4096, 9)])?)?;
    let second = engine.adopt_volume(&qcow2("second.qcow2"))?.uuid;
    let mut content = chain_content(2);
    content[..4096].fill(9);
    assert!(read_volume(&engine, second)? == content);
    assert_sound(&engine)
}

fn an_image_with_anything_wrong_is_refused(home: &Home) -> Outcome {
    put_chain(home)?;
    let engine = home.open()?;
    let good = home.bytes("middle.qcow2")?;
    // A refcount of zero for a cluster in use: the first block follows the table, cluster 2.
    let mut lost = good.clone();
    let block = 2 * 4096;
    assert_eq!(&lost[block + 12..block + 14], &[0, 1], "cluster 6 is in use");
    lost[block + 12..block + 14].fill(0);
    let mut past_end = good.clone();
    past_end[40..48].copy_from_slice(&(1u64 << 40).to_be_bytes());
    let mut cut = good.clone();
    cut.truncate(3 * 4096);
    for (what, bytes) in [("refcount", lost), ("L1", past_end), ("cut", cut), ("empty", Vec::new())] {
        home.put("middle.qcow2", &bytes)?;
        let found = rule(home, &engine, &qcow2("top.qcow2"))?;
        assert!(found.starts_with("middle.qcow2: "), "{what}: {found}");
    }
    home.put("middle.qcow2", &good)?;
    engine.adopt_volume(&qcow2("top.qcow2"))?;
    Ok(())
}

fn an_image_that_is_not_what_was_said_is_refused(home: &Home) -> Outcome {
    put_chain(home)?;
    home.put("liar.qcow2", &bytes_of(&above("base.raw", "qcow2"))?)?;
    let engine = home.open()?;
    let found = rule(home, &engine, &qcow2("base.raw"))?;
    assert!(found.starts_with("base.raw: "), "{found}");
    let found = rule(home, &engine, &qcow2("liar.qcow2"))?;
    assert!(found.starts_with("base.raw: "), "{found}");
    Ok(())
}

fn what_cannot_be_written_is_not_adopted_as_a_head(home: &Home) -> Outcome {
    let mut dirty = bytes_of(&alone())?;
    dirty[79] |= 1;
    home.put("dirty.qcow2", &dirty)?;
    let mut corrupt = bytes_of(&alone())?;
    corrupt[79] |= 2;
    home.put("corrupt.qcow2", &corrupt)?;
    let engine = home.open()?;
    let found = rule(home, &engine, &qcow2("dirty.qcow2"))?;
    assert!(found.contains("dirty"), "{found}");
    let found = rule(home, &engine, &qcow2("corrupt.qcow2"))?;
    assert!(found.contains("corrupt"), "{found}");
    Ok(())
}

fn the_catalogue_is_no_disk(home: &Home) -> Outcome {
    let engine = home.open()?;
    for file in ["snapgroup.redb", "snapgroup.redb.new", "snapgroup.lock"] {
        let found = rule(home, &engine, &adopt(file, LayerFormat::Raw))?;
        assert!(found.starts_with(file), "{found}");
        home.put("spy.qcow2", &bytes_of(&above(file, "raw"))?)?;
        let found = rule(home, &engine, &qcow2("spy.qcow2"))?;
        assert!(found.starts_with(file), "{found}");
    }
    Ok(())
}

/// Were the process to die between the note in its header and the commit, opening the pool would take the file for
/// what is left of a call of its own, and remove it.
fn a_head_with_a_name_that_this_crate_gives_is_refused(home: &Home) -> Outcome {
    let file = format!("layer-{:032x}.qcow2", 0xabc);
    let bytes = written(&alone(), &[(0, 4096, 5)])?;
    home.put(&file, &bytes)?;
    let engine = home.open()?;
    let found = rule(home, &engine, &qcow2(&file))?;
    assert!(found.contains("rename"), "{found}");
    engine.close()?;
    let engine = home.open()?;
    assert!(home.bytes(&file)? == bytes);
    // Below a head nothing is noted in it.
    home.put("head.qcow2", &bytes_of(&above(&file, "qcow2"))?)?;
    let disk = engine.adopt_volume(&qcow2("head.qcow2"))?.uuid;
    assert!(read_volume(&engine, disk)?[..4096].iter().all(|byte| *byte == 5));
    Ok(())
}

fn a_taken_uuid_is_refused_before_the_file_is_touched(home: &Home) -> Outcome {
    home.put("disk.qcow2", &bytes_of(&alone())?)?;
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let wish = AdoptVolume { resource_uuid: Some(vm.uuid.into()), ..qcow2("disk.qcow2") };
    let error = home.refusal(&engine, || engine.adopt_volume(&wish))?;
    assert_eq!(error.code().as_str(), "SYS.1002");
    Ok(())
}

fn a_copy_of_a_layer_is_another_file(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 4096, 1)?;
    let head = file_of(&engine.volume(vm.root())?.install_path);
    home.put("copy.qcow2", &home.bytes(&head)?)?;
    let copy = engine.adopt_volume(&qcow2("copy.qcow2"))?.uuid;
    fill(&engine.open_volume(copy)?, 0, 4096, 2)?;
    assert!(read_volume(&engine, vm.root())?[..4096].iter().all(|byte| *byte == 1));
    assert_sound(&engine)
}

#[cfg(target_os = "linux")]
mod on_disk {
    use super::{Outcome, above, adopt, bytes_of, put_chain, qcow2, rule};
    use crate::support::{Home, file_of, make_machine};
    use snapgroup::LayerFormat;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_refused_wherever_it_leads() -> Outcome {
        let home = Home::disk()?;
        put_chain(&home)?;
        symlink("base.raw", home.path().join("link.raw"))?;
        symlink("/etc/passwd", home.path().join("passwd.raw"))?;
        home.put("upper.qcow2", &bytes_of(&above("link.raw", "raw"))?)?;
        let engine = home.open()?;
        for file in ["link.raw", "passwd.raw"] {
            let found = rule(&home, &engine, &adopt(file, LayerFormat::Raw))?;
            assert_eq!(found, format!("{file}: it is not a regular file"));
        }
        assert_eq!(rule(&home, &engine, &qcow2("upper.qcow2"))?, "link.raw: it is not a regular file");
        Ok(())
    }

    /// Such a file was never written to, so nothing in it says whose it is.
    #[test]
    fn a_second_name_of_a_file_that_is_below_a_disk_already_is_refused() -> Outcome {
        let home = Home::disk()?;
        let engine = home.open()?;
        home.put("disk.raw", &[7; 65_536])?;
        home.put("other.raw", &[7; 65_536])?;
        std::fs::hard_link(home.path().join("disk.raw"), home.path().join("second.raw"))?;
        std::fs::hard_link(home.path().join("other.raw"), home.path().join("nobody.raw"))?;
        engine.adopt_volume(&adopt("disk.raw", LayerFormat::Raw))?;
        let found = rule(&home, &engine, &adopt("second.raw", LayerFormat::Raw))?;
        assert_eq!(found, "second.raw: it is disk.raw under a second name");
        // A name that the pool knows nothing of is no reason.
        engine.adopt_volume(&adopt("other.raw", LayerFormat::Raw))?;
        Ok(())
    }

    #[test]
    fn a_second_name_of_a_head_is_refused() -> Outcome {
        let home = Home::disk()?;
        let engine = home.open()?;
        let vm = make_machine(&engine, 1)?;
        let head = engine.volume(vm.root())?.install_path;
        std::fs::hard_link(&head, home.path().join("second.qcow2"))?;
        let found = rule(&home, &engine, &qcow2("second.qcow2"))?;
        assert!(found.contains(&file_of(&head)), "{found}");
        engine.open_volume(vm.root())?;
        Ok(())
    }
}
