//! `[rabbitmq]`: where Nova's and Neutron's notifications are consumed.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use crate::config::key::{Key, OptionalKey, Table};
use crate::config::kind::{AbsolutePath, List, Number, Seconds, Text};
use crate::config::refusal::{Fault, Refusal};
use crate::config::written::Reader;

/// `[rabbitmq]`, where it is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RabbitMq {
    /// File with one `amqp://` or `amqps://` URL a line, user and password included.
    pub urls_file: PathBuf,
    /// Name of our queue. A second queue and an exchange have `.dropped` and `.bound` behind it.
    pub queue: String,
    /// Nova's exchange.
    pub nova_exchange: String,
    /// Topics of Nova's notifications, without a priority.
    pub nova_topics: Vec<String>,
    /// Neutron's exchange.
    pub neutron_exchange: String,
    /// Topics of Neutron's notifications, without a priority.
    pub neutron_topics: Vec<String>,
    /// Most messages that wait in a queue; older ones are dropped.
    pub length_limit: u32,
    /// How long a queue without a consumer is kept.
    pub expiry: Duration,
    /// Certificates of the authorities that are trusted for amqps; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The controller's client certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

pub(super) static TABLE: Table = Table {
    name: "rabbitmq",
    about: "RabbitMQ, where Nova and Neutron send notifications. Without it changes are found by the reconcile alone, after \
            minutes. docs/controller.md has the options that Nova and Neutron need, docs/notifications.md the permissions at the broker.",
    keys: &[
        &URLS_FILE,
        &QUEUE,
        &NOVA_EXCHANGE,
        &NOVA_TOPICS,
        &NEUTRON_EXCHANGE,
        &NEUTRON_TOPICS,
        &LENGTH_LIMIT,
        &EXPIRY,
        &CA_FILE,
        &CERT_FILE,
        &KEY_FILE,
    ],
    tables: &[],
    is_optional: true,
    live: &[],
};

/// Longest name of a queue, an exchange or a topic: AMQP's short string (255 bytes), less what is added to it.
const LONGEST_NAME: usize = 200;

static URLS_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "urls_file",
    kind: AbsolutePath::Any,
    unset: "notifications are not consumed",
    example: "\"/etc/metadatad/controller/rabbitmq_urls\"",
    about: "File (mode 0600) with the brokers, one URL a line: amqp://user:password@host:5672/vhost, or amqps. One that fails is \
            left for the next. It is read at each connection.",
};

static QUEUE: Key<Text<String>> = Key {
    name: "queue",
    kind: NAME,
    default: "\"metadatad\"",
    about: "Name of the durable queue, which all controllers share and the leader consumes. A second queue and an exchange have `.dropped` \
            and `.bound` behind it.",
    reason: "The name of the program. Other consumers have queues of their own, and lose nothing.",
};

static NOVA_EXCHANGE: Key<Text<String>> = Key {
    name: "nova_exchange",
    kind: NAME,
    default: "\"nova\"",
    about: "Exchange of Nova's notifications.",
    reason: "Nova's `control_exchange`.",
};

static NOVA_TOPICS: Key<List<Text<String>>> = Key {
    name: "nova_topics",
    kind: List(NAME),
    default: "[\"versioned_notifications\"]",
    about: "Topics of Nova's notifications. A topic of their own keeps them apart from what other services consume.",
    reason: "Nova's `versioned_notifications_topics`.",
};

static NEUTRON_EXCHANGE: Key<Text<String>> = Key {
    name: "neutron_exchange",
    kind: NAME,
    default: "\"neutron\"",
    about: "Exchange of Neutron's notifications.",
    reason: "Neutron's `control_exchange`.",
};

static NEUTRON_TOPICS: Key<List<Text<String>>> = Key {
    name: "neutron_topics",
    kind: List(NAME),
    default: "[\"notifications\"]",
    about: "Topics of Neutron's notifications.",
    reason: "The `topics` of oslo.messaging.",
};

static LENGTH_LIMIT: Key<Number<u32>> = Key {
    name: "length_limit",
    kind: Number { least: 100, most: 10_000_000 },
    default: "100000",
    about: "Most messages that wait in a queue; beyond, the oldest are dropped, and everything is compared when the controller is back.",
    reason: "Some hundred megabytes at the broker, whatever happens to the controllers.",
};

static EXPIRY: Key<Seconds> = Key {
    name: "expiry",
    kind: Seconds(Number { least: 60, most: 604_800 }),
    default: "86400",
    about: "Seconds after which the broker removes a queue that nobody consumes.",
    reason: "A controller that was away for a day compares everything anyway.",
};

static CA_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "ca_file",
    kind: AbsolutePath::Any,
    unset: "the system's certificate authorities",
    example: "\"/etc/metadatad/controller/rabbitmq-ca.pem\"",
    about: "Certificates (PEM) of the authorities that are trusted for amqps.",
};

static CERT_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "cert_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/controller/rabbitmq-client.pem\"",
    about: "The controller's certificate (PEM), where the broker asks for one. Needs `key_file`.",
};

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/controller/rabbitmq-client-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `cert_file`.",
};

const NAME: Text<String> = Text { what: "1 to 200 printable ASCII characters without blanks", check: name };

fn name(text: &str) -> Result<String, Fault> {
    let possible = !text.is_empty()
        && text.len() <= LONGEST_NAME
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'*');
    if possible {
        return Ok(text.to_owned());
    }
    let remedy = format!("use 1 to {LONGEST_NAME} letters, digits, `-`, `_` or `.`");
    Err(Fault::new(format!("`{text}` is not a possible name"), remedy))
}

/// Returns the settings; `None` where no file of URLs is named.
pub(super) fn read(table: &Reader<'_>) -> Result<Option<RabbitMq>, Refusal> {
    let names = |key| {
        let list: Spanned<Vec<Spanned<String>>> = table.value(key)?;
        if list.get_ref().is_empty() {
            return Err(Fault::new("no topic", "write one, or remove the line to have the default").at(list.span()));
        }
        Ok(list.into_inner().into_iter().map(Spanned::into_inner).collect::<Vec<_>>())
    };
    let (nova_topics, neutron_topics) = (names(&NOVA_TOPICS)?, names(&NEUTRON_TOPICS)?);
    let (ca_file, identity) = (table.optional(&CA_FILE)?, table.both(&CERT_FILE, &KEY_FILE)?);
    let Some(urls_file) = table.optional(&URLS_FILE)? else {
        return match table.written() {
            Some(written) if !written.is_empty() => {
                let fault = Fault::new("no brokers", "write rabbitmq.urls_file, or remove [rabbitmq]");
                Err(fault.at(table.span()))
            }
            _ => Ok(None),
        };
    };
    Ok(Some(RabbitMq {
        urls_file,
        queue: table.value(&QUEUE)?,
        nova_exchange: table.value(&NOVA_EXCHANGE)?,
        nova_topics,
        neutron_exchange: table.value(&NEUTRON_EXCHANGE)?,
        neutron_topics,
        length_limit: table.value(&LENGTH_LIMIT)?,
        expiry: table.value(&EXPIRY)?,
        ca_file,
        identity,
    }))
}
