//! Tests of `source::etcd::mirror`.

use super::*;
use crate::source::wire;
use crate::store::tests::id;

const PREFIX: &str = "/m/nodes/n/instances/";

fn at(cluster: u64, revision: i64) -> Position {
    Position { cluster, revision }
}

fn key(number: u128) -> Vec<u8> {
    format!("{PREFIX}{}", id(number)).into_bytes()
}

fn document(number: u128, hostname: &str) -> Vec<u8> {
    let port = serde_json::json!({"id": id(number).to_string(), "mac_address": format!("fa:16:3e:00:00:{number:02x}")});
    let document =
        serde_json::json!({"uuid": id(number).to_string(), "project_id": "p", "hostname": hostname, "ports": [port]});
    document.to_string().into_bytes()
}

struct World {
    store: Arc<Store>,
    mirror: Mirror,
}

impl World {
    fn new(restored: Option<Restored>) -> Self {
        let store = Arc::new(Store::new(crate::api::Cloud::default()));
        let urls = ["http://a:1".to_owned()];
        let mirror = Mirror::new(PREFIX.to_owned(), wire::parse, Arc::clone(&store), restored, &urls);
        Self { store, mirror }
    }

    /// A full answer that has these instances.
    fn load(&mut self, position: Position, numbers: &[u128]) {
        self.mirror.begin_load(position);
        for number in numbers {
            self.mirror.put(&key(*number), &document(*number, "h"));
        }
        self.mirror.end_load();
    }

    #[track_caller]
    fn check(&self, served: &[u128], unconfirmed: &[u128], origin: (u64, i64)) {
        let mut ids = self.store.ids();
        ids.sort_unstable();
        assert_eq!(ids, served.iter().map(|number| id(*number)).collect::<Vec<_>>(), "served");
        let state = self.mirror.state();
        assert_eq!(state.unconfirmed, unconfirmed.iter().map(|number| id(*number)).collect::<Vec<_>>(), "unconfirmed");
        assert_eq!((state.cluster, state.revision), (Some(hex(origin.0)), Some(origin.1)), "origin");
        assert_eq!(state.error.is_some(), !unconfirmed.is_empty());
    }
}

#[test]
fn a_later_answer_of_the_same_cluster_is_the_truth() {
    let mut world = World::new(None);
    world.load(at(1, 5), &[1, 2]);
    world.check(&[1, 2], &[], (1, 5));
    assert_eq!(world.mirror.resumes_at(at(1, 9)), Some(5));
    assert_eq!(world.mirror.resumes_at(at(1, 4)), None, "it went back");
    assert_eq!(world.mirror.resumes_at(at(2, 9)), None, "another one");
    world.load(at(1, 9), &[2]);
    world.check(&[2], &[], (1, 9));
    world.load(at(1, 10), &[]);
    world.check(&[], &[], (1, 10));
}

#[test]
fn another_cluster_adds_and_takes_nothing_away() {
    let mut world = World::new(None);
    world.load(at(1, 5), &[1, 2, 3]);
    world.load(at(2, 3), &[2, 4]);
    world.check(&[1, 2, 3, 4], &[1, 3], (1, 5));
    // Within the new cluster what it had may go; what it never had still waits.
    world.load(at(2, 4), &[4]);
    world.check(&[1, 3, 4], &[1, 3], (1, 5));
    world.mirror.put(&key(1), &document(1, "h"));
    world.mirror.reached(6);
    world.check(&[1, 3, 4], &[3], (1, 5));
    world.mirror.delete(&key(3));
    world.mirror.reached(7);
    world.check(&[1, 4], &[], (2, 7));
}

#[test]
fn the_operator_or_the_former_cluster_settles_it() {
    let mut world = World::new(None);
    world.load(at(1, 5), &[1, 2]);
    assert_eq!(world.mirror.accept(), None);
    world.load(at(2, 3), &[]);
    assert_eq!(world.mirror.accept(), Some(2));
    world.check(&[], &[], (2, 3));
    world.load(at(2, 4), &[3]);
    world.load(at(1, 9), &[1]);
    world.check(&[1, 3], &[3], (2, 4));
    world.load(at(2, 6), &[3]);
    world.check(&[3], &[], (2, 6));
}

#[test]
fn an_earlier_state_of_the_cluster_is_as_another_one() {
    let mut world = World::new(None);
    world.load(at(1, 5), &[1, 2]);
    world.load(at(1, 3), &[1]);
    world.check(&[1, 2], &[2], (1, 5));
    assert!(world.mirror.state().error.is_some_and(|error| error.contains("went back")));
}

#[test]
fn what_a_snapshot_remembers_counts_as_read() {
    for (now, expected) in [(at(1, 5), &[][..]), (at(2, 9), &[1][..]), (at(1, 4), &[1][..])] {
        let mut world = World::new(Some(Restored { cluster: Some(hex(1)), revision: Some(5) }));
        world.store.put(wire::parse(&document(1, "h")).expect("a document"));
        world.load(now, &[]);
        assert_eq!(world.mirror.unconfirmed.len(), expected.len(), "{now:?}");
        assert_eq!(world.store.len(), expected.len(), "{now:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_takes_nothing_away_and_is_asked_for_again() {
    let mut world = World::new(None);
    world.load(at(1, 5), &[1, 2]);
    world.mirror.begin_load(at(1, 8));
    world.mirror.put(&key(3), &document(3, "h"));
    world.mirror.abort_load();
    world.check(&[1, 2, 3], &[], (1, 5));
    assert_eq!(world.mirror.resumes_at(at(1, 9)), None);
    world.load(at(1, 9), &[3]);
    world.check(&[3], &[], (1, 9));
}

#[test]
fn what_cannot_be_used_keeps_the_last_good_version() {
    let mut world = World::new(None);
    world.load(at(1, 5), &[1]);
    let large = vec![b' '; MAX_DOCUMENT + 1];
    let wide: Vec<u8> = document(1, "h").into_iter().flat_map(|byte| [byte, 0]).collect();
    for (name, value, problem, serves) in [
        (id(1).to_string(), b"{".as_slice(), "line 1", true),
        (id(1).to_string(), &document(2, "h"), "its key names", true),
        (id(1).to_string(), &large, "larger than 16 MiB", true),
        (id(1).to_string(), &wide, "it is UTF-16; save it as UTF-8", true),
        (id(1).to_string(), &vec![b'['; 1_000_000], "this is a list", true),
        (id(2).to_string(), b"", "line 1", false),
        ("x".to_owned(), b"{}", "not an instance's UUID", false),
        (id(3).0.simple().to_string(), &document(3, "h"), "not an instance's UUID", false),
    ] {
        let key = format!("{PREFIX}{name}");
        world.mirror.put(key.as_bytes(), value);
        let broken = world.mirror.state().broken;
        let found = broken.iter().find(|found| found.name == key).expect("it is broken");
        assert!(found.problem.contains(problem), "{}", found.problem);
        assert_eq!(found.serves_last_good, serves, "{key}");
    }
    world.check(&[1], &[], (1, 5));
    // A key with an unusable value is not a missing key.
    world.mirror.begin_load(at(1, 6));
    world.mirror.put(&key(1), b"{");
    world.mirror.end_load();
    world.check(&[1], &[], (1, 6));
    assert_eq!(world.mirror.state().broken.len(), 1, "the others are gone");
    // A byte order mark is no part of a document.
    world.mirror.put(&key(1), &[b"\xef\xbb\xbf", &*document(1, "other")].concat());
    assert!(world.mirror.state().broken.is_empty());
    assert_eq!(&*world.store.get(id(1)).expect("served").record().hostname, "other");
    world.mirror.put_unreceived(&key(1));
    assert_eq!(world.mirror.state().broken.len(), 1);
    world.mirror.delete(&key(1));
    assert!(world.mirror.state().broken.is_empty() && world.store.is_empty());
}
