//! What `GET /v1/security` answers.

use serde::{Deserialize, Serialize};

/// What the daemon may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Why no thread has a user of its own; absent: those have one that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_user: Option<String>,
    /// System calls that the filters of its threads have refused since its start.
    #[serde(default)]
    pub refused_calls: u64,
    /// The number of the last one; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refused_call: Option<i64>,
    /// Its threads, by id.
    pub threads: Vec<Thread>,
}

/// What a thread may do. All but `profile` and `landlock` is what the kernel reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Effective user id.
    pub user: u32,
    /// Effective group id.
    pub group: u32,
    /// What kind of thread it is; absent: it helps the one that started it, and has what that one had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its effective capabilities.
    pub capabilities: Vec<HeldCapability>,
    /// Its permitted capabilities.
    pub permitted: Vec<String>,
    /// Its inheritable capabilities.
    pub inheritable: Vec<String>,
    /// Its ambient capabilities.
    pub ambient: Vec<String>,
    /// Its bounding set.
    pub bounding: Vec<String>,
    /// Whether it can no longer gain privileges by starting a program.
    pub no_new_privileges: bool,
    /// `off`, `strict` or `filter`.
    pub seccomp: String,
    /// How many filters decide on its system calls; absent before Linux 5.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_filters: Option<u32>,
    /// What landlock takes from it, or why it does not; absent: it is not asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<String>,
}

/// A capability that a thread has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCapability {
    /// Its name, as in capabilities(7).
    pub name: String,
    /// What the thread needs it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
