//! The symbolic links on the way to a file.
//!
//! A leaf: it uses nothing of this crate.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Most links that are followed: the kernel's own limit.
const MOST: usize = 40;

/// The way to a file, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// The content of each link on the way, in order. Empty: there is none.
    pub(crate) links: Vec<PathBuf>,
    /// The directories in which a change may make the way lead elsewhere, or change the file: those that hold a link, and
    /// the one that the last link leads into.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// The directory in which the file is, or should be, with its device and inode; `None`: it does not exist.
    pub(crate) parent: Option<(u64, u64)>,
}

/// Follows a path to its end.
///
/// # Errors
/// If a link cannot be read, or there are too many.
pub(crate) fn follow(path: &Path) -> io::Result<Route> {
    let path = std::path::absolute(path)?;
    let mut left = VecDeque::new();
    prepend(&mut left, &path);
    let mut at = PathBuf::from("/");
    let mut route = Route::default();
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match fs::symlink_metadata(&next) {
            Ok(found) if found.is_symlink() => {
                if route.links.len() == MOST {
                    return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                }
                let text = fs::read_link(&next)?;
                route.directories.insert(at.clone());
                if text.is_absolute() {
                    at = PathBuf::from("/");
                }
                prepend(&mut left, &text);
                route.links.push(text);
            }
            Ok(_) if left.is_empty() => {}
            Ok(_) => {
                at = next;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !route.links.is_empty() {
                    // The missing component would appear here.
                    route.directories.insert(at.clone());
                }
                if !left.is_empty() {
                    return Ok(route);
                }
            }
            Err(error) => return Err(error),
        }
        if left.is_empty() {
            break;
        }
    }
    if !route.links.is_empty() {
        route.directories.insert(at.clone());
    }
    route.parent = fs::metadata(&at).ok().map(|found| (found.dev(), found.ino()));
    Ok(route)
}

/// Puts the components of a path before what is left to follow.
fn prepend(left: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn route(path: &Path) -> (Vec<PathBuf>, BTreeSet<PathBuf>, bool) {
        let route = follow(path).unwrap();
        (route.links, route.directories, route.parent.is_some())
    }

    #[test]
    fn every_link_on_the_way_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let in_root = |path: &str| root.join(path);
        for made in ["docs", "docs/..a", "far"] {
            fs::create_dir(in_root(made)).unwrap();
        }
        fs::write(in_root("docs/..a/1.json"), "1").unwrap();
        fs::write(in_root("plain"), "1").unwrap();
        symlink("..a", in_root("docs/..data")).unwrap();
        symlink("..data/1.json", in_root("docs/1.json")).unwrap();
        symlink(in_root("docs/1.json"), in_root("far/chain")).unwrap();
        symlink("far", in_root("near")).unwrap();
        symlink("../far/../docs/./none.json", in_root("docs/2.json")).unwrap();
        symlink("nowhere/3.json", in_root("docs/3.json")).unwrap();
        symlink("loop", in_root("loop")).unwrap();

        let set = |paths: &[&str]| paths.iter().map(|path| in_root(path)).collect::<BTreeSet<_>>();
        let texts = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(route(&in_root("plain")), (vec![], set(&[]), true));
        let config_map = (texts(&["..data/1.json", "..a"]), set(&["docs", "docs/..a"]), true);
        assert_eq!(route(&in_root("docs/1.json")), config_map);
        let chain = route(&in_root("near/chain"));
        assert_eq!(chain.0.len(), 4);
        assert_eq!(chain.1, [root.clone()].into_iter().chain(set(&["far", "docs", "docs/..a"])).collect());
        assert_eq!(route(&in_root("docs/2.json")), (texts(&["../far/../docs/./none.json"]), set(&["docs"]), true));
        assert_eq!(route(&in_root("docs/3.json")), (texts(&["nowhere/3.json"]), set(&["docs"]), false));
        assert_eq!(follow(&in_root("loop")).unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    }
}
