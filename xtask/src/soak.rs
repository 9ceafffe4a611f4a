//! `cargo xtask soak`: runs a node through everything that changes it, and checks that it returns to where it was.
//!
//! The work is done by the program `soak` of the package in `tests`, with the daemon as tests have it, without optimisations.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{show, target_directory};

/// Options of `soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Minutes that it lasts, about; with fewer than ten, the history of boots may not get full before memory is compared
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,
}

/// Fetches etcd, builds, and becomes the soak, so that Ctrl-C reaches it alone.
pub(crate) fn run(options: &Options) -> Result<()> {
    crate::build::run(&crate::build::Options::default())?;
    crate::controllers::CONTROLLERS.setup()?;
    let mut command = Command::new(target_directory().join("debug/soak"));
    command.args(["--minutes", &options.minutes.to_string()]);
    show(&command);
    Err(command.exec()).with_context(|| format!("starting {}", command.get_program().to_string_lossy()))
}
