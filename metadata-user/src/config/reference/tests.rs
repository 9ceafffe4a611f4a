//! Tests of `config::reference`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::Config;
use super::super::tests::read;
use super::*;

fn committed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the names of all keys, with their tables.
fn names() -> BTreeSet<String> {
    all_tables().flat_map(|table| table.keys.iter().map(|key| format!("{}.{}", table.name, key.name()))).collect()
}

/// Compares what is committed with what it should be, and names the first place where they differ.
fn compare(path: &str, made: &str) {
    let committed = committed(path);
    for (number, (old, new)) in committed.lines().zip(made.lines()).enumerate() {
        assert_eq!(old, new, "{path}:{}: `cargo xtask schema` writes it anew", number + 1);
    }
    assert!(committed == made, "{path} has not all keys, or others: `cargo xtask schema` writes it anew");
}

#[test]
fn the_example_is_current() {
    compare("deploy/metadatad.toml", &example());
}

#[test]
fn the_reference_is_current() {
    compare("docs/configuration.md", &markdown());
}

#[test]
fn the_schema_is_current() {
    compare("deploy/metadatad.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn what_is_published_of_the_controllers_configuration_is_current() {
    compare("deploy/controller.toml", &controller_example());
    compare("docs/controller-configuration.md", &controller_markdown());
    compare("deploy/controller.schema.json", &format!("{:#}\n", controller_schema()));
    for key in controller_tables().flat_map(|table| table.keys) {
        assert_eq!(key.check_example(), Ok(()), "{}", key.name());
        assert!(
            key.about().ends_with('.') && key.default().map_or(true, |(_, reason)| reason.ends_with('.')),
            "{}",
            key.name()
        );
    }
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let example = committed("deploy/metadatad.toml");
    assert_eq!(read(&example).expect("accepted"), Config::default());
    let mut shown = BTreeMap::new();
    let mut table = "";
    for text in example.lines().map(|text| text.trim_start_matches("# ")) {
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name;
        } else if let Some((name, value)) = text.split_once(" = ")
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            shown.insert(format!("{table}.{name}"), value);
        }
    }
    assert_eq!(shown.keys().cloned().collect::<BTreeSet<_>>(), names());
    for table in all_tables() {
        for key in table.keys {
            let name = format!("{}.{}", table.name, key.name());
            assert_eq!(shown[&name], key.example(), "{name}");
        }
    }
}

#[test]
fn every_example_value_can_be_written() {
    for table in all_tables() {
        for key in table.keys {
            assert_eq!(key.check_example(), Ok(()), "{}.{}", table.name, key.name());
            assert!(key.about().ends_with('.') && !key.kind().is_empty(), "{}.{}", table.name, key.name());
            assert!(key.default().map_or(true, |(_, reason)| reason.ends_with('.')), "{}.{}", table.name, key.name());
        }
    }
    // The optional tables and keys together, each kind of source by itself.
    for kind in ["etcd", "nova"] {
        let mut text = format!("[source]\nkind = \"{kind}\"\n[source.{kind}]\n");
        let tables = all_tables().filter(|table| table.name == format!("source.{kind}"));
        for key in tables.flat_map(|table| table.keys) {
            if let ("nova", "endpoints") = (kind, key.name()) {
                text += "endpoints = ['https://a:8775']\n";
            } else {
                text += &format!("{} = {}\n", key.name(), key.example());
            }
        }
        read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn the_schema_has_every_key_and_no_other() {
    fn collect(schema: &Value, name: &str, found: &mut BTreeSet<String>) {
        match schema["properties"].as_object() {
            Some(properties) => {
                assert_eq!(schema["additionalProperties"], false, "{name}");
                for (key, schema) in properties {
                    collect(schema, &format!("{name}.{key}"), found);
                }
            }
            None => {
                assert!(schema["description"].is_string(), "{name}");
                assert!(!schema["default"].is_null() || schema["examples"].is_array(), "{name}");
                found.insert(name.trim_start_matches('.').to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&schema(), "", &mut found);
    assert_eq!(found, names());
}

/// Messages that tell an operator to change a key must name one that exists.
#[test]
fn every_key_that_a_message_names_exists() {
    let of_controller =
        controller_tables().flat_map(|table| table.keys.iter().map(|key| format!("{}.{}", table.name, key.name())));
    let known: BTreeSet<String> = names().into_iter().chain(of_controller).collect();
    let tables: Vec<_> = all_tables().chain(controller_tables()).map(|table| table.name).collect();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut found, mut wrong) = (0, Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with("tests.rs") && path.extension().is_some_and(|extension| extension == "rs") {
                for key in named_keys(&std::fs::read_to_string(&path).expect("text"), &tables) {
                    found += 1;
                    if !known.contains(&key) && !tables.contains(&&*key) {
                        wrong.push(format!("{}: {key}", path.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(found > 20, "{found} keys are named");
}

/// Returns what looks like `table.key` in the string literals of a file without its tests.
fn named_keys(source: &str, tables: &[&str]) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    let literals = literals(source);
    let words = literals.split(|c: char| !is_part(c) && !"/:-".contains(c)).map(|word| word.trim_matches(['.', ':']));
    let keys = words.filter(|word| word.chars().all(is_part));
    // Files are no keys.
    let is_file = |word: &str| {
        ["rs", "toml", "yaml", "json", "jsonl", "conf", "sock"].contains(&word.rsplit('.').next().unwrap_or(word))
    };
    let is_key =
        |word: &str| tables.iter().any(|table| word.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')));
    // A document's list is written so: `ports.0.tap`.
    let is_element = |word: &str| word.split('.').any(|part| part.parse::<usize>().is_ok());
    keys.filter(|word| is_key(word) && !is_file(word) && !is_element(word)).map(str::to_owned).collect()
}

/// Returns all string literals, apart from each other by line breaks.
fn literals(source: &str) -> String {
    let mut out = String::new();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut is_inside = false;
    let mut rest = code.replace("'\"'", "").chars().collect::<std::collections::VecDeque<_>>();
    while let Some(c) = rest.pop_front() {
        match c {
            '\\' if is_inside => drop(rest.pop_front()),
            '"' => {
                is_inside = !is_inside;
                out.push('\n');
            }
            c if is_inside => out.push(c),
            _ => {}
        }
    }
    out
}
