//! What `cargo xtask soak` starts: a node to which everything happens for so many minutes, and which must be as before.

use anyhow::{Context as _, Result, bail};
use lab::soak::{Plan, run};

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let minutes = match &words[..] {
        [] => 30,
        [option, minutes] if option == "--minutes" => minutes.parse().context("reading the number of minutes")?,
        _ => bail!("use --minutes N"),
    };
    let load = std::fs::read_to_string("/proc/loadavg").context("reading the load")?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, load before: {}", load.trim());
    let report = run(&Plan::minutes(minutes), |line| println!("{line}"))?;
    print!("{report}");
    Ok(())
}
