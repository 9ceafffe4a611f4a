//! `cargo xtask setup --openstack`: what a compute node runs today to answer guests, in `target/openstack`.
//!
//! Nova's side is among the controllers. Only `cargo xtask bench peers --with-openstack` runs it.

use crate::fetch::Collection;
use crate::haproxy;

/// Neutron's metadata agent, and what stands in front of it.
pub(crate) const OPENSTACK: Collection = Collection {
    name: "openstack",
    what: "haproxy and Neutron's metadata agent",
    debian: haproxy::PACKAGES,
    pypi: PYPI,
    needed: NEEDED,
};

/// The agent: the release of the same OpenStack as the controllers' Nova (2026.1).
const PYPI: &[&str] = &["neutron==29.0.0"];
const NEEDED: &[&str] = &["python3", "python3-venv", "python3-dev", "gcc", "libc6-dev"];
