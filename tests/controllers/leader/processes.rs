//! Controllers that are processes: killed, stopped and continued.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etcd_client::{Client, EventType, WatchOptions};
use lab::{EtcdPlan, Namespace, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{INSTANCE, inside};

/// The promise: another leads within this time.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// The lease of the candidates, in seconds.
const LEASE: &str = "2";

/// A running candidate.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(namespace: &Namespace, endpoint: &str, name: &str) -> Result<Self> {
        let mut command = namespace.command(env!("CARGO_BIN_EXE_candidate"))?;
        command.args([endpoint, name, LEASE, INSTANCE]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting a candidate")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, seen) = (child.stdout.take().context("its output")?, Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                seen.lock().unwrap().push(line);
            }
        });
        Ok(Self { child, lines })
    }

    fn count(&self, word: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.starts_with(word)).count()
    }

    /// Waits until it has printed so many lines that begin with this word.
    fn wait(&self, word: &str, count: usize) {
        let waited = wait::until(&format!("{word} {count}"), || Ok((self.count(word) >= count).then_some(())));
        waited.with_context(|| format!("it printed {:?}", self.lines.lock().unwrap())).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns who wrote the instance's document, version by version.
fn writers(namespace: &Namespace, endpoint: &str) -> Vec<String> {
    let endpoint = endpoint.to_owned();
    inside(namespace, || async move {
        let mut client = Client::connect([endpoint], None).await?;
        let key = super::super::etcd::key(INSTANCE);
        let last = client.get(key.clone(), None).await?;
        let last = last.kvs().first().context("the document")?.mod_revision();
        let mut watch = client.watch(key, Some(WatchOptions::new().with_start_revision(1))).await?;
        let mut writers = Vec::new();
        loop {
            let message = watch.message().await?.context("the watch ended")?;
            for event in message.events().iter().filter(|event| event.event_type() == EventType::Put) {
                let pair = event.kv().context("a key")?;
                writers.push(pair.value_str()?.split(' ').next().unwrap_or_default().to_owned());
                if pair.mod_revision() == last {
                    return Ok(writers);
                }
            }
        }
    })
    .unwrap()
}

#[test]
fn another_leads_when_the_leader_hangs_dies_or_resigns_and_no_write_comes_late() {
    let namespace = Namespace::create("leader").unwrap();
    let plan = EtcdPlan::default();
    let endpoint = plan.endpoints().remove(0);
    let _etcd = plan.start(&namespace).unwrap();
    let one = Process::start(&namespace, &endpoint, "one").unwrap();
    one.wait("leads", 1);
    let mut two = Process::start(&namespace, &endpoint, "two").unwrap();
    one.wait("wrote", 3);
    assert_eq!(two.count("leads"), 0);

    // It hangs, in the middle of its writes.
    one.signal(Signal::SIGSTOP);
    let (begun, wrote) = (Instant::now(), one.count("wrote"));
    two.wait("leads", 1);
    let hung = begun.elapsed();
    two.wait("wrote", 3);
    one.signal(Signal::SIGCONT);
    one.wait("lost", 1);
    two.wait("wrote", 5);
    assert_eq!(one.count("wrote"), wrote, "it wrote after it was continued");
    let history = writers(&namespace, &endpoint);
    let first_of_two = history.iter().position(|writer| writer == "two").unwrap();
    assert!(history[..first_of_two].iter().all(|writer| writer == "one"));
    assert!(history[first_of_two..].iter().all(|writer| writer == "two"), "a late write of the stopped leader");

    // It resigns.
    let begun = Instant::now();
    writeln!(two.child.stdin.as_mut().unwrap()).unwrap();
    one.wait("leads", 2);
    let resigned = begun.elapsed();
    two.wait("lost", 1);
    one.wait("wrote", wrote + 3);

    // It dies.
    writeln!(two.child.stdin.as_mut().unwrap()).unwrap();
    let begun = Instant::now();
    one.signal(Signal::SIGKILL);
    two.wait("leads", 2);
    let killed = begun.elapsed();
    println!("another leads {hung:?} after a hang, {killed:?} after a death, {resigned:?} after a resignation");
    assert!(hung < TAKE_OVER && killed < TAKE_OVER && resigned < Duration::from_secs(1));
}
