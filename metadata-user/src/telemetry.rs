//! Logging: tracing's events as lines on standard error, where the service manager picks them up.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::{Log, LogFormat};

/// The crate `notify` logs watches that the kernel has already removed, which is not an error here. What `lapin` logs as an error is
/// returned as well, and logged with its remedy.
const QUIET: &str = "notify=warn,lapin=off";

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is invalid.
    #[error("invalid log filter `{filter}`: use for example \"info\"")]
    Filter {
        /// The filter as configured.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// What is logged cannot be changed.
    #[error("changing the log filter")]
    Change(#[source] reload::Error),
    /// Another subscriber is already installed.
    #[error("starting logging")]
    Start(#[source] TryInitError),
}

/// What is logged, which can be changed. Clones are the same.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Logs what this configuration says from here on.
    ///
    /// # Errors
    /// [`TelemetryError`] if the filter is invalid.
    pub fn set(&self, log: &Log) -> Result<(), TelemetryError> {
        self.0.reload(filter(log)?).map_err(TelemetryError::Change)
    }
}

/// Returns what is to be logged.
fn filter(log: &Log) -> Result<EnvFilter, TelemetryError> {
    // First, so that the configured filter overrides it.
    let directives = format!("{QUIET},{}", log.filter);
    let parsed = EnvFilter::builder().parse(&directives);
    parsed.map_err(|source| TelemetryError::Filter { filter: log.filter.clone(), source })
}

/// Starts logging, for the whole process.
///
/// # Errors
/// [`TelemetryError`] if the filter is invalid, or logging was started before.
pub fn start(log: &Log) -> Result<LogFilter, TelemetryError> {
    let (layer, handle) = reload::Layer::new(filter(log)?);
    let registry = tracing_subscriber::registry().with(layer);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        // The journal adds the time itself, and shows escapes as they are.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            registry.with(lines.without_time().with_ansi(false)).try_init()
        }
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(TelemetryError::Start)?;
    Ok(LogFilter(handle))
}
