//! The Ansible role of `deploy/ansible`, applied to the machine over ssh, as an operator does (docs/ansible.md); each test judges a play of
//! `role.yml`.
//!
//! Ansible starts a Python on the machine for each task, which takes seconds where the processor is emulated. So Mitogen carries the
//! tasks to the machine here: they are the same, and one Python runs them all. dropbear is the machine's ssh server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::fetched::collection;
use lab::{Machine, Namespace, Nic, Stall, command, machine, wait};

use super::node::step;

/// The machine's address, and this side's.
const ADDRESS: &str = "10.9.0.2";
const OWN: &str = "10.9.0.1/24";
/// A secret that the role writes, and nothing may show.
const SECRET: &str = "hidden-in-the-lab";
/// What is not a play: the playbook of `deploy/ansible` in check mode, and what is left at the end.
const DRY_RUN: &str = "dry run";
const LEFT: &str = "left";

const PREPARE: &str = "set -e
. /packages/functions; guest
ip link set eth0 up; ip addr add $ADDRESS/24 dev eth0
cp -a /packages/ansible/. /usr/
mkdir -p -m 700 /root/.ssh; echo \"$KEY\" >/root/.ssh/authorized_keys
dropbearkey -t ed25519 -f /run/host-key >/dev/null; dropbear -s -r /run/host-key";
const LOOK_AROUND: &str = ". /packages/functions; filters
ip -n guest link del eth0; ip netns del guest; rmdir /run/netns 2>/dev/null
find / \\( -path /proc -o -path /packages -o -path /sys/devices \\) -prune -o -name '*metadatad*' -print
echo units: $(systemctl list-units --all --no-legend 'metadatad*' | wc -l)";

/// Makes the machine's interface, on a bridge that has an address.
pub(super) fn nic(namespace: &Namespace) -> Result<Nic> {
    namespace
        .ip_batch(&format!("link set lo up\nlink add br0 type bridge\naddr add {OWN} dev br0\nlink set br0 up\n"))?;
    let nic = Nic { tap: "machine0".to_owned(), mac: [0xfa, 0x16, 0x3e, 0x14, 0xa5, 0x01] };
    nic.make(namespace, "br0")?;
    Ok(nic)
}

/// Puts what the machine needs of other packages on its second disk.
pub(super) fn fill(tree: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("--archive").arg(collection("ansible")?.join("debian/usr")).arg(tree.join("ansible"));
    command::run(&mut copy, "").map(drop)?;
    fs::remove_dir_all(tree.join("ansible/share")).context("removing what nobody reads there")
}

/// Applies the role in the ways of `role.yml`, and adds what each play printed.
pub(super) fn apply(
    machine: &mut Machine,
    namespace: &Namespace,
    directory: &Path,
    printed: &mut BTreeMap<String, String>,
) -> Result<()> {
    let key = directory.join("key");
    let mut keygen = Command::new("ssh-keygen");
    command::run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]).arg(&key), "")?;
    let public = fs::read_to_string(key.with_extension("pub")).context("reading the public key")?;
    machine.shell(&format!("ADDRESS={ADDRESS} KEY='{}'\n{PREPARE}\n", public.trim()))?;
    let ansible = Ansible::new(namespace, directory, machine.process())?;
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dry = ansible.run(&["--check", "--diff"], &own.with_file_name("deploy").join("ansible/metadatad.yml"))?;
    printed.insert(DRY_RUN.to_owned(), dry);
    for (name, text) in plays(&ansible.run(&["--diff"], &own.join("vm/packages/role.yml"))?) {
        printed.insert(name, text);
    }
    printed.insert(LEFT.to_owned(), machine.shell(LOOK_AROUND)?);
    Ok(())
}

/// Ansible's settings and inventory, for this machine.
struct Ansible<'a> {
    namespace: &'a Namespace,
    directory: PathBuf,
    tools: PathBuf,
    machine: u32,
}

impl<'a> Ansible<'a> {
    fn new(namespace: &'a Namespace, directory: &Path, machine: u32) -> Result<Self> {
        let tools = collection("ansible")?;
        let packages = std::env::var("METADATAD_TEST_PACKAGES").context("the packages")?;
        let roles = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy").join("ansible/roles");
        let python = fs::read_dir(tools.join("venv/lib")).context("reading the virtual environment")?.flatten().next();
        let mitogen = python.context("no Python in the virtual environment")?.path();
        let mitogen = mitogen.join("site-packages/ansible_mitogen/plugins/strategy");
        // Mitogen's limit for connecting is one of wall-clock time; a machine that hangs is noticed all the same (`run`).
        let settings = format!(
            "[defaults]\ninventory = {0}/inventory\nroles_path = {1}\nstrategy_plugins = {2}\nstrategy = mitogen_linear\n\
             deprecation_warnings = false\nhost_key_checking = false\nnocolor = true\ntimeout = 3600\n",
            directory.display(),
            roles.display(),
            mitogen.display()
        );
        fs::write(directory.join("ansible.cfg"), settings).context("writing Ansible's settings")?;
        let inventory = format!(
            "[compute]\nmachine ansible_host={ADDRESS} ansible_user=root ansible_become=false\n[compute:vars]\n\
             ansible_python_interpreter=/usr/bin/python3\nansible_ssh_private_key_file={}/key\n\
             metadatad_package_file={packages}/metadatad_0.1.0-1_amd64.deb\nmetadatad_secrets={{'lab_secret': '{SECRET}'}}\n\
             metadatad_snapshot_key_credential=host\n",
            directory.display()
        );
        fs::write(directory.join("inventory"), inventory).context("writing the inventory")?;
        Ok(Self { namespace, directory: directory.to_owned(), tools, machine })
    }

    /// Runs a playbook, and returns what it printed.
    fn run(&self, options: &[&str], playbook: &Path) -> Result<String> {
        let begun = std::time::Instant::now();
        let programs = self.tools.join("venv/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
        let output = self.directory.join("output");
        let file = fs::File::create(&output).context("making a file")?;
        let mut command = self.namespace.command(programs.join("ansible-playbook"))?;
        command.args(options).arg(playbook).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        command.env("PATH", std::env::join_paths(path)?).env("LC_ALL", "C.UTF-8").env("HOME", &self.directory);
        command.env("ANSIBLE_CONFIG", self.directory.join("ansible.cfg")).env("ANSIBLE_HOME", &self.directory);
        let mut child = command.spawn().context("starting ansible-playbook")?;
        let mut stall = Stall::new(&output, Some(self.machine), machine::BOOT);
        let status = wait::until_within(Duration::MAX, "ansible-playbook ends", || {
            stall.look()?;
            Ok(child.try_wait()?)
        });
        if status.is_err() {
            // It may have ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
        }
        let printed = fs::read_to_string(&output).context("reading what ansible-playbook printed")?;
        println!("packages, {}: {:.1} s", playbook.display(), begun.elapsed().as_secs_f64());
        let status = status.with_context(|| printed.clone())?;
        if !status.success() {
            bail!("ansible-playbook: {status}\n{printed}");
        }
        Ok(printed)
    }
}

/// Returns what each play printed, by its name.
fn plays(printed: &str) -> Vec<(String, String)> {
    let parts = printed.split("\nPLAY [").skip(1);
    parts.filter_map(|part| part.split_once(']')).map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// Returns what follows this word in a line of what a play has looked at; `None` if it was not played, which fails elsewhere.
#[track_caller]
fn said(name: &str, word: &str) -> Option<String> {
    let mut found = None;
    step(name, |text| {
        let mut lines = text.lines().map(|line| line.trim().trim_matches(['"', ',']));
        found = lines.find_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned());
        assert!(found.is_some(), "{name}: no {word}: {text}");
    });
    found
}

/// Tells whether two plays have looked at the same; `None` if one was not played.
#[track_caller]
fn same(word: &str, first: &str, second: &str) -> Option<bool> {
    Some(said(first, word)? == said(second, word)?)
}

#[test]
fn check_mode_says_what_would_be_done_on_a_node_without_the_package() {
    step(DRY_RUN, |text| {
        assert!(text.contains("metadatad is not installed yet"), "{text}");
        assert!(text.contains("failed=0"), "{text}");
    });
}

#[test]
fn the_role_installs_and_starts_a_daemon_that_answers_a_guest() {
    step("Apply", |text| assert!(text.contains("changed: [machine]"), "{text}"));
    step("Applied", |text| {
        for expected in ["guest reads packaged.novalocal", "active enabled", "secret 600 root", "key sealed"] {
            assert!(text.contains(expected), "no {expected}: {text}");
        }
    });
}

#[test]
fn a_second_run_changes_nothing() {
    step("Apply again", |text| {
        assert!(text.contains("ok: [machine]") && !text.contains("changed: [machine]"), "{text}");
    });
}

#[test]
fn a_live_key_is_reloaded_and_a_key_that_needs_it_restarts_the_daemon() {
    assert_ne!(same("main", "Reloaded", "Applied"), Some(false));
    assert_ne!(same("configuration", "Reloaded", "Applied"), Some(true));
    step("Change a live key", |text| assert!(text.contains("Reload the configuration"), "{text}"));
    step("Change a key that needs a restart", |text| {
        assert!(text.contains("Restart metadatad for keys that a reload does not apply"), "{text}");
    });
    assert_ne!(same("main", "Restarted", "Reloaded"), Some(true));
}

#[test]
fn a_wrong_value_is_refused_with_its_reason_and_nothing_is_touched() {
    step("Give a wrong value", |text| {
        assert!(text.contains("refused by Write the configuration that metadatad accepts"), "{text}");
        assert!(text.contains("invalid type: string, expected a number"), "{text}");
    });
    for word in ["main", "configuration", "files"] {
        assert_ne!(same(word, "Refused", "Restarted"), Some(false), "{word}");
    }
}

#[test]
fn removing_it_with_purge_leaves_nothing_and_a_second_time_changes_nothing() {
    step("Remove", |text| assert!(text.contains("changed: [machine]"), "{text}"));
    step("Remove again", |text| {
        assert!(text.contains("ok: [machine]") && !text.contains("changed: [machine]"), "{text}");
    });
    step(LEFT, |text| {
        let left: Vec<_> = text.lines().filter(|line| line.starts_with('/')).collect();
        assert!(left.is_empty() && text.contains("units: 0\n") && !text.contains("filter attached"), "{text}");
    });
}

#[test]
fn no_play_shows_a_secret_and_every_play_is_judged() {
    let (plays, judged) = (include_str!("role.yml"), include_str!("role.rs"));
    let names = plays.lines().filter_map(|line| line.strip_prefix("- name: "));
    for name in names {
        assert!(judged.matches(&format!("\"{name}\"")).count() > 0, "{name}");
        step(name, |text| assert!(!text.contains(SECRET), "{text}"));
    }
}
