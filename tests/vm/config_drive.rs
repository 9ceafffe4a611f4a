//! Config drives in a guest's kernel: Linux mounts both formats, and reads every file as it was written; the label by which guests find
//! them is the one that libblkid sees.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lab::golden::Golden;
use lab::{command, nova};
use metadata_user::api::{Content, DriveFile, RenderedInstance};
use metadata_user::config::Config;
use metadata_user::config_drive::{self, Format};
use metadata_user::source::wire;

use crate::kernels::brief;

/// File systems, what they translate names with, and disks.
pub(crate) const MODULES: &[&str] =
    &["virtio_pci", "virtio_blk", "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"];

/// How an image is mounted: the disk, and mount's options. Without Rock Ridge Linux goes by Joliet, and without both by the plain names.
const MOUNTS: [(&str, &str); 4] = [
    ("vda", "-t iso9660 -o ro"),
    ("vda", "-t iso9660 -o ro,norock"),
    ("vda", "-t iso9660 -o ro,norock,nojoliet"),
    ("vdb", "-t vfat -o ro"),
];

/// Images of one drive, and what is on it.
pub(crate) struct Drives {
    files: Vec<DriveFile>,
    directory: tempfile::TempDir,
}

impl Drives {
    pub(crate) fn make() -> Result<Self> {
        let drives = Self { files: files()?, directory: tempfile::tempdir().context("making a directory")? };
        for (path, format) in drives.disks().iter().zip([Format::Iso9660, Format::Vfat]) {
            std::fs::write(path, config_drive::image(&drives.files, format)?).context("writing an image")?;
        }
        Ok(drives)
    }

    /// Returns the images: ISO 9660, and FAT.
    pub(crate) fn disks(&self) -> [PathBuf; 2] {
        ["iso", "fat"].map(|name| self.directory.path().join(name))
    }
}

fn files() -> Result<Vec<DriveFile>> {
    let golden = Golden::from_facts(nova::facts("gzip-userdata")?.to_string().as_bytes())?;
    let record = wire::parse(golden.document.to_string().as_bytes())?;
    let content =
        Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(golden.cloud.settings()))));
    Ok(config_drive::files(&content, &Config::default().policy().access)?)
}

/// Returns what a guest's shell does: it mounts the disks, and prints the sums of all files.
pub(crate) fn script() -> String {
    let mut script = String::new();
    for (number, (disk, options)) in MOUNTS.iter().enumerate() {
        let at = format!("/tmp/{number}");
        let _ = writeln!(script, "mkdir {at}; mount {options} /dev/{disk} {at} && cd {at} && echo mounted {number}");
        let _ = writeln!(script, "find . -type f -exec sha256sum {{}} + | sed 's/^/file {number} /'; cd /");
    }
    script + "stat -c 'mode %a %u:%g' /tmp/0/openstack /tmp/0/openstack/latest/user_data\n"
}

/// Returns what sha256sum says of each file.
fn sums(files: &[DriveFile]) -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut sum = Command::new("sha256sum");
    sum.current_dir(directory.path());
    for (number, file) in files.iter().enumerate() {
        std::fs::write(directory.path().join(number.to_string()), &file.body).unwrap();
        sum.arg(number.to_string());
    }
    let printed = command::run(&mut sum, "").unwrap();
    let sums = printed.lines().map(|line| line.split(' ').next().unwrap().to_owned());
    files.iter().map(|file| file.path.clone()).zip(sums).collect()
}

#[test]
fn linux_mounts_both_formats_and_reads_every_file() {
    let brief = brief();
    let console = brief.console();
    let expected = sums(&brief.drives.files);
    for (number, (disk, options)) in MOUNTS.iter().enumerate() {
        let lines =
            console.lines().filter_map(|line| line.strip_prefix(&format!("file {number} "))?.split_once("  ./"));
        let found: BTreeMap<_, _> = lines.map(|(sum, path)| (path.to_owned(), sum.to_owned())).collect();
        assert_eq!(found, expected, "{disk} {options}\n{console}");
    }
    assert!(console.contains("mode 555 0:0\nmode 444 0:0"), "{console}");
}

#[test]
fn libblkid_finds_both_formats_by_the_label_of_a_config_drive() {
    let drives = Drives::make().unwrap();
    for (image, kind) in drives.disks().iter().zip(["iso9660", "vfat"]) {
        let found = command::run(Command::new("blkid").args(["-p", "-o", "export"]).arg(image), "").unwrap();
        assert!(found.contains("LABEL=config-2\n") && found.contains(&format!("TYPE={kind}\n")), "{found}");
    }
}
