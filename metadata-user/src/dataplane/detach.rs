//! Removing everything that the daemon leaves behind on purpose.

use std::path::Path;

use super::{
    DataplaneError, attach,
    expedite::Expedited,
    pins::Pins,
    responder::{NetnsError, ResponderNetns},
};

/// What there was to remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Programs, links and maps.
    pub pins: bool,
    /// The responder's namespace or its pair.
    pub namespace: bool,
}

/// Why not everything could be removed.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Something of the kernel half stays.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// The namespace or the pair stays.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// Takes the programs off every interface, and removes pins, namespace and pair. What is not there is removed already.
///
/// # Errors
/// The first failure; what comes after it is tried all the same.
pub fn detach(pin_dir: &Path, namespace: &str, pair_name: &str) -> Result<Removed, DetachError> {
    let pins = Pins::at(pin_dir);
    Expedited::recover(&pins.link("expedited"));
    // Filters live on their interfaces: they are there even where the pins were removed.
    let filters = attach::remove_filters(&pins);
    let pins = pins.exist().and_then(|there| if there { pins.remove_all().map(|()| true) } else { Ok(false) });
    let pins = filters.and_then(|filters| Ok(pins? || filters));
    let netns = ResponderNetns::remove(namespace, pair_name);
    Ok(Removed { pins: pins?, namespace: netns? })
}
