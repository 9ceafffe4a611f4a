//! Reads everything of one instance, and finds out whether that is needed.
//!
//! Promises: what is returned is of one moment, as far as Nova's answers show: the page that every instance has is the
//! same before and after. To find that nothing has changed costs three requests.

use std::collections::{BTreeMap, VecDeque};

use super::client::{self, Client, NovaError, Requester, Urgency};
use super::prefetch::{self, LISTS, PROOF};
use crate::api::{NovaPages, Page};

/// Most pages of one instance that are read: several times what Nova has, should a listing lead in circles.
const MOST_PAGES: usize = 1024;
/// How often a pass is begun again because something changed meanwhile.
const TRIES: usize = 3;

pub(crate) type Pages = BTreeMap<String, Page>;

/// Returns what an instance must have for any path to be possible.
pub(crate) async fn first(client: &Client, who: &Requester) -> Result<Pages, NovaError> {
    let mut pages = Pages::new();
    for path in [PROOF].into_iter().chain(LISTS) {
        pages.insert(path.to_owned(), client.page(who, path, Urgency::Background).await?);
    }
    Ok(pages)
}

/// Returns whether Nova still answers as these pages have it, as far as the pages show that are compared at the refresh of this
/// number: [`prefetch::CHECKED`], and one more in turn.
pub(crate) async fn is_unchanged(
    client: &Client,
    who: &Requester,
    known: &NovaPages,
    number: usize,
) -> Result<bool, NovaError> {
    for path in prefetch::CHECKED.into_iter().chain([prefetch::also_checked(number)]) {
        let now = match client.page(who, path, Urgency::Background).await {
            Ok(page) => page,
            // It says nothing about a change, and all would be read in vain.
            Err(NovaError::Crash | NovaError::Broken) => continue,
            Err(error) => return Err(error),
        };
        if known.page(path).is_none_or(|page| *page != now) && (now.is_found() || known.page(path).is_some()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns all that Nova has, and the pages of `further` paths. A page on which Nova crashes stays as it was.
pub(crate) async fn whole(
    client: &Client,
    who: &Requester,
    further: &[String],
    old: Option<&NovaPages>,
) -> Result<Pages, NovaError> {
    let mut tries = 0;
    loop {
        let mut pages = first(client, who).await?;
        let listing = |pages: &Pages, path: &str| pages.get(path).map(|page| page.body().clone()).unwrap_or_default();
        let openstack = listing(&pages, "openstack");
        let mut paths: VecDeque<String> = prefetch::openstack(&openstack, &listing(&pages, PROOF)).into();
        paths.extend(further.iter().cloned());
        let versions = listing(&pages, "");
        let mut listings: VecDeque<String> = prefetch::versions(&versions).map(str::to_owned).collect();
        while let Some((path, is_listing)) =
            listings.pop_front().map(|path| (path, true)).or_else(|| paths.pop_front().map(|path| (path, false)))
        {
            if pages.len() >= MOST_PAGES || pages.contains_key(&path) {
                continue;
            }
            // `latest` comes first, on each level.
            let same = || prefetch::in_latest(&path).and_then(|path| pages.get(&path)).filter(|page| page.is_found());
            if let Some(page) = (!is_listing).then(same).flatten().cloned() {
                pages.insert(path, page);
                continue;
            }
            let page = match client.page(who, &path, Urgency::Background).await {
                Ok(page) => page,
                Err(error @ (NovaError::Crash | NovaError::Broken)) => {
                    let known = old.and_then(|old| old.page(&path)).cloned();
                    let crashed = || client::crashed(&path).filter(|_| error == NovaError::Crash);
                    match known.or_else(crashed) {
                        Some(page) => page,
                        None => continue,
                    }
                }
                Err(error) => return Err(error),
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
        prefetch::share(&openstack, &mut pages);
        let proof = client.page(who, PROOF, Urgency::Background).await?;
        tries += 1;
        if tries >= TRIES || pages.get(PROOF) == Some(&proof) {
            return Ok(pages);
        }
    }
}

/// Returns whether two reads agree, but for pages that may differ at every look.
pub(crate) fn agree(one: &Pages, other: &Pages) -> bool {
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
