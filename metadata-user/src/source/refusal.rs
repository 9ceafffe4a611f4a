//! Why a document is not used, whichever source brought it.
//!
//! Promises: a document is reported once for what it holds and what is wrong with it, however often it is read again.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::BrokenDocument;

/// A document that is not used.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Digest of what was refused.
    digest: u64,
    /// Line and column from 1, where there are any.
    pub(super) place: Option<(usize, usize)>,
    /// What is wrong, and the remedy.
    pub(super) problem: String,
}

impl Refusal {
    /// Refuses a document with this content; without any, `content` is what it has instead.
    pub(super) fn new(content: &[u8], place: Option<(usize, usize)>, problem: String) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self { digest: hasher.finish(), place, problem }
    }

    /// Tells whether the same was refused for the same reason before.
    pub(super) fn repeats(&self, before: Option<&Self>) -> bool {
        before.is_some_and(|before| before.digest == self.digest && before.problem == self.problem)
    }

    /// Returns it as the state of a source shows it.
    pub(super) fn shown(&self, name: String, serves_last_good: bool) -> BrokenDocument {
        let (line, column) = self.place.unzip();
        BrokenDocument { name, line, column, problem: self.problem.clone(), serves_last_good }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_content_with_the_same_problem_repeats() {
        let refusal = |content: &[u8], problem: &str| Refusal::new(content, None, problem.to_owned());
        let first = refusal(b"a", "p");
        assert!(!first.repeats(None));
        assert!(refusal(b"a", "p").repeats(Some(&first)));
        assert!(!refusal(b"b", "p").repeats(Some(&first)));
        assert!(!refusal(b"a", "q").repeats(Some(&first)));
    }
}
