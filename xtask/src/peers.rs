//! `cargo xtask setup --peers`: what an operator would take instead of the daemon, in `target/peers`.
//!
//! Only `cargo xtask bench peers` runs it.

use crate::fetch::Collection;

/// nginx and nftables.
pub(crate) const PEERS: Collection =
    Collection { name: "peers", what: "nginx and nftables", debian: DEBIAN, pypi: &[], needed: &[] };

/// nginx, nftables, and the libraries that a usual system may lack.
const DEBIAN: &[&str] = &[
    "libedit2",
    "libgmp10",
    "libjansson4",
    "libmnl0",
    "libnftables1",
    "libnftnl11",
    "libpcre2-8-0",
    "libxtables12",
    "nftables",
    "nginx",
];
