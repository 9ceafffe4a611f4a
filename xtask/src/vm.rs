//! `cargo xtask setup --vm`: what `tests/vm` runs, in `target/vm`.

use anyhow::Result;

use crate::command::target_directory;
use crate::fetch::Collection;

/// QEMU, libvirt, kernels, a DHCP server, and what makes the guest's disk.
const VM: Collection = Collection {
    name: "vm",
    what: "QEMU, libvirt, Debian's cloud kernels, dnsmasq and debootstrap",
    debian: DEBIAN,
    pypi: &[],
    needed: NEEDED,
};

/// QEMU with its firmware; libvirt; the kernel that Debian's cloud images have, and a newer one; and the libraries that a
/// usual system may lack.
const DEBIAN: &[&str] = &[
    "busybox-static",
    "debootstrap",
    "dependency-of:linux-image-6.12-cloud-amd64",
    "dependency-of:linux-image-cloud-amd64",
    "dnsmasq-base",
    "ipxe-qemu",
    "libaio1",
    "libapparmor1",
    "libbpf1",
    "libbrotli1",
    "libcap-ng0",
    "libcapstone4",
    "libcurl3-gnutls",
    "libdaxctl1",
    "libdbus-1-3",
    "libdevmapper1.02.1",
    "libelf1",
    "libfdt1",
    "libfuse3-3",
    "libglib2.0-0",
    "libgmp10",
    "libhogweed6",
    "libibverbs1",
    "libicu72",
    "libidn2-0",
    "libjansson4",
    "libjpeg62-turbo",
    "libkmod2",
    "libldap-2.5-0",
    "libmnl0",
    "libndctl6",
    "libnetfilter-conntrack3",
    "libnettle8",
    "libnfnetlink0",
    "libnftables1",
    "libnftnl11",
    "libnghttp2-14",
    "libnl-3-200",
    "libnl-route-3-200",
    "libnuma1",
    "libparted2",
    "libpcap0.8",
    "libpciaccess0",
    "libpixman-1-0",
    "libpmem1",
    "libpng16-16",
    "libpsl5",
    "librdmacm1",
    "libreadline8",
    "librtmp1",
    "libsasl2-2",
    "libslirp0",
    "libssh-4",
    "libssh2-1",
    "libtirpc3",
    "liburing2",
    "libvdeplug2",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt0",
    "libxml2",
    "libxtables12",
    "libyajl2",
    "qemu-system-common",
    "qemu-system-data",
    "qemu-system-x86",
    "seabios",
];
/// What making the guest's disk takes: debootstrap is a script that fetches and verifies, mke2fs fills a file system.
const NEEDED: &[&str] =
    &["debian-archive-keyring", "e2fsprogs", "gpgv", "binutils", "gzip", "util-linux", "wget", "xz-utils"];

/// Fetches and makes what is not there yet.
pub(crate) fn setup() -> Result<()> {
    VM.setup()?;
    crate::image::setup(&target_directory().join("vm"))
}
