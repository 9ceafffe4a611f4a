//! Every command that README.md, docs/*.md and the comments of deploy/ show.
//!
//! Promises: a command is found in fenced and indented blocks and in backticks; it is run on a node with one guest, or
//! its verb and options are parsed, or [`CLASSES`] says which test runs it or why none does. A command of no class
//! fails, and so does a class of which no page shows a command.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Guest, Namespace, Node, Page, command, daemon, wait};

/// What begins a command. In backticks a program's name alone is a mention.
const PROGRAMS: &[&str] = &[
    "ansible-playbook",
    "bpftool",
    "cargo",
    "cat",
    "curl",
    "dpkg",
    "etcdctl",
    "install",
    "ip",
    "metadatad",
    "mpstat",
    "mv",
    "nft",
    "nstat",
    "openssl",
    "ovs-ofctl",
    "ovs-vsctl",
    "perf",
    "rabbitmqctl",
    "sleep",
    "sysctl",
    "systemctl",
    "systemd-creds",
    "tc",
];

/// What is done with a command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Class {
    /// Runs in the node's namespace, and ends with status 0.
    Node,
    /// As `Node`, but lists the programs of the whole machine, which other tests' nodes load and unload meanwhile.
    Machine,
    /// Runs in the guest's namespace, and ends with status 0; a request is answered with success.
    Guest,
    /// Runs in the responder's namespace, and ends with status 0.
    Responder,
    /// Runs until it has printed something about the guest's requests.
    Endless,
    /// Runs when the daemon has stopped, and ends with status 0.
    Last,
    /// `--help` after it is accepted, so the verb and its options exist.
    Parsed,
    /// The kernel has the setting; nothing is set.
    Setting,
    /// This file, below tests/, runs it.
    Elsewhere(&'static str),
    /// Is not run, for this reason.
    NotRun(&'static str),
}

/// The beginnings of commands, whole words; the longest that matches counts.
const CLASSES: &[(&str, Class)] = &[
    ("ansible-playbook", Class::Elsewhere("vm/packages/role.rs")),
    ("bpftool prog profile", Class::NotRun("reads the processor's counters, which many virtual machines lack")),
    ("bpftool prog show", Class::Machine),
    ("cargo audit bin", Class::NotRun("reads a release build, which takes minutes")),
    ("cargo xtask", Class::Parsed),
    ("cat", Class::Elsewhere("clients/identity.rs")),
    ("curl", Class::Guest),
    ("curl --cacert", Class::Elsewhere("netns/https.rs")),
    ("curl --unix-socket", Class::Elsewhere("netns/metrics.rs")),
    ("dpkg -i", Class::NotRun("installs on the machine; the group vm installs the package in a machine of its own")),
    ("etcdctl", Class::Elsewhere("controllers/etcd/security.rs")),
    ("etcdctl snapshot", Class::Elsewhere("controllers/etcd/trouble.rs")),
    ("install", Class::NotRun("writes to the machine's /usr and /etc")),
    ("ip -brief address", Class::Guest),
    ("ip netns", Class::Node),
    ("ip netns attach", Class::Elsewhere("netns/repair.rs")),
    ("ip netns exec", Class::NotRun("abbreviates the command of nstat, which runs in the responder's namespace")),
    ("metadatad --help", Class::Node),
    ("metadatad access", Class::Node),
    ("metadatad anomalies", Class::Node),
    ("metadatad boots", Class::Node),
    ("metadatad check-config", Class::Node),
    ("metadatad config-drive", Class::Parsed),
    ("metadatad controller", Class::Parsed),
    ("metadatad counters", Class::Node),
    ("metadatad detach", Class::Last),
    ("metadatad get", Class::Parsed),
    ("metadatad doctor", Class::Node),
    ("metadatad guest-attributes", Class::Parsed),
    ("metadatad instance", Class::Parsed),
    ("metadatad jwks", Class::Parsed),
    ("metadatad ports", Class::Node),
    ("metadatad prepare", Class::Node),
    ("metadatad run", Class::Parsed),
    ("metadatad schema", Class::Node),
    ("metadatad snapshot", Class::Parsed),
    ("metadatad source", Class::Node),
    ("metadatad source accept", Class::Parsed),
    ("metadatad status", Class::Node),
    ("metadatad top", Class::Parsed),
    ("metadatad trace", Class::Endless),
    ("metadatad wait", Class::Parsed),
    ("mpstat", Class::NotRun("shows the load of the whole machine")),
    ("mv", Class::Elsewhere("clients/identity.rs")),
    ("nstat", Class::Responder),
    ("openssl", Class::Elsewhere("netns/https.rs")),
    ("openssl genpkey", Class::Elsewhere("clients/identity.rs")),
    ("openssl pkey", Class::Elsewhere("clients/identity.rs")),
    ("openssl rand", Class::NotRun("makes a key that an operator keeps")),
    ("ovs-ofctl add-flow", Class::NotRun("needs Neutron's bridge br-int")),
    ("perf", Class::NotRun("records the whole machine")),
    ("rabbitmqctl", Class::NotRun("changes users and policies of a broker")),
    ("sleep", Class::NotRun("only waits")),
    ("sysctl", Class::Setting),
    ("systemctl", Class::NotRun("changes the machine's services")),
    ("systemd-creds encrypt", Class::NotRun("seals to the machine's TPM")),
];

/// Pages whose sessions this file, below tests/, runs as a whole, comparing what is printed.
const SESSIONS: &[(&str, &str)] =
    &[("docs/guest-extensions.md", "netns/extensions.rs"), ("docs/identity.md", "clients/identity.rs")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Each command, with the page that shows it.
fn documented() -> BTreeMap<String, String> {
    let mut pages = vec![root().join("README.md")];
    for (directory, endings) in [("docs", &["md"][..]), ("deploy", &["toml", "service"][..])] {
        let files = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
        pages
            .extend(files.filter(|file| file.extension().is_some_and(|end| endings.iter().any(|known| end == *known))));
    }
    let mut found = BTreeMap::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let commands = if let Some((_, file)) = SESSIONS.iter().find(|(page, _)| *page == name) {
            assert!(is_named_in(&name, file), "tests/{file} does not name {name}");
            let steps: BTreeSet<_> = Page::read(&name).unwrap().steps().into_iter().map(|step| step.command).collect();
            commands(&name, &text).difference(&steps).cloned().collect()
        } else if name.ends_with(".md") {
            commands(&name, &text)
        } else {
            let comments: Vec<_> = text.lines().map(|line| line.strip_prefix('#').unwrap_or("").trim()).collect();
            in_backticks(&comments.join("\n")).into_iter().collect()
        };
        found.extend(commands.into_iter().map(|command| (command, name.clone())));
    }
    found
}

/// Tells whether a file below tests/ names the page that it tests.
fn is_named_in(page: &str, file: &str) -> bool {
    fs::read_to_string(root().join("tests").join(file)).is_ok_and(|text| text.contains(page))
}

/// The commands of a page: those of its blocks, and those in backticks in its text.
fn commands(page: &str, text: &str) -> BTreeSet<String> {
    let (mut found, mut prose, mut block) = (BTreeSet::new(), String::new(), Vec::new());
    let (mut fence, mut after_blank) = (None, true);
    for line in text.lines().chain([""]) {
        let bare = line.trim();
        if let Some(language) = bare.strip_prefix("```") {
            match fence.take() {
                None => fence = Some(language.to_owned()),
                Some(language) => found.extend(of_block(page, &std::mem::take(&mut block), language != "sh")),
            }
        } else if fence.is_some() || (line.starts_with("    ") && (after_blank || !block.is_empty())) {
            block.push(bare.to_owned());
        } else {
            found.extend(of_block(page, &std::mem::take(&mut block), true));
            prose.extend([line, "\n"]);
        }
        after_blank = bare.is_empty();
    }
    assert_eq!(fence, None, "{page}: a block without an end");
    found.extend(in_backticks(&prose));
    found
}

/// The commands of a block. Behind a prompt (`node# `) are commands, and all else is output; without any prompt each line
/// is a command, or none is.
fn of_block(page: &str, lines: &[String], may_be_other: bool) -> Vec<String> {
    let prompted = |line: &str| {
        let (prompt, command) = line.split_once(' ')?;
        prompt.ends_with(['$', '#']).then(|| command.to_owned()).filter(|_| prompt.len() > 1 || prompt == "$")
    };
    let begins = |line: &str| line.split_whitespace().next().is_some_and(|program| PROGRAMS.contains(&program));
    let clean = |line: String| {
        line.split(" # ").next().unwrap_or_default().split("  #").next().unwrap_or_default().trim().to_owned()
    };
    let prompts: Vec<_> = lines.iter().filter_map(|line| prompted(line)).map(clean).collect();
    let plain = lines.iter().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let commands = if prompts.is_empty() { plain.cloned().map(clean).collect() } else { prompts };
    if may_be_other && !commands.iter().any(|line| begins(line)) {
        return Vec::new();
    }
    for command in &commands {
        assert!(begins(command), "{page}: `{command}` begins with none of PROGRAMS");
    }
    commands
}

/// The commands in backticks; `a|b` stands for two.
fn in_backticks(text: &str) -> Vec<String> {
    let quoted = text.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    let commands = quoted.filter_map(|quoted| {
        let words: Vec<_> = quoted.split_whitespace().collect();
        (words.len() > 1 && PROGRAMS.contains(&words[0])).then(|| words.join(" "))
    });
    commands.flat_map(|command| alternatives(&command)).collect()
}

fn alternatives(command: &str) -> Vec<String> {
    let Some(word) = command.split(' ').find(|word| word.contains('|')) else { return vec![command.to_owned()] };
    word.split('|').flat_map(|one| alternatives(&command.replacen(word, one, 1))).collect()
}

fn class(command: &str) -> Option<&'static (&'static str, Class)> {
    let begins = |start: &str| command.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    CLASSES.iter().filter(|(start, _)| begins(start)).max_by_key(|(start, _)| start.len())
}

/// The arguments of a command, with the guest's own for the names that stand for them.
fn arguments<'a>(line: &'a str, guest: &'a Guest) -> Vec<&'a str> {
    let words = line.split_whitespace().skip(1).map(|word| match word.trim_matches(['"', '\'']) {
        "TAP" => guest.tap(),
        "UUID" => guest.uuid(),
        word => word,
    });
    words.collect()
}

/// Prepares a command in this namespace.
fn prepared(line: &str, node: &Node, guest: &Guest, place: &Namespace) -> Command {
    let words = arguments(line, guest);
    let program = line.split_whitespace().next().unwrap();
    let mut command = match program {
        "metadatad" => daemon::verb(place, node.config(), &words).unwrap(),
        _ => place.command(program).unwrap(),
    };
    if program != "metadatad" {
        command.args(words);
    }
    if program == "curl" {
        command.arg("--fail");
    }
    // nstat's history is the node's own, and curl asks the service itself.
    command.env("NSTAT_HISTORY", node.path("nstat")).env("no_proxy", "*");
    command
}

/// Whether the program's own parser accepts the verb and options: `--help` ends every verb before it does anything. An
/// option that is shown without its value gets one.
fn parses(line: &str, guest: &Guest) -> Result<(), String> {
    let mut words = arguments(line, guest);
    let mut program = daemon::program().unwrap();
    if line.starts_with("cargo xtask") {
        words.remove(0);
        program.set_file_name("xtask");
    }
    assert!(program.exists(), "{} is missing: run `cargo xtask build`", program.display());
    let with = |further: &[&str]| {
        let mut command = Command::new(&program);
        command::run(command.args(&words).args(further), "").map(drop)
    };
    with(&["--help"]).or_else(|error| with(&["value", "--help"]).map_err(|_| format!("{error:#}")))
}

/// Runs a command that does not end by itself, until it has printed something.
fn prints_something(mut command: Command, node: &Node, guest: &Guest) -> anyhow::Result<()> {
    let output = node.path("endless");
    let mut child = command.stdin(Stdio::null()).stdout(fs::File::create(&output)?).spawn()?;
    let printed = wait::until("a line is printed", || {
        guest.get("/openstack")?;
        anyhow::ensure!(child.try_wait()?.is_none(), "it ended by itself");
        Ok(fs::read_to_string(&output)?.contains('\n').then_some(()))
    });
    child.kill()?;
    child.wait()?;
    printed
}

#[test]
fn every_documented_command_works_or_has_a_reason_not_to_be_run() {
    let shown = documented();
    let mut unused: BTreeSet<_> = CLASSES.iter().map(|(start, _)| *start).collect();
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let (mut wrong, mut last) = (Vec::new(), Vec::new());
    for (line, page) in &shown {
        let Some((start, class)) = class(line) else {
            wrong.push(format!("{page}: `{line}` is of no class: say in CLASSES what is done with it"));
            continue;
        };
        unused.remove(start);
        let in_place = |place: &Namespace| prepared(line, &node, &guest, place);
        let run =
            |place: &Namespace| command::run(&mut in_place(place), "").map(drop).map_err(|error| format!("{error:#}"));
        let done = match class {
            Class::Node => run(node.namespace()),
            Class::Machine => {
                let mut failed = String::new();
                let done = wait::until(line, || Ok(run(node.namespace()).map_err(|error| failed = error).ok()));
                done.map_err(|error| format!("{error:#}: {failed}"))
            }
            Class::Guest => run(guest.namespace()),
            Class::Responder => run(&node.responder()),
            Class::Endless => {
                prints_something(in_place(node.namespace()), &node, &guest).map_err(|error| format!("{error:#}"))
            }
            Class::Last => {
                last.push(line);
                Ok(())
            }
            Class::Parsed => parses(line, &guest),
            Class::Setting => setting_exists(line),
            Class::Elsewhere(file) if is_named_in(page, file) => Ok(()),
            Class::Elsewhere(file) => Err(format!("tests/{file} does not name {page}")),
            Class::NotRun(_) => Ok(()),
        };
        wrong.extend(done.err().map(|error| format!("{page}: `{line}`: {error}")));
    }
    node.stop_daemon().unwrap();
    for line in last {
        let done = command::run(&mut prepared(line, &node, &guest, node.namespace()), "");
        wrong.extend(done.err().map(|error| format!("{}: `{line}`: {error:#}", shown[line])));
    }
    wrong.extend(unused.into_iter().map(|start| format!("no page shows `{start}`: remove it from CLASSES")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn setting_exists(line: &str) -> Result<(), String> {
    let key = line.split_whitespace().find_map(|word| word.split_once('=')).map_or("", |(key, _)| key);
    let path = Path::new("/proc/sys").join(key.replace('.', "/"));
    if path.is_file() { Ok(()) } else { Err(format!("{} does not exist", path.display())) }
}

#[test]
fn commands_are_found_in_blocks_behind_prompts_and_in_backticks() {
    let page = "A `metadatad set|get X` and `perf`, `none of these`.\n\n    node# metadatad ports   # all\n    TAP  STATE\n\n\
                - wrapped `metadatad\n    status`\n\n```sh\n# why\nip netns # list\n```\n\n```toml\nip = 1\n```\n";
    let page = page.replace("ip = 1", "key = 1");
    let expected = ["ip netns", "metadatad get X", "metadatad ports", "metadatad set X", "metadatad status"];
    assert_eq!(commands("page", &page), expected.map(str::to_owned).into());
}
