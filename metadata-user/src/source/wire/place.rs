//! Places in a JSON text: from a position to the path of the field there, and back.
//!
//! serde says where an error is but not in which field; checks between fields know the field but not where it is.
//!
//! Promises: one walk over the text, whatever it holds; a path is shown in bounded length.

use std::fmt;

use super::excerpt::shown;
use super::work;

/// The longest name of a field that is shown, in characters.
const LONGEST_NAME: usize = 60;

/// The most steps that are shown: twice the depth of a document.
const MOST_STEPS: usize = 16;

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a field of an object.
    Field(String),
    /// Into an element of an array.
    Element(usize),
}

impl From<&str> for Step {
    fn from(name: &str) -> Self {
        Self::Field(name.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Element(index)
    }
}

/// Shows a path like `ports[0].mac_address`.
pub(super) struct Shown<'a>(pub(super) &'a [Step]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("document");
        }
        for (index, step) in self.0.iter().take(MOST_STEPS).enumerate() {
            match step {
                Step::Element(element) => write!(f, "[{element}]")?,
                Step::Field(name) => {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{}", shown(name, LONGEST_NAME))?;
                }
            }
        }
        if self.0.len() > MOST_STEPS { f.write_str("…") } else { Ok(()) }
    }
}

/// A container that the reader is inside of.
enum Frame {
    Object { key: Option<String> },
    Array { index: usize },
}

/// Walks over a text, as far as it is JSON, and keeps the path of where it is.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    frames: Vec<Frame>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, frames: Vec::new() }
    }

    fn path(&self) -> Vec<Step> {
        let steps = self.frames.iter().filter_map(|frame| match frame {
            Frame::Object { key } => key.as_deref().map(Step::from),
            Frame::Array { index } => Some(Step::Element(*index)),
        });
        steps.collect()
    }

    /// Returns how deep the value that begins at a byte lies, if it is on the way to a path.
    fn depth_towards(&self, path: &[Step], start: usize) -> Option<usize> {
        let mut frames = self.frames.as_slice();
        if matches!(self.text[start], b'{' | b'[') {
            // The container itself was entered by the step.
            frames = frames.split_last().map_or(frames, |(_, around)| around);
        }
        let leads_there = |(frame, step): (&Frame, &Step)| {
            work::step();
            match (frame, step) {
                (Frame::Object { key }, Step::Field(name)) => key.as_ref() == Some(name),
                (Frame::Array { index }, Step::Element(element)) => index == element,
                _ => false,
            }
        };
        (frames.len() <= path.len() && frames.iter().zip(path).all(leads_there)).then_some(frames.len())
    }

    /// Steps over one token. Returns where a value begins, if one does.
    fn step(&mut self) -> Option<usize> {
        let start = self.at;
        self.at += 1;
        work::step();
        match self.text[start] {
            open @ (b'{' | b'[') => {
                let frame = if open == b'{' { Frame::Object { key: None } } else { Frame::Array { index: 0 } };
                self.frames.push(frame);
                Some(start)
            }
            b'}' | b']' => {
                self.frames.pop();
                None
            }
            b',' => {
                match self.frames.last_mut() {
                    Some(Frame::Object { key }) => *key = None,
                    Some(Frame::Array { index }) => *index += 1,
                    None => {}
                }
                None
            }
            b'"' => self.string(start),
            b':' | b' ' | b'\t' | b'\r' | b'\n' => None,
            _ => {
                let is_scalar = |byte: &u8| !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
                while self.text.get(self.at).is_some_and(is_scalar) {
                    self.at += 1;
                    work::step();
                }
                Some(start)
            }
        }
    }

    fn string(&mut self, start: usize) -> Option<usize> {
        while let Some(&byte) = self.text.get(self.at) {
            work::step();
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        self.at = self.at.min(self.text.len());
        match self.frames.last_mut() {
            Some(Frame::Object { key: key @ None }) => {
                let raw = &self.text[start..self.at];
                *key = Some(serde_json::from_slice(raw).unwrap_or_else(|_| String::from_utf8_lossy(raw).into_owned()));
                None
            }
            _ => Some(start),
        }
    }
}

/// Returns the path of the field at a line and column (both from 1, the column in bytes, as serde_json counts).
pub(super) fn path_at(text: &[u8], line: usize, column: usize) -> Vec<Step> {
    let line_start = match line {
        0 | 1 => 0,
        _ => {
            let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            ends.map(|(index, _)| index + 1).nth(line - 2).unwrap_or(text.len())
        }
    };
    let end = (line_start + column).min(text.len());
    let mut walk = Walk::new(text);
    while walk.at < end {
        walk.step();
    }
    walk.path()
}

/// Returns the line and column where a field's value begins; of the nearest field around it, if it is not there.
pub(super) fn position_of(text: &[u8], path: &[Step]) -> (usize, usize) {
    let mut walk = Walk::new(text);
    let (mut best, mut depth) = (0, None);
    while walk.at < text.len() && depth != Some(path.len()) {
        let Some(start) = walk.step() else { continue };
        let here = walk.depth_towards(path, start);
        if here > depth {
            (best, depth) = (start, here);
        }
    }
    line_and_column(text, best)
}

/// Returns the line and column of a byte, both from 1.
pub(super) fn line_and_column(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    (line, offset - line_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  \"a\": 1,\n  \"p\": [\n    {\"x\": \"y,\\\"[{\"},\n    {\"x\": [true, {}]}\n  ]\n}";

    #[test]
    fn a_position_leads_to_its_path() {
        for (line, column, expected) in [
            (1, 1, "document"),
            (2, 8, "a"),
            (4, 9, "p[0].x"),
            (4, 18, "p[0].x"),
            (4, 19, "p[0]"),
            (4, 20, "p[1]"),
            (5, 13, "p[1].x[0]"),
            (5, 18, "p[1].x[1]"),
            (7, 1, "document"),
            (99, 1, "document"),
        ] {
            let path = path_at(TEXT.as_bytes(), line, column);
            assert_eq!(Shown(&path).to_string(), expected, "{line}:{column}");
        }
    }

    #[test]
    fn a_path_leads_to_its_position() {
        let steps = |text: &str| -> Vec<Step> {
            let part = |part: &str| part.parse().map_or_else(|_| Step::from(part), Step::Element);
            text.split_whitespace().map(part).collect()
        };
        for (path, expected) in [
            ("", (1, 1)),
            ("a", (2, 8)),
            ("p", (3, 8)),
            ("p 0", (4, 5)),
            ("p 0 x", (4, 11)),
            ("p 1 x", (5, 11)),
            ("p 1 x 1", (5, 18)),
            ("p 1 nothing", (5, 5)),
            ("nothing", (1, 1)),
        ] {
            assert_eq!(position_of(TEXT.as_bytes(), &steps(path)), expected, "{path}");
        }
    }
}
