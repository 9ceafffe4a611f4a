//! A small fleet, so that the simulation stays true; `cargo xtask fleet` measures a large one.

use std::time::Duration;

use lab::fleet::{Plan, measure};

#[test]
fn fifty_nodes_each_see_their_own_changes_and_all_come_back() {
    let plan = Plan { nodes: 50, instances: 5, changes: 100, rate: 100, down: Duration::ZERO, threads: 2 };
    let figures = measure(&plan).unwrap();
    println!("{figures}");
    assert_eq!((figures.alone.wrong, figures.paced.wrong), (0, 0), "a change reached another node");
    assert_eq!(figures.resumed.resyncs, 0, "a node that missed nothing read everything again");
    assert_eq!(figures.compacted.resyncs, 50, "a node went on from a revision that is compacted");
}
