//! `cargo xtask setup --haproxy`: the haproxy that Neutron's metadata agents run, which `tests/controllers` lets guests move away from
//! and back to, in `target/haproxy`.

use crate::fetch::Collection;

/// haproxy.
pub(crate) const HAPROXY: Collection =
    Collection { name: "haproxy", what: "haproxy", debian: PACKAGES, pypi: &[], needed: &[] };

/// haproxy, and the libraries that a usual system may lack.
pub(crate) const PACKAGES: &[&str] = &["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"];
