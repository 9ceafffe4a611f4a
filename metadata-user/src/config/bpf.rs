//! `[bpf]`: where the programs are pinned, and how they are attached.

use std::path::PathBuf;

use super::key::{Key, Table};
use super::kind::{AbsolutePath, Choice};
use super::refusal::Refusal;
use super::written::Reader;

/// `[bpf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpf {
    /// Directory of the bpf file system in which maps and links are pinned.
    pub pin_dir: PathBuf,
    /// How programs are attached to interfaces.
    pub attach: AttachMode,
}

/// How the operator wants programs attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// tcx where the kernel has it (Linux 6.6), else clsact.
    #[default]
    Auto,
    /// tcx or nothing.
    Tcx,
    /// clsact, also where the kernel has tcx.
    Clsact,
}

pub(super) static TABLE: Table = Table {
    name: "bpf",
    about: "Where programs and maps are pinned in the kernel, and how programs are attached.",
    keys: &[&PIN_DIR, &ATTACH],
    tables: &[],
    is_optional: false,
    live: &[],
};

static PIN_DIR: Key<AbsolutePath> = Key {
    name: "pin_dir",
    kind: AbsolutePath::Any,
    default: "\"/sys/fs/bpf/metadatad\"",
    about: "Directory in which maps and links are pinned. Its bpf file system is mounted when it is absent.",
    reason: "The usual mount point of the bpf file system.",
};

static ATTACH: Key<Choice<AttachMode>> = Key {
    name: "attach",
    kind: Choice(&[("auto", AttachMode::Auto), ("tcx", AttachMode::Tcx), ("clsact", AttachMode::Clsact)]),
    default: "\"auto\"",
    about: "\"auto\": tcx where the kernel has it (Linux 6.6), else clsact. \"tcx\" or \"clsact\": that one only.",
    reason: "tcx links are pinned, and cannot be removed by accident.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Bpf, Refusal> {
    Ok(Bpf { pin_dir: pin_dir(table)?, attach: table.value(&ATTACH)? })
}

/// Reads the directory alone.
pub(super) fn pin_dir(table: &Reader<'_>) -> Result<PathBuf, Refusal> {
    table.value(&PIN_DIR)
}

#[cfg(test)]
mod tests {
    use super::{AttachMode, Bpf};
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let bpf = read("[bpf]\npin_dir = '/run/bpf'\nattach = 'clsact'\n").expect("accepted").bpf;
        assert_eq!(bpf, Bpf { pin_dir: "/run/bpf".into(), attach: AttachMode::Clsact });
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[bpf]\nattach = 'xdp'", "m.toml:2:10", "`xdp`", "\"auto\" or \"tcx\" or \"clsact\""),
            ("[bpf]\npin_dir = 'bpf'", "m.toml:2:11", "not an absolute path", "from `/`"),
        ]);
    }
}
