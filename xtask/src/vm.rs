//! `cargo xtask setup --vm`: what `tests/vm` runs, in `target/vm`.

use anyhow::Result;

use crate::command::target_directory;
use crate::fetch::Collection;

/// QEMU, a kernel for guests, a DHCP server, and what makes the guest's disk.
const VM: Collection = Collection {
    name: "vm",
    what: "QEMU, Debian's cloud kernel, dnsmasq and debootstrap",
    debian: DEBIAN,
    pypi: &[],
    needed: NEEDED,
};

/// QEMU with its firmware; the kernel that Debian's cloud images have; and the libraries that a usual system may lack.
const DEBIAN: &[&str] = &[
    "debootstrap",
    "dependency-of:linux-image-cloud-amd64",
    "dnsmasq-base",
    "ipxe-qemu",
    "libaio1",
    "libbpf1",
    "libcapstone4",
    "libdaxctl1",
    "libdbus-1-3",
    "libelf1",
    "libfdt1",
    "libfuse3-3",
    "libglib2.0-0",
    "libgmp10",
    "libhogweed6",
    "libibverbs1",
    "libidn2-0",
    "libjansson4",
    "libjpeg62-turbo",
    "libkmod2",
    "libmnl0",
    "libndctl6",
    "libnetfilter-conntrack3",
    "libnettle8",
    "libnfnetlink0",
    "libnftables1",
    "libnftnl11",
    "libnl-3-200",
    "libnl-route-3-200",
    "libnuma1",
    "libpixman-1-0",
    "libpmem1",
    "libpng16-16",
    "librdmacm1",
    "libsasl2-2",
    "libslirp0",
    "liburing2",
    "libvdeplug2",
    "libxtables12",
    "qemu-system-common",
    "qemu-system-data",
    "qemu-system-x86",
    "seabios",
];
/// What making the guest's disk takes: debootstrap is a script that fetches and verifies, mke2fs fills a file system.
const NEEDED: &[&str] = &["debian-archive-keyring", "e2fsprogs", "gpgv", "gzip", "util-linux", "wget"];

/// Fetches and makes what is not there yet.
pub(crate) fn setup() -> Result<()> {
    VM.setup()?;
    crate::image::setup(&target_directory().join("vm"))
}
