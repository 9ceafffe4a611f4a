//! What dated versions list, known from what `latest` lists.
//!
//! Nova builds a listing from what there is and from the version, which leaves out what came later. So two instances whose listings are
//! the same in `latest` have the same in every dated version, and only the first of them is asked for those: more than half of all pages.
//!
//! Promises: a listing is kept for an hour, so that a Nova that was replaced is noticed; what is held is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::prefetch::{self, LISTS};
use crate::api::Page;

/// How long listings are believed.
const LIFE: Duration = Duration::from_secs(3600);
/// Most shapes that are kept. An instance's key pair is part of its shape.
const MOST: usize = 1024;

/// Listings of dated versions, by shape.
#[derive(Debug, Default)]
pub(crate) struct Listings(Mutex<HashMap<Vec<u8>, Known>>);

#[derive(Debug)]
struct Known {
    at: Instant,
    dated: Arc<BTreeMap<String, Page>>,
}

impl Listings {
    /// Returns the listings of dated versions that go with those of `latest`.
    pub(crate) fn dated(&self, shape: &[u8]) -> Option<Arc<BTreeMap<String, Page>>> {
        let mut known = self.0.lock();
        let dated = known.get(shape).filter(|known| known.at.elapsed() < LIFE).map(|known| Arc::clone(&known.dated));
        if dated.is_none() {
            known.remove(shape);
        }
        dated
    }

    /// Keeps them.
    pub(crate) fn keep(&self, shape: Vec<u8>, dated: BTreeMap<String, Page>) {
        let mut known = self.0.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(shape, Known { at: Instant::now(), dated: Arc::new(dated) });
    }
}

/// Returns the shape of an instance: its versions, and all that `latest` lists in both trees.
pub(crate) fn shape<'a>(pages: &BTreeMap<String, Page>, listings: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let of_latest = listings.filter(|path| !prefetch::is_dated(path)).map(String::as_str);
    let mut shape = Vec::new();
    for path in LISTS.into_iter().chain(of_latest) {
        shape.extend_from_slice(path.as_bytes());
        shape.push(0);
        if let Some(page) = pages.get(path) {
            shape.push(u8::from(page.is_found()));
            shape.extend_from_slice(page.content_type().unwrap_or_default().as_bytes());
            shape.push(0);
            shape.extend_from_slice(page.body());
        }
        shape.push(0);
    }
    shape
}
