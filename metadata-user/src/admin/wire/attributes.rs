//! What a guest wrote for its operator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The attributes of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestAttributes {
    /// The instance.
    pub instance: String,
    /// Values by key, by namespace.
    #[serde(default)]
    pub attributes: BTreeMap<String, BTreeMap<String, String>>,
}
