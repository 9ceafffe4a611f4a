//! docs/troubleshooting.md: each symptom leads to a command and shows what that prints, and what it shows is what the program says.
//!
//! The commands themselves are run by `documented`, with those of all pages.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// An entry: its heading, and its blocks.
struct Entry<'a> {
    heading: &'a str,
    blocks: Vec<&'a str>,
}

fn entries(page: &str) -> Vec<Entry<'_>> {
    let entry = |part| {
        let (heading, text) = str::split_once(part, '\n').unwrap_or((part, ""));
        Entry { heading, blocks: text.split("```\n").skip(1).step_by(2).collect() }
    };
    page.split("\n### ").skip(1).map(entry).collect()
}

/// Returns a text's words, without the signs of code and of strings that are broken over lines.
fn words(text: &str) -> Vec<String> {
    let clean = |word: &str| word.trim_matches(|sign: char| !sign.is_alphanumeric()).to_owned();
    text.split_whitespace().map(clean).filter(|word| !word.is_empty()).collect()
}

/// Tells whether some words in a row of a sentence are in the source: what is between a sentence's variable parts.
fn is_said(sentence: &str, source: &str) -> bool {
    const IN_A_ROW: usize = 5;
    let (sentence, source) = (words(sentence), words(source));
    sentence.windows(IN_A_ROW).any(|part| source.windows(IN_A_ROW).any(|other| other == part))
}

#[test]
fn each_symptom_leads_to_a_command_and_its_output() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let entries = entries(&page);
    assert!(entries.len() >= 10, "{}", entries.len());
    for Entry { heading, blocks } in entries {
        assert!(!blocks.is_empty(), "{heading}: no command");
        for block in blocks {
            let mut lines = block.lines();
            let command = lines.next().unwrap_or_default();
            assert!(command.starts_with("node# ") || command.starts_with("guest$ "), "{heading}: {command}");
            // A trace shows what comes.
            assert!(lines.next().is_some() || command.contains(" trace "), "{heading}: {command} without its output");
        }
    }
}

#[test]
fn what_the_pages_show_of_doctor_is_what_it_says() {
    let mut shown = 0;
    for name in ["docs/troubleshooting.md", "docs/doctor.md"] {
        let page = fs::read_to_string(root().join(name)).unwrap();
        for line in page.lines().filter_map(|line| line.strip_prefix("  problem  ")) {
            let (check, sentence) = line.split_once(' ').unwrap();
            let file = root().join(format!("metadata-user/src/cli/doctor/check/{check}.rs"));
            let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {check}: {error}"));
            assert!(is_said(sentence, &source), "{name}: {check} does not say: {sentence}");
            shown += 1;
        }
    }
    assert!(shown >= 7, "{shown}");
}
