//! Full snapshots: a disk is copied into a file of its own, which starts a new tree.

use crate::support::{
    Dice, Home, Machine, Made, Outcome, SIZE, assert_sound, fill, head_of, make_disk, make_machine,
    on_every_store, read_snapshot, read_volume, take, told, volume,
};
use snapgroup::image::Image;
use snapgroup::inventory::SnapshotInventory;
use snapgroup::query::{Query, Test, TreeField};
use snapgroup::storage::{Access, BlobName};
use snapgroup::{
    AdoptVolume, ByteCount, ChainFull, CreateGroup, CreateSnapshot, DeleteSnapshots, DiffOptions, Engine,
    Exactness, Kind, LayerFormat, LayerState, RevertGroup, RevertVolume, SnapshotMode, Uuid, VolumeKind,
    When,
};
use std::collections::BTreeSet;

on_every_store! {
    a_full_snapshot_needs_no_other_file_and_starts_a_tree
    the_first_snapshot_of_a_disk_is_full_without_a_copy
    a_full_chain_starts_a_tree_when_the_pool_says_so
    a_group_copies_only_the_disks_whose_chains_are_full
    a_plan_foretells_every_byte_of_a_full_group
    a_full_snapshot_of_a_raw_base_leaves_zeros_out
    retired_layers_that_only_the_old_head_needed_go_with_it
    what_was_written_after_the_moment_is_not_in_the_copy
    trees_can_be_left_gone_back_to_and_deleted
    a_full_wish_is_another_wish
    a_copy_that_fails_makes_no_chain_longer
    a_plan_of_a_group_is_run_beside_files_that_wait_to_be_removed
    files_that_waited_to_be_removed_go_with_a_full_group_as_its_plan_says
    a_chain_of_one_layer_has_no_room_even_for_a_full_snapshot
}

fn snapshot(engine: &Engine, volume: Uuid, name: &str) -> Made<SnapshotInventory> {
    Ok(engine.create_snapshot(&CreateSnapshot::new(volume, name))?)
}

fn full(engine: &Engine, volume: Uuid, name: &str) -> Made<SnapshotInventory> {
    Ok(engine.create_snapshot(&CreateSnapshot::new(volume, name).in_full())?)
}

/// The trees of a volume, the eldest first: whether it is the current one, and the distances in it.
fn trees(engine: &Engine, volume: Uuid) -> Made<Vec<(bool, Vec<u32>)>> {
    let mut snapshots = engine.query_snapshots(&Query::all())?.items;
    snapshots.retain(|snapshot| snapshot.volume_uuid == volume);
    let mut shown = Vec::new();
    let found = engine.query_trees(&Query::all().with(TreeField::VolumeUuid, Test::Equal(volume.into())))?;
    for tree in found.items {
        let own = snapshots.iter().filter(|snapshot| snapshot.tree_uuid == tree.uuid);
        shown.push((tree.current, own.map(|snapshot| snapshot.distance).collect()));
    }
    Ok(shown)
}

fn a_full_snapshot_needs_no_other_file_and_starts_a_tree(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    let mut contents = Vec::new();
    for (round, name) in (0..).zip(["a", "b"]) {
        fill(&disk, round * 5000, 7000, 1 + u8::try_from(round)?)?;
        contents.push((snapshot(&engine, vm.root(), name)?.uuid, read_volume(&engine, vm.root())?));
    }
    fill(&disk, 20_000, 10_000, 3)?;
    disk.discard(5000, 4096)?;
    let head = head_of(&engine, vm.root())?;
    let taken = full(&engine, vm.root(), "c")?;
    contents.push((taken.uuid, read_volume(&engine, vm.root())?));
    assert_eq!((taken.distance, taken.parent_uuid, taken.latest), (0, None, true));
    fill(&disk, 0, 100, 9)?;
    let after = read_volume(&engine, vm.root())?;

    let chain = engine.chain(vm.root())?;
    assert_eq!(chain.len(), 2);
    assert_eq!((&chain[1].backing_label, chain[1].state), (&None, LayerState::Frozen));
    assert_eq!(chain[1].snapshot.as_ref().map(|named| named.uuid), Some(taken.uuid));
    assert!(!home.picture()?.contains_key(&head), "nobody reads the head of before");
    assert_eq!(trees(&engine, vm.root())?, [(false, vec![1, 2]), (true, vec![0])]);
    let next = snapshot(&engine, vm.root(), "d")?;
    assert_eq!((next.distance, next.parent_uuid), (1, Some(taken.uuid)));

    drop(disk);
    let engine = reopened(home, engine)?;
    for (uuid, content) in &contents {
        assert!(read_snapshot(&engine, *uuid)? == *content);
    }
    assert!(read_volume(&engine, vm.root())? == after);
    assert_sound(&engine)
}

fn reopened(home: &Home, engine: Engine) -> Made<Engine> {
    engine.close()?;
    let engine = home.open()?;
    assert_eq!(engine.recovered(), &snapgroup::Recovered::default());
    Ok(engine)
}

fn the_first_snapshot_of_a_disk_is_full_without_a_copy(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 9000, 4)?;
    let head = head_of(&engine, vm.root())?;
    let taken = full(&engine, vm.root(), "first")?;
    assert_eq!(taken.distance, 1);
    assert_eq!(engine.chain(vm.root())?[1].file, head, "the head is flat already");
    assert_sound(&engine)
}

fn a_full_chain_starts_a_tree_when_the_pool_says_so(home: &Home) -> Outcome {
    let engine = home.open_with(|options| {
        (options.chain_max, options.chain_full) = (4, ChainFull::Full);
    })?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    let mut contents = Vec::new();
    for round in 0..8_u8 {
        fill(&disk, u64::from(round) * 3000, 5000, round + 1)?;
        let uuid = snapshot(&engine, vm.root(), &format!("s{round}"))?.uuid;
        contents.push((uuid, read_volume(&engine, vm.root())?));
        assert!(engine.chain(vm.root())?.len() <= 4);
    }
    let shown = trees(&engine, vm.root())?;
    assert_eq!(shown, [(false, vec![1, 2, 3]), (false, vec![0, 1, 2]), (true, vec![0, 1])]);
    for (uuid, content) in &contents {
        assert!(read_snapshot(&engine, *uuid)? == *content);
    }
    assert_sound(&engine)
}

/// A machine of two disks; the root has a chain of three layers, the other one of one layer.
fn uneven(engine: &Engine) -> Made<Machine> {
    let vm = make_machine(engine, 2)?;
    for (round, name) in (0..).zip(["a", "b"]) {
        fill(&engine.open_volume(vm.root())?, round * 30_000, 40_000, 1 + u8::try_from(round)?)?;
        snapshot(engine, vm.root(), name)?;
    }
    for disk in &vm.disks {
        fill(&engine.open_volume(*disk)?, 100_000, 10_000, 7)?;
    }
    Ok(vm)
}

fn a_group_copies_only_the_disks_whose_chains_are_full(home: &Home) -> Outcome {
    let engine = home.open_with(|options| {
        (options.chain_max, options.chain_full) = (3, ChainFull::Full);
    })?;
    let vm = uneven(&engine)?;
    let before: Vec<_> = vm.disks.iter().map(|disk| read_volume(&engine, *disk)).collect::<Result<_, _>>()?;
    let head = head_of(&engine, vm.disks[1])?;
    let group = engine.create_group(&vm.group("g"))?.inventory;
    assert_eq!(group.volume_snapshot_refs.len(), 2);
    for (member, content) in group.volume_snapshot_refs.iter().zip(&before) {
        assert!(read_snapshot(&engine, member.volume_snapshot_uuid)? == *content);
        let shown = engine.snapshot(member.volume_snapshot_uuid)?;
        assert_eq!(shown.group_uuid, Some(group.uuid));
        assert_eq!(member.volume_snapshot_install_path, shown.primary_storage_install_path);
    }
    let lengths: Vec<usize> =
        vm.disks.iter().map(|disk| engine.chain(*disk).map(|c| c.len())).collect::<Result<_, _>>()?;
    assert_eq!(lengths, [2, 2]);
    assert_eq!(engine.chain(vm.disks[1])?[1].file, head, "the other disk was frozen as ever");

    for disk in &vm.disks {
        fill(&engine.open_volume(*disk)?, 0, 50, 200)?;
    }
    engine.revert_group(&RevertGroup::new(group.uuid))?;
    for (disk, content) in vm.disks.iter().zip(&before) {
        assert!(read_volume(&engine, *disk)? == *content);
    }
    assert_sound(&engine)
}

fn a_plan_foretells_every_byte_of_a_full_group(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = uneven(&engine)?;
    let wish = vm.group("g").in_full();
    let plan = engine.plan_create(&wish)?;
    assert!(plan.is_possible());
    let modes: Vec<SnapshotMode> = plan.members.iter().map(|member| member.mode).collect();
    assert_eq!(modes, [SnapshotMode::Full, SnapshotMode::Incremental]);
    // 0 to 69,999 and 100,000 to 109,999, in clusters of 4 KiB.
    assert_eq!(plan.figures.bytes_flattened, ByteCount::new((18 + 3) * 4096));
    assert_eq!(plan.figures.bytes_copied(), plan.figures.bytes_extra_peak);
    let head = engine.chain(vm.root())?.remove(0);
    assert_eq!(plan.figures.files_made, 3, "the copy, and an overlay for each disk");
    assert_eq!(plan.figures.files_removed, [head.file]);
    assert_eq!(Some(plan.figures.bytes_removed), head.allocated);
    let lengths = plan.figures.chains.iter().map(|change| (change.before, change.after));
    assert_eq!(lengths.collect::<Vec<_>>(), [(3, 2), (1, 2)]);

    let before = home.picture()?;
    let group = engine.run(&plan)?.inventory;
    let flat = engine.chain(vm.root())?.remove(1).file;
    let made = home.picture()?.keys().filter(|name| !before.contains_key(*name)).count();
    assert_eq!(made, plan.figures.files_made);
    let gone: Vec<_> =
        before.keys().filter(|name| home.picture().is_ok_and(|now| !now.contains_key(*name))).collect();
    assert_eq!(gone, [&plan.figures.files_removed[0]]);
    // Header, refcount table, refcount block, L1 table and one L2 table.
    let length = home.bytes(&flat)?.len();
    assert_eq!(length as u64, plan.figures.bytes_flattened.as_u64() + 5 * 4096);
    let lengths = plan.figures.chains.iter().map(|change| engine.chain(change.volume_uuid).map(|c| c.len()));
    assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [2, 2]);
    assert_eq!(group.volume_snapshot_refs.len(), 2);
    assert_sound(&engine)
}

fn a_full_snapshot_of_a_raw_base_leaves_zeros_out(home: &Home) -> Outcome {
    let mut raw = vec![0; SIZE.as_usize()];
    raw[200_000..300_000].fill(5);
    home.put("golden.raw", &raw)?;
    let engine = home.open()?;
    let disk = engine.adopt_volume(&AdoptVolume::new("golden.raw", LayerFormat::Raw, "disk"))?.uuid;
    fill(&engine.open_volume(disk)?, 0, 10, 1)?;
    raw[..10].fill(1);
    let taken = full(&engine, disk, "copy")?;
    assert_eq!(taken.distance, 1, "it is the first one of its volume");
    assert_eq!(engine.chain(disk)?.len(), 2);
    assert!(read_snapshot(&engine, taken.uuid)? == raw);
    let flat = engine.chain(disk)?.remove(1);
    // The first cluster, the clusters of 64 KiB that 200,000 to 299,999 lie in, five for tables.
    assert_eq!(home.bytes(&flat.file)?.len(), (1 + 2 + 5) * 65_536);
    assert!(home.picture()?.contains_key("golden.raw"), "what was there before stays");
    assert_sound(&engine)
}

fn retired_layers_that_only_the_old_head_needed_go_with_it(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    fill(&disk, 0, 9000, 1)?;
    let gone = snapshot(&engine, vm.root(), "gone")?.uuid;
    fill(&disk, 50_000, 9000, 2)?;
    let content = read_volume(&engine, vm.root())?;
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(gone))?.is_success());
    assert_eq!(engine.chain(vm.root())?.len(), 2, "it is kept for the head");
    let taken = full(&engine, vm.root(), "copy")?;
    assert_eq!(taken.distance, 1, "no other snapshot is left");
    assert_eq!(home.picture()?.len(), 3, "the catalogue, the copy and the head");
    assert!(read_snapshot(&engine, taken.uuid)? == content);
    assert_eq!(engine.owed()?, []);
    assert_sound(&engine)
}

fn what_was_written_after_the_moment_is_not_in_the_copy(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let disk = engine.open_volume(vm.root())?;
    let mut dice = Dice::new(3);
    let mut contents = Vec::new();
    for round in 0..6_u8 {
        for _ in 0..4 {
            let at = dice.roll(900_000);
            fill(&disk, at, 1 + usize::try_from(dice.roll(60_000))?, dice.byte())?;
            disk.write_zeroes(dice.roll(900_000), 1 + dice.roll(60_000))?;
        }
        let content = read_volume(&engine, vm.root())?;
        let taken = match round % 2 {
            0 => snapshot(&engine, vm.root(), "s")?,
            _ => full(&engine, vm.root(), "f")?,
        };
        contents.push((taken.uuid, content));
    }
    // Between any two, whether one reads through the other or not.
    for (from, before) in &contents {
        for (to, after) in &contents {
            let mut made = before.clone();
            for change in engine.diff(
                Some((*from).into()),
                *to,
                &DiffOptions { exactness: Exactness::Content, ..DiffOptions::default() },
            )? {
                let change = change?;
                let at = usize::try_from(change.at.as_u64())?;
                let range = at..at + change.length.as_usize();
                made[range.clone()].copy_from_slice(&after[range]);
            }
            assert!(made == *after, "{from} to {to}");
        }
    }
    assert_sound(&engine)
}

fn trees_can_be_left_gone_back_to_and_deleted(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 9000, 1)?;
    let old = snapshot(&engine, vm.root(), "old")?;
    let old_content = read_volume(&engine, vm.root())?;
    fill(&engine.open_volume(vm.root())?, 3000, 9000, 2)?;
    let flat = full(&engine, vm.root(), "flat")?;
    let flat_content = read_volume(&engine, vm.root())?;

    engine.revert_volume(&RevertVolume::to(old.uuid))?;
    assert!(read_volume(&engine, vm.root())? == old_content);
    assert_eq!(trees(&engine, vm.root())?, [(true, vec![1]), (false, vec![0])]);
    let branch = snapshot(&engine, vm.root(), "branch")?;
    assert_eq!((branch.parent_uuid, branch.distance), (Some(old.uuid), 2));
    engine.revert_volume(&RevertVolume::to(flat.uuid))?;
    assert!(read_volume(&engine, vm.root())? == flat_content);

    let deleted = engine.delete_snapshots(&DeleteSnapshots::all([old.uuid, branch.uuid]))?;
    assert!(deleted.is_success());
    assert_eq!(trees(&engine, vm.root())?, [(true, vec![0])]);
    assert!(engine.delete_snapshots(&DeleteSnapshots::one(flat.uuid))?.is_success());
    assert!(read_volume(&engine, vm.root())? == flat_content);
    assert_eq!(trees(&engine, vm.root())?, []);
    assert_sound(&engine)
}

/// A layer below cannot be read: each try fails, and leaves the disk as it was.
fn a_copy_that_fails_makes_no_chain_longer(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    fill(&engine.open_volume(vm.root())?, 0, 7000, 1)?;
    snapshot(&engine, vm.root(), "below")?;
    fill(&engine.open_volume(vm.root())?, 200_000, 7000, 2)?;
    let frozen = engine.chain(vm.root())?[1].file.clone();
    engine.close()?;
    let blob = home.touch()?.open(&BlobName::parse(&frozen)?, Access::Write)?;
    let l1 = Image::header_of(&*blob, "x")?.l1_table;
    blob.write_at(l1, &[0x7f; 8])?;

    let engine = home.open()?;
    let (chain, generation) = (engine.chain(vm.root())?, engine.generation());
    for _ in 0..3 {
        let refused = engine.create_snapshot(&CreateSnapshot::new(vm.root(), "copied").in_full());
        assert_eq!(refused.map_err(|error| error.kind()), Err(Kind::Corrupt));
        let refused = engine.create_group(&CreateGroup::of_root_volume(vm.root(), "copied").in_full());
        assert_eq!(refused.map(|_| ()).map_err(|error| error.kind()), Err(Kind::Corrupt));
    }
    assert_eq!((engine.chain(vm.root())?, engine.generation()), (chain, generation));
    Ok(())
}

fn a_full_wish_is_another_wish(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 2)?;
    fill(&engine.open_volume(vm.root())?, 0, 9000, 1)?;
    engine.create_group(&vm.group("first"))?;
    let mut wish = vm.group("g").in_full();
    wish.resource_uuid = Some(Uuid::from_u128(7).into());
    let group = engine.create_group(&wish)?;
    assert!(engine.create_group(&wish)?.repeated);
    wish.mode = SnapshotMode::Incremental;
    let error = home.refusal(&engine, || engine.create_group(&wish))?;
    assert_eq!(told(&error).0, "SYS.1002");

    let mut wish = CreateSnapshot::new(vm.root(), "s").in_full();
    wish.resource_uuid = Some(Uuid::from_u128(8).into());
    let taken = engine.create_snapshot(&wish)?;
    assert_eq!(engine.create_snapshot(&wish)?.uuid, taken.uuid);
    wish.mode = SnapshotMode::Incremental;
    let error = home.refusal(&engine, || engine.create_snapshot(&wish))?;
    assert_eq!(told(&error).0, "SYS.1002");
    assert_eq!(group.inventory.volume_snapshot_refs.len(), 2);
    assert_sound(&engine)
}

fn a_chain_of_one_layer_has_no_room_even_for_a_full_snapshot(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    snapshot(&engine, vm.root(), "s")?;
    engine.close()?;
    let engine = home.open_with(|options| {
        (options.chain_max, options.chain_full) = (1, ChainFull::Full);
    })?;
    let error = home.refusal(&engine, || engine.create_group(&vm.group("g")))?;
    assert_eq!((error.code().as_str(), error.kind()), ("SYS.1006", Kind::Refused));
    let plan = engine.plan_create(&vm.group("g"))?;
    assert!(!plan.is_possible());
    let disk = make_disk(&engine, vm.uuid, &volume("data", VolumeKind::Data))?;
    let error =
        home.refusal(&engine, || engine.create_snapshot(&CreateSnapshot::new(disk, "s").in_full()))?;
    assert_eq!(error.code().as_str(), "SYS.1006");
    Ok(())
}

fn a_plan_of_a_group_is_run_beside_files_that_wait_to_be_removed(home: &Home) -> Outcome {
    let engine = home.open()?;
    let vm = make_machine(&engine, 1)?;
    let gone = snapshot(&engine, vm.root(), "gone")?.uuid;
    engine.revert_volume(&RevertVolume { reclaim: When::Later, ..RevertVolume::to(gone) })?;
    assert_eq!(engine.owed()?.len(), 1);
    let plan = engine.plan_create(&vm.group("g"))?;
    engine.run(&plan)?;
    Ok(())
}

fn files_that_waited_to_be_removed_go_with_a_full_group_as_its_plan_says(home: &Home) -> Outcome {
    let engine = home.open()?;
    for is_lost in [false, true] {
        let vm = make_machine(&engine, 2)?;
        let group = take(&engine, &vm, "g")?;
        let head = head_of(&engine, vm.disks[1])?;
        let member = group.volume_snapshot_refs[1].volume_snapshot_uuid;
        engine.revert_volume(&RevertVolume { reclaim: When::Later, ..RevertVolume::to(member) })?;
        if is_lost {
            home.remove(&head)?;
        }
        let wish = CreateGroup { except: vec![vm.disks[1].into()], ..vm.group("full").in_full() };
        let plan = engine.plan_create(&wish)?;
        let told: BTreeSet<String> = plan.figures.files_removed.iter().cloned().collect();
        let before = home.picture()?;
        engine.run(&plan)?;
        let after = home.picture()?;
        let mut gone: BTreeSet<String> =
            before.into_keys().filter(|name| !after.contains_key(name)).collect();
        // What is not there any more is removed from the books.
        gone.insert(head);
        assert_eq!(told, gone);
        assert_eq!(engine.owed()?, []);
    }
    assert_sound(&engine)
}
