//! A real etcd: one member or several, inside a namespace that the lab made, with TLS and users if asked for.
//!
//! Promises: members listen on 127.0.0.1 of that namespace only; their data is in a directory of their own, and goes with the
//! value; a member that is stopped, killed or paused is so alone.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use crate::command;
use crate::fetched;
use crate::netns::{Namespace, unique};
use crate::tls::Tls;
use crate::wait;

/// Port for clients of the first member. Each further one is ten above; the port for other members is the next.
const PORT: u16 = 2379;

/// What an etcd is to be.
#[derive(Clone, Debug)]
pub struct EtcdPlan {
    members: usize,
    arguments: Vec<String>,
    tls: Option<Tls>,
    on_disk: bool,
}

impl Default for EtcdPlan {
    fn default() -> Self {
        Self { members: 1, arguments: Vec::new(), tls: None, on_disk: false }
    }
}

impl EtcdPlan {
    /// This many members.
    #[must_use]
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// One more argument of every member.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Clients use TLS, and must present a certificate.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Keeps its data on a disk, as where its speed matters. By default it is in memory, where there is enough: a disk that others
    /// write to may take seconds for what etcd waits for.
    #[must_use]
    pub fn on_disk(mut self) -> Self {
        self.on_disk = true;
        self
    }

    /// Returns the members' URLs for clients.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        (0..self.members).map(|member| format!("{scheme}://127.0.0.1:{}", client_port(member))).collect()
    }

    /// Starts it in the namespace, and waits until it answers.
    ///
    /// # Errors
    /// If etcd is not installed (`cargo xtask setup --controllers`), or does not get ready.
    pub fn start(self, namespace: &Namespace) -> Result<Etcd> {
        let parent = if self.on_disk { std::env::temp_dir() } else { in_memory() };
        let directory =
            tempfile::Builder::new().prefix("metadatad-etcd-").tempdir_in(parent).context("making a directory")?;
        let etcd = Etcd {
            members: (0..self.members).map(|_| Mutex::new(None)).collect(),
            namespace: Namespace::existing(namespace.name()),
            directory,
            token: Mutex::new(unique("cluster")),
            user: Mutex::new(None),
            plan: self,
        };
        etcd.start_all()?;
        Ok(etcd)
    }
}

/// Returns a directory in memory, if there is one with room for the logs that each member sets aside.
fn in_memory() -> PathBuf {
    const ROOM: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let free = statvfs(memory).map_or(0, |room| room.blocks_available() * room.fragment_size());
    if free >= ROOM { memory.to_owned() } else { std::env::temp_dir() }
}

fn client_port(member: usize) -> u16 {
    PORT + 10 * u16::try_from(member).unwrap_or(0)
}

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    plan: EtcdPlan,
    members: Vec<Mutex<Option<Child>>>,
    namespace: Namespace,
    directory: tempfile::TempDir,
    token: Mutex<String>,
    user: Mutex<Option<String>>,
}

impl Etcd {
    /// Returns the members' URLs for clients.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.plan.endpoints()
    }

    /// Starts every member that does not run, and waits until all answer.
    ///
    /// # Errors
    /// If one does not; the error holds its log.
    pub fn start_all(&self) -> Result<()> {
        for member in 0..self.members.len() {
            self.start(member)?;
        }
        self.wait_healthy()
    }

    /// Starts a member, with the data that it had.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, member: usize) -> Result<()> {
        let mut place = self.member(member);
        if place.is_some() {
            return Ok(());
        }
        let scheme = if self.plan.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", client_port(member));
        let peer = |member: usize| format!("http://127.0.0.1:{}", client_port(member) + 1);
        let name = |member: usize| format!("m{member}");
        let cluster: Vec<_> =
            (0..self.members.len()).map(|member| format!("{}={}", name(member), peer(member))).collect();
        let mut command = self.namespace.command(programs()?.join("etcd"))?;
        command.env_clear().args(["--name", &name(member), "--data-dir"]).arg(self.data(member));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer(member), "--initial-advertise-peer-urls", &peer(member)]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-token", &self.token()]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500", "--bcrypt-cost", "4"]);
        if let Some(tls) = &self.plan.tls {
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
        }
        command.args(&self.plan.arguments);
        let output = self.log_file(member)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        *place = Some(command.spawn().context("starting etcd")?);
        Ok(())
    }

    /// Waits until every member answers and has a leader.
    ///
    /// # Errors
    /// If they do not; the error holds the first one's log.
    pub fn wait_healthy(&self) -> Result<()> {
        let healthy = wait::until("etcd is healthy", || {
            Ok(self.etcdctl_as(None, &["endpoint", "status"]).is_ok_and(|_| self.leader().is_ok()).then_some(()))
        });
        healthy.with_context(|| format!("etcd's log:\n{}", self.log(0)))
    }

    /// Ends a member as a service manager does, and waits for that.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::SIGTERM)?;
        let mut place = self.member(member);
        let mut child = place.take().context("the member does not run")?;
        wait::until("etcd ends after SIGTERM", || child.try_wait().context("waiting for etcd")).map(drop)
    }

    /// Ends a member without a chance to do anything about it.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self, member: usize) -> Result<()> {
        let mut child = self.member(member).take().context("the member does not run")?;
        child.kill().context("killing etcd")?;
        child.wait().context("waiting for etcd").map(drop)
    }

    /// Makes a member hang: its connections stay, and nothing is answered.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::SIGSTOP)
    }

    /// Lets a member go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self, member: usize) -> Result<()> {
        self.signal(member, Signal::SIGCONT)
    }

    /// Ends every member, and starts an empty cluster in its place, with another identity.
    ///
    /// # Errors
    /// If it does not get ready.
    pub fn replace(&self) -> Result<()> {
        self.stop_all()?;
        for member in 0..self.members.len() {
            fs::remove_dir_all(self.data(member)).context("removing a member's data")?;
        }
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = unique("cluster");
        self.start_all()
    }

    /// Copies the data of every member aside; the members must not run.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn back_up(&self, name: &str) -> Result<()> {
        let backup = self.directory.path().join(name);
        fs::create_dir(&backup).context("making a directory for the backup")?;
        self.copy("m*", &backup)
    }

    /// Brings the data of a backup back, with the same identity; the members must not run.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn restore(&self, name: &str) -> Result<()> {
        for member in 0..self.members.len() {
            fs::remove_dir_all(self.data(member)).context("removing a member's data")?;
        }
        self.copy(&format!("{name}/m*"), self.directory.path())
    }

    /// Restores every member from a file of `etcdctl snapshot save`, as a cluster with another identity; the members must not run.
    ///
    /// # Errors
    /// If etcdctl fails.
    pub fn restore_snapshot(&self, snapshot: &Path) -> Result<()> {
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = unique("cluster");
        let peer = |member: usize| format!("http://127.0.0.1:{}", client_port(member) + 1);
        let cluster: Vec<_> = (0..self.members.len()).map(|member| format!("m{member}={}", peer(member))).collect();
        for member in 0..self.members.len() {
            fs::remove_dir_all(self.data(member)).context("removing a member's data")?;
            let mut restore = self.namespace.command(programs()?.join("etcdctl"))?;
            restore.env_clear().env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(snapshot);
            restore.args(["--name", &format!("m{member}"), "--data-dir"]).arg(self.data(member));
            restore.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-token", &self.token()]);
            restore.args(["--initial-advertise-peer-urls", &peer(member)]);
            command::run(&mut restore, "")?;
        }
        Ok(())
    }

    fn copy(&self, from: &str, to: &Path) -> Result<()> {
        let line = format!("cp -a {}/{from} {}", self.directory.path().display(), to.display());
        command::run(Command::new("sh").args(["-c", &line]), "").map(drop)
    }

    /// Ends every member.
    ///
    /// # Errors
    /// If one does not end.
    pub fn stop_all(&self) -> Result<()> {
        for member in 0..self.members.len() {
            if self.member(member).is_some() {
                self.stop(member)?;
            }
        }
        Ok(())
    }

    /// Returns the member that leads.
    ///
    /// # Errors
    /// If none does, or not all that run answer.
    pub fn leader(&self) -> Result<usize> {
        let text = self.etcdctl_as(None, &["endpoint", "status", "--write-out=json"])?;
        let answers: serde_json::Value = serde_json::from_str(&text).context("reading etcdctl's JSON")?;
        for answer in answers.as_array().into_iter().flatten() {
            let status = &answer["Status"];
            if status["leader"] == status["header"]["member_id"] {
                let endpoint = answer["Endpoint"].as_str().unwrap_or_default();
                if let Some(member) = self.endpoints().iter().position(|url| url == endpoint) {
                    return Ok(member);
                }
            }
        }
        bail!("no member is the leader: {text}")
    }

    /// From here on, `etcdctl` is this user, as `name:password`.
    pub fn become_user(&self, user: Option<&str>) {
        *self.user.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = user.map(str::to_owned);
    }

    /// Runs `etcdctl` with all endpoints whose members run, and returns what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn etcdctl(&self, words: &[&str]) -> Result<String> {
        let user = self.user.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        self.etcdctl_as(user.as_deref(), words)
    }

    /// As [`Self::etcdctl`], as this user.
    ///
    /// # Errors
    /// As [`Self::etcdctl`].
    pub fn etcdctl_as(&self, user: Option<&str>, words: &[&str]) -> Result<String> {
        command::run(&mut self.etcdctl_command(user, words)?, "")
    }

    /// Runs `etcdctl put` with the value on its standard input, which has no limit.
    ///
    /// # Errors
    /// If it fails.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        let user = self.user.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        command::run(&mut self.etcdctl_command(user.as_deref(), &["put", key])?, value).map(drop)
    }

    fn etcdctl_command(&self, user: Option<&str>, words: &[&str]) -> Result<Command> {
        let endpoints = self.endpoints();
        let running = (0..self.members.len()).filter(|member| self.member(*member).is_some());
        let running: Vec<_> = running.map(|member| endpoints[member].as_str()).collect();
        let mut command = self.namespace.command(programs()?.join("etcdctl"))?;
        command.env_clear().env("ETCDCTL_API", "3").args(["--endpoints", &running.join(",")]);
        command.args(["--dial-timeout", "2s", "--command-timeout", "10s"]);
        if let Some(tls) = &self.plan.tls {
            command.arg("--cacert").arg(&tls.ca).arg("--cert").arg(&tls.client_cert).arg("--key").arg(&tls.client_key);
        }
        if let Some(user) = user {
            command.args(["--user", user]);
        }
        command.args(words);
        Ok(command)
    }

    /// Returns a member's process id.
    #[must_use]
    pub fn id(&self, member: usize) -> Option<u32> {
        self.member(member).as_ref().map(Child::id)
    }

    /// Returns a member's log so far.
    #[must_use]
    pub fn log(&self, member: usize) -> String {
        fs::read_to_string(self.directory.path().join(format!("log{member}"))).unwrap_or_default()
    }

    fn log_file(&self, member: usize) -> Result<File> {
        let path = self.directory.path().join(format!("log{member}"));
        OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {}", path.display()))
    }

    fn data(&self, member: usize) -> PathBuf {
        self.directory.path().join(format!("m{member}"))
    }

    fn token(&self) -> String {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn member(&self, member: usize) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.members[member].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        let id = self.id(member).context("the member does not run")?;
        let id = i32::try_from(id).context("a process id beyond i32")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("sending {signal} to etcd"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            if std::thread::panicking() {
                let log = self.log(member);
                let start = log.len().saturating_sub(3000);
                eprintln!("--- end of the log of etcd's member {member}\n{}---", log.get(start..).unwrap_or(&log));
            }
            if let Some(mut child) = self.member(member).take() {
                // Already ended is as good.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Where `cargo xtask setup --controllers` puts etcd.
fn programs() -> Result<PathBuf> {
    Ok(fetched::collection("controllers")?.join("debian/usr/bin"))
}
