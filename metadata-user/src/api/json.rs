//! JSON as Python's `json.dumps` writes it.
//!
//! Promises: one line, `", "` and `": "` between things, keys in the order given, ASCII only (everything outside
//! 0x20..=0x7e is a lower-case `\uXXXX`, beyond the BMP a surrogate pair), numbers in Python's spelling.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Appends a value.
///
/// # Panics
/// Never: it writes to memory, and the types given here have text for keys.
pub(super) fn append(out: &mut Vec<u8>, value: &impl Serialize) {
    let written = value.serialize(&mut Serializer::with_formatter(&mut *out, Python));
    debug_assert!(written.is_ok(), "a value that JSON cannot express");
}

/// Returns a value's text.
pub(super) fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, value);
    out
}

#[derive(Clone, Copy)]
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !(' '..='~').contains(&c)) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_number_str<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: &str) -> io::Result<()> {
        writer.write_all(python_number(value).as_bytes())
    }
}

/// Returns a JSON number as Python reads and writes it: integers of any size as they are, others as a double.
fn python_number(text: &str) -> String {
    if !text.contains(['.', 'e', 'E']) {
        return if text == "-0" { "0".to_owned() } else { text.to_owned() };
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_infinite() => (if number > 0.0 { "Infinity" } else { "-Infinity" }).to_owned(),
        Ok(number) => python_float(number),
        Err(_) => text.to_owned(),
    }
}

/// Returns a finite double as Python's `repr`: the shortest digits that read back, an exponent below 1e-4 and from
/// 1e16 on.
fn python_float(number: f64) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        String::from_utf8(to_vec(&value)).unwrap()
    }

    #[test]
    fn objects_keep_their_order_and_lose_their_blanks() {
        assert_eq!(rewritten("{\"b\":[1,2 , 3],\n\"a\":{ } ,\"c\":[]}"), r#"{"b": [1, 2, 3], "a": {}, "c": []}"#);
        assert_eq!(rewritten(r#"{"b":1,"a":2,"b":3}"#), r#"{"b": 3, "a": 2}"#);
        assert_eq!(rewritten("[true,false,null]"), "[true, false, null]");
    }

    #[test]
    fn text_is_ascii() {
        for (text, expected) in [
            ("é", r#""\u00e9""#),
            ("🙂", r#""\ud83d\ude42""#),
            ("\u{7f}\u{2028}", r#""\u007f\u2028""#),
            ("\0\u{1b}\u{8}\u{c}\n\r\t", r#""\u0000\u001b\b\f\n\r\t""#),
            ("\"\\/<>&'", r#""\"\\/<>&'""#),
            ("", r#""""#),
            ("aéb", r#""a\u00e9b""#),
        ] {
            assert_eq!(String::from_utf8(to_vec(&text)).unwrap(), expected);
        }
    }

    #[test]
    fn numbers_are_spelled_as_python_spells_them() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-7", "-7"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("2.5", "2.5"),
            ("2.50", "2.5"),
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("1e2", "100.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("1E400", "Infinity"),
            ("-1e400", "-Infinity"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1.5e-7", "1.5e-07"),
            ("1e-400", "0.0"),
            ("0.1", "0.1"),
            ("9007199254740993.0", "9007199254740992.0"),
            ("123456789.123456789", "123456789.12345679"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
        }
    }
}
