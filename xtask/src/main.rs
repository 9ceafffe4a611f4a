//! `cargo xtask`: metadatad's set-up, build, test and demo commands.
//!
//! Promises: a verb per file; every command that is run is shown before it runs; `build`, `test`, `demo` and `run` do
//! what `setup` does first, so that a fresh clone needs no other step; `--help` of every verb is printed before anything
//! is built.

mod ansible;
mod apt;
mod bench;
mod build;
mod clients;
mod cloud;
mod command;
mod controller;
mod controllers;
mod demo;
mod fetch;
mod fleet;
mod fuzz;
mod golden;
mod haproxy;
mod image;
mod openstack;
mod package;
mod peers;
mod prometheus;
mod schema;
mod setup;
mod soak;
mod supply;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "metadatad's set-up, build, test and demo commands")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or install what building, the demo and the tests need
    Setup(setup::Options),
    /// Build the eBPF object, then the daemon
    Build(build::Options),
    /// Run the tests: all of them, or the named groups
    Test(test::Options),
    /// Measure what this costs and saves, as ratios of two things in turns
    Bench(bench::Options),
    /// Show two guests with the same MAC and the same IPv4 address, each reading its own metadata
    Demo(demo::DemoOptions),
    /// Run the daemon in the foreground in a node namespace with two guests, until Ctrl-C
    Run(demo::RunOptions),
    /// Measure a simulated fleet of nodes on one real etcd, in a release build; takes some minutes
    Fleet(fleet::Options),
    /// Measure the controller between a simulated OpenStack, a real RabbitMQ and a real etcd, in a release build; takes some minutes
    Controller(controller::Options),
    /// Run a node through ports, changes, outages, faults and restarts for half an hour, and check that memory, open files, maps, links and
    /// namespaces return to where they were
    Soak(soak::Options),
    /// Run the fuzzers of tests/fuzz from their corpora
    Fuzz(fuzz::Options),
    /// Turn captured facts of an instance into a document and the cloud-wide settings that go with it
    Golden(golden::Options),
    /// Write what is published of documents, configuration and metrics anew: schemas, example, references
    Schema,
    /// Check imports, file headers, sizes and the module graph; takes a second
    Tidy,
    /// Check licences, banned and doubled crates, sources, and advisories where there is a copy of them
    Deny(supply::DenyOptions),
    /// Build a release as a .deb and an .rpm: the daemon with what it is made of inside, and as a CycloneDX document
    Package,
    /// Write docs/modules.md anew: which module uses which
    Graph,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Setup(options) => {
            let wanted = [
                (options.ansible, ansible::ANSIBLE),
                (options.controllers || options.cloud, cloud::CLOUD),
                (options.controllers, controllers::CONTROLLERS),
                (options.haproxy, haproxy::HAPROXY),
                (options.openstack, openstack::OPENSTACK),
                (options.peers, peers::PEERS),
                (options.prometheus, prometheus::PROMETHEUS),
            ];
            let fetched = wanted.iter().filter(|(asked, _)| *asked).try_for_each(|(_, collection)| collection.setup());
            let fetched = fetched.and_then(|()| if options.clients { clients::setup() } else { Ok(()) });
            let fetched = fetched.and_then(|()| if options.vm { vm::setup() } else { Ok(()) });
            fetched.and_then(|()| setup::run(true))
        }
        Verb::Build(options) => build::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Demo(options) => demo::demo(&options),
        Verb::Run(options) => demo::run(&options),
        Verb::Fleet(options) => fleet::run(&options),
        Verb::Controller(options) => controller::run(&options),
        Verb::Soak(options) => soak::run(&options),
        Verb::Fuzz(options) => setup::run(false).and_then(|()| fuzz::run(&options)),
        Verb::Golden(options) => golden::run(&options),
        Verb::Schema => schema::run(),
        Verb::Tidy => tidy::run(),
        Verb::Deny(options) => supply::deny(&options),
        Verb::Package => package::run(),
        Verb::Graph => tidy::write_graph(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent_and_every_verb_is_described() {
        let mut command = Arguments::command();
        command.build();
        command.clone().debug_assert();
        for verb in command.get_subcommands() {
            assert!(verb.get_about().is_some(), "{} has no description", verb.get_name());
        }
    }
}
