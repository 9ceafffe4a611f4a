//! `cargo xtask setup --vm`: what `tests/vm` runs, in `target/vm`.

use anyhow::Result;

use crate::command::target_directory;

/// Fetches what is not there yet.
pub(crate) fn setup() -> Result<()> {
    crate::image::setup(&target_directory().join("vm"))
}
