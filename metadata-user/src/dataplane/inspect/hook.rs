//! What runs on an interface, in the order in which the kernel runs it: tcx first, then the filters of a qdisc, by priority.
//!
//! Left out: XDP, which has one place, and what a program does.

use aya::programs::{SchedClassifier, TcAttachType};

use super::super::{
    FILTER_HANDLE, FILTER_PRIORITY, IfIndex,
    qdisc::{self, filters::Filter},
};

/// Which packets, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the guest sends: ingress of its tap.
    FromGuest,
    /// What the guest receives: egress of its tap.
    ToGuest,
}

/// A program or filter that sees packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnHook {
    /// What it is, for people: `tcx program foo (id 7)`, `filter of kind matchall, priority 1`.
    pub what: String,
    /// Which of the daemon's programs it is; of a filter, that it is one.
    pub ours: Option<String>,
    /// Whether it is a filter of Open vSwitch's policing, which has priority 1 and passes on what it does not drop.
    pub is_policing: bool,
}

/// The daemon's programs of this kind.
const OURS: [&str; 4] = ["from_guest", "from_network", "to_guest", "from_host"];

/// Returns what is on an interface. What cannot be listed is left out: tcx before Linux 6.6, filters where there is no qdisc.
#[must_use]
pub fn on_hook(interface: &str, ifindex: IfIndex, way: Way) -> Vec<OnHook> {
    let mut found = tcx(interface, way);
    found.extend(filters(ifindex, way));
    found
}

fn tcx(interface: &str, way: Way) -> Vec<OnHook> {
    let hook = match way {
        Way::FromGuest => TcAttachType::Ingress,
        Way::ToGuest => TcAttachType::Egress,
    };
    let Ok((_, programs)) = SchedClassifier::query_tcx(interface, hook) else { return Vec::new() };
    let shown = programs.into_iter().map(|program| {
        let name = program.name_as_str().unwrap_or_default();
        OnHook {
            what: format!(
                "the tcx program {} (id {})",
                if name.is_empty() { "without a name" } else { name },
                program.id()
            ),
            // The kernel keeps 15 bytes of a name; ours are shorter.
            ours: OURS.contains(&name).then(|| name.to_owned()),
            is_policing: false,
        }
    });
    shown.collect()
}

fn filters(ifindex: IfIndex, way: Way) -> Vec<OnHook> {
    let name = match way {
        Way::FromGuest => "from_guest",
        Way::ToGuest => "from_network",
    };
    let shown = qdisc::filters::list(ifindex, way == Way::ToGuest).into_iter().map(|filter| {
        let Filter { kind, priority, handle } = filter;
        let is_ours = kind == "bpf" && handle == FILTER_HANDLE && priority == FILTER_PRIORITY;
        OnHook {
            is_policing: priority == 1 && matches!(&*kind, "matchall" | "basic"),
            what: format!("the filter of kind {kind}, priority {priority}"),
            ours: is_ours.then(|| name.to_owned()),
        }
    });
    shown.collect()
}
