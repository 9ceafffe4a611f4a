//! Facter and Ohai of Debian 12, in the middle of their crawl while the daemon is restarted in every way: nothing is missing. Both leave
//! out what they could not read, and end with status 0.
//!
//! A crawl is shorter than a restart. So the client is stopped (SIGSTOP) in the middle, and goes on at each stage of the restart.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Guest, Node, NodePlan, wait};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::case::Case;
use crate::client;

/// Tries to stop a client before its crawl is over.
const TRIES: usize = 10;

/// How long a client runs between two questions how far it is: the time of one or two requests.
const SLICE: Duration = Duration::from_millis(3);

const FACTER: &[&str] = &["facter", "--json", "ec2_metadata", "ec2_userdata"];
const OHAI_EC2: &[&str] = &["ohai", "ec2"];
const OHAI_OPENSTACK: &[&str] = &["ohai", "openstack"];

/// How the daemon is restarted, and when the client goes on.
type Restart = fn(&World, &Client);

struct World {
    node: Node,
    guest: Guest,
}

impl World {
    fn new(plan: NodePlan) -> Self {
        let node = plan.start().unwrap();
        let guest = Case::load("plain").unwrap().boot(&node).unwrap();
        Self { node, guest }
    }

    /// Requests that were answered by the daemon that runs.
    fn answered(&self) -> u64 {
        let status = self.node.status().unwrap();
        status["http"]["answers"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }
}

/// A client that crawls.
struct Client {
    process: Child,
}

impl Client {
    fn start(world: &World, words: &[&str]) -> Self {
        let mut command: Command = client::ruby(&world.guest, words).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { process: command.spawn().unwrap() }
    }

    fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    /// Lets it run in short slices until the condition holds, and leaves it stopped: a whole crawl may be shorter than a pause of
    /// [`wait::until`].
    fn runs_until(&self, mut reached: impl FnMut() -> bool) {
        let start = Instant::now();
        loop {
            self.signal(Signal::SIGCONT);
            std::thread::sleep(SLICE);
            self.signal(Signal::SIGSTOP);
            if reached() {
                return;
            }
            assert!(start.elapsed() < wait::PATIENCE, "the client is not so far after {:?}", wait::PATIENCE);
        }
    }

    /// Waits for its end, and returns what it printed.
    fn printed(self) -> Value {
        let output = self.process.wait_with_output().unwrap();
        let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {text}{error}", output.status);
        serde_json::from_str(&text).unwrap_or_else(|problem| panic!("{problem}: {text}{error}"))
    }
}

/// Starts a client and stops it after so many requests at least; returns how many they were.
fn stopped_in_the_middle(world: &World, words: &[&str], moment: u64, requests: u64) -> (Client, u64) {
    for _ in 0..TRIES {
        let before = world.answered();
        let client = Client::start(world, words);
        client.runs_until(|| world.answered() >= before + moment);
        let answered = world.answered() - before;
        if answered < requests {
            return (client, answered);
        }
        // This thread was kept from stopping it in time.
        client.signal(Signal::SIGCONT);
        client.printed();
    }
    panic!("{words:?}: each crawl was over before the client was stopped after {moment} requests");
}

/// Runs a client undisturbed, then with each kind of restart after another number of requests, and expects the same each time.
fn reads_the_same(words: &[&str], has: &str) {
    let world = World::new(NodePlan::default().keeps_sockets());
    let undisturbed = Client::start(&world, words).printed();
    let requests = world.answered();
    assert!(undisturbed.to_string().contains(has), "{undisturbed}");
    for (what, moment, restart) in RESTARTS {
        let (client, answered) = stopped_in_the_middle(&world, words, moment, requests);
        restart(&world, &client);
        let printed = client.printed();
        assert_eq!(printed, undisturbed, "{words:?}, {what}, after {answered} of {requests} requests");
        println!("{words:?}, {what}, after {answered} of {requests} requests: the same");
    }
}

/// The client goes on as soon as the daemon is asked to end.
fn while_it_ends(world: &World, client: &Client) {
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| world.node.stop_daemon().unwrap());
        client.signal(Signal::SIGCONT);
        ending.join().unwrap();
    });
    world.node.start_daemon().unwrap();
}

/// The client goes on when there is no daemon.
fn while_there_is_none(world: &World, client: &Client) {
    world.node.stop_daemon().unwrap();
    client.signal(Signal::SIGCONT);
    world.node.start_daemon().unwrap();
}

/// The client goes on when there is no daemon.
fn after_a_kill(world: &World, client: &Client) {
    world.node.kill_daemon().unwrap();
    client.signal(Signal::SIGCONT);
    world.node.start_daemon().unwrap();
}

/// The client goes on when both daemons accept connections, or soon after.
fn while_another_takes_over(world: &World, client: &Client) {
    let taken = || world.node.log().matches("listening where a former daemon did").count();
    let before = taken();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait::until("the next daemon has the sockets", || Ok((taken() > before).then_some(()))).unwrap();
            client.signal(Signal::SIGCONT);
        });
        // A daemon ends with the thread that started it.
        world.node.take_over().unwrap();
    });
}

/// The client goes on when the former daemon is gone, and the connection that it had.
fn after_a_take_over(world: &World, client: &Client) {
    world.node.take_over().unwrap();
    client.signal(Signal::SIGCONT);
}

/// Every restart, and after how many requests at least the client is stopped.
const RESTARTS: [(&str, u64, Restart); 5] = [
    ("while the daemon ends", 2, while_it_ends),
    ("while there is no daemon", 8, while_there_is_none),
    ("after a kill", 11, after_a_kill),
    ("while another daemon takes over", 1, while_another_takes_over),
    ("after a take-over", 9, after_a_take_over),
];

#[test]
fn facter_misses_nothing_over_a_restart() {
    reads_the_same(FACTER, "local-ipv4");
}

#[test]
fn ohai_misses_nothing_of_ec2_over_a_restart() {
    reads_the_same(OHAI_EC2, "local_ipv4");
}

#[test]
fn ohai_misses_nothing_of_openstack_over_a_restart() {
    reads_the_same(OHAI_OPENSTACK, "local_ipv4");
}

/// What the others would show if something were missing.
#[test]
fn facter_misses_keys_where_nobody_keeps_the_sockets() {
    let world = World::new(NodePlan::default());
    let undisturbed = Client::start(&world, FACTER).printed();
    let (client, _) = stopped_in_the_middle(&world, FACTER, 5, world.answered());
    world.node.stop_daemon().unwrap();
    client.signal(Signal::SIGCONT);
    assert_ne!(client.printed(), undisturbed, "it asked again after it was refused");
}
