//! The configuration as written, and the checks that turn it into a [`Config`]. One long file, since every key has its place
//! here twice, side by side: as it may be written, and what it must be.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::pattern::NamePattern;
use super::target::{Target, TargetUrl};
use super::{
    Attach, Config, ConfigError, LogFormat, Source, Unbound, VendordataDynamic, VendordataProvider, etcd, facts, nova,
    pass, snapshot,
};

pub(super) type Written<T> = Option<Spanned<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    responder: Responder,
    ports: Ports,
    bpf: Bpf,
    source: SourceTable,
    facts: facts::Raw,
    snapshot: snapshot::Raw,
    cloud: Cloud,
    http: Http,
    admin: Admin,
    log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Responder {
    namespace: Written<String>,
    interface: Written<String>,
    port: Written<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ports {
    r#match: Written<Vec<Spanned<String>>>,
    unbound: Written<String>,
    pass: Written<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bpf {
    pin_dir: Written<String>,
    attach: Written<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourceTable {
    kind: Written<String>,
    path: Written<String>,
    etcd: Written<etcd::Raw>,
    nova: Written<nova::Raw>,
}

/// Kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    Etcd,
    Nova,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cloud {
    dhcp_domain: Written<String>,
    vendordata_providers: Option<Vec<Spanned<String>>>,
    vendordata_jsonfile_path: Written<String>,
    vendordata_dynamic_targets: Option<Vec<Spanned<String>>>,
    vendordata_dynamic_connect_timeout: Written<i64>,
    vendordata_dynamic_read_timeout: Written<i64>,
    vendordata_dynamic_ssl_certfile: Written<String>,
    vendordata_dynamic_refresh_interval: Written<i64>,
    vendordata_dynamic_body_limit: Written<i64>,
    vendordata_dynamic_requests: Written<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    request_timeout: Written<String>,
    idle_timeout: Written<String>,
    ready_timeout: Written<String>,
    drain_timeout: Written<String>,
    connections_per_port: Written<i64>,
    connections: Written<i64>,
    threads: Written<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Admin {
    socket: Written<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    filter: Written<String>,
    format: Written<String>,
}

/// Most connections in all: what a process may have open files, on a usual system, halved.
const MOST_CONNECTIONS: i64 = 524_288;
/// Most threads that answer guests: more than any node has use for.
const MOST_THREADS: i64 = 256;
/// Longest name of an interface: the kernel's `IFNAMSIZ` less its final zero.
const LONGEST_INTERFACE: usize = 15;
/// Longest name of a namespace: a file name under `/run/netns` (`NAME_MAX`).
const LONGEST_NAMESPACE: usize = 255;
/// Longest path of a Unix socket: `sun_path` (unix(7)) less its final zero.
const LONGEST_SOCKET: usize = 107;
/// Time-outs are at least this: below, a scheduling delay would cut guests off.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
/// Time-outs are at most this.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// Longest time-out of a request for vendor data, in seconds: beyond, a place among the requests in flight is lost.
const LONGEST_TARGET_TIMEOUT: i64 = 600;
/// Longest refresh interval, in seconds: a day.
const LONGEST_REFRESH: i64 = 86_400;
/// Largest limit of an answer: 16 MiB for each instance and target is more than any node has.
const LARGEST_BODY: i64 = 16 << 20;
/// Most requests for vendor data in flight: beyond, they wait for the targets anyway.
const MOST_REQUESTS: i64 = 1024;

const SPELLING: &str = "correct the name, or remove it to have the default; the example metadatad.toml shows every key";

/// What to do about an error of the TOML reader.
fn remedy(problem: &str) -> &'static str {
    if problem.starts_with("unknown field") {
        SPELLING
    } else if problem.starts_with("invalid type") {
        "write a value of that kind; the example metadatad.toml shows every key"
    } else if problem.starts_with("duplicate key") {
        "keep one of them"
    } else {
        "this is not TOML: look for a missing quote, bracket or `=` here or just before"
    }
}

/// Says kinds of values as TOML names them.
fn in_words(problem: String) -> String {
    match problem.strip_prefix("invalid type").and_then(|rest| rest.rsplit_once("expected ")) {
        Some((found, "i64")) => format!("invalid type{found}expected a number, without quotes"),
        Some((found, "a string")) => format!("invalid type{found}expected a text in quotes"),
        Some((found, "a sequence")) => format!("invalid type{found}expected a list in brackets"),
        _ => problem,
    }
}

/// A text and its name, for errors.
pub(super) struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let file = File { path, text };
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let problem = error.message().replace('\n', ", ");
        let remedy = remedy(&problem);
        file.refuse(error.span().unwrap_or(0..0), in_words(problem), remedy)
    })?;
    let mut config = Config::default();

    if let Some(namespace) = raw.responder.namespace {
        config.responder.namespace = file.name(namespace, LONGEST_NAMESPACE)?;
    }
    let interface_span = raw.responder.interface.as_ref().map(Spanned::span);
    if let Some(interface) = raw.responder.interface {
        config.responder.interface = file.name(interface, LONGEST_INTERFACE)?;
    }
    if let Some(port) = raw.responder.port {
        config.responder.port = file.number(port, 1, 65535)?;
    }

    let patterns_span = raw.ports.r#match.as_ref().map(Spanned::span);
    if let Some(patterns) = raw.ports.r#match {
        config.ports.patterns = file.patterns(patterns)?;
    }
    if let Some(unbound) = raw.ports.unbound {
        config.ports.unbound = file.one_of(unbound, &[("hold", Unbound::Hold), ("pass", Unbound::Pass)])?;
    }
    config.ports.pass = pass::check(raw.ports.pass, config.responder.port, &file)?;
    if config.ports.matches(&config.responder.interface) {
        let problem = format!("responder.interface `{}` matches ports.match", config.responder.interface);
        let span = interface_span.or(patterns_span).unwrap_or(0..0);
        return Err(file.refuse(span, problem, "choose a name that no pattern of ports.match fits"));
    }

    if let Some(pin_dir) = raw.bpf.pin_dir {
        config.bpf.pin_dir = file.absolute(pin_dir)?;
    }
    if let Some(attach) = raw.bpf.attach {
        let kinds = [("auto", Attach::Auto), ("tcx", Attach::Tcx), ("clsact", Attach::Clsact)];
        config.bpf.attach = file.one_of(attach, &kinds)?;
    }

    config.source = file.source(raw.source)?;
    config.facts = raw.facts.check(&file)?;
    config.snapshot = raw.snapshot.check(&file)?;

    if let Some(domain) = raw.cloud.dhcp_domain {
        config.cloud.dhcp_domain = file.domain(domain)?;
    }
    if let Some(providers) = raw.cloud.vendordata_providers {
        let names = [("StaticJSON", VendordataProvider::StaticJson), ("DynamicJSON", VendordataProvider::DynamicJson)];
        config.cloud.vendordata_providers =
            providers.into_iter().map(|provider| file.one_of(provider, &names)).collect::<Result<_, _>>()?;
    }
    if let Some(path) = raw.cloud.vendordata_jsonfile_path {
        config.cloud.vendordata_jsonfile_path = Some(file.absolute(path)?);
    }

    let dynamic = &mut config.cloud.vendordata_dynamic;
    if let Some(targets) = raw.cloud.vendordata_dynamic_targets {
        file.targets(targets, dynamic)?;
    }
    for (written, value) in [
        (raw.cloud.vendordata_dynamic_connect_timeout, &mut dynamic.connect_timeout),
        (raw.cloud.vendordata_dynamic_read_timeout, &mut dynamic.read_timeout),
    ] {
        if let Some(written) = written {
            *value = Duration::from_secs(file.number(written, 1, LONGEST_TARGET_TIMEOUT)?);
        }
    }
    if let Some(path) = raw.cloud.vendordata_dynamic_ssl_certfile {
        dynamic.ssl_certfile = Some(file.absolute(path)?);
    }
    if let Some(seconds) = raw.cloud.vendordata_dynamic_refresh_interval {
        let seconds = file.number(seconds, 0, LONGEST_REFRESH)?;
        dynamic.refresh = (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    if let Some(bytes) = raw.cloud.vendordata_dynamic_body_limit {
        dynamic.body_limit = file.number(bytes, 1, LARGEST_BODY)?;
    }
    if let Some(requests) = raw.cloud.vendordata_dynamic_requests {
        dynamic.requests = file.number(requests, 1, MOST_REQUESTS)?;
    }

    let http = &mut config.http;
    for (written, value) in [
        (raw.http.request_timeout, &mut http.request_timeout),
        (raw.http.idle_timeout, &mut http.idle_timeout),
        (raw.http.drain_timeout, &mut http.drain_timeout),
    ] {
        if let Some(written) = written {
            *value = file.timeout(written)?;
        }
    }
    if let Some(written) = raw.http.ready_timeout {
        http.ready_timeout = match written.get_ref().as_str() {
            "0s" => Duration::ZERO,
            _ => file.timeout(written)?,
        };
    }
    if let Some(connections) = raw.http.connections {
        http.connections = file.number(connections, 1, MOST_CONNECTIONS)?;
    }
    if let Some(connections) = raw.http.connections_per_port {
        http.connections_per_port = file.number(connections, 1, MOST_CONNECTIONS)?;
    }
    if let Some(threads) = raw.http.threads {
        http.threads = file.number(threads, 1, MOST_THREADS)?;
    }

    if let Some(socket) = raw.admin.socket {
        config.admin.socket = file.socket(socket)?;
    }
    if let Some(filter) = raw.log.filter {
        config.log.filter = file.filter(filter)?;
    }
    if let Some(format) = raw.log.format {
        config.log.format = file.one_of(format, &[("text", LogFormat::Text), ("json", LogFormat::Json)])?;
    }
    Ok(config)
}

impl File<'_> {
    pub(super) fn refuse(&self, span: Range<usize>, problem: String, remedy: &str) -> ConfigError {
        ConfigError::at(self.path, self.text, span, problem, remedy)
    }

    fn source(&self, table: SourceTable) -> Result<Source, ConfigError> {
        let kinds = [("directory", Kind::Directory), ("etcd", Kind::Etcd), ("nova", Kind::Nova)];
        let kind_span = table.kind.as_ref().map_or(0..0, Spanned::span);
        let kind = table.kind.map_or(Ok(Kind::Directory), |kind| self.one_of(kind, &kinds))?;
        for (name, of, span) in [
            ("path", Kind::Directory, table.path.as_ref().map(Spanned::span)),
            ("etcd", Kind::Etcd, table.etcd.as_ref().map(Spanned::span)),
            ("nova", Kind::Nova, table.nova.as_ref().map(Spanned::span)),
        ] {
            if let Some(span) = span.filter(|_| of != kind) {
                let problem = format!("source.{name} is there, and source.kind is not of it");
                return Err(self.refuse(span, problem, "remove it, or correct source.kind"));
            }
        }
        Ok(match kind {
            Kind::Directory => match table.path {
                Some(path) => Source::Directory { path: self.absolute(path)? },
                None => Config::default().source,
            },
            Kind::Etcd => {
                let span = table.etcd.as_ref().map_or(kind_span, Spanned::span);
                Source::Etcd(table.etcd.map(Spanned::into_inner).unwrap_or_default().check(self, span)?)
            }
            Kind::Nova => Source::Nova(table.nova.map(Spanned::into_inner).unwrap_or_default().check(self)?),
        })
    }

    /// A name that becomes a file name or an interface name.
    pub(super) fn name(&self, written: Spanned<String>, longest: usize) -> Result<String, ConfigError> {
        let name = written.get_ref();
        let possible = !name.is_empty()
            && name.len() <= longest
            && name != "."
            && name != ".."
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%');
        if possible {
            return Ok(written.into_inner());
        }
        let remedy = format!("use 1 to {longest} letters, digits, `-`, `_` or `.`");
        Err(self.refuse(written.span(), format!("`{name}` is not a possible name"), &remedy))
    }

    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        written: Spanned<i64>,
        least: i64,
        most: i64,
    ) -> Result<T, ConfigError> {
        let number = *written.get_ref();
        (least..=most).contains(&number).then(|| T::try_from(number).ok()).flatten().ok_or_else(|| {
            self.refuse(written.span(), format!("{number} is out of range"), &format!("use {least} to {most}"))
        })
    }

    pub(super) fn one_of<T: Copy>(&self, written: Spanned<String>, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| name == written.get_ref()) {
            return Ok(*value);
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let remedy = format!("use {}", names.join(" or "));
        Err(self.refuse(written.span(), format!("`{}` is not known here", written.get_ref()), &remedy))
    }

    fn patterns(&self, written: Spanned<Vec<Spanned<String>>>) -> Result<Vec<NamePattern>, ConfigError> {
        if written.get_ref().is_empty() {
            let problem = "no pattern: no interface would be a guest's".to_owned();
            return Err(self.refuse(written.span(), problem, "use for example [\"tap*\"]"));
        }
        written
            .into_inner()
            .into_iter()
            .map(|pattern| {
                let text = pattern.get_ref();
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
                    let problem = format!("`{text}` fits no interface");
                    return Err(self.refuse(pattern.span(), problem, "use for example \"tap*\""));
                }
                if text.contains(['[', ']', '{', '}', ',', '^', '$', '|', '\\']) {
                    let problem = format!("`{text}` has a character that is not special here");
                    return Err(self.refuse(
                        pattern.span(),
                        problem,
                        "use `*` and `?` only, in as many patterns as needed",
                    ));
                }
                if text.bytes().filter(|byte| *byte != b'*').count() > LONGEST_INTERFACE {
                    let problem =
                        format!("`{text}` fits no interface: names have at most {LONGEST_INTERFACE} characters");
                    return Err(self.refuse(pattern.span(), problem, "use for example \"tap*\""));
                }
                if text.bytes().all(|byte| byte == b'*') {
                    let problem = format!("`{text}` fits every interface, the node's own too");
                    return Err(self.refuse(pattern.span(), problem, "use for example \"tap*\""));
                }
                Ok(NamePattern::of(text))
            })
            .collect()
    }

    fn targets(&self, written: Vec<Spanned<String>>, dynamic: &mut VendordataDynamic) -> Result<(), ConfigError> {
        for target in &written {
            match target.get_ref().split_once('@') {
                Some((name, url)) if dynamic.asked.iter().all(|asked| asked.name != name) => {
                    let url = TargetUrl::parse(url).map_err(|problem| {
                        let problem = format!("`{}` cannot be asked: {problem}", target.get_ref());
                        self.refuse(target.span(), problem, "write it as \"name@http://host:port/path\"")
                    })?;
                    dynamic.asked.push(Target { name: name.to_owned(), url });
                }
                _ => dynamic.skipped.push(target.get_ref().clone()),
            }
        }
        dynamic.targets = written.into_iter().map(Spanned::into_inner).collect();
        Ok(())
    }

    pub(super) fn absolute(&self, written: Spanned<String>) -> Result<PathBuf, ConfigError> {
        let path = PathBuf::from(written.get_ref());
        if path.is_absolute() && !written.get_ref().contains('\0') {
            return Ok(path);
        }
        let problem = format!("`{}` is not an absolute path", written.get_ref());
        Err(self.refuse(written.span(), problem, "write it from `/` on"))
    }

    /// The absolute path of a file, in a directory other than the root or `..`.
    pub(super) fn file(&self, written: Spanned<String>) -> Result<PathBuf, ConfigError> {
        let span = written.span();
        let text = written.get_ref().clone();
        let path = self.absolute(written)?;
        if text.ends_with('/') || path.file_name().is_none() {
            return Err(self.refuse(span, format!("`{text}` is a directory"), "name a file in it"));
        }
        Ok(path)
    }

    pub(super) fn socket(&self, written: Spanned<String>) -> Result<PathBuf, ConfigError> {
        if written.get_ref().len() > LONGEST_SOCKET {
            let problem = format!("a socket's path of {} bytes is too long", written.get_ref().len());
            return Err(self.refuse(written.span(), problem, &format!("use at most {LONGEST_SOCKET}")));
        }
        self.absolute(written)
    }

    fn domain(&self, written: Spanned<String>) -> Result<String, ConfigError> {
        let domain = written.get_ref();
        let possible = domain.len() <= 253
            && !domain.starts_with('.')
            && domain.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if possible {
            return Ok(written.into_inner());
        }
        let problem = format!("`{domain}` is not a domain");
        Err(self.refuse(written.span(), problem, "use for example \"novalocal\", without a dot before it, or \"\""))
    }

    pub(super) fn timeout(&self, written: Spanned<String>) -> Result<Duration, ConfigError> {
        let text = written.get_ref().as_str();
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let milliseconds = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            _ => None,
        };
        let value = digits
            .parse::<u64>()
            .ok()
            .zip(milliseconds)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Duration::from_millis)
            .filter(|value| (SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(value));
        value.ok_or_else(|| {
            let problem = format!("`{text}` is not a possible time-out");
            self.refuse(written.span(), problem, "use \"100ms\" to \"60m\", for example \"10s\"")
        })
    }

    fn filter(&self, written: Spanned<String>) -> Result<String, ConfigError> {
        // A word alone is a level; EnvFilter takes any other for a crate's name, and logs nothing.
        let is_level = |word: &str| !word.is_empty() && word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let words = written.get_ref().split(',').map(str::trim);
        if let Some(word) = words.into_iter().find(|word| !word.contains(['=', ':', '[', '_']) && !is_level(word)) {
            let problem = format!("`{word}` is not a log level");
            let remedy = "use off, error, warn, info, debug or trace, or target=level, for example \"info\"";
            return Err(self.refuse(written.span(), problem, remedy));
        }
        match tracing_subscriber::EnvFilter::builder().parse(written.get_ref()) {
            Ok(_) => Ok(written.into_inner()),
            Err(error) => {
                let problem = format!("`{}` is not a log filter: {error}", written.get_ref());
                Err(self.refuse(
                    written.span(),
                    problem,
                    "use for example \"info\" or \"info,metadata_user::http=debug\"",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../deploy/metadatad.toml");

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("m.toml"), text)
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        assert_eq!(read("").expect("an empty configuration"), Config::default());
        assert_eq!(read("[ports]\n[http]\n").expect("empty tables"), Config::default());
    }

    #[test]
    fn the_example_shows_the_defaults() {
        assert_eq!(read(EXAMPLE).expect("the example"), Config::default());
        for key in [
            "namespace",
            "interface",
            "port",
            "match",
            "unbound",
            "pin_dir",
            "attach",
            "kind",
            "path",
            "enabled",
            "key_file",
            "interval",
            "dhcp_domain",
            "vendordata_providers",
            "vendordata_jsonfile_path",
            "vendordata_dynamic_targets",
            "vendordata_dynamic_connect_timeout",
            "vendordata_dynamic_read_timeout",
            "vendordata_dynamic_ssl_certfile",
            "vendordata_dynamic_refresh_interval",
            "vendordata_dynamic_body_limit",
            "vendordata_dynamic_requests",
            "request_timeout",
            "idle_timeout",
            "ready_timeout",
            "drain_timeout",
            "connections_per_port",
            "connections",
            "threads",
            "socket",
            "filter",
            "format",
        ] {
            assert!(
                EXAMPLE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = "))),
                "{key}"
            );
        }
    }

    #[test]
    fn values_are_taken_as_written() {
        let config = read(concat!(
            "[responder]\nnamespace = 'ns1'\ninterface = 'pair1'\nport = 8080\n",
            "[ports]\nmatch = ['tap*', 'vnet?']\nunbound = 'pass'\n",
            "[bpf]\npin_dir = '/run/bpf'\nattach = 'clsact'\n[source]\nkind = 'directory'\npath = '/srv/docs'\n",
            "[cloud]\ndhcp_domain = ''\nvendordata_providers = ['DynamicJSON', 'StaticJSON']\n",
            "vendordata_jsonfile_path = '/etc/vendor.json'\n",
            "[http]\nrequest_timeout = '500ms'\nidle_timeout = '2m'\ndrain_timeout = '1s'\nconnections = 9\n",
            "ready_timeout = '0s'\n",
            "connections_per_port = 3\nthreads = 1\n[admin]\nsocket = '/tmp/a.sock'\n",
            "[log]\nfilter = 'debug'\nformat = 'json'\n",
        ))
        .expect("a configuration");
        assert_eq!(
            config.responder,
            super::super::Responder { namespace: "ns1".into(), interface: "pair1".into(), port: 8080 }
        );
        assert!(config.ports.matches("vnet3") && !config.ports.matches("eth0"));
        assert_eq!((config.ports.unbound, config.bpf.attach), (Unbound::Pass, Attach::Clsact));
        assert_eq!(config.source, Source::Directory { path: "/srv/docs".into() });
        assert_eq!(
            config.cloud.vendordata_providers,
            [VendordataProvider::DynamicJson, VendordataProvider::StaticJson]
        );
        assert_eq!(config.http.request_timeout, Duration::from_millis(500));
        assert_eq!((config.http.idle_timeout, config.http.ready_timeout), (Duration::from_secs(120), Duration::ZERO));
        assert_eq!((config.http.connections, config.http.connections_per_port, config.http.threads), (9, 3, 1));
        assert_eq!(config.log, super::super::Log { filter: "debug".into(), format: LogFormat::Json });
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
        assert_eq!(
            crate::api::vendor_data::targets(&dynamic.targets).iter().map(|target| target.name).collect::<Vec<_>>(),
            ["a", "static"],
            "as the rendering has it"
        );
        assert_eq!((dynamic.connect_timeout, dynamic.refresh), (Duration::from_secs(3), None));
        assert_eq!(cloud.warnings().len(), 3, "two skipped, and nobody asks: {:?}", cloud.warnings());
        assert!(cloud.asked_targets().is_empty());
        cloud.vendordata_providers.push(VendordataProvider::DynamicJson);
        assert_eq!((cloud.warnings().len(), cloud.asked_targets().len()), (2, 2));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        for (text, place, problem, remedy) in [
            ("[responder]\nprot = 80\n", "m.toml:2:1", "unknown field `prot`", "correct the name"),
            ("\n\n[respnder]\n", "m.toml:3:2", "unknown field `respnder`", "correct the name"),
            ("[responder]\nport = 'x'\n", "m.toml:2:8", "invalid type", "write a value"),
            ("[responder]\nport = 0\n", "m.toml:2:8", "0 is out of range", "use 1 to 65535"),
            ("[responder]\nport = 65536", "m.toml:2:8", "65536", "use 1 to 65535"),
            ("[responder]\ninterface = 'sixteen-letters-'", "m.toml:2:13", "not a possible name", "use 1 to 15"),
            ("[responder]\nnamespace = 'a/b'", "m.toml:2:13", "not a possible name", "use 1 to 255"),
            ("[responder]\ninterface = 'tap0'", "m.toml:2:13", "matches ports.match", "choose a name"),
            ("[ports]\nmatch = []", "m.toml:2:9", "no pattern", "tap*"),
            ("[ports]\nmatch = ['tap*', '*']", "m.toml:2:18", "every interface", "tap*"),
            ("[ports]\nmatch = ['meta*']", "m.toml:2:9", "matches ports.match", "choose a name"),
            ("[ports]\nunbound = 'drop'", "m.toml:2:11", "`drop` is not known", "\"hold\" or \"pass\""),
            ("[bpf]\nattach = 'xdp'", "m.toml:2:10", "`xdp`", "\"auto\" or \"tcx\" or \"clsact\""),
            ("[bpf]\npin_dir = 'bpf'", "m.toml:2:11", "not an absolute path", "from `/`"),
            ("[source]\nkind = 'consul'", "m.toml:2:8", "`consul`", "\"directory\" or \"etcd\""),
            ("[source]\nkind = 'etcd'\npath = '/x'", "m.toml:3:8", "source.path", "correct source.kind"),
            ("[cloud]\ndhcp_domain = '.x'", "m.toml:2:15", "not a domain", "novalocal"),
            ("[cloud]\nvendordata_dynamic_targets = ['a@ftp://x']", "m.toml:2:31", "cannot be asked", "name@http"),
            ("[cloud]\nvendordata_dynamic_targets = ['', 'a@']", "m.toml:2:35", "cannot be asked", "name@http"),
            ("[cloud]\nvendordata_dynamic_read_timeout = 0", "m.toml:2:35", "0 is out of range", "use 1 to 600"),
            ("[cloud]\nvendordata_dynamic_refresh_interval = -1", "m.toml:2:39", "-1 is out", "use 0 to 86400"),
            ("[cloud]\nvendordata_dynamic_body_limit = 0", "m.toml:2:33", "0 is out", "use 1 to"),
            ("[cloud]\nvendordata_dynamic_requests = 0", "m.toml:2:31", "0 is out", "use 1 to"),
            ("[cloud]\nvendordata_dynamic_ssl_certfile = 'x'", "m.toml:2:35", "not an absolute", "from `/`"),
            ("[http]\nidle_timeout = '1 day'", "m.toml:2:16", "not a possible time-out", "10s"),
            ("[http]\nidle_timeout = '0s'", "m.toml:2:16", "not a possible time-out", "10s"),
            ("[http]\nready_timeout = '0'", "m.toml:2:17", "not a possible time-out", "10s"),
            ("[http]\nconnections = -1", "m.toml:2:15", "-1 is out of range", "use 1 to"),
            ("[log]\nfilter = 'a=b=c'", "m.toml:2:10", "not a log filter", "info"),
            ("[log]\nformat = 'xml'", "m.toml:2:10", "`xml`", "\"text\" or \"json\""),
            ("[log]\nfilter = 'verbose'", "m.toml:2:10", "`verbose` is not a log level", "info"),
            ("[log]\nfilter = 'info,hyper=debug,loud'", "m.toml:2:10", "`loud` is not a log level", "info"),
            ("[log]\nfilter = ''", "m.toml:2:10", "not a log level", "info"),
            ("[ports]\nmatch = ['tap[0-9]']", "m.toml:2:10", "not special", "`*` and `?`"),
            ("[ports]\nmatch = ['tap-0123456789abc*']", "m.toml:2:10", "at most 15", "tap*"),
            ("[ports]\nmatch = 'tap*'", "m.toml:2:9", "expected a list", "write a value"),
            ("[http]\nthreads = '2'", "m.toml:2:11", "expected a number", "write a value"),
            ("[http]\nidle_timeout = 10", "m.toml:2:16", "expected a text in quotes", "write a value"),
            ("[http]\nthreads = 1\nthreads = 2", "m.toml:3:1", "duplicate key", "keep one"),
            ("[http]\n[log]\n[http]\n", "m.toml:3:2", "duplicate key", "keep one"),
            ("[http\n", "m.toml:1:6", "unclosed table", "not TOML"),
            ("port = ", "m.toml:1", "", "not TOML"),
        ] {
            let message = read(text).expect_err(text).to_string();
            assert!(message.starts_with(place), "{text:?}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/nonexistent/m.toml")).expect_err("no such file");
        assert!(error.to_string().contains("/nonexistent/m.toml"), "{error}");
    }
}
