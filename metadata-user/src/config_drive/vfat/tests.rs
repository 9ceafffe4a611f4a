//! Tests of `config_drive::vfat`, with a reader of their own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config_drive::tree::tests::{file, possible_files};

type Files = BTreeMap<String, Vec<u8>>;

/// A reader, by the boot sector alone.
struct Volume<'a> {
    image: &'a [u8],
    cluster: usize,
    table: &'a [u8],
    root: &'a [u8],
    data: usize,
}

fn word(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn long(bytes: &[u8], at: usize) -> usize {
    word(bytes, at) | word(bytes, at + 2) << 16
}

impl<'a> Volume<'a> {
    fn of(image: &'a [u8]) -> Self {
        assert_eq!((&image[510..512], &image[54..62], word(image, 11)), (&b"\x55\xaa"[..], &b"FAT16   "[..], SECTOR));
        let (cluster, reserved, tables) = (usize::from(image[13]), word(image, 14), usize::from(image[16]));
        let (root, table) = (word(image, 17) * ENTRY, word(image, 22) * SECTOR);
        let total = match word(image, 19) {
            0 => long(image, 32),
            total => total,
        };
        assert_eq!(total * SECTOR, image.len());
        assert_eq!(total % (word(image, 24) * word(image, 26)), 0, "a multiple of its cylinders");
        let [first, second] = [0, 1].map(|number| &image[reserved * SECTOR + number * table..][..table]);
        assert_eq!((tables, first), (2, second), "equal tables");
        let start = reserved * SECTOR + tables * table;
        let data = start + root;
        let clusters = (image.len() - data) / (cluster * SECTOR);
        assert!((4_085..65_525).contains(&clusters) && table >= (clusters + 2) * 2, "{clusters} clusters");
        Self { image, cluster: cluster * SECTOR, table: first, root: &image[start..data], data }
    }

    fn chain(&self, first: usize) -> Vec<u8> {
        let (mut bytes, mut cluster) = (Vec::new(), first);
        while cluster != 0 && cluster < 0xfff8 {
            bytes.extend_from_slice(&self.image[self.data + (cluster - 2) * self.cluster..][..self.cluster]);
            cluster = word(self.table, cluster * 2);
        }
        bytes
    }

    fn read(&self, directory: &[u8], (own, above): (usize, usize), path: &str, files: &mut Files) {
        let (mut name, mut sum) = (String::new(), None);
        let mut shorts = Vec::new();
        for entry in directory.chunks(ENTRY).take_while(|entry| entry[0] != 0) {
            let short: [u8; 11] = entry[..11].try_into().unwrap();
            if entry[11] == 0x0f {
                let places = [1..11, 14..26, 28..32].into_iter().flat_map(|range| range.step_by(2));
                let characters =
                    places.map(|at| word(entry, at)).take_while(|character| ![0, 0xffff].contains(character));
                let part: String = characters.map(|character| char::from(u8::try_from(character).unwrap())).collect();
                name.insert_str(0, &part);
                sum = Some(entry[13]);
                continue;
            }
            assert_eq!(entry[24..26], [0x21, 0], "1980-01-01");
            let cluster = word(entry, 26);
            match &short {
                b".          " => assert_eq!((cluster, name.len()), (own, 0)),
                b"..         " => assert_eq!((cluster, name.len()), (above, 0)),
                b"config-2   " if entry[11] == 8 => assert!(path.is_empty() && name.is_empty()),
                _ => {
                    let expected = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
                    assert_eq!(sum.take(), Some(expected), "{name}");
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    let body = self.chain(cluster);
                    if entry[11] & 0x10 != 0 {
                        self.read(&body, (cluster, own), &path, files);
                    } else {
                        assert_eq!(body.len(), long(entry, 28).next_multiple_of(self.cluster), "no more than it needs");
                        files.insert(path, body[..long(entry, 28)].to_vec());
                    }
                    name.clear();
                    shorts.push(short);
                }
            }
        }
        let all = shorts.len();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!(shorts.len(), all, "short names are one each");
    }
}

fn check(files: &[DriveFile]) -> usize {
    let made = image(files).unwrap();
    assert!(image(files).unwrap() == made, "equal files, equal bytes");
    let volume = Volume::of(&made);
    assert_eq!((&volume.root[..12], &made[43..54]), (&b"config-2   \x08"[..], &b"config-2   "[..]));
    let mut found = Files::new();
    volume.read(volume.root, (0, 0), "", &mut found);
    let expected: Files = files.iter().map(|file| (file.path.clone(), file.body.to_vec())).collect();
    assert!(found == expected, "{:?}", found.keys());
    volume.cluster
}

#[test]
fn a_drive_of_any_size_is_read_back() {
    assert_eq!(check(&[]), 512);
    for (megabytes, cluster) in [(0, 512), (3, 512), (31, 512), (33, 1024), (65, 2048)] {
        let files = [
            file("openstack/latest/user_data", &vec![1; megabytes << 20]),
            file("openstack/2012-08-10/meta_data.json", b"{}"),
            file("ec2/latest/meta-data.json", b""),
        ];
        assert_eq!(check(&files), cluster, "{megabytes} MiB");
    }
}

#[test]
fn directories_of_many_files_are_whole() {
    let files: Vec<_> = (0..300)
        .flat_map(|number| [format!("file-{number}.of-many.json"), format!("d/file-{number}.of-many.json")])
        .map(|path| file(&path, &[1]))
        .collect();
    check(&files);
}

#[test]
fn what_is_too_large_is_refused() {
    let body = bytes::Bytes::from(vec![0; 1 << 29]);
    let files: Vec<_> = (0..4).map(|number| DriveFile { path: number.to_string(), body: body.clone() }).collect();
    assert_eq!(image(&files), Err(TreeError::Size(1 << 31)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_possible_files_are_read_back(files in possible_files()) {
        check(&files);
    }
}
