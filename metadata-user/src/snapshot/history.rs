//! The history of boots on disk, beside the snapshot: sealed with its key, written whole, for the next daemon.
//!
//! Promises: it is used only within the boot of the node in which it was written, since tags and interface indices mean nothing later; a
//! file that is absent, altered, of another key or version is left out, and the history starts over.
//!
//! The form: a line with the version, a line with the header, both in the clear, then a line of JSON for each binding and link, sealed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file;
use crate::audit::Text;
use crate::boots::{Asked, Beginning, Boot, Boots, LinkTimes, Past, PastBinding, Read};
use crate::config;
use crate::durable::{self, Draft};
use crate::secret::seal::{self, SealKey, Sealer};

/// What the first line is.
const FIRST: &[u8] = b"metadatad boots 1";

/// The second line.
#[derive(Serialize, Deserialize)]
struct Header {
    /// Fingerprint of the key.
    key: String,
    /// Random part of this text's key, in hex digits.
    salt: String,
    /// The boot of the node.
    boot: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    Binding(Binding),
    Link(Link),
}

#[derive(Serialize, Deserialize)]
struct Binding {
    tag: u32,
    instance: String,
    last: u64,
    boots: Vec<KeptBoot>,
}

#[derive(Serialize, Deserialize)]
struct KeptBoot {
    began: Began,
    connected_at: Option<u64>,
    requests: u64,
    early: u64,
    left_out: u64,
    last_at: u64,
    last_status: Option<u16>,
    last_read: Option<u8>,
    counted: bool,
    reads: Vec<KeptRead>,
    clients: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct KeptRead {
    path: String,
    first_at: u64,
    last_at: u64,
    count: u32,
    status: Option<u16>,
    client: Option<u8>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Began {
    Binding,
    Link,
    Silence,
}

#[derive(Serialize, Deserialize)]
struct Link {
    ifindex: u32,
    has_carrier: bool,
    carrier_ups: u32,
    up_at: Option<u64>,
    /// Absent: never; 0: before an earlier daemon started.
    asked: Option<u64>,
    questions: u64,
    counted: bool,
}

/// Returns the file's path.
fn path(snapshot: &Path) -> PathBuf {
    durable::beside(snapshot, config::snapshot::BOOTS)
}

/// Writes the history beside a snapshot. `boot`: that of the node.
pub(super) fn write(snapshot: &Path, key: &SealKey, boot: &str, boots: &Boots) -> io::Result<()> {
    let path = path(snapshot);
    let salt = seal::random_salt().map_err(io::Error::other)?;
    let header = Header { key: key.id().to_owned(), salt: crate::secret::hex(&salt), boot: boot.to_owned() };
    let head = [FIRST, b"\n", &serde_json::to_vec(&header)?, b"\n"].concat();
    let draft = Draft::new(durable::beside(&path, config::snapshot::DRAFT))?;
    let mut out = BufWriter::new(draft.file());
    out.write_all(&head)?;
    let mut sealer = Sealer::new(key, &salt, &head, out).map_err(io::Error::other)?;
    // One after the other, so that the history is in memory once.
    let bindings = boots.tags().into_iter().filter_map(|tag| boots.past_of(tag));
    let bindings = bindings.map(|binding| Entry::Binding(binding.into()));
    for entry in bindings.chain(boots.links.all().into_iter().map(|link| Entry::Link(link.into()))) {
        serde_json::to_writer(&mut sealer, &entry)?;
        sealer.write_all(b"\n")?;
    }
    File::sync_all(sealer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?)?;
    draft.replace(&path)
}

/// Reads the history of this boot of the node; or says why there is none.
pub(super) fn read(snapshot: &Path, key: &SealKey, boot: &str) -> Result<Past, String> {
    let text = file::read_bytes(&path(snapshot)).map_err(|error| error.to_string())?.ok_or("there is none")?;
    let head = text.splitn(3, |byte| *byte == b'\n').take(2).map(|line| line.len() + 1).sum::<usize>().min(text.len());
    let (head, sealed) = text.split_at(head);
    let mut lines = head.split(|byte| *byte == b'\n');
    if lines.next() != Some(FIRST) {
        return Err("it is of another version".to_owned());
    }
    let header: Header = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(|_| "it was altered")?;
    if header.boot != boot {
        return Err("the node has booted since".to_owned());
    }
    if header.key != key.id() {
        return Err("it is sealed with another key".to_owned());
    }
    let salt = file::salt(&header.salt).ok_or("it was altered")?;
    let clear = seal::open(key, &salt, head, sealed.to_vec().into()).map_err(|_| "it was altered")?;
    let mut past = Past::default();
    for line in clear.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).map_err(|_| "it is of another version")? {
            Entry::Binding(binding) => past.bindings.extend(binding.into_past()),
            Entry::Link(link) => past.links.push(link.into_times()),
        }
    }
    Ok(past)
}

impl From<PastBinding> for Binding {
    fn from(past: PastBinding) -> Self {
        let PastBinding { tag, instance, last, boots } = past;
        Self { tag, instance: instance.to_string(), last, boots: boots.into_iter().map(KeptBoot::from).collect() }
    }
}

impl Binding {
    fn into_past(self) -> Option<PastBinding> {
        let Self { tag, instance, last, boots } = self;
        let boots = boots.into_iter().map(KeptBoot::into_boot).collect();
        Some(PastBinding { tag, instance: instance.parse().ok()?, last, boots })
    }
}

impl From<Boot> for KeptBoot {
    fn from(boot: Boot) -> Self {
        let read = |read: &Read| KeptRead {
            path: read.path.as_str().to_owned(),
            first_at: read.first_at,
            last_at: read.last_at,
            count: read.count,
            status: read.status,
            client: read.client,
        };
        Self {
            began: match boot.beginning {
                Beginning::Binding => Began::Binding,
                Beginning::Link => Began::Link,
                Beginning::Silence => Began::Silence,
            },
            connected_at: boot.connected_at,
            requests: boot.requests,
            early: boot.early,
            left_out: boot.left_out,
            last_at: boot.last_at,
            last_status: boot.last_status,
            last_read: boot.last_read,
            counted: boot.is_counted,
            reads: boot.reads.iter().map(read).collect(),
            clients: boot.clients.iter().map(|client| client.as_str().to_owned()).collect(),
        }
    }
}

impl KeptBoot {
    fn into_boot(self) -> Boot {
        let mut boot = Boot {
            beginning: match self.began {
                Began::Binding => Beginning::Binding,
                Began::Link => Beginning::Link,
                Began::Silence => Beginning::Silence,
            },
            connected_at: self.connected_at,
            requests: self.requests,
            early: self.early,
            left_out: self.left_out,
            last_at: self.last_at,
            last_status: self.last_status,
            last_read: self.last_read,
            is_counted: self.counted,
            ..Boot::default()
        };
        for KeptRead { path, first_at, last_at, count, status, client } in self.reads {
            // What does not fit is left out.
            let _ = boot.reads.try_push(Read { path: Text::kept(&path), first_at, last_at, count, status, client });
        }
        for client in self.clients {
            let _ = boot.clients.try_push(Text::kept(&client));
        }
        boot
    }
}

impl From<(u32, LinkTimes)> for Link {
    fn from((ifindex, times): (u32, LinkTimes)) -> Self {
        Self {
            ifindex,
            has_carrier: times.has_carrier,
            carrier_ups: times.carrier_ups,
            up_at: times.up_at,
            asked: match times.asked {
                Asked::Never => None,
                Asked::Before => Some(0),
                Asked::At(at) => Some(at),
            },
            questions: times.counted,
            counted: times.is_counted,
        }
    }
}

impl Link {
    fn into_times(self) -> (u32, LinkTimes) {
        let times = LinkTimes {
            has_carrier: self.has_carrier,
            carrier_ups: self.carrier_ups,
            up_at: self.up_at,
            asked: match self.asked {
                None => Asked::Never,
                Some(0) => Asked::Before,
                Some(at) => Asked::At(at),
            },
            counted: self.questions,
            is_counted: self.counted,
            ..LinkTimes::default()
        };
        (self.ifindex, times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boots::{Asks, LinkState};
    use crate::record::InstanceId;
    use crate::secret::Secret;

    fn key(byte: u8) -> SealKey {
        SealKey::new(Secret::new(vec![byte; 32])).expect("long enough")
    }

    fn boots() -> Boots {
        let boots = Boots::default();
        let history = boots.of(7);
        history.connected(Some(InstanceId(uuid::Uuid::from_u128(1))), 1000);
        for (at, path, status) in
            [(1100, "/openstack", Some(200)), (1200, "/a\\", None), (1300, &*"/".repeat(99), Some(404))]
        {
            history.asked(Asks { at, path: path.as_bytes(), status, agent: b"agent/1" });
        }
        history.link_up();
        boots.links.changed(LinkState { ifindex: 3, has_carrier: true, carrier_ups: 2 }, || 4, 900);
        boots.links.look(950, |_| 5);
        boots
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let snapshot = directory.path().join("snapshot");
        let before = boots();
        write(&snapshot, &key(1), "this boot", &before).expect("written");
        let after = Boots::default();
        after.restore(read(&snapshot, &key(1), "this boot").expect("read"));
        let view = |boots: &Boots| format!("{:?}", boots.known(7).expect("kept").view());
        assert_eq!(view(&after), view(&before));
        after.links.found(LinkState { ifindex: 3, has_carrier: true, carrier_ups: 2 }, 5, 2000);
        let link = after.links.get(3).expect("kept");
        assert_eq!((link.up_at, link.asked), (Some(900), Asked::At(950)));
    }

    #[test]
    fn what_is_of_another_boot_key_or_version_or_was_altered_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let snapshot = directory.path().join("snapshot");
        let reason = |key: &SealKey, boot: &str| read(&snapshot, key, boot).map(drop).expect_err("left out");
        assert_eq!(reason(&key(1), "b"), "there is none");
        write(&snapshot, &key(1), "b", &boots()).expect("written");
        assert_eq!(reason(&key(1), "c"), "the node has booted since");
        assert_eq!(reason(&key(2), "b"), "it is sealed with another key");
        let whole = std::fs::read(path(&snapshot)).expect("read");
        for (bytes, expected) in [
            (whole[..whole.len() - 1].to_vec(), "it was altered"),
            (whole[..20].to_vec(), "it was altered"),
            ([b"metadatad boots 2", &whole[FIRST.len()..]].concat(), "it is of another version"),
            (Vec::new(), "it is of another version"),
        ] {
            std::fs::write(path(&snapshot), bytes).expect("written");
            assert_eq!(reason(&key(1), "b"), expected);
        }
    }
}
