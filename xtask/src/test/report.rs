//! What became of the tests, and how long they took: by group, the slowest ones, and in all.
//!
//! It reads the lines of libtest as they come. Durations of single tests are there where libtest was asked for them
//! (`--report-time`); a line without one is counted all the same.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

/// How many of the slowest tests are named.
const SLOWEST: usize = 10;
/// A group's list leaves out tests that take less than this many seconds.
const NOTABLE: f64 = 0.1;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

/// A group that has ended.
#[derive(Debug)]
struct Measured {
    name: String,
    elapsed: Duration,
    cpu: Duration,
    totals: Totals,
}

/// A test that has ended.
#[derive(Debug, PartialEq)]
struct Timed {
    group: String,
    name: String,
    seconds: f64,
}

/// What has been run so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) totals: Totals,
    group: String,
    /// The test of which the beginning of a line was printed, and not yet the outcome.
    open: Option<String>,
    measured: Vec<Measured>,
    timed: Vec<Timed>,
}

impl Report {
    /// Runs the work of a group and measures it. The processor time is that of all processes that were waited for.
    pub(super) fn group<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        name.clone_into(&mut self.group);
        let (before, begun, cpu) = (self.totals, Instant::now(), children_cpu());
        let outcome = work(self);
        let totals = Totals {
            passed: self.totals.passed - before.passed,
            failed: self.totals.failed - before.failed,
            skipped: self.totals.skipped - before.skipped,
        };
        let cpu = children_cpu().saturating_sub(cpu);
        self.measured.push(Measured { name: name.to_owned(), elapsed: begun.elapsed(), cpu, totals });
        outcome
    }

    /// Reads a line of `cargo test`.
    pub(super) fn add(&mut self, line: &str) {
        if let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) {
            self.open = None;
            self.totals.add(counts);
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            match seconds(outcome) {
                Some(seconds) => self.time(name, seconds),
                // With one thread and without capturing, the test's own output follows, and then the outcome.
                None => self.open = Some(name.to_owned()),
            }
        } else if let Some(seconds) = seconds(line)
            && let Some(name) = self.open.take()
        {
            self.time(&name, seconds);
        }
    }

    fn time(&mut self, name: &str, seconds: f64) {
        self.open = None;
        self.timed.push(Timed { group: self.group.clone(), name: name.to_owned(), seconds });
    }

    /// Says how long the groups and the slowest tests took.
    pub(super) fn times(&self) -> String {
        let mut text = "\ngroup         seconds  CPU seconds  passed  failed  skipped\n".to_owned();
        let mut row = |name: &str, elapsed: Duration, cpu: Duration, totals: Totals| {
            let Totals { passed, failed, skipped } = totals;
            let (elapsed, cpu) = (elapsed.as_secs_f64(), cpu.as_secs_f64());
            let _ = writeln!(text, "{name:<12} {elapsed:>8.1} {cpu:>12.1} {passed:>7} {failed:>7} {skipped:>8}");
        };
        for Measured { name, elapsed, cpu, totals } in &self.measured {
            row(name, *elapsed, *cpu, *totals);
        }
        let elapsed = self.measured.iter().map(|group| group.elapsed).sum();
        let cpu = self.measured.iter().map(|group| group.cpu).sum();
        row("all", elapsed, cpu, self.totals);
        text + "\nslowest tests\n" + &slowest(self.timed.iter())
    }

    /// Says how long a group took that has ended, and which of its tests took longest; those that take no time are left
    /// out.
    pub(super) fn slowest_of(&self, name: &str) -> String {
        let elapsed: f64 =
            self.measured.iter().filter(|group| group.name == name).map(|group| group.elapsed.as_secs_f64()).sum();
        let tests = self.timed.iter().filter(|test| test.group == name && test.seconds >= NOTABLE);
        format!("{name}: {elapsed:.1} s\n{}", slowest(tests))
    }
}

impl Totals {
    /// Adds the counts of a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, counts: &str) {
        for part in counts.split("; ") {
            let Some((number, name)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match name {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Says which of these tests took longest, a line each.
fn slowest<'t>(tests: impl Iterator<Item = &'t Timed>) -> String {
    let mut tests: Vec<&Timed> = tests.collect();
    tests.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let line = |Timed { group, name, seconds }: &Timed| format!("{seconds:>8.1} s  {group:<12} {name}\n");
    tests.into_iter().take(SLOWEST).map(line).collect()
}

/// Returns the seconds of an outcome such as `ok <0.012s>`.
fn seconds(outcome: &str) -> Option<f64> {
    let (outcome, rest) = outcome.split_once(" <")?;
    let (time, _) = rest.split_once("s>")?;
    matches!(outcome, "ok" | "FAILED").then(|| time.parse().ok())?
}

/// Returns the processor time, in user space and the kernel, of all children that were waited for, and of theirs.
fn children_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may hold blanks; the fields after it begin with the third. 16 and 17 are of the children: proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [13, 14].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    // USER_HZ is 100 in the kernel's interface, on every architecture that this runs on.
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_cargo_test_are_added_up() {
        let mut report = Report::default();
        report.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s");
        report.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s");
        report.add("test store::tests::a ... ok");
        assert_eq!(report.totals, Totals { passed: 7, failed: 2, skipped: 1 });
    }

    #[test]
    fn the_slowest_tests_and_each_group_are_named_with_their_seconds() {
        let mut report = Report::default();
        report.group("unit", |report| {
            report.add("test quick ... ok <0.001s>");
            report.add("test slow - should panic ... ok <12.345s>");
            report.add("test broken ... FAILED <3.000s>");
            report.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        });
        report.group("measured", |report| {
            for line in ["test printing ... ", "a < b", "ok <20.5s>", "ok <99.0s>"] {
                report.add(line);
            }
        });
        let times = report.times();
        let slowest = times.split_once("slowest tests\n").unwrap().1;
        let expected = "    20.5 s  measured     printing\n    12.3 s  unit         slow - should panic\n     \
                        3.0 s  unit         broken\n     0.0 s  unit         quick\n";
        assert_eq!(slowest, expected);
        let unit: Vec<&str> = times.lines().find(|line| line.starts_with("unit")).unwrap().split_whitespace().collect();
        assert_eq!(unit[3..], ["2", "1", "0"]);
        let of_unit = report.slowest_of("unit");
        assert!(of_unit.starts_with("unit: ") && of_unit.contains("broken") && !of_unit.contains("quick"), "{of_unit}");
    }

    #[test]
    fn no_more_than_ten_tests_are_named() {
        let mut report = Report::default();
        (0..20).for_each(|number| report.add(&format!("test number_{number} ... ok <{number}.000s>")));
        let times = report.times();
        assert_eq!(times.lines().filter(|line| line.contains("number_")).count(), 10);
        assert!(times.contains("number_19") && !times.contains("number_9"), "{times}");
    }

    #[test]
    fn the_time_of_children_grows_when_they_work() {
        let before = children_cpu();
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", work]).status().unwrap().success());
        assert!(children_cpu() > before);
    }
}
