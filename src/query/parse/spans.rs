//! Conditions on a trace: `trace:(…)` and `log:(…)`.

use super::super::ast::{Query, Relation, Spans};
use super::{Parser, Result, error};
use crate::model::Table;

impl Parser {
    /// What stands behind `trace:`, from its parenthesis on.
    pub(super) fn trace(&mut self, start: usize) -> Result<Query> {
        let begins_with_brace = self.chars[self.at..].iter().find(|c| !c.is_whitespace() && **c != '(') == Some(&'{');
        let spans = self.anchored("trace", Table::Spans, start, |parser| match begins_with_brace {
            true => parser.group_of_spans(),
            false => parser.group(None).map(|query| Spans::Where(Box::new(query))),
        })?;
        Ok(Query::Trace(spans))
    }

    /// What stands behind `log:`, from its parenthesis on.
    pub(super) fn log(&mut self, start: usize) -> Result<Query> {
        let query = self.anchored("log", Table::Logs, start, |parser| parser.group(None))?;
        Ok(Query::Log(Box::new(query)))
    }

    /// Reads conditions on rows of another table.
    fn anchored<T>(&mut self, name: &'static str, table: Table, start: usize, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(outer) = self.anchor {
            let message = format!("`{name}:( )` stands inside `{outer}:( )`");
            return Err(error(start, message, Some("put both side by side; the text in quotes is searched as it is")));
        }
        self.anchor = Some(name);
        let table = std::mem::replace(&mut self.table, table);
        let read = read(self);
        self.table = table;
        self.anchor = None;
        read
    }

    /// `( any )`.
    fn group_of_spans(&mut self) -> Result<Spans> {
        let open = self.at;
        self.at += 1;
        let spans = self.deeper(Self::any_spans)?;
        self.skip_space();
        if self.peek() != Some(')') {
            return match self.peek() {
                None => Err(error(open, "this `(` is never closed", None)),
                Some(_) => Err(error(
                    self.at,
                    "`AND`, `OR`, `>`, `>>`, `~` or `)` is missing here",
                    Some("each span's conditions stand in braces: `trace:({service:cart} >> {error:true})`"),
                )),
            };
        }
        self.at += 1;
        Ok(spans)
    }

    fn any_spans(&mut self) -> Result<Spans> {
        let mut parts = vec![self.all_spans()?];
        loop {
            self.skip_space();
            if !self.eat_word("OR", "||") {
                break;
            }
            parts.push(self.all_spans()?);
        }
        Ok(one_or(parts, Spans::Any))
    }

    fn all_spans(&mut self) -> Result<Spans> {
        let mut parts = vec![self.related_spans()?];
        loop {
            self.skip_space();
            let has_word = self.eat_word("AND", "&&");
            if !has_word && !matches!(self.peek(), Some('{' | '(')) {
                break;
            }
            parts.push(self.related_spans()?);
        }
        Ok(one_or(parts, Spans::All))
    }

    fn related_spans(&mut self) -> Result<Spans> {
        let mut spans = self.side()?;
        loop {
            self.skip_space();
            let relation = match (self.peek(), self.peek_at(1)) {
                (Some('>'), Some('>')) => Relation::Descendant,
                (Some('>'), _) => Relation::Child,
                (Some('~'), _) => Relation::Sibling,
                _ => return Ok(spans),
            };
            self.at += if relation == Relation::Descendant { 2 } else { 1 };
            spans = Spans::Related {
                left: Box::new(spans),
                relation,
                right: Box::new(self.side()?),
            };
        }
    }

    fn side(&mut self) -> Result<Spans> {
        self.skip_space();
        let open = self.at;
        match self.peek() {
            Some('(') => self.group_of_spans(),
            Some('{') => {
                self.at += 1;
                self.in_braces = true;
                self.skip_space();
                let query = match self.peek() {
                    // any span
                    Some('}') => Ok(Query::All),
                    _ => self.deeper(|parser| parser.or(None)),
                };
                self.in_braces = false;
                let query = query?;
                self.skip_space();
                if self.peek() != Some('}') {
                    return Err(error(open, "this `{` is never closed", Some("put text with braces in quotes")));
                }
                self.at += 1;
                Ok(Spans::Where(Box::new(query)))
            }
            _ => Err(error(
                open,
                "conditions on a span are missing here",
                Some("each span's conditions stand in braces: `trace:({service:cart} >> {error:true})`"),
            )),
        }
    }
}

fn one_or(mut parts: Vec<Spans>, many: impl Fn(Vec<Spans>) -> Spans) -> Spans {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => many(parts),
    }
}
