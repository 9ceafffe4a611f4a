//! `cargo xtask demo` and `cargo xtask run`: the lab's demonstration, built and started.
//!
//! The work is done by the program `demo` of the package in `tests`, which has the lab at hand.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{show, target_directory};

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// What is shown
    #[arg(value_enum, default_value_t = Demo::Guests)]
    demo: Demo,

    /// Leave everything running at the end, and print how to enter each namespace; the demo of OpenStack ends when Enter is pressed
    #[arg(long)]
    keep: bool,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Demo {
    /// Two guests with the same address, each reading its own metadata
    Guests,
    /// A real OpenStack, the controller, and a guest that reads what is changed there; it fetches 500 MB of programs first
    Openstack,
}

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunOptions {
    /// Seconds to run; without it, until Ctrl-C
    #[arg(long)]
    seconds: Option<u32>,
}

/// Builds everything and shows it.
pub(crate) fn demo(options: &DemoOptions) -> Result<()> {
    let mut command = match options.demo {
        Demo::Guests => program("demo")?,
        Demo::Openstack => {
            crate::controllers::CONTROLLERS.setup()?;
            crate::cloud::CLOUD.setup()?;
            program("demo_openstack")?
        }
    };
    if options.keep {
        command.arg("--keep");
    }
    replace(command)
}

/// Builds everything and runs the daemon for two guests.
pub(crate) fn run(options: &RunOptions) -> Result<()> {
    let mut command = program("demo")?;
    command.arg("--foreground");
    if let Some(seconds) = options.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    replace(command)
}

fn program(name: &str) -> Result<Command> {
    crate::build::run(&crate::build::Options::default())?;
    Ok(Command::new(target_directory().join("debug").join(name)))
}

/// Becomes the command, so that Ctrl-C reaches it alone and it can clean up.
fn replace(mut command: Command) -> Result<()> {
    show(&command);
    Err(command.exec()).with_context(|| format!("starting {}", command.get_program().to_string_lossy()))
}
