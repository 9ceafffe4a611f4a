//! Ports that come and go: real taps, and guests that are rebound, unplugged, or ask before their content is there.

use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use metadata_ebpf::abi::PORT_HELD;
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_MAC};
use serde_json::json;

use super::world::World;
use super::writer::Change;
use crate::document::Document;
use crate::guest::{default_tap, mac_text, port_id};
use crate::http::Request;
use crate::tap::Tap;
use crate::wait;

const META_DATA: &str = "/openstack/latest/meta_data.json";

/// Requests that wait for the content of one guest.
const HELD: usize = 6;

/// The hypervisor's side of a port that comes and goes.
struct Plugged {
    name: String,
    tap: Tap,
    mac: [u8; 6],
    address: [u8; 4],
    document: Document,
}

impl World {
    /// Makes so many taps, half of them after their documents, asks over each, unbinds and rebinds some, and takes all of them away,
    /// half of them before their documents.
    pub(super) fn taps_come_and_go(&mut self, count: usize) -> Result<()> {
        let mut planned = Vec::new();
        for _ in 0..count {
            let number = self.node.number();
            let [_, second, high, low] = number.to_be_bytes();
            let (mac, address) = ([0xfa, 0x16, 0x3e, 9, high, low], [10, 9 + second, high, low]);
            let port = json!({"id": port_id(number), "mac_address": mac_text(mac),
                "fixed_ips": [{"ip_address": std::net::Ipv4Addr::from(address).to_string()}]});
            let instance = self.new_instance();
            planned.push((default_tap(number), mac, address, Document::new(&instance, "churned", port)));
        }
        let puts = |planned: &[(String, [u8; 6], [u8; 4], Document)]| {
            planned.iter().map(|(.., document)| Change::Put(document.clone())).collect()
        };
        let half = count / 2;
        self.write(puts(&planned[..half]))?;
        let opened: Result<Vec<_>> = planned.iter().map(|(name, ..)| Tap::open(self.node.namespace(), name)).collect();
        self.write(puts(&planned[half..]))?;
        let mut plugged: Vec<_> = planned
            .into_iter()
            .zip(opened?)
            .map(|((name, mac, address, document), tap)| Plugged { name, tap, mac, address, document })
            .collect();
        self.count("ports added", count);
        for one in &plugged {
            self.node.wait_bound(one.tap.ifindex())?;
            one.asks_for_the_way()?;
        }
        self.count("ports bound", count);
        // A quarter loses its instance, another gets one that was never there.
        let mut changes = Vec::new();
        for (place, one) in plugged.iter_mut().enumerate() {
            match place % 4 {
                1 => changes.push(Change::Delete(one.document.uuid().to_owned())),
                3 => {
                    changes.push(Change::Delete(one.document.uuid().to_owned()));
                    one.document = one.document.clone().with("uuid", self.new_instance());
                    changes.push(Change::Put(one.document.clone()));
                }
                _ => {}
            }
        }
        self.write(changes)?;
        for (place, one) in plugged.iter().enumerate() {
            match place % 4 {
                1 => self.node.wait_held(one.tap.ifindex())?,
                3 => self.wait_instance(&one.name, one.document.uuid())?,
                _ => {}
            }
            one.asks_for_the_way()?;
        }
        self.count("ports unbound", count / 4);
        self.count("ports bound", count / 4);
        let indexes: Vec<_> = plugged.iter().map(|one| one.tap.ifindex()).collect();
        let documents: Vec<_> = plugged.iter().map(|one| Change::Delete(one.document.uuid().to_owned())).collect();
        drop(plugged.drain(..half));
        self.write(documents)?;
        drop(plugged);
        for index in indexes {
            self.node.wait_unknown(index)?;
        }
        self.count("ports removed", count);
        Ok(())
    }

    /// Waits until a tap is bound to this instance.
    fn wait_instance(&self, tap: &str, instance: &str) -> Result<()> {
        self.node.wait_port_shown(tap, "is rebound", |port| port["state"] == "bound" && port["instance"] == instance)
    }

    /// Binds every mover's port to an instance that was never there, and has it ask: the history of boots has one binding more for each.
    pub(super) fn rebind_movers(&mut self) -> Result<()> {
        let (mut changes, mut tags) = (Vec::new(), Vec::new());
        for place in 0..self.movers.len() {
            let instance = self.new_instance();
            let mover = &mut self.movers[place];
            changes.push(Change::Delete(mover.document.uuid().to_owned()));
            mover.document = mover.document.clone().with("uuid", instance);
            changes.push(Change::Put(mover.document.clone()));
            tags.push(self.node.ports()?.get(&mover.guest.ifindex()).map(|port| port.tag));
        }
        self.write(changes)?;
        for (mover, before) in self.movers.iter().zip(tags) {
            let index = mover.guest.ifindex();
            wait::until(&format!("{} is rebound", mover.guest.name()), || {
                let port = self.node.ports()?.get(&index).copied();
                let is_new = port.is_some_and(|port| Some(port.tag) != before && port.flags & PORT_HELD == 0);
                Ok(is_new.then_some(()))
            })
            .with_context(|| format!("metadatad's log:\n{:.20000}", self.node.log()))?;
            let read = mover.guest.read_uuid(true)?;
            ensure!(read == mover.document.uuid(), "{} read {read}, not its own", mover.guest.name());
        }
        self.count("ports bound", self.movers.len());
        self.count("ports unbound", self.movers.len());
        self.count("requests of the movers", self.movers.len());
        Ok(())
    }

    /// Takes a mover's link away and makes it again.
    pub(super) fn replug(&mut self, place: usize) -> Result<()> {
        let mover = &mut self.movers[place];
        mover.guest.unplug(&self.node)?;
        mover.guest.plug(&self.node, None)?;
        self.node.wait_bound(mover.guest.ifindex())?;
        let read = mover.guest.read_uuid(false)?;
        ensure!(read == mover.document.uuid(), "{} read {read}, not its own", mover.guest.name());
        for what in ["ports added", "ports removed", "ports bound", "requests of the movers"] {
            self.count(what, 1);
        }
        Ok(())
    }

    /// Takes a mover's content away, has it ask several times at once, twice without waiting for the answer, and brings the content back.
    pub(super) fn hold_requests(&mut self, place: usize) -> Result<()> {
        let document = self.movers[place].document.clone();
        self.write(vec![Change::Delete(document.uuid().to_owned())])?;
        self.node.wait_held(self.movers[place].guest.ifindex())?;
        let (guest, asked) = (&self.movers[place].guest, Barrier::new(HELD + 1));
        let request = Request::get(META_DATA).patience(Duration::from_secs(30));
        let answers = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..HELD)
                .map(|_| {
                    scope.spawn(|| {
                        guest.namespace().run(|| {
                            let connected = request.connect();
                            asked.wait();
                            connected?.exchange(&request)
                        })
                    })
                })
                .collect();
            guest.namespace().run(|| {
                for _ in 0..2 {
                    request.connect()?.send_raw(format!("GET {META_DATA} HTTP/1.1\r\nHost: m\r\n\r\n").as_bytes())?;
                }
                Ok(())
            })?;
            asked.wait();
            let written = self.put(document.clone());
            let answers: Vec<_> = asking.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            written.map(|()| answers)
        })?;
        for answer in answers {
            let Ok(answer) = answer else { bail!("a thread panicked") };
            let answer = answer?;
            ensure!(
                answer.status == 200 && answer.json()?["uuid"] == document.uuid(),
                "a held request was answered with {}: {:.200}",
                answer.status,
                answer.text()
            );
        }
        self.node.wait_bound(self.movers[place].guest.ifindex())?;
        self.count("documents written", 1);
        self.count("ports bound", 1);
        self.count("ports unbound", 1);
        self.count("held requests", HELD + 2);
        Ok(())
    }

    /// Has a mover read with a session token, and with another one's.
    pub(super) fn use_tokens(&mut self) -> Result<()> {
        let [one, other] = [&self.movers[0].guest, &self.movers[1].guest];
        let seconds = "X-aws-ec2-metadata-token-ttl-seconds";
        let token = one.send(&Request::get("/latest/api/token").method("PUT").header(seconds, "60"))?;
        ensure!(token.status == 200, "no token: {:.200}", token.text());
        let read = Request::get(META_DATA).header("X-aws-ec2-metadata-token", &token.text());
        let statuses = [one.send(&read)?.status, other.send(&read)?.status];
        ensure!(statuses == [200, 401], "with a token, and with another one's: {statuses:?}");
        // Unusual traffic: a claim of another identity, and a path that is not there.
        one.send(&Request::get(META_DATA).header("X-Forwarded-For", "10.0.0.1"))?;
        one.get("/nonsense")?;
        self.count("tokens", 1);
        self.count("requests of the movers", 5);
        Ok(())
    }
}

impl Plugged {
    /// Asks for the service's MAC, and has it answered.
    fn asks_for_the_way(&self) -> Result<()> {
        let mut frame = [[0xff; 6], self.mac].concat();
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(self.mac);
        frame.extend(self.address);
        frame.extend([0; 6]);
        frame.extend(METADATA_IPV4);
        self.tap.send(&frame)?;
        wait::until("ARP is answered", || {
            let Some(frame) = self.tap.receive(Duration::from_millis(50))? else { return Ok(None) };
            let is_answer = frame.get(12..14) == Some(&[0x08, 0x06]) && frame.get(20..22) == Some(&[0, 2]);
            Ok((is_answer && frame.get(22..28) == Some(&METADATA_MAC)).then_some(()))
        })
    }
}
