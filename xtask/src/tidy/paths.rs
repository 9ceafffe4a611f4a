//! The paths that a file names: `use` with its trees, and those written out in code.

use super::source::Token;

/// A path, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// Returns every path of at least two segments, and the names that are imported as they are.
pub(super) fn all(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let follows_path = place > 0 && tokens[place - 1].text == "::";
        if tokens[place].text == "use" && !follows_path {
            place = tree(tokens, place + 1, &[], &mut found);
            continue;
        }
        if !is_word(&tokens[place].text) || follows_path {
            place += 1;
            continue;
        }
        let line = tokens[place].line;
        let mut segments = vec![tokens[place].text.clone()];
        place += 1;
        while let [sign, word, ..] = &tokens[place..] {
            if sign.text != "::" || !is_word(&word.text) {
                break;
            }
            segments.push(word.text.clone());
            place += 2;
        }
        if segments.len() > 1 {
            found.push(Named { segments, line });
        }
    }
    found
}

/// Reads a tree of `use` from this place on, and returns the place after it.
fn tree(tokens: &[Token], mut place: usize, before: &[String], found: &mut Vec<Named>) -> usize {
    let mut segments = before.to_vec();
    let line = tokens.get(place).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(place) {
        match token.text.as_str() {
            "::" => place += 1,
            "{" => {
                place += 1;
                while tokens.get(place).is_some_and(|token| token.text != "}") {
                    let next = tree(tokens, place, &segments, found);
                    // Behind the comma, or at least behind what is no tree.
                    let is_comma = tokens.get(next).is_some_and(|token| token.text == ",");
                    place = if is_comma || next == place { next + 1 } else { next };
                }
                return place + 1;
            }
            "as" => place += 2,
            "self" if !segments.is_empty() => place += 1,
            "*" => place += 1,
            word if is_word(word) => {
                segments.push(word.to_owned());
                place += 1;
            }
            _ => break,
        }
    }
    found.push(Named { segments, line });
    place
}

fn is_word(text: &str) -> bool {
    text.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("a/src/b.rs", text.to_owned());
        all(&source.tokens).iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn trees_of_use_are_taken_apart() {
        let text = "use a::b; pub use crate::{c::{self, D}, e::*}; use f::G as _; use h;";
        assert_eq!(paths(text), ["a::b", "crate::c", "crate::c::D", "crate::e", "f::G", "h"]);
    }

    #[test]
    fn paths_in_code_are_found_whole() {
        let text = "fn a() -> b::C<d::E> { super::f::g(); self.h; crate::i::<J>(); #[k::l] m!{n::o} }";
        assert_eq!(paths(text), ["b::C", "d::E", "super::f::g", "crate::i", "k::l", "n::o"]);
    }
}
