//! Pages of the documentation: their blocks, and the sessions that they show, which are run.
//!
//! A session is what a page shows behind the prompts `guest$` and `node#` in its blocks, from top to bottom:
//!
//! - Each command is run by a shell, in the guest or on the node, and prints what stands below it, to the letter, or nothing. `…` stands
//!   for any text, and `UUID` for the guest's instance.
//! - A request of the guest that waits for a change, with neither `timeout_sec` nor `last_etag=0`, is answered by the next command on the
//!   node, which the page shows below the answer.
//! - A change of the operator's takes effect a moment later: the guest's next command is repeated until it prints what the page shows.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::guest::Guest;
use crate::node::Node;
use crate::{command, daemon, wait};

/// What a shell of either place knows. A request that hangs ends with the test.
const FUNCTIONS: &str = "curl() { command curl --max-time 60 \"$@\"; }; \
                         metadatad() { \"$PROGRAM\" \"$@\" --config \"$CONFIG\"; }; ";

/// A page in Markdown.
#[derive(Debug)]
pub struct Page {
    name: String,
    text: String,
}

/// Where a command is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the guest: `guest$`.
    Guest,
    /// On the node: `node#`.
    Node,
}

/// A command of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is run.
    pub place: Place,
    /// What is typed.
    pub command: String,
    /// What is below it.
    pub shown: String,
}

impl Page {
    /// Reads the page with this name below the project's directory.
    ///
    /// # Errors
    /// If there is none.
    pub fn read(name: &str) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
        let text = fs::read_to_string(root.join(name)).with_context(|| format!("reading {name}"))?;
        Ok(Self { name: name.to_owned(), text })
    }

    /// Returns the blocks in this language; without one, those that name none.
    #[must_use]
    pub fn blocks(&self, language: &str) -> Vec<&str> {
        let fenced = self.text.split("```").skip(1).step_by(2);
        fenced
            .filter_map(|block| block.split_once('\n').filter(|(named, _)| *named == language))
            .map(|(_, text)| text)
            .collect()
    }

    /// Returns the commands of the session.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.blocks("").into_iter().flat_map(of_block).collect()
    }

    /// Runs the session of a guest and of whoever operates its node.
    ///
    /// # Errors
    /// At the first command that fails, or prints something else than is shown.
    pub fn run_session(&self, node: &Node, guest: &Guest) -> Result<()> {
        let session = Session { node, guest };
        let (mut waiting, mut is_changing) = (None, false);
        for step in self.steps() {
            let at = || format!("{}: `{}`", self.name, step.command);
            let is_first_after_change = std::mem::replace(&mut is_changing, step.place == Place::Node);
            if step.waits() {
                ensure!(waiting.is_none(), "{}: another request waits", at());
                waiting = Some((session.begin(&step).with_context(at)?, step));
                continue;
            }
            if is_first_after_change && step.place == Place::Guest {
                session.run_until_shown(&step).with_context(at)?;
            } else {
                session.run(&step).with_context(at)?;
            }
            if let Some((child, waited)) = waiting.take() {
                let at = || format!("{}: `{}`, after `{}`", self.name, waited.command, step.command);
                ensure!(step.place == Place::Node, "{}: nothing has changed yet", at());
                let output = child.wait_with_output().with_context(at)?;
                session.compare(&waited, &String::from_utf8_lossy(&output.stdout)).with_context(at)?;
                is_changing = false;
            }
        }
        ensure!(waiting.is_none(), "{}: a request waits, and nothing changes below it", self.name);
        Ok(())
    }
}

impl Step {
    /// Returns the command of a line with a prompt.
    fn begun(line: &str) -> Option<Self> {
        let (place, command) = match line.split_once(' ')? {
            ("guest$", command) => (Place::Guest, command),
            ("node#", command) => (Place::Node, command),
            _ => return None,
        };
        Some(Self { place, command: command.to_owned(), shown: String::new() })
    }

    /// Tells whether it waits for the next command on the node.
    fn waits(&self) -> bool {
        self.place == Place::Guest
            && self.command.contains("wait_for_change=true")
            && !["timeout_sec=", "last_etag=0"].iter().any(|bound| self.command.contains(bound))
    }
}

fn of_block(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        match (Step::begun(line), steps.last_mut()) {
            (Some(step), _) => steps.push(step),
            (None, Some(step)) => step.shown.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    steps
}

/// A guest, and the operator of its node.
struct Session<'a> {
    node: &'a Node,
    guest: &'a Guest,
}

impl Session<'_> {
    /// Returns what is typed or shown, of this guest.
    fn of_guest(&self, text: &str) -> String {
        text.replace("UUID", self.guest.uuid())
    }

    fn shell(&self, step: &Step) -> Result<Command> {
        let namespace = match step.place {
            Place::Guest => self.guest.namespace(),
            Place::Node => self.node.namespace(),
        };
        let mut shell = namespace.command("sh")?;
        shell.args(["-ec", &format!("{FUNCTIONS}{}", self.of_guest(&step.command))]);
        shell.env("PROGRAM", daemon::program()?).env("CONFIG", self.node.config()).env("no_proxy", "*");
        Ok(shell)
    }

    fn run(&self, step: &Step) -> Result<()> {
        self.compare(step, &command::run(&mut self.shell(step)?, "")?)
    }

    fn run_until_shown(&self, step: &Step) -> Result<()> {
        let mut last = Ok(());
        let shown = wait::until("it prints what the page shows", || {
            last = self.run(step);
            Ok(last.is_ok().then_some(()))
        });
        if shown.is_err() { last } else { Ok(()) }
    }

    /// Begins a request that waits, and returns when it does.
    fn begin(&self, step: &Step) -> Result<Child> {
        let mut shell = self.shell(step)?;
        let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        wait::until("the request waits", || Ok((self.node.status()?["http"]["waiting"] == 1).then_some(())))?;
        Ok(child)
    }

    fn compare(&self, step: &Step, printed: &str) -> Result<()> {
        let (shown, printed) = (self.of_guest(&step.shown), printed.replace('\r', ""));
        if !is_shown_as(printed.trim_end(), shown.trim_end()) {
            bail!("the page shows\n{shown}\nand it prints\n{printed}");
        }
        Ok(())
    }
}

/// Tells whether a page shows this text so.
fn is_shown_as(text: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_blocks_by_language_and_commands_with_what_they_print() {
        let text = "A\n\n```\nguest$ curl a  b\none\n\ntwo\nnode# metadatad x\nguest$ curl c\n```\n\n```toml\n[x]\n```\n\n```\nnone\n```\n";
        let page = Page { name: "page".to_owned(), text: text.to_owned() };
        assert_eq!(page.blocks("toml"), ["[x]\n"]);
        let steps: Vec<_> =
            page.steps().into_iter().map(|Step { place, command, shown }| (place, command, shown)).collect();
        let expected = [
            (Place::Guest, "curl a  b", "one\n\ntwo\n"),
            (Place::Node, "metadatad x", ""),
            (Place::Guest, "curl c", ""),
        ];
        assert_eq!(steps, expected.map(|(place, command, shown)| (place, command.to_owned(), shown.to_owned())));
    }

    #[test]
    fn an_ellipsis_stands_for_any_text_and_all_else_for_itself() {
        for (text, shown, is_shown) in [
            ("", "", true),
            ("abc", "abc", true),
            ("abc", "ab", false),
            ("abc", "", false),
            ("abc", "…", true),
            ("", "…", true),
            ("abc", "a…c", true),
            ("abcd", "a…c", false),
            ("ab-cd-ef", "ab…cd…ef", true),
            ("ab-ef", "ab…cd…ef", false),
            ("aba", "ab…ba", false),
        ] {
            assert_eq!(is_shown_as(text, shown), is_shown, "{text} as {shown}");
        }
    }
}
