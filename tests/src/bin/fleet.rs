//! What `cargo xtask fleet` starts: a simulated fleet on one real etcd, measured.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::fleet::{Plan, measure};

fn main() -> Result<()> {
    let mut plan =
        Plan { nodes: 1000, instances: 50, changes: 1000, rate: 200, down: Duration::from_secs(10), threads: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a number"))?;
        let number: usize = value.parse().with_context(|| format!("{value} is not a number"))?;
        match word.as_str() {
            "--nodes" => plan.nodes = number,
            "--instances" => plan.instances = number,
            "--changes" => plan.changes = number,
            _ => bail!("{word} is not known; use --nodes, --instances or --changes"),
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").context("reading the load")?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, load before: {}", load.trim());
    print!("{}", measure(&plan)?);
    Ok(())
}
