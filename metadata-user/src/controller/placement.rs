//! Which nodes must have an instance's document: pure.

use std::collections::BTreeSet;

use super::openstack::{Move, Server};

/// Returns the nodes that run the instance, or are about to: its host, and both ends of every move that is not over.
///
/// A move that is over leaves the host alone, whichever that is then: a live migration that failed has its source, a resize that was
/// confirmed its destination. None: Nova has it on no host, as before it is scheduled, and when it is shelved.
pub(super) fn nodes(server: &Server, moves: &[Move]) -> BTreeSet<String> {
    let ends = moves.iter().flat_map(|unfinished| [&unfinished.source, &unfinished.dest]);
    ends.chain([&server.host]).flatten().filter(|host| !host.is_empty()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::openstack::sample_server;

    fn unfinished(source: &str, dest: Option<&str>) -> Move {
        Move {
            source: Some(source.to_owned()),
            dest: dest.map(str::to_owned),
            status: "running".to_owned(),
            kind: "live-migration".to_owned(),
        }
    }

    #[test]
    fn both_ends_of_a_move_have_it_and_one_host_before_and_after() {
        let mut server = sample_server();
        let of = |server: &Server, moves: &[Move]| nodes(server, moves).into_iter().collect::<Vec<_>>().join(",");
        server.host = Some("a".to_owned());
        assert_eq!(of(&server, &[]), "a");
        assert_eq!(of(&server, &[unfinished("a", None)]), "a", "no destination is chosen yet");
        assert_eq!(of(&server, &[unfinished("a", Some("b"))]), "a,b");
        // An evacuation changes the host at its beginning.
        server.host = Some("b".to_owned());
        assert_eq!(of(&server, &[unfinished("a", Some("b"))]), "a,b");
        assert_eq!(of(&server, &[]), "b");
        server.host = None;
        assert_eq!(of(&server, &[]), "");
    }
}
