//! `metadatad schema`.

use std::io::Write;

use super::error::CliError;
use super::{exit, print_json};
use crate::app;
use crate::config::reference;
use crate::source::wire;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// What to print
    #[arg(value_enum, default_value_t = What::Documents)]
    what: What,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// The JSON Schema of instance documents
    Documents,
    /// The JSON Schema of the configuration
    Configuration,
    /// A configuration with every key and its default, in TOML
    Example,
    /// The reference of the configuration, in Markdown
    Reference,
    /// The reference of the metrics, in Markdown
    Metrics,
    /// The JSON Schema of the controller's configuration
    Controller,
    /// A configuration of the controller with every key and its default, in TOML
    ControllerExample,
    /// The reference of the controller's configuration, in Markdown
    ControllerReference,
}

impl Verb {
    pub(super) fn execute(&self, out: &mut dyn Write) -> Result<u8, CliError> {
        match self.what {
            What::Documents => print_json(&wire::schema(), out)?,
            What::Configuration => print_json(&reference::schema(), out)?,
            What::Example => out.write_all(reference::example().as_bytes())?,
            What::Reference => out.write_all(reference::markdown().as_bytes())?,
            What::Controller => print_json(&reference::controller_schema(), out)?,
            What::ControllerExample => out.write_all(reference::controller_example().as_bytes())?,
            What::ControllerReference => out.write_all(reference::controller_markdown().as_bytes())?,
            What::Metrics => out.write_all(app::metrics_page().as_bytes())?,
        }
        Ok(exit::OK)
    }
}
