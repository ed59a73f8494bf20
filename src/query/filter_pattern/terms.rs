//! Unstructured patterns: terms that an event has, one of which it has, or which it has not.

use memchr::memmem::Finder;

use super::cursor::Cursor;
use super::glob::body_holds;
use super::{Error, Result};
use crate::query::Query;

/// Terms by their sign.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    all: Vec<Finder<'static>>,
    any: Vec<Finder<'static>>,
    none: Vec<Finder<'static>>,
}

impl Terms {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut terms = Terms::default();
        let mut cursor = Cursor::new(text);
        loop {
            cursor.skip_space();
            let list = match cursor.peek() {
                None => break,
                Some('-') => &mut terms.none,
                Some('?') => &mut terms.any,
                Some(_) => &mut terms.all,
            };
            if matches!(cursor.peek(), Some('-' | '?')) {
                cursor.next();
            }
            list.push(Finder::new(&term(&mut cursor)?).into_owned());
        }
        // beside others the optional ones are ignored
        if !terms.all.is_empty() || !terms.none.is_empty() {
            terms.any.clear();
        }
        Ok(terms)
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let has = |term: &Finder<'_>| term.find(message.as_bytes()).is_some();
        self.all.iter().all(has) && !self.none.iter().any(has) && (self.any.is_empty() || self.any.iter().any(has))
    }

    pub(super) fn prefilter(&self) -> Query {
        let holds = |term: &Finder<'_>| body_holds(&String::from_utf8_lossy(term.needle()));
        let mut query = self.all.iter().map(holds).fold(Query::All, Query::and);
        let any: Vec<Query> = self.any.iter().map(holds).collect();
        if !any.is_empty() && !any.contains(&Query::All) {
            query = query.and(Query::Or(any));
        }
        // an empty term is in every text
        let none = self.none.iter().filter(|term| !term.needle().is_empty());
        none.fold(query, |query, term| query.and(!holds(term)))
    }
}

/// One term behind its sign: in quotes, or a word.
fn term(cursor: &mut Cursor<'_>) -> Result<String> {
    if cursor.peek() == Some('"') {
        let text = cursor.quoted('"')?.into_iter();
        return match cursor.peek() {
            // what follows is a term of its own, so a space must stand between
            Some(next) if !next.is_whitespace() => Err(cursor.unexpected("a space behind the quotation mark")),
            // a star has no meaning here, with or without a backslash
            _ => Ok(text
                .flat_map(|(c, is_escaped)| (is_escaped && c == '*').then_some('\\').into_iter().chain([c]))
                .collect()),
        };
    }
    let written = cursor.take_while(|c| !c.is_whitespace());
    match written.chars().all(|c| c.is_alphanumeric() || c == '_') {
        true if !written.is_empty() => Ok(written.to_string()),
        true => Err(Error::new("a term is missing behind `-` or `?`")),
        false if written.len() > 1 && written.starts_with('%') && written.ends_with('%') => Err(Error::new(super::REGEX_ALONE)),
        false => Err(Error(format!("Invalid character(s) in term '{written}'"))),
    }
}
