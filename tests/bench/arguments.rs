//! What `cargo xtask bench` takes on its command line.
//!
//! `xtask` compiles this file too: it prints the help and refuses wrong arguments before it builds anything. So nothing
//! here may need more than clap.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", about = "Measures metadatad against what it is compared with, in turns")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,

    #[command(flatten)]
    pub(crate) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what changed between two results, beyond their noise
    Compare {
        /// The earlier result
        before: PathBuf,
        /// The later one
        after: PathBuf,
    },
    /// Make a result the committed one: tests/bench/results, and the figures in README.md
    Publish {
        /// The result
        result: PathBuf,
    },
    /// Write the page and the plots of a result anew
    Page {
        /// The result
        result: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// Scenarios, in this order; all of them if none is named
    #[arg(value_enum)]
    pub(crate) scenarios: Vec<Scenario>,
    /// Seconds of each slice of a pair
    #[arg(long, default_value_t = 1.0, value_parser = slice)]
    pub(crate) slice: f64,
    /// Pairs of slices for each comparison
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pairs: u32,
    /// Compare also with OpenStack's own chain: haproxy, neutron-metadata-agent and Nova (fetches Neutron: a minute or two)
    #[arg(long)]
    pub(crate) with_openstack: bool,
    /// Publish the result at the end, if everything was measured: see `publish`
    #[arg(long)]
    pub(crate) publish: bool,
    /// Print which collections of `cargo xtask setup` this would take, and end
    #[arg(long, hide = true)]
    pub(crate) needs: bool,
    /// Directory of results
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

fn slice(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.05..=60.0).contains(&seconds) { Ok(seconds) } else { Err("use 0.05 to 60 seconds".to_owned()) }
}

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Requests through a tap and the programs, against the same daemon over a plain veth pair
    Intercept,
    /// The same requests, answered by what an operator would take instead
    Peers,
    /// Traffic that is none of ours, with the program on its way and without
    Bystander,
    /// Many guests booting at once
    BootStorm,
    /// How it grows with ports and instances
    Scale,
    /// What an instance and an idle port take, of the daemon's memory and of the kernel's
    Memory,
    /// How soon a guest sees a change, for each source
    Sync,
    /// How soon a guest sees a property that is set by Nova's API, through the controller
    Controller,
    /// What one guest sees while another attacks the service
    Hostile,
}
