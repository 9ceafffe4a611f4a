//! `cargo xtask golden`: turns a facts file into a document and the cloud-wide settings that go with it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use lab::golden::Golden;
use serde_json::json;

const USAGE: &str = "usage: golden FACTS.json [--out DIR]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (facts, out) = match arguments.as_slice() {
        [facts] => (PathBuf::from(facts), None),
        [facts, option, out] if option == "--out" => (PathBuf::from(facts), Some(PathBuf::from(out))),
        _ => bail!(USAGE),
    };
    let text = fs::read(&facts).with_context(|| format!("reading {}", facts.display()))?;
    let golden = Golden::from_facts(&text).with_context(|| format!("converting {}", facts.display()))?;
    let cloud = &golden.cloud;
    let Some(out) = out else {
        let targets: Vec<&str> = cloud.vendordata_dynamic_targets.iter().map(|target| &*target.target).collect();
        let settings = json!({
            "dhcp_domain": cloud.dhcp_domain,
            "vendordata_providers": cloud.vendordata_providers,
            "vendordata_static": cloud.vendordata_static,
            "vendordata_dynamic_targets": targets,
        });
        println!("{:#}", json!({"document": golden.document, "cloud": settings}));
        return Ok(());
    };
    // The documents have a directory of their own, since the directory source reads every file in it.
    let uuid = golden.document["uuid"].as_str().unwrap_or_default();
    let document = out.join("instances").join(format!("{uuid}.json"));
    let vendordata = out.join("vendor_data.json");
    fs::create_dir_all(out.join("instances")).with_context(|| format!("making {}", out.display()))?;
    let vendordata_path = std::path::absolute(&vendordata).unwrap_or_else(|_| vendordata.clone());
    let mut files = vec![
        (document, format!("{:#}\n", golden.document)),
        (out.join("cloud.toml"), golden.cloud_toml(&vendordata_path.to_string_lossy())),
    ];
    if let Some(value) = &cloud.vendordata_static {
        files.push((vendordata, format!("{value:#}\n")));
    }
    for (path, text) in files {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
