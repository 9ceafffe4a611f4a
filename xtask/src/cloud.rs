//! `cargo xtask setup --cloud`: a real OpenStack control plane that `tests/controllers` runs, in `target/cloud`.

use crate::fetch::Collection;

/// RabbitMQ, and OpenStack's programs of one release (2026.2).
pub(crate) const CLOUD: Collection = Collection {
    name: "cloud",
    what: "RabbitMQ, Keystone, Placement, Nova, Neutron and the client of OpenStack",
    debian: DEBIAN,
    pypi: PYPI,
    needed: NEEDED,
};

/// RabbitMQ, and of Erlang what it depends on.
const DEBIAN: &[&str] = &[
    "erlang-asn1",
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
    "rabbitmq-server",
];
/// Nova as among the controllers, Neutron as in the collection `openstack`.
const PYPI: &[&str] = &[
    "keystone==30.0.0",
    "neutron==29.0.0",
    "nova==34.0.0",
    "openstack-placement==16.0.0",
    "python-openstackclient==10.5.0",
    "uwsgi==2.0.31",
];
/// uWSGI is compiled.
const NEEDED: &[&str] = &["python3", "python3-venv", "python3-dev", "gcc", "libc6-dev"];
