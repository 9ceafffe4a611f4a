//! What guests did at a daemon that was being taken over from, after it had written its snapshot for the last time.

use serde::{Deserialize, Serialize};

use super::{Password, UserData};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Passwords that guests posted.
    #[serde(default)]
    pub passwords: Vec<Password>,
    /// User data that was read for the first time.
    #[serde(default)]
    pub user_data: Vec<UserData>,
}
