//! Running other programs: output in, output out, errors that say what was run.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs the command with `input` on its standard input and returns what it printed.
///
/// # Errors
/// If it cannot be started, or ends with another status than 0; the error holds what it printed.
pub fn run(command: &mut Command, input: &str) -> Result<String> {
    let line = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {line}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read all says why by its status and output.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {line}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{line}: {}\n{text}{errors}{:.2000}", output.status, input);
    }
    Ok(text)
}
