//! `metadatad instance`: documents, where the source keeps them.
//!
//! Promises: nothing is written that the daemon could not use; what is written is decided on what is stored at that
//! moment (`documents`); a document that is broken already is shown with what is wrong, and can be repaired or deleted.
//! The daemon has no part in it and need not run: it sees the change as any other. Only a posted password is in no
//! document, nor is it when user data was read: `password` and `user-data` ask the daemon for these.
//!
//! Left out: what lies between documents, such as two that claim one tap; `metadatad ports` shows that.

mod apply;
mod change;
mod directory;
mod documents;
#[cfg(feature = "etcd")]
mod etcd;
mod list;
mod password;
mod property;
mod user_data;

use std::io::{self, Read, Write};
use std::path::Path;

use clap::Subcommand;

use super::error::CliError;
use super::error::instance::{InstanceError, PropertyError};
use super::exit;
use crate::config;
use crate::record::InstanceId;
use crate::source::wire;
use change::{Decision, Outcome, Stored};
use documents::Documents;
use property::Assignment;

/// Commands on instances.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    #[command(flatten)]
    Document(DocumentVerb),
    /// Read or clear the password that a guest posted, in the running daemon; with Nova, only read
    #[command(subcommand, disable_help_subcommand = true)]
    Password(password::Verb),
    /// Show when a guest first read its user data, or reset that, in the running daemon
    #[command(subcommand, disable_help_subcommand = true)]
    UserData(user_data::Verb),
    /// Check documents in files, without writing; needs no configuration
    Validate(apply::Validate),
}

/// Commands on documents, where the source keeps them.
#[derive(Debug, Subcommand)]
pub(super) enum DocumentVerb {
    /// List the documents: instance, host name, place, and whether they are valid
    List(list::Verb),
    /// Print a document as it is stored, or one property of it
    Get(Get),
    /// Create or replace documents; all are checked before one is written
    Apply(apply::Apply),
    /// Set properties of a document; it is checked as a whole before it is written
    #[command(after_help = PROPERTIES)]
    Set(Set),
    /// Remove properties of a document; it is checked as a whole before it is written
    Unset(Unset),
    /// Delete documents; the instances' ports are held (503) from then on, or passed, as ports.unbound says
    Delete(Delete),
}

const PROPERTIES: &str = "\
Properties:
  hostname=web1           a field
  metadata.role=db        a key of the owner's metadata; dots after `metadata.` belong to the key
  ports.0.tap=tap7        a field of the first port; the number after the last one adds an element
  user_data=@cloud.yaml   the content of a file; for user_data_b64 any bytes, which are encoded
  launch_index=3          JSON where the field is not a string
  display_name:=null      always JSON; also for a string that begins with @: hostname:='\"@x\"'";

/// The node that the documents are for.
#[derive(Clone, Debug, clap::Args)]
struct OfNode {
    /// With etcd: the documents of this node, instead of the configuration's own
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

impl OfNode {
    fn open(&self, source: &config::Source) -> Result<Documents, InstanceError> {
        Documents::open(source, self.node.as_deref())
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// The instance
    uuid: InstanceId,
    /// Only this property: strings as they are, anything else as JSON
    #[arg(long, value_name = "KEY")]
    property: Option<String>,
    #[command(flatten)]
    of: OfNode,
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The instance
    uuid: InstanceId,
    /// Property to set: KEY=TEXT, KEY=@FILE or KEY:=JSON
    #[arg(long = "property", value_name = "KEY=VALUE", required = true)]
    properties: Vec<String>,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    of: OfNode,
}

#[derive(Debug, clap::Args)]
pub(super) struct Unset {
    /// The instance
    uuid: InstanceId,
    /// Property to remove, named as for `set`; numbers of elements are those of the stored document
    #[arg(long = "property", value_name = "KEY", required = true)]
    properties: Vec<String>,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    of: OfNode,
}

#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// The instances
    #[arg(required = true, value_name = "UUID")]
    uuids: Vec<InstanceId>,
    /// Ignore missing instances
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    of: OfNode,
}

impl DocumentVerb {
    pub(super) fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        match self {
            Self::List(verb) => verb.execute(source, out),
            Self::Get(verb) => verb.execute(source, out),
            Self::Apply(verb) => verb.execute(source, out),
            Self::Set(verb) => verb.execute(source, out),
            Self::Unset(verb) => verb.execute(source, out),
            Self::Delete(verb) => verb.execute(source, out),
        }
    }
}

impl Get {
    fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        let path = self.property.as_deref().map(property::Path::parse).transpose().map_err(InstanceError::from)?;
        let documents = self.of.open(source)?;
        let stored = documents.find(self.uuid)?.ok_or_else(|| absent(self.uuid, &documents))?;
        let text = stored.text()?;
        let Some(path) = path else {
            out.write_all(text)?;
            return Ok(exit::OK);
        };
        let document = property::read(text).map_err(InstanceError::from)?;
        match path.look(&document) {
            None => Err(InstanceError::NoProperty { id: self.uuid, path: path.to_string() }.into()),
            Some(serde_json::Value::String(text)) => {
                writeln!(out, "{text}")?;
                Ok(exit::OK)
            }
            Some(value) => {
                writeln!(out, "{value:#}")?;
                Ok(exit::OK)
            }
        }
    }
}

impl Set {
    fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        let assignments = self.properties.iter().map(|text| Assignment::parse(text, |path| read_file(Path::new(path))));
        let assignments = assignments.collect::<Result<Vec<_>, InstanceError>>()?;
        let documents = self.of.open(source)?;
        edit(&documents, self.uuid, self.dry_run, &|text| property::set(text, &assignments), out)
    }
}

impl Unset {
    fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        let paths = self.properties.iter().map(|text| property::Path::parse(text)).collect::<Result<Vec<_>, _>>();
        let paths = paths.map_err(InstanceError::from)?;
        let documents = self.of.open(source)?;
        edit(&documents, self.uuid, self.dry_run, &|text| property::unset(text, &paths), out)
    }
}

impl Delete {
    fn execute(&self, source: &config::Source, out: &mut dyn Write) -> Result<u8, CliError> {
        let documents = self.of.open(source)?;
        let mut missing = None;
        for id in &self.uuids {
            match documents.change(*id, &mut |_| Ok(Decision::Remove))? {
                Outcome::Deleted => writeln!(out, "{id}: deleted")?,
                _ if self.if_exists => writeln!(out, "{id}: not found")?,
                // The others are deleted all the same.
                _ => missing = missing.or_else(|| Some(absent(*id, &documents))),
            }
        }
        missing.map_or(Ok(exit::OK), |error| Err(error.into()))
    }
}

/// Turns a text into another.
type Change<'a> = dyn Fn(&[u8]) -> Result<Vec<u8>, PropertyError> + 'a;

/// Changes the text of an instance's document.
fn edit(
    documents: &Documents,
    id: InstanceId,
    dry_run: bool,
    change: &Change<'_>,
    out: &mut dyn Write,
) -> Result<u8, CliError> {
    let mut decide = |stored: Option<&Stored>| {
        let stored = stored.ok_or_else(|| absent(id, documents))?;
        let before = stored.text()?;
        let after = change(before)?;
        if after == before {
            return Ok(Decision::Leave);
        }
        match wire::parse(&after) {
            Ok(_) => Ok(Decision::Write(after)),
            Err(source) => Err(InstanceError::WouldBreak { name: stored.name.clone(), source }),
        }
    };
    report(documents, id, dry_run, &mut decide, out)?;
    Ok(exit::OK)
}

/// Changes a document, or only shows what would change, and says what became of it.
fn report(
    documents: &Documents,
    id: InstanceId,
    dry_run: bool,
    decide: &mut change::Decide<'_>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    if !dry_run {
        let outcome = documents.change(id, decide)?;
        writeln!(out, "{id}: {}", outcome.name())?;
        return Ok(());
    }
    let stored = documents.find(id)?;
    let decision = decide(stored.as_ref())?;
    let Decision::Write(after) = decision else {
        writeln!(out, "{id}: unchanged")?;
        return Ok(());
    };
    let before = stored.as_ref().and_then(|stored| stored.bytes.as_deref().ok());
    let outcome = match before {
        None => Outcome::Created,
        Some(before) if before == after => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    };
    writeln!(out, "{id}: would be {}", outcome.name())?;
    if let (Some(before), Ok(after)) = (before.map(property::read), property::read(&after)) {
        let lines = match before {
            Ok(before) => property::differences(&before, &after),
            Err(problem) => vec![problem.to_string()],
        };
        for line in lines {
            writeln!(out, "  {}", super::table::plain(&line))?;
        }
    }
    Ok(())
}

fn absent(id: InstanceId, documents: &Documents) -> InstanceError {
    InstanceError::Absent { id, place: documents.place() }
}

/// Reads a file that the command line names; `-` is the standard input. Of what is larger than any document, only so much
/// that it is refused for its size.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, InstanceError> {
    fn limited(file: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.take(wire::MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    }
    let bytes =
        if path == Path::new("-") { limited(io::stdin().lock()) } else { std::fs::File::open(path).and_then(limited) };
    bytes.map_err(|source| InstanceError::Io { doing: "reading", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
