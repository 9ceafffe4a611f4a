//! A small measurement, so that the simulation stays true; `cargo xtask controller` makes a large one.

use std::time::Duration;

use lab::controller::scale::{Plan, measure};
use lab::openstack::Kind;

#[test]
fn two_hundred_instances_follow_every_change_at_the_configured_rate_and_cost_nearly_nothing_when_nothing_changes() {
    let plan = Plan {
        instances: 200,
        nodes: 10,
        changes: 50,
        paced: 10,
        pace: 20,
        settles: false,
        quiet: Duration::from_secs(10),
        rate: 2000,
        requests: 32,
        list_interval: Duration::from_secs(5),
        cache: Duration::from_secs(1),
        delay: Duration::ZERO,
    };
    // Every document was compared with what the simulated OpenStack has, after each phase.
    let figures = measure(&plan).unwrap();
    println!("{figures}");
    for (name, phase) in [("first fill", &figures.fill), ("take-over", &figures.take_over)] {
        // A tenth of a second's may come at once.
        let allowed = f64::from(plan.rate) * (phase.counted.as_secs_f64() + 0.1);
        assert!(phase.requests.all() as f64 <= allowed, "{name}: {} requests in {:?}", phase.requests, phase.counted);
    }
    let lists = 1 + plan.quiet.as_secs() / plan.list_interval.as_secs();
    let quiet = figures.quiet.requests;
    assert!(quiet.of(Kind::List) <= lists && quiet.of(Kind::Services) <= lists, "{quiet}");
    assert!(quiet.of(Kind::Page) < 200, "an instance or two, of each day's: {quiet}");
}
