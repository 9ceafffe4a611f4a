//! What a request is about, as far as policies tell paths apart.
//!
//! Promises: a path that both trees answer with user data, a password or an identity is recognised as that, by every spelling
//! that leads there: the path is the one that the content is looked up by.

use super::own::Own;
use super::route;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// In which tree.
    pub tree: Tree,
    /// What it is about.
    pub subject: Subject,
    /// Which of the service's own paths it is, where guests have such.
    pub own: Option<Own>,
}

/// A tree of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// `/openstack` and what is below.
    OpenStack,
    /// All else: the versions of the EC2 tree, and their list at `/` and `/ec2`.
    Ec2,
}

/// What a path is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The instance's user data.
    UserData,
    /// Its password, read or posted.
    Password,
    /// What proves who the instance is: dynamic vendor data, in which services put tokens, identity tokens, and `dynamic/` of the
    /// EC2 tree.
    Identity,
    /// A session token, at the path that EC2 has for it. In Nova's trees it is nothing.
    Token,
    /// Anything else.
    Other,
}

impl Subject {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::UserData, Self::Password, Self::Identity, Self::Token, Self::Other];

    /// Returns the name that operators see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserData => "user_data",
            Self::Password => "password",
            Self::Identity => "identity",
            Self::Token => "token",
            Self::Other => "other",
        }
    }
}

impl About {
    /// Returns whether it is a `vendor_data2.json`.
    #[must_use]
    pub fn is_dynamic_vendor_data(self) -> bool {
        self.tree == Tree::OpenStack && self.subject == Subject::Identity && self.own.is_none()
    }

    /// Returns what a request with this target is about.
    #[must_use]
    pub fn of(target: &str) -> Self {
        let path = route::path(target);
        let path = path.as_deref().unwrap_or_default();
        match path.strip_prefix("openstack").map(|rest| rest.strip_prefix('/').ok_or(rest)) {
            Some(Ok(rest)) => About { tree: Tree::OpenStack, subject: openstack(rest), own: Own::in_openstack(rest) },
            Some(Err("")) => About { tree: Tree::OpenStack, subject: Subject::Other, own: None },
            Some(Err(_)) | None => {
                let path = path.strip_prefix("ec2/").unwrap_or(path);
                About { tree: Tree::Ec2, subject: ec2(path), own: Own::in_ec2(path) }
            }
        }
    }
}

/// Tells whether the answer to a request for this target holds nothing that its instance's owner would keep to themselves: lists
/// of paths, addresses and names. Of a path that is not known for that, it may.
#[must_use]
pub fn is_public(target: &str) -> bool {
    let path = route::path(target);
    let Some(path) = path.as_deref() else { return false };
    if let Some(rest) = path.strip_prefix("openstack") {
        let segments: Vec<_> = rest.split('/').skip(1).collect();
        return rest.is_empty() || rest.starts_with('/') && matches!(segments[..], [_] | [_, "network_data.json"]);
    }
    let path = path.strip_prefix("ec2/").unwrap_or(path);
    let segments: Vec<_> = path.split('/').collect();
    // Below meta-data/meta-data/ are the owner's own keys and values.
    matches!(segments[..], [_] | [_, "meta-data"])
        || segments.get(1) == Some(&"meta-data") && segments[2] != "meta-data"
}

/// What is at a path below `openstack/`.
fn openstack(path: &str) -> Subject {
    match path.split_once('/').unwrap_or_default() {
        ("content", _) => Subject::Other,
        ("latest", "identity") => Subject::Identity,
        (_, "user_data") => Subject::UserData,
        (_, "password") => Subject::Password,
        (_, "vendor_data2.json") => Subject::Identity,
        _ => Subject::Other,
    }
}

/// What is at a path of the EC2 tree.
fn ec2(path: &str) -> Subject {
    if path == "latest/api/token" {
        return Subject::Token;
    }
    match path.split_once('/').unwrap_or_default().1 {
        "user-data" => Subject::UserData,
        path if path == "dynamic" || path.starts_with("dynamic/") => Subject::Identity,
        _ => Subject::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_public_is() {
        for public in [
            "/",
            "/latest",
            "/latest/meta-data/",
            "/latest/meta-data/instance-id",
            "/ec2/2009-04-04/meta-data/public-keys/0/openssh-key",
            "/openstack",
            "/openstack/latest/",
            "/openstack/latest/network_data.json?x",
        ] {
            assert!(is_public(public), "{public}");
        }
        for secret in [
            "*",
            "/latest/user-data",
            "/latest/meta-data/../user-data",
            "/latest/meta-data/meta-data",
            "/latest//meta-data/%6deta-data/key",
            "/latest/dynamic/instance-identity/document",
            "/openstack/latest/meta_data.json",
            "/openstack/latest/network_data.json/x",
            "/openstack/latest/vendor_data.json",
            "/openstack/latest/vendor_data2.json",
            "/openstack/latest/identity?audience=x",
            "/openstack/latest/user_data",
            "/openstack/latest/password",
            "/openstack/content/0000",
            "/openstack/x/y/network_data.json",
            "/openstackish/meta_data.json",
        ] {
            assert!(!is_public(secret), "{secret}");
        }
    }

    #[test]
    fn paths_are_told_apart_by_every_spelling() {
        use Subject::{Identity, Other, Password, Token, UserData};
        use Tree::{Ec2, OpenStack};
        for (target, tree, subject) in [
            ("/", Ec2, Other),
            ("*", Ec2, Other),
            ("/ec2", Ec2, Other),
            ("/latest", Ec2, Other),
            ("/latest/meta-data/instance-id", Ec2, Other),
            ("/latest/user-data", Ec2, UserData),
            ("/1.0/user-data/", Ec2, UserData),
            ("/ec2/2009-04-04/user-data?x=1", Ec2, UserData),
            ("//latest/%75ser-data#x", Ec2, UserData),
            ("/latest/x/../user-data", Ec2, UserData),
            ("http://169.254.169.254/latest/user-data", Ec2, UserData),
            ("/latest/api/token", Ec2, Token),
            ("/latest//api/./token/", Ec2, Token),
            ("/2009-04-04/api/token", Ec2, Other),
            ("/latest/api", Ec2, Other),
            ("/latest/user-data2", Ec2, Other),
            ("/latest/dynamics", Ec2, Other),
            ("/openstack", OpenStack, Other),
            ("/openstackish/latest/user_data", Ec2, Other),
            ("/openstack/latest/user_data", OpenStack, UserData),
            ("/openstack/2012-08-10/user_data", OpenStack, UserData),
            ("/openstack/latest//password", OpenStack, Password),
            ("/openstack/latest/vendor_data2.json", OpenStack, Identity),
            ("/openstack/content/user_data", OpenStack, Other),
            ("/openstack/latest/meta_data.json", OpenStack, Other),
        ] {
            assert_eq!(About::of(target), About { tree, subject, own: None }, "{target}");
        }
        for (target, tree, own) in [
            ("/latest/dynamic/instance-identity/document", Ec2, Own::Dynamic),
            ("/2009-04-04//%64ynamic", Ec2, Own::Dynamic),
            ("/openstack/latest/identity?audience=x", OpenStack, Own::Token),
            ("/openstack/x/../latest//%69dentity/", OpenStack, Own::Token),
        ] {
            assert_eq!(About::of(target), About { tree, subject: Identity, own: Some(own) }, "{target}");
        }
    }
}
