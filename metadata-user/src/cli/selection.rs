//! A list of what instances did, or what is of one instance: the arguments of `boots`, `access` and `anomalies`.

use super::Form;
use super::error::CliError;
use crate::record::InstanceId;

/// Which instances are shown, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// Only this instance
    #[arg(value_name = "UUID")]
    instance: Option<InstanceId>,

    #[command(flatten)]
    form: Form,
}

impl Selection {
    /// Returns what is of the selected instance; everything, if none was named. `of` returns the instance of an entry.
    pub(super) fn filter<T>(&self, mut all: Vec<T>, of: impl Fn(&T) -> Option<&str>) -> Vec<T> {
        if let Some(wanted) = self.instance.map(|instance| instance.to_string()) {
            all.retain(|entry| of(entry) == Some(&*wanted));
        }
        all
    }

    /// As [`Self::filter`].
    ///
    /// # Errors
    /// [`CliError::NoSuchInstance`] if there is nothing of the selected instance.
    pub(super) fn find<T>(&self, all: Vec<T>, of: impl Fn(&T) -> Option<&str>) -> Result<Vec<T>, CliError> {
        let found = self.filter(all, of);
        match self.instance.filter(|_| found.is_empty()) {
            Some(instance) => Err(CliError::NoSuchInstance(instance.to_string())),
            None => Ok(found),
        }
    }

    /// Tells whether one instance was named.
    pub(super) fn is_one(&self) -> bool {
        self.instance.is_some()
    }

    /// Tells whether the output is JSON.
    pub(super) fn json(&self) -> bool {
        self.form.json
    }
}
