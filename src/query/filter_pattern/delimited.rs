//! Patterns over the fields of an event between spaces: `[ip, user, ..., status = 4* || status = 5*, size > 1000]`.
//!
//! A field is what stands between spaces; what begins with `[` or `"` and ends with its counterpart before a space is one field,
//! without them. The event has as many fields as the pattern, or with `...` (once) at least as many as the others are.
//!
//! | write | passes if the field |
//! |---|---|
//! | `name` | is there |
//! | `name = value`, `name != value` | is this text, or not; a `*` is any run of characters; a value with spaces, commas, brackets or parentheses needs quotes |
//! | `name < 5`, `<=`, `>`, `>=` | is a number that compares so |
//! | `name = %regex%`, `name != %regex%` | has the regular expression in it, or not |
//!
//! Tests of one field are joined with `&&` and `||` and grouped with parentheses.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::glob::{Glob, body_holds};
use super::regex::Regex;
use super::{Condition, Error, MAX_REGEXES, Result};
use crate::query::Query;

/// A pattern over fields.
#[derive(Clone, Debug)]
pub struct Delimited {
    /// Before `...`; without one, all.
    before: Vec<Field>,
    /// Behind `...`, if there is one.
    behind: Option<Vec<Field>>,
    n_regexes: usize,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    condition: Option<Condition<FieldTest>>,
}

#[derive(Clone, Debug)]
enum FieldTest {
    Text { glob: Glob, negated: bool },
    Found { regex: Regex, negated: bool },
    Compared { operator: Order, number: f64 },
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Delimited {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut cursor = Cursor::new(text);
        cursor.expect("[")?;
        let (mut before, mut behind, mut n_regexes) = (Vec::new(), None, 0);
        loop {
            cursor.skip_space();
            if cursor.eat("...") {
                if behind.replace(Vec::new()).is_some() {
                    return Err(Error::new("`...` stands in it more than once"));
                }
            } else {
                let field = Field::read(&mut cursor, &mut n_regexes)?;
                behind.as_mut().unwrap_or(&mut before).push(field);
            }
            cursor.skip_space();
            if !cursor.eat(",") {
                break;
            }
        }
        cursor.expect("]")?;
        cursor.skip_space();
        if cursor.peek().is_some() {
            return Err(cursor.unexpected("nothing behind `]`"));
        }
        if n_regexes > MAX_REGEXES {
            return Err(Error::new(format_args!("it has more than {MAX_REGEXES} regular expressions")));
        }
        Ok(Self { before, behind, n_regexes })
    }

    /// Whether a field has this name.
    pub(super) fn has_field(&self, name: &str) -> bool {
        self.before.iter().chain(self.behind.iter().flatten()).any(|field| field.name == name)
    }

    pub(super) fn n_regexes(&self) -> usize {
        self.n_regexes
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let Some(fields) = self.fields(message) else { return false };
        let pass = |fields: &[&str], tests: &[Field]| fields.iter().zip(tests).all(|(text, field)| field.passes(text));
        let behind = self.behind.as_deref().unwrap_or_default();
        pass(&fields, &self.before) && pass(&fields[fields.len() - behind.len()..], behind)
    }

    /// The event's fields, if they are as many as the pattern says.
    fn fields<'a>(&self, message: &'a str) -> Option<Vec<&'a str>> {
        match &self.behind {
            Some(behind) => {
                let fields: Vec<&str> = Fields::new(message).collect();
                (fields.len() >= self.before.len() + behind.len()).then_some(fields)
            }
            None => {
                let fields: Vec<&str> = Fields::new(message).take(self.before.len() + 1).collect();
                (fields.len() == self.before.len()).then_some(fields)
            }
        }
    }

    pub(super) fn extract(&self, message: &str) -> BTreeMap<String, String> {
        let fields = self.fields(message).unwrap_or_default();
        let n_behind = self.behind.as_ref().map_or(0, Vec::len);
        let first_behind = fields.len().saturating_sub(n_behind);
        let name = |number: usize| {
            let field = match number.checked_sub(first_behind) {
                Some(number) if self.behind.is_some() => self.behind.as_ref().and_then(|behind| behind.get(number)),
                _ => self.before.get(number),
            };
            match field {
                Some(field) => format!("${}", field.name),
                None => format!("${}", number + 1),
            }
        };
        fields.iter().enumerate().map(|(number, text)| (name(number), text.to_string())).collect()
    }

    pub(super) fn prefilter(&self) -> Query {
        let fields = self.before.iter().chain(self.behind.iter().flatten());
        let conditions = fields.filter_map(|field| field.condition.as_ref());
        conditions
            .map(|condition| condition.prefilter(&FieldTest::prefilter))
            .fold(Query::All, Query::and)
    }
}

impl Field {
    fn read(cursor: &mut Cursor<'_>, n_regexes: &mut usize) -> Result<Self> {
        let mut ahead = cursor.clone();
        if let Some(name) = field_name(&mut ahead) {
            ahead.skip_space();
            if matches!(ahead.peek(), Some(',' | ']')) {
                *cursor = ahead;
                return Ok(Field { name, condition: None });
            }
        }
        let mut name: Option<String> = None;
        let condition = Condition::read(cursor, 0, &mut |cursor| {
            let at = cursor.clone();
            let own = field_name(cursor).ok_or_else(|| at.unexpected("a field's name"))?;
            if name.as_ref().is_some_and(|name| *name != own) {
                return Err(Error::new(format_args!(
                    "the conditions at one place name two fields, '{}' and '{own}'",
                    name.as_deref().unwrap_or_default()
                )));
            }
            name = Some(own);
            cursor.skip_space();
            let test = FieldTest::read(cursor)?;
            *n_regexes += usize::from(matches!(test, FieldTest::Found { .. }));
            Ok(test)
        })?;
        Ok(Field {
            name: name.unwrap_or_default(),
            condition: Some(condition),
        })
    }

    fn passes(&self, text: &str) -> bool {
        self.condition
            .as_ref()
            .is_none_or(|condition| condition.holds(&|test: &FieldTest| test.passes(text)))
    }
}

fn field_name(cursor: &mut Cursor<'_>) -> Option<String> {
    let name = cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$'));
    (!name.is_empty()).then(|| name.to_string())
}

impl FieldTest {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let orders = [
            ("<=", Order::LessOrEqual),
            (">=", Order::GreaterOrEqual),
            ("<", Order::Less),
            (">", Order::Greater),
        ];
        if let Some(operator) = orders.into_iter().find_map(|(sign, order)| cursor.eat(sign).then_some(order)) {
            cursor.skip_space();
            let at = cursor.clone();
            let number = number(bare_value(cursor)).ok_or_else(|| at.unexpected("a number"))?;
            return Ok(FieldTest::Compared { operator, number });
        }
        let negated = cursor.eat("!=");
        if !negated && !cursor.eat("=") {
            return Err(cursor.unexpected("an operator (= != < <= > >=)"));
        }
        cursor.skip_space();
        match cursor.peek() {
            Some('%') => Ok(FieldTest::Found {
                regex: Regex::read(cursor)?,
                negated,
            }),
            Some('"') => Ok(FieldTest::Text {
                glob: Glob::new(cursor.quoted('"')?),
                negated,
            }),
            _ => {
                let at = cursor.clone();
                match bare_value(cursor) {
                    "" => Err(at.unexpected("a value")),
                    value => Ok(FieldTest::Text {
                        glob: Glob::bare(value),
                        negated,
                    }),
                }
            }
        }
    }

    fn passes(&self, text: &str) -> bool {
        match self {
            FieldTest::Text { glob, negated } => glob.matches(text) != *negated,
            FieldTest::Found { regex, negated } => regex.is_match(text) != *negated,
            FieldTest::Compared { operator, number: bound } => number(text).is_some_and(|number| match operator {
                Order::Less => number < *bound,
                Order::LessOrEqual => number <= *bound,
                Order::Greater => number > *bound,
                Order::GreaterOrEqual => number >= *bound,
            }),
        }
    }

    fn prefilter(&self) -> Query {
        match self {
            FieldTest::Text { negated: true, .. } | FieldTest::Found { negated: true, .. } | FieldTest::Compared { .. } => Query::All,
            FieldTest::Text { glob, .. } => body_holds(glob.longest_piece()),
            FieldTest::Found { regex, .. } => regex.in_part_of_body(),
        }
    }
}

/// A value without quotes: up to a space, comma, bracket, parenthesis, `&&` or `||`.
fn bare_value<'a>(cursor: &mut Cursor<'a>) -> &'a str {
    let rest = cursor.rest();
    let ends =
        |at: usize, c: char| c.is_whitespace() || matches!(c, ',' | ']' | '[' | '(' | ')') || rest[at..].starts_with("&&") || rest[at..].starts_with("||");
    let end = rest.char_indices().find(|(at, c)| ends(*at, *c)).map_or(rest.len(), |(at, _)| at);
    cursor.skip(end);
    &rest[..end]
}

/// A number as in JSON, signs included.
fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|number: &f64| starts && number.is_finite())
}

/// The fields of an event.
#[derive(Debug)]
struct Fields<'a> {
    rest: &'a str,
    /// Whether a closing quotation mark, or bracket, may still come: a search that failed once fails again.
    may_close: [bool; 2],
}

impl<'a> Fields<'a> {
    fn new(message: &'a str) -> Self {
        Self {
            rest: message,
            may_close: [true, true],
        }
    }

    /// The end of what stands in quotation marks or brackets from the beginning of `rest`.
    fn closed(&mut self) -> Option<usize> {
        let (kind, close) = match self.rest.as_bytes().first()? {
            b'"' => (0, b'"'),
            b'[' => (1, b']'),
            _ => return None,
        };
        if !self.may_close[kind] {
            return None;
        }
        let bytes = self.rest.as_bytes();
        let is_end = |at: &usize| self.rest[at + 1..].chars().next().is_none_or(char::is_whitespace);
        let end = memchr::memchr_iter(close, &bytes[1..]).map(|at| at + 1).find(is_end);
        self.may_close[kind] = end.is_some();
        end
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return None;
        }
        if let Some(end) = self.closed() {
            let field = &self.rest[1..end];
            self.rest = &self.rest[end + 1..];
            return Some(field);
        }
        let end = self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
        let (field, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(field)
    }
}
