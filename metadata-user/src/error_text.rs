//! Errors as text for logs, states and the terminal: one line, with every cause.
//!
//! A leaf: it uses nothing of this crate.

use std::error::Error;

/// Returns an error and its causes, in one line, separated by colons. A cause that an error already repeats in its own
/// text, as transparent ones do, appears once.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for error in causes(error) {
        let text = one_line(&error.to_string());
        if !line.contains(&text) {
            if !line.is_empty() {
                line += ": ";
            }
            line += &text;
        }
    }
    line
}

/// Returns an error, then its cause, then the cause of that, and so on.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// Returns a text in one line. Of a long one the ends are kept: the output of the kernel's verifier begins with what
/// failed, has thousands of lines, and ends with why, followed by statistics.
#[must_use]
pub fn one_line(text: &str) -> String {
    let is_statistic =
        |line: &&str| ["verification time", "stack depth", "processed"].iter().any(|s| line.starts_with(s));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > 3 {
        let mut telling = lines.iter().filter(|line| !is_statistic(line));
        if let (Some(first), Some(why)) = (telling.next(), telling.next_back()) {
            return format!("{first} … {why}");
        }
    }
    lines.join(" / ")
}

/// Returns a text with its control characters escaped, as in a literal of Rust: what is quoted from a file must not move a
/// terminal's cursor, or look like another line of a log.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Example {
        #[error("starting a thread")]
        Thread(#[source] io::Error),
        #[error(transparent)]
        Transparent(Box<Example>),
        #[error("refused ({0}); raise the limit")]
        Repeats(#[source] io::Error),
    }

    #[test]
    fn an_error_is_one_line_however_long_its_cause() {
        let cause = io::Error::other("refused:\n0: a\n1: b\n2: c\nR1 is not a pointer\nprocessed 3 insns\n");
        assert_eq!(chain(&Example::Thread(cause)), "starting a thread: refused: … R1 is not a pointer");
        assert_eq!(one_line("\n a\n\nb \n"), "a / b");
        assert_eq!(one_line(""), "");
    }

    #[test]
    fn a_cause_that_was_named_is_not_repeated() {
        let inner = Example::Thread(io::Error::other("no memory"));
        assert_eq!(chain(&Example::Transparent(Box::new(inner))), "starting a thread: no memory");
        assert_eq!(chain(&Example::Repeats(io::Error::other("EPERM"))), "refused (EPERM); raise the limit");
    }
}
