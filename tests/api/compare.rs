//! Compares an answer with the expected one, and shows how they differ.

use std::fmt::Write as _;

use crate::case::{Captured, Row};

/// Returns how the answers differ, in lines; `None` if they do not.
pub(crate) fn difference(row: &Row, expected: &Captured, given: &Captured) -> Option<String> {
    let mut out = String::new();
    let mut field = |name: &str, expected: String, given: String| {
        if expected != given {
            let _ = writeln!(out, "  {name}\n    expected {expected}\n    given    {given}");
        }
    };
    field("status", expected.status.to_string(), given.status.to_string());
    field("content-type", format!("{:?}", expected.content_type), format!("{:?}", given.content_type));
    field("content-length", format!("{:?}", expected.content_length), format!("{:?}", given.content_length));
    let (expected, given) = if row.is_seeded {
        (without_seed(&expected.body), without_seed(&given.body))
    } else {
        (expected.body.clone(), given.body.clone())
    };
    if expected != given {
        let at = expected.iter().zip(&given).take_while(|(a, b)| a == b).count();
        field(&format!("body, from byte {at}"), excerpt(&expected, at), excerpt(&given, at));
    }
    (!out.is_empty()).then_some(out)
}

/// Returns what is around a place.
fn excerpt(body: &[u8], at: usize) -> String {
    let start = at.saturating_sub(40);
    let end = (at + 80).min(body.len());
    format!("{:?}", String::from_utf8_lossy(&body[start..end]))
}

/// Takes the value of `random_seed` out, if it is one: 684 base64 characters.
fn without_seed(body: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b"\"random_seed\": \"";
    let Some(start) = body.windows(KEY.len()).position(|window| window == KEY).map(|at| at + KEY.len()) else {
        return body.to_vec();
    };
    let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let length = body[start..].iter().take_while(is_base64).count();
    if length != 684 {
        return body.to_vec();
    }
    [&body[..start], &body[start + length..]].concat()
}
