//! A Nova that takes its time: nobody waits for another's answer.

use std::time::{Duration, Instant};

use lab::nova::{Front, another, facts};

use super::cloud::{Node, uuid};
use super::{NEW, NOVA};

/// Time that Nova takes for an answer. What must not wait for it is answered within half of that.
const SLOW: Duration = Duration::from_secs(2);

#[test]
fn with_nova_slow_no_request_waits_for_anothers() {
    let plain = facts("plain").unwrap();
    let new: Vec<_> = NEW.map(|number| another(&plain, number)).collect();
    let mut all = vec![plain.clone()];
    all.extend(new.iter().cloned());
    let nova = NOVA.get().unwrap();
    let front = Front::start(nova.port(), None).unwrap();
    let node = Node::start(&[front.url()], "");
    node.boot(&plain);
    node.wait_current();
    front.delay(SLOW.as_secs_f64()).unwrap();
    new.iter().for_each(|facts| node.boot(facts));
    let (start, mut asked) = (Instant::now(), 0u32);
    let mut slowest = Duration::ZERO;
    let mut timed = |uuid: &str, path: &str| {
        let before = Instant::now();
        let answer = node.get(uuid, path);
        slowest = slowest.max(before.elapsed());
        asked += 1;
        answer.status
    };
    // As long as two rounds of Nova's answers last: the known guest reads, the new ones are told to ask again.
    while start.elapsed() < SLOW * 2 + SLOW / 2 {
        assert_eq!(timed(&uuid(&plain), "/openstack/latest/meta_data.json"), 200);
        for facts in &new[50..] {
            assert_eq!(timed(&uuid(facts), "/openstack/latest/meta_data.json"), 503);
        }
    }
    eprintln!("{asked} requests while 100 instances wait for Nova, the slowest took {slowest:?}");
    assert!(slowest < SLOW / 2, "{slowest:?}");
    // A guest that asks for more than was read waits for Nova's answer, and not behind all the others.
    let before = Instant::now();
    assert_eq!(node.get(&uuid(&plain), "/2007-01-19/meta-data/hostname").status, 200);
    eprintln!("a path that is read through took {:?}", before.elapsed());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    front.delay(0.0).unwrap();
    node.wait("all are there", |state| state.instances == all.len());
}
