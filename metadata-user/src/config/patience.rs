//! `http.patience`: how long the requests of each client wait for content that has not arrived.
//!
//! A client is recognised by the beginning of its User-Agent. [`BUILT_IN`] has those that were measured, unmodified, with late content;
//! the operator's entries take precedence. docs/clients.md has the same table, which a test compares.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::key::{Key, OptionalKey, Table};
use super::kind::{Kind, Switch, TIMEOUT, Text, Timeout};
use super::refusal::{Fault, Refusal};
use super::written::Reader;

/// A kind of client, and how long its requests wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Beginning of its User-Agent, compared without regard to case; empty: it sends none.
    pub agent: Cow<'static, str>,
    /// How long a request waits for content; then the answer is 503. Zero: not at all.
    pub wait: Duration,
    /// Whether it gives up after a 503, but asks again after a connection that ended without an answer.
    pub is_final: bool,
}

impl Client {
    const fn known(agent: &'static str, milliseconds: u64, is_final: bool) -> Self {
        Self { agent: Cow::Borrowed(agent), wait: Duration::from_millis(milliseconds), is_final }
    }

    /// Tells whether a request with this User-Agent is such a client's.
    #[must_use]
    pub fn is(&self, user_agent: Option<&[u8]>) -> bool {
        let agent = self.agent.as_bytes();
        match user_agent {
            None => agent.is_empty(),
            Some(text) => {
                !agent.is_empty() && text.get(..agent.len()).is_some_and(|start| start.eq_ignore_ascii_case(agent))
            }
        }
    }
}

/// A client, and what it was measured to do with a request that is not answered.
#[derive(Clone, Debug)]
pub struct Known {
    /// How long its requests wait.
    pub client: Client,
    /// Its name.
    pub name: &'static str,
    /// Its own time-outs, and what it does after one and after a 503.
    pub behaviour: &'static str,
}

const fn known(client: Client, name: &'static str, behaviour: &'static str) -> Known {
    Known { client, name, behaviour }
}

/// Known clients. A client that gives up after its time-out is answered a moment before; for one that asks again after its time-out but not
/// after a 503, the request waits longer than that.
pub static BUILT_IN: [Known; 10] = [
    known(
        Client::known("Cloud-Init/", 9000, false),
        "cloud-init",
        "10 s for its OpenStack source, which gives up after a time-out; after a 503, 25.1 and later retry without limit, earlier ones give up",
    ),
    known(Client::known("Ignition/", 9000, false), "Ignition", "10 s; retries without limit"),
    known(Client::known("ansible-httpget", 9000, false), "Ansible", "10 s; retries once after 3 s, also after a 503"),
    known(
        Client::known("Ruby", 15_000, true),
        "Facter, Ohai",
        "Facter 5 s, Ohai 10 s; each retries once after a time-out or a lost connection, and gives up after a 503",
    ),
    known(Client::known("Wget/", 15_000, true), "wget, and NixOS with it", "900 s; gives up after a 503"),
    known(Client::known("Go-http-client/", 15_000, true), "programs in Go", "none of its own; gives up after a 503"),
    known(Client::known("Botocore/", 900, true), "botocore", "1 s, asks once"),
    known(Client::known("Boto3/", 900, true), "boto3", "1 s, asks once"),
    known(Client::known("aws-cli/", 900, true), "AWS CLI", "1 s, asks once"),
    known(Client::known("node-fetch", 2900, true), "gcp-metadata, which looks for another cloud", "3 s, asks once"),
];

/// Most bytes of a User-Agent that are compared.
const LONGEST: usize = 64;
/// Most entries: each request that waits is compared with all.
const MOST: usize = 64;

static ENTRY: Table = Table {
    name: "http.patience",
    about: "A client, and how long its requests wait.",
    keys: &[&AGENT, &WAIT, &FINAL],
    tables: &[],
    live: &[],
    is_optional: true,
};

static AGENT: OptionalKey<Text<String>> = OptionalKey {
    name: "agent",
    kind: Text { what: "at most 64 printable ASCII characters; empty: clients that send no User-Agent", check: agent },
    unset: "required",
    example: "\"Wget/\"",
    about: "Beginning of its User-Agent, compared without regard to case.",
};

static WAIT: OptionalKey<Timeout> = OptionalKey {
    name: "wait",
    kind: Timeout { zero: true, ..TIMEOUT },
    unset: "required",
    example: "\"20s\"",
    about: "How long its requests wait; then the answer is 503.",
};

static FINAL: Key<Switch> = Key {
    name: "final",
    kind: Switch,
    default: "false",
    about: "Whether it gives up after a 503, but asks again after a connection that ended without an answer.",
    reason: "A 503 says when to ask again.",
};

fn agent(text: &str) -> Result<String, Fault> {
    if text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(text.to_owned());
    }
    let remedy = format!("write at most {LONGEST} printable ASCII characters");
    Err(Fault::new(format!("`{text}` is not the beginning of a User-Agent"), remedy))
}

/// The list.
pub(super) struct Patience;

impl Kind for Patience {
    type Value = Vec<Client>;

    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<Self::Value, Refusal> {
        let list = written.get_ref().as_array().ok_or_else(|| Refusal::of_type(written, "tables [[http.patience]]"))?;
        if list.len() > MOST {
            let fault = Fault::new(format!("{} clients are too many", list.len()), format!("name at most {MOST}"));
            return Err(fault.at(written.span()));
        }
        list.iter().map(client).collect()
    }

    fn describe(&self) -> String {
        let keys = ENTRY.keys.iter().map(|key| format!("`{}` ({})", key.name(), key.kind()));
        format!("at most {MOST} tables of {}", keys.collect::<Vec<_>>().join(", "))
    }

    fn schema(&self) -> Value {
        let keys = ENTRY.keys.iter().map(|key| {
            let mut schema = key.schema();
            schema["description"] = json!(key.about());
            (key.name().to_owned(), schema)
        });
        let entry = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": keys.collect::<serde_json::Map<_, _>>(),
            "required": [AGENT.name, WAIT.name],
        });
        json!({ "type": "array", "maxItems": MOST, "items": entry })
    }
}

fn client(written: &Spanned<DeValue<'_>>) -> Result<Client, Refusal> {
    let table = written.get_ref().as_table().ok_or_else(|| Refusal::of_type(written, "a table [[http.patience]]"))?;
    let reader = Reader::of(table, &ENTRY, written.span())?;
    let missing = |key: &str, example: &str| {
        Fault::new(format!("http.patience without {key}"), format!("write {key}, for example {key} = {example}"))
            .at(written.span())
    };
    Ok(Client {
        agent: reader.optional(&AGENT)?.ok_or_else(|| missing(AGENT.name, AGENT.example))?.into(),
        wait: reader.optional(&WAIT)?.ok_or_else(|| missing(WAIT.name, WAIT.example))?,
        is_final: reader.value(&FINAL)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refuses};

    fn one(text: &str) -> Client {
        let [client] = <[Client; 1]>::try_from(read(text).expect("accepted").http.patience).expect("one");
        client
    }

    #[test]
    fn a_client_is_told_by_how_its_user_agent_begins() {
        let wget = Client::known("Wget/", 0, true);
        for (user_agent, expected) in [
            (Some("Wget/1.21.3"), true),
            (Some("wget/1"), true),
            (Some("Wget"), false),
            (Some("curl Wget/1"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(wget.is(user_agent.map(str::as_bytes)), expected, "{user_agent:?}");
        }
        let silent = Client::known("", 0, true);
        assert_eq!([None, Some(&b"x"[..]), Some(b"")].map(|agent| silent.is(agent)), [true, false, false]);
    }

    #[test]
    fn both_ways_to_write_it_are_read() {
        let expected = Client { agent: "Wget/".into(), wait: Duration::from_secs(20), is_final: true };
        for text in [
            "[[http.patience]]\nagent = 'Wget/'\nwait = '20s'\nfinal = true\n",
            "[http]\npatience = [{ agent = 'Wget/', wait = '20s', final = true }]\n",
        ] {
            assert_eq!(one(text), expected, "{text}");
        }
        let short = one("[[http.patience]]\nagent = ''\nwait = '0s'\n");
        assert_eq!((short.wait, short.is_final), (Duration::ZERO, false));
        assert_eq!(read("").expect("accepted").http.patience, []);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        let many = format!("[http]\npatience = [{}]", "{ agent = 'a', wait = '1s' }, ".repeat(MOST + 1));
        refuses(&[
            ("[http]\npatience = 'Wget'", "m.toml:2:12", "expected tables [[http.patience]]", "write a value"),
            ("[http]\npatience = ['Wget']", "m.toml:2:13", "expected a table", "write a value"),
            ("[http]\npatience = [{ agent = 'a' }]", "m.toml:2:13", "without wait", "wait = \"20s\""),
            ("[http]\npatience = [{ wait = '1s' }]", "m.toml:2:13", "without agent", "agent = \"Wget/\""),
            ("[[http.patience]]\nagent = 'a'\nwait = '1'", "m.toml:3:8", "not a possible time-out", "\"0s\""),
            ("[[http.patience]]\nagent = 'ä'\nwait = '1s'", "m.toml:2:9", "not the beginning of a User-Agent", "ASCII"),
            ("[[http.patience]]\nagent = 'a'\nwaits = '1s'", "m.toml:3:1", "unknown field `waits`", "correct the name"),
            (&many, "m.toml:2:12", "65 clients are too many", "at most 64"),
        ]);
    }

    #[test]
    fn examples_are_accepted() {
        ENTRY.keys.iter().for_each(|key| assert_eq!(key.check_example(), Ok(()), "{}", key.name()));
    }

    /// Built-in entries are in the order in which they are tried, and none hides another.
    #[test]
    fn each_known_client_is_found_by_its_own_entry() {
        for (at, known) in BUILT_IN.iter().enumerate() {
            let found = BUILT_IN.iter().position(|other| other.client.is(Some(known.client.agent.as_bytes())));
            assert_eq!(found, Some(at), "{}", known.name);
        }
    }

    #[test]
    fn the_documentation_has_the_same_clients() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
        let page = std::fs::read_to_string(path).expect("docs/clients.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = BUILT_IN
            .iter()
            .map(|Known { client, name, behaviour }| {
                let ends = if client.is_final { "yes" } else { "no" };
                format!("| `{}` | {name} | {:?} | {ends} | {behaviour} |", client.agent, client.wait)
            })
            .collect();
        assert_eq!(rows, expected, "write these rows:\n{}", expected.join("\n"));
    }
}
