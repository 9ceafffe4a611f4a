//! The named namespace itself, and work inside it.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{FsType, statfs},
};
use rtnetlink::Handle;

use super::{NetnsError, system};

/// Where named namespaces are, by iproute2's convention.
const NETNS_DIR: &str = "/run/netns";
/// `st_fstype` of a namespace file.
pub(super) const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// Returns where the namespace of this name is.
pub(super) fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

/// Opens the named namespace; makes it if there is none. `true` if there was one.
pub(super) fn open_or_make(name: &str) -> Result<(File, bool), NetnsError> {
    let path = path_of(name);
    if path.exists() {
        if statfs(&path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC) {
            return Ok((File::open(&path).map_err(system("open", &path))?, true));
        }
        // A name whose namespace is gone: its mount did not survive a reboot or a mount namespace.
        unmount_and_remove(&path)?;
    }
    std::fs::create_dir_all(NETNS_DIR).map_err(system("make the directory", Path::new(NETNS_DIR)))?;
    File::create(&path).map_err(system("make", &path))?;
    let made = on_thread({
        let path = path.clone();
        move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .map_err(system("make a network namespace for", &path))?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(io::Error::from)
                .map_err(system("mount the network namespace on", &path))
        }
    });
    if let Err(error) = made {
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok((File::open(&path).map_err(system("open", &path))?, false))
}

/// Says what happened to a namespace's name, and how to restore it; `None`: nothing. `thread` is in the namespace.
pub(super) fn lost_name(name: &str, namespace: &File, thread: i32) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let path = path_of(name);
    let found = path.metadata().ok().map(|found| (found.dev(), found.ino()));
    let own = namespace.metadata().ok().map(|own| (own.dev(), own.ino()));
    if found == own {
        return None;
    }
    let (path, attach) = (path.display(), format!("ip netns attach {name} {thread}"));
    let (what, command) = match found {
        None => (format!("{path} is gone"), attach),
        Some(_) => {
            (format!("{path} is not the responder's namespace any more"), format!("ip netns delete {name}; {attach}"))
        }
    };
    Some(format!(
        "{what}: guests are still answered, but the next start would make another namespace and end their connections; `{command}` \
         restores the name"
    ))
}

/// Removes the named namespace. `true` if there was one.
pub(super) fn remove(name: &str) -> Result<bool, NetnsError> {
    let path = path_of(name);
    let existed = path.exists();
    if existed {
        unmount_and_remove(&path)?;
    }
    Ok(existed)
}

fn unmount_and_remove(path: &Path) -> Result<(), NetnsError> {
    // Not mounted: then there is only the file to remove.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    std::fs::remove_file(path).map_err(system("remove", path))
}

/// Moves this thread into the namespace.
pub(super) fn enter(namespace: &File) -> Result<(), NetnsError> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .map_err(system("enter", Path::new("the responder's namespace")))
}

/// Runs `work` on a thread of its own, which may change its namespace and then ends.
pub(in crate::dataplane) fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetnsError> + Send + 'static,
) -> Result<T, NetnsError> {
    let path = PathBuf::from("a thread for the responder's namespace");
    let thread = thread::Builder::new().name("netns".into()).spawn(work).map_err(system("start", &path))?;
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs `work` with a netlink connection in this thread's namespace.
pub(in crate::dataplane) fn with_netlink<T>(
    work: impl AsyncFnOnce(Handle) -> Result<T, NetnsError>,
) -> Result<T, NetnsError> {
    let socket = PathBuf::from("a netlink socket");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(system("wait for", &socket))?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(system("open", &socket))?;
        let connection = tokio::spawn(connection);
        let result = work(handle).await;
        connection.abort();
        result
    })
}
