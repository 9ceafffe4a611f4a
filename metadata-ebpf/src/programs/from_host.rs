//! `from_host`: tc *egress* of the pair's end in the node's namespace, which is the host *sending*.
//!
//! Promises: nothing that the host or a network sends reaches the responder, whatever routes or bridges somebody sets
//! up. Guests' packets do not come this way: they are handed to the peer without leaving through this end.

use aya_ebpf::{macros::classifier, programs::TcContext};
use metadata_ebpf::abi::{DropReason, PAIR_PLACE};

use crate::{counters::dropped, frame::ifindex_of};

/// Drops and counts everything.
#[classifier]
pub(crate) fn from_host(ctx: TcContext) -> i32 {
    dropped(&ctx, ifindex_of(&ctx), PAIR_PLACE, DropReason::StrayFromHost)
}
