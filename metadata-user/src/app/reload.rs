//! Reading the configuration again, on SIGHUP.
//!
//! Promises: a file that is not accepted changes nothing, and log and `status` say why. Of an accepted file, the keys declared as live
//! (`config`, `Table::live`) are in force when this returns, for the next request or connection; other keys that differ from the
//! configuration at the start are named, in the log and in `status`, until a restart.
//!
//! Left out: what is set up at the start: threads, sockets, the source, and in the kernel all but limits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tracing::{info, warn};

use super::kernel::Kernel;
use super::{notify_service_manager, possible_connections};
use crate::config::ConfigFile;
use crate::error_text;
use crate::http::Guests;
use crate::readiness::Readiness;
use crate::state_view::StateView;
use crate::telemetry::LogFilter;

/// The results of reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReloadState {
    /// When the configuration was last read again.
    pub(super) at: Option<SystemTime>,
    /// Why the file was not accepted, and the remedy.
    pub(super) error: Option<String>,
    /// Keys that the last accepted reload changed.
    pub(super) applied: Vec<String>,
    /// Keys that differ from the configuration at the start, and need a restart.
    pub(super) restart_needed: Vec<String>,
}

/// Reads the configuration again.
pub(super) struct Reloader {
    /// The configuration at the start.
    started: ConfigFile,
    /// The last accepted configuration.
    current: ConfigFile,
    state: StateView<ReloadState>,
    log: LogFilter,
    guests: Arc<Guests>,
    kernel: Kernel,
    readiness: Readiness,
    drain_timeout: StateView<Duration>,
}

impl Reloader {
    pub(super) fn new(
        started: ConfigFile,
        log: LogFilter,
        guests: Arc<Guests>,
        kernel: Kernel,
        readiness: Readiness,
    ) -> Self {
        let state = StateView::new(ReloadState::default());
        let drain_timeout = StateView::new(started.config.http.drain_timeout);
        Self { current: started.clone(), started, state, log, guests, kernel, readiness, drain_timeout }
    }

    /// Returns a view of the results.
    pub(super) fn state(&self) -> StateView<ReloadState> {
        self.state.clone()
    }

    /// Returns a view of how long requests in flight get when the daemon ends.
    pub(super) fn drain_timeout(&self) -> StateView<Duration> {
        self.drain_timeout.clone()
    }

    /// Reads the file again, and applies its live keys.
    pub(super) async fn reload(&mut self) {
        // systemd needs the time to tell this reload from earlier ones (sd_notify(3)).
        let begun = NotifyState::monotonic_usec_now().ok();
        notify_service_manager(&[Some(NotifyState::Reloading), begun].into_iter().flatten().collect::<Vec<_>>());
        let mut state = ReloadState::clone(&self.state.get());
        state.at = Some(SystemTime::now());
        match ConfigFile::load(&self.started.path) {
            Ok(new) => self.apply(new, &mut state).await,
            Err(error) => {
                let problem = error_text::chain(&error);
                warn!("SIGHUP: the configuration is not accepted, so nothing changes: {problem}");
                state.error = Some(problem);
            }
        }
        self.state.publish(state);
        if self.readiness.pending().is_empty() {
            notify_service_manager(&[NotifyState::Ready]);
        }
    }

    async fn apply(&mut self, new: ConfigFile, state: &mut ReloadState) {
        for warning in new.config.warnings() {
            warn!("{}: {warning}", new.path.display());
        }
        let names = |changes: Vec<crate::config::Changed>, is_live: bool| {
            changes.into_iter().filter(|changed| changed.is_live == is_live).map(|changed| changed.key).collect()
        };
        state.error = self.log.set(&new.config.log).err().map(|error| error_text::chain(&error));
        let connections = possible_connections(new.config.http.connections);
        self.guests.reconfigure(&new.config, connections);
        self.kernel.set_rules(new.config.ports.clone()).await;
        state.applied = names(self.current.changes(&new), true);
        state.restart_needed = names(self.started.changes(&new), false);
        let (applied, restart) = (state.applied.join(", "), state.restart_needed.join(", "));
        if applied.is_empty() {
            info!("SIGHUP: configuration read again; no key that a reload applies has changed");
        } else {
            info!(applied, "SIGHUP: configuration read again");
        }
        if !restart.is_empty() {
            warn!(keys = restart, "SIGHUP: these changed keys need a restart of the daemon");
        }
        self.drain_timeout.publish(new.config.http.drain_timeout);
        self.current = new;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, ConfigFile, Http, reference};

    /// Each live key with another value than its default.
    const LIVE: [(&str, &str, &str); 34] = [
        ("ports", "new_connections_per_second", "7"),
        ("ports", "new_connections_burst", "7"),
        ("ports", "packets_per_second", "7"),
        ("ports", "packets_burst", "7"),
        ("ports", "impersonation_guard", "true"),
        ("access", "metadata", "false"),
        ("access", "ipv6", "false"),
        ("access", "ec2", "false"),
        ("access", "user_data", "\"never\""),
        ("access", "first_boot", "\"7m\""),
        ("access", "privileged", "[\"user_data\"]"),
        ("access", "session", "\"optional\""),
        ("access", "hop_limit", "7"),
        ("http", "request_timeout", "\"7s\""),
        ("http", "idle_timeout", "\"37s\""),
        ("http", "ready_timeout", "\"2s\""),
        ("http", "patience", "[{ agent = \"x\", wait = \"1s\" }]"),
        ("http", "connection_timeout", "\"7m\""),
        ("http", "drain_timeout", "\"7s\""),
        ("http", "connections_per_port", "7"),
        ("http", "connections_per_instance", "7"),
        ("http", "connections", "777"),
        ("http", "head_bytes", "9000"),
        ("http", "headers", "77"),
        ("http", "target_bytes", "777"),
        ("http", "requests_per_second", "7"),
        ("http", "request_burst", "7"),
        ("guests", "extensions", "false"),
        ("guests", "waits_per_instance", "7"),
        ("guests", "longest_wait", "\"7m\""),
        ("guests", "attributes_per_instance", "7"),
        ("identity", "token_lifetime", "\"7m\""),
        ("identity", "tokens_per_second", "7"),
        ("log", "filter", "\"debug\""),
    ];

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("m.toml"), text).expect("accepted")
    }

    /// What [`super::Reloader::apply`] hands on.
    fn applied(config: &Config) -> String {
        let (threads, ports) = (Config::default().http.threads, &config.ports);
        let http = Http { threads, ..config.http.clone() };
        format!(
            "{:?} {http:?} {:?} {:?} {}",
            config.log.filter,
            config.policy(),
            ports.limits,
            ports.impersonation_guard
        )
    }

    #[test]
    fn what_is_declared_as_live_is_what_a_reload_applies() {
        let before = file("");
        for (table, key, value) in LIVE {
            let after = file(&format!("[{table}]\n{key} = {value}\n"));
            let changes: Vec<_> =
                before.changes(&after).into_iter().map(|changed| (changed.key, changed.is_live)).collect();
            assert_eq!(changes, [(format!("{table}.{key}"), true)]);
            assert_ne!(applied(&before.config), applied(&after.config), "{table}.{key}");
        }
        let declared = reference::markdown().matches("\n- Applied by a reload\n").count();
        assert_eq!(declared, LIVE.len(), "every live key is in the table above");
        let threads = file("[http]\nthreads = 7\n");
        assert_eq!(applied(&before.config), applied(&threads.config));
    }
}
