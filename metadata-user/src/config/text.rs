//! The text of a configuration file: bounded, and UTF-8.

use std::io::Read as _;
use std::path::Path;

use toml::de::DeTable;

use super::ConfigError;
use super::refusal::{Fault, Refusal};
use crate::encoding::{self, NotText};

/// Most bytes of a configuration. Every key with a comment is some 10 KiB; etcd endpoints and patterns by the thousand fit.
const LIMIT: u64 = 1 << 20;

/// Reads a file. `example`: what `metadatad schema` calls the example of such a file.
pub(super) fn read(path: &Path, example: &'static str) -> Result<String, ConfigError> {
    let refused = |source| ConfigError::Read { path: path.to_owned(), example, source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > LIMIT {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: LIMIT });
    }
    of_bytes(path, &bytes)
}

/// Checks a configuration that is already read, by what reads its tables. `path` is only named in errors.
pub(super) fn parsed<T>(
    path: &Path,
    text: &str,
    example: &str,
    read: impl FnOnce(&DeTable<'_>) -> Result<T, Refusal>,
) -> Result<T, ConfigError> {
    let text = without_mark(text);
    let document = DeTable::parse(text).map_err(|error| Refusal::of_toml(&error));
    document
        .and_then(|document| read(document.get_ref()))
        .map_err(|refusal| ConfigError::at(path, text, refusal, example))
}

/// Returns the text of a file's bytes.
pub(super) fn of_bytes(path: &Path, bytes: &[u8]) -> Result<String, ConfigError> {
    match encoding::text(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(NotText { at, problem, remedy }) => {
            // What is before the first byte that is not UTF-8 is, and tells its line.
            let before = String::from_utf8_lossy(&encoding::without_mark(bytes)[..at.unwrap_or_default()]);
            let refusal = Fault::new(problem, remedy).at(before.len()..before.len());
            Err(ConfigError::at(path, &before, refusal, ""))
        }
    }
}

/// Takes a byte order mark away.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn load(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        match Config::load(file.path()) {
            Ok(config) => config.cloud.dhcp_domain,
            Err(error) => error.to_string().replace(&*file.path().display().to_string(), "m.toml"),
        }
    }

    #[test]
    fn utf_8_is_read_with_and_without_a_byte_order_mark() {
        assert_eq!(load("[cloud]\ndhcp_domain = 'köln'".as_bytes()), "köln");
        assert_eq!(load("\u{feff}[cloud]\ndhcp_domain = 'köln'".as_bytes()), "köln");
        let message = load("\u{feff}[claud]\n".as_bytes());
        assert!(message.starts_with("m.toml:1:2: unknown field `claud`"), "{message}");
    }

    #[test]
    fn other_encodings_are_named_with_their_place() {
        let text = "[cloud]\n# caf\u{e9}\ndhcp_domain = 'x'";
        let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
        let message = load(&latin);
        let expected = "m.toml:2:6: the byte 0xe9 is not UTF-8 but Latin-1, Windows-1252 or the like; save it as UTF-8";
        assert_eq!(message, expected);
        let units: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for bytes in [little.clone(), big.clone(), [&[0xff, 0xfe], &*little].concat(), [&[0xfe, 0xff], &*big].concat()]
        {
            assert_eq!(load(&bytes), "m.toml:1:1: it is UTF-16; save it as UTF-8");
        }
        let message = load(b"\x00\x01\x02");
        assert!(message.starts_with("m.toml:1:1"), "{message}");
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let message = load(&vec![b'#'; (1 << 20) + 1]);
        assert!(message.contains("more than 1048576 bytes"), "{message}");
        assert_eq!(load(&vec![b'#'; 1 << 20]), "novalocal");
    }

    #[test]
    fn hostile_nesting_is_refused_in_linear_time() {
        let deep = |n: usize| {
            ["[", "a = [", "a = {a=", "[[", "a.", "a = [[", "{", "a = '''", "a = \"\\", "[a."].map(|part| {
                let unit = part.trim_start_matches("a = ");
                let head = &part[..part.len() - unit.len()];
                format!("{head}{}", unit.repeat(n))
            })
        };
        let started = std::time::Instant::now();
        for text in deep(200_000) {
            let text = &text[..text.len().min(1 << 20)];
            let message = load(text.as_bytes());
            assert!(message.starts_with("m.toml:1:"), "{message:.200}");
            assert!(message.len() < 500, "{message:.600}");
        }
        // A quadratic reader needs minutes for each.
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
