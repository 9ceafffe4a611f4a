//! `cargo xtask setup --clients`: the real clients that `tests/clients` runs, in `target/clients`.

use crate::fetch::Collection;

/// The clients.
pub(crate) const CLIENTS: Collection = Collection {
    name: "clients",
    what: "cloud-init, cloudbase-init, botocore and ec2-metadata",
    debian: DEBIAN,
    pypi: PYPI,
    needed: NEEDED,
};

/// cloud-init, and the modules that it imports: all they need beside the distribution's Python.
const DEBIAN: &[&str] = &[
    "cloud-init",
    "python3-attr",
    "python3-certifi",
    "python3-chardet",
    "python3-charset-normalizer",
    "python3-configobj",
    "python3-idna",
    "python3-jinja2",
    "python3-json-pointer",
    "python3-jsonpatch",
    "python3-jsonschema",
    "python3-markupsafe",
    "python3-netifaces",
    "python3-oauthlib",
    "python3-pyrsistent",
    "python3-requests",
    "python3-serial",
    "python3-six",
    "python3-urllib3",
    "python3-yaml",
];
const PYPI: &[&str] = &["botocore==1.44.5", "cloudbase-init==1.1.9", "ec2-metadata==3.0.0"];
/// Packages that fetching and running them takes.
const NEEDED: &[&str] = &["python3", "python3-venv"];
