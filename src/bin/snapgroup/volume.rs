//! `snapgroup volume` and `snapgroup adopt`.

use crate::arguments::{
    Adopt, Cap, CreateVolume as Create, Draw, Drawing, Format, NewDisk, Volume, VolumeChange,
};
use crate::output::{Failure, Outcome, Output, bytes, table};
use crate::{find, machine};
use serde::Serialize;
use snapgroup::inventory::VolumeInventory;
use snapgroup::picture::Picture;
use snapgroup::query::{Query, Test, TreeField, Value};
use snapgroup::{
    AdoptVolume, BaseImage, ByteCount, ChainCap, CreateVolume, DeleteMode, DeleteVolume, Engine, LayerFormat,
    LayerState, LowerLayers, UpdateVolume, Uuid, VolumeKind,
};
use std::fs::File;
use std::io::Read;
use std::path::Path;

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
        Volume::Update { volume, change } => {
            show(&engine.update_volume(find::volume(engine, volume)?, &update(change))?, output);
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
            let uuid = find::volume(engine, volume)?;
            let query = Query::all().with(TreeField::VolumeUuid, Test::Equal(Value::from(uuid)));
            let trees = engine.query_trees(&query)?.items;
            draw_picture(&engine.picture_of_layers(uuid)?, draw, &trees, output);
        }
    }
    Ok(())
}

pub(crate) fn show(volume: &VolumeInventory, output: &Output) {
    output.inventory(volume, || machine::volumes(std::slice::from_ref(volume)));
}

/// Prints a picture in one of its forms, or what is drawn as JSON.
pub(crate) fn draw_picture(picture: &Picture, draw: &Draw, drawn: &impl Serialize, output: &Output) {
    if output.is_json() {
        output.inventories(drawn, String::new);
        return;
    }
    let drawn = match draw.format {
        Drawing::Text => picture.to_text(),
        Drawing::Svg => picture.to_svg(),
        Drawing::Dot => picture.to_dot(),
        Drawing::Mermaid => picture.to_mermaid(),
    };
    output.write(&drawn);
}

/// Where a new disk belongs; what is named must be there before anything is made.
pub(crate) struct Place {
    pub(crate) kind: VolumeKind,
    vm: Option<Uuid>,
}

impl Place {
    pub(crate) fn of(engine: &Engine, disk: &NewDisk) -> Outcome<Self> {
        let kind = if disk.root { VolumeKind::Root } else { VolumeKind::Data };
        Ok(Self { kind, vm: disk.vm.as_ref().map(|vm| find::machine(engine, vm)).transpose()? })
    }

    /// Attaches the disk, and shows it.
    pub(crate) fn take(self, engine: &Engine, made: VolumeInventory, output: &Output) -> Outcome {
        let volume = match self.vm {
            Some(vm) => engine.attach_volume(made.uuid, vm, None)?,
            None => made,
        };
        show(&volume, output);
        Ok(())
    }
}

fn update(change: &VolumeChange) -> UpdateVolume {
    UpdateVolume {
        name: change.name.clone(),
        description: change.description.clone(),
        chain_max: change.chain_max.map(|cap| match cap {
            Cap::OfPool => ChainCap::OfPool,
            Cap::Layers(layers) => ChainCap::Layers(layers),
        }),
    }
}

pub(crate) const fn format(format: Format) -> LayerFormat {
    match format {
        Format::Qcow2 => LayerFormat::Qcow2,
        Format::Raw => LayerFormat::Raw,
    }
}

fn create(engine: &Engine, create: &Create, output: &Output) -> Outcome {
    let place = Place::of(engine, &create.disk)?;
    let request = CreateVolume {
        name: create.name.clone(),
        description: create.description.clone(),
        kind: place.kind,
        size: create.size.map(ByteCount::new),
        cluster_bits: create.cluster_size,
        base: create.base.as_deref().map(base).transpose()?,
        snapshot: create.clone_of.as_ref().map(|of| find::snapshot(engine, of)).transpose()?.map(Into::into),
        chain_max: create.chain_max,
        ..CreateVolume::default()
    };
    place.take(engine, engine.create_volume(&request)?, output)
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

pub(crate) fn adopt(engine: &Engine, adopt: &Adopt, pool: &Path, output: &Output) -> Outcome {
    let place = Place::of(engine, &adopt.disk)?;
    let file = named_in(pool, &adopt.file);
    let stem = || Path::new(&file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = adopt.name.clone().unwrap_or_else(stem);
    let request = AdoptVolume {
        kind: place.kind,
        lower: if adopt.snapshots { LowerLayers::Snapshots } else { LowerLayers::Frozen },
        raw_below: adopt.raw_below.clone(),
        ..AdoptVolume::new(&file, format(adopt.format), name)
    };
    let adopted = engine.adopt_volume(&request)?;
    if request.format == LayerFormat::Raw && begins_like_qcow2(&pool.join(&request.file)) {
        eprintln!(
            "note: {} begins like a qcow2 image, and is a raw disk here, as was said; `snapgroup volume delete {}` \
             undoes that and leaves the file",
            request.file,
            adopted.uuid.simple()
        );
    }
    place.take(engine, adopted, output)
}

/// The name of a file in the pool's directory, also where it was said as a path that leads there.
fn named_in(pool: &Path, said: &str) -> String {
    let path = Path::new(said);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return said.to_owned() };
    match (parent.canonicalize(), pool.canonicalize()) {
        (Ok(parent), Ok(pool)) if parent == pool => name.to_string_lossy().into_owned(),
        _ => said.to_owned(),
    }
}

/// Whether a regular file has the first bytes of a qcow2 image. What cannot be read has not.
fn begins_like_qcow2(file: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"QFI\xfb"
}
