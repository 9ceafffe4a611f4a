//! What the daemon signs for guests with: a file of keys, who signs, and the public keys for whoever verifies.
//!
//! Promises: what is signed and what is published are of the keys that were read last and can be used. When the file changes,
//! it is read again; while it cannot be used, the former keys stay in force, and the log and `status` tell why. A key that
//! signs is published in the same moment.
//!
//! Left out: what is signed (`api`), and for whom (`http`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::config::Signer;
use crate::error_text;
use crate::secret::jwt::{KeySet, KeySetError};
use crate::secret::{Secret, SecretError};
use crate::state_view::StateView;
use crate::watched_directory::WatchedDirectory;
use crate::worker::{Stop, Worker};

/// How long the file must rest before it is read again.
const QUIET: Duration = Duration::from_millis(200);

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeysError {
    /// The file cannot be read.
    #[error("identity.key_file")]
    Read(#[from] SecretError),
    /// What it has is no key.
    #[error("identity.key_file {}", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeySetError,
    },
}

/// The state of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningState {
    /// The names of those in use; the first one's signs. Empty: none could be read yet, and nothing is signed.
    pub key_ids: Vec<String>,
    /// When they were read.
    pub loaded_at: Option<SystemTime>,
    /// Why the file as it is now is not used, and the remedy.
    pub error: Option<String>,
    /// The public keys, as a JWK set.
    pub jwks: String,
}

/// The keys, and who signs with them.
#[derive(Debug)]
pub struct Signing {
    settings: Signer,
    keys: ArcSwapOption<KeySet>,
    state: StateView<SigningState>,
    /// What was read last, whether it can be used or not; `None`: it could not be read.
    read: Mutex<Option<Secret>>,
}

impl Signing {
    /// Reads the keys. What is wrong with them is logged and shown, and nothing is signed until [`Self::keep`] has read
    /// others: all else that guests read does not depend on it.
    #[must_use]
    pub fn open(settings: &Signer) -> Self {
        let state = SigningState { jwks: "{\"keys\":[]}\n".to_owned(), ..SigningState::default() };
        let signing = Self {
            settings: settings.clone(),
            keys: ArcSwapOption::empty(),
            state: StateView::new(state),
            read: Mutex::new(None),
        };
        signing.read_again();
        signing
    }

    /// Says whether the keys can be used.
    ///
    /// # Errors
    /// [`SigningKeysError`] if not.
    pub fn check(settings: &Signer) -> Result<(), SigningKeysError> {
        parse(&settings.key_file, &Secret::read(&settings.key_file)?).map(drop)
    }

    /// Returns a view of the keys' state.
    #[must_use]
    pub fn state(&self) -> StateView<SigningState> {
        self.state.clone()
    }

    /// Returns who signs.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.settings
    }

    /// Returns the keys; `None`: none could be read yet.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    /// Starts a thread that reads the file again whenever it changes: it is root's, and the main thread may have become
    /// another user by then.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn keep(self: Arc<Self>) -> io::Result<Worker> {
        Worker::spawn("identity-keys", async move |mut stop: Stop| {
            tokio::select! {
                () = stop.requested() => {}
                () = self.keep_current() => {}
            }
        })
    }

    /// Reads the file again whenever it changes. Never completes.
    async fn keep_current(&self) {
        let directory = self.settings.key_file.parent().unwrap_or(Path::new("/")).to_owned();
        let mut directory = WatchedDirectory::new(directory, |_| true, QUIET);
        loop {
            // What has happened does not matter: the file is compared with what was read last.
            let _ = directory.next().await;
            self.read_again();
        }
    }

    fn read_again(&self) {
        let mut before = self.read.lock();
        match Secret::read(&self.settings.key_file) {
            Ok(found) if before.as_ref().is_some_and(|before| before.expose() == found.expose()) => {}
            Ok(found) => {
                self.apply(parse(&self.settings.key_file, &found));
                *before = Some(found);
            }
            Err(error) => {
                *before = None;
                self.apply(Err(error.into()));
            }
        }
    }

    fn apply(&self, parsed: Result<KeySet, SigningKeysError>) {
        let before = self.state.get();
        let file = self.settings.key_file.display();
        match parsed {
            Ok(keys) => {
                let state = SigningState {
                    key_ids: keys.key_ids().map(str::to_owned).collect(),
                    loaded_at: Some(SystemTime::now()),
                    error: None,
                    jwks: keys.jwks(),
                };
                info!(%file, signs = state.key_ids.first(), published = state.key_ids.len(), "identity: keys read");
                self.state.publish(state);
                self.keys.store(Some(Arc::new(keys)));
            }
            Err(error) => {
                let error = error_text::chain(&error);
                if before.error.as_ref() != Some(&error) {
                    let kept =
                        if before.key_ids.is_empty() { "nothing is signed" } else { "the former keys stay in use" };
                    warn!("identity: {error}; {kept}");
                    self.state.publish(SigningState { error: Some(error), ..(*before).clone() });
                }
            }
        }
    }
}

fn parse(path: &Path, file: &Secret) -> Result<KeySet, SigningKeysError> {
    KeySet::parse(file).map_err(|source| SigningKeysError::Use { path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::secret::jwt::tests::private_key;

    /// Keys in a file of their own.
    pub(crate) fn signing(pem: &str) -> (TempDir, Signing) {
        let directory = tempfile::tempdir().expect("a directory");
        let key_file = directory.path().join("keys.pem");
        write(&key_file, pem);
        let settings = Signer { key_file, issuer: "https://issuer".to_owned(), node: "node-1".to_owned() };
        let signing = Signing::open(&settings);
        (directory, signing)
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    #[test]
    fn keys_that_cannot_be_used_leave_the_former_ones_in_force_and_are_named() {
        let (_directory, signing) = signing("");
        let path = signing.settings.key_file.clone();
        assert!(signing.keys().is_none() && signing.state().get().jwks == "{\"keys\":[]}\n");
        let error = || signing.state().get().error.clone().unwrap_or_default();
        assert!(error().contains("is empty"), "{}", error());
        let (first, second) = (private_key(), private_key());
        write(&path, &first);
        signing.read_again();
        assert_eq!((error(), signing.state().get().key_ids.len()), (String::new(), 1));
        let before = signing.state().get();
        for (text, mode, expected) in [
            ("nonsense", 0o600, "has no private key in PEM"),
            (&*second, 0o644, "readable by everyone"),
            (&[&*second, &*second].concat(), 0o600, "key 2 is there twice"),
        ] {
            write(&path, text);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            signing.read_again();
            assert!(error().contains(expected), "{expected}: {}", error());
            assert!(Signing::check(&signing.settings).is_err());
            assert_eq!(signing.state().get().jwks, before.jwks, "{expected}");
        }
        write(&path, &[&*second, &*first].concat());
        signing.read_again();
        let state = signing.state().get();
        assert_eq!((error(), &state.key_ids[1]), (String::new(), &before.key_ids[0]));
        Signing::check(&signing.settings).expect("accepted");
        let shown = format!("{signing:?}");
        assert!(!shown.contains("PRIVATE") && shown.contains(&state.key_ids[0]), "{shown}");
    }
}
