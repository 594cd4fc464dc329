//! The same uuid with the same wish answers what is there, with another wish it is refused.

use snapgroup::storage::{BlobName, MemoryStore, Store};
use snapgroup::{AdoptVolume, ByteCount, CreatePool, CreateVolume, Engine, LayerFormat, Options, Refusal};
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const UUID: &str = "4b13e23059033e2dbfac63b5b16eba11";

fn pool() -> Result<Engine, Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    for name in ["a.raw", "b.raw"] {
        store.create(&BlobName::parse(name)?)?.set_length(ByteCount::mib(1))?;
    }
    Ok(Engine::open_on(Arc::new(store), Options { create: CreatePool::Here, ..Options::default() })?)
}

fn above(file: &str) -> CreateVolume {
    let resource_uuid = Some(UUID.into());
    CreateVolume { resource_uuid, ..CreateVolume::above("disk", file, LayerFormat::Raw) }
}

#[test]
fn a_volume_above_another_base_is_another_wish() -> Outcome {
    let engine = pool()?;
    engine.create_volume(&above("a.raw"))?;
    let Err(snapgroup::Error::Refused(Refusal::OtherWish { .. })) = engine.create_volume(&above("b.raw"))
    else {
        panic!("a disk above a.raw was answered for one above b.raw");
    };
    Ok(())
}

#[test]
fn a_volume_with_other_clusters_is_another_wish() -> Outcome {
    let engine = pool()?;
    engine.create_volume(&above("a.raw"))?;
    let other = CreateVolume { cluster_bits: Some(12), ..above("a.raw") };
    let Err(snapgroup::Error::Refused(Refusal::OtherWish { .. })) = engine.create_volume(&other) else {
        panic!("a disk with clusters of 64 KiB was answered for one with 4 KiB");
    };
    Ok(())
}

#[test]
fn a_file_that_is_adopted_is_another_wish_than_a_new_volume() -> Outcome {
    let engine = pool()?;
    engine.create_volume(&above("a.raw"))?;
    let adopt = AdoptVolume::new("b.raw", LayerFormat::Raw, "disk");
    let adopt = AdoptVolume { resource_uuid: Some(UUID.into()), ..adopt };
    let Err(snapgroup::Error::Refused(Refusal::OtherWish { .. })) = engine.adopt_volume(&adopt) else {
        panic!("b.raw was not adopted, and the answer says that it was");
    };
    Ok(())
}

#[test]
fn a_repeat_is_recognised_after_the_disk_was_made_larger() -> Outcome {
    let engine = pool()?;
    let resource_uuid = Some(UUID.into());
    let wish = CreateVolume { resource_uuid, ..CreateVolume::new("disk", ByteCount::mib(1)) };
    let made = engine.create_volume(&wish)?;
    engine.resize_volume(made.uuid, ByteCount::mib(2))?;
    assert_eq!(engine.create_volume(&wish)?.uuid, made.uuid);
    Ok(())
}
