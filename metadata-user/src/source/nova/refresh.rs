//! Reads everything of one instance that is read ahead.
//!
//! Promises: what is returned is of one moment, as far as Nova's answers show: the page that every instance has is the
//! same before and after.

use std::collections::{BTreeMap, VecDeque};

use super::client::{self, Client, NovaError, Requester, Urgency};
use super::prefetch::{self, EC2_VERSIONS, LISTS, PROOF};
use crate::api::{NovaPages, Page};

/// Most pages of one instance that are read ahead: several times what Nova has, should a listing lead in circles.
const MOST_PAGES: usize = 512;
/// How often a pass is begun again because something changed meanwhile.
const TRIES: usize = 3;

pub(super) type Pages = BTreeMap<String, Page>;

/// Returns what an instance must have for any path to be possible.
pub(super) async fn first(client: &Client, who: &Requester) -> Result<Pages, NovaError> {
    let mut pages = Pages::new();
    for path in [PROOF].into_iter().chain(LISTS) {
        pages.insert(path.to_owned(), client.page(who, path, Urgency::Background).await?);
    }
    Ok(pages)
}

/// Returns all that is read ahead, and the pages of `further` paths. A page on which Nova crashes stays as it was.
pub(super) async fn whole(
    client: &Client,
    who: &Requester,
    further: &[String],
    old: Option<&NovaPages>,
) -> Result<Pages, NovaError> {
    let mut tries = 0;
    loop {
        let mut pages = first(client, who).await?;
        let listing = |pages: &Pages, path: &str| pages.get(path).map(|page| page.body().clone()).unwrap_or_default();
        let mut paths: VecDeque<String> = prefetch::openstack(&listing(&pages, "openstack")).into();
        paths.extend(further.iter().cloned());
        let versions = listing(&pages, "");
        let is_listed = |version: &&str| versions.split(|byte| *byte == b'\n').any(|line| line == version.as_bytes());
        let mut listings: VecDeque<String> = EC2_VERSIONS.into_iter().filter(is_listed).map(str::to_owned).collect();
        while let Some((path, is_listing)) =
            listings.pop_front().map(|path| (path, true)).or_else(|| paths.pop_front().map(|path| (path, false)))
        {
            if pages.len() >= MOST_PAGES || pages.contains_key(&path) {
                continue;
            }
            let page = match client.page(who, &path, Urgency::Background).await {
                Ok(page) => page,
                Err(silence @ (NovaError::Crash | NovaError::Broken)) => {
                    let known = old.and_then(|old| old.page(&path)).cloned();
                    let crashed = || client::crashed(&path).filter(|_| silence == NovaError::Crash);
                    match known.or_else(crashed) {
                        Some(page) => page,
                        None => continue,
                    }
                }
                Err(silence) => return Err(silence),
            };
            if is_listing {
                for below in prefetch::listed(&path, page.body()) {
                    if prefetch::is_listing(&below, page.body()) {
                        listings.push_back(below)
                    } else {
                        paths.push_back(below)
                    }
                }
            }
            pages.insert(path, page);
        }
        let proof = client.page(who, PROOF, Urgency::Background).await?;
        tries += 1;
        if tries >= TRIES || pages.get(PROOF) == Some(&proof) {
            return Ok(pages);
        }
    }
}

/// Tells whether two reads agree, but for pages that may differ at every look.
pub(super) fn agree(one: &Pages, other: &Pages) -> bool {
    let steady = |pages: &'_ Pages| {
        pages
            .iter()
            .filter(|(path, _)| !prefetch::is_dynamic(path))
            .map(|(path, page)| (path.clone(), page.clone()))
            .collect()
    };
    let (one, other): (Pages, Pages) = (steady(one), steady(other));
    one == other
}
