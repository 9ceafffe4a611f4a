//! What guests did at the old daemon of a take-over after it wrote its last snapshot.

use serde::{Deserialize, Serialize};

use super::{GuestAttributes, Password, UserData};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Passwords that guests posted.
    #[serde(default)]
    pub passwords: Vec<Password>,
    /// User data that was read for the first time.
    #[serde(default)]
    pub user_data: Vec<UserData>,
    /// What guests wrote as their attributes; all of an instance's, where any changed.
    #[serde(default)]
    pub attributes: Vec<GuestAttributes>,
}
