//! What `cargo xtask controller` starts: a controller between a simulated OpenStack, a real RabbitMQ and a real etcd, measured.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::controller::scale::{Plan, measure};

fn main() -> Result<()> {
    let mut plan = Plan {
        instances: 10_000,
        nodes: 200,
        changes: 1000,
        paced: 200,
        pace: 5,
        settles: true,
        quiet: Duration::from_secs(300),
        rate: 1000,
        requests: 32,
        list_interval: Duration::from_secs(300),
        cache: Duration::from_secs(1),
        delay: Duration::from_millis(5),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a number"))?;
        let number: u32 = value.parse().with_context(|| format!("{value} is not a number"))?;
        match word.as_str() {
            "--instances" => plan.instances = number,
            "--nodes" => plan.nodes = number,
            "--changes" => plan.changes = number,
            "--quiet" => plan.quiet = Duration::from_secs(number.into()),
            "--rate" => plan.rate = number,
            "--delay" => plan.delay = Duration::from_millis(number.into()),
            _ => bail!("{word} is not known; use --instances, --nodes, --changes, --quiet, --rate or --delay"),
        }
    }
    let load = std::fs::read_to_string("/proc/loadavg").context("reading the load")?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, load before: {}", load.trim());
    print!("{}", measure(&plan)?);
    Ok(())
}
