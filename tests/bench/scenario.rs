//! What can be measured.

mod boot_storm;
mod bystander;
mod controller;
mod hostile;
mod intercept;
mod memory;
mod peers;
mod scale;
mod sync;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::Effort;
use crate::arguments::Scenario;
use crate::result::Run;

impl Scenario {
    /// Returns those that were named, or all.
    pub(crate) fn chosen(named: &[Self]) -> &[Self] {
        if named.is_empty() { Self::value_variants() } else { named }
    }

    /// Returns the scenario of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|scenario| scenario.name() == name)
    }

    /// Returns its name, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Intercept => "intercept",
            Self::Peers => "peers",
            Self::Bystander => "bystander",
            Self::BootStorm => "boot-storm",
            Self::Scale => "scale",
            Self::Memory => "memory",
            Self::Sync => "sync",
            Self::Controller => "controller",
            Self::Hostile => "hostile",
        }
    }

    /// Says what it measures.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Intercept => {
                "requests through a tap and the programs, against the same daemon over a plain veth pair"
            }
            Self::Peers => "the same requests of the same guest, answered by what an operator would take instead",
            Self::Bystander => "traffic that is none of ours, with the program on its way and without",
            Self::BootStorm => "guests that all send cloud-init's requests at once, each on a connection of its own",
            Self::Scale => "start, memory and answers with more and more ports and instances",
            Self::Memory => "what an instance and an idle port take, of the daemon's memory and of the kernel's",
            Self::Hostile => "what one guest sees while another attacks the service",
            Self::Sync => "from a change in a directory, in etcd, in Nova, to the guest that reads it",
            Self::Controller => {
                "from a property that is set by Nova's API, through the controller, to the guest that reads it"
            }
        }
    }

    /// Returns the collections of `cargo xtask setup` that it takes.
    pub(crate) fn needs(self, effort: Effort) -> &'static [&'static str] {
        match self {
            Self::Sync | Self::Memory => &["controllers"],
            Self::Controller => &["cloud", "controllers"],
            Self::Peers if effort.with_openstack => &["controllers", "openstack", "peers"],
            Self::Peers => &["peers"],
            _ => &[],
        }
    }

    /// Returns about how long it takes, for whoever waits.
    pub(crate) fn expected(self, effort: Effort) -> Duration {
        match self {
            Self::Intercept => effort.lasts(32),
            Self::Peers if effort.with_openstack => Duration::from_secs(35) + effort.lasts(21),
            Self::Peers => Duration::from_secs(6) + effort.lasts(15),
            Self::Bystander => Duration::from_secs(10) + effort.lasts(9),
            Self::Scale => Duration::from_secs(80) + effort.lasts(1),
            Self::Memory => Duration::from_secs(90),
            Self::Sync => Duration::from_secs(35) + Duration::from_secs(15) * effort.pairs,
            Self::Controller => Duration::from_secs(90) + Duration::from_secs(50) * effort.pairs,
            Self::Hostile => Duration::from_secs(15) + effort.lasts(37),
            Self::BootStorm => Duration::from_secs(75),
        }
    }

    /// Measures it, and adds the cases to the run as they are done.
    pub(crate) fn run(self, effort: Effort, run: &mut Run) -> Result<()> {
        match self {
            Self::Intercept => intercept::run(effort, run),
            Self::Peers => peers::run(effort, run),
            Self::Bystander => bystander::run(effort, run),
            Self::BootStorm => boot_storm::run(run),
            Self::Scale => scale::run(effort, run),
            Self::Memory => memory::run(run),
            Self::Sync => sync::run(effort, run),
            Self::Controller => controller::run(effort, run),
            Self::Hostile => hostile::run(effort, run),
        }
    }
}
