//! Tests of `config_drive::iso9660`, with a reader of their own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config_drive::tree::tests::{file, possible_files};

/// Files by path.
type Files = BTreeMap<String, Vec<u8>>;

/// By what a reader goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// The identifiers of the primary volume.
    Identifiers,
    RockRidge,
    Joliet,
}

fn number(bytes: &[u8]) -> u32 {
    let [little, big] = [&bytes[..4], &bytes[4..8]].map(|half| <[u8; 4]>::try_from(half).unwrap());
    assert_eq!(u32::from_le_bytes(little), u32::from_be_bytes(big), "in both byte orders");
    u32::from_le_bytes(little)
}

fn extent(image: &[u8], sector: u32, length: u32) -> &[u8] {
    &image[sector as usize * SECTOR..][..length as usize]
}

/// Returns the descriptor that a reader uses.
fn descriptor(image: &[u8], by: By) -> &[u8] {
    let sector = if by == By::Joliet { 17 } else { 16 };
    let descriptor = extent(image, sector, 2048);
    assert_eq!(&descriptor[1..7], b"CD001\x01");
    assert_eq!(number(&descriptor[80..]) as usize * SECTOR, image.len());
    assert_eq!(extent(image, 18, 7), b"\xffCD001\x01");
    descriptor
}

fn plain(identifier: &[u8], by: By) -> String {
    let text: Vec<u8> = match by {
        By::Joliet => {
            assert!(identifier.chunks(2).all(|character| character[0] == 0));
            identifier.chunks(2).map(|character| character[1]).collect()
        }
        _ => identifier.to_vec(),
    };
    String::from_utf8(text).unwrap().trim_end_matches(";1").to_owned()
}

/// Returns the fields of Rock Ridge by signature.
fn fields(mut area: &[u8]) -> BTreeMap<&str, &[u8]> {
    let mut fields = BTreeMap::new();
    while area.len() >= 4 {
        let (field, rest) = area.split_at(area[2].into());
        fields.insert(std::str::from_utf8(&field[..2]).unwrap(), &field[4..]);
        area = rest;
    }
    fields
}

/// Reads a directory and what is below it; returns how many directories are in it.
fn read(image: &[u8], (sector, length): (u32, u32), by: By, above: &str, files: &mut Files) -> u32 {
    let bytes = extent(image, sector, length);
    let (mut at, mut directories, mut names, mut links) = (0, 0, Vec::new(), None);
    while at < bytes.len() {
        let record = &bytes[at..][..bytes[at].into()];
        if record.is_empty() {
            at = (at + 1).next_multiple_of(SECTOR);
            continue;
        }
        assert!(
            at / SECTOR == (at + record.len() - 1) / SECTOR && record.len().is_multiple_of(2),
            "a record in two sectors"
        );
        at += record.len();
        let is_directory = record[25] == 2;
        let identifier = &record[33..][..record[32].into()];
        let area = &record[(33 + identifier.len()).next_multiple_of(2)..];
        let place = (number(&record[2..]), number(&record[10..]));
        let fields = if by == By::RockRidge { fields(area) } else { BTreeMap::new() };
        if let Some(modes) = fields.get("PX") {
            assert_eq!(number(modes), if is_directory { 0o040_555 } else { 0o100_444 });
        }
        if identifier == [0] {
            assert_eq!(place, (sector, length));
            links = fields.get("PX").map(|modes| number(&modes[8..]));
            continue;
        } else if identifier == [1] {
            continue;
        }
        let name = match by {
            By::RockRidge => String::from_utf8(fields["NM"][1..].to_vec()).unwrap(),
            _ => plain(identifier, by),
        };
        let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
        if is_directory {
            directories += 1;
            read(image, place, by, &path, files);
        } else {
            files.insert(path, extent(image, place.0, place.1).to_vec());
        }
        names.push(name);
    }
    assert!(names.iter().is_sorted_by_key(|name| order(name)), "{names:?}");
    assert!(links.is_none_or(|links| links == directories + 2), "{above}");
    directories
}

fn files_of(image: &[u8], by: By) -> Files {
    let root = &descriptor(image, by)[156..190];
    let mut files = Files::new();
    read(image, (number(&root[2..]), number(&root[10..])), by, "", &mut files);
    files
}

/// Returns the paths of all directories, from a path table.
fn directories_of(image: &[u8], by: By, is_big: bool) -> Vec<String> {
    let descriptor = descriptor(image, by);
    let int = |bytes: &[u8]| {
        let bytes: Vec<u8> = if is_big { bytes.to_vec() } else { bytes.iter().rev().copied().collect() };
        bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte))
    };
    let table = extent(image, int(&descriptor[if is_big { 148 } else { 140 }..][..4]), number(&descriptor[132..]));
    let (mut at, mut paths) = (0, Vec::<String>::new());
    while at < table.len() {
        let length = usize::from(table[at]);
        let (sector, parent) = (int(&table[at + 2..][..4]), int(&table[at + 6..][..2]) as usize);
        let name = &table[at + 8..][..length];
        assert_eq!(number(&extent(image, sector, 2048)[2..]), sector, "it begins with its own record");
        paths.push(match paths.get(parent - 1) {
            None => String::new(),
            Some(above) if above.is_empty() => plain(name, by),
            Some(above) => format!("{above}/{}", plain(name, by)),
        });
        at += 8 + length.next_multiple_of(2);
    }
    paths
}

fn check(files: &[DriveFile]) {
    let image = image(files).unwrap();
    let expected: Files = files.iter().map(|file| (file.path.clone(), file.body.to_vec())).collect();
    for by in [By::Identifiers, By::RockRidge, By::Joliet] {
        assert_eq!(files_of(&image, by), expected, "{by:?}");
        let mut directories = directories_of(&image, by, false);
        assert_eq!(directories, directories_of(&image, by, true));
        directories.sort();
        let mut above: Vec<String> = expected
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()))
            .chain([String::new()])
            .collect();
        above.sort();
        above.dedup();
        assert_eq!(directories, above, "{by:?}");
    }
    let mut turned = files.to_vec();
    turned.reverse();
    assert_eq!(super::image(&turned).unwrap(), image, "the order of files means nothing");
}

#[test]
fn a_drive_is_read_by_plain_names_rock_ridge_and_joliet() {
    let large = vec![7; 5000];
    let files = [
        file("ec2/2009-04-04/meta-data.json", b"{}"),
        file("ec2/2009-04-04/user-data", &large),
        file("openstack/latest/user_data", &large),
        file("openstack/latest/meta_data.json", b""),
        file("openstack/content/0000", b"auto lo"),
    ];
    check(&files);
    let image = image(&files).unwrap();
    assert_eq!(descriptor(&image, By::Identifiers)[40..72], *b"config-2                        ");
    assert_eq!(descriptor(&image, By::Joliet)[40..56], *b"\0c\0o\0n\0f\0i\0g\0-\x002");
    assert_eq!(image.windows(large.len()).filter(|window| **window == *large).count(), 1, "equal files are there once");
    check(&[]);
}

#[test]
fn a_directory_of_many_sectors_is_whole() {
    let files: Vec<_> = (0..500).map(|number| file(&format!("d/file-{number}.of-many.json"), &[1])).collect();
    check(&files);
}

#[test]
fn the_root_names_rock_ridge_where_readers_look() {
    let image = image(&[file("a", b"b")]).unwrap();
    let root = number(&descriptor(&image, By::RockRidge)[158..]);
    let record = extent(&image, root, 254);
    let own = fields(&record[34..record[0].into()]);
    assert_eq!(own["SP"], b"\xbe\xef\0");
    let more = own["CE"];
    let field = extent(&image, number(more), number(&more[16..]));
    assert!(field.starts_with(b"ER\xed\x01\x0a\x54\x87\x01RRIP_1991A"), "{field:?}");
}

proptest! {
    #[test]
    fn any_possible_files_are_read_back(files in possible_files()) {
        check(&files);
    }
}
