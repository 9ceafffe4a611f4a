//! A record as a line of JSON, and as an entry of the systemd journal.

use std::time::SystemTime;

use jiff::{Timestamp, Unit};

use super::record::{Connection, Dropped, Fields, Record, Request};

/// Appends the record as one line of JSON.
pub(super) fn json(record: &Record, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut fields = Json { out, is_first: true };
    fields.text("time", &time(record.at()));
    record.fields(&mut fields);
    out.extend_from_slice(b"}\n");
}

/// Returns a time as RFC 3339 has it, UTC, with milliseconds.
fn time(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).and_then(|at| at.round(Unit::Millisecond)).unwrap_or_default();
    format!("{at:.3}")
}

struct Json<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Json<'_> {
    /// Writes the name of a member; all names are plain words.
    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(if self.is_first { b"\"" } else { b",\"" });
        self.is_first = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, value: &str) {
        // A vector takes whatever is written.
        let _ = serde_json::to_writer(&mut *self.out, value);
    }
}

impl Fields for Json<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.string(value);
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    fn names(&mut self, name: &'static str, values: &mut dyn Iterator<Item = &'static str>) {
        self.name(name);
        let mut separator = b'[';
        for value in values {
            self.out.push(separator);
            self.string(value);
            separator = b',';
        }
        self.out.push(b']');
    }
}

/// Returns the record as journald's socket takes it (systemd's "Native Journal Protocol"): a line per field, since no
/// value has a line break.
pub(super) fn journal(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"MESSAGE=");
    out.extend_from_slice(message(record).as_bytes());
    // 6: informational; 4: a warning.
    let priority = if matches!(record, Record::Lost { .. }) { "4" } else { "6" };
    let mut fields = Journal { out };
    fields.line("\n", "PRIORITY", priority);
    fields.line("", "SYSLOG_IDENTIFIER", "metadatad-audit");
    fields.text("time", &time(record.at()));
    record.fields(&mut fields);
}

/// Says for people what a record is about.
fn message(record: &Record) -> String {
    match record {
        Record::Request(Request { method, path, status, .. }) => {
            let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            format!("{} {}: {status}", method.as_str(), path.as_str())
        }
        Record::Connection(Connection { event, .. }) => format!("connection: {event}"),
        Record::Dropped(Dropped { tap, reason, count, .. }) => {
            format!("{}: packets dropped: {reason}, {count}", tap.as_str())
        }
        Record::Lost { queue_full, write_failed, .. } => {
            format!("{} audit records are missing", queue_full + write_failed)
        }
    }
}

struct Journal<'a> {
    out: &'a mut Vec<u8>,
}

impl Journal<'_> {
    fn line(&mut self, prefix: &str, name: &str, value: &str) {
        self.out.extend_from_slice(prefix.as_bytes());
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'=');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'\n');
    }
}

impl Fields for Journal<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.line("METADATAD_", &name.to_ascii_uppercase(), value);
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.text(name, &value.to_string());
    }

    fn names(&mut self, name: &'static str, values: &mut dyn Iterator<Item = &'static str>) {
        // A field may be there several times.
        values.for_each(|value| self.text(name, value));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use uuid::Uuid;

    use super::*;
    use crate::audit::anomaly::{Anomalies, Anomaly};
    use crate::audit::record::{Subject, TokenMode};
    use crate::audit::text::Text;
    use crate::record::{InstanceId, PortId};

    pub(in crate::audit) fn request(path: &str) -> Record {
        let subject = Subject {
            tag: 7,
            instance: Some(InstanceId(Uuid::from_u128(1))),
            project: Some("p\"\n".into()),
            port: Some(PortId(Uuid::from_u128(2))),
            source: Some(("10.0.0.5".parse().expect("an address"), 40_000)),
            generation: Some(3),
        };
        Record::Request(Request {
            at: UNIX_EPOCH + Duration::from_micros(1_764_000_000_123_456),
            subject,
            method: Text::escaped(b"GET"),
            path: Text::escaped(path.as_bytes()),
            has_query: true,
            status: Some(200),
            bytes: 12,
            token: TokenMode::None,
            token_id: Some(uuid::Uuid::from_u128(3)),
            user_agent: Some(Text::escaped(b"curl/8\r\nX: \"y\"")),
            anomalies: [Anomaly::OddHost, Anomaly::ForwardedHeader].into_iter().collect(),
            left_out: 0,
        })
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_the_guest_wrote() {
        let mut out = Vec::new();
        json(&request("/a\"b\n"), &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "{\"time\":\"2025-11-24T16:00:00.123Z\",\"kind\":\"request\",\
             \"instance\":\"00000000-0000-0000-0000-000000000001\",\"project\":\"p\\\"\\\\x0a\",\
             \"port\":\"00000000-0000-0000-0000-000000000002\",\"tag\":7,\"family\":\"ipv4\",\"address\":\"10.0.0.5\",\
             \"source_port\":40000,\"method\":\"GET\",\"path\":\"/a\\\"b\\\\x0a\",\"query\":\"left_out\",\"status\":200,\
             \"bytes\":12,\"token\":\"none\",\"token_id\":\"00000000-0000-0000-0000-000000000003\",\"generation\":3,\"user_agent\":\"curl/8\\\\x0d\\\\x0aX: \\\"y\\\"\",\
             \"anomalies\":[\"forwarded_header\",\"odd_host\"]}\n"
        );
    }

    #[test]
    fn every_kind_of_record_is_json_and_names_what_it_has() {
        let subject = Subject::default();
        let (at, anomalies) = (UNIX_EPOCH, Anomalies::default());
        for (record, expected) in [
            (
                Record::Connection(Connection {
                    at,
                    subject: Subject { source: Some(("fe80::1".parse().expect("an address"), 1)), ..subject.clone() },
                    event: "malformed",
                    anomalies,
                    left_out: 4,
                }),
                r#"{"time":"1970-01-01T00:00:00.000Z","kind":"connection","family":"ipv6","address":"fe80::1","source_port":1,"event":"malformed","left_out":4}"#,
            ),
            (
                Record::Dropped(Dropped {
                    at,
                    subject: subject.clone(),
                    tap: Text::escaped(b"tap1"),
                    reason: "spoofed_mac",
                    mac: Text::escaped(b"fa:16:3e:00:00:01"),
                    claimed: Text::escaped(b"10.0.0.6"),
                    count: 8,
                }),
                r#"{"time":"1970-01-01T00:00:00.000Z","kind":"dropped","tap":"tap1","reason":"spoofed_mac","mac":"fa:16:3e:00:00:01","claimed_address":"10.0.0.6","count":8}"#,
            ),
            (
                Record::Lost { at, queue_full: 1, write_failed: 2 },
                r#"{"time":"1970-01-01T00:00:00.000Z","kind":"lost","queue_full":1,"write_failed":2}"#,
            ),
        ] {
            let mut out = Vec::new();
            json(&record, &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), format!("{expected}\n"));
        }
    }

    #[test]
    fn the_journal_gets_a_line_per_field() {
        let mut out = Vec::new();
        journal(&request("/a\nMESSAGE=forged"), &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text").lines().collect::<Vec<_>>(),
            [
                "MESSAGE=GET /a\\x0aMESSAGE=forged: 200",
                "PRIORITY=6",
                "SYSLOG_IDENTIFIER=metadatad-audit",
                "METADATAD_TIME=2025-11-24T16:00:00.123Z",
                "METADATAD_KIND=request",
                "METADATAD_INSTANCE=00000000-0000-0000-0000-000000000001",
                "METADATAD_PROJECT=p\"\\x0a",
                "METADATAD_PORT=00000000-0000-0000-0000-000000000002",
                "METADATAD_TAG=7",
                "METADATAD_FAMILY=ipv4",
                "METADATAD_ADDRESS=10.0.0.5",
                "METADATAD_SOURCE_PORT=40000",
                "METADATAD_METHOD=GET",
                "METADATAD_PATH=/a\\x0aMESSAGE=forged",
                "METADATAD_QUERY=left_out",
                "METADATAD_STATUS=200",
                "METADATAD_BYTES=12",
                "METADATAD_TOKEN=none",
                "METADATAD_TOKEN_ID=00000000-0000-0000-0000-000000000003",
                "METADATAD_GENERATION=3",
                "METADATAD_USER_AGENT=curl/8\\x0d\\x0aX: \"y\"",
                "METADATAD_ANOMALIES=forwarded_header",
                "METADATAD_ANOMALIES=odd_host",
            ]
        );
    }
}
