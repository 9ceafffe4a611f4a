//! Entries of directories: short names, and long ones in entries before them.

use super::ENTRY;

/// The first of January 1980, as FAT has dates.
const DATE: [u8; 2] = [0x21, 0];

/// What a directory is, and what a file.
const DIRECTORY: u8 = 0x10;
const FILE: u8 = 0x20;

/// The mark of a part of a long name: of what nothing else is.
const LONG_NAME: u8 = 0x0f;

/// Characters of a long name in each entry, and where they are: two bytes each.
const PART: usize = 13;
const PLACES: [usize; PART] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// The entry with the volume's label, in the root directory.
pub(super) const LABEL_ENTRY: [u8; ENTRY] = *b"config-2   \x08\0\0\0\0\0\0\0\0\0\0\0\0\x21\0\0\0\0\0\0\0";

/// Returns how many entries a long name takes before the short one.
pub(super) fn long_name_entries(name: &str) -> usize {
    name.len().div_ceil(PART)
}

pub(super) mod entries {
    use super::*;

    /// Returns the entries of a file or a directory. `number`: its place among those of its directory; `length`: none of a directory.
    pub(in crate::config_drive::vfat) fn of(name: &str, number: usize, cluster: u16, length: Option<usize>) -> Vec<u8> {
        let short = short_name(name, number);
        let mut bytes = long_name(name, &short);
        bytes.extend(entry(short, cluster, length));
        bytes
    }

    /// Returns the entries of a directory itself and the one above; the root has cluster 0.
    pub(in crate::config_drive::vfat) fn dots(itself: u16, above: u16) -> Vec<u8> {
        [entry(*b".          ", itself, None), entry(*b"..         ", above, None)].concat()
    }
}

fn entry(short: [u8; 11], cluster: u16, length: Option<usize>) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..11].copy_from_slice(&short);
    bytes[11] = if length.is_some() { FILE } else { DIRECTORY };
    // Made, read, changed.
    for at in [16, 18, 24] {
        bytes[at..at + 2].copy_from_slice(&DATE);
    }
    bytes[26..28].copy_from_slice(&cluster.to_le_bytes());
    // The image is smaller.
    bytes[28..].copy_from_slice(&u32::try_from(length.unwrap_or(0)).unwrap_or(u32::MAX).to_le_bytes());
    bytes
}

/// Returns the short name: the name itself in upper case where that is one, else its beginning with a number that no other has.
fn short_name(name: &str, number: usize) -> [u8; 11] {
    let upper = name.to_ascii_uppercase();
    let (stem, extension) = upper.rsplit_once('.').unwrap_or((&upper, ""));
    let is_short = stem.len() <= 8 && extension.len() <= 3 && !stem.contains('.');
    let tail = format!("~{}", number + 1);
    let stem: String = match is_short {
        true => stem.to_owned(),
        false => stem.chars().filter(|c| *c != '.').take(8 - tail.len()).chain(tail.chars()).collect(),
    };
    let mut short = [b' '; 11];
    short[..stem.len()].copy_from_slice(stem.as_bytes());
    for (place, byte) in short[8..].iter_mut().zip(extension.bytes()) {
        *place = byte;
    }
    short
}

/// Returns the entries of a long name, its end first.
fn long_name(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let parts = name.as_bytes().chunks(PART).enumerate().map(|(number, part)| {
        let mut bytes = [0; ENTRY];
        let is_last = (number + 1) * PART >= name.len();
        bytes[0] = u8::try_from(number + 1).unwrap_or(0) | if is_last { 0x40 } else { 0 };
        bytes[11] = LONG_NAME;
        bytes[13] = sum;
        for (index, place) in PLACES.into_iter().enumerate() {
            let character = match part.get(index) {
                Some(byte) => [*byte, 0],
                // An end, if there is room, and nothing.
                None if index == part.len() => [0, 0],
                None => [0xff, 0xff],
            };
            bytes[place..place + 2].copy_from_slice(&character);
        }
        bytes
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_one_each() {
        for (name, number, short) in [
            ("ec2", 0, b"EC2        "),
            ("0000", 3, b"0000       "),
            ("a.txt", 0, b"A       TXT"),
            ("meta_data.json", 0, b"META_D~1JSO"),
            ("vendor_data2.json", 11, b"VENDO~12JSO"),
            ("2012-08-10", 0, b"2012-0~1   "),
            ("a.b.c", 1, b"AB~2    C  "),
        ] {
            assert_eq!(short_name(name, number), *short, "{name}");
        }
    }

    #[test]
    fn a_long_name_is_in_entries_that_name_its_short_one() {
        let bytes = entries::of("vendor_data2.json", 0, 5, Some(300));
        assert_eq!(bytes.len(), 3 * ENTRY);
        assert_eq!((bytes[0], bytes[32], bytes[11], bytes[43]), (0x42, 1, LONG_NAME, LONG_NAME));
        assert_eq!(bytes[13], bytes[45], "the sum of the short name");
        assert_eq!(&bytes[1..11], b"j\0s\0o\0n\0\0\0");
        assert_eq!(&bytes[28..32], b"\xff\xff\xff\xff");
        assert_eq!(&bytes[64..75], b"VENDOR~1JSO");
        assert_eq!((&bytes[90..92], &bytes[92..96]), (&b"\x05\0"[..], &b"\x2c\x01\0\0"[..]));
    }
}
