//! Which form of an error a client asked for.
//!
//! Follows WebOb 1.8's reading of RFC 7231, section 5.3.2, since that is what Nova's errors go through. Notable: a
//! missing header allows nothing here, one that is not valid allows everything, and a media range with parameters
//! matches neither form.

/// The forms an error comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/plain`
    Plain,
    /// `text/html`
    Html,
    /// `application/json`
    Json,
}

/// Chooses the form for an `Accept` header.
pub(super) fn form(accept: Option<&str>) -> Form {
    let Some(ranges) = ranges(accept.unwrap_or_default()) else {
        return Form::Html;
    };
    let html = weight(&ranges, "text", "html");
    let json = weight(&ranges, "application", "json");
    match (html, json) {
        (0, 0) => Form::Plain,
        _ if html >= json => Form::Html,
        _ => Form::Json,
    }
}

/// A media range and its weight in thousandths.
#[derive(Debug)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    has_parameters: bool,
    weight: u16,
}

/// Returns the weight of the most specific range that covers a media type; of equally specific ones, the first's.
fn weight(ranges: &[Range<'_>], kind: &str, subtype: &str) -> u16 {
    let mut best = (0, 0);
    for range in ranges {
        let same_kind = range.kind.eq_ignore_ascii_case(kind);
        let specificity = match range {
            _ if same_kind && range.subtype.eq_ignore_ascii_case(subtype) => {
                if range.has_parameters {
                    continue;
                }
                3
            }
            _ if same_kind && range.subtype == "*" => 2,
            _ if range.kind == "*" && range.subtype == "*" => 1,
            _ => continue,
        };
        if specificity > best.0 {
            best = (specificity, range.weight);
        }
    }
    best.1
}

/// Parses the header; `None` if it is not valid.
fn ranges(header: &str) -> Option<Vec<Range<'_>>> {
    let mut rest = Rest(header);
    let mut ranges = Vec::new();
    if header.is_empty() {
        return Some(ranges);
    }
    if !rest.eat(',') {
        ranges.push(rest.range()?);
    }
    while !rest.0.is_empty() {
        rest.skip_blanks();
        if !rest.eat(',') {
            return None;
        }
        let before = rest.0;
        rest.skip_blanks();
        if rest.0.is_empty() || rest.0.starts_with(',') {
            // Blanks belong to the next comma; at the very end nothing may own them.
            if rest.0.is_empty() && !before.is_empty() {
                return None;
            }
            continue;
        }
        ranges.push(rest.range()?);
    }
    Some(ranges)
}

/// What is still to be read of the header.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn eat(&mut self, wanted: char) -> bool {
        match self.0.strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let length = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        (length > 0).then(|| self.take(length))
    }

    /// Reads a token or a quoted string.
    fn value(&mut self) -> Option<()> {
        if !self.eat('"') {
            return self.token().map(|_| ());
        }
        loop {
            let c = self.0.chars().next()?;
            self.take(c.len_utf8());
            match c {
                '"' => return Some(()),
                '\\' => {
                    let escaped = self.0.chars().next()?;
                    self.take(escaped.len_utf8());
                }
                '\t' | ' '..='\u{7e}' | '\u{80}'.. => {}
                _ => return None,
            }
        }
    }

    /// Reads `;` with the blanks around it.
    fn semicolon(&mut self) -> bool {
        let before = *self;
        self.skip_blanks();
        if self.eat(';') {
            self.skip_blanks();
            return true;
        }
        *self = before;
        false
    }

    fn starts_weight(&self) -> bool {
        self.0.starts_with("q=") || self.0.starts_with("Q=")
    }

    fn range(&mut self) -> Option<Range<'a>> {
        let kind = self.token()?;
        if !self.eat('/') {
            return None;
        }
        let mut range = Range { kind, subtype: self.token()?, has_parameters: false, weight: 1000 };
        while self.semicolon() {
            if self.starts_weight() {
                self.take(2);
                range.weight = self.thousandths()?;
                self.extensions()?;
                break;
            }
            self.token()?;
            if !self.eat('=') {
                return None;
            }
            self.value()?;
            range.has_parameters = true;
        }
        Some(range)
    }

    /// Reads what may follow a weight: `;name` or `;name=value`.
    fn extensions(&mut self) -> Option<()> {
        while self.semicolon() {
            self.token()?;
            if self.eat('=') {
                self.value()?;
            }
        }
        Some(())
    }

    /// Reads a weight: 0 to 1 with at most three decimals.
    fn thousandths(&mut self) -> Option<u16> {
        let whole = self.0.chars().next()?;
        if whole != '0' && whole != '1' {
            return None;
        }
        self.take(1);
        let mut weight = if whole == '1' { 1000 } else { 0 };
        if self.eat('.') {
            for unit in [100, 10, 1] {
                match self.0.bytes().next() {
                    Some(digit) if digit.is_ascii_digit() && (whole == '0' || digit == b'0') => {
                        self.take(1);
                        weight += u16::from(digit - b'0') * unit;
                    }
                    _ => break,
                }
            }
        }
        Some(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, form};

    #[test]
    fn the_form_follows_the_header() {
        for (accept, expected) in [
            ("", Form::Plain),
            ("text/plain", Form::Plain),
            ("application/xml", Form::Plain),
            ("*/*", Form::Html),
            ("text/html", Form::Html),
            ("TEXT/HTML", Form::Html),
            ("text/*", Form::Html),
            ("garbage", Form::Html),
            ("text/html;", Form::Html),
            ("text/html;q=2", Form::Html),
            ("application/json;q=0.1234", Form::Html),
            (",application/json", Form::Html),
            ("application/json", Form::Json),
            ("application/*", Form::Json),
            ("application/json,", Form::Json),
            ("application/json , ,text/plain", Form::Json),
            ("text/html;q=0.1, application/json", Form::Json),
            ("application/json, text/html", Form::Html),
            ("application/json;q=0.5, */*;q=0.1", Form::Json),
            ("*/*;q=0.1, application/json;q=0.1", Form::Html),
            ("text/html;q=0, application/json;q=0", Form::Plain),
            ("text/html;q=0, */*", Form::Json),
            ("application/json;v=1", Form::Plain),
            ("application/json;v=\"a,b\";q=0.3", Form::Plain),
            ("application/json;q=1;ext;e=2", Form::Json),
            ("*/html", Form::Plain),
        ] {
            assert_eq!(form(Some(accept)), expected, "{accept}");
        }
        assert_eq!(form(None), Form::Plain);
    }
}
