//! Requests that wait for a change, in etcd: a thousand of them on one node, and those of one instance are released.
//!
//! The time is the last answer's: until then, one guest has been answered on each of its connections. What is compared is
//! a bare watch, which is one event for all.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::http::Connection;
use lab::{Guest, Node, Request};

use super::etcd::{World, bare_watch};
use super::{BATCH, PATIENCE, USER_DATA, Writer, pairs, until};
use crate::Effort;
use crate::load::histogram;
use crate::result::Case;

const NAME: &str = "etcd, requests that wait";
/// Instances with requests that wait: as many of each as it may have by default.
const INSTANCES: usize = 16;
const OF_EACH: usize = 64;
const LIMITS: &str = "[guests]\nlongest_wait = \"60m\"\n";
/// Between two looks whether all requests wait.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) fn measure(effort: Effort) -> Result<Case> {
    let mut world = World::make(LIMITS, INSTANCES)?;
    let [changing, others @ ..] = &world.guests[..] else { anyhow::bail!("no guests") };
    let _others: Vec<_> = others.iter().map(wait).collect::<Result<_>>()?;
    let node = &world.node;
    let released = |writer: &Writer, first: u32| {
        let mut seen = histogram()?;
        for change in first..first + BATCH {
            let mut waiting = wait(changing)?;
            all_wait(node)?;
            let start = Instant::now();
            writer.order(change)?;
            for connection in &mut waiting {
                let answer = connection.receive().with_context(|| format!("waiting for change {change}"))?;
                ensure!(answer.text() == change.to_string(), "{} instead of change {change}", answer.text());
            }
            seen.saturating_record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(seen)
    };
    let bare = bare_watch(node, &world.etcd, &world.key);
    let seen = pairs(NAME, effort, &mut world.writer, Duration::ZERO, released, bare)?;
    let mut case = seen.case("sync", NAME, "bare watch", "bare watch");
    case.figure("requests that wait", (INSTANCES * OF_EACH) as f64);
    case.figure("of these, released by a change", OF_EACH as f64);
    Ok(case)
}

/// Begins the waits of one guest, each on a connection of its own.
fn wait(guest: &Guest) -> Result<Vec<Connection>> {
    guest.namespace().run(|| {
        let now = Request::get(&format!("{USER_DATA}?wait_for_change=true&last_etag=0")).send()?;
        let tag = now.header("etag").context("a tag")?.trim_matches('"').to_owned();
        let request = Request::get(&format!("{USER_DATA}?wait_for_change=true&last_etag={tag}")).patience(PATIENCE);
        let begin = |_| {
            let mut connection = request.connect()?;
            connection.begin(&request)?;
            Ok(connection)
        };
        (0..OF_EACH).map(begin).collect()
    })
}

fn all_wait(node: &Node) -> Result<()> {
    until(PAUSE, || Ok(node.status()?["http"]["waiting"].as_u64() == Some((INSTANCES * OF_EACH) as u64)))
}
