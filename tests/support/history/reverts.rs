//! The steps that go back: a disk to a snapshot, a machine to a group.

use super::{History, Outcome};
use snapgroup::{Engine, Kind, Match, Present, RevertGroup, RevertPlan, RevertVolume, Reverted, Uuid, When};
use std::collections::BTreeSet;

impl History {
    pub(super) fn revert_volume(&mut self) -> Outcome {
        let Some(uuid) = self.any_snapshot() else { return Ok(()) };
        let wish = RevertVolume { present: self.present(), reclaim: self.when(), ..RevertVolume::to(uuid) };
        self.log.push(format!("revert {wish:?}"));
        let index = self.model.taken[&uuid].disk;
        self.close_for_revert(&[index].into(), |engine| engine.revert_volume(&wish).map(drop));
        let before = self.model.disks[index].bytes.clone();
        let plan = self.engine().plan_revert(&wish)?;
        self.assert_now(&plan.figures)?;
        let reverted = self.engine().run(&plan)?;
        self.compare_revert(&plan, &reverted, wish.reclaim);
        self.allow(&reverted.owed);
        assert_eq!(reverted.kept.len(), usize::from(wish.present == Present::Kept));
        for kept in &reverted.kept {
            self.model.take(index, kept.uuid, None);
        }
        self.model.go_back(uuid);
        self.count(format!("revert volume, {:?}", wish.present));
        if let (Some(kept), 0) = (reverted.kept.first(), self.below(2)) {
            self.log.push("undo".into());
            self.count("undo of a volume");
            self.check()?;
            self.engine().revert_volume(&RevertVolume::to(kept.uuid))?;
            self.model.go_back(kept.uuid);
            assert!(before == self.model.disks[index].bytes, "the revert was not undone");
        }
        Ok(())
    }

    /// What becomes of the disks that a group cannot bring back.
    fn disks_of_revert(&mut self) -> Match {
        if self.below(2) == 0 { Match::Matching } else { Match::Strict }
    }

    pub(super) fn revert_group(&mut self) -> Outcome {
        let Some(uuid) = self.any_group() else { return Ok(()) };
        let wish = RevertGroup {
            disks: self.disks_of_revert(),
            present: self.present(),
            reclaim: self.when(),
            ..RevertGroup::new(uuid)
        };
        self.log.push(format!("revert {wish:?}"));
        let going = self.model.that_can_go_back(uuid);
        let is_possible = match wish.disks {
            Match::Matching => !going.is_empty(),
            _ => self.model.is_available(uuid),
        };
        if !is_possible {
            let refused = self.engine().revert_group(&wish).map_err(|error| error.kind());
            assert_eq!(refused.map(drop), Err(Kind::Refused));
            self.count(format!("revert group, {:?}: refused", wish.disks));
            return Ok(());
        }
        let disks: BTreeSet<usize> = going.iter().map(|(_, disk)| *disk).collect();
        self.close_for_revert(&disks, |engine| engine.revert_group(&wish).map(drop));
        let state = |history: &Self| -> Vec<Vec<u8>> {
            disks.iter().map(|disk| history.model.disks[*disk].bytes.clone()).collect()
        };
        let before = state(self);
        let plan = self.engine().plan_revert(&wish)?;
        self.assert_now(&plan.figures)?;
        let reverted = self.engine().run(&plan)?;
        self.compare_revert(&plan, &reverted, wish.reclaim);
        self.allow(&reverted.owed);
        let gone_back: Vec<Uuid> = reverted
            .results
            .iter()
            .filter(|line| line.success)
            .filter_map(|line| line.snapshot_uuid)
            .collect();
        assert_eq!(gone_back, going.iter().map(|(member, _)| *member).collect::<Vec<_>>());
        assert_eq!(reverted.results.len(), self.model.groups[&uuid].members.len());
        assert_eq!(reverted.kept_group.is_some(), wish.present == Present::Kept);
        if let Some(kept) = &reverted.kept_group {
            self.model.take_group(kept);
        }
        going.iter().for_each(|(member, _)| self.model.go_back(*member));
        self.count(format!("revert group, {:?}, {:?}", wish.disks, wish.present));
        if going.len() < reverted.results.len() {
            self.count("revert group, Matching: a member stays");
        }
        if self.model.attached().iter().any(|disk| !disks.contains(disk)) {
            self.count("revert group: a disk of the machine stays");
        }
        if let (Some(kept), 0) = (reverted.kept_group, self.below(2)) {
            self.log.push("undo".into());
            self.count("undo of a group");
            self.check()?;
            self.engine().revert_group(&RevertGroup::new(kept.uuid))?;
            let members = self.model.groups[&kept.uuid].members.clone();
            members.iter().for_each(|(member, _)| self.model.go_back(*member));
            assert!(before == state(self), "the revert was not undone");
        }
        Ok(())
    }

    /// What was foretold of a revert is what was done.
    fn compare_revert(&self, plan: &RevertPlan, reverted: &Reverted, reclaim: When) {
        assert_eq!(plan.results, reverted.results);
        let gone_back = reverted.results.iter().filter(|line| line.success).count();
        assert_eq!(plan.figures.files_made, gone_back);
        if self.readers.is_empty() && reclaim == When::Now {
            self.compare_figures(&plan.figures, &reverted.reclaimed);
        }
    }

    /// A disk goes back only when it is not open.
    pub(super) fn close_for_revert(
        &mut self,
        disks: &BTreeSet<usize>,
        revert: impl Fn(&Engine) -> snapgroup::Result<()>,
    ) {
        let is_open = disks.iter().any(|disk| self.open.contains_key(disk));
        if is_open && self.below(2) == 0 {
            let refused = revert(self.engine()).map_err(|error| error.kind());
            assert_eq!(refused, Err(Kind::Refused), "an open disk went back");
            self.count("an open disk is left as it is");
        }
        disks.iter().for_each(|disk| drop(self.open.remove(disk)));
    }

    /// What becomes of the present state.
    fn present(&mut self) -> Present {
        if self.below(2) == 0 { Present::Kept } else { Present::GivenUp }
    }
}
