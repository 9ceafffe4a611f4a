//! `cargo xtask controller`: the controller between a simulated OpenStack, a real RabbitMQ and a real etcd, measured.
//!
//! The work is done by the program `controller` of the package in `tests`, in a release build, with the daemon's beside it.

use std::process::Command;

use anyhow::Result;

use crate::command::show_and_run;

/// Options of `controller`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Instances of the simulated OpenStack
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    instances: u32,
    /// Compute hosts, over which they are spread
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    nodes: u32,
    /// Instances that change at once
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    changes: u32,
    /// Seconds in which nothing changes
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    quiet: u32,
    /// The controller's `reconcile.requests_per_second`
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Milliseconds that each request takes in OpenStack
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    delay: u32,
}

/// Fetches etcd and RabbitMQ, builds and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = crate::build::measuring("controller")?;
    crate::cloud::CLOUD.setup()?;
    crate::controllers::CONTROLLERS.setup()?;
    let mut command = Command::new(program);
    for (name, number) in [
        ("--instances", options.instances),
        ("--nodes", options.nodes),
        ("--changes", options.changes),
        ("--quiet", options.quiet),
        ("--rate", options.rate),
        ("--delay", options.delay),
    ] {
        command.args([name, &number.to_string()]);
    }
    show_and_run(&mut command)
}
