//! Reads a pattern character by character.

use super::{Error, Result};

/// A place in a pattern.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    pub(super) fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Goes past `text` if it stands here.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, text: &str) -> Result<()> {
        match self.eat(text) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{text}`"))),
        }
    }

    /// What stands here is not what should.
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        match self.peek() {
            None => Error::new(format_args!("{expected} is missing at its end")),
            Some(_) => {
                let found: String = self.rest.chars().take(20).collect();
                Error::new(format_args!("expected {expected} at '{found}'"))
            }
        }
    }

    /// The characters from here on that pass, maybe none.
    pub(super) fn take_while(&mut self, passes: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c: char| !passes(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Goes on by `n_bytes`, which end a character.
    pub(super) fn skip(&mut self, n_bytes: usize) {
        self.rest = &self.rest[n_bytes..];
    }

    /// Up to the next `end`, and past it.
    pub(super) fn take_until(&mut self, end: char) -> Option<&'a str> {
        let at = self.rest.find(end)?;
        let taken = &self.rest[..at];
        self.rest = &self.rest[at + end.len_utf8()..];
        Some(taken)
    }

    /// A text in these quotes, the first of which stands here; each character, and whether a backslash stood before it. Only
    /// quotes, backslashes and stars are escaped; before others a backslash is itself.
    pub(super) fn quoted(&mut self, quote: char) -> Result<Vec<(char, bool)>> {
        let whole = self.clone();
        self.next();
        let mut out = Vec::new();
        while let Some(character) = self.next() {
            match character {
                '\\' => match self.peek() {
                    Some(escaped) if escaped == quote || matches!(escaped, '\\' | '*') => {
                        self.next();
                        out.push((escaped, true));
                    }
                    _ => out.push(('\\', false)),
                },
                end if end == quote => return Ok(out),
                other => out.push((other, false)),
            }
        }
        let shown: String = whole.rest.chars().take(20).collect();
        Err(Error::new(format_args!("the quotation mark at '{shown}' is not closed")))
    }
}
