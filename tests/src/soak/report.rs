//! What a soak did and found, as a table.

use std::fmt;
use std::time::Duration;

use super::census::Census;
use super::world::Tally;

/// Lines of the table: what it is called, and how the figures that are added up begin.
const LINES: [(&str, &[&str]); 19] = [
    ("resident memory (KiB)", &["memory: resident"]),
    ("of it heap and stacks (KiB)", &["memory: private"]),
    ("threads", &["threads"]),
    ("open files", &["open files: "]),
    ("of them sockets", &["open files: socket"]),
    ("of them maps, programs and links", &["open files: bpf"]),
    ("entries of the kernel's maps", &["kernel: entries of "]),
    ("memory of pinned maps (bytes)", &["kernel: memory"]),
    ("programs, links", &["kernel: programs", "kernel: links"]),
    ("pins", &["kernel: pins"]),
    ("namespaces, mounts", &["namespaces: this lab's", "mounts"]),
    ("interfaces, addresses, qdiscs", &["node: interfaces", "node: addresses", "node: qdiscs"]),
    (
        "routes and neighbours of the responder",
        &["responder: routes", "responder: IPv6 routes", "responder: neighbours"],
    ),
    ("sockets of the responder", &["responder: listening", "responder: other"]),
    ("instances, ports", &["daemon: instances", "daemon: ports"]),
    ("bindings in the history of boots", &["history of boots"]),
    ("snapshot (bytes)", &["disk: snapshot"]),
    ("files of the node", &["disk: files", "disk: sockets"]),
    ("audit log (KiB), rotated", &["disk: audit"]),
];

/// What a day brings to a busy node: an instance created, and one deleted, every six minutes, and so on.
const DAY: [(&str, u64); 7] = [
    ("ports added", 240),
    ("ports bound", 480),
    ("documents written", 1000),
    ("reloads", 4),
    ("outages of the source", 4),
    ("repairs", 4),
    ("restarts", 2),
];

/// What was done, and what there was before, between and after.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) lasted: Duration,
    /// The first process; warm, in the middle and at the end.
    pub(super) moments: [Census; 4],
    pub(super) memory: Vec<u64>,
    pub(super) tally: Tally,
    pub(super) rounds: u64,
    /// Lines of the log; of them warnings, and errors.
    pub(super) log: [usize; 3],
}

impl Report {
    /// Returns how many days of a busy node it was, by what was done least.
    fn days(&self) -> (u64, &'static str) {
        let days = DAY.map(|(what, of_a_day)| (self.tally.get(what).copied().unwrap_or(0) / of_a_day, what));
        days.into_iter().min().unwrap_or((0, ""))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rounds in {:.1} minutes:", self.rounds, self.lasted.as_secs_f64() / 60.0)?;
        for (what, count) in &self.tally {
            writeln!(f, "  {count:>8} {what}")?;
        }
        let (days, what) = self.days();
        writeln!(f, "as in {days} days of a busy node or more ({what}: the fewest)\n")?;
        writeln!(f, "{:<40} {:>10} {:>10} {:>10} {:>10}", "", "first", "warm", "middle", "last")?;
        for (name, prefixes) in LINES {
            write!(f, "{name:<40}")?;
            for census in &self.moments {
                let figures =
                    census.0.iter().filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)));
                write!(f, " {:>10}", figures.map(|(_, value)| value).sum::<u64>())?;
            }
            writeln!(f)?;
        }
        let quarter = (self.memory.len() / 4).max(1);
        let medians: Vec<_> = self.memory.chunks(quarter).map(|part| median(part).to_string()).collect();
        writeln!(f, "resident memory between warm and middle, by quarters (KiB): {}", medians.join(", "))?;
        let [lines, warnings, errors] = self.log;
        let minutes = (self.lasted.as_secs_f64() / 60.0).max(f64::MIN_POSITIVE);
        writeln!(
            f,
            "lines in the log: {lines}, {:.0} a minute; {warnings} warnings, {errors} errors",
            lines as f64 / minutes
        )
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_by_what_was_done_least() {
        let mut tally: Tally = DAY.iter().map(|(what, of_a_day)| (*what, 10 * of_a_day)).collect();
        tally.insert("repairs", 8);
        let moments = [(); 4].map(|()| Census::default());
        let report = Report {
            lasted: Duration::from_secs(60),
            moments,
            memory: vec![1, 3, 2],
            tally,
            rounds: 1,
            log: [5, 1, 0],
        };
        assert_eq!(report.days(), (2, "repairs"));
        let text = report.to_string();
        assert!(text.contains("as in 2 days of a busy node or more (repairs: the fewest)"), "{text}");
        assert!(text.contains("by quarters (KiB): 1, 3, 2"), "{text}");
    }
}
