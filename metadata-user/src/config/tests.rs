//! Checks that concern more than one table, and what the tests of tables share.

use std::path::Path;

use super::{Config, ConfigError};

pub(super) fn read(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("m.toml"), text)
}

/// Checks that each text is refused: with this place, this problem and this remedy, in one line.
pub(super) fn refuses(cases: &[(&str, &str, &str, &str)]) {
    for (text, place, problem, remedy) in cases {
        let message = read(text).expect_err(text).to_string();
        assert!(message.starts_with(place), "{text:?}: {message}");
        assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{message:?}");
    }
}

#[test]
fn nothing_written_means_the_defaults() {
    assert_eq!(read("").expect("an empty configuration"), Config::default());
    assert_eq!(read("[ports]\n[http]\n").expect("empty tables"), Config::default());
}

#[test]
fn refusals_name_place_and_remedy() {
    refuses(&[
        ("\n\n[respnder]\n", "m.toml:3:2", "unknown field `respnder`", "correct the name"),
        ("[http]\n[log]\n[http]\n", "m.toml:3:2", "duplicate key", "keep one"),
        ("[http\n", "m.toml:1:6", "unclosed table", "not TOML"),
        ("port = ", "m.toml:1", "", "not TOML"),
        ("http = 1", "m.toml:1:1", "`http` is a table", "write [http]"),
        ("[[http]]\nthreads = 1", "m.toml:1:3", "`http` is a table", "write [http]"),
    ]);
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/m.toml")).expect_err("no such file");
    assert!(error.to_string().contains("/nonexistent/m.toml"), "{error}");
}
