//! `peers`: what an operator would take instead, asked the same by the same guest.

mod nginx;
mod openstack;
mod rival;

use anyhow::Result;

use crate::Effort;
use crate::result::Run;

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    nginx::run(effort, run)?;
    if !effort.with_openstack {
        run.skip("peers", "OpenStack's chain", "it was not asked for: --with-openstack");
        return Ok(());
    }
    openstack::run(effort, run)
}
