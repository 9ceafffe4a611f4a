//! Exit statuses, as sysexits.h names them where it has one.

/// Success.
pub const OK: u8 = 0;
/// `status`: not ready; with `--check`, also something to repair. `get`: the guest gets another status than 200. `doctor`: something is
/// wrong. `detach`: a tap still has a program.
pub const NOT_WELL: u8 = 1;
/// `wait`: timed out, as with timeout(1).
pub const TIMED_OUT: u8 = 124;
/// `EX_USAGE`: usage error.
pub const USAGE: u8 = 64;
/// `EX_DATAERR`: a document or a snapshot cannot be used.
pub const BAD_DOCUMENT: u8 = 65;
/// `EX_NOINPUT`: not found: a port, an instance, a file.
pub const ABSENT: u8 = 66;
/// `EX_UNAVAILABLE`: no daemon or no controller answers, or another daemon does.
pub const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: anything else.
pub const INTERNAL: u8 = 70;
/// `EX_TEMPFAIL`: the document was changed by others meanwhile, or the daemon is busy.
pub const TRY_AGAIN: u8 = 75;
/// `EX_NOPERM`: a privilege is missing.
pub const NO_PERMISSION: u8 = 77;
/// `EX_CONFIG`: the configuration, or a file that it names, is not valid, or the kernel lacks something.
pub const CONFIG: u8 = 78;

/// The table for `--help`.
pub(super) const HELP: &str = "\
Exit status:
  0   done; `status`: the daemon is ready; `doctor`: nothing is wrong
  1   `status`: not ready, or with --check something to repair; `get`: the guest gets another status than 200;
      `doctor`: something is wrong; `detach`: a tap still has a program
  64  usage error
  65  a document or a snapshot cannot be used
  66  not found: a port, an instance, a property, a file, a snapshot
  69  no daemon or no controller answers, or another daemon does
  70  anything else
  75  the document was changed by others meanwhile, or too many commands wait already: try again
  77  a privilege is missing
  78  the configuration, or a file that it names, is not valid; or the kernel lacks something
  124 `wait`: timed out";
