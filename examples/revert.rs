//! A machine goes back to a group, and the revert is undone: `cargo run --example revert`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use snapgroup::{
    ByteCount, CreateGroup, CreateMachine, CreateVolume, Engine, GroupOf, Options, Result, RevertGroup,
};

fn main() -> Result<()> {
    let engine = Engine::in_memory(Options::default())?;
    let machine = engine.create_machine(&CreateMachine::new("web-1"))?;
    let mut disks = Vec::new();
    for name in ["system", "data"] {
        let volume = engine.create_volume(&CreateVolume::new(name, ByteCount::mib(64)))?;
        engine.attach_volume(volume.uuid, machine.uuid, None)?;
        disks.push(volume.uuid);
    }
    let write = |text: &str| -> Result<()> {
        disks.iter().try_for_each(|disk| engine.open_volume(*disk)?.write_at(0, text.as_bytes()))
    };
    let show = |when: &str| -> Result<()> {
        for disk in &disks {
            let mut text = [0; 7];
            engine.open_volume(*disk)?.read_at(0, &mut text)?;
            println!("{when}: {} says {:?}", engine.volume(*disk)?.name, String::from_utf8_lossy(&text));
        }
        Ok(())
    };

    write("healthy")?;
    let group = engine
        .create_group(&CreateGroup::new(GroupOf::Machine(machine.uuid.into()), "before-upgrade"))?
        .inventory;
    write("upgrade")?;
    show("after the upgrade")?;

    // All disks or none, in one commit. The present state is kept as a group of its own.
    let wish = RevertGroup::new(group.uuid).keeping();
    let plan = engine.plan_revert(&wish)?;
    println!("the revert would make {} files", plan.figures.files_made);
    let reverted = engine.run(&plan)?;
    show("after the revert")?;

    if let Some(kept) = reverted.kept_group {
        println!("the state before it is kept as {}", kept.name);
        engine.revert_group(&RevertGroup::new(kept.uuid))?;
        show("after undoing it")?;
    }
    Ok(())
}
