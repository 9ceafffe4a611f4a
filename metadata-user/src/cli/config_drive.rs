//! `metadatad config-drive`: an instance's config drive, as an image or a directory.
//!
//! Promises: the files are those that the guest would read over HTTP at that moment, less what its policy forbids; what is written is for
//! its owner only, and is there as a whole or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::CliError;
use super::instance::read_file;
use super::{converse, exit};
use crate::admin::client::Client;
use crate::api::{Content, DriveFile, RenderedInstance};
use crate::app;
use crate::cli::error::instance::InstanceError;
use crate::config::{CONFIG_PATH, Config, ConfigError};
use crate::config_drive::{self, Format};
use crate::source::wire;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// The instance: its UUID, the name of its tap, or its host name
    #[arg(value_name = "INSTANCE", required_unless_present = "document", conflicts_with = "document")]
    instance: Option<String>,

    /// Read this document instead of asking the daemon; - is standard input. Dynamic vendor data is not asked for, and empty
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,

    /// The format; a directory is made, or there and empty
    #[arg(long, value_enum, default_value_t = Layout::Iso9660)]
    format: Layout,

    /// The image, which replaces an earlier one, or the directory
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Layout {
    /// ISO 9660 with Rock Ridge and Joliet, for a CD-ROM drive
    Iso9660,
    /// FAT with long names, for a disk
    Vfat,
    /// A directory with the files
    Directory,
}

impl Verb {
    pub(super) fn needs_daemon(&self) -> bool {
        self.document.is_none()
    }

    /// `config`: the one that the command line names.
    pub(super) fn execute(
        &self,
        config: Option<&Path>,
        client: impl FnOnce() -> Result<Client, CliError>,
    ) -> Result<u8, CliError> {
        let files = match (&self.document, &self.instance) {
            (Some(document), _) => of_document(document, config)?,
            (None, instance) => {
                let (client, name) = (client()?, instance.as_deref().unwrap_or_default());
                converse(async { Ok(client.config_drive(name).await?) })?
            }
        };
        match self.format {
            Layout::Iso9660 => config_drive::write_image(&files, Format::Iso9660, &self.output)?,
            Layout::Vfat => config_drive::write_image(&files, Format::Vfat, &self.output)?,
            Layout::Directory => config_drive::write_directory(&files, &self.output)?,
        }
        Ok(exit::OK)
    }
}

/// Returns the files that a document gives on a node with this configuration, or with none.
fn of_document(document: &Path, config: Option<&Path>) -> Result<Vec<DriveFile>, CliError> {
    let config = match Config::load(config.unwrap_or(Path::new(CONFIG_PATH))) {
        Err(ConfigError::Read { source, .. }) if config.is_none() && source.kind() == io::ErrorKind::NotFound => {
            Config::default()
        }
        loaded => loaded?,
    };
    let name = document.display().to_string();
    let record =
        wire::parse(&read_file(document)?).map_err(|source| InstanceError::Document { name: name.clone(), source })?;
    let cloud = app::cloud(&config.cloud)?;
    let content = Content::Rendered(Arc::new(RenderedInstance::new(Arc::new(record), Arc::new(cloud))));
    let access = config.policy().with(&content.policy()).access;
    config_drive::files(&content, &access).map_err(|reason| CliError::NoConfigDrive { instance: name, reason })
}
