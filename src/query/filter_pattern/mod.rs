//! Filter patterns: the small languages of CloudWatch Logs that `FilterLogEvents`, live tails, subscription and metric
//! filters take.
//!
//! In: a pattern, once ([`FilterPattern::parse`]); then texts of log events ([`FilterPattern::matches`]). A pattern also gives
//! the question that an index can answer ([`FilterPattern::prefilter`]): every row that matches passes it, so that only its
//! answers need to be looked at.
//!
//! # The three families, told apart by the first character
//!
//! | pattern | matches events |
//! |---|---|
//! | nothing, or only spaces | all |
//! | `ERROR`, `"connection reset"` | whose text holds this to the letter, also within words; a term of other signs than letters, digits and `_` needs quotes, in which `\"` is a quote and `\\` a backslash |
//! | `ERROR timeout` | … all of these |
//! | `?ERROR ?WARN` | … one of these; beside other terms these are ignored, as the service does |
//! | `ERROR -timeout` | … not what follows the minus |
//! | `%4\d\d%` | in which the regular expression is found |
//! | `{ $.status >= 500 && $.user != "probe*" }` | that are one JSON object whose fields pass ([`json`]) |
//! | `[ip, user, ..., status = 4*, size > 1000]` | whose fields between spaces pass, by their place ([`delimited`]) |
//!
//! Case matters everywhere. Whether a bare term is found inside a longer word is not documented by the service; here it is.
//!
//! Regular expressions are a subset: letters, digits, spaces, `: _ # = @ / ; , -`, the operators `^ $ ? [ ] { } | \ * + .`, and the
//! classes `\d \D \s \S \w \W \xhh`, which mean ASCII; no parentheses. JSON and delimited patterns take two of them.
//!
//! # Bounds
//!
//! A pattern has at most [`MAX_CHARS`] characters, nests at most [`MAX_DEPTH`] levels, and its regular expressions are at most
//! 1 MiB compiled. Matching takes time in the length of the event, times that of the pattern at worst, and no memory to speak
//! of (delimited patterns with `...`: 16 bytes a field). No pattern and no event panics.

pub mod delimited;
pub mod json;
mod cursor;
mod glob;
mod regex;
mod terms;

use std::collections::BTreeMap;

use crate::query::Query;
use delimited::Delimited;
use json::JsonPattern;
use regex::Regex;
use terms::Terms;

/// Longest pattern, characters.
pub const MAX_CHARS: usize = 1_024;
/// Deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 50;
/// Regular expressions of one JSON or delimited pattern.
pub const MAX_REGEXES: usize = 2;

/// Why a text is no filter pattern, in words for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// This module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(message: impl std::fmt::Display) -> Self {
        Error(format!("Invalid filter pattern: {message}"))
    }
}

/// A filter pattern, ready to match.
#[derive(Clone, Debug)]
pub struct FilterPattern {
    kind: Kind,
}

/// What is taken out of events: see [`FilterPattern::values`].
#[derive(Clone, Debug)]
pub struct Values(ValueKind);

#[derive(Clone, Debug)]
enum ValueKind {
    None,
    Json(JsonPattern),
    Delimited,
}

#[derive(Clone, Debug)]
enum Kind {
    All,
    Terms(Terms),
    Regex(Regex),
    Json(JsonPattern),
    Delimited(Delimited),
}

impl FilterPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self> {
        if text.chars().count() > MAX_CHARS {
            return Err(Error::new(format_args!("it is longer than {MAX_CHARS} characters")));
        }
        let text = text.trim();
        let kind = match text.chars().next() {
            None => Kind::All,
            Some('{') => Kind::Json(JsonPattern::parse(text)?),
            Some('[') => Kind::Delimited(Delimited::parse(text)?),
            Some('%') => Kind::Regex(alone(text)?),
            Some(_) => Kind::Terms(Terms::parse(text)?),
        };
        Ok(Self { kind })
    }

    /// Whether every event matches.
    pub fn matches_everything(&self) -> bool {
        matches!(self.kind, Kind::All)
    }

    /// Whether an event's text matches.
    pub fn matches(&self, message: &str) -> bool {
        match &self.kind {
            Kind::All => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Regex(regex) => regex.is_match(message),
            Kind::Json(pattern) => pattern.matches(message),
            Kind::Delimited(pattern) => pattern.matches(message),
        }
    }

    /// What a metric filter finds in an event that matches: fields of delimited patterns (`$name`, those without a name by
    /// their number from 1), selectors of JSON patterns (`$.a.b`). `None` if it does not match.
    pub fn extract(&self, message: &str) -> Option<BTreeMap<String, String>> {
        if !self.matches(message) {
            return None;
        }
        Some(match &self.kind {
            Kind::All | Kind::Terms(_) | Kind::Regex(_) => BTreeMap::new(),
            Kind::Json(pattern) => pattern.extract(message),
            Kind::Delimited(pattern) => pattern.extract(message),
        })
    }

    /// The question for the index: every row whose body matches the pattern passes it, and others may.
    ///
    /// It asks for fields of JSON bodies by name, so what lies beyond their bounds (32 levels, 65,536 leaves of one body) is not
    /// among its answers.
    pub fn prefilter(&self) -> Query {
        match &self.kind {
            Kind::All => Query::All,
            Kind::Terms(terms) => terms.prefilter(),
            Kind::Regex(regex) => regex.in_body(),
            Kind::Json(pattern) => pattern.prefilter(),
            Kind::Delimited(pattern) => pattern.prefilter(),
        }
    }

    /// Reads what a metric filter takes out of events that match: `$.a.b` of JSON patterns, whether the pattern asks for it or not;
    /// `$name` of delimited patterns, a field of theirs.
    pub fn values(&self, written: &[&str]) -> Result<Values> {
        if let Some(text) = written.iter().find(|text| !text.starts_with('$')) {
            return Err(Error(format!("'{text}' is no field such as $.name or $name, and no number")));
        }
        match &self.kind {
            _ if written.is_empty() => Ok(Values(ValueKind::None)),
            Kind::Json(_) => Ok(Values(ValueKind::Json(JsonPattern::of_selectors(written)?))),
            Kind::Delimited(pattern) => {
                let has = |name: &&&str| name.strip_prefix('$').is_some_and(|name| pattern.has_field(name));
                match written.iter().find(|name| !has(name)) {
                    Some(name) => Err(Error(format!("the filter pattern has no field for {name}"))),
                    None => Ok(Values(ValueKind::Delimited)),
                }
            }
            Kind::All | Kind::Terms(_) | Kind::Regex(_) => Err(Error("only JSON and space-delimited filter patterns have fields".into())),
        }
    }

    /// The texts of those values in an event that matches, by what was written; without those that are not there or are no single value.
    pub fn take(&self, values: &Values, message: &str) -> BTreeMap<String, String> {
        match (&values.0, &self.kind) {
            (ValueKind::Json(selectors), _) => selectors.extract(message),
            (ValueKind::Delimited, Kind::Delimited(pattern)) => pattern.extract(message),
            _ => BTreeMap::new(),
        }
    }

    /// How many regular expressions it has; the service bounds filters with any.
    pub fn n_regexes(&self) -> usize {
        match &self.kind {
            Kind::All | Kind::Terms(_) => 0,
            Kind::Regex(_) => 1,
            Kind::Json(pattern) => pattern.n_regexes(),
            Kind::Delimited(pattern) => pattern.n_regexes(),
        }
    }
}

const REGEX_ALONE: &str = "a regular expression stands alone, or behind an operator";

/// A regular expression that is the whole pattern.
fn alone(text: &str) -> Result<Regex> {
    let mut cursor = cursor::Cursor::new(text);
    let regex = Regex::read(&mut cursor)?;
    cursor.skip_space();
    match cursor.peek() {
        None => Ok(regex),
        Some(_) => Err(Error::new(REGEX_ALONE)),
    }
}

/// Conditions put together.
#[derive(Clone, Debug)]
enum Condition<T> {
    Test(T),
    And(Vec<Condition<T>>),
    Or(Vec<Condition<T>>),
}

impl<T> Condition<T> {
    /// Reads `a && b || (c && d)`; `&&` binds tighter.
    fn read(cursor: &mut cursor::Cursor<'_>, depth: usize, test: &mut impl FnMut(&mut cursor::Cursor<'_>) -> Result<T>) -> Result<Self> {
        if depth > MAX_DEPTH {
            return Err(Error::new(format_args!("it nests deeper than {MAX_DEPTH} levels")));
        }
        let mut any = Vec::new();
        loop {
            let mut all = Vec::new();
            loop {
                cursor.skip_space();
                if cursor.eat("(") {
                    all.push(Self::read(cursor, depth + 1, test)?);
                    cursor.skip_space();
                    cursor.expect(")")?;
                } else {
                    all.push(Condition::Test(test(cursor)?));
                }
                cursor.skip_space();
                if !cursor.eat("&&") {
                    break;
                }
            }
            any.push(if all.len() == 1 { all.swap_remove(0) } else { Condition::And(all) });
            if !cursor.eat("||") {
                break;
            }
        }
        Ok(if any.len() == 1 { any.swap_remove(0) } else { Condition::Or(any) })
    }

    fn holds(&self, test: &impl Fn(&T) -> bool) -> bool {
        match self {
            Condition::Test(one) => test(one),
            Condition::And(all) => all.iter().all(|one| one.holds(test)),
            Condition::Or(any) => any.iter().any(|one| one.holds(test)),
        }
    }

    /// The question that rows pass which pass this, if `test` gives the same of each test.
    fn prefilter(&self, test: &impl Fn(&T) -> Query) -> Query {
        match self {
            Condition::Test(one) => test(one),
            Condition::And(all) => all.iter().map(|one| one.prefilter(test)).fold(Query::All, Query::and),
            Condition::Or(any) => {
                let parts: Vec<Query> = any.iter().map(|one| one.prefilter(test)).collect();
                match parts.contains(&Query::All) {
                    true => Query::All,
                    false => Query::Or(parts),
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
