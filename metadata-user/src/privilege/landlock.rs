//! Closes the file system to the calling thread.
//!
//! Promises: no file can be opened, made, removed, renamed, truncated or executed, no TCP socket bound or connected, and no
//! signal or abstract Unix socket reaches outside, as far as the kernel's landlock knows of these. What is open stays open.

use std::fmt;

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _, RulesetError, Scope,
};

/// The newest version whose accesses are asked for; an older kernel takes those that it knows.
const NEWEST: ABI = ABI::V6;

/// What landlock does for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// It is in force, in this version of the kernel's interface.
    Applied(u32),
    /// It is not, for this reason.
    Absent(&'static str),
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(version) => {
                let scope = match version {
                    0..=3 => "no file",
                    4..=5 => "no file, no TCP port",
                    _ => "no file, no TCP port, no signal or abstract socket outside",
                };
                write!(f, "{scope} (version {version})")
            }
            Self::Absent(why) => f.write_str(why),
        }
    }
}

/// Takes every access away, by a ruleset without a rule.
pub(super) fn restrict() -> Result<Landlock, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Landlock::Applied(effective_abi as u32),
        LandlockStatus::NotEnabled => Landlock::Absent("landlock is off: add it to the kernel parameter lsm="),
        LandlockStatus::NotImplemented => Landlock::Absent(
            "no landlock: this kernel lacks it (CONFIG_SECURITY_LANDLOCK), or the unit's SystemCallFilter= forbids it",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_depends_on_the_version() {
        for (version, expected) in [(1, "no file (version 1)"), (4, "no file, no TCP port (version 4)")] {
            assert_eq!(Landlock::Applied(version).to_string(), expected);
        }
        assert!(Landlock::Applied(7).to_string().contains("no signal"));
    }
}
