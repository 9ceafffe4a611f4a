//! Reads everything of one instance, and finds out whether that is needed.
//!
//! Promises: what is returned is of one moment, as far as Nova's answers show: the page that every instance has is the
//! same before and after. To find that nothing has changed costs three requests. A content type that Nova took from another
//! answer is not believed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::client::{self, Client, NovaError, Requester, Urgency};
use super::listings::{self, Listings};
use super::prefetch::{self, LISTS, PROOF};
use crate::api::{NovaPages, Page};

/// Most pages of one instance that are read: several times what Nova has, should a listing lead in circles.
const MOST_PAGES: usize = 1024;
/// How often a pass is begun again because something changed meanwhile.
const TRIES: usize = 3;

pub(crate) type Pages = BTreeMap<String, Page>;

/// Returns what an instance must have for any path to be possible.
pub(crate) async fn first(client: &Client, who: &Requester, urgency: Urgency) -> Result<Pages, NovaError> {
    let mut pages = Pages::new();
    for path in [PROOF].into_iter().chain(LISTS) {
        pages.insert(path.to_owned(), client.page(who, path, urgency).await?);
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

/// How an instance is read.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) urgency: Urgency,
    /// Most pages of the instance that are asked for at a time.
    pub(crate) width: usize,
    /// Listings of dated versions that need not be asked for.
    pub(crate) listings: Option<&'a Listings>,
}

/// One page after the other, as a node reads: Nova has many nodes.
pub(crate) const OF_NODE: Manner<'static> = Manner { urgency: Urgency::Background, width: 1, listings: None };

/// Returns all that Nova has, and the pages of `further` paths. A page on which Nova crashes stays as it was.
pub(crate) async fn whole(
    client: &Client,
    who: &Requester,
    further: &[String],
    old: Option<&NovaPages>,
    manner: Manner<'_>,
) -> Result<Pages, NovaError> {
    let mut tries = 0;
    loop {
        let mut pass = Pass { client, who, old, manner, pages: first(client, who, manner.urgency).await? };
        let openstack = pass.body("openstack");
        let (mut listings, mut leaves): (Vec<String>, Vec<String>) =
            prefetch::openstack(&openstack, &pass.body(PROOF)).into_iter().partition(|path| prefetch::lists(path));
        leaves.extend(further.iter().cloned());
        listings.extend(prefetch::versions(&pass.body("")).map(str::to_owned));
        let (dated, latest): (Vec<String>, Vec<String>) =
            listings.into_iter().partition(|path| prefetch::is_dated(path));
        // `latest` comes first: the others share its pages.
        let listed = pass.explore(latest, &mut leaves).await?;
        let shape = listings::shape(&pass.pages, listed.iter());
        match manner.listings.and_then(|listings| listings.dated(&shape)) {
            Some(known) => pass.take(&known, &mut leaves),
            None => {
                let listed = pass.explore(dated, &mut leaves).await?;
                let dated = listed.iter().filter_map(|path| pass.pages.get_key_value(path));
                let dated: Pages = dated.map(|(path, page)| (path.clone(), page.clone())).collect();
                // One that Nova could not answer may be there for the next instance.
                let is_whole = dated.len() == listed.len() && dated.values().all(Page::is_found);
                if let Some(listings) = manner.listings.filter(|_| is_whole) {
                    listings.keep(shape, dated);
                }
            }
        }
        let (shared, own): (Vec<String>, Vec<String>) =
            leaves.into_iter().partition(|path| prefetch::in_latest(path).is_some());
        pass.read(own).await?;
        pass.share(shared).await?;
        let mut pages = pass.pages;
        prefetch::share(&openstack, &mut pages);
        let proof = client.page(who, PROOF, manner.urgency).await?;
        tries += 1;
        if tries >= TRIES || pages.get(PROOF) == Some(&proof) {
            return Ok(pages);
        }
    }
}

/// One pass over all pages.
struct Pass<'a> {
    client: &'a Client,
    who: &'a Requester,
    old: Option<&'a NovaPages>,
    manner: Manner<'a>,
    pages: Pages,
}

impl Pass<'_> {
    fn body(&self, path: &str) -> Bytes {
        self.pages.get(path).map(|page| page.body().clone()).unwrap_or_default()
    }

    /// Reads listings and all that they list, level by level; adds what is no listing to `leaves`. Returns the listings.
    async fn explore(&mut self, listings: Vec<String>, leaves: &mut Vec<String>) -> Result<Vec<String>, NovaError> {
        let (mut level, mut all) = (listings, Vec::new());
        while !level.is_empty() {
            self.read(level.clone()).await?;
            let next = level.iter().flat_map(|path| self.below(path, leaves)).collect();
            all.append(&mut level);
            level = next;
        }
        Ok(all)
    }

    /// Returns the listings below a listing of the EC2 tree, and adds what else is there to `leaves`.
    fn below(&self, path: &str, leaves: &mut Vec<String>) -> Vec<String> {
        let body = self.body(path);
        if prefetch::is_openstack(path) {
            return Vec::new();
        }
        let below = prefetch::listed(path, &body).into_iter();
        let (listings, others) = below.partition(|below| prefetch::is_listing(below, &body));
        leaves.extend::<Vec<String>>(others);
        listings
    }

    /// Takes listings of dated versions that are known.
    fn take(&mut self, known: &Pages, leaves: &mut Vec<String>) {
        for (path, page) in known {
            self.pages.insert(path.clone(), page.clone());
        }
        for path in known.keys() {
            self.below(path, leaves);
        }
    }

    /// Reads pages of dated versions, but for those that are the same in `latest`.
    async fn share(&mut self, paths: Vec<String>) -> Result<(), NovaError> {
        let mut others = Vec::new();
        for path in paths {
            let same = prefetch::in_latest(&path).and_then(|path| self.pages.get(&path)).filter(|page| page.is_found());
            match same.cloned() {
                Some(page) if self.pages.len() < MOST_PAGES => drop(self.pages.entry(path).or_insert(page)),
                _ => others.push(path),
            }
        }
        self.read(others).await
    }

    /// Reads pages, several at a time.
    async fn read(&mut self, paths: Vec<String>) -> Result<(), NovaError> {
        let mut seen = BTreeSet::new();
        let mut wanted = paths;
        wanted.retain(|path| !self.pages.contains_key(path) && seen.insert(path.clone()));
        wanted.truncate(MOST_PAGES.saturating_sub(self.pages.len()));
        let (client, who, urgency) = (self.client, self.who, self.manner.urgency);
        let asked = stream::iter(wanted).map(async |path| {
            let answer = client.page(who, &path, urgency).await;
            (path, answer)
        });
        let mut answers = pin!(asked.buffered(self.manner.width.max(1)));
        let mut mistyped = Vec::new();
        while let Some((path, answer)) = answers.next().await {
            let page = match answer {
                Ok(page) => page,
                Err(error @ (NovaError::Crash | NovaError::Broken)) => {
                    let known = self.old.and_then(|old| old.page(&path)).cloned();
                    let crashed = || client::crashed(&path).filter(|_| error == NovaError::Crash);
                    match known.or_else(crashed) {
                        Some(page) => page,
                        None => continue,
                    }
                }
                Err(error) => return Err(error),
            };
            if !prefetch::has_its_type(&path, &page) {
                mistyped.push(path.clone());
            }
            self.pages.insert(path, page);
        }
        // Alone: Nova keeps the content type of an instance's answer where all its threads see it, so one of two at a time may have the
        // other's. If it stays, this Nova means it.
        for path in mistyped {
            if let Ok(page) = client.page(who, &path, urgency).await {
                self.pages.insert(path, page);
            }
        }
        Ok(())
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
