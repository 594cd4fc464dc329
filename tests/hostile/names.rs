//! What a file says of other files: only the plain name of a file in the same directory is followed, and only with its
//! format. Nothing else is asked of the store, whatever the string looks like to others.

use crate::support::{CLUSTER, Outcome, Pool, bounded, patched, small};
use snapgroup::{AdoptVolume, Error, LayerFormat};

/// Strings that other programs follow out of the directory, or cut short.
pub(crate) const STRINGS: &[&[u8]] = &[
    b"/etc/passwd",
    b"../x.raw",
    b"./../x.raw",
    b"sub/x.raw",
    b"/dev/zero",
    b"/proc/self/mem",
    b"file:/etc/passwd",
    b"file:///etc/passwd",
    b"nbd://127.0.0.1:10809/x",
    b"nbd:unix:/tmp/socket",
    b"ssh://host/x",
    b"http://host/x",
    b"fat:rw:/etc",
    b"blkdebug::x.raw",
    b"json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}}",
    b"json:{\"file.filename\":\"x.raw\"}",
    b"x.raw\0/../../etc/passwd",
    b"/etc/passwd\0x.raw",
    b"x.raw\n",
    b"\x1b[2Jx.raw",
    b"x\x7f.raw",
    b"x.raw\xff",
    b"\xc0\xafetc\xc0\xafpasswd",
    b"..",
    b".",
    b"/",
    b"~/x.raw",
    b"$HOME/x.raw",
    b"C:\\x.raw",
    b"snapgroup.redb",
    b"snapgroup.lock",
];

/// An image above what is named so.
pub(crate) fn above(name: &[u8], format: Option<&str>) -> Outcome<Vec<u8>> {
    let mut extension = Vec::new();
    if let Some(format) = format {
        extension.extend(0xe279_2aca_u32.to_be_bytes());
        extension.extend(u32::try_from(format.len())?.to_be_bytes());
        extension.extend(format.as_bytes());
        extension.resize(extension.len().next_multiple_of(8), 0);
    }
    extension.extend([0; 8]);
    let at = 200_u64.to_be_bytes();
    let length = u32::try_from(name.len())?.to_be_bytes();
    patched(&[(8, &at), (16, &length), (112, &extension), (200, name)])
}

/// 126
#[test]
fn no_string_makes_a_pool_ask_for_another_file() -> Outcome {
    for string in STRINGS {
        for format in ["raw", "qcow2"] {
            let what = String::from_utf8_lossy(string).into_owned();
            let bytes = above(string, Some(format))?;
            let pool = Pool::new(&[("x", &bytes), ("x.raw", &[7; 512]), ("passwd", &[7; 512])])?;
            let report = bounded(&what, || pool.engine.validate_chain(&wish()))?;
            let adopted = bounded(&what, || pool.adopt("x"));
            let imported = bounded(&what, || pool.import("x"));
            for answer in [adopted, imported] {
                let Err(Error::NotAdoptable { rule, .. }) = answer else { panic!("{what}: {answer:?}") };
                assert!(
                    !rule.to_string().chars().any(char::is_control),
                    "{what}: control characters in {rule:?}"
                );
            }
            assert!(!report.is_adoptable(), "{what}: {report:?}");
            assert_eq!(pool.names_asked(), ["x"], "{what}");
        }
    }
    Ok(())
}

fn wish() -> AdoptVolume {
    AdoptVolume::new("x", LayerFormat::Qcow2, "v")
}

/// 114
#[test]
fn a_format_is_never_guessed() -> Outcome {
    for (format, said) in [
        (None, "no format"),
        (Some(""), "no format"),
        (Some("vmdk"), "vmdk"),
        (Some("host_device"), "host_device"),
    ] {
        let bytes = above(b"x.raw", format)?;
        let pool = Pool::new(&[("x", &bytes), ("x.raw", &[7; 512])])?;
        for answer in [pool.adopt("x"), pool.import("x")] {
            let Err(Error::NotAdoptable { blob, rule }) = answer else { panic!("{format:?}: {answer:?}") };
            assert!(blob == "x" && rule.to_string().contains(said), "{format:?}: {rule}");
        }
        assert_eq!(pool.names_asked(), ["x"]);
    }
    Ok(())
}

#[test]
fn a_plain_name_is_followed_with_or_without_its_dot() -> Outcome {
    for name in [&b"x.raw"[..], b"./x.raw"] {
        let bytes = above(name, Some("raw"))?;
        let pool = Pool::new(&[("x", &bytes), ("x.raw", &[7; 512])])?;
        let report = pool.engine.validate_chain(&wish())?;
        let files: Vec<_> = report.files.iter().map(|found| found.file.as_str()).collect();
        assert_eq!((files, report.is_adoptable()), (vec!["x", "x.raw"], true));
        assert_eq!(report.files[0].cluster_size.map(|size| size.as_u64()), Some(CLUSTER));
        assert_eq!(report.files[1].cluster_size, None);
        assert_eq!(report.files[0].backing_label.as_deref().map(str::as_bytes), Some(name));
        assert_eq!(pool.names_asked(), ["x", "x.raw"]);
        pool.adopt("x")?;
    }
    Ok(())
}

/// A guest may write what it likes into a raw disk, and a header may call any file raw.
#[test]
fn a_file_that_begins_like_an_image_is_raw_only_when_the_caller_says_so() -> Outcome {
    let overlay = above(b"below", Some("raw"))?;
    let mut vdi = vec![0; 512];
    vdi[64..68].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
    let qcow2 = small()?;
    for (below, format) in [
        (&qcow2[..], "qcow"),
        (b"QED\0", "qed"),
        (b"KDMV", "vmdk"),
        (b"# Disk DescriptorFile", "vmdk"),
        (b"conectix", "vpc"),
        (b"vhdxfile", "vhdx"),
        (b"WithoutFreeSpace", "parallels"),
        (&vdi, "vdi"),
    ] {
        let files = [("x", &overlay[..]), ("below", below)];
        let pool = Pool::new(&files)?;
        let report = pool.engine.validate_chain(&wish())?;
        let refused = report.refused.ok_or("it was taken")?;
        assert!(refused.file == "below" && refused.rule.to_string().contains(format), "{refused:?}");
        for answer in [pool.adopt("x"), pool.import("x")] {
            let Err(Error::NotAdoptable { blob, rule }) = answer else { panic!("{format}: {answer:?}") };
            assert_eq!((blob, rule), (refused.file.clone(), refused.rule.clone()));
        }
        // Said of another file, it does not count.
        let said = |file: &str| AdoptVolume { raw_below: vec![file.to_owned()], ..wish() };
        assert!(pool.engine.adopt_volume(&said("x")).is_err(), "{format}");
        assert!(pool.engine.validate_chain(&said("below"))?.is_adoptable(), "{format}");
        pool.engine.adopt_volume(&said("below"))?;
        // The caller's own word for the uppermost file counts, too.
        let pool = Pool::new(&files)?;
        pool.engine.adopt_volume(&AdoptVolume::new("below", LayerFormat::Raw, "v"))?;
    }
    Ok(())
}
