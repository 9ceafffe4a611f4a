//! The etcd source: keys and values of a node's prefix, full reads, and what a cluster may do to a follower.
//!
//! An input is a list of events. Keys and values are the input's own, or those of a few instances with a valid document, so
//! that their ways cross.
//!
//! Checked: what is served is from the last valid document of its own key; nothing ends an instance but the deletion of its
//! key, a full read of the same cluster that lacks it, and the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metadata_user::api::Cloud;
use metadata_user::record::InstanceId;
use metadata_user::source::Restored;
use metadata_user::source::etcd::fuzzing::Mirror;
use metadata_user::source::wire;
use metadata_user::store::Store;
use uuid::Uuid;

use crate::input::{Input, check_message};

const PREFIX: &str = "/metadatad/nodes/n/instances/";

/// The most events of an input.
const EVENTS: usize = 64;

/// Longest problem with a document, and the key's name before it.
const LONGEST_MESSAGE: usize = 16 << 10;

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(input.byte());
    for _ in 0..EVENTS {
        if input.is_empty() {
            break;
        }
        world.event(&mut input);
    }
}

struct World {
    store: Arc<Store>,
    mirror: Mirror,
    /// The last valid document of each key that still is there.
    valid: BTreeMap<InstanceId, Vec<u8>>,
}

impl World {
    fn new(restored: u8) -> Self {
        let store = Arc::new(Store::new(Cloud::default()));
        let mut valid = BTreeMap::new();
        let restored = (restored & 1 != 0).then(|| {
            // As from a snapshot of this cluster.
            let document = document(1, restored);
            let record = wire::parse(&document).expect("valid");
            valid.insert(record.uuid, document);
            store.put(record);
            Restored { cluster: Some("1".to_owned()), revision: Some(i64::from(restored >> 1)) }
        });
        Self { mirror: Mirror::new(PREFIX, Arc::clone(&store), restored), store, valid }
    }

    fn event(&mut self, input: &mut Input<'_>) {
        let before = self.served();
        let event = input.byte() % 8;
        let deleted = match event {
            0 => {
                let (cluster, revision) = (input.byte() % 3, input.byte());
                self.mirror.begin_load(cluster.into(), revision.into());
                None
            }
            1 => {
                self.mirror.abort_load();
                None
            }
            2 => {
                self.mirror.end_load();
                None
            }
            3 => {
                let key = key(input);
                self.mirror.put_unreceived(&key);
                None
            }
            4 => {
                let key = key(input);
                self.mirror.delete(&key);
                instance(&key)
            }
            5 => {
                self.mirror.reached(input.byte().into());
                None
            }
            6 => {
                self.mirror.accept();
                None
            }
            _ => {
                let key = key(input);
                let value = value(input);
                self.put(&key, &value);
                None
            }
        };
        // A full read of another cluster ends nothing either, but what it is, only the mirror knows.
        let may_end = matches!(event, 2 | 6);
        for id in before.difference(&self.served()) {
            assert!(may_end || deleted == Some(*id), "event {event} ended {id}");
        }
        if let Some(id) = deleted {
            assert!(self.store.get(id).is_none(), "{id} is served after its deletion");
            self.valid.remove(&id);
        }
        self.check();
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.mirror.put(key, value);
        let Some(id) = instance(key) else { return };
        if let Ok(record) = wire::parse(value)
            && record.uuid == id
        {
            let served = self.store.get(id).expect("a valid document is served");
            assert!(*served.record() == record);
            self.valid.insert(id, value.to_vec());
        }
    }

    fn check(&self) {
        let served = self.served();
        for id in &served {
            let document = self.valid.get(id).unwrap_or_else(|| panic!("{id} is served and was never valid"));
            let record = wire::parse(document).expect("it was valid");
            assert!(*self.store.get(*id).expect("served").record() == record, "{id} is not as its last valid document");
        }
        let state = self.mirror.state();
        assert!(state.unconfirmed.iter().all(|id| served.contains(id)), "what is not served needs no confirmation");
        assert_eq!(state.instances, served.len());
        for broken in &state.broken {
            check_message(&broken.problem, LONGEST_MESSAGE);
            let id = broken.name.strip_prefix(PREFIX).and_then(|name| name.parse().ok());
            assert_eq!(broken.serves_last_good, id.is_some_and(|id| served.contains(&id)));
        }
    }

    fn served(&self) -> BTreeSet<InstanceId> {
        self.store.ids().into_iter().collect()
    }
}

/// The instance that a key is of: its UUID in lower case, and no other spelling.
fn instance(key: &[u8]) -> Option<InstanceId> {
    let name = std::str::from_utf8(key.strip_prefix(PREFIX.as_bytes())?).ok()?;
    let id: Uuid = name.parse().ok()?;
    (id.hyphenated().to_string() == name).then_some(InstanceId(id))
}

fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number) % 4)
}

fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        0 => input.counted().to_vec(),
        1 => [PREFIX.as_bytes(), input.counted()].concat(),
        number => format!("{PREFIX}{}", id(number)).into_bytes(),
    }
}

fn value(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        0 => input.counted().to_vec(),
        number => document(number, input.byte()),
    }
}

fn document(number: u8, host: u8) -> Vec<u8> {
    let id = id(number);
    format!(
        r#"{{"uuid": "{id}", "project_id": "p", "hostname": "h{host}",
            "ports": [{{"id": "{id}", "mac_address": "fa:16:3e:00:00:0{}"}}]}}"#,
        number % 4
    )
    .into_bytes()
}
