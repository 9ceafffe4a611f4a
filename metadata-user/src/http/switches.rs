//! What is switched off for an instance: metadata, IPv6, the EC2 tree, its user data.
//!
//! Promises: pure; with the default policy nothing is refused. What was switched off is refused from the next request on, on
//! connections that are open too.

use super::access::Caller;
use crate::api::{About, Denial, Subject, Tree};
use crate::policy::{Access, SessionMode, UserData};

/// Returns why a request is refused; `None`: no switch forbids it. `user_data_read` says when the user data was first read, and
/// `now` what time it is, both in seconds of Unix time.
pub(super) fn refuse(
    access: &Access,
    caller: &Caller,
    about: About,
    user_data_read: impl FnOnce() -> Option<u64>,
    now: impl FnOnce() -> u64,
) -> Option<Denial> {
    if !access.metadata {
        return Some(Denial::MetadataOff);
    }
    if caller.over_ipv6 && !access.ipv6 {
        return Some(Denial::Ipv6Off);
    }
    // Session tokens are for both trees.
    let is_of_ec2 = about.tree == Tree::Ec2 && !(about.subject == Subject::Token && access.session != SessionMode::Off);
    if is_of_ec2 && !access.ec2 {
        return Some(Denial::Absent);
    }
    let is_readable = about.subject != Subject::UserData
        || match access.user_data {
            UserData::Always => true,
            UserData::Never => false,
            // Also where the clock was set back: what was read once is not read again for that.
            UserData::FirstBoot => {
                user_data_read().is_none_or(|read| now().abs_diff(read) < access.first_boot.as_secs())
            }
        };
    (!is_readable).then_some(Denial::Absent)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPENSTACK: About = About { tree: Tree::OpenStack, subject: Subject::Other, own: None };
    const EC2: About = About { tree: Tree::Ec2, subject: Subject::Other, own: None };
    const USER_DATA: About = About { tree: Tree::OpenStack, subject: Subject::UserData, own: None };

    fn refused(access: Access, over_ipv6: bool, about: About, read: Option<u64>) -> Option<Denial> {
        refuse(&access, &Caller { over_ipv6, ..Caller::default() }, about, || read, || 1000)
    }

    #[test]
    fn each_switch_refuses_its_own_requests() {
        let all = Access::default();
        for over_ipv6 in [false, true] {
            for about in [OPENSTACK, EC2, USER_DATA] {
                assert_eq!(refused(all, over_ipv6, about, Some(1)), None);
                assert_eq!(
                    refused(Access { metadata: false, ..all }, over_ipv6, about, None),
                    Some(Denial::MetadataOff)
                );
                let no_ipv6 = refused(Access { ipv6: false, ..all }, over_ipv6, about, None);
                assert_eq!(no_ipv6, over_ipv6.then_some(Denial::Ipv6Off));
                let no_ec2 = refused(Access { ec2: false, ..all }, over_ipv6, about, None);
                assert_eq!(no_ec2, (about == EC2).then_some(Denial::Absent));
                let never = refused(Access { user_data: UserData::Never, ..all }, over_ipv6, about, None);
                assert_eq!(never, (about == USER_DATA).then_some(Denial::Absent));
            }
            for (_, session) in SessionMode::NAMES {
                let about = About { tree: Tree::Ec2, subject: Subject::Token, own: None };
                let token = refused(Access { ec2: false, session, ..all }, over_ipv6, about, None);
                assert_eq!(token, (session == SessionMode::Off).then_some(Denial::Absent));
            }
        }
    }

    #[test]
    fn user_data_is_closed_when_the_first_boot_is_over_and_stays_closed_when_the_clock_is_set_back() {
        let access =
            Access { user_data: UserData::FirstBoot, first_boot: Duration::from_secs(100), ..Access::default() };
        for (read, is_open) in [
            (None, true),
            (Some(1000), true),
            (Some(901), true),
            (Some(900), false),
            (Some(0), false),
            (Some(1100), false),
        ] {
            assert_eq!(refused(access, false, USER_DATA, read).is_none(), is_open, "{read:?}");
            assert_eq!(refused(access, false, OPENSTACK, read), None, "{read:?}");
        }
    }
}
