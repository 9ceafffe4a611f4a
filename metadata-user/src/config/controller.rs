//! The controller's configuration: which OpenStack it reads, which etcd it writes, and at what rate.
//!
//! Promises: as the daemon's ([`super::Config`]): what is not possible is refused with place and remedy. Tables that both have are
//! read by the same code.

mod keystone;
mod leadership;
mod openstack;
mod rabbitmq;
mod reconcile;

use std::path::Path;

use toml::de::DeTable;

pub use keystone::{Credential, Interface, Keystone};
pub use rabbitmq::RabbitMq;
pub use reconcile::Reconcile;

use super::etcd::Etcd;
use super::key::Table;
use super::nova::Nova;
use super::refusal::Refusal;
use super::target::TargetUrl;
use super::written::{self, Reader};
use super::{Admin, Cloud, ConfigError, Log, Metrics, admin, cloud, etcd, log, metrics, nova, text};

/// Where the controller's configuration is read from without `--config`.
pub const CONTROLLER_PATH: &str = "/etc/metadatad/controller.toml";

/// The admin socket that a controller has unless its configuration names another.
pub const DEFAULT_SOCKET: &str = "/run/metadatad-controller/admin.sock";

/// What `metadatad schema` calls the example.
const EXAMPLE: &str = "controller-example";

/// Everything that an operator may set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// This controller's name in the election.
    pub name: String,
    /// How long a leader that is silent stays the leader.
    pub lease: std::time::Duration,
    /// `[etcd]`: the cluster that is written. Its `node` is empty.
    pub etcd: Etcd,
    /// `[keystone]`: how to authenticate.
    pub keystone: Keystone,
    /// `[nova]`: Nova's API; `None`: as the catalogue says.
    pub nova: Option<TargetUrl>,
    /// `[metadata_api]`: Nova's metadata API. Its intervals are unused.
    pub metadata: Nova,
    /// Endpoints of each cell that has a metadata API of its own; none: [`Nova::endpoints`] answer for all.
    pub metadata_cells: Vec<Vec<TargetUrl>>,
    /// `[neutron]`: Neutron's API; `None`: as the catalogue says.
    pub neutron: Option<TargetUrl>,
    /// `[rabbitmq]`: where notifications come from; `None`: changes are found by the reconcile alone.
    pub rabbitmq: Option<RabbitMq>,
    /// `[reconcile]`: how everything is compared, at what rate.
    pub reconcile: Reconcile,
    /// `[cloud]`: what all instances have in common, as the nodes have it.
    pub cloud: Cloud,
    /// `[metrics]`: metrics over TCP; `None`: they are not.
    pub metrics: Option<Metrics>,
    /// `[admin]`: the socket that the command line talks to.
    pub admin: Admin,
    /// `[log]`: what is logged and how.
    pub log: Log,
}

/// All tables, in the order in which they are shown.
pub(super) static TABLES: &[&Table] = &[
    &leadership::TABLE,
    &etcd::CONTROLLER_TABLE,
    &keystone::TABLE,
    &openstack::NOVA_TABLE,
    &nova::CONTROLLER_TABLE,
    &openstack::NEUTRON_TABLE,
    &rabbitmq::TABLE,
    &reconcile::TABLE,
    &cloud::TABLE,
    &metrics::TABLE,
    &admin::CONTROLLER_TABLE,
    &log::TABLE,
];

impl Controller {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or holds what [`Controller::parse`] refuses.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text::read(path, EXAMPLE)?)
    }

    /// Checks a configuration that is already read. `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] for TOML that is malformed, and for keys and values that are not possible.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        text::parsed(path, text, EXAMPLE, Self::read)
    }

    /// Describes settings that are accepted, and probably not what is wanted.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.etcd.warnings().into_iter().chain(self.keystone.warnings()).chain(self.cloud.warnings()).collect()
    }

    fn read(document: &DeTable<'_>) -> Result<Self, Refusal> {
        written::only_tables(document, TABLES)?;
        let open = |table| Reader::open(document, table);
        let (name, lease) = leadership::read(&open(&leadership::TABLE)?)?;
        let reconcile = reconcile::read(&open(&reconcile::TABLE)?)?;
        let (metadata, metadata_cells) =
            nova::read_for_controller(&open(&nova::CONTROLLER_TABLE)?, reconcile.requests)?;
        Ok(Self {
            name,
            lease,
            etcd: etcd::read_for_controller(&open(&etcd::CONTROLLER_TABLE)?)?,
            keystone: keystone::read(&open(&keystone::TABLE)?)?,
            nova: openstack::read_nova(&open(&openstack::NOVA_TABLE)?)?,
            metadata,
            metadata_cells,
            neutron: openstack::read_neutron(&open(&openstack::NEUTRON_TABLE)?)?,
            rabbitmq: rabbitmq::read(&open(&rabbitmq::TABLE)?)?,
            reconcile,
            cloud: cloud::read(&open(&cloud::TABLE)?)?,
            metrics: metrics::read(&open(&metrics::TABLE)?)?,
            admin: admin::read_for_controller(&open(&admin::CONTROLLER_TABLE)?)?,
            log: log::read(&open(&log::TABLE)?)?,
        })
    }
}

#[cfg(test)]
mod tests;
