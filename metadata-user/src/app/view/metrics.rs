//! The state of the daemon's parts as metrics, read for each request for them.

use std::time::{Duration, SystemTime};

use metadata_ebpf::abi::Counters;

use super::View;
use crate::audit::Audit;
use crate::clock::unix_of;
use crate::config_drive::KeeperState;
use crate::facts::Observer;
use crate::facts::report::ObserverState;
use crate::https::HttpsState;
use crate::metrics::{Fault, Packets, State, process, reference, state as declared};
use crate::port::{GuardState, PortState};
use crate::privilege::{self, Files, PROFILES, Seccomp, ThreadState};
use crate::snapshot::SnapshotState;
use crate::source::SourceState;
use crate::source::vendordata::VendordataState;

/// Returns everything that applies now.
pub(super) fn read(view: &View) -> State {
    let mut state = State::default();
    state.say(&declared::BUILD, env!("CARGO_PKG_VERSION"));
    let is_released = view.release.state().is_some();
    state.set(&declared::READY, flag(view.readiness.pending().is_empty() && !is_released));
    state.set(&declared::DRAINING, flag(view.drain.has_begun() && !is_released));
    state.set(&declared::RELEASED, flag(is_released));
    state.set(&declared::INSTANCES, count(view.store.len()));
    ports(view, &mut state);
    for (outcome, ports) in declared::LAST_BOOT.values().iter().zip(super::boots::by_outcome(view)) {
        state.set_for(&declared::LAST_BOOT, outcome, count(ports));
    }
    state.set(&declared::CONNECTIONS, count(view.guests.open()));
    state.set(&declared::WAITING, count(view.guests.waiting()));
    state.set(&declared::CONNECTIONS_LIMIT, count(view.guests.most_open()));
    source(&view.source.get(), &mut state);
    if let Some(snapshot) = &view.snapshot {
        self::snapshot(&snapshot.get(), &mut state);
    }
    if let Some(drives) = &view.drives {
        config_drives(&drives.get(), &mut state);
    }
    if let Some(vendordata) = &view.vendordata {
        self::vendordata(&vendordata.get(), &mut state);
    }
    for reporter in &view.observers {
        observer(&reporter.get(), &mut state);
    }
    audit(&view.audit, &mut state);
    if let Some(https) = &view.https {
        certificate("https", &https.get(), &mut state);
    }
    if let Some(https) = view.exporter.as_ref().and_then(|exporter| exporter.https.as_ref()) {
        certificate("metrics", &https.get(), &mut state);
    }
    if let Some(signing) = &view.signing {
        let signing = signing.get();
        state.set(&declared::IDENTITY_KEYS, count(signing.key_ids.len()));
        state.set(&declared::IDENTITY_UP, flag(signing.error.is_none()));
    }
    if let Ok(threads) = privilege::threads() {
        self::threads(&threads, &mut state);
    }
    process::read(&mut state, unix_of(view.started_at));
    state
}

/// Returns the page of metrics, docs/metrics.md.
#[must_use]
pub(in crate::app) fn page() -> String {
    reference::markdown(Nothing)
}

/// No packet of any kind.
#[derive(Debug)]
struct Nothing;

impl Packets for Nothing {
    fn totals(&self) -> Vec<(&'static str, u64)> {
        Counters::NAMES.into_iter().filter(|name| !name.is_empty()).map(|name| (name, 0)).collect()
    }
}

fn ports(view: &View, state: &mut State) {
    let ports = view.kernel.ports();
    for name in declared::PORTS.values() {
        let found = ports.iter().filter(|(_, port)| super::ports::state(&port.state).name() == *name).count();
        state.set_for(&declared::PORTS, name, count(found));
    }
    let widened = |state: &PortState| matches!(state, PortState::Bound(bound) if bound.warning.is_some());
    for name in declared::PORTS_GUARD.values() {
        let is = |guard: &GuardState| match guard {
            GuardState::Off => false,
            GuardState::Xdp => *name == "xdp",
            GuardState::Missing { name: reason, .. } => reason == name,
        };
        state.set_for(&declared::PORTS_GUARD, name, count(ports.iter().filter(|(_, port)| is(&port.guard)).count()));
    }
    let faults = view.kernel.faults();
    for fault in Fault::ALL {
        state.set_for(&declared::FAULTS, fault.name(), flag(faults.contains_key(&fault)));
    }
    state.set(&declared::PORTS_WIDENED, count(ports.iter().filter(|(_, port)| widened(&port.state)).count()));
}

fn source(source: &SourceState, state: &mut State) {
    state.say(&declared::SOURCE, source.kind);
    state.set(&declared::SOURCE_UP, flag(source.error.is_none()));
    state.set(&declared::SOURCE_INSTANCES, count(source.instances));
    state.set(&declared::SOURCE_BROKEN, count(source.broken.len()));
    state.set_if(&declared::SOURCE_SYNCED, source.synced_at.map(timestamp));
    state.set_if(&declared::SOURCE_CHANGED, source.changed_at.map(timestamp));
    let lag = source.lagging_since.map(|since| since.elapsed().unwrap_or_default());
    state.set(&declared::SOURCE_LAG, lag.unwrap_or(Duration::ZERO).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "etcd would write for centuries until a revision of 2^53")]
    state.set_if(&declared::SOURCE_REVISION, source.revision.map(|revision| revision as f64));
    state.set(&declared::SOURCE_RESYNCS, number(source.resyncs));
    state.set(&declared::SOURCE_UNCONFIRMED, count(source.unconfirmed.len()));
    let failing = source.endpoints.iter().filter(|endpoint| endpoint.error.is_some()).count();
    state.set_for(&declared::SOURCE_ENDPOINTS, "answering", count(source.endpoints.len() - failing));
    state.set_for(&declared::SOURCE_ENDPOINTS, "failing", count(failing));
}

fn snapshot(snapshot: &SnapshotState, state: &mut State) {
    state.set(&declared::SNAPSHOT_UP, flag(snapshot.error.is_none()));
    state.set_if(&declared::SNAPSHOT_WRITTEN, snapshot.written_at.map(timestamp));
    state.set(&declared::SNAPSHOT_SIZE, number(snapshot.bytes));
    state.set(&declared::SNAPSHOT_INSTANCES, count(snapshot.instances));
}

fn config_drives(drives: &KeeperState, state: &mut State) {
    state.set(&declared::CONFIG_DRIVES_UP, flag(drives.error.is_none()));
    for (label, images) in [("current", drives.current), ("waiting", drives.waiting), ("failed", drives.failed)] {
        state.set_for(&declared::CONFIG_DRIVES, label, count(images));
    }
}

fn vendordata(vendordata: &VendordataState, state: &mut State) {
    let failing = vendordata.targets.iter().filter(|target| target.failing > 0).count();
    state.set_for(&declared::VENDORDATA_TARGETS, "reachable", count(vendordata.targets.len() - failing));
    state.set_for(&declared::VENDORDATA_TARGETS, "failing", count(failing));
}

fn observer(observer: &ObserverState, state: &mut State) {
    let label = match observer.observer {
        Observer::OpenVswitch => "openvswitch",
        Observer::Libvirt => "libvirt",
    };
    state.set_for(&declared::OBSERVER_UP, label, flag(observer.present));
    state.set_for(&declared::OBSERVER_DEVICES, label, count(observer.facts));
    let problems = usize::from(observer.error.is_some()) + observer.unreadable.len();
    state.set_for(&declared::OBSERVER_PROBLEMS, label, count(problems));
    state.set_for(&declared::OBSERVER_UNREACHABLE, label, count(observer.unreachable_ports.len()));
}

fn audit(audit: &Audit, state: &mut State) {
    state.set_if(&declared::AUDIT_UP, audit.log().map(|log| flag(log.state().get().error.is_none())));
}

fn certificate(table: &'static str, https: &HttpsState, state: &mut State) {
    state.set_for(&declared::CERTIFICATE_UP, table, flag(https.error.is_none()));
    if let Some(end) = https.not_after {
        state.set_for(&declared::CERTIFICATE_END, table, timestamp(end));
    }
}

fn threads(threads: &[ThreadState], state: &mut State) {
    let profile = |thread: &ThreadState| thread.applied.as_ref().map_or("other", |applied| applied.profile);
    for name in declared::THREADS.values() {
        let found = threads.iter().filter(|thread| profile(thread) == *name).count();
        state.set_for(&declared::THREADS, name, count(found));
    }
    let unconfined = threads.iter().filter(|thread| is_unconfined(thread)).count();
    state.set(&declared::THREADS_UNCONFINED, count(unconfined));
    let privileged = threads.iter().filter(|thread| is_privileged(thread)).count();
    state.set(&declared::THREADS_PRIVILEGED, count(privileged));
}

fn profile(thread: &ThreadState) -> Option<&'static privilege::Profile> {
    let applied = thread.applied.as_ref()?;
    PROFILES.into_iter().find(|known| known.name == applied.profile)
}

/// Whether a thread reads what others send, and lacks a part of its confinement.
fn is_unconfined(thread: &ThreadState) -> bool {
    let has_landlock = || {
        let landlock = thread.applied.as_ref().and_then(|applied| applied.landlock.as_ref());
        matches!(landlock, Some(privilege::Landlock::Applied(_)))
    };
    profile(thread).is_some_and(|profile| profile.files == Files::None)
        && !(matches!(thread.seccomp, Seccomp::Filter(_)) && has_landlock())
}

/// Whether a thread has a capability that its profile does not name.
fn is_privileged(thread: &ThreadState) -> bool {
    let needed = |name: &str| {
        let profile = profile(thread);
        profile.is_some_and(|profile| profile.capabilities.iter().any(|need| need.capability.to_string() == name))
    };
    profile(thread).is_some() && thread.effective.iter().any(|name| !needed(name))
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn count(value: usize) -> f64 {
    number(value as u64)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and nobody looks at the last digit beyond")]
fn number(value: u64) -> f64 {
    value as f64
}

fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Format, Metrics};
    use crate::privilege::{Applied, Landlock};

    fn thread(profile: &'static str, landlock: Option<Landlock>, seccomp: Seccomp, effective: &[&str]) -> ThreadState {
        ThreadState {
            id: 1,
            name: profile.to_owned(),
            user: 0,
            group: 0,
            effective: effective.iter().map(|name| (*name).to_owned()).collect(),
            permitted: Vec::new(),
            inheritable: Vec::new(),
            ambient: Vec::new(),
            bounding: Vec::new(),
            no_new_privileges: true,
            seccomp,
            applied: Some(Applied { profile, landlock }),
        }
    }

    #[test]
    fn a_thread_that_lacks_its_confinement_or_has_more_than_its_work_needs_is_counted() {
        let (filter, applied) = (Seccomp::Filter(None), Some(Landlock::Applied(6)));
        for (thread, unconfined, privileged) in [
            (thread("guests", applied.clone(), filter, &[]), false, false),
            (thread("guests", applied, Seccomp::Off, &[]), true, false),
            (thread("metrics", Some(Landlock::Absent("why")), filter, &["CAP_CHOWN"]), true, true),
            (thread("ports", None, Seccomp::Off, &["CAP_NET_ADMIN"]), false, false),
            (thread("ports", None, Seccomp::Off, &["CAP_SYS_ADMIN"]), false, true),
        ] {
            assert_eq!((is_unconfined(&thread), is_privileged(&thread)), (unconfined, privileged), "{thread:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let mut state = State::default();
        let mut known = SourceState::new("etcd", "x".to_owned());
        source(&known, &mut state);
        let text = Metrics::new().text(Format::Text, state);
        for line in ["metadatad_source_info{kind=\"etcd\"} 1\n", "metadatad_source_lag_seconds 0.0\n"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("synced_timestamp") && !text.contains("snapshot"), "{text}");
        known.synced_at = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        let mut state = State::default();
        source(&known, &mut state);
        let text = Metrics::new().text(Format::Text, state);
        assert!(text.contains("metadatad_source_synced_timestamp_seconds 1.5\n"), "{text}");
    }

    /// docs/metrics.md is what `cargo xtask schema` writes.
    #[test]
    fn the_page_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        let found = std::fs::read_to_string(path).expect("docs/metrics.md");
        assert!(found == page(), "docs/metrics.md is not up to date: run `cargo xtask schema`");
    }
}
