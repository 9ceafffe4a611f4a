//! What happens to a daemon over the years: its controller is away, others break what it has set up, operators ask, its
//! configuration is reloaded, and it is restarted in every way.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::world::World;
use crate::wait;
use crate::{command, daemon};

/// Ways in which etcd goes away.
const OUTAGES: u64 = 3;

/// What is broken, and in which of these ways; the daemon counts its repair under this name.
const BREAKAGES: [&str; 8] =
    ["from_guest", "port", "pin", "pair_link", "pair", "address", "from_network", "from_guest_xdp"];

/// Settings that a reload changes, and the two values that they have in turns.
const SETTINGS: [(&str, &str, &str); 2] =
    [("idle_timeout", "\"30s\"", "\"31s\""), ("request_timeout", "\"10s\"", "\"11s\"")];

/// So many rounds see everything once.
pub(super) const ROUNDS: u64 = 4;

impl World {
    /// etcd goes away in one of three ways, guests go on reading, and what changes after it is back is seen.
    pub(super) fn lose_source(&mut self, round: u64) -> Result<()> {
        match round % OUTAGES {
            0 => self.etcd.stop(0)?,
            1 => self.etcd.kill(0)?,
            _ => self.etcd.pause(0)?,
        }
        self.wait_source("the loss of etcd is noticed", |state| !state["lagging_since"].is_null())?;
        self.readers_go_on()?;
        match round % OUTAGES {
            2 => self.etcd.resume(0)?,
            _ => self.etcd.start_all()?,
        }
        self.source_is_well()?;
        self.change_documents()?;
        self.count("outages of the source", 1);
        Ok(())
    }

    /// Breaks two things, and waits for their repair.
    pub(super) fn break_things(&mut self, round: u64) -> Result<()> {
        for place in [2 * round, 2 * round + 1] {
            let what = BREAKAGES[usize::try_from(place)? % BREAKAGES.len()];
            let repairs = || anyhow::Ok(self.node.status()?["repairs"][what].as_u64().unwrap_or(0));
            let before = repairs()?;
            self.break_one(what).with_context(|| format!("breaking {what}"))?;
            wait::until(&format!("{what} is repaired"), || Ok((repairs()? > before).then_some(())))?;
            self.readers_go_on()?;
            self.count("repairs", 1);
        }
        Ok(())
    }

    fn break_one(&self, what: &str) -> Result<()> {
        let (guest, node) = (&self.steady[0].guest, &self.node);
        let index = guest.ifindex();
        let bpftool = |words: &[&str]| -> Result<()> {
            let mut bpftool = node.namespace().command("bpftool")?;
            command::run(bpftool.args(words), "").map(drop)
        };
        let pin = |name: &str| node.pins().join(name).display().to_string();
        match what {
            "from_guest" => bpftool(&["link", "detach", "pinned", &pin(&format!("links/tap-{index}"))]),
            "from_network" => bpftool(&["link", "detach", "pinned", &pin(&format!("links/guard-{index}"))]),
            "from_guest_xdp" => bpftool(&["link", "detach", "pinned", &pin(&format!("links/xdp-{index}"))]),
            "port" => {
                let key: Vec<_> = index.to_ne_bytes().iter().map(|byte| format!("{byte:#04x}")).collect();
                let mut words = vec!["map", "delete", "pinned"];
                let ports = pin("PORTS");
                words.extend([ports.as_str(), "key"]);
                words.extend(key.iter().map(String::as_str));
                bpftool(&words)
            }
            "pin" => fs::remove_file(pin(&format!("links/tap-{index}"))).context("removing a pin"),
            "pair_link" => node.namespace().ip("link set metadatad0 down").map(drop),
            "pair" => node.namespace().ip("link del metadatad0").map(drop),
            _ => node.responder().ip("addr del fd6d::a9fe:a9fe/128 dev guests").map(drop),
        }
    }

    /// Asks as operators and programs do; one of them goes away while it is answered.
    pub(super) fn operators_ask(&mut self, round: u64) -> Result<()> {
        let (guest, node) = (&self.steady[0].guest, &self.node);
        let mut asked = 0usize;
        for words in [
            &["status", "--json"][..],
            &["status", "--security"],
            &["ports"],
            &["source"],
            &["counters", "--json"],
            &["boots", "--json"],
            &["boots", guest.uuid()],
            &["anomalies"],
            &["access", guest.uuid()],
            &["get", guest.uuid(), "/openstack/latest/meta_data.json", "--secrets"],
            &["wait", guest.uuid()],
            &["doctor", guest.tap()],
            &["snapshot", "verify"],
        ] {
            // Once in a few rounds each: it is the daemon that is tried, and starting programs takes most of the time.
            if (asked as u64 + round).is_multiple_of(ROUNDS) {
                node.ask(words)?;
            }
            asked += 1;
        }
        if round.is_multiple_of(ROUNDS) {
            node.ask(&["top", "--once", "--json"])?;
        }
        let mut trace = daemon::verb(node.namespace(), node.config(), &["trace", guest.tap()])?;
        let mut trace = trace.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut curl = node.namespace().command("curl")?;
        curl.args(["--silent", "--fail", "--noproxy", "*", "--max-time", "10", "http://127.0.0.1:9169/metrics"]);
        let metrics = command::run(&mut curl, "")?;
        ensure!(metrics.contains("metadatad_build_info"), "no metrics: {metrics:.200}");
        // What others print is what is read first, and then nobody reads any more.
        trace.kill().context("ending `metadatad trace`")?;
        trace.wait().context("waiting for `metadatad trace`")?;
        self.count("operators' commands", asked.div_ceil(usize::try_from(ROUNDS)?) + 2);
        Ok(())
    }

    /// Changes a setting and reloads; then a file that is not accepted, and the right one again.
    pub(super) fn reload(&mut self) -> Result<()> {
        let (key, one, other) = SETTINGS[usize::try_from(self.reloads)? % SETTINGS.len()];
        let text = fs::read_to_string(self.node.config()).context("reading the configuration")?;
        let (is, was) = if text.contains(&format!("{key} = {one}\n")) { (other, one) } else { (one, other) };
        let changed = text.replace(&format!("{key} = {was}\n"), &format!("{key} = {is}\n"));
        let applied = serde_json::json!([format!("http.{key}")]);
        for (text, is_error) in [(format!("{text}\nnonsense = 1\n"), true), (changed, false)] {
            fs::write(self.node.config(), text).context("writing the configuration")?;
            kill(self.daemon()?, Signal::SIGHUP).context("sending SIGHUP")?;
            wait::until("the daemon has reloaded", || {
                let reload = self.node.status()?["reload"].take();
                let is_done = if is_error { !reload["error"].is_null() } else { reload["applied"] == applied };
                Ok(is_done.then_some(()))
            })?;
        }
        self.reloads += 1;
        self.count("reloads", 2);
        Ok(())
    }

    /// Ends the daemon and starts it, kills it and starts it, and has another one take over; guests go on reading.
    pub(super) fn restart_in_every_way(&mut self) -> Result<()> {
        self.node.stop_daemon()?;
        self.node.start_daemon()?;
        self.is_back()?;
        self.node.kill_daemon()?;
        self.killed();
        self.node.start_daemon()?;
        self.is_back()?;
        self.node.take_over()?;
        self.is_back()?;
        self.count("restarts", 3);
        Ok(())
    }

    /// Waits until the daemon does everything again.
    pub(super) fn is_back(&self) -> Result<()> {
        self.source_is_well()?;
        let status = self.node.status()?;
        ensure!(status["metrics"]["error"].is_null(), "metrics cannot be read: {}", status["metrics"]);
        for guest in self.steady.iter().map(|one| &one.guest).chain(self.movers.iter().map(|one| &one.guest)) {
            self.node.wait_bound(guest.ifindex())?;
        }
        self.readers_go_on()
    }

    fn daemon(&self) -> Result<Pid> {
        let id = self.node.daemon_id().context("the daemon does not run")?;
        Ok(Pid::from_raw(i32::try_from(id).context("a process id beyond i32")?))
    }
}
