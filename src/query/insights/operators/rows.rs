//! Steps that look at one row at a time.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem::Finder;
use regex::CaptureLocations;
use smallvec::SmallVec;

use super::{Next, Operator};
use crate::query::insights::evaluate::{Place, key};
use crate::query::insights::row::{Row, inside};
use crate::query::insights::syntax::{Expression, Extraction, FieldName};
use crate::query::insights::value::Value;
use crate::query::insights::{Failed, Flow};

/// Matches of one row that `parse multi` takes.
const MAX_MATCHES: usize = 10_000;

/// Counts what the leading filters kept.
#[derive(Clone, Debug)]
pub(super) struct Matched;

impl Operator for Matched {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        next.shared.n_matched += 1;
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

/// Gives fields values, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Assign(pub(super) Vec<(Arc<str>, Expression)>);

impl Operator for Assign {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        for (name, expression) in &self.0 {
            let value = Place::of(&row, &next.shared.scope).value(expression);
            row.set(name, value);
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub(super) struct Filter(pub(super) Expression);

impl Operator for Filter {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        match Place::of(&row, &next.shared.scope).holds(&self.0) {
            true => next.push(row),
            false => Ok(Flow::More),
        }
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

/// How many more rows pass.
#[derive(Clone, Debug)]
pub(super) struct Limit(pub(super) usize);

impl Operator for Limit {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        if self.0 == 0 {
            return Ok(Flow::Enough);
        }
        self.0 -= 1;
        let flow = next.push(row)?;
        Ok(if self.0 == 0 { Flow::Enough } else { flow })
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// Takes fields out of a text. A row whose text does not fit stays as it is.
#[derive(Clone, Debug)]
pub(super) struct Parse {
    field: FieldName,
    extraction: Extraction,
    /// Where the groups of the last match began and ended.
    found: Option<CaptureLocations>,
}

impl Extraction {
    /// Of the fields that it makes.
    pub(in crate::query::insights) fn names(&self) -> Vec<Arc<str>> {
        match self {
            Extraction::Glob { stars, .. } => stars.iter().flatten().cloned().collect(),
            Extraction::Regex { groups, .. } => groups.iter().map(|(_, name)| name.clone()).collect(),
            Extraction::Logfmt(name) => vec![name.clone()],
            Extraction::Csv(names) => names.clone(),
        }
    }
}

impl Parse {
    /// Of its fields only those are made which `is_made` says.
    pub(super) fn new(field: FieldName, mut extraction: Extraction, is_made: &dyn Fn(&str) -> bool) -> Self {
        match &mut extraction {
            Extraction::Glob { stars, .. } => stars.iter_mut().for_each(|star| {
                star.take_if(|name| !is_made(name));
            }),
            Extraction::Regex { groups, multi: false, .. } => groups.retain(|(_, name)| is_made(name)),
            // lists and maps are asked for by what is in them
            Extraction::Regex { .. } | Extraction::Logfmt(_) | Extraction::Csv(_) => {}
        }
        let found = match &extraction {
            Extraction::Regex { regex, .. } => Some(regex.capture_locations()),
            _ => None,
        };
        Self { field, extraction, found }
    }
}

/// Where the text of each `*` lies, if a text fits: each is as short as possible, and one at the end has all the rest.
pub(in crate::query::insights) fn glob_places(pieces: &[Finder<'static>], text: &str) -> Option<SmallVec<[Range<usize>; 8]>> {
    let (first, rest) = pieces.split_first()?;
    let mut at = first.find(text.as_bytes())? + first.needle().len();
    let mut places = SmallVec::new();
    for (number, piece) in rest.iter().enumerate() {
        let is_last = number + 1 == rest.len() && piece.needle().is_empty();
        let end = if is_last { text.len() } else { at + piece.find(&text.as_bytes()[at..])? };
        places.push(at..end);
        at = end + piece.needle().len();
    }
    Some(places)
}

impl Operator for Parse {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let value = row.get(&self.field);
        let Some(text) = value.as_text() else { return next.push(row) };
        match &self.extraction {
            Extraction::Glob { pieces, stars } => {
                for (name, place) in stars.iter().zip(glob_places(pieces, &text).unwrap_or_default()) {
                    if let Some(name) = name {
                        row.set(name, Value::text(&text[place]));
                    }
                }
            }
            Extraction::Regex { groups, .. } if groups.is_empty() => {}
            Extraction::Regex { regex, groups, multi: false } => {
                let found = self.found.get_or_insert_with(|| regex.capture_locations());
                if regex.captures_read(found, &text).is_some() {
                    for (group, name) in groups {
                        if let Some((start, end)) = found.get(*group) {
                            row.set(name, Value::text(&text[start..end]));
                        }
                    }
                }
            }
            Extraction::Regex { regex, groups, multi: true } => {
                let mut lists: Vec<Vec<Value>> = vec![Vec::new(); groups.len()];
                for found in regex.captures_iter(&text).take(MAX_MATCHES) {
                    for ((group, _), list) in groups.iter().zip(&mut lists) {
                        list.push(found.get(*group).map_or(Value::Null, |part| Value::text(part.as_str())));
                    }
                }
                if lists.first().is_some_and(|list| !list.is_empty()) {
                    for ((_, name), list) in groups.iter().zip(lists) {
                        row.set(name, Value::list(list));
                    }
                }
            }
            Extraction::Logfmt(name) => {
                let pairs = logfmt(&text);
                if !pairs.is_empty() {
                    row.set(name, Value::Map(Arc::new(pairs)));
                }
            }
            Extraction::Csv(names) => {
                for (name, value) in names.iter().zip(csv(&text)) {
                    row.set(name, Value::text(value));
                }
            }
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

/// `key=value key="a value"`; words without `=` are passed over, and of a key that stands twice the last counts.
fn logfmt(text: &str) -> Vec<(Arc<str>, Value)> {
    let mut pairs: Vec<(Arc<str>, Value)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        if rest.is_empty() {
            return pairs;
        }
        let (name, behind) = rest.split_at(end);
        let Some(behind) = behind.strip_prefix('=') else {
            rest = behind;
            continue;
        };
        let value = match behind.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut characters = quoted.char_indices();
                let mut after = quoted.len();
                while let Some((at, c)) = characters.next() {
                    match c {
                        '\\' => value.extend(characters.next().map(|(_, escaped)| match escaped {
                            'n' => '\n',
                            't' => '\t',
                            other => other,
                        })),
                        '"' => {
                            after = at + 1;
                            break;
                        }
                        c => value.push(c),
                    }
                }
                rest = &quoted[after..];
                value
            }
            None => {
                let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
                rest = &behind[end..];
                behind[..end].to_string()
            }
        };
        if !name.is_empty() {
            pairs.retain(|(other, _)| **other != *name);
            pairs.push((name.into(), Value::text(value)));
        }
    }
}

/// The fields of a line between commas; in quotes `""` is a quote.
fn csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut in_quotes = false;
    let mut characters = text.trim_end_matches(['\r', '\n']).chars().peekable();
    while let Some(c) = characters.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if in_quotes && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if in_quotes => in_quotes = false,
            '"' if field.trim().is_empty() => {
                field.clear();
                in_quotes = true;
            }
            ',' if !in_quotes => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

/// Takes fields out of JSON by their paths.
#[derive(Clone, Debug)]
pub(super) struct Json {
    pub(super) field: FieldName,
    pub(super) paths: Vec<(FieldName, Arc<str>)>,
}

fn parsed(value: Value) -> Value {
    match &value {
        Value::Text(text) => Value::read_json(text),
        _ => value,
    }
}

impl Operator for Json {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let json = parsed(row.get(&self.field));
        for (path, name) in &self.paths {
            let value = inside(&json, path);
            if !value.is_null() {
                row.set(name, value);
            }
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

/// The first row of each key; one that lacks a part of it passes.
#[derive(Clone, Debug)]
pub(super) struct Dedup {
    pub(super) fields: Vec<FieldName>,
    pub(super) seen: HashSet<Vec<String>>,
}

impl Operator for Dedup {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let scalar = |field: &FieldName| match row.get(field) {
            Value::List(_) | Value::Map(_) => None,
            value => key(&value),
        };
        let keys: Option<Vec<String>> = self.fields.iter().map(scalar).collect();
        if let Some(keys) = keys {
            let bytes = keys.iter().map(|key| key.len() + 24).sum::<usize>() + 48;
            if !self.seen.insert(keys) {
                return Ok(Flow::More);
            }
            next.shared.hold("dedup", bytes)?;
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// A row for each item of a list; what is no list is one item.
#[derive(Clone, Debug)]
pub(super) struct Unnest {
    pub(super) field: FieldName,
    pub(super) name: Arc<str>,
    /// Texts of JSON arrays too, and arrays inside of messages.
    pub(super) reads_json: bool,
}

impl Operator for Unnest {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let mut value = row.get(&self.field);
        if self.reads_json {
            if let Value::Text(text) = &value
                && text.trim_start().starts_with('[')
                && let list @ Value::List(_) = parsed(value.clone())
            {
                value = list;
            } else if value.is_null()
                && let list @ Value::List(_) = inside(&parsed(row.column("@message")), &self.field)
            {
                value = list;
            }
        }
        let items = match value {
            Value::List(items) => items,
            one => Arc::new(vec![one]),
        };
        for item in items.iter() {
            let mut row = row.clone();
            row.set(&self.name, item.clone());
            if next.push(row)? == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
        Ok(Flow::More)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}
