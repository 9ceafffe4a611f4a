//! Nova's own metadata application, and its compute API where asked for, on databases of their own, under uWSGI on 127.0.0.1.
//!
//! Promises: the schema is made once by `nova-manage` and copied for each Nova; instances are put there with Nova's own
//! objects, from facts as `tests/golden` has them; everything ends and goes with the value.
//!
//! Stand-ins, each a file in `tests/controllers/nova`: `neutron.py` for what Nova and a controller read of Neutron, `targets.py`
//! for services that give dynamic vendor data, `front.py` for a slow network and for TLS in front of an API.

mod application;
mod front;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::agent::SECRET;
use crate::command;
use crate::shared::Shared;
use crate::wait;

pub use application::{Application, Configured};
pub use front::Front;

fn tool(name: &str) -> Result<PathBuf> {
    let path = root().join("target/controllers/venv/bin").join(name);
    if !path.exists() {
        bail!("{} does not exist: run `cargo xtask setup --controllers`", path.display());
    }
    Ok(path)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

fn script(name: &str) -> PathBuf {
    root().join("tests/controllers/nova").join(name)
}

/// Reads the facts of a golden case.
///
/// # Errors
/// If the case does not exist.
pub fn facts(case: &str) -> Result<Value> {
    let path = root().join("tests/golden").join(case).join("instance.json");
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).context("reading facts")
}

/// Makes the facts of one more instance like another.
#[must_use]
pub fn another(facts: &Value, number: u32) -> Value {
    let mut facts = facts.clone();
    let uuid = format!("{number:08x}-0000-4000-a000-000000000000");
    facts["instance"]["uuid"] = uuid.as_str().into();
    facts["instance"]["display_name"] = format!("another-{number}").into();
    // Nova hands out further numbers by itself, the next ones.
    facts["ec2_ints"]["instance"] = (100_000 + 16 * number).into();
    for port in facts["neutron_ports"].as_array_mut().into_iter().flatten() {
        port["device_id"] = uuid.as_str().into();
    }
    facts
}

/// A process that ends with the value.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log).context("opening a log")?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // uWSGI's master ends its workers on SIGTERM (--die-on-term).
        let id = i32::try_from(self.0.id()).unwrap_or(0);
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// One of the scripts that stand in for something. It ends with the value.
#[derive(Debug)]
struct StandIn {
    port: u16,
    _process: Process,
}

impl StandIn {
    /// Starts it with these words behind the file that it writes its port into, and waits until it listens.
    fn start(name: &str, directory: &Path, words: impl IntoIterator<Item: AsRef<OsStr>>) -> Result<Self> {
        let port_file = directory.join(format!("{name}.port"));
        let mut command = Command::new(tool("python3")?);
        command.arg(script(&format!("{name}.py"))).arg(&port_file).args(words);
        let process = Process::start(&mut command, &directory.join(format!("{name}.log")))?;
        let text = wait::until("a stand-in listens", || Ok(fs::read_to_string(&port_file).ok()))?;
        Ok(Self { port: text.trim().parse().context("reading a port")?, _process: process })
    }
}

/// A Nova.
#[derive(Debug)]
pub struct Nova {
    port: u16,
    cache: u32,
    directory: tempfile::TempDir,
    process: Mutex<Option<Process>>,
    neutron: StandIn,
}

impl Nova {
    /// Starts a Nova that knows these instances, and waits until it answers.
    ///
    /// # Errors
    /// If Nova is not installed (`cargo xtask setup --controllers`), or does not start.
    pub fn start(instances: &[Value]) -> Result<Self> {
        Self::with_cache(instances, 1)
    }

    /// As [`Self::start`], with a cache that keeps an instance for this many seconds; Nova's default is 15.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_cache(instances: &[Value], seconds: u32) -> Result<Self> {
        Self::make(&[instances], seconds)
    }

    /// As [`Self::start`], with the instances of several cells, which are named `cell1`, `cell2` and so on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_cells(cells: &[&[Value]]) -> Result<Self> {
        Self::make(cells, 1)
    }

    fn make(cells: &[&[Value]], cache: u32) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("metadatad-nova-").tempdir().context("making a directory")?;
        let (mut seeds, mut files) = (Vec::new(), Vec::new());
        for (instances, cell) in cells.iter().zip(1..) {
            seeds.push(PathBuf::from(format!("cell{cell}")));
            for facts in *instances {
                let path = directory.path().join(format!("{}.json", files.len()));
                fs::write(&path, facts.to_string()).context("writing facts")?;
                seeds.push(path.clone());
                files.push(path);
            }
        }
        let neutron = StandIn::start("neutron", directory.path(), &files)?;
        let nova = Self { port: application::free_port()?, cache, directory, process: Mutex::default(), neutron };
        let schema = SCHEMA.get().context("making Nova's databases")?;
        let copy = |from: &str, to: &str| fs::copy(schema.path().join(format!("{from}.sqlite")), nova.path(to));
        copy("api", "api.sqlite")?;
        copy("cell0", "cell0.sqlite")?;
        for cell in 1..=cells.len() {
            copy("cell1", &format!("cell{cell}.sqlite"))?;
        }
        configure(nova.directory.path(), nova.directory.path(), &nova.options(""))?;
        nova.seed(|command| {
            command.arg("create").args(&seeds);
        })?;
        nova.resume()?;
        Ok(nova)
    }

    /// Returns what its configurations have beside the directories.
    fn options(&self, further: &str) -> String {
        format!(
            "[api]\nmetadata_cache_expiration = {}\n[neutron]\nendpoint_override = {}\n{further}",
            self.cache,
            self.neutron_url()
        )
    }

    /// Returns the URL of the stand-in for Neutron.
    #[must_use]
    pub fn neutron_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.neutron.port)
    }

    /// Returns the TCP port of the stand-in for Neutron.
    #[must_use]
    pub fn neutron_port(&self) -> u16 {
        self.neutron.port
    }

    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets one key of an instance's metadata.
    ///
    /// # Errors
    /// If Nova's objects refuse.
    pub fn set(&self, uuid: &str, key: &str, value: &str) -> Result<()> {
        self.seed(|command| {
            command.args(["set", uuid, key, value]);
        })
    }

    /// Starts a process that sets keys of instances' metadata one after the other, without a start of Python for each.
    ///
    /// # Errors
    /// If it does not start.
    pub fn setter(&self) -> Result<Setter> {
        let mut command = Command::new(tool("python3")?);
        command.arg(script("seed.py")).arg(self.path("nova.conf")).arg("follow");
        let log = File::create(self.path("setter.log")).context("opening a log")?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("starting what changes instances")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let process = Process(child);
        let mut setter = Setter {
            input: input.context("it has no input pipe")?,
            output: BufReader::new(output.context("it has no output pipe")?),
            _process: process,
        };
        setter.expect_line("ready").with_context(|| fs::read_to_string(self.path("setter.log")).unwrap_or_default())?;
        Ok(setter)
    }

    /// Returns the files of these instances' config drives, by path, as Nova's own builder writes them.
    ///
    /// # Errors
    /// If it fails.
    pub fn config_drives(&self, instances: &[Value]) -> Result<Vec<BTreeMap<String, Vec<u8>>>> {
        let directory = tempfile::Builder::new().prefix("metadatad-drives-").tempdir()?;
        let mut command = Command::new(tool("python3")?);
        command.arg(script("drive.py")).arg(self.path("nova.conf")).arg(directory.path());
        for (number, facts) in instances.iter().enumerate() {
            let path = directory.path().join(format!("{number}.json"));
            fs::write(&path, facts.to_string()).context("writing facts")?;
            command.arg(path);
        }
        command::run(&mut command, "")?;
        let drive = |facts: &Value| {
            let root = directory.path().join(facts["instance"]["uuid"].as_str().context("no uuid")?);
            crate::files::below(&root)
        };
        instances.iter().map(drive).collect()
    }

    /// Deletes an instance.
    ///
    /// # Errors
    /// If there is none.
    pub fn delete(&self, uuid: &str) -> Result<()> {
        self.seed(|command| {
            command.args(["delete", uuid]);
        })
    }

    /// Moves an instance to another cell, as a resize across cells leaves it: it is there as these facts say, and no more where it
    /// was.
    ///
    /// # Errors
    /// If Nova's objects refuse.
    pub fn move_to_cell(&self, cell: &str, facts: &Value) -> Result<()> {
        let path = self.path("moved.json");
        fs::write(&path, facts.to_string()).context("writing facts")?;
        self.seed(|command| {
            command.args(["move", cell]).arg(&path);
        })
    }

    /// Returns the process id of its server's master, which has the workers as children.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|process| process.0.id())
    }

    /// Stops it, as an operator does.
    pub fn stop(&self) {
        drop(self.process.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Makes it hang: its server's processes are stopped by SIGSTOP, so connections are accepted and nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn hang(&self) -> Result<Hang> {
        let master = self.id().context("Nova does not run")?;
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))
            .context("reading the workers of Nova's server")?;
        let workers = children.split_whitespace().map(str::parse).collect::<Result<Vec<i32>, _>>()?;
        // The master first: it would otherwise notice workers that do not answer.
        let processes = [i32::try_from(master)?].into_iter().chain(workers).map(Pid::from_raw).collect();
        let hang = Hang(processes);
        hang.signal(Signal::SIGSTOP)?;
        Ok(hang)
    }

    /// Starts it again, on the same port and database, and waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn resume(&self) -> Result<()> {
        let process = application::serve(self.directory.path(), application::METADATA, self.port, ["2", "1"])?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Returns a path in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn seed(&self, arguments: impl FnOnce(&mut Command)) -> Result<()> {
        let mut command = Command::new(tool("python3")?);
        command.arg(script("seed.py")).arg(self.path("nova.conf"));
        arguments(&mut command);
        command::run(&mut command, "").map(drop)
    }
}

/// A Nova that hangs. It continues when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Hang(Vec<Pid>);

impl Hang {
    fn signal(&self, signal: Signal) -> Result<()> {
        for process in &self.0 {
            kill(*process, signal)
                .with_context(|| format!("sending {signal} to process {process} of Nova's server"))?;
        }
        Ok(())
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        // A stopped process would not act on the SIGTERM that ends it.
        let _ = self.signal(Signal::SIGCONT);
    }
}

/// A process that sets keys of instances' metadata in Nova's database.
#[derive(Debug)]
pub struct Setter {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _process: Process,
}

impl Setter {
    /// Sets one key, and returns when Nova's database has it. No part may hold a blank.
    ///
    /// # Errors
    /// If Nova's objects refuse.
    pub fn set(&mut self, uuid: &str, key: &str, value: &str) -> Result<()> {
        writeln!(self.input, "{uuid} {key} {value}").context("sending what to set")?;
        self.expect_line("set")
    }

    fn expect_line(&mut self, expected: &str) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("reading whether it is set")?;
        if line.trim_end() != expected {
            bail!("what changes instances printed {line:?} instead of {expected:?}");
        }
        Ok(())
    }
}

/// The directory with Nova's empty databases.
static SCHEMA: Shared<tempfile::TempDir> = Shared::new(make_schema);

fn make_schema() -> Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix("metadatad-nova-schema-").tempdir()?;
    configure(directory.path(), directory.path(), "")?;
    let database = |name: &str| format!("sqlite:///{}/{name}.sqlite", directory.path().display());
    let (cell0, cell1) = (database("cell0"), database("cell1"));
    for words in [
        &["api_db", "sync"][..],
        &["cell_v2", "map_cell0", "--database_connection", &cell0],
        &["db", "sync"],
        &["cell_v2", "create_cell", "--name", "cell1", "--transport-url", "fake://", "--database_connection", &cell1],
    ] {
        let mut command = Command::new(tool("nova-manage")?);
        command.arg("--config-file").arg(directory.path().join("nova.conf")).args(words);
        command::run(&mut command, "")?;
    }
    Ok(directory)
}

/// Writes the configuration of one of Nova's programs into a directory, given the one with the databases. Of an option that comes
/// again in `further`, the last value counts.
fn configure(databases: &Path, directory: &Path, further: &str) -> Result<()> {
    let (databases, own) = (databases.display(), directory.display());
    let text = format!(
        "[DEFAULT]\nhost = node\nmy_ip = 127.0.0.1\nstate_path = {own}\nlog_file = {own}/nova.log\n\
         transport_url = fake://\n[database]\n\
         connection = sqlite:///{databases}/cell1.sqlite\n[api_database]\nconnection = sqlite:///{databases}/api.sqlite\n[neutron]\n\
         service_metadata_proxy = true\nmetadata_proxy_shared_secret = {SECRET}\nauth_type = none\n\
         [oslo_concurrency]\nlock_path = {own}\n{further}"
    );
    fs::write(directory.join("nova.conf"), text).context("writing nova.conf")?;
    let paste = root().join("target/controllers/venv/etc/nova/api-paste.ini");
    fs::copy(&paste, directory.join("api-paste.ini")).with_context(|| format!("copying {}", paste.display()))?;
    Ok(())
}
