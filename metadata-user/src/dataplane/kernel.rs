//! What the kernel must have, checked before anything is made, so that what is missing is named instead of failing later
//! with "no such file".
//!
//! Left out: what only shows when it is used, and is named there: privileges, veth interfaces, tcx, queueing disciplines.

use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Something that the kernel lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// IPv6 was switched off at boot.
    #[error(
        "this kernel was booted with ipv6.disable=1, but the responder's namespace needs IPv6, also for guests with IPv4 \
         only: boot without that parameter; to keep IPv6 off on the node's interfaces set the sysctl \
         net.ipv6.conf.all.disable_ipv6=1 and net.ipv6.conf.default.disable_ipv6=1 instead"
    )]
    Ipv6Disabled,
    /// There is no IPv6.
    #[error(
        "this kernel has no IPv6, but the responder's namespace needs it, also for guests with IPv4 only: load the module \
         ipv6, or use a kernel with CONFIG_IPV6"
    )]
    NoIpv6,
    /// There are no network namespaces.
    #[error("this kernel has no network namespaces: use one with CONFIG_NET_NS")]
    NoNamespaces,
    /// There is no eBPF.
    #[error("this kernel has no eBPF: use one with CONFIG_BPF_SYSCALL")]
    NoBpf,
    /// There is no BPF file system.
    #[error("this kernel has no BPF file system to pin programs and maps in: use one with CONFIG_BPF_SYSCALL")]
    NoBpffs,
}

/// Checks the running kernel.
///
/// # Errors
/// The first thing that it lacks.
pub fn check() -> Result<(), KernelError> {
    // Loads the module where IPv6 is one.
    let _ = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    Kernel { proc: "/proc".into(), sys: "/sys".into() }.check()
}

/// A kernel, by its file systems.
struct Kernel {
    proc: PathBuf,
    sys: PathBuf,
}

impl Kernel {
    fn check(&self) -> Result<(), KernelError> {
        let Self { proc, sys } = self;
        if !proc.join("self/ns/net").exists() {
            return Err(KernelError::NoNamespaces);
        }
        // One of the settings that every IPv6 has; none of them is there when it was switched off at boot.
        if !proc.join("sys/net/ipv6/conf/all/disable_ipv6").exists() {
            let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
            let by_parameter = text(&sys.join("module/ipv6/parameters/disable")).trim() == "1";
            let by_command_line = text(&proc.join("cmdline")).split_whitespace().any(|word| word == "ipv6.disable=1");
            return Err(if by_parameter || by_command_line { KernelError::Ipv6Disabled } else { KernelError::NoIpv6 });
        }
        if !proc.join("sys/kernel/unprivileged_bpf_disabled").exists() {
            return Err(KernelError::NoBpf);
        }
        let has_bpffs = |list: String| list.lines().any(|line| line.split_whitespace().last() == Some("bpf"));
        if !std::fs::read_to_string(proc.join("filesystems")).is_ok_and(has_bpffs) {
            return Err(KernelError::NoBpffs);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// The files of a kernel that has everything.
    fn whole() -> (TempDir, Kernel) {
        let root = tempfile::tempdir().expect("a directory");
        let kernel = Kernel { proc: root.path().join("proc"), sys: root.path().join("sys") };
        for (path, text) in [
            ("proc/self/ns/net", ""),
            ("proc/cmdline", "root=/dev/vda quiet"),
            ("proc/sys/net/ipv6/conf/all/disable_ipv6", "1\n"),
            ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
            ("proc/filesystems", "nodev\tproc\nnodev\tbpf\n\text4\n"),
            ("sys/module/ipv6/parameters/disable", "0\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        (root, kernel)
    }

    fn error(break_it: impl Fn(&Path)) -> KernelError {
        let (root, kernel) = whole();
        break_it(root.path());
        kernel.check().expect_err("something is missing")
    }

    #[test]
    fn a_kernel_with_ipv6_off_by_sysctl_only_is_accepted() {
        let (_root, kernel) = whole();
        assert_eq!(kernel.check(), Ok(()));
    }

    #[test]
    fn the_running_kernel_is_accepted() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn ipv6_switched_off_at_boot_is_named_by_its_parameter() {
        for (file, text) in
            [("sys/module/ipv6/parameters/disable", "1\n"), ("proc/cmdline", "quiet ipv6.disable=1 root=/dev/vda")]
        {
            let error = error(|root| {
                fs::remove_dir_all(root.join("proc/sys/net/ipv6")).expect("removed");
                fs::write(root.join(file), text).expect("written");
            });
            assert_eq!(error, KernelError::Ipv6Disabled, "{file}");
            assert!(error.to_string().contains("net.ipv6.conf.all.disable_ipv6=1"), "{error}");
        }
    }

    #[test]
    fn whatever_else_is_missing_is_named() {
        let remove = |path: &'static str| move |root: &Path| fs::remove_file(root.join(path)).expect("removed");
        assert_eq!(error(remove("proc/sys/net/ipv6/conf/all/disable_ipv6")), KernelError::NoIpv6);
        assert_eq!(error(remove("proc/self/ns/net")), KernelError::NoNamespaces);
        assert_eq!(error(remove("proc/sys/kernel/unprivileged_bpf_disabled")), KernelError::NoBpf);
        assert_eq!(error(remove("proc/filesystems")), KernelError::NoBpffs);
    }
}
