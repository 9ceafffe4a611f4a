//! `[log]`: what is logged, and how.

use super::key::{Key, Table};
use super::kind::{Choice, Text};
use super::refusal::{Fault, Refusal};
use super::written::Reader;

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level (`info`), or directives as tracing-subscriber's `EnvFilter` reads them (`info,metadata_user::http=debug`).
    pub filter: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

pub(super) static TABLE: Table = Table {
    name: "log",
    about: "The daemon's log.",
    keys: &[&FILTER, &FORMAT],
    tables: &[],
    is_optional: false,
    live: &["filter"],
};

static FILTER: Key<Text<String>> = Key {
    name: "filter",
    kind: Text { what: "a level, or directives", check: filter },
    default: "\"info\"",
    about: "A level (`off`, `error`, `warn`, `info`, `debug` or `trace`), or directives such as \
            `info,metadata_user::http=debug`.",
    reason: "What is worth a line on a healthy node.",
};

static FORMAT: Key<Choice<LogFormat>> = Key {
    name: "format",
    kind: Choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    default: "\"text\"",
    about: "\"text\", or \"json\": one object per line.",
    reason: "The journal shows it as it is.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Log, Refusal> {
    Ok(Log { filter: table.value(&FILTER)?, format: table.value(&FORMAT)? })
}

fn filter(text: &str) -> Result<String, Fault> {
    // A directive without `=` is a level; EnvFilter takes any other for a crate's name, and logs nothing.
    let is_level = |level: &str| !level.is_empty() && level.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let directives = text.split(',').map(str::trim);
    let wrong = directives.into_iter().find(|one| !one.contains(['=', ':', '[', '_']) && !is_level(one));
    if let Some(wrong) = wrong {
        let remedy = "use off, error, warn, info, debug or trace, or target=level, for example \"info\"";
        return Err(Fault::new(format!("`{wrong}` is not a log level"), remedy));
    }
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Fault::new(
            format!("`{text}` is not a log filter: {error}"),
            "use for example \"info\" or \"info,metadata_user::http=debug\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{Log, LogFormat};
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let log = read("[log]\nfilter = 'debug'\nformat = 'json'\n").expect("accepted").log;
        assert_eq!(log, Log { filter: "debug".into(), format: LogFormat::Json });
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[log]\nfilter = 'a=b=c'", "m.toml:2:10", "not a log filter", "info"),
            ("[log]\nformat = 'xml'", "m.toml:2:10", "`xml`", "\"text\" or \"json\""),
            ("[log]\nfilter = 'verbose'", "m.toml:2:10", "`verbose` is not a log level", "info"),
            ("[log]\nfilter = 'info,hyper=debug,loud'", "m.toml:2:10", "`loud` is not a log level", "info"),
            ("[log]\nfilter = ''", "m.toml:2:10", "not a log level", "info"),
        ]);
    }
}
