//! Root-only reading: what a guest's policy protects is answered to source ports below 1024 alone.
//!
//! Only a process with CAP_NET_BIND_SERVICE has such a port (Linux; by default root alone on the BSDs and Windows has no such
//! rule), so other processes of the guest, and those that can be made to send requests for somebody else, are refused.
//!
//! Promises: pure; the port is the connection's own, which no header changes; with the default policy nothing is refused.
//!
//! Left out: guests that let everybody have low ports (`net.ipv4.ip_unprivileged_port_start`), or translate the ports of their
//! containers.

use crate::api::Subject;
use crate::policy::PrivilegedPaths;

/// The lowest port that every process may have.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// What a source port means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A port that only a privileged process has.
    Privileged,
    /// Any process may have it, and what it asks for is not protected.
    Unprotected,
    /// Any process may have it, so it is refused.
    Refused,
}

/// Decides on a request for `subject` from this port.
pub(super) fn judge(protected: PrivilegedPaths, subject: Subject, port: u16) -> Verdict {
    let is_protected = protected.contains(PrivilegedPaths::EVERYTHING)
        || match subject {
            Subject::UserData => protected.contains(PrivilegedPaths::USER_DATA),
            Subject::Password => protected.contains(PrivilegedPaths::PASSWORD),
            Subject::Identity => protected.contains(PrivilegedPaths::IDENTITY),
            Subject::Token => protected.contains(PrivilegedPaths::TOKEN),
            Subject::Other => false,
        };
    match (port < FIRST_UNPRIVILEGED, is_protected) {
        (true, _) => Verdict::Privileged,
        (false, false) => Verdict::Unprotected,
        (false, true) => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_protected_is_refused_and_only_to_ports_that_everybody_may_have() {
        for (protected, subjects) in [
            (PrivilegedPaths::NONE, &[][..]),
            (PrivilegedPaths::EVERYTHING, &Subject::ALL),
            (PrivilegedPaths::USER_DATA, &[Subject::UserData]),
            (PrivilegedPaths::PASSWORD, &[Subject::Password]),
            (PrivilegedPaths::IDENTITY, &[Subject::Identity]),
            (PrivilegedPaths::TOKEN, &[Subject::Token]),
            (PrivilegedPaths::USER_DATA.and(PrivilegedPaths::TOKEN), &[Subject::UserData, Subject::Token]),
        ] {
            for subject in Subject::ALL {
                for port in [0, 1, 80, 1023] {
                    assert_eq!(judge(protected, subject, port), Verdict::Privileged, "{subject:?} {port}");
                }
                let expected = if subjects.contains(&subject) { Verdict::Refused } else { Verdict::Unprotected };
                for port in [1024, 32768, 65535] {
                    assert_eq!(judge(protected, subject, port), expected, "{protected:?} {subject:?} {port}");
                }
            }
        }
    }
}
