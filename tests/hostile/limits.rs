//! What a caller may set: an image that asks for more is refused by its header, before anything is read for it.

use crate::support::{Outcome, Pool, blob_of, small};
use snapgroup::Error;
use snapgroup::image::{self, Image, Limits};
use snapgroup::storage::Access;
use snapgroup::units::ByteCount;

/// What the good image has, and one less.
fn cases() -> [(Limits, Limits, &'static str, u64); 2] {
    let limits = Limits::default();
    let size = |size| Limits { size_max: ByteCount::new(size), ..limits };
    let tables = |bytes| Limits { tables_max: ByteCount::new(bytes), ..limits };
    [
        (size(4 << 20), size((4 << 20) - 1), "virtual size", 4 << 20),
        // A refcount table of one cluster, and two L1 entries.
        (tables(4112), tables(4111), "size of L1 table and refcount table", 4112),
    ]
}

#[test]
fn each_limit_is_kept_to_the_byte() -> Outcome {
    for (enough, too_low, name, has) in cases() {
        let blob = blob_of(&small()?)?;
        Image::open(blob.clone(), "x", Access::Read, enough)?;
        for opened in [
            Image::open(blob.clone(), "x", Access::Read, too_low),
            Image::open_checked(blob.clone(), "x", Access::Write, too_low),
        ] {
            let Err(image::Error::OverLimit { what, found, limit, .. }) = opened else {
                panic!("{opened:?}")
            };
            assert_eq!((what, found, limit), (name, has, has - 1));
        }
    }
    Ok(())
}

#[test]
fn the_number_of_extensions_is_limited() -> Outcome {
    let mut bytes = small()?;
    let extensions = [0x1234_5678_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat().repeat(5);
    bytes[112..112 + extensions.len()].copy_from_slice(&extensions);
    let blob = blob_of(&bytes)?;
    let at_most = |extensions_max| Limits { extensions_max, ..Limits::default() };
    Image::open(blob.clone(), "x", Access::Read, at_most(5))?;
    let opened = Image::open(blob, "x", Access::Read, at_most(4));
    let Err(image::Error::OverLimit { found: 5, limit: 4, .. }) = opened else { panic!("{opened:?}") };
    Ok(())
}

#[test]
fn a_pool_keeps_the_limits_of_its_options() -> Outcome {
    for (enough, too_low, name, _) in cases() {
        let bytes = small()?;
        let pool = Pool::with(&[("x", &bytes)], |options| options.image_limits = too_low)?;
        for answer in [pool.adopt("x"), pool.import("x")] {
            let Err(Error::NotAdoptable { rule, .. }) = answer else { panic!("{name}: {answer:?}") };
            assert!(rule.to_string().contains(name), "{rule}");
        }
        let pool = Pool::with(&[("x", &bytes)], |options| options.image_limits = enough)?;
        pool.adopt("x")?;
    }
    Ok(())
}
