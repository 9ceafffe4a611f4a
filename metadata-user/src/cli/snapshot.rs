//! `metadatad snapshot`: the file that a node keeps, verified, exported and imported.
//!
//! Promises: nothing is imported while the daemon runs, as that would overwrite it; a file that is refused changes nothing; a copy in
//! clear text, for another key or of another source needs an explicit option.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::CliError;
use super::lines::{Lines, ago, now};
use super::{Form, converse, exit, print_json};
use crate::admin::client::{Client, ClientError};
use crate::config::Config;
use crate::snapshot::Origin;
use crate::snapshot::copy::{self, Copy, Summary};

/// What is done with a snapshot.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Write a copy of this node's snapshot, as it is or sealed with another key, to a file or to standard output
    Export(Export),
    /// Replace this node's snapshot with a copy; the daemon must be stopped, and reads it when it starts
    Import(Import),
    /// Verify a snapshot or a copy, and print its age, its source and its number of instances
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The copy; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    to: PathBuf,

    /// Seal it with the key in this file, of at least 32 bytes, instead of this node's key: for a node that has that key
    #[arg(long, value_name = "FILE", conflicts_with = "clear")]
    for_key: Option<PathBuf>,

    /// Do not seal it: every password and all user data in it are readable
    #[arg(long)]
    clear: bool,

    /// The key that the snapshot is sealed with, instead of this node's
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The copy, with mode 0600
    #[arg(value_name = "FILE")]
    from: PathBuf,

    /// The key that the copy is sealed with, instead of this node's
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Accept content of a source other than the configured one
    #[arg(long)]
    any_source: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The snapshot or copy [default: this node's snapshot]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The key that it is sealed with, instead of this node's
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    #[command(flatten)]
    form: Form,
}

/// A snapshot, as `verify --json` shows it.
#[derive(Serialize)]
struct Shown {
    /// The file.
    path: String,
    /// Whether it is sealed.
    sealed: bool,
    /// Fingerprint of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Kind of its source, and where that reads.
    source: String,
    place: String,
    /// When it was written, in seconds of Unix time.
    written_at: u64,
    /// When its source was last known to agree with it, in seconds of Unix time.
    as_of: u64,
    /// The controller's state that it is not older than.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// Instances that are served from it.
    instances: usize,
    /// Instances that were removed since it was written.
    removed: usize,
    bytes: u64,
}

impl Verb {
    /// `socket`: that of the daemon that would have to be stopped.
    pub(super) fn execute(&self, config: &Config, socket: &Path, out: &mut dyn Write) -> Result<u8, CliError> {
        match self {
            Self::Export(export) => export.execute(config, out),
            Self::Import(import) => import.execute(config, socket, out),
            Self::Verify(verify) => verify.execute(config, out),
        }
    }
}

impl Export {
    fn execute(&self, config: &Config, out: &mut dyn Write) -> Result<u8, CliError> {
        let settings = &config.snapshot;
        let own = || copy::existing_key(self.key.as_deref(), settings);
        let copied = Copy::read(&settings.path, own, None)?;
        let key = match (&self.for_key, self.clear) {
            (_, true) => None,
            (Some(path), false) => Some(copy::existing_key(Some(path), settings)?),
            (None, false) => Some(own()?),
        };
        let form = key.as_ref().map_or(copy::Form::Clear, copy::Form::Sealed);
        if self.to == Path::new("-") {
            copied.write_to(form, out)?;
        } else {
            copied.export(form, &self.to)?;
        }
        Ok(exit::OK)
    }
}

impl Import {
    fn execute(&self, config: &Config, socket: &Path, out: &mut dyn Write) -> Result<u8, CliError> {
        let client = Client::new(socket);
        match converse(async { Ok(client.status().await) })? {
            Err(ClientError::Unreachable { .. }) => {}
            Err(error @ ClientError::NotPermitted { .. }) => return Err(error.into()),
            Ok(_) | Err(_) => return Err(CliError::DaemonRuns(socket.to_owned())),
        }
        let (settings, origin) = (&config.snapshot, Origin::of(&config.source));
        let key = copy::own_key(settings)?;
        let of_copy = || match &self.key {
            Some(path) => copy::existing_key(Some(path), settings),
            None => copy::own_key(settings),
        };
        let copied = Copy::read(&self.from, of_copy, (!self.any_source).then_some(&origin))?;
        copied.import(&settings.path, &key, &origin)?;
        let Summary { instances, as_of, .. } = copied.summary();
        writeln!(out, "{}: {instances} instances as of {} ago", settings.path.display(), ago(now(), *as_of))?;
        Ok(exit::OK)
    }
}

impl Verify {
    fn execute(&self, config: &Config, out: &mut dyn Write) -> Result<u8, CliError> {
        let settings = &config.snapshot;
        let path = self.file.as_ref().unwrap_or(&settings.path);
        let copied = Copy::read(path, || copy::existing_key(self.key.as_deref(), settings), None)?;
        if self.form.json {
            print_json(&Shown::of(copied.summary()), out)?;
        } else {
            out.write_all(describe(copied.summary(), now()).as_bytes())?;
        }
        Ok(exit::OK)
    }
}

impl Shown {
    fn of(summary: &Summary) -> Self {
        Self {
            path: summary.path.display().to_string(),
            sealed: summary.key.is_some(),
            key: summary.key.clone(),
            source: summary.source.kind.clone(),
            place: summary.source.place.clone(),
            written_at: summary.written_at,
            as_of: summary.as_of,
            revision: summary.revision,
            instances: summary.instances,
            removed: summary.removed,
            bytes: summary.bytes,
        }
    }
}

fn describe(summary: &Summary, now: u64) -> String {
    let mut lines = Lines::default();
    lines.line("snapshot", &format!("{}, {} bytes, whole", summary.path.display(), summary.bytes));
    let sealed = summary.key.as_ref().map_or("no: clear text".to_owned(), |key| format!("with the key {key}"));
    lines.line("sealed", &sealed);
    lines.line("source", &summary.source.to_string());
    lines.line("written", &format!("{} ago", ago(now, summary.written_at)));
    lines.line("as of", &format!("{} ago", ago(now, summary.as_of)));
    if let Some(revision) = summary.revision {
        lines.line("revision", &revision.to_string());
    }
    let removed = if summary.removed > 0 { format!(", {} removed since", summary.removed) } else { String::new() };
    lines.line("instances", &format!("{}{removed}", summary.instances));
    lines.into_text()
}

impl From<copy::KeyError> for CliError {
    fn from(error: copy::KeyError) -> Self {
        copy::CopyError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_printed_with_ages() {
        let summary = Summary {
            path: "/s".into(),
            key: Some("abc".to_owned()),
            source: Origin { kind: "etcd".to_owned(), place: "/p/n".to_owned() },
            written_at: 100,
            as_of: 40,
            revision: Some(9),
            instances: 3,
            removed: 1,
            bytes: 77,
        };
        let expected = "snapshot     /s, 77 bytes, whole\nsealed       with the key abc\nsource       etcd /p/n\n\
                        written      10 s ago\nas of        70 s ago\nrevision     9\ninstances    3, 1 removed since\n";
        assert_eq!(describe(&summary, 110), expected);
        let clear = describe(&Summary { key: None, removed: 0, ..summary }, 110);
        assert!(clear.contains("no: clear text") && clear.ends_with("instances    3\n"), "{clear}");
    }
}
