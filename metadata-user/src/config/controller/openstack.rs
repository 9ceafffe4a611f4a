//! `[nova]` and `[neutron]`: the endpoints of the two APIs that the controller lists.

use crate::config::key::{OptionalKey, Table};
use crate::config::kind::Text;
use crate::config::refusal::{Fault, Refusal};
use crate::config::target::TargetUrl;
use crate::config::written::Reader;

pub(super) static NOVA_TABLE: Table = Table {
    name: "nova",
    about: "Nova's API, which instances and migrations are listed by.",
    keys: &[&NOVA_ENDPOINT],
    tables: &[],
    is_optional: false,
    live: &[],
};

pub(super) static NEUTRON_TABLE: Table = Table {
    name: "neutron",
    about: "Neutron's API, which ports are read from.",
    keys: &[&NEUTRON_ENDPOINT],
    tables: &[],
    is_optional: false,
    live: &[],
};

static NOVA_ENDPOINT: OptionalKey<Text<TargetUrl>> = OptionalKey {
    name: "endpoint",
    kind: ENDPOINT,
    unset: "as Keystone's catalogue has it",
    example: "\"https://nova.example:8774/v2.1\"",
    about: "Where Nova's API is.",
};

static NEUTRON_ENDPOINT: OptionalKey<Text<TargetUrl>> = OptionalKey {
    name: "endpoint",
    kind: ENDPOINT,
    unset: "as Keystone's catalogue has it",
    example: "\"https://neutron.example:9696\"",
    about: "Where Neutron's API is.",
};

pub(super) const ENDPOINT: Text<TargetUrl> = Text { what: "an http:// or https:// URL", check: endpoint };

fn endpoint(text: &str) -> Result<TargetUrl, Fault> {
    let remedy = "write it as \"https://host:port/path\"";
    let refuse = |problem: &str| Fault::new(format!("`{text}` is not an endpoint: {problem}"), remedy);
    let mut url = TargetUrl::parse(text).map_err(refuse)?;
    if url.path.contains('?') {
        return Err(refuse("it has a query"));
    }
    // Paths of the API begin with a slash.
    url.path.truncate(url.path.trim_end_matches('/').len());
    Ok(url)
}

pub(super) fn read_nova(table: &Reader<'_>) -> Result<Option<TargetUrl>, Refusal> {
    table.optional(&NOVA_ENDPOINT)
}

pub(super) fn read_neutron(table: &Reader<'_>) -> Result<Option<TargetUrl>, Refusal> {
    table.optional(&NEUTRON_ENDPOINT)
}
