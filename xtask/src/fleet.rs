//! `cargo xtask fleet`: a simulated fleet of nodes on one real etcd, measured.
//!
//! The work is done by the program `fleet` of the package in `tests`, in a release build.

use std::process::Command;

use anyhow::Result;

use crate::command::show_and_run;

/// Options of `fleet`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Nodes, each with a connection and a watch of its own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    nodes: u32,
    /// Instances of each node, with about 3 KB each
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    instances: u32,
    /// Changes to measure
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    changes: u32,
}

/// Fetches etcd, builds and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = crate::build::measuring("fleet")?;
    crate::controllers::CONTROLLERS.setup()?;
    let mut command = Command::new(program);
    for (name, number) in
        [("--nodes", options.nodes), ("--instances", options.instances), ("--changes", options.changes)]
    {
        command.args([name, &number.to_string()]);
    }
    show_and_run(&mut command)
}
