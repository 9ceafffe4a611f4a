//! `metadatad instance apply` and `validate`: documents from files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::change::{Decision, Stored};
use super::{CliError, InstanceError, OfNode, exit, read_file, report};
use crate::config;
use crate::record::InstanceId;
use crate::source::{directory, wire};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Apply {
    /// Files with a document each, directories of such files (*.json), or - for the standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// With etcd: write only if the document is still at this revision; 0: only if there is none. One document only
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<i64>,

    #[command(flatten)]
    of: OfNode,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Validate {
    /// Files with a document each, directories of such files (*.json), or - for the standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A document that a file holds.
struct Given {
    id: InstanceId,
    bytes: Vec<u8>,
}

impl Apply {
    pub(super) fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        let documents = self.of.open(source)?;
        if self.if_revision.is_some() {
            documents.only_etcd("--if-revision")?;
        }
        let given = read_all(&self.files)?;
        if self.if_revision.is_some() && given.len() > 1 {
            return Err(InstanceError::OneRevision.into());
        }
        for Given { id, bytes } in given {
            let mut decide = |stored: Option<&Stored>| match self.if_revision {
                Some(expected) if stored.and_then(|stored| stored.revision).unwrap_or(0) != expected => {
                    let found = stored.and_then(|stored| stored.revision);
                    let found =
                        found.map_or("no revision, as there is none".to_owned(), |found| format!("revision {found}"));
                    Err(InstanceError::OtherRevision { id, expected, found })
                }
                _ => Ok(Decision::Write(bytes.clone())),
            };
            report(&documents, id, self.dry_run, &mut decide, out)?;
        }
        Ok(exit::OK)
    }
}

impl Validate {
    pub(in crate::cli) fn execute(&self, out: &mut dyn Write) -> Result<u8, CliError> {
        let mut all_well = true;
        for file in expand(&self.files)? {
            match wire::parse(&read_file(&file)?) {
                Ok(record) => writeln!(out, "{}: instance {}: good", file.display(), record.uuid)?,
                Err(error) => {
                    all_well = false;
                    writeln!(out, "{}: {error}", file.display())?;
                }
            }
        }
        Ok(if all_well { exit::OK } else { exit::BAD_DOCUMENT })
    }
}

/// Reads and checks every document, so that none is written if one is wrong.
fn read_all(files: &[PathBuf]) -> Result<Vec<Given>, InstanceError> {
    let mut given = Vec::new();
    let mut seen: BTreeMap<InstanceId, String> = BTreeMap::new();
    for file in expand(files)? {
        let name = file.display().to_string();
        let bytes = read_file(&file)?;
        let record = match wire::parse(&bytes) {
            Ok(record) => record,
            Err(source) => return Err(InstanceError::Document { name, source }),
        };
        if let Some(first) = seen.insert(record.uuid, name.clone()) {
            return Err(InstanceError::Twice { id: record.uuid, first, second: name });
        }
        given.push(Given { id: record.uuid, bytes });
    }
    Ok(given)
}

/// Puts the documents of a directory in its place, by name.
fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, InstanceError> {
    let mut all = Vec::new();
    for path in files {
        if path.is_dir() {
            all.extend(in_directory(path)?);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

fn in_directory(path: &Path) -> Result<Vec<PathBuf>, InstanceError> {
    let refused = |source| InstanceError::Io { doing: "reading the directory", path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(refused)? {
        let file = entry.map_err(refused)?.path();
        if directory::document_name(&file).is_some() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(InstanceError::NothingGiven(path.display().to_string()));
    }
    files.sort();
    Ok(files)
}
