//! `cargo xtask setup --ansible`: what checks and applies the role of `deploy/ansible`, in `target/ansible`.
//!
//! ansible-core 2.19 is the last that runs on Debian 12's Python. Mitogen is for the test with a machine alone: where the processor is
//! emulated, it saves the start of a Python for each task.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{root, show_and_run, target_directory};
use crate::fetch::Collection;

/// Ansible, its linter, and what a machine needs to be reached and managed by it: an ssh server and apt's Python modules.
pub(crate) const ANSIBLE: Collection = Collection {
    name: "ansible",
    what: "Ansible, ansible-lint, Mitogen and an ssh server",
    debian: &["dropbear-bin", "libtomcrypt1", "libtommath1", "python3-apt"],
    pypi: &["ansible-core==2.19.14", "ansible-lint==26.10.1", "mitogen==0.3.54"],
    needed: &["openssh-client", "python3", "python3-venv"],
};

/// Checks the role, its playbook and its examples; what there is to check with is in `deploy/ansible/.ansible-lint`.
pub(crate) fn lint() -> Result<()> {
    let directory = target_directory().join(ANSIBLE.name);
    let programs = directory.join("venv/bin");
    let mut path = vec![programs.clone()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut lint = Command::new(programs.join("ansible-lint"));
    lint.current_dir(root().join("deploy/ansible")).arg("--nocolor").arg("--project-dir").arg(".");
    // Ansible wants a locale of UTF-8, and keeps what it makes in its home.
    lint.env("PATH", env::join_paths(path).context("the path of the programs")?).env("LC_ALL", "C.UTF-8");
    show_and_run(lint.env("ANSIBLE_HOME", directory.join("home")))
}
