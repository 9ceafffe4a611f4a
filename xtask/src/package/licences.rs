//! The licences of the crates that the daemon is linked with: what these ask for is their text beside the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{cargo, quiet_output};

/// How files with such texts begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"];

/// Returns name, version, licence and texts of each crate.
pub(super) fn texts() -> Result<String> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let printed = quiet_output(&mut command).context("cargo metadata failed")?;
    let metadata: Value = serde_json::from_str(&printed).context("reading what cargo metadata prints")?;
    let wanted = linked(&metadata)?;
    let mut out = String::from("Crates that metadatad is linked with, and their licences.\n");
    for package in list(&metadata, "packages")? {
        // Those without a source are the workspace's own.
        if !wanted.contains(text(package, "id")) || package["source"].is_null() {
            continue;
        }
        let (name, version, licence) = (text(package, "name"), text(package, "version"), text(package, "license"));
        writeln!(out, "\n{0}\n{name} {version}: {licence}\n{0}", "=".repeat(80))?;
        let manifest = Path::new(text(package, "manifest_path"));
        let directory = manifest.parent().context("a manifest without a directory")?;
        let mut files: Vec<_> = fs::read_dir(directory)
            .with_context(|| format!("reading {}", directory.display()))?
            .flatten()
            .filter(|file| {
                let name = file.file_name().to_string_lossy().to_uppercase();
                NAMES.iter().any(|begin| name.starts_with(begin)) && file.path().is_file()
            })
            .map(|file| file.path())
            .collect();
        files.sort();
        for file in files {
            let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            writeln!(out, "\n{}", String::from_utf8_lossy(&bytes).trim_end())?;
        }
    }
    Ok(out)
}

/// Returns the ids of the packages that the daemon depends on, at run time and not for its build or tests.
fn linked(metadata: &Value) -> Result<BTreeSet<&str>> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes")?.iter().map(|node| (text(node, "id"), node)).collect();
    let daemon = list(metadata, "packages")?.iter().find(|package| text(package, "name") == "metadata-user");
    let mut next = vec![text(daemon.context("no package metadata-user")?, "id")];
    let mut found = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !found.insert(id) {
            continue;
        }
        let Some(node) = nodes.get(id) else { bail!("{id} is not resolved") };
        for dependency in list(node, "deps")? {
            let is_normal = list(dependency, "dep_kinds")?.iter().any(|kind| kind["kind"].is_null());
            if is_normal {
                next.push(text(dependency, "pkg"));
            }
        }
    }
    Ok(found)
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name].as_array().with_context(|| format!("cargo metadata prints no {name}"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
