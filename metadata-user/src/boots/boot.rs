//! A boot: the requests, their clients, and their results.

use arrayvec::ArrayVec;

use super::Asks;
use crate::audit::Text;

/// Different paths that are kept of a boot, the first ones: cloud-init reads up to 20 of OpenStack's tree.
pub const READS: usize = 24;

/// Different clients that are kept of a boot.
pub const CLIENTS: usize = 4;

/// What a boot began with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beginning {
    /// The binding: the tap is new, or was bound to another instance.
    #[default]
    Binding,
    /// The link has come up again.
    Link,
    /// A request like the first one of the boot before, after ten minutes without any.
    Silence,
}

/// A path that was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The path, bounded and escaped.
    pub path: Text<64>,
    /// When it was first answered, in milliseconds of Unix time.
    pub first_at: u64,
    /// When last.
    pub last_at: u64,
    /// How often it was asked for.
    pub count: u32,
    /// The last status; `None`: no answer.
    pub status: Option<u16>,
    /// Place of the client that asked first in the boot's clients; `None`: it is not kept.
    pub client: Option<u8>,
}

/// A boot.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// What it began with.
    pub beginning: Beginning,
    /// When the first connection came, in milliseconds of Unix time.
    pub connected_at: Option<u64>,
    /// Requests in all.
    pub requests: u64,
    /// Requests that came before their content, answered with 503.
    pub early: u64,
    /// Requests of paths beyond [`READS`].
    pub left_out: u64,
    /// When the last request ended.
    pub last_at: u64,
    /// What it was answered; `None`: nothing.
    pub last_status: Option<u16>,
    /// Which path it was for, if that is kept.
    pub last_read: Option<u8>,
    /// Paths, in the order in which they were first asked for.
    pub reads: ArrayVec<Read, READS>,
    /// Clients, in that order.
    pub clients: ArrayVec<Text<64>, CLIENTS>,
    /// Whether it has been counted.
    pub is_counted: bool,
}

impl Boot {
    /// Notes a request.
    pub(super) fn note(&mut self, asks: Asks<'_>) {
        self.requests += 1;
        self.early += u64::from(asks.status == Some(503));
        (self.last_at, self.last_status) = (asks.at, asks.status);
        let client = self.client(asks.agent);
        let place = self.reads.iter().position(|read| is(&read.path, asks.path)).or_else(|| self.add(&asks, client));
        self.last_read = place.and_then(|place| u8::try_from(place).ok());
        match place.and_then(|place| self.reads.get_mut(place)) {
            Some(read) => {
                read.count = read.count.saturating_add(1);
                (read.last_at, read.status) = (asks.at, asks.status);
            }
            None => self.left_out += 1,
        }
    }

    /// Adds a path that was not asked for before, if there is room.
    fn add(&mut self, asks: &Asks<'_>, client: Option<u8>) -> Option<usize> {
        let path = Text::escaped(asks.path);
        // One that was escaped or cut looks otherwise than it came.
        if let Some(known) = self.reads.iter().position(|read| read.path == path) {
            return Some(known);
        }
        let read = Read { path, first_at: asks.at, last_at: asks.at, count: 0, status: asks.status, client };
        self.reads.try_push(read).ok().map(|()| self.reads.len() - 1)
    }

    /// Returns the place of a client, which is kept if there is room.
    fn client(&mut self, agent: &[u8]) -> Option<u8> {
        let known = self.clients.iter().position(|client| is(client, agent));
        let place = known.or_else(|| {
            let text = Text::escaped(agent);
            let known = self.clients.iter().position(|client| *client == text);
            known.or_else(|| self.clients.try_push(text).ok().map(|()| self.clients.len() - 1))
        });
        place.and_then(|place| u8::try_from(place).ok())
    }

    /// Tells whether a request is like the boot's first one.
    pub(super) fn began_like(&self, asks: &Asks<'_>) -> bool {
        let first = self.reads.first();
        let client = first.and_then(|read| self.clients.get(usize::from(read.client?)));
        first.is_some_and(|read| is(&read.path, asks.path)) && client.is_some_and(|client| is(client, asks.agent))
    }

    /// Returns when it began, in milliseconds of Unix time, as far as its guest's connections and requests show it.
    #[must_use]
    pub(super) fn began_at(&self) -> Option<u64> {
        self.connected_at.or_else(|| Some(self.reads.first()?.first_at))
    }

    /// Returns the path that was asked for last, if it is kept.
    #[must_use]
    pub fn last_path(&self) -> Option<&str> {
        Some(self.reads.get(usize::from(self.last_read?))?.path.as_str())
    }
}

/// Tells whether a text is just these bytes: the usual case, found without escaping them.
fn is(text: &Text<64>, bytes: &[u8]) -> bool {
    text.as_str().as_bytes() == bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks<'a>(path: &'a [u8], agent: &'a [u8]) -> Asks<'a> {
        Asks { at: 1, path, status: Some(404), agent }
    }

    #[test]
    fn paths_and_clients_are_kept_in_bounds_and_each_once() {
        let mut boot = Boot::default();
        for number in 0..1000 {
            boot.note(asks(format!("/scan/{number}").as_bytes(), format!("tool/{number}").as_bytes()));
        }
        assert_eq!((boot.reads.len(), boot.clients.len(), boot.requests), (READS, CLIENTS, 1000));
        assert_eq!((boot.left_out, boot.last_path()), (1000 - 24, None));
        let mut boot = Boot::default();
        for _ in 0..3 {
            boot.note(asks(&[b'/'; 200], b"\xff"));
        }
        assert_eq!((boot.reads.len(), boot.clients.len(), boot.reads[0].count), (1, 1, 3));
        assert_eq!(boot.clients[0].as_str(), "\\xff");
    }
}
