//! Patterns of interface names.

use std::fmt;

/// A pattern in which `*` stands for any characters, also none, and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Takes the pattern as written.
    #[must_use]
    pub fn of(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Tells whether the whole name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where to go on if the last `*` has to take one character more.
        let mut retry = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                retry = Some((p + 1, n + 1));
                p += 1;
            } else if pattern.get(p).is_some_and(|wanted| *wanted == b'?' || *wanted == name[n]) {
                p += 1;
                n += 1;
            } else if let Some((after_star, longer)) = retry {
                (p, n) = (after_star, longer);
                retry = Some((after_star, longer + 1));
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|rest| *rest == b'*')
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::NamePattern;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("tap*", "tap", true),
            ("tap*", "tap0a1b", true),
            ("tap*", "qtap0", false),
            ("tap?", "tap1", true),
            ("tap?", "tap", false),
            ("tap?", "tap12", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*-vm?", "a-vm-vm1", true),
            ("*-vm?", "a-vm-vm", false),
            ("*-vm?", "a-vm", false),
            ("a*b*c", "axxbxxbc", true),
            ("a*b*c", "axxbxxb", false),
            ("vnet**", "vnet7", true),
        ] {
            assert_eq!(NamePattern::of(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }
}
