//! A real Prometheus, inside a namespace that the lab made: it scrapes what is there, and answers queries.
//!
//! Promises: it listens on 127.0.0.1 of that namespace only; its data is in a directory of its own, and goes with the value.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command;
use crate::fetched;
use crate::netns::Namespace;
use crate::wait;

/// Where it answers.
const ADDRESS: &str = "127.0.0.1:9090";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    namespace: Namespace,
    directory: tempfile::TempDir,
}

impl Prometheus {
    /// Starts it in the namespace with this configuration, and waits until it is ready.
    ///
    /// # Errors
    /// If it is not there (`cargo xtask setup --prometheus`), or does not get ready; the error holds its log.
    pub fn start(namespace: &Namespace, configuration: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("metadatad-prometheus-").tempdir().context("a directory")?;
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, configuration).context("writing prometheus.yml")?;
        let log = File::create(directory.path().join("log")).context("making the log")?;
        let mut command = namespace.command(program("prometheus")?)?;
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("starting Prometheus")?;
        let namespace = Namespace::existing(namespace.name());
        let prometheus = Self { child, namespace, directory };
        let ready = wait::until("Prometheus is ready", || Ok(prometheus.get("/-/ready", &[]).ok()));
        ready.with_context(|| format!("Prometheus's log:\n{}", prometheus.log()))?;
        Ok(prometheus)
    }

    /// Returns its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Evaluates an expression now, and returns the result's samples, each an object with `metric` and `value`.
    ///
    /// # Errors
    /// If Prometheus refuses it.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        self.data("/api/v1/query", &[("query", expression)])
    }

    /// Evaluates an expression at each second of the last `seconds`, and returns the result's series, each an object with `metric`
    /// and `values`.
    ///
    /// # Errors
    /// If Prometheus refuses it.
    pub fn query_range(&self, expression: &str, seconds: u32) -> Result<Vec<Value>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("a clock before 1970")?;
        let (end, start) = (now.as_secs().to_string(), (now.as_secs() - u64::from(seconds)).to_string());
        self.data("/api/v1/query_range", &[("query", expression), ("start", &start), ("end", &end), ("step", "1")])
    }

    /// Returns the targets that it scrapes, as its API shows them.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn targets(&self) -> Result<Vec<Value>> {
        let answer = self.answer("/api/v1/targets", &[])?;
        Ok(answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default())
    }

    /// Returns the alerting rules that it has loaded, as its API shows them.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn rules(&self) -> Result<Vec<Value>> {
        let answer = self.answer("/api/v1/rules", &[])?;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    fn data(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>> {
        let answer = self.answer(path, parameters)?;
        if answer["status"] != "success" {
            bail!("Prometheus refuses {parameters:?}: {answer}");
        }
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    fn answer(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let text = self.get(path, parameters)?;
        serde_json::from_str(&text).with_context(|| format!("reading Prometheus's answer: {text:.300}"))
    }

    fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let mut curl = self.namespace.command("curl")?;
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--get"]);
        if path.starts_with("/-/") {
            curl.arg("--fail");
        }
        for (name, value) in parameters {
            curl.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        command::run(curl.arg(format!("http://{ADDRESS}{path}")), "")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `promtool` with this input in a directory, and returns what it printed.
///
/// # Errors
/// If it is not there, or finds fault.
pub fn promtool(directory: &Path, arguments: &[&str], input: &str) -> Result<String> {
    command::run(Command::new(program("promtool")?).current_dir(directory).args(arguments), input)
}

fn program(name: &str) -> Result<PathBuf> {
    Ok(fetched::collection("prometheus")?.join("debian/usr/bin").join(name))
}
