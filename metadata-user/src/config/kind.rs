//! Kinds of values: how each is read, described and refused.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::refusal::{Fault, Refusal};

/// What may be written as a value.
pub(super) trait Kind: Sync {
    /// The value, checked.
    type Value;

    /// Reads a value, or refuses it.
    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<Self::Value, Refusal>;

    /// Type and range, in words.
    fn describe(&self) -> String;

    /// Type and range, as JSON Schema.
    fn schema(&self) -> Value;
}

/// A kind that is written as a string.
pub(super) trait TextKind: Sync {
    /// The value, checked.
    type Value;

    /// Checks a text.
    fn check(&self, text: &str) -> Result<Self::Value, Fault>;

    /// Type and range, in words.
    fn describe(&self) -> String;

    /// What JSON Schema says beside the type.
    fn schema(&self) -> Value {
        json!({})
    }
}

impl<K: TextKind> Kind for K {
    type Value = K::Value;

    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<Self::Value, Refusal> {
        let text = written.get_ref().as_str().ok_or_else(|| Refusal::of_type(written, "a string in quotes"))?;
        self.check(text).map_err(|fault| fault.at(written.span()))
    }

    fn describe(&self) -> String {
        TextKind::describe(self)
    }

    fn schema(&self) -> Value {
        let mut schema = TextKind::schema(self);
        schema["type"] = json!("string");
        schema
    }
}

/// An integer in a range.
pub(super) struct Number<T> {
    /// The least.
    pub(super) least: T,
    /// The most.
    pub(super) most: T,
}

impl<T: Copy + Display + PartialOrd + Serialize + Sync + TryFrom<i64>> Kind for Number<T> {
    type Value = T;

    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<T, Refusal> {
        let number = written
            .get_ref()
            .as_integer()
            .ok_or_else(|| Refusal::of_type(written, "a number, without quotes or fractions"))?;
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|value| T::try_from(value).ok());
        value.filter(|value| (self.least..=self.most).contains(value)).ok_or_else(|| {
            Fault::new(format!("{number} is out of range"), format!("use {} to {}", self.least, self.most))
                .at(written.span())
        })
    }

    fn describe(&self) -> String {
        format!("integer, {} to {}", self.least, self.most)
    }

    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": self.least, "maximum": self.most })
    }
}

/// A time in whole seconds, written as an integer. As Nova has it.
pub(super) struct Seconds(pub(super) Number<u64>);

impl Kind for Seconds {
    type Value = Duration;

    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<Duration, Refusal> {
        self.0.read(written).map(Duration::from_secs)
    }

    fn describe(&self) -> String {
        format!("integer, {} to {} (seconds)", self.0.least, self.0.most)
    }

    fn schema(&self) -> Value {
        self.0.schema()
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<bool, Refusal> {
        written.get_ref().as_bool().ok_or_else(|| Refusal::of_type(written, "true or false, without quotes"))
    }

    fn describe(&self) -> String {
        "boolean".to_owned()
    }

    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }
}

/// A list. Values keep their places, for checks between them.
pub(super) struct List<K>(pub(super) K);

impl<K: Kind> Kind for List<K> {
    type Value = Spanned<Vec<Spanned<K::Value>>>;

    fn read(&self, written: &Spanned<DeValue<'_>>) -> Result<Self::Value, Refusal> {
        let list =
            written.get_ref().as_array().ok_or_else(|| Refusal::of_type(written, "a list in square brackets"))?;
        let values = list.iter().map(|value| Ok(Spanned::new(value.span(), self.0.read(value)?)));
        Ok(Spanned::new(written.span(), values.collect::<Result<_, _>>()?))
    }

    fn describe(&self) -> String {
        format!("list of: {}", self.0.describe())
    }

    fn schema(&self) -> Value {
        json!({ "type": "array", "items": self.0.schema() })
    }
}

/// One of a few names.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + Sync> TextKind for Choice<T> {
    type Value = T;

    fn check(&self, text: &str) -> Result<T, Fault> {
        let found = self.0.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = self.0.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            Fault::new(format!("`{text}` is not known here"), format!("use {}", names.join(" or ")))
        })
    }

    fn describe(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|(name, _)| format!("`\"{name}\"`")).collect();
        names.join(" or ")
    }

    fn schema(&self) -> Value {
        json!({ "enum": self.0.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
    }
}

/// A duration: a number with `ms`, `s` or `m`.
pub(super) struct Timeout {
    /// Shortest and longest.
    pub(super) range: RangeInclusive<Duration>,
    /// Whether `"0s"` may be written too.
    pub(super) zero: bool,
}

/// The range that time-outs have. Below, a scheduling delay would cut guests off.
pub(super) const TIMEOUT: Timeout =
    Timeout { range: Duration::from_millis(100)..=Duration::from_secs(3600), zero: false };

impl TextKind for Timeout {
    type Value = Duration;

    fn check(&self, text: &str) -> Result<Duration, Fault> {
        if self.zero && text == "0s" {
            return Ok(Duration::ZERO);
        }
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let milliseconds = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            _ => None,
        };
        let value = digits
            .parse::<u64>()
            .ok()
            .zip(milliseconds)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Duration::from_millis)
            .filter(|value| self.range.contains(value));
        value.ok_or_else(|| {
            let zero = if self.zero { "\"0s\", or " } else { "" };
            let [least, most] = [self.range.start(), self.range.end()].map(|time| shown(*time));
            Fault::new(
                format!("`{text}` is not a possible time-out"),
                format!("use {zero}\"{least}\" to \"{most}\", for example \"10s\""),
            )
        })
    }

    fn describe(&self) -> String {
        let zero = if self.zero { "`\"0s\"`, or " } else { "" };
        format!("duration, {zero}`\"{}\"` to `\"{}\"`", shown(*self.range.start()), shown(*self.range.end()))
    }

    fn schema(&self) -> Value {
        json!({ "pattern": "^[0-9]+(ms|s|m)$" })
    }
}

/// Writes a duration as it may be written in the configuration.
fn shown(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// A name that becomes a file's or an interface's: of at most so many bytes.
pub(super) struct Name {
    /// Most bytes.
    pub(super) longest: usize,
}

impl TextKind for Name {
    type Value = String;

    fn check(&self, name: &str) -> Result<String, Fault> {
        let possible = !name.is_empty()
            && name.len() <= self.longest
            && name != "."
            && name != ".."
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%');
        if possible {
            return Ok(name.to_owned());
        }
        let remedy = format!("use 1 to {} letters, digits, `-`, `_` or `.`", self.longest);
        Err(Fault::new(format!("`{name}` is not a possible name"), remedy))
    }

    fn describe(&self) -> String {
        format!("string, 1 to {} characters", self.longest)
    }

    fn schema(&self) -> Value {
        json!({ "minLength": 1, "maxLength": self.longest })
    }
}

/// An absolute path.
pub(super) enum AbsolutePath {
    /// Of a directory, or of a file that is only read.
    Any,
    /// Of a file that is written: in a directory other than the root or `..`.
    File,
    /// Of a Unix socket.
    Socket,
}

/// Longest path of a Unix socket: `sun_path` (unix(7)) less its final zero.
const LONGEST_SOCKET: usize = 107;

impl TextKind for AbsolutePath {
    type Value = PathBuf;

    fn check(&self, text: &str) -> Result<PathBuf, Fault> {
        if matches!(self, Self::Socket) && text.len() > LONGEST_SOCKET {
            let problem = format!("a socket's path of {} bytes is too long", text.len());
            return Err(Fault::new(problem, format!("use at most {LONGEST_SOCKET}")));
        }
        let path = PathBuf::from(text);
        if !path.is_absolute() || text.contains('\0') {
            return Err(Fault::new(format!("`{text}` is not an absolute path"), "write it from `/` on"));
        }
        if matches!(self, Self::File) && (text.ends_with('/') || path.file_name().is_none()) {
            return Err(Fault::new(format!("`{text}` is a directory"), "name a file in it"));
        }
        Ok(path)
    }

    fn describe(&self) -> String {
        match self {
            Self::Socket => format!("absolute path, at most {LONGEST_SOCKET} bytes"),
            Self::Any | Self::File => "absolute path".to_owned(),
        }
    }

    fn schema(&self) -> Value {
        match self {
            Self::Socket => json!({ "pattern": "^/", "maxLength": LONGEST_SOCKET }),
            Self::Any | Self::File => json!({ "pattern": "^/" }),
        }
    }
}

/// A text with a check of its own.
pub(super) struct Text<T> {
    /// What it is, in words.
    pub(super) what: &'static str,
    /// Checks it.
    pub(super) check: fn(&str) -> Result<T, Fault>,
}

impl<T> TextKind for Text<T> {
    type Value = T;

    fn check(&self, text: &str) -> Result<T, Fault> {
        (self.check)(text)
    }

    fn describe(&self) -> String {
        format!("string: {}", self.what)
    }
}
