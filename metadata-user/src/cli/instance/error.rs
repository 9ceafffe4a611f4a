//! Why a command on documents failed.

use std::io;
use std::path::PathBuf;

use crate::cli::exit;
use crate::source::wire::DocumentError;
use crate::store::record::InstanceId;

use super::property::PropertyError;

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
    #[error("there are no documents in {0}; give files, or folders with *.json in them")]
    NothingGiven(String),
    #[error("--if-revision is of one document, and several are given; give one file")]
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
    #[error("{option} goes with `source.kind = \"etcd\"` only, and the source is the folder {folder}; leave it out", folder = folder.display())]
    EtcdOnly { option: &'static str, folder: PathBuf },
    #[error("this metadatad was built without etcd; build it with the feature `etcd`")]
    NoEtcd,
    #[error("the folder {} is not there; create it, or correct source.path", .0.display())]
    NoFolder(PathBuf),
    #[error("{doing} {}{}", path.display(), remedy(source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// What to do where the system refused.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (run this as root, or as the owner of the folder)",
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
            Self::NoEtcd | Self::NoFolder(_) => exit::CONFIG,
            Self::NameTaken { .. } | Self::Link { .. } => exit::INTERNAL,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => exit::ABSENT,
            Self::Io { .. } => return None,
        })
    }
}
