//! `snapgroup volume` and `snapgroup adopt`.

use crate::arguments::{Adopt, CreateVolume as Create, Draw, Drawing, Format, Volume};
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::{find, machine};
use snapgroup::inventory::VolumeInventory;
use snapgroup::picture::Picture;
use snapgroup::query::Query;
use snapgroup::{
    AdoptVolume, BaseImage, ByteCount, CreateVolume, DeleteMode, DeleteVolume, Engine, LayerFormat,
    LayerState, LowerLayers, VolumeKind,
};

pub(crate) fn run(engine: &Engine, command: &Volume, output: &Output) -> Outcome {
    match command {
        Volume::Create(create) => self::create(engine, create, output)?,
        Volume::List => {
            let page = engine.query_volumes(&Query::all())?;
            output.inventories(&page.items, || machine::volumes(&page.items));
        }
        Volume::Show { volume } => {
            let uuid = find::volume(engine, volume)?;
            let (shown, chain) = (engine.volume(uuid)?, engine.chain(uuid)?);
            output.inventory(&shown, || {
                let rows = chain.iter().map(|layer| {
                    let role = match (&layer.snapshot, layer.state) {
                        (Some(snapshot), _) => format!("snapshot {}", snapshot.name),
                        (None, LayerState::Head) => "head".to_owned(),
                        (None, LayerState::Retired) => "retired".to_owned(),
                        (None, _) => "base".to_owned(),
                    };
                    let allocated = layer.allocated.map_or_else(|| "-".to_owned(), bytes);
                    vec![layer.file.clone(), bytes(layer.size), allocated, role]
                });
                machine::volumes(std::slice::from_ref(&shown))
                    + "\n"
                    + &table(&["FILE", "SIZE", "TAKES UP", "IS"], rows.collect())
            });
        }
        Volume::Attach { volume, vm, device } => {
            let (volume, vm) = (find::volume(engine, volume)?, find::machine(engine, vm)?);
            show(&engine.attach_volume(volume, vm, *device)?, output);
        }
        Volume::Detach { volume, vm } => {
            let (volume, vm) = (find::volume(engine, volume)?, find::machine(engine, vm)?);
            show(&engine.detach_volume(volume, vm)?, output);
        }
        Volume::Resize { volume, size } => {
            show(&engine.resize_volume(find::volume(engine, volume)?, ByteCount::new(*size))?, output);
        }
        Volume::Delete { volume, enforcing } => {
            let mode = if *enforcing { DeleteMode::Enforcing } else { DeleteMode::Permissive };
            let request = DeleteVolume { mode, ..DeleteVolume::new(find::volume(engine, volume)?) };
            let deleted = engine.delete_volume(&request)?;
            crate::group::show_deleted(&deleted, output)?;
        }
        Volume::Tree { volume, draw } => {
            draw_picture(&engine.picture_of_layers(find::volume(engine, volume)?)?, draw);
        }
    }
    Ok(())
}

pub(crate) fn show(volume: &VolumeInventory, output: &Output) {
    output.inventory(volume, || machine::volumes(std::slice::from_ref(volume)));
}

/// Prints a picture in one of its forms.
pub(crate) fn draw_picture(picture: &Picture, draw: &Draw) {
    let drawn = match draw.format {
        Drawing::Text => picture.to_text(),
        Drawing::Svg => picture.to_svg(),
        Drawing::Dot => picture.to_dot(),
        Drawing::Mermaid => picture.to_mermaid(),
    };
    crate::output::write(&drawn);
}

pub(crate) const fn kind(root: bool) -> VolumeKind {
    if root { VolumeKind::Root } else { VolumeKind::Data }
}

pub(crate) const fn format(format: Format) -> LayerFormat {
    match format {
        Format::Qcow2 => LayerFormat::Qcow2,
        Format::Raw => LayerFormat::Raw,
    }
}

fn create(engine: &Engine, create: &Create, output: &Output) -> Outcome {
    // Whatever is named must be there before anything is made.
    let vm = create.vm.as_ref().map(|vm| find::machine(engine, vm)).transpose()?;
    let request = CreateVolume {
        name: create.name.clone(),
        kind: kind(create.root),
        size: create.size.map(ByteCount::new),
        cluster_bits: create.cluster_bits,
        base: create.base.as_deref().map(base).transpose()?,
        snapshot: create.clone_of.as_ref().map(|of| find::snapshot(engine, of)).transpose()?.map(Into::into),
        ..CreateVolume::default()
    };
    let mut volume = engine.create_volume(&request)?;
    if let Some(vm) = vm {
        volume = engine.attach_volume(volume.uuid, vm, None)?;
    }
    show(&volume, output);
    Ok(())
}

/// `golden.raw:raw`.
fn base(said: &str) -> Outcome<BaseImage> {
    let format = match said.rsplit_once(':') {
        Some((file, "raw")) => Some((file, LayerFormat::Raw)),
        Some((file, "qcow2")) => Some((file, LayerFormat::Qcow2)),
        _ => None,
    };
    let (file, format) = format.ok_or_else(|| {
        Failure::Said(format!("{said:?} does not end in :raw or :qcow2, the format of the base"))
    })?;
    Ok(BaseImage { file: file.to_owned(), format })
}

pub(crate) fn adopt(engine: &Engine, adopt: &Adopt, output: &Output) -> Outcome {
    let vm = adopt.vm.as_ref().map(|vm| find::machine(engine, vm)).transpose()?;
    let name = adopt.name.clone().unwrap_or_else(|| {
        adopt.file.rsplit_once('.').map_or(adopt.file.as_str(), |(stem, _)| stem).to_owned()
    });
    let request = AdoptVolume {
        kind: kind(adopt.root),
        lower: if adopt.snapshots { LowerLayers::Snapshots } else { LowerLayers::Frozen },
        ..AdoptVolume::new(&adopt.file, format(adopt.format), name)
    };
    let mut volume = engine.adopt_volume(&request)?;
    if let Some(vm) = vm {
        volume = engine.attach_volume(volume.uuid, vm, None)?;
    }
    show(&volume, output);
    Ok(())
}
