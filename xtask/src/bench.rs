//! `cargo xtask bench`: the benchmark, built with optimisations and started.
//!
//! The work is done by the program `bench` of the package in `tests`, which has the lab at hand. Its command line is
//! described in one file that both compile, so help and wrong arguments are answered before anything is built.

#[path = "../../tests/bench/arguments.rs"]
#[allow(dead_code, reason = "the values are read by the program; here they are only checked")]
mod arguments;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::cloud::CLOUD;
use crate::command::{quiet_output, root, show};
use crate::controllers::CONTROLLERS;
use crate::openstack::OPENSTACK;
use crate::peers::PEERS;

/// Options of `bench`: everything is the program's.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Scenarios and options; `cargo xtask bench --help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Builds everything and becomes the benchmark. For `--help` and wrong arguments it ends at once, as clap does.
pub(crate) fn run(options: &Options) -> Result<()> {
    arguments::Arguments::parse_from([OsString::from("cargo xtask bench")].iter().chain(&options.words));
    let program = crate::build::measuring("bench")?;
    // The program knows what its scenarios take.
    let needs = quiet_output(Command::new(&program).args(&options.words).arg("--needs")).unwrap_or_default();
    for collection in [CLOUD, CONTROLLERS, OPENSTACK, PEERS] {
        if needs.lines().any(|name| name == collection.name) {
            collection.setup()?;
        }
    }
    let mut command = Command::new(program);
    command.current_dir(root()).args(&options.words);
    show(&command);
    Err(command.exec()).with_context(|| format!("starting {}", command.get_program().to_string_lossy()))
}
