//! A machine with open disks.

use crate::Result;
use snapgroup::{
    ByteCount, ChainFull, CreateGroup, CreateMachine, CreateVolume, DeleteGroup, Engine, Options, Uuid,
    Volume,
};

/// A machine with open disks.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) uuid: Uuid,
    pub(crate) disks: Vec<Volume>,
}

impl Machine {
    pub(crate) fn new(engine: Engine, disks: usize) -> Result<Self> {
        let uuid = engine.create_machine(&CreateMachine::new("machine"))?.uuid;
        let mut open = Vec::new();
        for index in 0..disks {
            let wanted = CreateVolume::new(format!("disk-{index}"), ByteCount::gib(1));
            let volume = engine.create_volume(&wanted)?.uuid;
            engine.attach_volume(volume, uuid, None)?;
            open.push(engine.open_volume(volume)?);
        }
        Ok(Self { engine, uuid, disks: open })
    }

    pub(crate) fn take(&self) -> Result<Uuid> {
        Ok(self.engine.create_group(&CreateGroup::of_machine(self.uuid, "group"))?.inventory.uuid)
    }

    /// Deletes a group and gives its room back, so that the chains are as before.
    pub(crate) fn give_back(&self, group: Uuid) -> Result<()> {
        match self.engine.delete_group(&DeleteGroup::new(group))?.owed.len() {
            0 => Ok(()),
            owed => Err(format!("{owed} layers are still owed").into()),
        }
    }

    /// Writes a block to each disk, without a flush.
    pub(crate) fn write_to_all(&self) -> Result<()> {
        Ok(self.disks.iter().try_for_each(|disk| disk.write_at(0, &[1; 4096]))?)
    }
}

/// Chains may be as long as the measurement makes them.
pub(crate) fn options() -> Options {
    Options { chain_max: 100_000, chain_full: ChainFull::Refuse, ..Options::default() }
}
