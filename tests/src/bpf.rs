//! The kernel's BPF objects that belong to a node: maps pinned in its directory, and the programs and links that use them.
//!
//! They are found by bpftool, which lists those of the whole machine; what other labs have is left out, as it uses other maps.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;
use crate::node::Node;
use crate::wait;

/// Maps that the daemon pins.
const MAPS: [&str; 7] = ["PORTS", "TAGS", "NEIGHBOURS", "COUNTERS", "EVENTS", "META", "PASS"];

/// Asks bpftool, and returns its JSON. At an object that somebody is just making it fails with "temporarily unavailable", or because
/// an object of its list has gone meanwhile, and is asked again.
///
/// # Errors
/// If it fails otherwise.
pub fn bpftool(node: &Node, words: &[&str]) -> Result<Value> {
    let text = wait::until("bpftool answers", || {
        let mut bpftool = node.namespace().command("bpftool")?;
        match command::run(bpftool.arg("--json").args(words), "") {
            Err(error) if error.to_string().contains("temporarily unavailable") => Ok(None),
            answered => answered.map(Some),
        }
    })?;
    serde_json::from_str(&text).context("reading bpftool's JSON")
}

/// Returns the ids of the objects of a list.
#[must_use]
pub fn ids(list: &Value) -> Vec<u64> {
    list.as_array().into_iter().flatten().filter_map(|object| object["id"].as_u64()).collect()
}

/// Returns name and description of each pinned map.
///
/// # Errors
/// If bpftool fails.
pub fn pinned_maps(node: &Node) -> Result<Vec<(&'static str, Value)>> {
    let pins = MAPS.iter().map(|name| (*name, node.pins().join(name))).filter(|(_, pin)| pin.exists());
    pins.map(|(name, pin)| Ok((name, bpftool(node, &["map", "show", "pinned", text(&pin)?])?))).collect()
}

/// Returns how many entries a pinned map has.
///
/// # Errors
/// If bpftool fails.
pub fn entries(node: &Node, map: &str) -> Result<usize> {
    let dump = bpftool(node, &["map", "dump", "pinned", text(&node.pins().join(map))?])?;
    Ok(dump.as_array().map_or(0, Vec::len))
}

/// Returns the ids of the programs that use one of these maps.
///
/// # Errors
/// If bpftool fails.
pub fn programs_with(node: &Node, maps: &[u64]) -> Result<Vec<u64>> {
    let all = bpftool(node, &["prog", "show"])?;
    let uses = |program: &&Value| {
        let used = program["map_ids"].as_array().into_iter().flatten();
        used.filter_map(Value::as_u64).any(|id| maps.contains(&id))
    };
    Ok(all.as_array().into_iter().flatten().filter(uses).filter_map(|program| program["id"].as_u64()).collect())
}

/// Returns the ids of the links that hold one of these programs.
///
/// # Errors
/// If bpftool fails.
pub fn links_of(node: &Node, programs: &[u64]) -> Result<Vec<u64>> {
    let all = bpftool(node, &["link", "show"])?;
    let holds = |link: &&Value| link["prog_id"].as_u64().is_some_and(|id| programs.contains(&id));
    Ok(all.as_array().into_iter().flatten().filter(holds).filter_map(|link| link["id"].as_u64()).collect())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
