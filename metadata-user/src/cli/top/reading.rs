//! What `top` reads of the daemon, and what two readings say: rates are differences between them.
//!
//! Promises: pure; a counter that went back, after a restart of the daemon or where a tap was created again, counts from zero;
//! nothing is divided by a time of zero.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::admin::wire::{PortCounters, PortStatus, State, Status};

/// Counters of packets that are no drops: what the rest is called is a reason to drop.
const VERDICTS: [&str; 7] =
    ["answered_arp", "answered_neighbour", "answered_echo", "to_responder", "to_guest", "passed", "path_mtu"];

/// Metric of which the buckets are read.
const LATENCY: &str = "metadatad_http_request_duration_seconds_bucket";

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    pub(super) status: Status,
    pub(super) ports: Vec<PortStatus>,
    pub(super) counters: Vec<PortCounters>,
    /// Requests that took at most so many seconds.
    pub(super) latency: Vec<(f64, u64)>,
}

/// What happened between two readings, for each second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Requests answered.
    pub(super) requests: f64,
    /// Those of them with a status of 400 or above.
    pub(super) errors: f64,
    /// Connections accepted.
    pub(super) connections: f64,
    /// Connections refused.
    pub(super) refused: f64,
    /// Half of the requests took no longer, in seconds; absent: there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) median: Option<f64>,
    /// 99 of 100 took no longer, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slowest: Option<f64>,
    pub(super) taps: Vec<Tap>,
}

/// A tap, with packets for each second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Tap {
    /// Name of the interface.
    pub(super) tap: String,
    pub(super) state: State,
    /// The instance that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    /// Segments handed to the responder.
    pub(super) from_guest: f64,
    /// Segments handed to the guest.
    pub(super) to_guest: f64,
    /// Packets dropped, for whatever reason.
    pub(super) dropped: f64,
    /// The reason of most drops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// By what taps are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Most packets of both directions first.
    #[default]
    Traffic,
    /// Most drops first.
    Drops,
    /// By name.
    Name,
    /// Those that are not bound first.
    State,
}

impl Order {
    /// Returns the one after this.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Traffic => Self::Drops,
            Self::Drops => Self::Name,
            Self::Name => Self::State,
            Self::State => Self::Traffic,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Drops => "drops",
            Self::Name => "name",
            Self::State => "state",
        }
    }
}

/// Sorts taps; equal ones by name.
pub(super) fn sort(taps: &mut [Tap], order: Order) {
    let busy = |tap: &Tap| tap.from_guest + tap.to_guest + tap.dropped;
    taps.sort_by(|a, b| {
        let by = match order {
            Order::Traffic => busy(b).total_cmp(&busy(a)),
            Order::Drops => b.dropped.total_cmp(&a.dropped),
            Order::Name => std::cmp::Ordering::Equal,
            Order::State => (a.state == State::Bound).cmp(&(b.state == State::Bound)),
        };
        by.then_with(|| a.tap.cmp(&b.tap))
    });
}

/// Returns what happened from one reading to the next.
pub(super) fn rates(before: &Reading, after: &Reading, time: Duration) -> Rates {
    let seconds = time.as_secs_f64();
    // The same daemon, or one that began again.
    let same = before.status.started_at == after.status.started_at && before.status.pid == after.status.pid;
    let rate = |old: u64, new: u64| {
        let old = if same { old } else { 0 };
        let count = if new >= old { new - old } else { new };
        if seconds > 0.0 { as_f64(count) / seconds } else { 0.0 }
    };
    let (old, new) = (&before.status.http, &after.status.http);
    let sum = |answers: &BTreeMap<u16, u64>, least: u16| {
        answers.iter().filter(|(status, _)| **status >= least).map(|(_, count)| count).sum()
    };
    let refused = |http: &crate::admin::wire::Http| {
        http.refused_unknown + http.refused_port_limit + http.refused_instance_limit + http.refused_total_limit
    };
    let none = BTreeMap::new();
    let old_packets: BTreeMap<_, _> = before.counters.iter().map(|port| (port.ifindex, &port.packets)).collect();
    let new_packets: BTreeMap<_, _> = after.counters.iter().map(|port| (port.ifindex, &port.packets)).collect();
    let taps = after.ports.iter().map(|port| {
        let [old, new] =
            [&old_packets, &new_packets].map(|packets| packets.get(&port.ifindex).copied().unwrap_or(&none));
        let count = |packets: &BTreeMap<String, u64>, name: &str| packets.get(name).copied().unwrap_or_default();
        let of = |name: &str| rate(count(old, name), count(new, name));
        let drops = new.keys().filter(|name| !VERDICTS.contains(&name.as_str()));
        let drops: Vec<_> = drops.map(|name| (name, of(name))).filter(|(_, rate)| *rate > 0.0).collect();
        let most = drops.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        Tap {
            tap: port.name.clone(),
            state: port.state,
            instance: port.instance.clone(),
            from_guest: of("to_responder"),
            to_guest: of("to_guest"),
            dropped: drops.iter().map(|(_, rate)| rate).sum(),
            reason: most.map(|(name, _)| (*name).clone()),
        }
    });
    let took = between(if same { &before.latency } else { &[] }, &after.latency);
    Rates {
        requests: rate(sum(&old.answers, 0), sum(&new.answers, 0)),
        errors: rate(sum(&old.answers, 400), sum(&new.answers, 400)),
        connections: rate(old.accepted, new.accepted),
        refused: rate(refused(old), refused(new)),
        median: quantile(&took, 0.5),
        slowest: quantile(&took, 0.99),
        taps: taps.collect(),
    }
}

/// Reads the buckets of latency out of Prometheus's text format.
pub(super) fn latency(metrics: &str) -> Vec<(f64, u64)> {
    let buckets = metrics.lines().filter_map(|line| {
        let (bound, count) = line.strip_prefix(LATENCY)?.strip_prefix("{le=\"")?.split_once("\"} ")?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, count.trim().parse().ok()?))
    });
    buckets.collect()
}

/// Returns how many more there are in each bucket.
fn between(before: &[(f64, u64)], after: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let old =
        |bound: f64| before.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(0, |(_, count)| *count);
    after.iter().map(|(bound, count)| (*bound, count.saturating_sub(old(*bound)))).collect()
}

/// Returns the bound of the bucket in which this part of all is reached. Beyond the last bound it is that bound.
fn quantile(buckets: &[(f64, u64)], part: f64) -> Option<f64> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let wanted = as_f64(all) * part;
    let bound = buckets.iter().find(|(_, count)| as_f64(*count) >= wanted)?.0;
    let finite = buckets.iter().rev().map(|(bound, _)| *bound).find(|bound| bound.is_finite());
    if bound.is_finite() { Some(bound) } else { finite }
}

#[expect(clippy::cast_precision_loss, reason = "what is shown has four digits")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admin::Inspect as _;
    use crate::admin::server::tests::Sample;

    /// A node with taps of every kind.
    pub(in crate::cli::top) fn reading(counts: [u64; 3], answers: [u64; 2]) -> Reading {
        let [from_guest, to_guest, spoofed] = counts;
        let mut status = Sample.status();
        status.http.answers = [(200, answers[0]), (503, answers[1])].into();
        status.http.accepted = answers[0];
        let mut ports = Sample.ports();
        let held = PortStatus {
            ifindex: 6,
            tap: "tap2".to_owned(),
            name: "tap2".to_owned(),
            state: State::Held,
            instance: None,
            ..ports[0].clone()
        };
        ports.push(held);
        let packets = |values: [u64; 3]| {
            let names = ["to_responder", "to_guest", "spoofed_ip"];
            names.into_iter().zip(values).map(|(name, count)| (name.to_owned(), count)).collect()
        };
        let counters = [(5, "tap1", [from_guest, to_guest, spoofed]), (6, "tap2", [0, 0, spoofed * 3])];
        let counters = counters.map(|(ifindex, name, values)| PortCounters {
            ifindex,
            tap: name.to_owned(),
            name: name.to_owned(),
            packets: packets(values),
        });
        let latency = vec![(0.001, answers[0]), (0.01, answers[0]), (f64::INFINITY, answers[0] + answers[1])];
        Reading { status, ports, counters: counters.into(), latency }
    }

    #[test]
    fn rates_are_differences_for_each_second() {
        let (before, after) = (reading([10, 20, 1], [100, 0]), reading([30, 60, 5], [300, 2]));
        let rates = rates(&before, &after, Duration::from_secs(2));
        assert_eq!((rates.requests, rates.errors, rates.connections), (101.0, 1.0, 100.0));
        assert_eq!((rates.median, rates.slowest), (Some(0.001), Some(0.001)));
        let tap = &rates.taps[0];
        assert_eq!((tap.from_guest, tap.to_guest, tap.dropped), (10.0, 20.0, 2.0));
        assert_eq!(tap.reason.as_deref(), Some("spoofed_ip"));
        assert_eq!((rates.taps[1].state, rates.taps[1].dropped), (State::Held, 6.0));
    }

    #[test]
    fn counters_that_begin_again_and_no_time_give_no_nonsense() {
        let (before, mut after) = (reading([10, 20, 1], [100, 0]), reading([3, 4, 0], [5, 0]));
        assert_eq!(rates(&before, &after, Duration::from_secs(1)).taps[0].from_guest, 3.0);
        after.status.started_at += 1;
        let restarted = rates(&before, &after, Duration::from_secs(1));
        assert_eq!((restarted.requests, restarted.taps[0].to_guest), (5.0, 4.0));
        let at_once = rates(&before, &after, Duration::ZERO);
        assert_eq!((at_once.requests, at_once.median), (0.0, Some(0.001)));
        assert_eq!(rates(&Reading::default(), &Reading::default(), Duration::ZERO), Rates::default());
    }

    #[test]
    fn taps_are_sorted_as_asked() {
        let (before, after) = (reading([0, 0, 0], [0, 0]), reading([9, 9, 1], [0, 0]));
        let names = |order| {
            let mut taps = rates(&before, &after, Duration::from_secs(1)).taps;
            sort(&mut taps, order);
            taps.into_iter().map(|tap| tap.tap).collect::<Vec<_>>()
        };
        assert_eq!(names(Order::Traffic), ["tap1", "tap2"]);
        assert_eq!(names(Order::Drops), ["tap2", "tap1"]);
        assert_eq!(names(Order::Name), ["tap1", "tap2"]);
        assert_eq!(names(Order::State), ["tap2", "tap1"]);
        let all = [Order::Traffic, Order::Drops, Order::Name, Order::State];
        assert!(all.into_iter().zip(all.into_iter().cycle().skip(1)).all(|(one, next)| one.next() == next));
    }

    #[test]
    fn latency_is_read_of_the_metrics() {
        let text = "# TYPE x\nmetadatad_http_request_duration_seconds_bucket{le=\"0.5\"} 3\n\
                    metadatad_http_request_duration_seconds_bucket{le=\"+Inf\"} 4\nmetadatad_x 1\n";
        assert_eq!(latency(text), [(0.5, 3), (f64::INFINITY, 4)]);
        assert_eq!(quantile(&latency(text), 0.5), Some(0.5));
        assert_eq!(quantile(&latency(text), 0.99), Some(0.5), "no more is known than the last bound");
        assert_eq!(quantile(&[(1.0, 0)], 0.5), None);
    }
}
