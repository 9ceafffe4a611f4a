//! Snapshots for fuzzers: bytes instead of files.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::file::{self, Header};
use super::{Origin, Refused, entry, removals};
use crate::record::InstanceId;
use crate::secret;
use crate::secret::seal::{Salt, SealKey, Sealer};
use crate::store::Store;

/// Opens a snapshot and reads its instances into the store.
///
/// # Errors
/// [`Refused`], as for a file with these bytes.
pub fn read(bytes: &[u8], key: &SealKey, origin: &Origin, store: &Store) -> Result<(), Refused> {
    let (_, clear) = file::open(Path::new("snapshot"), Zeroizing::new(bytes.to_vec()), key, Some(origin))?;
    read_clear(&clear, store);
    Ok(())
}

/// Reads the instances of an opened snapshot into the store. Returns how many there are.
pub fn read_clear(clear: &[u8], store: &Store) -> usize {
    let entries = entry::read(clear);
    let count = entries.len();
    entries.into_iter().for_each(|entry| entry.put_into(store));
    count
}

/// Returns the store's instances as a snapshot holds them, in the clear.
///
/// # Errors
/// Those of writing.
pub fn write_clear(store: &Store) -> io::Result<Vec<u8>> {
    let mut instances = store.kept();
    instances.sort_by_key(|kept| kept.content.uuid());
    let mut clear = Vec::new();
    instances.iter().try_for_each(|instance| entry::write(instance, &mut clear))?;
    Ok(clear)
}

/// Returns a snapshot with this text, sealed.
///
/// # Errors
/// Those of writing.
pub fn seal(clear: &[u8], key: &SealKey, salt: &Salt, origin: &Origin) -> io::Result<Vec<u8>> {
    let header = Header {
        key: key.id().to_owned(),
        salt: secret::hex(salt),
        written_at: 0,
        as_of: 0,
        source: origin.clone(),
        cluster: None,
        revision: None,
        instances: 0,
    };
    let head = file::lines_in_the_clear(&header)?;
    let mut sealer = Sealer::new(key, salt, head.as_bytes(), head.clone().into_bytes()).map_err(io::Error::other)?;
    sealer.write_all(clear)?;
    sealer.finish()
}

/// Reads the removals beside a snapshot of this salt.
#[must_use]
pub fn removals(bytes: &[u8], salt: &str) -> BTreeSet<InstanceId> {
    removals::parse(bytes, salt)
}
