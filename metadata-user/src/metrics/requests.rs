//! What is counted for each request: its answer by status and family, and how long that took.
//!
//! Promises: counting is three additions to memory that no other thread writes at that moment, and no look at a clock. Threads
//! count in shards of their own; whoever reads adds them up. Sums are those of some moment: while requests are answered, the
//! histogram may be one of them ahead of the answers or behind.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

/// Statuses that are counted one by one; others share one counter.
const STATUSES: [u16; 15] = [200, 304, 400, 401, 403, 404, 405, 409, 411, 413, 414, 429, 431, 500, 503];

/// Those of [`STATUSES`], then any other, as labels.
const CODES: [&str; STATUSES.len() + 1] =
    ["200", "304", "400", "401", "403", "404", "405", "409", "411", "413", "414", "429", "431", "500", "503", "other"];

/// Values of the label `family`.
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// Upper bounds of the histogram's buckets in microseconds. Answers that wait for nothing take tens of them; the others wait
/// for their turn, a limit, a controller, or their content, for which `http.ready_timeout` is a few seconds.
const BOUNDS: [u64; 15] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];

/// Number of shards: threads that answer guests have one each up to here, and share them beyond.
const SHARDS: usize = 32;

/// What a thread counts. No other thread's counters are on the same cache lines, nor on those that a processor fetches with them.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    /// By status, then by family.
    answers: [[AtomicU64; FAMILIES.len()]; CODES.len()],
    /// Answers that took no longer than each of [`BOUNDS`], and longer than the one before; then all others.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Microseconds that all answers took.
    sum: AtomicU64,
}

/// Answers, and how long they took.
#[derive(Default)]
pub(super) struct Requests {
    shards: [Shard; SHARDS],
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// Returns the place of the calling thread's shard.
fn own_place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        place.get()
    })
}

impl Requests {
    /// Counts an answer, which took so long.
    pub(super) fn answered(&self, status: u16, over_ipv6: bool, took: Duration) {
        let shard = &self.shards[own_place()];
        let code = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        shard.answers[code][usize::from(over_ipv6)].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Most are in one of the first buckets.
        let bucket = BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS.len());
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.sum.fetch_add(took, Ordering::Relaxed);
    }

    /// Returns the answers by status; 0 stands for statuses that have no counter of their own.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u16, u64)> {
        let count =
            |code: usize| (0..FAMILIES.len()).map(|family| self.sum(|shard| &shard.answers[code][family])).sum();
        STATUSES.into_iter().chain([0]).enumerate().map(move |(at, status)| (status, count(at)))
    }

    fn sum(&self, part: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| part(shard).load(Ordering::Relaxed)).sum()
    }
}

/// Microseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 microseconds, which are 285 years")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Answers to guests by status and by the family of the guest's address.";
        let mut answers = encoder.encode_descriptor("http_responses", help, None, MetricType::Counter)?;
        for (at, code) in CODES.into_iter().enumerate() {
            for (family, name) in FAMILIES.into_iter().enumerate() {
                let count = self.sum(|shard| &shard.answers[at][family]);
                ConstCounter::new(count).encode(answers.encode_family(&[("code", code), ("family", name)])?)?;
            }
        }
        let help = "Time from the last byte of a request until its answer is complete, waits included but for those for a change; not how long the \
                    guest takes to read it.";
        let unit = Some(&Unit::Seconds);
        let mut took = encoder.encode_descriptor("http_request_duration", help, unit, MetricType::Histogram)?;
        let bounds = BOUNDS.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.enumerate().map(|(at, bound)| (bound, self.sum(|shard| &shard.buckets[at]))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        took.encode_histogram::<NoLabelSet>(seconds(self.sum(|shard| &shard.sum)), count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn exported(requests: &Arc<Requests>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(requests)));
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        text
    }

    #[test]
    fn every_status_that_is_counted_has_its_own_label() {
        for (status, code) in STATUSES.iter().zip(CODES) {
            assert_eq!(status.to_string(), code);
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn answers_of_all_threads_are_added_up_by_status_family_and_time() {
        let requests = Arc::new(Requests::default());
        let micros = Duration::from_micros;
        let threads: Vec<_> = (0..2 * SHARDS)
            .map(|_| {
                let requests = Arc::clone(&requests);
                std::thread::spawn(move || {
                    requests.answered(200, false, micros(25));
                    requests.answered(200, true, micros(26));
                    requests.answered(599, true, Duration::from_secs(3600));
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("counted");
        }
        let text = exported(&requests);
        for line in [
            "http_responses_total{code=\"200\",family=\"ipv4\"} 64",
            "http_responses_total{code=\"200\",family=\"ipv6\"} 64",
            "http_responses_total{code=\"other\",family=\"ipv6\"} 64",
            "http_responses_total{code=\"404\",family=\"ipv4\"} 0",
            "http_request_duration_seconds_bucket{le=\"0.000025\"} 64",
            "http_request_duration_seconds_bucket{le=\"0.00005\"} 128",
            "http_request_duration_seconds_bucket{le=\"10.0\"} 128",
            "http_request_duration_seconds_bucket{le=\"+Inf\"} 192",
            "http_request_duration_seconds_count 192",
            "http_request_duration_seconds_sum 230400.003264",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
    }
}
