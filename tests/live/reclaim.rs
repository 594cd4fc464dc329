//! What deletions leave below the disks of a running machine.

use crate::site::{Outcome, Place, Site};
use snapgroup::{DeleteSnapshots, Direction, LiveOptions, NoQuiesce, OwedReason, ReclaimOptions, Running};

#[test]
fn nothing_below_a_running_machine_is_written_and_what_is_owed_is_done_when_it_has_stopped() -> Outcome {
    for direction in [Direction::Auto, Direction::Pull, Direction::Commit] {
        for place in Place::both()? {
            let mut site = Site::new(&place)?;
            let mut groups = Vec::new();
            for name in ["one", "two", "three"] {
                site.vmm.write()?;
                let request = site.group(name);
                let taken = site.engine.create_group_live(
                    &request,
                    &mut NoQuiesce,
                    &mut site.vmm,
                    &LiveOptions::default(),
                )?;
                groups.push(taken.created.inventory);
            }
            let last = site.vmm.write()?;
            site.vmm.flush()?;
            let before = place.picture()?;
            let members = groups[1].volume_snapshot_refs.iter().map(|member| member.volume_snapshot_uuid);
            let deleted = site.engine.delete_snapshots(&DeleteSnapshots::all(members))?;
            assert!(deleted.results.iter().all(|line| line.error.is_none() || line.success), "{deleted:#?}");
            let (done, owed) = site.engine.reclaim(&ReclaimOptions::towards(direction))?.finish()?;
            assert!(done.files_removed.is_empty() && done.bytes_copied().is_zero());
            assert!(place.picture()? == before, "a file below a running machine was changed");
            let reasons: Vec<_> = owed.iter().map(|owed| owed.reason).collect();
            assert_eq!(reasons, [OwedReason::Hindered; 3]);
            for owed in &owed {
                let told = owed.error.as_ref().and_then(|error| error.details.clone()).unwrap_or_default();
                assert!(told.contains("runs in another process"), "{told}");
            }
            assert_eq!(site.vmm.read()?, vec![last; 3]);
            site.assert_agreed()?;

            let Site { engine, machine, disks, vmm, .. } = site;
            drop(vmm);
            engine.set_running(machine, Running::Here)?;
            engine.reclaim(&ReclaimOptions::towards(Direction::Pull))?.finish()?;
            for disk in &disks {
                assert_eq!(engine.chain(*disk)?.len(), 3);
                let mut bytes = [0; 8];
                engine.open_volume(*disk)?.read_at(0, &mut bytes)?;
                assert_eq!(u64::from_be_bytes(bytes), last);
            }
            assert!(engine.check()?.is_clean());
        }
    }
    Ok(())
}
