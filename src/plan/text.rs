//! What callers write: names, descriptions, tags, uuids. Parsed once, here.

use super::refusal::Refusal;
use crate::catalog::{Tags, WishMark};
use crate::storage::BlobName;
use uuid::Uuid;

/// The longest name, in characters.
pub(crate) const NAME_MAX: usize = 255;
/// The longest description, in characters.
pub(crate) const DESCRIPTION_MAX: usize = 2048;
/// The longest tag, in characters.
const TAG_MAX: usize = 2048;

/// Trims a name and checks its length.
pub(crate) fn name(field: &'static str, text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::Empty { field });
    }
    bounded(field, text, NAME_MAX)
}

/// Checks the length of a description.
pub(crate) fn description(text: Option<&str>) -> Result<Option<String>, Refusal> {
    text.map(|text| bounded("description", text.trim(), DESCRIPTION_MAX)).transpose()
}

fn bounded(field: &'static str, text: &str, max: usize) -> Result<String, Refusal> {
    let length = text.chars().count();
    if length > max {
        return Err(Refusal::TooLong { field, length, max });
    }
    Ok(text.to_owned())
}

/// The name of a member: `<group>-<volume>`.
pub(crate) fn joined_name(group: &str, volume: &str) -> Result<String, Refusal> {
    let joined = format!("{group}-{volume}");
    let length = joined.chars().count();
    if length > NAME_MAX {
        return Err(Refusal::JoinedNameTooLong { volume: volume.to_owned(), length, max: NAME_MAX });
    }
    Ok(joined)
}

/// Parses a uuid: 32 hex digits, with or without dashes.
pub(crate) fn uuid(text: &str) -> Result<Uuid, Refusal> {
    let malformed = || Refusal::MalformedUuid { text: text.chars().take(64).collect() };
    let digits_only = text.len() == 32 || (text.len() == 36 && text.contains('-'));
    let parsed = Uuid::try_parse(text).map_err(|_| malformed())?;
    if !digits_only || parsed.is_nil() {
        return Err(malformed());
    }
    Ok(parsed)
}

/// Checks tags and drops repeated ones.
pub(crate) fn tags(tag_uuids: &[String], user: &[String], system: &[String]) -> Result<Tags, Refusal> {
    let mut tags = Tags::default();
    for text in tag_uuids {
        let parsed = uuid(text).map_err(|_| Refusal::MalformedTag {
            tag: text.chars().take(64).collect(),
            rule: "not a uuid",
        })?;
        if !tags.tag_uuids.contains(&parsed) {
            tags.tag_uuids.push(parsed);
        }
    }
    tags.user_tags = plain_tags(user)?;
    tags.system_tags = plain_tags(system)?;
    Ok(tags)
}

fn plain_tags(given: &[String]) -> Result<Vec<String>, Refusal> {
    let mut tags: Vec<String> = Vec::new();
    for tag in given {
        let malformed = |rule| Refusal::MalformedTag { tag: tag.chars().take(64).collect(), rule };
        if tag.trim().is_empty() {
            return Err(malformed("empty"));
        }
        if tag.chars().count() > TAG_MAX {
            return Err(malformed("longer than 2048 characters"));
        }
        if tag.chars().any(char::is_control) {
            return Err(malformed("holds a control character"));
        }
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    Ok(tags)
}

/// The check value of a wish, over everything that the caller chose: a CRC of the parts as they stand, and one
/// of them read backwards.
///
/// It tells a repeat from another request made by mistake; it is no proof against one made on purpose.
pub(crate) fn wish_mark(parts: &[&str]) -> WishMark {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let forward = crc32fast::hash(&bytes);
    bytes.reverse();
    WishMark(u64::from(forward) << 32 | u64::from(crc32fast::hash(&bytes)))
}

/// What a longest chain adds to the check value of a wish; a wish without one adds nothing.
pub(crate) fn chain_max_wish(layers: u32) -> String {
    format!("chain of {layers}")
}

/// How a backing file is written into a header: by its name in the same directory, or by its path in a base directory.
/// QEMU takes what has a colon before the first slash for a protocol, so such a name gets `./` in front.
pub(crate) fn backing_label(blob: &BlobName) -> String {
    let name = blob.as_str();
    if name.contains(':') && !blob.is_in_base() { format!("./{name}") } else { name.to_owned() }
}

/// The name of a layer's file: neutral, and never used for another one.
pub(crate) fn layer_blob(layer: Uuid) -> BlobName {
    BlobName::parse(&format!("{LAYER_PREFIX}{}{LAYER_SUFFIX}", layer.simple()))
        .expect("hex digits are a name")
}

/// What the names of the files that a pool makes begin with.
pub(crate) const LAYER_PREFIX: &str = "layer-";
/// What they end with.
pub(crate) const LAYER_SUFFIX: &str = ".qcow2";

/// Whether a file has a name such as this crate gives: `layer-<32 hex digits>.qcow2`.
pub(crate) fn is_layer_blob(blob: &BlobName) -> bool {
    let middle = blob.as_str().strip_prefix(LAYER_PREFIX).and_then(|rest| rest.strip_suffix(LAYER_SUFFIX));
    middle.is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What the names of files with the checksums of a layer begin with, and what they end with.
const SEAL: (&str, &str) = ("seal-", ".sums");

/// The name of a file with the checksums of a layer: never used for another one, be it of the same layer.
pub(crate) fn seal_blob(layer: Uuid, seal: Uuid) -> BlobName {
    BlobName::parse(&format!("{}{}-{}{}", SEAL.0, layer.simple(), seal.simple(), SEAL.1))
        .expect("hex digits are a name")
}

/// The layer whose checksums a file holds by its name: `seal-<32 hex digits>-<32 hex digits>.sums`.
pub(crate) fn layer_of_seal(blob: &BlobName) -> Option<Uuid> {
    let middle = blob.as_str().strip_prefix(SEAL.0)?.strip_suffix(SEAL.1)?;
    let (layer, seal) = middle.split_once('-')?;
    let parse = |hex: &str| Uuid::try_parse(hex).ok().filter(|_| hex.len() == 32);
    parse(seal).and(parse(layer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_32_hex_digits_with_or_without_dashes_and_not_nil() {
        assert!(uuid("9ff17180fded31c2b9e4e5751ebcb2ba").is_ok());
        assert!(uuid("9FF17180-fded-31c2-b9e4-e5751ebcb2ba").is_ok());
        for text in [
            "",
            "9ff17180fded31c2b9e4e5751ebcb2b",
            "9ff17180fded31c2b9e4e5751ebcb2bag",
            "{9ff17180-fded-31c2-b9e4-e5751ebcb2ba}",
            "urn:uuid:9ff17180-fded-31c2-b9e4-e5751ebcb2ba",
            "00000000000000000000000000000000",
        ] {
            let Err(Refusal::MalformedUuid { .. }) = uuid(text) else { panic!("{text:?} was taken") };
        }
    }

    #[test]
    fn lengths_are_counted_in_characters_not_bytes() {
        assert!(name("name", &"ü".repeat(255)).is_ok());
        assert_eq!(
            name("name", &"ü".repeat(256)),
            Err(Refusal::TooLong { field: "name", length: 256, max: 255 })
        );
        assert_eq!(name("name", "  \t"), Err(Refusal::Empty { field: "name" }));
    }

    #[test]
    fn wishes_that_differ_in_one_part_or_in_where_a_part_ends_have_different_marks() {
        let base = wish_mark(&["group", "a", "b"]);
        assert_eq!(base, wish_mark(&["group", "a", "b"]));
        for other in [["group", "ab", ""], ["group", "", "ab"], ["group", "b", "a"], ["Group", "a", "b"]] {
            assert_ne!(base, wish_mark(&other), "{other:?}");
        }
    }

    #[test]
    fn a_mark_tells_parts_apart_in_each_of_its_halves() {
        let marks: Vec<u64> = ["a", "b", "c"].iter().map(|part| wish_mark(&[part]).0).collect();
        for half in [|mark: &u64| mark >> 32, |mark: &u64| mark & 0xffff_ffff] {
            let halves: std::collections::BTreeSet<u64> = marks.iter().map(half).collect();
            assert_eq!(halves.len(), 3, "{marks:x?}");
        }
        // Read from both ends: a half that is the other one again would find nothing that this one does not.
        assert!(marks.iter().all(|mark| wish_mark(&["ab"]).0 != *mark));
        let mark = wish_mark(&["ab"]).0;
        assert_ne!(mark >> 32, mark & 0xffff_ffff);
        assert_ne!(chain_max_wish(3), chain_max_wish(4));
    }

    #[test]
    fn a_file_is_a_layer_of_ours_by_32_hex_digits() {
        let hex = "9ff17180fded31c2b9e4e5751ebcb2ba";
        let is_ours =
            |middle: &str| is_layer_blob(&BlobName::parse(&format!("layer-{middle}.qcow2")).expect("a name"));
        assert!(is_ours(hex) && is_layer_blob(&layer_blob(uuid(hex).expect("a uuid"))));
        for other in ["9ff17180fded31c2b9e4e5751ebcb2bg", &hex[1..], &format!("{hex}0"), "a"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_label_with_a_colon_cannot_be_taken_for_a_protocol() {
        let label = |name| backing_label(&BlobName::parse(name).expect("a name"));
        assert_eq!(label("base.qcow2"), "base.qcow2");
        assert_eq!(label("nbd:x"), "./nbd:x");
        let base = BlobName::in_base("/srv/a:b.qcow2").expect("a path");
        assert_eq!(backing_label(&base), "/srv/a:b.qcow2");
    }

    #[test]
    fn repeated_tags_collapse_and_malformed_ones_are_refused() {
        let user = ["a".to_owned(), "a".to_owned(), "b::c".to_owned()];
        let tags_ok = tags(&[], &user, &[]).expect("well-formed");
        assert_eq!(tags_ok.user_tags, ["a", "b::c"]);
        assert!(tags(&[], &["ü".repeat(2048)], &[]).is_ok());
        for bad in [vec![String::new()], vec!["a\nb".to_owned()], vec!["x".repeat(2049)]] {
            let Err(Refusal::MalformedTag { .. }) = tags(&[], &bad, &[]) else { panic!("{bad:?} was taken") };
        }
        let Err(Refusal::MalformedTag { .. }) = tags(&["x".to_owned()], &[], &[]) else {
            panic!("a tag uuid that is none was taken");
        };
    }
}
