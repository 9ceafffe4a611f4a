//! `[http]`: time-outs and limits towards guests.

use std::time::Duration;

use super::key::{Key, Table};
use super::kind::{Number, TIMEOUT, Timeout};
use super::patience::{Client, Patience};
use super::refusal::Refusal;
use super::written::Reader;
use crate::policy::RequestRate;

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Longest time from the first byte of a request to the end of its head and body.
    pub request_timeout: Duration,
    /// Longest time in which a connection moves no byte.
    pub idle_timeout: Duration,
    /// Longest time that a request waits for content, at most half of the idle time-out, if its client is not listed; zero: no request
    /// waits.
    pub ready_timeout: Duration,
    /// How long requests of these clients wait instead.
    pub patience: Vec<Client>,
    /// Longest time that a connection is kept, whatever it does; zero: as long as it likes.
    pub connection_timeout: Duration,
    /// Longest time that requests in flight get when the daemon ends.
    pub drain_timeout: Duration,
    /// Connections of one port at a time.
    pub connections_per_port: usize,
    /// Connections of one instance at a time, all its ports together.
    pub connections_per_instance: usize,
    /// Connections in all at a time.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// Requests per second of one instance, in the long run; 0: as many as it likes.
    pub requests_per_second: u32,
    /// Requests of one instance at once, after a pause.
    pub request_burst: u32,
    /// Threads that answer guests.
    pub threads: usize,
}

impl Http {
    /// Returns how fast an instance may ask of which the document says nothing else.
    #[must_use]
    pub fn requests(&self) -> RequestRate {
        RequestRate { per_second: self.requests_per_second, burst: self.request_burst }
    }

    /// Returns what is accepted, and has another effect than it seems.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let (ready, half) = (self.ready_timeout, self.idle_timeout / 2);
        let mut warnings = Vec::new();
        if ready > half {
            warnings.push(format!(
                "http.ready_timeout: a request waits for {half:?} at most, half of http.idle_timeout: raise that, or lower this"
            ));
        }
        if ready.min(half) >= CLIENT_TIMEOUT {
            warnings.push(format!(
                "http.ready_timeout: many clients give a request {CLIENT_TIMEOUT:?}, and not all ask again after that: use less, \
                 so that they get a 503 and ask again, and list clients that can wait longer in http.patience"
            ));
        }
        for Client { agent, wait, .. } in &self.patience {
            if ready.is_zero() && !wait.is_zero() {
                warnings.push(format!(
                    "http.patience: requests of `{agent}` do not wait, as http.ready_timeout is \"0s\": raise that, or remove this"
                ));
            } else if *wait > half {
                warnings.push(format!(
                    "http.patience: requests of `{agent}` wait for {half:?} at most, half of http.idle_timeout: raise that, or lower \
                     this"
                ));
            }
            let is_impatient = IMPATIENT.iter().any(|name| agent.to_lowercase().starts_with(name));
            if is_impatient && (*wait).min(half) >= CLIENT_TIMEOUT {
                warnings.push(format!(
                    "http.patience: `{agent}` gives a request {CLIENT_TIMEOUT:?}: use less, so that it gets a 503 and asks again"
                ));
            }
        }
        warnings
    }
}

/// How long cloud-init's OpenStack source, Ignition and others wait for an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Beginnings of the User-Agents of those whose source a time-out ends.
const IMPATIENT: [&str; 2] = ["cloud-init", "ignition"];

pub(super) static TABLE: Table = Table {
    name: "http",
    about: "Time-outs and limits towards guests.",
    keys: &[
        &REQUEST_TIMEOUT,
        &IDLE_TIMEOUT,
        &READY_TIMEOUT,
        &PATIENCE,
        &CONNECTION_TIMEOUT,
        &DRAIN_TIMEOUT,
        &CONNECTIONS_PER_PORT,
        &CONNECTIONS_PER_INSTANCE,
        &CONNECTIONS,
        &HEAD_BYTES,
        &HEADERS,
        &TARGET_BYTES,
        &REQUESTS_PER_SECOND,
        &REQUEST_BURST,
        &THREADS,
    ],
    tables: &[],
    is_optional: false,
    live: &[
        "request_timeout",
        "idle_timeout",
        "ready_timeout",
        "patience",
        "connection_timeout",
        "drain_timeout",
        "connections_per_port",
        "connections_per_instance",
        "connections",
        "head_bytes",
        "headers",
        "target_bytes",
        "requests_per_second",
        "request_burst",
    ],
};

/// Most connections in all: what a process may have open files, on a usual system, halved.
const MOST_CONNECTIONS: usize = 524_288;
/// Most requests per second of an instance: more than a node answers in all.
const MOST_REQUESTS: u32 = 10_000_000;
/// Most threads that answer guests: more than any node has use for.
const MOST_THREADS: usize = 256;

static REQUEST_TIMEOUT: Key<Timeout> = Key {
    name: "request_timeout",
    kind: TIMEOUT,
    default: "\"10s\"",
    about: "Longest time from the first byte of a request to its last.",
    reason: "A guest sends its request in one segment; ten seconds are several retransmissions of it.",
};

static IDLE_TIMEOUT: Key<Timeout> = Key {
    name: "idle_timeout",
    kind: TIMEOUT,
    default: "\"30s\"",
    about: "Longest time in which a connection moves no byte; then it is closed.",
    reason: "As Neutron's haproxy (`timeout http-keep-alive 30s`): a script that leaves its connection open until the other \
             side closes it, as Node.js with the AWS SDK does, ends no later than with Neutron.",
};

static READY_TIMEOUT: Key<Timeout> = Key {
    name: "ready_timeout",
    kind: Timeout { zero: true, ..TIMEOUT },
    default: "\"9s\"",
    about: "Longest time that a request waits for content that has not arrived; then the answer is 503. Known clients and those in \
            `http.patience` have their own times (docs/clients.md has the table). \"0s\": no request waits. At most half of \
            `http.idle_timeout` is used.",
    reason: "Many clients give a request ten seconds, and some do not ask again after that, or not after a 503: nine seconds \
             serve most of them.",
};

static PATIENCE: Key<Patience> = Key {
    name: "patience",
    kind: Patience,
    default: "[]",
    about: "Clients whose requests wait longer or shorter: `agent`, the beginning of the User-Agent; `wait`, as `http.ready_timeout`; \
            `final = true` if the client gives up after a 503, but asks again after a connection that ended without an answer: \
            when the daemon stops, its connection is closed without one. The first match counts, before the built-in clients.",
    reason: "The clients that were measured are built in: docs/clients.md.",
};

static CONNECTION_TIMEOUT: Key<Timeout> = Key {
    name: "connection_timeout",
    kind: Timeout { zero: true, ..TIMEOUT },
    default: "\"0s\"",
    about: "Longest time that a connection is kept; then it is closed after the request that it has. \"0s\": as long as it \
            likes.",
    reason: "Neither Nova nor haproxy ends a connection that is in use; one that is idle ends anyway.",
};

static DRAIN_TIMEOUT: Key<Timeout> = Key {
    name: "drain_timeout",
    kind: TIMEOUT,
    default: "\"5s\"",
    about: "Longest time that requests in flight get when the daemon ends.",
    reason: "A megabyte to a slow guest is done in well under this, and a service manager waits longer.",
};

static CONNECTIONS_PER_PORT: Key<Number<usize>> = Key {
    name: "connections_per_port",
    kind: Number { least: 1, most: MOST_CONNECTIONS },
    default: "512",
    about: "Most connections of one port at a time; a document may set another number for its instance. For one beyond it, the connection that is idle longest is closed; where \
            all have a request, the new one is. Both are counted.",
    reason: "A container host is one port for all its pods, each of which may keep a connection: 110 by Kubernetes' default, \
             250 by OpenShift's, seldom more than 500. 8 MiB of memory are the most that one guest can take.",
};

static CONNECTIONS_PER_INSTANCE: Key<Number<usize>> = Key {
    name: "connections_per_instance",
    kind: Number { least: 1, most: MOST_CONNECTIONS },
    default: "1024",
    about: "Most connections of one instance at a time, all its ports together; a document may set another number for its \
            instance. For one beyond it, an idle connection of the same port is closed, else the new one is refused.",
    reason: "Twice what one port may have, and a sixteenth of the node's.",
};

static CONNECTIONS: Key<Number<usize>> = Key {
    name: "connections",
    kind: Number { least: 1, most: MOST_CONNECTIONS },
    default: "16384",
    about: "Most connections in all at a time. Beyond it, the port with most connections gives way.",
    reason: "32 ports with all that they may have, or 500 with 32 each; about 16 KiB of memory per connection in user space.",
};

static HEAD_BYTES: Key<Number<usize>> = Key {
    name: "head_bytes",
    // hyper takes no less; a connection's buffer in user space is as large.
    kind: Number { least: 8192, most: 65536 },
    default: "16384",
    about: "Most bytes of a request's head, with its target and all its header fields; beyond it the answer is 431.",
    reason: "As haproxy before Neutron's agents has it (`tune.bufsize`).",
};

static HEADERS: Key<Number<usize>> = Key {
    name: "headers",
    kind: Number { least: 16, most: 1000 },
    default: "100",
    about: "Most header fields of a request; beyond it the answer is 431.",
    reason: "As haproxy before Neutron's agents has it (`tune.http.maxhdr` is 101).",
};

static TARGET_BYTES: Key<Number<usize>> = Key {
    name: "target_bytes",
    kind: Number { least: 256, most: 65536 },
    default: "16384",
    about: "Most bytes of a request's target; beyond it the answer is 414.",
    reason: "As many as a head has: what fits into that is answered as Nova answers it. Its longest path that means \
             anything has some hundred.",
};

static REQUESTS_PER_SECOND: Key<Number<u32>> = Key {
    name: "requests_per_second",
    kind: Number { least: 0, most: MOST_REQUESTS },
    default: "1000",
    about: "Most requests per second of one instance in the long run, all its ports together; 0: no limit. A document may \
            set another number for its instance. A request beyond it waits 0.25 s, and is then answered with 429 and \
            `Retry-After: 1`.",
    reason: "Some hundred times what a guest with many agents asks, and two hundredths of a processor.",
};

static REQUEST_BURST: Key<Number<u32>> = Key {
    name: "request_burst",
    kind: Number { least: 1, most: MOST_REQUESTS },
    default: "4000",
    about: "Most requests of one instance at once, after a pause; a document may set another number for its instance.",
    reason: "A boot with cloud-init is about 30 requests in two seconds; a container host may start a hundred pods at once, \
             each with as many.",
};

static THREADS: Key<Number<usize>> = Key {
    name: "threads",
    kind: Number { least: 1, most: MOST_THREADS },
    default: "2",
    about: "Threads that answer guests.",
    reason: "A request is a look-up, so two threads answer a node's guests, and leave the other CPUs to the guests \
             themselves.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Http, Refusal> {
    Ok(Http {
        request_timeout: table.value(&REQUEST_TIMEOUT)?,
        idle_timeout: table.value(&IDLE_TIMEOUT)?,
        ready_timeout: table.value(&READY_TIMEOUT)?,
        patience: table.value(&PATIENCE)?,
        connection_timeout: table.value(&CONNECTION_TIMEOUT)?,
        drain_timeout: table.value(&DRAIN_TIMEOUT)?,
        connections_per_port: table.value(&CONNECTIONS_PER_PORT)?,
        connections_per_instance: table.value(&CONNECTIONS_PER_INSTANCE)?,
        connections: table.value(&CONNECTIONS)?,
        head_bytes: table.value(&HEAD_BYTES)?,
        headers: table.value(&HEADERS)?,
        target_bytes: table.value(&TARGET_BYTES)?,
        requests_per_second: table.value(&REQUESTS_PER_SECOND)?,
        request_burst: table.value(&REQUEST_BURST)?,
        threads: table.value(&THREADS)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let http = read(concat!(
            "[http]\nrequest_timeout = '500ms'\nidle_timeout = '2m'\ndrain_timeout = '1s'\nconnections = 9\n",
            "ready_timeout = '0s'\nconnections_per_port = 3\nthreads = 1\nconnections_per_instance = 5\n",
            "requests_per_second = 0\nrequest_burst = 7\nhead_bytes = 8192\nheaders = 16\ntarget_bytes = 256\n",
            "connection_timeout = '60m'\n",
        ))
        .expect("accepted")
        .http;
        assert_eq!(http.request_timeout, Duration::from_millis(500));
        assert_eq!((http.idle_timeout, http.ready_timeout), (Duration::from_secs(120), Duration::ZERO));
        assert_eq!((http.connections, http.connections_per_port, http.threads), (9, 3, 1));
        assert_eq!((http.connections_per_instance, http.requests_per_second, http.request_burst), (5, 0, 7));
        assert_eq!((http.head_bytes, http.headers, http.target_bytes), (8192, 16, 256));
        assert_eq!(http.connection_timeout, Duration::from_secs(3600));
    }

    #[test]
    fn a_wait_that_is_cut_or_longer_than_clients_wait_is_warned_of() {
        for (idle, ready, expected) in [
            ("30s", "5s", &[][..]),
            ("30s", "9900ms", &[]),
            ("30s", "0s", &[]),
            ("10s", "5s", &[]),
            ("8s", "5s", &["waits for 4s at most"]),
            ("30s", "10s", &["give a request 10s"]),
            ("30s", "15s", &["give a request 10s"]),
            ("30s", "16s", &["waits for 15s at most", "give a request 10s"]),
            ("16s", "9s", &["waits for 8s at most"]),
            ("18s", "12s", &["waits for 9s at most"]),
        ] {
            let text = format!("[http]\nidle_timeout = '{idle}'\nready_timeout = '{ready}'\n");
            let warnings = read(&text).expect("accepted").http.warnings();
            assert_eq!(warnings.len(), expected.len(), "{text}{warnings:?}");
            for (warning, expected) in warnings.iter().zip(expected) {
                assert!(warning.starts_with("http.ready_timeout: ") && warning.contains(expected), "{warning}");
            }
        }
    }

    #[test]
    fn patience_that_is_cut_or_that_a_client_has_not_is_warned_of() {
        for (keys, agent, wait, expected) in [
            ("", "Wget/", "15s", &[][..]),
            ("", "Wget/", "16s", &["of `Wget/` wait for 15s at most"]),
            ("", "Cloud-Init/26.2", "10s", &["`Cloud-Init/26.2` gives a request 10s"]),
            ("", "ignition", "16s", &["wait for 15s at most", "`ignition` gives a request 10s"]),
            ("ready_timeout = '0s'\n", "Wget/", "1s", &["do not wait, as http.ready_timeout is \"0s\""]),
            ("ready_timeout = '0s'\n", "Wget/", "0s", &[]),
        ] {
            let text = format!("[http]\n{keys}[[http.patience]]\nagent = '{agent}'\nwait = '{wait}'\n");
            let warnings = read(&text).expect("accepted").http.warnings();
            assert_eq!(warnings.len(), expected.len(), "{text}{warnings:?}");
            for (warning, expected) in warnings.iter().zip(expected) {
                assert!(warning.starts_with("http.patience: ") && warning.contains(expected), "{warning}");
            }
        }
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[http]\nidle_timeout = '1 day'", "m.toml:2:16", "not a possible time-out", "10s"),
            ("[http]\nidle_timeout = '0s'", "m.toml:2:16", "not a possible time-out", "10s"),
            (
                "[http]\nready_timeout = '0'",
                "m.toml:2:17",
                "not a possible time-out",
                "\"0s\", or \"100ms\" to \"60m\"",
            ),
            ("[http]\nconnections = -1", "m.toml:2:15", "-1 is out of range", "use 1 to"),
            ("[http]\nrequest_burst = 0", "m.toml:2:17", "0 is out of range", "use 1 to"),
            ("[http]\nthreads = '2'", "m.toml:2:11", "expected a number", "write a value"),
            ("[http]\nidle_timeout = 10", "m.toml:2:16", "expected a string in quotes", "write a value"),
            ("[http]\nthreads = 1\nthreads = 2", "m.toml:3:1", "duplicate key", "keep one"),
        ]);
    }
}
