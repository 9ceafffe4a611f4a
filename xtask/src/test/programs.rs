//! The test programs: cargo builds those of all groups at once, and the groups run them.
//!
//! Promises: cargo is given one selection of packages, the whole workspace with what its tests depend on. Libraries have
//! the features that a selection asks for, so each further selection would build many of them, and the daemon's library,
//! again. The daemon is built beside them, with these features too.
//!
//! Left out: tests in documentation, of which there are none to run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{cargo, show};

/// The package whose tests take more than one process; each of its test targets belongs to a group.
const LAB: &str = "metadatad-tests";

/// Which programs to build.
#[derive(Debug)]
pub(super) enum Selection {
    /// All, and the daemon.
    All,
    /// Test targets with these names, and the daemon.
    Targets(Vec<&'static str>),
}

/// A program of tests.
#[derive(Debug)]
struct Program {
    /// The target's name in Cargo.toml.
    name: String,
    /// Whether it is a test target of [`LAB`].
    of_group: bool,
    /// That of its package, in which it runs, as with `cargo test`.
    directory: PathBuf,
    executable: PathBuf,
}

/// Programs that were built.
#[derive(Debug, Default)]
pub(super) struct Programs(Vec<Program>);

impl Programs {
    /// Builds them.
    pub(super) fn build(selection: &Selection) -> Result<Self> {
        let mut command = cargo();
        command.args(["build", "--workspace", "--message-format=json-render-diagnostics"]);
        match selection {
            Selection::All => command.arg("--all-targets"),
            Selection::Targets(names) => command.arg("--bins").args(names.iter().flat_map(|name| ["--test", name])),
        };
        show(&command);
        let output = command.stderr(Stdio::inherit()).output().context("starting cargo")?;
        if !output.status.success() {
            bail!("cargo build: {}", output.status);
        }
        let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let mut programs = Vec::new();
        for message in messages {
            programs.extend(program(&message.context("reading cargo's messages")?));
        }
        Ok(Self(programs))
    }

    /// Begins the command that runs the test target of this name.
    pub(super) fn of_group(&self, name: &str) -> Result<Command> {
        let found = self.0.iter().find(|program| program.of_group && program.name == name);
        Ok(found.with_context(|| format!("cargo built no test target {name}"))?.command())
    }

    /// Begins the commands that run the tests which belong to no other group: those beside the code.
    pub(super) fn unit(&self) -> impl Iterator<Item = Command> {
        self.0.iter().filter(|program| !program.of_group).map(Program::command)
    }

    /// Returns the file of the test target of this name.
    pub(super) fn file(&self, name: &str) -> Result<&Path> {
        let found = self.0.iter().find(|program| program.of_group && program.name == name);
        Ok(&found.with_context(|| format!("cargo built no test target {name}"))?.executable)
    }
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        // libtest reports times only where unstable features are allowed.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// Reads the message that cargo built a program of tests; `None`: it built something else.
fn program(message: &Value) -> Option<Program> {
    let executable = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
    // `path+file:///…/tests#metadatad-tests@0.1.0`
    let of_lab = message["package_id"].as_str()?.contains(&format!("#{LAB}@"));
    let is_test = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        of_group: of_lab && is_test,
        directory: directory.to_owned(),
        executable: executable.into(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(package: &str, kind: &str, is_harness: bool) -> Value {
        json!({
            "reason": "compiler-artifact", "package_id": format!("path+file:///w/{package}#{package}@0.1.0"),
            "manifest_path": format!("/w/{package}/Cargo.toml"), "target": {"kind": [kind], "name": "one"},
            "profile": {"test": is_harness}, "executable": "/w/target/debug/deps/one-1",
        })
    }

    #[test]
    fn programs_of_tests_are_told_from_others_and_by_package() {
        let read = |package, kind, is_harness| program(&message(package, kind, is_harness));
        assert!(read(LAB, "bin", false).is_none(), "a program, not its tests");
        assert!(read(LAB, "test", true).unwrap().of_group);
        for (package, kind) in [(LAB, "lib"), (LAB, "bin"), ("metadata-ebpf", "test"), ("metadata-user", "lib")] {
            let found = read(package, kind, true).unwrap();
            assert!(!found.of_group, "{package} {kind}");
            assert_eq!(found.directory, Path::new("/w").join(package));
        }
        assert!(program(&json!({"reason": "build-finished", "success": true})).is_none());
    }

    #[test]
    fn a_target_that_was_not_built_is_named() {
        let error = Programs::default().of_group("netns").unwrap_err();
        assert_eq!(error.to_string(), "cargo built no test target netns");
    }
}
