//! Gathers the evidence: from the daemon, the kernel, the disks and the clock, each by itself.
//!
//! Promises: nothing is changed, and evidence that cannot be had is left out. Asking the daemon takes at most five seconds in all.

mod daemon;
mod kernel;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::sys::statvfs::statvfs;

use super::evidence::{Answers, Disk, Evidence, Port, Settings};
use crate::cli::error::CliError;
use crate::cli::lines;
use crate::config::partial::Partial;
use crate::config::{AuditTarget, AutoDrive, Config};
use crate::dataplane::inspect::taps_elsewhere;
use crate::error_text;

/// Reads what there is.
pub(super) fn gather(path: &Path, socket: Option<PathBuf>) -> Result<Evidence, CliError> {
    let (config, error) = configuration(path);
    let settings = Settings {
        error,
        socket: socket.unwrap_or_else(|| config.admin.socket.clone()),
        pin_dir: config.bpf.pin_dir.clone(),
        namespace: config.responder.namespace.clone(),
        interface: config.responder.interface.clone(),
        listens: std::iter::once(config.responder.port).chain(config.https.as_ref().map(|https| https.port)).collect(),
    };
    let daemon = daemon::ask(&settings.socket)?;
    let looked = kernel::look(&config, &settings);
    let (kernel, mut ports) = match looked {
        Ok((kernel, ports)) => (Ok(kernel), ports),
        Err(error) => (Err(error), BTreeMap::new()),
    };
    if let Some(answers) = daemon.answers() {
        add_answers(&mut ports, answers);
        find_elsewhere(&mut ports);
    }
    let clock_jump = daemon.answers().and_then(|answers| process::clock_jump(&answers.status, lines::now()));
    Ok(Evidence {
        now: lines::now(),
        settings,
        daemon,
        kernel,
        disks: disks(&config),
        clock_jump,
        identity_changed_at: config.identity.signer.as_ref().and_then(|signer| changed_at(&signer.key_file)),
        ports: ports.into_values().collect(),
    })
}

/// Returns the configuration, or as much of it as can be read, with why it is not accepted.
fn configuration(path: &Path) -> (Config, Option<String>) {
    match Config::load(path) {
        Ok(config) => (config, None),
        Err(error) => {
            let (partial, mut config) = (Partial::load(path), Config::default());
            if let Some(socket) = partial.socket() {
                config.admin.socket = socket;
            }
            if let Some(pin_dir) = partial.pin_dir() {
                config.bpf.pin_dir = pin_dir;
            }
            if let Some(namespace) = partial.namespace() {
                config.responder.namespace = namespace;
            }
            if let Some(interface) = partial.interface() {
                config.responder.interface = interface;
            }
            if let Some(snapshot) = partial.snapshot() {
                config.snapshot = snapshot;
            }
            (config, Some(error_text::chain(&error)))
        }
    }
}

/// Adds what the daemon knows to what the kernel does.
fn add_answers(ports: &mut BTreeMap<String, Port>, answers: &Answers) {
    let mut at = |tap: &str, change: &dyn Fn(&mut Port)| {
        let new = || Port { tap: tap.to_owned(), ..Port::default() };
        change(ports.entry(tap.to_owned()).or_insert_with(new));
    };
    for status in &answers.ports {
        at(&status.name, &|port| port.status = Some(status.clone()));
    }
    for claim in &answers.claims {
        at(&claim.tap, &|port| port.claimed_by.clone_from(&claim.instances));
    }
    for port in ports.values_mut() {
        let instance = port.instance();
        port.drops = answers.drops.iter().filter(|drop| drop.tap == port.tap).cloned().collect();
        let of_tap = answers.boots.iter().find(|shown| shown.tap.as_deref() == Some(&*port.tap));
        port.boot = of_tap.and_then(|shown| shown.boots.first().cloned());
        let of_instance = |other: &str| instance.as_deref() == Some(other);
        port.content = answers.content.iter().find(|content| of_instance(&content.instance)).cloned();
        let anomalies = answers.anomalies.iter().find(|shown| of_instance(&shown.instance));
        port.anomalies = anomalies.map(|shown| shown.anomalies.clone()).unwrap_or_default();
    }
}

/// Looks in other namespaces for the taps that documents name and this one lacks.
fn find_elsewhere(ports: &mut BTreeMap<String, Port>) {
    let missing: BTreeSet<String> = ports
        .values()
        .filter(|port| port.link.is_none() && port.status.is_none())
        .map(|port| port.tap.clone())
        .collect();
    for found in taps_elsewhere(&missing) {
        if let Some(port) = ports.get_mut(&found.tap) {
            port.elsewhere = Some(found.namespace);
        }
    }
}

/// Returns when a file was last changed, in seconds of Unix time.
fn changed_at(file: &Path) -> Option<u64> {
    let changed = file.metadata().and_then(|metadata| metadata.modified()).ok()?;
    changed.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// Returns the file systems that the daemon writes to.
fn disks(config: &Config) -> Vec<Disk> {
    let mut places = Vec::new();
    if config.snapshot.enabled {
        places.push(("the snapshot", config.snapshot.path.clone()));
    }
    if config.configdrive.auto != AutoDrive::Off {
        places.push(("config drives", config.configdrive.directory.join("images")));
    }
    if config.audit.to == AuditTarget::File {
        places.push(("the audit log", config.audit.path.clone()));
    }
    let disk = |(what, path): (&'static str, PathBuf)| {
        let found = statvfs(path.parent()?).ok()?;
        let files = found.files_available();
        Some(Disk {
            what,
            free: found.blocks_available().saturating_mul(found.fragment_size()),
            // File systems without a table of inodes report a total of zero.
            free_files: (found.files() > 0).then_some(files),
            path,
        })
    };
    places.into_iter().filter_map(disk).collect()
}
