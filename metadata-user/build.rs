//! Puts the eBPF object where `dataplane/object.rs` embeds it from.
//!
//! `cargo xtask build` writes `target/ebpf/metadata.o`. Without it (a plain `cargo check` in a fresh clone, a machine
//! without the BPF toolchain) an empty object is embedded, which the loader refuses by name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    // Asked for when this runs: a tree may have moved since this was compiled.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let tree = package.parent().map(Path::to_path_buf).unwrap_or_default();
    let object = env::var_os("METADATA_EBPF_OBJECT").map_or_else(|| tree.join("target/ebpf/metadata.o"), PathBuf::from);
    println!("cargo::rerun-if-env-changed=METADATA_EBPF_OBJECT");
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_default();
    let copy = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("metadata.o");
    if let Err(error) = fs::write(&copy, bytes) {
        println!("cargo::error=writing {}: {error}", copy.display());
    }
}
