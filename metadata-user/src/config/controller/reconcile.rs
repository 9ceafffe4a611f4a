//! `[reconcile]`: how everything is compared with OpenStack, at what rate.

use std::time::Duration;

use crate::config::key::{Key, Table};
use crate::config::kind::{Number, Seconds};
use crate::config::refusal::Refusal;
use crate::config::written::Reader;

/// `[reconcile]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconcile {
    /// Most requests a second to Nova, its metadata API and Neutron together that no change causes.
    pub requests_per_second: u32,
    /// Most requests in flight to each of them, changes included.
    pub requests: usize,
    /// Time from one listing of all servers to the next.
    pub list_interval: Duration,
    /// Age at which an instance is read again, though nothing seems to have changed.
    pub reread_interval: Duration,
    /// Servers in a page of Nova's list.
    pub page: u32,
}

pub(super) static TABLE: Table = Table {
    name: "reconcile",
    about: "How everything is compared with OpenStack: when a controller begins to lead, after notifications were lost, and slowly all \
            the time. What a notification asks for comes first, and does not wait for this rate.",
    keys: &[&REQUESTS_PER_SECOND, &REQUESTS, &LIST_INTERVAL, &REREAD_INTERVAL, &PAGE],
    tables: &[],
    is_optional: false,
    live: &[],
};

static REQUESTS_PER_SECOND: Key<Number<u32>> = Key {
    name: "requests_per_second",
    kind: Number { least: 1, most: 100_000 },
    default: "50",
    about: "Most requests a second to Nova, its metadata API and Neutron together, for comparing.",
    reason: "A fraction of a core of Nova. An instance is some 45 requests, so 1,000 are read in 15 minutes.",
};

static REQUESTS: Key<Number<usize>> = Key {
    name: "requests",
    kind: Number { least: 1, most: 1024 },
    default: "32",
    about: "Most requests in flight to each of the three, changes included.",
    reason: "Some five instances at a time, as a few workers of Nova's can answer.",
};

static LIST_INTERVAL: Key<Seconds> = Key {
    name: "list_interval",
    kind: Seconds(Number { least: 5, most: 86_400 }),
    default: "300",
    about: "Seconds from one listing of all servers to the next. An instance that Nova has updated since, or that is elsewhere, is read \
            again.",
    reason: "It finds what a lost notification would have told, at a request for each page.",
};

static REREAD_INTERVAL: Key<Seconds> = Key {
    name: "reread_interval",
    kind: Seconds(Number { least: 60, most: 2_592_000 }),
    default: "86400",
    about: "Seconds after which an instance is read again, though nothing seems to have changed.",
    reason: "It finds what shows in no list, such as a renamed security group.",
};

static PAGE: Key<Number<u32>> = Key {
    name: "page",
    kind: Number { least: 1, most: 1000 },
    default: "500",
    about: "Servers in a page of Nova's list.",
    reason: "Half of Nova's own limit (`max_limit`).",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Reconcile, Refusal> {
    Ok(Reconcile {
        requests_per_second: table.value(&REQUESTS_PER_SECOND)?,
        requests: table.value(&REQUESTS)?,
        list_interval: table.value(&LIST_INTERVAL)?,
        reread_interval: table.value(&REREAD_INTERVAL)?,
        page: table.value(&PAGE)?,
    })
}
