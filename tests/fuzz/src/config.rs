//! Configuration: a file's bytes into `config`.
//!
//! Checked: what is accepted has the same values for a command that reads a part of it; a refusal names a place of the
//! file, in one bounded line, and what a command then reads of it is what the file says.

use std::path::Path;

use metadata_user::config::partial::Partial;
use metadata_user::config::{Config, ConfigError};

use crate::input::check_message;

/// Longest problem and remedy: the names of a table's keys are among them.
const LONGEST_MESSAGE: usize = 4 << 10;

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let path = Path::new("m.toml");
    let text = match Config::text_of(path, bytes) {
        Ok(text) => text,
        Err(error) => return refused(&String::from_utf8_lossy(bytes), &error),
    };
    let parsed = Config::parse(path, &text);
    let partial = Partial::of(path, text.clone());
    match parsed {
        Err(error) => {
            refused(&text, &error);
            assert_eq!(partial.error().map(ToString::to_string), Some(error.to_string()));
            // Whatever these are, reading them must come to an end.
            let _ = (partial.socket(), partial.pin_dir(), partial.namespace(), partial.interface());
            let _ = (partial.snapshot(), partial.source());
        }
        Ok(config) => {
            assert!(partial.error().is_none());
            assert_eq!(partial.socket().as_ref(), Some(&config.admin.socket));
            assert_eq!(partial.pin_dir().as_ref(), Some(&config.bpf.pin_dir));
            assert_eq!(partial.namespace().as_ref(), Some(&config.responder.namespace));
            assert_eq!(partial.interface().as_ref(), Some(&config.responder.interface));
            assert_eq!(partial.snapshot().as_ref(), Some(&config.snapshot));
            assert_eq!(partial.source().as_ref(), Some(&config.source));
            let policy = config.policy();
            assert!(policy.connections_per_port > 0 && policy.requests.burst > 0);
            assert!((1..=64).contains(&policy.access.hop_limit));
            assert!(!config.ports.matches(&config.responder.interface));
            config.warnings().iter().for_each(|warning| check_message(warning, LONGEST_MESSAGE));
        }
    }
}

fn refused(text: &str, error: &ConfigError) {
    let ConfigError::Invalid { line, column, .. } = error else { panic!("{error}") };
    check_message(&error.to_string(), LONGEST_MESSAGE);
    let lines = text.split('\n').count();
    assert!((1..=lines).contains(line), "{error}: it has {lines} lines");
    assert!((1..=text.len() + 1).contains(column), "{error}: it has {} bytes", text.len());
}
