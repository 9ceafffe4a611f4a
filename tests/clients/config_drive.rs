//! cloud-init's ConfigDrive source, with what its OpenStack source reads over HTTP for the same instance; and the programs by which
//! people look into images.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lab::fetched::collection;
use lab::{Guest, Node, command, files};
use serde_json::Value;

use crate::case::{Case, IPV4};
use crate::client::{self, Python};

type Files = BTreeMap<String, Vec<u8>>;

fn crawl(guest: &Guest, source: &str, from: &str) -> Value {
    let mut crawled = client::run(guest, Python::Debian, "cloud_init.py", &[source, "-", from]).unwrap();
    let seed = crawled["metadata"].as_object_mut().unwrap().remove("random_seed");
    assert!(seed.is_some_and(|seed| !seed.is_null()), "no random seed");
    // The address of a service; and the EC2 tree, which is text over HTTP and an object on a drive.
    crawled.as_object_mut().unwrap().retain(|key, _| !["address", "ec2"].contains(&&**key));
    crawled
}

fn write(node: &Node, case: &Case, format: &str, output: &Path) {
    let instance = case.facts["instance"]["uuid"].as_str().unwrap();
    node.ask(&["config-drive", instance, "--format", format, "--output", output.to_str().unwrap()]).unwrap();
}

/// Runs a program that was fetched, and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let debian = collection("clients").unwrap().join("drives/debian");
    let places = ["usr/bin", "usr/sbin", "sbin"].map(|place| debian.join(place).join(program));
    let mut command = Command::new(places.iter().find(|path| path.exists()).unwrap());
    command.env("LD_LIBRARY_PATH", debian.join("usr/lib/x86_64-linux-gnu"));
    // A disk of any geometry is one.
    command.env("MTOOLS_SKIP_CHECK", "1");
    command::run(command.args(arguments), "").unwrap()
}

/// Unpacks an image by a program that knows its format.
fn unpack(format: &str, image: &Path, into: &Path) {
    let [image, into] = [image, into].map(|path| path.to_str().unwrap());
    match format {
        "iso9660" => {
            run("xorriso", &["-osirrox", "on", "-indev", image, "-extract", "/", into]);
        }
        _ => {
            run("mcopy", &["-s", "-i", image, "::/", into]);
        }
    }
}

fn without_seeds(mut files: Files) -> Files {
    for (_, body) in files.iter_mut().filter(|(path, _)| path.ends_with("/meta_data.json")) {
        let mut data: Value = serde_json::from_slice(body).unwrap();
        data.as_object_mut().unwrap().remove("random_seed");
        *body = data.to_string().into();
    }
    files
}

#[test]
fn cloud_init_makes_the_same_of_a_drive_in_each_format_as_of_the_service() {
    for name in ["plain", "gzip-userdata", "multi-nic"] {
        let case = Case::load(name).unwrap();
        let node = Node::start().unwrap();
        let guest = case.boot(&node).unwrap();
        let over_http = crawl(&guest, "openstack", IPV4);
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("directory");
        write(&node, &case, "directory", &directory);
        let expected = without_seeds(files::below(&directory).unwrap());
        for format in ["iso9660", "vfat"] {
            let (image, unpacked) = (place.path().join("image"), place.path().join(format));
            write(&node, &case, format, &image);
            std::fs::create_dir(&unpacked).unwrap();
            unpack(format, &image, &unpacked);
            assert_eq!(without_seeds(files::below(&unpacked).unwrap()), expected, "{name} {format}");
        }
        for format in ["directory", "iso9660", "vfat"] {
            let drive = crawl(&guest, "drive", place.path().join(format).to_str().unwrap());
            assert_eq!(drive, over_http, "{name} {format}");
        }
    }
}

#[test]
fn images_are_what_isoinfo_xorriso_fsck_and_mtools_take_for_good() {
    let case = Case::load("gzip-userdata").unwrap();
    let node = Node::start().unwrap();
    let _guest = case.boot(&node).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (iso, fat) = (place.path().join("iso"), place.path().join("fat"));
    write(&node, &case, "iso9660", &iso);
    write(&node, &case, "vfat", &fat);
    let [iso, fat] = [&iso, &fat].map(|path| path.to_str().unwrap());
    let description = run("isoinfo", &["-d", "-i", iso]);
    for line in ["Volume id: config-2", "Joliet with UCS level 3 found", "Rock Ridge signatures version 1 found"] {
        assert!(description.contains(line), "no {line:?} in {description}");
    }
    let user_data = "/openstack/latest/user_data";
    for (options, path) in
        [(&["-R"][..], user_data), (&["-J"], "/openstack/latest/user_data;1"), (&[], "/openstack/latest/user_data;1")]
    {
        let listed = run("isoinfo", &[options, &["-f", "-i", iso]].concat());
        assert!(listed.lines().any(|line| line == path), "{options:?}: {listed}");
    }
    let modes = run("isoinfo", &["-R", "-l", "-i", iso]);
    assert!(modes.contains("-r--r--r--   1    0    0") && modes.contains("dr-xr-xr-x"), "{modes}");
    let report = run("xorriso", &["-indev", iso, "-toc", "-lsdl", "/", "--"]);
    assert!(!report.contains("FAILURE") && !report.contains("SORRY"), "{report}");
    // It ends with another status where it finds something to repair.
    run("fsck.fat", &["-n", "-v", fat]);
    assert!(run("mlabel", &["-s", "-i", fat, "::"]).contains("config-2"));
    let listed = run("mdir", &["-/", "-b", "-i", fat, "::/"]);
    assert!(listed.contains("::/openstack/2012-08-10/meta_data.json"), "{listed}");
}
