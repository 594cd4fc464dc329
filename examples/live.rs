//! A group of a machine that another process runs. That process is a struct here; in earnest it is a virtual machine
//! manager, and `snapgroup::qmp` speaks to QEMU.

use snapgroup::chain::{Chain, Layer};
use snapgroup::image::{Image, Limits};
use snapgroup::storage::{Access, BlobName, MemoryStore, Store};
use snapgroup::units::GuestOffset;
use snapgroup::{
    ByteCount, Consistency, CreateGroup, CreateMachine, CreateVolume, Engine, HookError, LiveOptions,
    Options, PreparedDisk, Quiesce, Running, Switch, WritesTo,
};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// A virtual machine manager with one disk open.
#[derive(Debug)]
struct Manager {
    store: MemoryStore,
    disk: Chain,
}

impl Manager {
    fn open(store: &MemoryStore, file: &str) -> Result<Arc<Layer>, Box<dyn Error + Send + Sync>> {
        let blob = store.open(&BlobName::parse(file)?, Access::Write)?;
        Ok(Arc::new(Layer::from(Image::open(blob, file, Access::Write, Limits::default())?)))
    }
}

/// The name of a file in a pool.
fn name(path: &str) -> &str {
    path.rsplit(['/', ':']).next().unwrap_or(path)
}

impl Switch for Manager {
    fn switch(&mut self, disks: &[PreparedDisk]) -> Result<(), HookError> {
        // QEMU pauses what writes, flushes, and goes on above. Here nobody writes meanwhile.
        self.disk.flush()?;
        let overlay = Self::open(&self.store, name(&disks[0].overlay.filename))?;
        self.disk = self.disk.with_head(overlay);
        println!("the manager writes to the overlay now");
        Ok(())
    }

    fn look(&mut self, disks: &[PreparedDisk]) -> Result<Vec<WritesTo>, HookError> {
        let is_overlay = self.disk.head().name() == name(&disks[0].overlay.filename);
        Ok(vec![if is_overlay { WritesTo::Overlay } else { WritesTo::Head }])
    }
}

/// A guest that settles when it is asked to.
#[derive(Debug)]
struct Guest;

impl Quiesce for Guest {
    fn freeze(&mut self, within: Duration) -> Result<Consistency, HookError> {
        println!("the guest freezes its file systems, within {} s", within.as_secs());
        Ok(Consistency::FileSystem)
    }

    fn thaw(&mut self, _within: Duration) -> Result<(), HookError> {
        println!("the guest goes on");
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let engine = Engine::open_on(Arc::new(store.clone()), Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
    let volume = engine.create_volume(&CreateVolume::new("system", ByteCount::mib(64)))?;
    engine.attach_volume(volume.uuid, machine.uuid, None)?;
    engine.set_running(machine.uuid, Running::Elsewhere)?;

    let head = engine.chain(volume.uuid)?.remove(0).file;
    let disk = Chain::new(vec![Manager::open(&store, &head).map_err(|error| error.to_string())?]);
    let mut manager = Manager { store, disk };
    manager.disk.write(GuestOffset::new(0), b"before")?;

    let request = CreateGroup::of_machine(machine.uuid, "live");
    let taken = engine.create_group_live(&request, &mut Guest, &mut manager, &LiveOptions::default())?;
    manager.disk.write(GuestOffset::new(0), b"after ")?;

    let group = taken.created.inventory;
    let (mut then, mut now) = ([0; 6], [0; 6]);
    engine.open_snapshot(group.volume_snapshot_refs[0].volume_snapshot_uuid)?.read_at(0, &mut then)?;
    manager.disk.read(GuestOffset::new(0), &mut now)?;
    println!(
        "group {:?} ({:?}) holds {:?}, the disk holds {:?}",
        group.name,
        group.consistency.ok_or("it is always told")?,
        String::from_utf8_lossy(&then),
        String::from_utf8_lossy(&now).trim_end(),
    );
    assert_eq!((&then, &now), (b"before", b"after "));
    Ok(())
}
