//! `[cloud]`: what all instances have in common. Keys are named as Nova's options.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::key::{Key, OptionalKey, Table};
use super::kind::{AbsolutePath, Choice, List, Number, Seconds, Text};
use super::refusal::{Fault, Refusal};
use super::target::{Target, TargetUrl, Targets};
use super::written::Reader;

/// `[cloud]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Nova's `dhcp_domain`: appended to every host name; empty for none.
    pub dhcp_domain: String,
    /// Nova's `vendordata_providers`, in order.
    pub vendordata_providers: Vec<VendordataProvider>,
    /// Nova's `vendordata_jsonfile_path`.
    pub vendordata_jsonfile_path: Option<PathBuf>,
    /// The options whose names start with `vendordata_dynamic_`.
    pub vendordata_dynamic: VendordataDynamic,
}

/// The options with names that start with `vendordata_dynamic_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendordataDynamic {
    /// Nova's `vendordata_dynamic_targets`, as written, in order.
    pub targets: Vec<String>,
    /// Those of them that Nova asks, in order.
    pub asked: Vec<Target>,
    /// Those of them that Nova skips: without `@`, or with a name that came before.
    pub skipped: Vec<String>,
    /// Nova's `vendordata_dynamic_connect_timeout`: longest time until a request can be sent.
    pub connect_timeout: Duration,
    /// Nova's `vendordata_dynamic_read_timeout`: longest time from the request to the end of its answer.
    pub read_timeout: Duration,
    /// Nova's `vendordata_dynamic_ssl_certfile`: authorities that are trusted for https instead of the system's.
    pub ssl_certfile: Option<PathBuf>,
    /// The certificate with which this node authenticates to services over https, and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Age at which an answer is asked for again; `None`: until the instance's document changes.
    pub refresh: Option<Duration>,
    /// Most bytes of an answer.
    pub body_limit: usize,
    /// Most requests in flight, to all targets together.
    pub requests: usize,
}

/// A provider of vendor data, as Nova names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendordataProvider {
    /// The file `vendordata_jsonfile_path`.
    StaticJson,
    /// Answers of services, the targets.
    DynamicJson,
}

impl Cloud {
    /// Returns the targets as written that are asked ahead of time, or skipped.
    #[must_use]
    pub fn targets_ahead(&self) -> Vec<String> {
        let dynamic = &self.vendordata_dynamic;
        let on_demand = |written: &String| {
            let named = |target: &&Target| written.split_once('@').is_some_and(|(name, _)| *name == target.name);
            dynamic.asked.iter().find(named).is_some_and(|target| target.is_on_demand)
        };
        dynamic.targets.iter().filter(|written| !on_demand(written)).cloned().collect()
    }

    /// Returns the targets that are asked: none unless `DynamicJSON` is among the providers.
    #[must_use]
    pub fn asked_targets(&self) -> &[Target] {
        let is_provided = self.vendordata_providers.contains(&VendordataProvider::DynamicJson);
        if is_provided { &self.vendordata_dynamic.asked } else { &[] }
    }

    /// Describes settings that have no effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let dynamic = &self.vendordata_dynamic;
        let skipped = dynamic.skipped.iter().map(|target| {
            format!(
                "cloud.vendordata_dynamic_targets: `{target}` is skipped, as Nova does: write it as name@url, with a \
                 name that no other target has"
            )
        });
        let mut warnings: Vec<_> = skipped.collect();
        if self.asked_targets().len() < dynamic.asked.len() {
            warnings.push(
                "cloud.vendordata_dynamic_targets are not asked: add \"DynamicJSON\" to cloud.vendordata_providers"
                    .to_owned(),
            );
        }
        warnings
    }
}

pub(super) static TABLE: Table = Table {
    name: "cloud",
    about: "What all instances have in common. Keys that Nova has too are named as its options in nova.conf, and mean the \
            same.",
    keys: &[
        &DHCP_DOMAIN,
        &VENDORDATA_PROVIDERS,
        &VENDORDATA_JSONFILE_PATH,
        &VENDORDATA_DYNAMIC_TARGETS,
        &VENDORDATA_DYNAMIC_ON_DEMAND,
        &VENDORDATA_DYNAMIC_CONNECT_TIMEOUT,
        &VENDORDATA_DYNAMIC_READ_TIMEOUT,
        &VENDORDATA_DYNAMIC_SSL_CERTFILE,
        &VENDORDATA_DYNAMIC_CLIENT_CERTFILE,
        &VENDORDATA_DYNAMIC_CLIENT_KEYFILE,
        &VENDORDATA_DYNAMIC_REFRESH_INTERVAL,
        &VENDORDATA_DYNAMIC_BODY_LIMIT,
        &VENDORDATA_DYNAMIC_REQUESTS,
    ],
    tables: &[],
    is_optional: false,
    live: &[],
};

/// Longest time-out of a request for vendor data, in seconds: beyond, a place among the requests in flight is lost.
const LONGEST_TARGET_TIMEOUT: u64 = 600;
/// Longest refresh interval, in seconds: a day.
const LONGEST_REFRESH: u64 = 86_400;
/// Largest limit of an answer: 16 MiB for each instance and target is more than any node has.
const LARGEST_BODY: usize = 16 << 20;
/// Most requests for vendor data in flight: beyond, they wait for the targets anyway.
const MOST_REQUESTS: usize = 1024;

static DHCP_DOMAIN: Key<Text<String>> = Key {
    name: "dhcp_domain",
    kind: Text { what: "a domain without a dot before it, or empty", check: domain },
    default: "\"novalocal\"",
    about: "Domain that is appended to every host name; empty for none.",
    reason: "Nova's default.",
};

static VENDORDATA_PROVIDERS: Key<List<Choice<VendordataProvider>>> = Key {
    name: "vendordata_providers",
    kind: List(Choice(&[
        ("StaticJSON", VendordataProvider::StaticJson),
        ("DynamicJSON", VendordataProvider::DynamicJson),
    ])),
    default: "[\"StaticJSON\"]",
    about: "Where vendor data comes from: \"StaticJSON\" is the file `cloud.vendordata_jsonfile_path`, \"DynamicJSON\" are \
            the services `cloud.vendordata_dynamic_targets`.",
    reason: "Nova's default.",
};

static VENDORDATA_JSONFILE_PATH: OptionalKey<AbsolutePath> = OptionalKey {
    name: "vendordata_jsonfile_path",
    kind: AbsolutePath::Any,
    unset: "no static vendor data",
    example: "\"/etc/metadatad/vendor_data.json\"",
    about: "File of the static vendor data, in JSON. Read at the start.",
};

static VENDORDATA_DYNAMIC_TARGETS: Key<List<Text<String>>> = Key {
    name: "vendordata_dynamic_targets",
    kind: List(Text { what: "name@url, with http or https", check: |text| Ok(text.to_owned()) }),
    default: "[]",
    about: "With \"DynamicJSON\" among the providers, these services are asked for each instance, ahead of time. Guests read \
            the last good answers, and never wait for a service.",
    reason: "Nova's default.",
};

static VENDORDATA_DYNAMIC_ON_DEMAND: Key<List<Text<String>>> = Key {
    name: "vendordata_dynamic_on_demand",
    kind: List(Text { what: "the name of a target", check: |text| Ok(text.to_owned()) }),
    default: "[]",
    about: "Targets that are asked each time a guest reads `vendor_data2.json`, by name: for answers that may be used once, or \
            not for long, such as attestation tokens. Each answer is given to one request, is kept nowhere, and is no part of a \
            snapshot or a config drive. Where there is none in time, guests read `{}` under that name.",
    reason: "A guest that reads such a target waits for a service.",
};

static VENDORDATA_DYNAMIC_CONNECT_TIMEOUT: Key<Seconds> = Key {
    name: "vendordata_dynamic_connect_timeout",
    kind: Seconds(Number { least: 1, most: LONGEST_TARGET_TIMEOUT }),
    default: "5",
    about: "Seconds until a request can be sent.",
    reason: "Nova's default.",
};

static VENDORDATA_DYNAMIC_READ_TIMEOUT: Key<Seconds> = Key {
    name: "vendordata_dynamic_read_timeout",
    kind: Seconds(Number { least: 1, most: LONGEST_TARGET_TIMEOUT }),
    default: "5",
    about: "Seconds from then until the answer is complete.",
    reason: "Nova's default.",
};

static VENDORDATA_DYNAMIC_SSL_CERTFILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "vendordata_dynamic_ssl_certfile",
    kind: AbsolutePath::Any,
    unset: "the system's certificate authorities",
    example: "\"/etc/metadatad/ca.pem\"",
    about: "Certificates (PEM) of the authorities that are trusted for https. Read again when the file changes.",
};

static VENDORDATA_DYNAMIC_CLIENT_CERTFILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "vendordata_dynamic_client_certfile",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/var/lib/spire/svid.pem\"",
    about: "Certificate (PEM, with its chain) with which this node authenticates to services over https. Needs \
            `vendordata_dynamic_client_keyfile`. Read again when the file changes.",
};

static VENDORDATA_DYNAMIC_CLIENT_KEYFILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "vendordata_dynamic_client_keyfile",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/var/lib/spire/svid-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `vendordata_dynamic_client_certfile`.",
};

static VENDORDATA_DYNAMIC_REFRESH_INTERVAL: Key<Seconds> = Key {
    name: "vendordata_dynamic_refresh_interval",
    kind: Seconds(Number { least: 0, most: LONGEST_REFRESH }),
    default: "300",
    about: "Seconds after which an answer is asked for again; 0: only when the instance's document changes.",
    reason: "Guests read vendor data at boot; five minutes keep a service that many nodes ask from being asked all the time.",
};

static VENDORDATA_DYNAMIC_BODY_LIMIT: Key<Number<usize>> = Key {
    name: "vendordata_dynamic_body_limit",
    kind: Number { least: 1, most: LARGEST_BODY },
    default: "1048576",
    about: "Most bytes of an answer.",
    reason: "Far above what a guest has use for, and little enough for a node's memory.",
};

static VENDORDATA_DYNAMIC_REQUESTS: Key<Number<usize>> = Key {
    name: "vendordata_dynamic_requests",
    kind: Number { least: 1, most: MOST_REQUESTS },
    default: "8",
    about: "Most requests in flight, to all services together.",
    reason: "A thousand instances are done in seconds, and a thousand nodes that start together do not drown a service.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Cloud, Refusal> {
    let providers = table.value(&VENDORDATA_PROVIDERS)?.into_inner();
    let targets = table.value(&VENDORDATA_DYNAMIC_TARGETS)?.into_inner();
    let on_demand = table.value(&VENDORDATA_DYNAMIC_ON_DEMAND)?.into_inner();
    let (asked, skipped) = select(&targets, &on_demand)?;
    let client = table.both(&VENDORDATA_DYNAMIC_CLIENT_CERTFILE, &VENDORDATA_DYNAMIC_CLIENT_KEYFILE)?;
    let refresh = table.value(&VENDORDATA_DYNAMIC_REFRESH_INTERVAL)?;
    Ok(Cloud {
        dhcp_domain: table.value(&DHCP_DOMAIN)?,
        vendordata_providers: providers.into_iter().map(Spanned::into_inner).collect(),
        vendordata_jsonfile_path: table.optional(&VENDORDATA_JSONFILE_PATH)?,
        vendordata_dynamic: VendordataDynamic {
            targets: targets.into_iter().map(Spanned::into_inner).collect(),
            asked,
            skipped,
            connect_timeout: table.value(&VENDORDATA_DYNAMIC_CONNECT_TIMEOUT)?,
            read_timeout: table.value(&VENDORDATA_DYNAMIC_READ_TIMEOUT)?,
            ssl_certfile: table.optional(&VENDORDATA_DYNAMIC_SSL_CERTFILE)?,
            client,
            refresh: (!refresh.is_zero()).then_some(refresh),
            body_limit: table.value(&VENDORDATA_DYNAMIC_BODY_LIMIT)?,
            requests: table.value(&VENDORDATA_DYNAMIC_REQUESTS)?,
        },
    })
}

/// Returns the targets that are asked, and those that are skipped.
fn select(written: &[Spanned<String>], on_demand: &[Spanned<String>]) -> Result<(Vec<Target>, Vec<String>), Refusal> {
    let mut targets = Targets::default();
    let (mut asked, mut skipped) = (Vec::new(), Vec::new());
    for target in written {
        match targets.split(target.get_ref()) {
            Some((name, url)) => {
                let url = TargetUrl::parse(url).map_err(|problem| {
                    let problem = format!("`{}` cannot be asked: {problem}", target.get_ref());
                    Fault::new(problem, "write it as \"name@http://host:port/path\"").at(target.span())
                })?;
                let is_on_demand = on_demand.iter().any(|named| named.get_ref() == name);
                asked.push(Target { name: name.to_owned(), url, is_on_demand });
            }
            None => skipped.push(target.get_ref().clone()),
        }
    }
    let is_asked = |name: &str| asked.iter().any(|target| target.name == name);
    if let Some(unknown) = on_demand.iter().find(|name| !is_asked(name.get_ref())) {
        let problem = format!("no target has the name `{}`", unknown.get_ref());
        let remedy = "name one of cloud.vendordata_dynamic_targets, without @ and URL";
        return Err(Fault::new(problem, remedy).at(unknown.span()));
    }
    Ok((asked, skipped))
}

fn domain(text: &str) -> Result<String, Fault> {
    let possible = text.len() <= 253
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if possible {
        return Ok(text.to_owned());
    }
    let remedy = "use for example \"novalocal\", without a dot before it, or \"\"";
    Err(Fault::new(format!("`{text}` is not a domain"), remedy))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::VendordataProvider;
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let cloud = read(concat!(
            "[cloud]\ndhcp_domain = ''\nvendordata_providers = ['DynamicJSON', 'StaticJSON']\n",
            "vendordata_jsonfile_path = '/etc/vendor.json'\n",
        ))
        .expect("accepted")
        .cloud;
        assert_eq!(cloud.dhcp_domain, "");
        assert_eq!(cloud.vendordata_providers, [VendordataProvider::DynamicJson, VendordataProvider::StaticJson]);
        assert_eq!(cloud.vendordata_jsonfile_path, Some("/etc/vendor.json".into()));
    }

    #[test]
    fn targets_that_nova_skips_are_skipped() {
        let text =
            "[cloud]\nvendordata_dynamic_targets = ['a@http://x', 'nameless', 'a@ftp:', 'static@https://[::1]:8/p?q']
                    vendordata_dynamic_connect_timeout = 3\nvendordata_dynamic_refresh_interval = 0\n";
        let mut cloud = read(text).expect("a configuration").cloud;
        let dynamic = &cloud.vendordata_dynamic;
        assert_eq!(dynamic.asked.iter().map(|target| &*target.name).collect::<Vec<_>>(), ["a", "static"]);
        assert_eq!(dynamic.skipped, ["nameless", "a@ftp:"]);
        assert_eq!((dynamic.connect_timeout, dynamic.refresh), (Duration::from_secs(3), None));
        assert_eq!(cloud.warnings().len(), 3, "two skipped, and nobody asks: {:?}", cloud.warnings());
        assert!(cloud.asked_targets().is_empty());
        cloud.vendordata_providers.push(VendordataProvider::DynamicJson);
        assert_eq!((cloud.warnings().len(), cloud.asked_targets().len()), (2, 2));
    }

    #[test]
    fn targets_on_demand_are_not_asked_ahead() {
        let text = "[cloud]\nvendordata_dynamic_targets = ['a@http://x', 'nameless', 'b@http://y', 'b@http://z']
                    vendordata_dynamic_on_demand = ['b']\n";
        let cloud = read(text).expect("a configuration").cloud;
        let asked = cloud.vendordata_dynamic.asked.iter().map(|target| (&*target.name, target.is_on_demand));
        assert_eq!(asked.collect::<Vec<_>>(), [("a", false), ("b", true)]);
        assert_eq!(cloud.targets_ahead(), ["a@http://x", "nameless"]);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[cloud]\ndhcp_domain = '.x'", "m.toml:2:15", "not a domain", "novalocal"),
            ("[cloud]\nvendordata_dynamic_targets = ['a@ftp://x']", "m.toml:2:31", "cannot be asked", "name@http"),
            ("[cloud]\nvendordata_dynamic_targets = ['', 'a@']", "m.toml:2:35", "cannot be asked", "name@http"),
            ("[cloud]\nvendordata_dynamic_read_timeout = 0", "m.toml:2:35", "0 is out of range", "use 1 to 600"),
            ("[cloud]\nvendordata_dynamic_refresh_interval = -1", "m.toml:2:39", "-1 is out", "use 0 to 86400"),
            ("[cloud]\nvendordata_dynamic_body_limit = 0", "m.toml:2:33", "0 is out", "use 1 to"),
            ("[cloud]\nvendordata_dynamic_requests = 0", "m.toml:2:31", "0 is out", "use 1 to"),
            ("[cloud]\nvendordata_dynamic_ssl_certfile = 'x'", "m.toml:2:35", "not an absolute", "from `/`"),
            (
                "[cloud]\nvendordata_dynamic_targets = ['a@http://x']\nvendordata_dynamic_on_demand = ['a', 'b']",
                "m.toml:3:38",
                "no target has the name `b`",
                "name one of",
            ),
            (
                "[cloud]\nvendordata_dynamic_client_certfile = '/c'",
                "m.toml:2:38",
                "without vendordata_dynamic_client_keyfile",
                "write vendordata_dynamic_client_keyfile too",
            ),
        ]);
    }
}
