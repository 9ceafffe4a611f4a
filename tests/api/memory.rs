//! What an instance costs in memory, beside its user data, and what an answer costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use metadata_user::api::Request;

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
