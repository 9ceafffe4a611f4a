//! What has become of the programs on their interfaces, and of the pins: nobody reports that a link of tcx or XDP was detached, or
//! that a pin was removed, so it is looked up.
//!
//! Promises: looking changes nothing; it costs one system call for each program, and two directories to list; what is found follows
//! from what was seen alone (`find`). Filters of clsact are not looked at here: the kernel reports their removal
//! (`port/removals.rs`).

use std::{collections::BTreeSet, io, path::PathBuf};

use aya::{maps::MapData, programs::TcAttachType};
use nix::errno::Errno;

use super::{
    AttachKind, Dataplane, DataplaneError,
    link::{HeldLink, Place},
    pins::{Pins, pin},
    query::{self, Attached},
};

/// What was found. All of it empty: everything is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Programs that are on their interface no more.
    pub detached: Vec<Place>,
    /// Pins that are gone, by name.
    pub unpinned: Vec<String>,
    /// Ids of programs of others that tcx runs before one of ours, by place, in their order.
    pub preceded: Vec<(Place, Vec<u32>)>,
}

/// What was seen of one link.
enum Seen {
    /// What is at its hook of tcx.
    Hook(Vec<Attached>),
    /// At XDP: whether it is on an interface.
    Xdp(bool),
    /// Nothing can be said: the interface is gone, as netlink will report.
    Nothing,
}

/// Says what was found of a link.
fn find(found: &mut Found, place: Place, link: u32, seen: Seen) {
    match seen {
        Seen::Hook(attached) => match attached.iter().position(|attached| attached.link == link) {
            None => found.detached.push(place),
            Some(0) => {}
            Some(position) => {
                found.preceded.push((place, attached[..position].iter().map(|other| other.program).collect()));
            }
        },
        Seen::Xdp(false) => found.detached.push(place),
        Seen::Xdp(true) | Seen::Nothing => {}
    }
}

/// The maps, held open to be pinned again.
#[derive(Debug)]
pub(super) struct HeldMaps(Vec<(&'static str, MapData)>);

impl HeldMaps {
    /// Opens each pinned map once more.
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let open = |name: &'static str| {
            let data = MapData::from_pin(pins.map(name)).map_err(super::map_error("open the pin", name))?;
            Ok((name, data))
        };
        Dataplane::MAPS.into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }
}

impl Dataplane {
    /// Looks at every program and every pin.
    #[must_use]
    pub fn look(&self) -> Found {
        let mut found = Found::default();
        let (maps, links) = self.pins.names();
        let unpinned = self.maps.0.iter().map(|(name, _)| *name).filter(|name| !maps.contains(*name));
        found.unpinned.extend(unpinned.map(str::to_owned));
        for (place, link) in &self.links {
            find(&mut found, *place, link.id(), self.see(*place, link));
            let name = place.pin();
            if !links.contains(&name) {
                found.unpinned.push(name);
            }
        }
        // Where the operator has chosen clsact on a kernel with tcx: all of tcx runs before all of clsact.
        for (ifindex, _) in self.attached.iter().filter(|(_, kind)| **kind == AttachKind::Clsact) {
            let place = Place::Tap(*ifindex);
            let before = query::tcx(*ifindex, TcAttachType::Ingress).unwrap_or_default();
            if !before.is_empty() {
                found.preceded.push((place, before.into_iter().map(|other| other.program).collect()));
            }
        }
        found
    }

    fn see(&self, place: Place, link: &HeldLink) -> Seen {
        let seen = match place.direction() {
            Some(direction) => query::tcx(place.tap().unwrap_or(self.constants.pair), direction).map(Seen::Hook),
            None => link.ifindex().map(|ifindex| Seen::Xdp(ifindex.is_some())),
        };
        seen.unwrap_or_else(|error| {
            if error.raw_os_error() != Some(Errno::ENODEV as i32) {
                tracing::debug!(?place, %error, "cannot look at a program");
            }
            Seen::Nothing
        })
    }

    /// Makes the pins that are missing.
    ///
    /// # Errors
    /// [`DataplaneError::NoBpffs`] where no BPF file system is mounted for them, or the first pin that cannot be made.
    pub fn pin_again(&mut self) -> Result<(), DataplaneError> {
        self.pins.make_again()?;
        let (maps, links) = self.pins.names();
        for (name, map) in self.maps.0.iter().filter(|(name, _)| !maps.contains(*name)) {
            let path = self.pins.map(name);
            map.pin(&path).map_err(|error| pin("pin the map", &path)(io::Error::other(error)))?;
        }
        for (place, link) in self.links.iter().filter(|(place, _)| !links.contains(&place.pin())) {
            let path = self.pins.place(*place);
            link.pin(&path).map_err(pin("pin the link", &path))?;
        }
        Ok(())
    }

    /// Holds the link that is pinned for this place from here on, in the place of another.
    pub(super) fn hold(&mut self, place: Place) -> io::Result<()> {
        self.links.remove(&place);
        self.links.insert(place, HeldLink::open(&self.pins.place(place))?);
        Ok(())
    }

    /// Tells whether the program of a place is there by the link that is held.
    pub(super) fn is_linked(&self, place: Place) -> bool {
        let Some(link) = self.links.get(&place) else {
            return false;
        };
        match self.see(place, link) {
            Seen::Hook(attached) => attached.iter().any(|attached| attached.link == link.id()),
            Seen::Xdp(is_there) => is_there,
            Seen::Nothing => false,
        }
    }
}

impl Pins {
    /// Returns the names of what is pinned: maps, and links.
    fn names(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let names = |directory: PathBuf| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        (names(self.map("")), names(self.link("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::IfIndex;

    const TAP: Place = Place::Tap(IfIndex(7));

    fn on_hook(links: &[u32]) -> Seen {
        Seen::Hook(links.iter().map(|link| Attached { program: link + 100, link: *link }).collect())
    }

    #[test]
    fn what_was_seen_of_a_link_says_what_is_wrong_with_it() {
        let nothing = Found::default();
        let detached = Found { detached: vec![TAP], ..Found::default() };
        let preceded = Found { preceded: vec![(TAP, vec![101, 100])], ..Found::default() };
        for (seen, expected) in [
            (on_hook(&[3]), &nothing),
            (on_hook(&[3, 1]), &nothing),
            // 0: attached without a link.
            (on_hook(&[1, 0, 3]), &preceded),
            (on_hook(&[]), &detached),
            (on_hook(&[1, 2]), &detached),
            (Seen::Xdp(true), &nothing),
            (Seen::Xdp(false), &detached),
            (Seen::Nothing, &nothing),
        ] {
            let mut found = Found::default();
            find(&mut found, TAP, 3, seen);
            assert_eq!(&found, expected);
        }
    }
}
