//! Packet tables through `BPF_PROG_TEST_RUN`: a frame in, the verdict, the frame out, and the counters that moved.
//!
//! Needs CAP_BPF and CAP_NET_ADMIN. Nothing is attached and nothing is sent: the kernel runs a program on a buffer.
//! Left out: VLAN tags and offloads, which such a buffer cannot have (tests/netns has them).

mod fixture;
mod from_guest;
mod impersonation;
mod limits;
mod passed;
mod path_mtu;
mod to_guest;
