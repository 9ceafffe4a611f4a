//! Packets that claim another source, as anomalies of the tap's instance and as records of the audit log.

use std::sync::Arc;
use std::time::SystemTime;

use metadata_ebpf::abi::DropReason;

use super::drops::LastDrops;
use crate::audit::{Anomaly, Audit, Dropped, Record, Subject, Text};
use crate::dataplane::events::SampledDrop;
use crate::port::reconcile::Assignment;
use crate::port::{PortState, PortView, PortsView};

/// Returns what is done with each drop that the kernel half samples.
pub(super) fn drops(audit: Arc<Audit>, ports: PortsView, last: LastDrops) -> impl Fn(SampledDrop) + Send {
    move |drop| {
        let at = SystemTime::now();
        last.keep(&drop, at);
        if !matches!(drop.reason, DropReason::SpoofedMac | DropReason::SpoofedIp) {
            return;
        }
        let subject = subject(ports.get(drop.ifindex));
        // The samples before this one told of half of them.
        let news = drop.count - drop.count / 2;
        audit.watch().note(subject.instance, subject.tag, [Anomaly::SpoofedPackets].into_iter().collect(), news, at);
        if let Some(log) = audit.log() {
            log.send(Record::Dropped(Dropped {
                at,
                subject,
                tap: Text::escaped(drop.tap.as_bytes()),
                reason: drop.reason.name(),
                mac: Text::escaped(drop.mac.as_bytes()),
                claimed: Text::escaped(drop.source.as_bytes()),
                count: drop.count,
            }));
        }
    }
}

/// Returns whose tap it is.
fn subject(port: Option<PortView>) -> Subject {
    let Some(PortView { tag, state, .. }) = port else { return Subject::default() };
    let tag = tag.map_or(0, |tag| tag.0);
    match state {
        PortState::Bound(Assignment { instance, project, port, .. }) => Subject {
            tag,
            instance: Some(instance),
            project: project.as_deref().map(Into::into),
            port,
            ..Subject::default()
        },
        PortState::Held | PortState::Passed | PortState::Refused(_) | PortState::Failed(_) => {
            Subject { tag, ..Subject::default() }
        }
    }
}
