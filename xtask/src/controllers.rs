//! `cargo xtask setup --controllers`: the real controllers that `tests/controllers` runs, in `target/controllers`.

use crate::fetch::Collection;

/// The controllers.
pub(crate) const CONTROLLERS: Collection = Collection {
    name: "controllers",
    what: "etcd, ovsdb-server and Nova's metadata API",
    debian: DEBIAN,
    pypi: PYPI,
    needed: NEEDED,
};

/// etcd and its client, Open vSwitch's database, and the libraries that a usual system may lack.
const DEBIAN: &[&str] = &[
    "etcd-client",
    "etcd-server",
    "libbpf1",
    "libcap-ng0",
    "libelf1",
    "libevent-2.1-7",
    "libnuma1",
    "libunbound8",
    "libxdp1",
    "openvswitch-common",
    "openvswitch-switch",
];
/// Nova's own metadata application, and a server that runs it.
const PYPI: &[&str] = &["nova==34.0.0", "uwsgi==2.0.31"];
/// uWSGI is compiled.
const NEEDED: &[&str] = &["python3", "python3-venv", "python3-dev", "gcc", "libc6-dev"];
