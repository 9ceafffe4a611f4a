//! What an instance costs in memory, beside its user data, and what an answer costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use lab::Document;
use metadata_user::api::{Cloud, Request};
use metadata_user::record::{Attributes, InstanceId, Notices};
use metadata_user::source::wire;
use metadata_user::store::Store;
use serde_json::json;

use crate::ask::{Guest, TODAY, instance};
use crate::case::Case;

/// The most that an instance may keep, with everything rendered.
const LIMIT: isize = 64 * 1024;

/// Requests on one connection.
const REQUESTS: usize = 2000;

/// The most allocations that these may need: hyper's buffers grow and are renewed now and then.
const ALLOCATIONS: usize = REQUESTS / 100;

thread_local! {
    /// How often this thread has asked for memory.
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has asked for and not given back. Tests run in threads of their own.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn count(size: isize) {
    // A thread that is ending has no counter any more, and nobody who reads it.
    let _ = LIVE.try_with(|live| live.set(live.get() + size));
}

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + 1));
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the pointer came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Returns what an instance keeps once a guest has read everything.
fn kept(case: &Case) -> isize {
    let before = LIVE.get();
    let instance = instance(case);
    for row in &case.rows {
        drop(instance.reply(&Request {
            method: "GET",
            target: &row.path,
            accept: None,
            content_length: None,
            body: b"",
            today: || TODAY,
            seed: &|seed| seed.fill(0xa5),
        }));
    }
    LIVE.get() - before
}

#[test]
fn an_instance_keeps_less_than_64_kib_beside_its_user_data() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let cases = Case::all(&directory).unwrap_or_else(|error| panic!("{error:#}"));
    for case in &cases {
        // What is made once for all instances is made now.
        kept(case);
        let user_data = case.record().user_data.map_or(0, |data| data.len().cast_signed());
        let kept = kept(case) - user_data;
        println!("{}: {kept} bytes beside {user_data} bytes of user data", case.name);
        assert!((1..LIMIT).contains(&kept), "{}: {kept} bytes", case.name);
    }
}

#[test]
fn answering_from_a_body_that_is_ready_allocates_nothing() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let case = Case::all(&directory).unwrap_or_else(|error| panic!("{error:#}")).swap_remove(0);
    let mut guest = Guest::boot(&case);
    for path in ["/openstack/latest/network_data.json", "/latest/meta-data/instance-id", "/openstack", "/nonsense"] {
        let mut before = 0;
        guest.ask_again_and_again(path, REQUESTS + 100, |number| {
            if number == 100 {
                before = ALLOCATED.get();
            }
        });
        let allocated = ALLOCATED.get() - before;
        println!("{path}: {allocated} allocations for {REQUESTS} requests");
        assert!(allocated <= ALLOCATIONS, "{path}: {allocated} allocations for {REQUESTS} requests");
    }
}

/// Instances whose memory is compared.
const INSTANCES: isize = 1024;

/// Puts them into a new store, each with a document that `change` has changed. Returns it with the bytes that each takes.
fn stored(change: impl Fn(Document) -> Document) -> (Store, Vec<InstanceId>, isize) {
    let before = LIVE.get();
    let store = Store::new(Cloud::default());
    let mut ids = Vec::new();
    for number in (0..).take(INSTANCES.unsigned_abs()) {
        let uuid = |kind: u128| uuid::Uuid::from_u128((number << 4) | kind).to_string();
        let port = json!({"id": uuid(1), "mac_address": "fa:16:3e:00:00:01"});
        let document = change(Document::new(&uuid(0), "a", port));
        let record = wire::parse(document.text().as_bytes()).expect("a valid document");
        ids.push(record.uuid);
        store.put(record);
    }
    let each = (LIVE.get() - before) / INSTANCES;
    (store, ids, each)
}

#[test]
fn who_uses_no_extension_pays_a_pointer_and_who_does_pays_for_what_it_has() {
    drop(stored(|document| document));
    let (store, ids, plain) = stored(|document| document);
    assert_eq!(size_of::<Option<Box<Notices>>>(), size_of::<usize>());
    let (_, _, tagged) = stored(|document| document.with("tags", json!({"team": "web"})));
    let event = json!({"id": "evt-1", "type": "migration", "time": "2026-12-01T02:00:00Z"});
    let (_, _, warned) = stored(|document| document.with("events", json!([event])));
    let write_all = |text: Option<&str>| {
        let before = LIVE.get();
        for id in &ids {
            let change = |attributes: &mut Attributes| match text {
                Some(text) => attributes.set("boot", "state", text, 1),
                None => Ok(attributes.remove("boot", "state")),
            };
            store.change_attributes(*id, change).expect("the instance is there");
        }
        (LIVE.get() - before) / INSTANCES
    };
    let first = write_all(Some("done"));
    let removed = write_all(None);
    let again = write_all(Some("done"));
    println!(
        "an instance: {plain} bytes; with a tag {} more, with an event {} more, with an attribute {first} more, of which \
         {} go with the attribute",
        tagged - plain,
        warned - plain,
        -removed
    );
    // The tables' places are random, and so is when a table grows.
    assert!(removed < 0 && (again + removed).abs() < 100, "{first}, {removed}, {again}");
    // docs/guest-extensions.md has these.
    assert!(
        plain < 2048 && tagged - plain < 384 && warned - plain < 512 && first < 1100,
        "{plain}, {tagged}, {warned}"
    );
}
