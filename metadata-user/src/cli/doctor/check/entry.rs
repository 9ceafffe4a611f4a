//! Whether the kernel's maps have what the daemon put there.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;
use crate::admin::wire::State;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let Ok(kernel) = &evidence.kernel else { return Vec::new() };
    if kernel.maps_error.is_some() || !kernel.is_pinned || port.link.is_none() {
        return Vec::new();
    }
    let tap = &port.tap;
    let restart = "`systemctl restart metadatad` writes it again";
    let is_passed = port.status.as_ref().is_some_and(|status| status.state == State::Passed);
    let Some(entry) = &port.entry else {
        let has_program = port.from_guest.iter().any(|on| on.ours.is_some());
        return match is_passed || !has_program {
            true => Vec::new(),
            false => vec![Finding::problem(
                format!("the kernel's map PORTS has no entry for {tap}, so its guest's requests go to its network"),
                restart,
            )],
        };
    };
    let believed = port.status.as_ref().and_then(|status| status.instance.as_deref());
    let written = entry.instance.map(|instance| instance.to_string());
    if let (Some(believed), written) = (believed, written.as_deref())
        && written != Some(believed)
    {
        let written = written.unwrap_or("no instance");
        let what = format!("the kernel's map PORTS has {written} for {tap}, and the daemon {believed}");
        return vec![Finding::problem(what, restart)];
    }
    if !entry.has_way_back {
        let what =
            format!("the kernel's map TAGS has no entry for tag {} of {tap}, so no reply reaches its guest", entry.tag);
        return vec![Finding::problem(what, restart)];
    }
    vec![Finding::passed(format!("PORTS and TAGS have {tap}, with tag {}", entry.tag))]
}
