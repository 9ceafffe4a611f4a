//! Metrics with a real Prometheus: what promtool says of them, alert rules that fire when they should, and a dashboard of which
//! every query has data while guests ask.

mod picture;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lab::prometheus::promtool;
use lab::{Asker, Guest, Node, NodePlan, Prometheus, Request, Tls, wait};
use serde_json::Value;

/// Queries of the dashboard that have no data in this test, with the reason.
const EMPTY: &[(&str, &str)] = &[];

/// Requests per second of the guest that keeps asking.
const RATE: u32 = 20;

const USER_DATA: &str = "/openstack/latest/user_data";

pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy").join(path)
}

/// A node on which everything is switched on that metrics are about, with a guest.
struct World {
    node: Node,
    guest: Guest,
    _directory: tempfile::TempDir,
    ca: PathBuf,
}

impl World {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let tls = Tls::make_for(directory.path(), &["127.0.0.1", "169.254.169.254", "fe80::a9fe:a9fe"])?;
        let (cert, key, log) = (&tls.cert, &tls.key, directory.path().join("audit.jsonl"));
        let further = format!(
            "[metrics]\nlisten = \"127.0.0.1:9169\"\ncert_file = {cert:?}\nkey_file = {key:?}\n\
             [https]\ncert_file = {cert:?}\nkey_file = {key:?}\n\
             [access]\nsession = \"optional\"\n\
             [guests]\nattributes_per_instance = 4\n\
             [identity]\nkey_file = {key:?}\nissuer = \"i\"\n\
             [audit]\nto = \"file\"\npath = {log:?}\n\
             [cloud]\nvendordata_providers = [\"DynamicJSON\"]\n\
             vendordata_dynamic_targets = [\"nobody@http://127.0.0.1:9/\"]\n"
        );
        let drives = "auto = \"unreachable-ports\"\n";
        let node = NodePlan::default().config_drives(drives).further(&further).start()?;
        let guest = node.guest("a").document(|document| document.with_user_data(b"x")).boot()?;
        Ok(Self { node, guest, ca: tls.ca.clone(), _directory: directory })
    }

    /// Asks in every way that something is counted for.
    fn ask_otherwise(&self) -> Result<()> {
        self.guest.get6(USER_DATA)?;
        self.guest.get("/none")?;
        self.guest.send(&Request::get(USER_DATA).header("Host", "elsewhere"))?;
        let token = Request::get("/latest/api/token").method("PUT");
        self.guest.send(&token.header("X-aws-ec2-metadata-token-ttl-seconds", "60"))?;
        self.guest.get("/openstack/latest/identity?audience=a")?;
        self.guest.send(&Request::get("/openstack/latest/guest-attributes/boot/state").method("PUT"))?;
        Ok(())
    }

    fn prometheus(&self) -> Result<Prometheus> {
        let (ca, rules) = (self.ca.display(), deploy("prometheus/metadatad.rules.yml"));
        let configuration = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n  - job_name: metadatad\n    scheme: https\n    tls_config: {{ ca_file: \"{ca}\" }}\n    \
             static_configs: [{{ targets: [\"127.0.0.1:9169\"] }}]\n"
        );
        Prometheus::start(self.node.namespace(), &configuration)
    }
}

/// One of the dashboards in `deploy/grafana`.
fn dashboard(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(deploy(&format!("grafana/{name}.json"))).unwrap()).unwrap()
}

/// Returns a query of the dashboard as Grafana would send it, for a Prometheus that scrapes every second.
fn sent(query: &str) -> String {
    query.replace("$__rate_interval", "10s").replace("$node", ".*").replace("$controller", ".*")
}

/// Each query of a dashboard, with its panel.
pub(crate) fn queries(name: &str) -> Vec<(String, String)> {
    let dashboard = dashboard(name);
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), sent(target["expr"].as_str().unwrap())))
    });
    queries.collect()
}

/// Fails if there is a name in expressions that no metric has: an alert with it would never fire.
pub(crate) fn check_names<'a>(texts: impl IntoIterator<Item = &'a str>) {
    let page = fs::read_to_string(deploy("../docs/metrics.md")).unwrap();
    for name in texts.into_iter().flat_map(names) {
        let of_histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
        let is_known = |name: &str| page.contains(&format!("| `{name}` |"));
        assert!(is_known(&name) || of_histogram.is_some_and(is_known), "{name} is no metric");
    }
}

/// The names of metrics in expressions.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| word.starts_with("metadatad_") || word.starts_with("process_")).map(str::to_owned).collect()
}

pub(crate) fn is_number(sample: &Value) -> bool {
    sample["value"][1].as_str().is_some_and(|value| value != "NaN")
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let World { node, guest, .. } = World::start().unwrap();
    guest.get(USER_DATA).unwrap();
    let found = promtool(Path::new("/"), &["check", "metrics"], &node.metrics().unwrap()).unwrap();
    assert_eq!(found, "", "promtool has advice");
}

#[test]
fn every_alert_fires_for_its_symptom_and_none_for_a_healthy_node() {
    check_alerts("metadatad.rules.yml", "alerts.yml");
}

#[test]
fn every_alert_of_the_controller_fires_for_its_symptom_and_none_for_a_healthy_one() {
    check_alerts("metadatad-controller.rules.yml", "controller-alerts.yml");
}

/// Has promtool test the rules of `deploy/prometheus`.
fn check_alerts(rules: &str, tests: &str) {
    let directory = tempfile::tempdir().unwrap();
    let words = [["check", "rules", rules], ["test", "rules", tests]];
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("controllers/prometheus").join(tests);
    let rules = deploy("prometheus").join(rules);
    for file in [&tests, &rules] {
        fs::copy(file, directory.path().join(file.file_name().unwrap())).unwrap();
    }
    for words in words {
        promtool(directory.path(), &words, "").unwrap();
    }
    let (rules, tests) = (fs::read_to_string(rules).unwrap(), fs::read_to_string(tests).unwrap());
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no test lets {alert} fire");
    }
    for line in ["severity: ", "summary: ", "runbook: "] {
        let count = rules.lines().filter(|found| found.trim().starts_with(line)).count();
        assert_eq!(count, alerts.len(), "each alert has its {line}");
    }
    check_names([&*rules]);
}

#[test]
fn prometheus_scrapes_over_tls_and_every_query_of_the_dashboard_and_the_rules_has_data() {
    let world = World::start().unwrap();
    let asker = Asker::start(&world.guest, USER_DATA, RATE, b"x").unwrap();
    let prometheus = world.prometheus().unwrap();
    let mut last = Value::Null;
    let up = wait::until("Prometheus scrapes the daemon", || {
        last = prometheus.targets()?.into();
        Ok((last[0]["health"] == "up").then_some(()))
    });
    up.with_context(|| format!("its targets: {last:#}\nits log:\n{}", prometheus.log())).unwrap();

    let queries = queries("metadatad");
    check_names(queries.iter().map(|(_, query)| &**query));
    for (panel, query) in queries {
        if let Some((_, reason)) = EMPTY.iter().find(|(known, _)| *known == query) {
            assert!(prometheus.query(&query).unwrap().is_empty(), "{panel}: {query} has data, though {reason}");
            continue;
        }
        // The first look at a rate has one sample too few.
        let mut answer = Vec::new();
        let waited = wait::until(&format!("{panel}: {query} has data"), || {
            world.ask_otherwise()?;
            answer = prometheus.query(&query)?;
            Ok(answer.iter().any(is_number).then_some(()))
        });
        waited.with_context(|| format!("{answer:?}")).unwrap();
    }
    wait::until("every rule was evaluated", || {
        let rules = prometheus.rules()?;
        for rule in &rules {
            anyhow::ensure!(rule["health"] != "err", "{rule:#}");
            anyhow::ensure!(rule["state"] != "firing", "on a healthy node: {rule:#}");
        }
        Ok((!rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")).then_some(()))
    })
    .unwrap();
    let text = world.node.metrics().unwrap();
    let scraped = prometheus.query("scrape_samples_scraped{job=\"metadatad\"}").unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(scraped[0]["value"][1], series.to_string(), "Prometheus stores what the admin socket shows");
    asker.finish().unwrap().perfect().unwrap();
    if let Some(picture) = std::env::var_os("METADATAD_DASHBOARD") {
        let seconds = picture::load(&world).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(picture);
        fs::write(path, picture::draw(&prometheus, seconds).unwrap()).unwrap();
    }
}
