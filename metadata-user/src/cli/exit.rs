//! Exit statuses, as sysexits.h names them where it has one.

/// All is well.
pub const OK: u8 = 0;
/// `status`: not ready; with `--check`, also something to repair.
pub const NOT_WELL: u8 = 1;
/// `EX_USAGE`: the command line is not one.
pub const USAGE: u8 = 64;
/// `EX_NOINPUT`: there is no port of that name.
pub const NO_PORT: u8 = 66;
/// `EX_UNAVAILABLE`: no daemon answers, or another one does.
pub const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: anything else.
pub const INTERNAL: u8 = 70;
/// `EX_NOPERM`: a privilege is missing.
pub const NO_PERMISSION: u8 = 77;
/// `EX_CONFIG`: the configuration, or a file that it names, is not possible.
pub const CONFIG: u8 = 78;

/// The table for `--help`.
pub(super) const HELP: &str = "\
Exit status:
  0   done; `status`: the daemon is ready
  1   `status`: not ready, or with --check something to repair
  64  the command line is not one
  66  there is no port of that name
  69  no daemon answers, or another one does
  70  anything else
  77  a privilege is missing
  78  the configuration, or a file that it names, is not possible";
