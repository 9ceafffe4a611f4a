//! `cargo xtask setup --openstack`: what a compute node runs today to answer guests, in `target/openstack`.
//!
//! Nova's side is among the controllers. Only `cargo xtask bench peers --with-openstack` runs it.

use crate::fetch::Collection;

/// Neutron's metadata agent, and what stands in front of it.
pub(crate) const OPENSTACK: Collection = Collection {
    name: "openstack",
    what: "haproxy and Neutron's metadata agent",
    debian: DEBIAN,
    pypi: PYPI,
    needed: NEEDED,
};

/// haproxy, and the libraries that a usual system may lack.
const DEBIAN: &[&str] = &["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"];
/// The agent: the release of the same OpenStack as the controllers' Nova (2026.1).
const PYPI: &[&str] = &["neutron==29.0.0"];
const NEEDED: &[&str] = &["python3", "python3-venv", "python3-dev", "gcc", "libc6-dev"];
