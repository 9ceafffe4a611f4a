//! The machine, and the steps that it goes through.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use lab::{Document, MachinePlan, Namespace, Tls, command, machine};
use serde_json::json;

use super::role;
use crate::kernels::initrd::{in_order, read_module};
use crate::kernels::release;
use crate::run::{Slot, fail_once};

/// The kernel of Debian 12, and what the programs and the guest's pair need of its modules.
const KERNEL: &str = "6.1.";
const MODULES: &[&str] = &["crc32c_generic", "cls_bpf", "sch_ingress", "veth"];

pub(super) const UUID: &str = "77777777-0000-4000-9000-000000000014";
const TAP: &str = "tap14141414-14";
const MAC: &str = "fa:16:3e:14:14:14";

/// What the machine does, in this order: names, and commands of its shell. What they print is what tests judge.
pub(super) const STEPS: &[(&str, &str)] = &[
    (
        "installed",
        "set -e
        mkdir /packages && mount -o ro /dev/vdb /packages && for module in /packages/modules/*; do busybox insmod $module; done
        dpkg -i /packages/metadatad_0.1.0-1_amd64.deb
        echo active $(systemctl is-active metadatad); echo enabled $(systemctl is-enabled metadatad)
        stat -c 'instances %a %U %G' /etc/metadatad/instances; stat -c 'configuration %a' /etc/metadatad/metadatad.toml
        echo user $(id -un metadatad) group $(id -gn metadatad)",
    ),
    ("verify", "systemd-analyze verify --man=no metadatad.service 2>&1"),
    ("security", "systemd-analyze security --no-pager metadatad.service"),
    (
        "started",
        "set -e
        echo '# kept' >>/etc/metadatad/metadatad.toml
        cp /packages/document.json /etc/metadatad/instances/
        . /packages/functions; guest
        systemctl enable --now metadatad || { journalctl --no-pager -u metadatad; exit 1; }
        echo active $(systemctl is-active metadatad)
        reads; remember
        ip netns list | grep -o '^metadatad' | sed 's/^/namespace /'
        test -d /sys/fs/bpf/metadatad/links && echo pins there
        if grep -q \"^Uid:.$(id -u metadatad)[^0-9]\" /proc/$(main)/task/$(thread)/status; then echo guests run as metadatad; fi",
    ),
    (
        "reloaded",
        ". /packages/functions; cp /etc/metadatad/metadatad.toml /run/lab-toml
        sed -i 's/^metadata = true/metadata = false/' /etc/metadatad/metadatad.toml && systemctl reload metadatad
        shows access.metadata; echo active $(systemctl is-active metadatad); reads 2>&1 | grep -o 'HTTP Error 403'
        echo 'metadata = 1' >>/etc/metadatad/metadatad.toml; systemctl reload metadatad; shows 'not accepted'
        cp /run/lab-toml /etc/metadatad/metadatad.toml; systemctl reload metadatad; shows access.metadata; state",
    ),
    (
        "stopped",
        ". /packages/functions; systemctl stop metadatad && filters
        mkdir -p /run/systemd/system/metadatad.service.d
        printf '[Service]\nWatchdogSec=10\n' >/run/systemd/system/metadatad.service.d/lab.conf
        systemctl daemon-reload && systemctl start metadatad && reads && remember",
    ),
    (
        "hung",
        ". /packages/functions
        systemctl show --property StatusText metadatad
        python3 /packages/stop-thread $(thread)
        until [ \"$(systemctl is-active metadatad)\" = active ]; do sleep 1; done
        state; journalctl --no-pager -u metadatad | grep -o -e 'make no progress' -e 'Watchdog timeout'
        rm -r /run/systemd/system/metadatad.service.d && systemctl daemon-reload && remember",
    ),
    (
        "restarted",
        ". /packages/functions; ask; systemctl restart metadatad; asked; state
        systemctl show --property NFileDescriptorStore metadatad; remember",
    ),
    (
        "killed",
        ". /packages/functions; ask; kill -9 $(main)
        until [ \"$(main)\" != \"$(cat /run/lab-main)\" ] && [ \"$(systemctl is-active metadatad)\" = active ]; do sleep 0.2; done
        asked; state; remember",
    ),
    (
        "credential",
        ". /packages/functions
        cp /etc/metadatad/metadatad.toml /run/lab-toml; cp /packages/https.pem /etc/metadatad/
        sed -i -e '/https.pem/s/^# //' -e \"/https-key.pem/s|.*|key_file = \\\"$CREDENTIAL\\\"|\" /etc/metadatad/metadatad.toml
        mkdir -p /run/systemd/system/metadatad.service.d
        printf '[Service]\nLoadCredential=metadatad-https-key:/packages/https-key.pem\n' >/run/systemd/system/metadatad.service.d/lab.conf
        systemctl daemon-reload && systemctl restart metadatad
        systemctl show --property NFileDescriptorStore metadatad; reads_over_tls
        cp /run/lab-toml /etc/metadatad/metadatad.toml; rm -r /etc/metadatad/https.pem /run/systemd/system/metadatad.service.d
        systemctl daemon-reload && systemctl restart metadatad
        systemctl show --property NFileDescriptorStore metadatad; remember",
    ),
    ("upgraded", ". /packages/functions; ask; dpkg -i /packages/metadatad_0.1.0-2_amd64.deb; asked; state"),
    ("downgraded", ". /packages/functions; remember; ask; dpkg -i /packages/metadatad_0.1.0-1_amd64.deb; asked; state"),
    (
        "removed",
        ". /packages/functions; dpkg -r metadatad; echo active $(systemctl is-active metadatad); filters
        grep -q kept /etc/metadatad/metadatad.toml && echo configuration kept
        test -e /var/lib/metadatad/snapshot && echo snapshot kept",
    ),
    (
        "purged",
        "dpkg -P metadatad; ip -n guest link del eth0; ip netns del guest; rmdir /run/netns 2>/dev/null
        find / \\( -path /proc -o -path /packages -o -path /sys/devices \\) -prune -o -name '*metadatad*' -print
        echo links: $(ip -o link show type veth | wc -l)
        echo units: $(systemctl list-units --all --no-legend 'metadatad*' | wc -l)
        echo user $(id -un metadatad)",
    ),
];

/// What several steps use.
const FUNCTIONS: &str = r#"
guest() {
    ip netns add guest
    ip link add $TAP type veth peer name eth0 netns guest address $MAC
    ip link set $TAP up
    ip -n guest link set lo up; ip -n guest link set eth0 up
    ip -n guest addr add 10.0.0.5/24 dev eth0; ip -n guest route add 169.254.169.254 dev eth0
}
main() { systemctl show --property MainPID --value metadatad; }
tag() { metadatad ports --json | tr ',{' '\n\n' | grep '"tag"'; }
remember() { main >/run/lab-main; tag >/run/lab-tag; }
thread() { for task in /proc/$(main)/task/*; do if [ "$(cat $task/comm)" = guests ]; then echo ${task##*/}; break; fi; done; }
shows() { until metadatad status 2>/dev/null | grep '^reload' | grep -o "$1"; do sleep 1; done; }
filters() { if tc filter show dev $TAP ingress | grep -q bpf; then echo filter attached; fi; }
reads() {
    ip netns exec guest python3 -c 'from urllib.request import urlopen as get
print("guest reads", get("http://169.254.169.254/latest/meta-data/hostname", timeout=60).read().decode())'
}
ask() {
    rm -f /run/lab-end; ip netns exec guest python3 /packages/ask /run/lab-end >/run/lab-asked 2>&1 &
    until grep -q begun /run/lab-asked; do sleep 0.2; done
}
asked() { touch /run/lab-end; wait; cat /run/lab-asked; }
CREDENTIAL=/run/credentials/metadatad.service/metadatad-https-key
reads_over_tls() {
    ip netns exec guest python3 -c 'import ssl
from urllib.request import urlopen as get
context = ssl.create_default_context(cafile="/packages/ca.pem")
answer = get("https://169.254.169.254/latest/meta-data/hostname", timeout=60, context=context)
print("guest reads over TLS", answer.read().decode())'
}
state() {
    echo version $(dpkg-query -W -f '${Version}' metadatad)
    echo active $(systemctl is-active metadatad)
    if [ "$(main)" != "$(cat /run/lab-main)" ]; then echo process another; fi
    if [ "$(tag)" = "$(cat /run/lab-tag)" ]; then echo tag same; fi
    reads
    if grep -q kept /etc/metadatad/metadatad.toml; then echo configuration kept; fi
}
"#;

/// Stops one thread of a process and no other, as if it hung, until the process is gone: ptrace(2) can do that, a signal stops
/// them all. `__WALL` waits for threads too.
const STOP_THREAD: &str = "import ctypes, os, sys
thread, ptrace = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
for request in (SEIZE, INTERRUPT):
    if ptrace(request, thread, 0, 0) != 0: sys.exit(os.strerror(ctypes.get_errno()))
print('stopped' if os.WIFSTOPPED(os.waitpid(thread, WALL)[1]) else 'not stopped')
print('killed' if not os.WIFSTOPPED(os.waitpid(thread, WALL)[1]) else 'not killed')
";

/// What each step printed, and why there is no more.
struct Run {
    printed: BTreeMap<String, String>,
    error: Option<String>,
}

static RUN: LazyLock<Run> = LazyLock::new(|| {
    let _slot = Slot::take();
    let mut run = Run { printed: BTreeMap::new(), error: None };
    run.error = steps(&mut run.printed).err().map(|error| format!("{error:#}"));
    run
});

/// Hands what a step printed to `judge`.
#[track_caller]
pub(super) fn step(name: &str, judge: impl FnOnce(&str)) {
    match RUN.printed.get(name) {
        Some(printed) => judge(printed),
        None => {
            let error = RUN.error.as_deref().unwrap_or("the step is not there");
            fail_once("the machine with the packages ended early".to_owned(), error);
        }
    }
}

fn steps(printed: &mut BTreeMap<String, String>) -> Result<()> {
    let directory = tempfile::tempdir().context("making a directory")?;
    let image = disk(directory.path())?;
    // Its interface leads to this namespace, and nowhere else.
    let namespace = Namespace::create("packages")?;
    let plan = MachinePlan::new(&namespace, UUID).disk(&image).nic(&role::nic(&namespace)?);
    let mut machine = plan.command_line("cloud-init=disabled systemd.show_status=true").power_on()?;
    let booted = machine.wait_console("shell.service")?;
    println!("packages: booted {:.1} s after power-on", booted.as_secs_f64());
    for (name, commands) in STEPS {
        let begun = std::time::Instant::now();
        let commands = commands.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let text = machine.shell(&format!("export TAP={TAP} MAC={MAC} SYSTEMD_COLORS=0\n{commands}\n"));
        println!("packages, {name}: {:.1} s", begun.elapsed().as_secs_f64());
        let text = text.with_context(|| format!("step {name}"))?;
        for line in text.lines().filter(|line| line.starts_with("asked ") || line.starts_with("longest ")) {
            println!("packages, {name}: {line}");
        }
        printed.insert((*name).to_owned(), text);
    }
    role::apply(&mut machine, &namespace, directory.path(), printed)
}

/// Makes the second disk: the packages, the modules, what the guest reads, and the functions of the steps.
fn disk(directory: &Path) -> Result<PathBuf> {
    let packages = std::env::var_os("METADATAD_TEST_PACKAGES").map(PathBuf::from);
    let packages = packages.context("the packages: `cargo xtask test vm` makes them and names their directory")?;
    let tree = directory.join("tree");
    fs::create_dir_all(tree.join("modules")).context("making a directory")?;
    for revision in [1, 2] {
        let name = format!("metadatad_0.1.0-{revision}_amd64.deb");
        fs::copy(packages.join(&name), tree.join(&name)).with_context(|| format!("copying {name}"))?;
    }
    let debian = machine::directory()?.join("debian");
    let modules = debian.join("lib/modules").join(release(&debian, KERNEL)?);
    for (number, module) in in_order(&modules, MODULES)?.iter().enumerate() {
        fs::write(tree.join(format!("modules/{number:02}.ko")), read_module(module)?).context("writing a module")?;
    }
    let port = json!({
        "id": format!("{}14-4000-8000-000000000014", &TAP["tap".len()..]),
        "mac_address": MAC,
        "fixed_ips": [{"ip_address": "10.0.0.5"}],
    });
    fs::write(tree.join("document.json"), Document::new(UUID, "packaged", port).text())
        .context("writing a document")?;
    let mut functions = String::new();
    write!(functions, "TAP={TAP} MAC={MAC}{FUNCTIONS}")?;
    fs::write(tree.join("functions"), functions).context("writing the functions")?;
    fs::write(tree.join("stop-thread"), STOP_THREAD).context("writing a script")?;
    let tls = Tls::make_for(directory, &["169.254.169.254"])?;
    for (from, to) in [(&tls.ca, "ca.pem"), (&tls.cert, "https.pem"), (&tls.key, "https-key.pem")] {
        fs::copy(from, tree.join(to)).context("copying a certificate")?;
    }
    fs::write(tree.join("ask"), include_str!("ask.py")).context("writing a script")?;
    role::fill(&tree)?;
    let image = directory.join("disk");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(&tree).arg(&image).arg("256M");
    command::run(&mut mke2fs, "")?;
    Ok(image)
}
