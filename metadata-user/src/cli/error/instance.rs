//! Why a command on documents failed.

use std::io;
use std::path::PathBuf;

use crate::cli::exit;
use crate::record::InstanceId;
#[cfg(feature = "etcd")]
use crate::source::etcd::{connect::ConnectError, error::EtcdError};
use crate::source::wire::DocumentError;

/// Why a property cannot be read, set or unset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum PropertyError {
    #[error("a document has no property {0}; `metadatad schema` lists the fields")]
    Unknown(String),
    #[error("{0} does not name an element of a list; write its number from 0, like ports.0")]
    NoNumber(String),
    #[error("{0} has no properties below it; leave out what follows")]
    NoParts(String),
    #[error("`{0}` has no value; write key=text, key=@file or key:=JSON")]
    NoValue(String),
    #[error(
        "the value of {path} is neither text in the schema nor JSON: {problem}; write JSON, like 5, true or [\"a\"]"
    )]
    NotJson { path: String, problem: String },
    #[error("the file for {0} is not text; give it to user_data_b64, which takes any bytes")]
    NotText(String),
    #[error("the uuid names the document and cannot be changed; `metadatad instance apply` writes another document")]
    Uuid,
    #[error("{path} is beyond the end of the list, which has {length} elements; the next one is number {length}")]
    BeyondEnd { path: String, length: usize },
    #[error("the stored document cannot be edited: {0}; replace it with `metadatad instance apply`")]
    NotEditable(String),
}

/// Why a command on documents failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InstanceError {
    #[error("{name}: {source}")]
    Document { name: String, source: DocumentError },
    #[error("after this change {name} could not be used any more, so nothing is written: {source}")]
    WouldBreak { name: String, source: DocumentError },
    #[error(transparent)]
    Property(#[from] PropertyError),
    #[error("{name} cannot be used: {problem}")]
    Unreadable { name: String, problem: String },
    #[error("instance {id} is described by both {first} and {second}; remove one of the two")]
    Twice { id: InstanceId, first: String, second: String },
    #[error("{name} is the name of another document; rename it, or remove it with `metadatad instance delete`")]
    NameTaken { name: String },
    #[error("{name} is a symbolic link; change the file that it leads to, or put a file in its place")]
    Link { name: String },
    #[error("there is no instance {id} in {place}; `metadatad instance list` shows those that are there")]
    Absent { id: InstanceId, place: String },
    #[error("{id} has no property {path}; `metadatad instance get {id}` shows those that it has")]
    NoProperty { id: InstanceId, path: String },
    #[error("there are no documents in {0}; give files, or directories with *.json in them")]
    NothingGiven(String),
    #[error("--if-revision applies to one document, and several are given; give one file")]
    OneRevision,
    #[error("instance {id} is at {found}, not at revision {expected}; look at it again with `metadatad instance get`")]
    OtherRevision { id: InstanceId, expected: i64, found: String },
    #[error("instance {id} was changed by others {attempts} times meanwhile; try again")]
    Raced { id: InstanceId, attempts: u32 },
    #[error(
        "the source is Nova, which keeps its instances itself; change them with OpenStack's own commands \
         (`openstack server set`), and this node follows"
    )]
    Nova,
    #[error("{option} goes with `source.kind = \"etcd\"` only, and the source is the directory {directory}; leave it out", directory = directory.display())]
    EtcdOnly { option: &'static str, directory: PathBuf },
    #[cfg(not(feature = "etcd"))]
    #[error("this metadatad was built without etcd; build it with the feature `etcd`")]
    NoEtcd,
    #[cfg(feature = "etcd")]
    #[error("`{0}` cannot be a node's name in a key of etcd; write letters, digits, dots and dashes")]
    Node(String),
    #[cfg(feature = "etcd")]
    #[error("starting to talk to etcd")]
    Runtime(#[source] io::Error),
    #[cfg(feature = "etcd")]
    #[error("connecting to etcd")]
    Connect(#[source] ConnectError),
    #[cfg(feature = "etcd")]
    #[error("etcd: {}", etcd_problem(trouble, what, prefix))]
    Etcd { what: &'static str, prefix: String, trouble: EtcdError },
    #[error("the directory {} does not exist; create it, or correct source.path", .0.display())]
    NoDirectory(PathBuf),
    #[error("{doing} {}{}", path.display(), remedy(source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// Says what went wrong with a request. A node's user may read its own keys only, so a missing permission is the usual one.
#[cfg(feature = "etcd")]
fn etcd_problem(trouble: &EtcdError, what: &str, prefix: &str) -> String {
    match trouble {
        EtcdError::PermissionDenied(_) => format!(
            "permission denied: the user's role may not {what} these keys; give --config a configuration whose user has a \
             role that may, under {prefix}/"
        ),
        trouble => trouble.to_string(),
    }
}

/// What to do where the system refused.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (run this as root, or as the owner of the directory)",
        io::ErrorKind::NotFound => " (correct the path)",
        _ => "",
    }
}

impl InstanceError {
    /// Returns the exit status; `None` if the system refused something.
    pub(in crate::cli) fn exit(&self) -> Option<u8> {
        Some(match self {
            Self::Property(PropertyError::NotEditable(_))
            | Self::Document { .. }
            | Self::WouldBreak { .. }
            | Self::Unreadable { .. }
            | Self::Twice { .. } => exit::BAD_DOCUMENT,
            Self::Property(_) | Self::EtcdOnly { .. } | Self::Nova | Self::OneRevision | Self::NothingGiven(_) => {
                exit::USAGE
            }
            Self::Absent { .. } | Self::NoProperty { .. } => exit::ABSENT,
            Self::OtherRevision { .. } | Self::Raced { .. } => exit::TRY_AGAIN,
            #[cfg(not(feature = "etcd"))]
            Self::NoEtcd => exit::CONFIG,
            #[cfg(feature = "etcd")]
            Self::Node(_) => exit::USAGE,
            #[cfg(feature = "etcd")]
            Self::Runtime(_) => return None,
            #[cfg(feature = "etcd")]
            Self::Connect(error) => Self::of_connection(error),
            #[cfg(feature = "etcd")]
            Self::Etcd { trouble, .. } => Self::of_trouble(trouble),
            Self::NoDirectory(_) => exit::CONFIG,
            Self::NameTaken { .. } | Self::Link { .. } => exit::INTERNAL,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => exit::ABSENT,
            Self::Io { .. } => return None,
        })
    }

    #[cfg(feature = "etcd")]
    fn of_connection(error: &ConnectError) -> u8 {
        match error {
            ConnectError::Endpoint { trouble, .. } => Self::of_trouble(trouble),
            _ => exit::CONFIG,
        }
    }

    #[cfg(feature = "etcd")]
    fn of_trouble(trouble: &EtcdError) -> u8 {
        match trouble {
            EtcdError::WrongPassword(_) | EtcdError::NoUser(_) | EtcdError::PermissionDenied(_) => exit::NO_PERMISSION,
            EtcdError::TooLarge => exit::BAD_DOCUMENT,
            _ => exit::UNAVAILABLE,
        }
    }
}
