//! Many ports on one node, measured.
//!
//! The kernel has one lock for all network configuration, so this runs apart from the tests that make networks:
//! `cargo xtask test netns` runs it after them, one at a time.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as they need it")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::{Node, NodePlan, Rack};

const PORTS: u32 = 500;
/// Most that start, attaching and one answer for each port may take, all together.
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn five_hundred_ports_are_attached_and_served_within_five_seconds_of_start() {
    serves_in_time("auto");
}

#[test]
fn five_hundred_ports_are_served_as_soon_where_clsact_is_forced() {
    serves_in_time("clsact");
}

fn serves_in_time(attach: &'static str) {
    let node = NodePlan::default().attach(attach).make().unwrap();
    let guests = Rack::plug(&node, PORTS, |document| document).unwrap();
    let start = Instant::now();
    node.start_daemon().unwrap();
    let ready = start.elapsed();
    lab::wait::until("all ports are bound", || {
        let bound = node.ports()?.values().filter(|port| port.flags & metadata_ebpf::abi::PORT_HELD == 0).count();
        Ok((bound == PORTS as usize).then_some(()))
    })
    .unwrap();
    let bound = start.elapsed();
    let own = guests.served().unwrap();
    let served = start.elapsed();
    println!(
        "{PORTS} ports, {attach}: daemon ready after {ready:?}, all bound after {bound:?}, all answered after {served:?}"
    );
    assert_eq!(own, PORTS);
    assert!(served <= LIMIT, "it took {served:?}");
}

/// Bytes of physical memory that the daemon has.
fn resident(node: &Node) -> Result<u64> {
    let id = node.daemon_id().context("the daemon runs")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a line VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

#[test]
fn an_instance_takes_little_memory_beside_its_user_data() {
    const USER_DATA: u64 = 2048;
    let mut empty = None;
    for instances in [0, 1_000, 10_000] {
        let node = NodePlan::default().make().unwrap();
        let user_data = vec![b'x'; usize::try_from(USER_DATA).unwrap()];
        for number in 1..=instances {
            lab::rack::document(number).with_user_data(&user_data).write(&node.instances()).unwrap();
        }
        let start = Instant::now();
        node.start_daemon().unwrap();
        let ready = start.elapsed();
        assert_eq!(node.status().unwrap()["source"]["instances"], instances);
        let resident = resident(&node).unwrap();
        let Some(empty) = empty else {
            println!("no instances: {} KB resident", resident / 1024);
            empty = Some(resident);
            continue;
        };
        let each = resident.saturating_sub(empty) / u64::from(instances);
        println!(
            "{instances} instances with {USER_DATA} bytes of user data: {} KB resident, {each} bytes for each, ready \
             after {ready:?}",
            resident / 1024
        );
        assert!(each < USER_DATA + 64 * 1024, "{each} bytes for each instance");
    }
}
