//! The benchmark: what this costs and what it saves, as ratios of two things measured in turns on one machine.
//!
//! `cargo xtask bench` builds everything with optimisations and starts this. Promises: every scenario makes its own
//! namespaces and takes them away, sends load nowhere else, and is bounded in time; a claim is a ratio of two things that
//! ran alternately, with the spread of its pairs; absolute figures stand beside it with the machine they are from.

mod arguments;
mod compare;
mod highlights;
mod load;
mod machine;
mod page;
mod plot;
mod progress;
mod publish;
mod result;
mod scenario;
mod stats;
mod table;
mod usage;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;

use arguments::{Arguments, RunArguments, Scenario, Verb};
use result::Run;

/// How long and how often things are measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    slice: Duration,
    pairs: u32,
    with_openstack: bool,
}

impl Effort {
    /// Counts the pairs of a case, and shows how far it is.
    fn turns(self, case: &str) -> impl Iterator<Item = u32> {
        (0..self.pairs).inspect(move |pair| progress::step(case, *pair, self.pairs))
    }

    /// Returns how long this many comparisons take.
    fn lasts(self, comparisons: u32) -> Duration {
        self.slice * 2 * self.pairs * comparisons
    }
}

fn main() -> ExitCode {
    match work(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: Arguments) -> Result<()> {
    match arguments.verb {
        Some(Verb::Compare { before, after }) => {
            print!("{}", compare::text(&Run::read(&before)?, &Run::read(&after)?));
            Ok(())
        }
        Some(Verb::Publish { result }) => publish::publish(&Run::read(&result)?),
        Some(Verb::Page { result }) => {
            let run = Run::read(&result)?;
            page::write(&run, &result.with_extension(""))
        }
        None => measure(&arguments.run),
    }
}

fn measure(arguments: &RunArguments) -> Result<()> {
    let effort = Effort {
        slice: Duration::from_secs_f64(arguments.slice),
        pairs: arguments.pairs,
        with_openstack: arguments.with_openstack,
    };
    let chosen = Scenario::chosen(&arguments.scenarios);
    if arguments.needs {
        let needs: BTreeSet<_> = chosen.iter().flat_map(|scenario| scenario.needs(effort)).collect();
        needs.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let begun = Instant::now();
    let mut run = Run::begin(effort)?;
    eprint!("{}", run.machine);
    let expected = |scenarios: &[Scenario]| scenarios.iter().map(|scenario| scenario.expected(effort)).sum();
    eprintln!("scenarios: {}; about {} min", chosen.len(), progress::clock(expected(chosen)));
    let mut failed = Vec::new();
    for (place, scenario) in chosen.iter().enumerate() {
        eprintln!("== {}: {}", scenario.name(), scenario.about());
        progress::scenario(scenario.name(), scenario.expected(effort), expected(&chosen[place + 1..]));
        let before = run.cases.len();
        let outcome = scenario.run(effort, &mut run);
        progress::clear();
        if let Err(error) = outcome {
            run.skip(scenario.name(), "the rest of it", &format!("it failed: {error:#}"));
            failed.push(scenario.name());
        }
        println!("\n{}", page::tables(&run.cases[before..]));
    }
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("making {}", arguments.out.display()))?;
    let file = arguments.out.join(format!("{}.json", run.name));
    run.took = begun.elapsed().as_secs_f64();
    run.write(&file)?;
    page::write(&run, &file.with_extension(""))?;
    eprintln!("written: {} and {}", file.display(), file.with_extension("md").display());
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    if arguments.publish {
        publish::publish(&run)?;
    }
    Ok(())
}
