//! Snapshots: a file's bytes, what is sealed in it, and the removals beside it.
//!
//! An input is what to do, then bytes: a whole file; a text in the clear, which is sealed first; a sealed text and changes of
//! it; or removals.
//!
//! Checked: what is sealed opens as it was, and does not once a byte of the file is another; what is read of a text in the
//! clear is the same after it was written.

use std::sync::LazyLock;

use metadata_user::api::Cloud;
use metadata_user::secret::Secret;
use metadata_user::secret::seal::SealKey;
use metadata_user::snapshot::{Origin, Refused, fuzzing};
use metadata_user::store::Store;

use crate::document::crawl;
use crate::input::Input;

static KEY: LazyLock<SealKey> = LazyLock::new(|| SealKey::new(Secret::new(vec![7; 32])).expect("long enough"));
static OTHER: LazyLock<SealKey> = LazyLock::new(|| SealKey::new(Secret::new(vec![8; 32])).expect("long enough"));
static ORIGIN: LazyLock<Origin> =
    LazyLock::new(|| Origin { kind: "etcd".to_owned(), place: "/metadatad/nodes/n/instances/".to_owned() });

const SALT: [u8; 32] = [9; 32];

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => file(input.rest()),
        1 => changed(input),
        2 => removals(input.rest()),
        _ => clear(input.rest()),
    }
}

fn store() -> Store {
    Store::new(Cloud::default())
}

/// A file of this node's, as the input has it: the lines in the clear are read, and what follows cannot be forged.
fn file(bytes: &[u8]) {
    let store = store();
    match fuzzing::read(bytes, &KEY, &ORIGIN, &store) {
        Ok(()) => {
            // One that was sealed with this key: a seed.
            assert!(matches!(fuzzing::read(bytes, &OTHER, &ORIGIN, &store), Err(Refused::Key { .. })));
        }
        Err(refused) => {
            assert!(store.ids().is_empty(), "nothing of a refused snapshot is used");
            assert!(!refused.to_string().is_empty());
        }
    }
}

/// A sealed text with changed bytes.
fn changed(mut input: Input<'_>) {
    let changes = input.counted();
    let sealed = fuzzing::seal(input.rest(), &KEY, &SALT, &ORIGIN).expect("sealed");
    let mut file = sealed.clone();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % file.len();
        file[place] ^= change[2];
    }
    let store = store();
    let read = fuzzing::read(&file, &KEY, &ORIGIN, &store);
    assert_eq!(read.is_ok(), file == sealed, "{read:?}");
    if file != sealed {
        assert!(store.ids().is_empty());
    }
    let short = &sealed[..sealed.len() - 1 - usize::from(changes.first().copied().unwrap_or(0)) % sealed.len()];
    assert!(fuzzing::read(short, &KEY, &ORIGIN, &store).is_err(), "a torn snapshot opens");
}

/// The lines that are sealed.
fn clear(text: &[u8]) {
    let first = store();
    let count = fuzzing::read_clear(text, &first);
    assert!(first.ids().len() <= count);
    let written = fuzzing::write_clear(&first).expect("a vector takes it");
    let second = store();
    fuzzing::read_clear(&written, &second);
    assert_eq!(
        fuzzing::write_clear(&second).expect("a vector takes it"),
        written,
        "it is another one when it was read back"
    );
    first.all().iter().for_each(crawl);
}

fn removals(bytes: &[u8]) {
    let removed = fuzzing::removals(bytes, "salt");
    assert!(removed.len() <= bytes.len() / 16 && removed.iter().all(|id| !id.0.is_nil()));
}
