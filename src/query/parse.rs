//! The search language, read into a [`Query`].
//!
//! # Conditions on text
//!
//! Text is the body of a log; of a span, one a line, its name, status message, exception types and messages. It is cut
//! into words by [`tokenizer`](crate::block::tokenizer): runs of letters and digits, in lower case; every sign separates
//! (`a_b`, `a.b`, `k=v`, a path, an address are several words), a UUID is one word, camelCase is one word, and a word
//! longer than 128 bytes is its first 128.
//!
//! | write | finds rows whose text has |
//! |---|---|
//! | `connection` | this word, case ignored |
//! | `10.0.0.12`, `/api/v1/users`, `user=42` | these words one after the other |
//! | `"connection reset"` | these words one after the other; between quotes nothing is a wildcard, and only `\"` and `\\` are escapes |
//! | `"connection proxy"~3` | these words in this order, with at most 3 others between them altogether (1 to 1,000) |
//! | `conn*`, `*set`, `*ullPoint*`, `re?et` | a word of this pattern: `*` is any run of letters and digits, `?` one |
//! | `/api/*/users` | such words one after the other; between signs a `*` is one word |
//! | `conection~1`, `connexion~2` | a word that is this one but for one or two mistakes, each a letter too many, missing, wrong, or swapped with its neighbour |
//! | `192.168.0.0/16`, `2001:db8::/32` | an IP address of this network, ports and brackets aside |
//! | `1-5759e988-bd862e3fe1be46a994272793` | this trace ID in its text, or any row of that trace; any spelling does |
//! | `body:="10.0.0.12:8443"` | exactly these characters, case and signs included, also within words |
//! | `body:~"rese[tT]"` | a match of this regular expression (syntax of the `regex` crate; `(?i)` ignores case) |
//! | `body:* service:empty` | anything: rows that have a text |
//! | `body:connection`, `body:"reset by"`, `body:res*` | the same as without `body:` |
//!
//! # Conditions on fields
//!
//! A field is a column, a promoted attribute, or any attribute, resource attribute or leaf of a JSON body (see
//! [the module's page](super)); where a name stands for several values, one of them must pass. A value is one text, and
//! case matters. An attribute that is an array is also each of its elements, one that is an object has its leaves by
//! their path, and a text that is JSON of an array or object is taken as one, one level deep; of each at most the first
//! 65,536 leaves.
//!
//! | write | finds rows in which the field |
//! |---|---|
//! | `service:checkout`, `http.status_code:"200"` | is this; numbers and flags by their usual spelling |
//! | `service:="checkout"` | the same |
//! | `service:check*`, `http.status_code:50?` | is of this pattern, as a whole; `\*` is a star |
//! | `service:(checkout OR cart)` | is one of these; parentheses take all tests |
//! | `service:chekout~1` | is this but for one or two mistakes |
//! | `url.path:~"^/api/v\d+/users$"` | has a match of this regular expression |
//! | `http.status_code>=500`, `order.total:[99.5 TO 100}`, `n>1` | is a number inside; `[ ]` with the ends, `{ }` without, `*` for no end; whole numbers compare exactly |
//! | `client.address:10.0.0.0/8` | has an address of this network in it |
//! | `client.address:[10.0.0.9 TO 10.0.0.12]`, `client.address>=10.0.0.8` | has an address inside |
//! | `http.status_code:*` | has a value, be it the empty text |
//! | `order.items.sku:B2`, `nested.a.b:1`, `list:a` | … of JSON bodies, attributes that are objects, elements of arrays |
//! | `severity>=ERROR`, `severity:WARN2`, `time>=2026-11-22T05:00:58Z` | is so severe; is then (`now-15m` too); `duration>500ms` on spans |
//!
//! # Conditions on the trace
//!
//! Rows of logs and of spans alike can be asked for by what else their trace has, whichever protocol it came by. Rows without a trace ID
//! match none of these, but for the one that names a trace.
//!
//! | write | finds rows whose trace has |
//! |---|---|
//! | `trace:(service:frontend duration>500ms error:true)` | a span that all of these match |
//! | `trace:(trace_id:5759e988bd862e3fe1be46a994272793)` | this ID; of logs, also those that are linked to the trace ([`super::linked`]) |
//! | `trace:({service:frontend} > {span.name:"SELECT orders"})` | such a span whose child is one of these |
//! | `trace:({service:frontend} >> {kind:producer})` | … below which, however deep, is one of these |
//! | `trace:({name:charge} ~ {name:ship})` | … beside which, of the same parent, is one of these |
//! | `trace:({service:frontend} AND {service:lambda})`, `trace:({error:true} OR {duration>2s})` | spans of both kinds; of one of them |
//! | `log:(severity:INFO "other trace")` | a log record that these match |
//! | `-trace:(service:frontend)` | none such |
//!
//! Of conditions in a row, `>` and its like bind tightest and are read from the left: what is found is the right side. Spans and records up
//! to an hour outside the range of time are looked at. More than [`Config::max_anchor_traces`](super::Config::max_anchor_traces) traces,
//! also among those that the other conditions leave, are an error that says so. `error:true` is a span of status ERROR or with an attribute
//! of that name; `span.name` is the span's `name`, and so are `span.duration` and its like. A field called `trace` or `log` stands in quotes
//! before a parenthesis. Live tails and deletes know rows one by one, and refuse these conditions.
//!
//! # Together
//!
//! | write | finds rows that |
//! |---|---|
//! | `connection reset`, `connection AND reset` | match both |
//! | `reset OR payment` | match one; AND binds tighter |
//! | `connection -peer`, `connection AND NOT (peer OR proxy)` | do not match what is negated; rows without the field do not match it either |
//! | `(reset OR payment) cart` | … grouped |
//! | `* service:json` | `*` is every row |
//!
//! # Grammar
//!
//! ```text
//! or      = and { ("OR" | "||") and }
//! and     = unary { ["AND" | "&&"] unary }                      juxtaposition is AND
//! unary   = ("NOT" | "!" | "-" | "+") unary | "(" or ")" | clause
//! clause  = word | "phrase" [ "~" n ] | name ":" value | name (">" | ">=" | "<" | "<=") bound | "trace:(" (or | any) ")" | "log:(" or ")"
//! any     = all { ("OR" | "||") all }
//! all     = related { ["AND" | "&&"] related }
//! related = side { (">" | ">>" | "~") side }
//! side    = "{" or "}" | "(" any ")"
//! value   = word | "text" [ "~" n ] | "*" | "~" "regex" | "=" "text" | range | comparison | "(" values ")"
//! range   = ("[" | "{") bound "TO" bound ("]" | "}")
//! ```
//!
//! A word ends at white space, a parenthesis or a quote. In a word `*` and `?` are wildcards, `~` with digits at its end
//! allows for mistakes, and `\` takes a following punctuation character or space as it is. What looks like an URL, an ARN, a path with `::`, a line of a
//! source file, an IPv6 address or a time of day is a word, not a field. Names that are not plain stand in quotes.
//!
//! # Bounds
//!
//! Recursive descent over characters, bounded by [`MAX_CHARS`], [`MAX_DEPTH`], [`MAX_CLAUSES`] and [`MAX_ALIKE`]; a
//! phrase has at most 128 words, `~` takes at most 2 mistakes of at most 128 characters; each is an error that names its
//! place. No text panics. A pattern, expression or test that more than
//! [`MAX_TERMS`](crate::block::MAX_TERMS) different words or values of a block pass is not looked up there: the rows are
//! read instead, with the same answer. All of this means the same in fresh rows, under an index and in a scan: the
//! examples above are rows of `tests/fixtures/query/semantics.txt`, which runs all three ways, and random queries over
//! random rows do too.

use super::addresses::{Address, Network};
use super::ast::{Bound, Query, Test, Text, Wildcards};
use super::fields;
use crate::model::Table;

/// Longest query, characters.
const MAX_CHARS: usize = 16_384;
/// Deepest nesting of parentheses and negations.
const MAX_DEPTH: usize = 50;
/// Most words, phrases and field conditions in one query.
const MAX_CLAUSES: usize = 1_000;

/// Longer than an IPv6 network is written.
const MAX_ADDRESS_CHARS: usize = 64;
/// Most words with `~1` or `~2` in one query: each is compared with all the words of a block.
const MAX_ALIKE: usize = 20;

/// Beginnings of header lines that hold a trace ID and would otherwise read as fields or several words.
const TRACE_HEADERS: [&str; 8] = [
    "aws-xray-trace-id:",
    "x-amzn-trace-id:",
    "traceparent:",
    "b3:",
    "root=",
    "self=",
    "parent=",
    "sampled=",
];

/// Endings of source files: `Cart.java:42` is a place in one, not a field.
const SOURCE_ENDINGS: [&str; 12] = [".java", ".kt", ".scala", ".py", ".rs", ".go", ".js", ".ts", ".rb", ".php", ".cpp", ".cs"];

/// Why a text is not a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// At which character (not byte) of the text.
    pub position: usize,
    /// What to do about it.
    pub hint: Option<String>,
}

/// This file's results.
type Result<T, E = ParseError> = std::result::Result<T, E>;

/// Reads a query on `table`. An empty text is every row.
pub fn parse(text: &str, table: Table) -> Result<Query> {
    if let Some(header) = trace_header(text.trim()) {
        return Ok(Query::phrase(header));
    }
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
        depth: 0,
        clauses: 0,
        alike: 0,
        table,
        anchor: None,
        in_braces: false,
    };
    if parser.chars.len() > MAX_CHARS {
        return Err(error(MAX_CHARS, format!("the query is longer than {MAX_CHARS} characters"), None));
    }
    parser.skip_space();
    if parser.peek().is_none() {
        return Ok(Query::All);
    }
    let query = parser.or(None)?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(query),
        // `or` goes on over everything but a parenthesis that nobody opened
        Some(_) => Err(error(parser.at, "this `)` closes nothing", Some("put text with parentheses in quotes"))),
    }
}

/// A pasted header line, whole, if it holds a trace ID.
fn trace_header(text: &str) -> Option<&str> {
    let lower: String = text.chars().take(24).collect::<String>().to_ascii_lowercase();
    TRACE_HEADERS.iter().find(|header| lower.starts_with(**header))?;
    fields::bare_trace_id(text).map(|_| text)
}

/// Whether a name can stand before `:` without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    let first = |c: char| c.is_alphabetic() || matches!(c, '_' | '@' | '$');
    let rest = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '$' | '.' | '-' | '/' | '#');
    name.starts_with(first) && name.chars().all(rest) && !name.ends_with('-') && !matches!(name, "AND" | "OR" | "NOT" | "TO")
}

/// Whether `name:rest` is a word after all: an URL, a path with `::`, an ARN, a line of a source file, an IPv6 address or
/// network. A name in quotes never is.
pub(super) fn reads_as_word(name: &str, rest: &str) -> bool {
    let is_place = || rest.starts_with(|c: char| c.is_ascii_digit()) && SOURCE_ENDINGS.iter().any(|ending| name.ends_with(ending));
    let is_address = || {
        let whole = format!("{name}:{rest}");
        name.len() <= 4 && (Address::read(&whole).is_some() || Network::read(&whole).is_some())
    };
    rest.starts_with(':') || rest.starts_with("//") || (name == "arn" && rest.starts_with("aws")) || is_place() || is_address()
}

fn error(position: usize, message: impl Into<String>, hint: Option<&str>) -> ParseError {
    ParseError {
        message: message.into(),
        position,
        hint: hint.map(str::to_string),
    }
}

/// A word as it stands in the text: a literal, or a pattern if a wildcard is in it.
enum Word {
    Literal(String),
    Pattern(String),
    /// `word~1`: all of it, the word, the number behind the tilde and where the tilde stands.
    Alike {
        whole: String,
        word: String,
        mistakes: u32,
        at: usize,
    },
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    depth: usize,
    clauses: usize,
    alike: usize,
    table: Table,
    /// `trace` or `log` while its conditions are read.
    anchor: Option<&'static str>,
    /// Whether a `}` ends the conditions that are being read.
    in_braces: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }
    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }
    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }
    /// Whether `text` stands here.
    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.peek_at(i) == Some(c))
    }
    /// Whether conditions end at this character.
    fn closes(&self, character: char) -> bool {
        character == ')' || (character == '}' && self.in_braces)
    }
    /// Whether the word `text` stands here, not merely as the beginning of another.
    fn looking_at_word(&self, text: &str) -> bool {
        let after = self.peek_at(text.chars().count());
        self.looking_at(text) && after.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '"') || self.closes(c))
    }
    fn eat_word(&mut self, word: &str, symbol: &str) -> bool {
        let length = if self.looking_at_word(word) {
            word.len()
        } else if self.looking_at(symbol) {
            symbol.len()
        } else {
            return false;
        };
        self.at += length;
        true
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(error(self.at, format!("the query nests deeper than {MAX_DEPTH} levels"), None));
        }
        self.depth += 1;
        let out = inner(self);
        self.depth -= 1;
        out
    }

    /// Inside `name:( … )` every value is a test of that field.
    fn or(&mut self, field: Option<&str>) -> Result<Query> {
        let mut parts = vec![self.and(field)?];
        loop {
            self.skip_space();
            if !self.eat_word("OR", "||") {
                break;
            }
            parts.push(self.and(field)?);
        }
        Ok(one_or(parts, Query::Or))
    }

    fn and(&mut self, field: Option<&str>) -> Result<Query> {
        let mut parts = vec![self.unary(field)?];
        loop {
            self.skip_space();
            let at_end = self.peek().is_none_or(|c| self.closes(c));
            if at_end || self.looking_at_word("OR") || self.looking_at("||") {
                break;
            }
            self.eat_word("AND", "&&");
            parts.push(self.unary(field)?);
        }
        Ok(one_or(parts, Query::And))
    }

    fn unary(&mut self, field: Option<&str>) -> Result<Query> {
        self.skip_space();
        let start = self.at;
        let Some(next) = self.peek() else {
            return Err(error(start, "a condition is missing at the end", None));
        };
        for (word, symbol) in [("AND", "&&"), ("OR", "||")] {
            if self.looking_at_word(word) || self.looking_at(symbol) {
                let message = format!("{word} needs a condition on both sides");
                return Err(error(start, message, Some("put the word in quotes to search for it")));
            }
        }
        let sign = matches!(next, '-' | '!' | '+');
        if sign && self.peek_at(1).is_none_or(|c| c.is_whitespace() || self.closes(c)) {
            let message = format!("`{next}` stands alone");
            return Err(error(
                start,
                message,
                Some("put it before a condition without a space, or in quotes with its neighbours"),
            ));
        }
        // a sign before a number is part of a value
        let is_number = field.is_some() && next == '-' && self.peek_at(1).is_some_and(|c| c.is_ascii_digit());
        if next == '+' {
            self.at += 1;
            return self.deeper(|parser| parser.unary(field));
        }
        if (sign && !is_number) || self.looking_at_word("NOT") {
            self.at += if sign { 1 } else { 3 };
            return Ok(!self.deeper(|parser| parser.unary(field))?);
        }
        if next == '(' {
            return self.group(field);
        }
        if self.closes(next) {
            return Err(error(start, format!("a condition is missing before `{next}`"), None));
        }
        self.clauses += 1;
        if self.clauses > MAX_CLAUSES {
            return Err(error(start, format!("the query has more than {MAX_CLAUSES} conditions"), None));
        }
        match field {
            Some(name) => self.value(name),
            None => self.clause(),
        }
    }

    fn group(&mut self, field: Option<&str>) -> Result<Query> {
        let open = self.at;
        self.at += 1;
        let inner = self.deeper(|parser| parser.or(field))?;
        self.skip_space();
        if self.peek() != Some(')') {
            return Err(error(open, "this `(` is never closed", Some("put text with parentheses in quotes")));
        }
        self.at += 1;
        Ok(inner)
    }

    fn clause(&mut self) -> Result<Query> {
        let start = self.at;
        if self.peek() == Some('"') {
            let text = self.quoted()?;
            if self.peek() == Some(':') {
                self.at += 1;
                return self.field(&text, start);
            }
            return match self.between() {
                None => self.text(Text::Phrase(text), start),
                Some(between) => self.text(Text::Near { text, between }, start),
            };
        }
        if self.looking_at("*:*") && self.peek_at(3).is_none_or(|c| c.is_whitespace() || self.closes(c)) {
            self.at += 3;
            return Ok(Query::All);
        }
        if let Some(name) = self.name() {
            return match name.as_str() {
                "trace" if self.peek() == Some('(') => self.trace(start),
                "log" if self.peek() == Some('(') => self.log(start),
                _ => self.field(&name, start),
            };
        }
        match self.word(|_| false) {
            Word::Pattern(pattern) if pattern.chars().all(|c| c == '*') => Ok(Query::All),
            Word::Pattern(pattern) => self.text(Text::Pattern(Wildcards::new(pattern)), start),
            Word::Literal(text) if self.is_network(&text, start) => self.text(Text::Network(text), start),
            Word::Literal(text) => self.text(Text::Phrase(text), start),
            // `~1` by itself is a word with a sign
            Word::Alike { whole, word, .. } if !word.contains(char::is_alphanumeric) => self.text(Text::Phrase(whole), start),
            Word::Alike { word, mistakes: 0, .. } => self.text(Text::Phrase(word), start),
            Word::Alike { word, mistakes, at, .. } => {
                self.count_alike(at)?;
                self.text(Text::Alike { word, mistakes }, at)
            }
        }
    }

    /// Whether the word that was read from `start` on is a network, written without escapes.
    fn is_network(&self, word: &str, start: usize) -> bool {
        self.chars[start..self.at].iter().copied().eq(word.chars()) && Network::read(word).is_some()
    }

    fn count_alike(&mut self, at: usize) -> Result<()> {
        self.alike += 1;
        match self.alike > MAX_ALIKE {
            true => Err(error(at, format!("the query has more than {MAX_ALIKE} words with `~`"), None)),
            false => Ok(()),
        }
    }

    /// `~3` behind a phrase, if it stands here; without a number that can be read, the largest.
    fn between(&mut self) -> Option<u32> {
        if self.peek() != Some('~') {
            return None;
        }
        let digits: String = self.chars[self.at + 1..].iter().take_while(|c| c.is_ascii_digit()).collect();
        let after = self.peek_at(1 + digits.len());
        if digits.is_empty() || after.is_some_and(|c| !(c.is_whitespace() || c == '(' || self.closes(c))) {
            return None;
        }
        self.at += 1 + digits.len();
        let between = digits.parse().unwrap_or(u32::MAX);
        (between > 0).then_some(between)
    }

    /// A plain name and, unread, its operator; `:` is read. `None`, and nothing is read, where no field begins.
    fn name(&mut self) -> Option<String> {
        let mut end = self.at;
        while let Some(c) = self.chars.get(end) {
            if !(c.is_alphanumeric() || matches!(c, '_' | '@' | '$' | '.' | '-' | '/' | '#')) {
                break;
            }
            end += 1;
        }
        let name: String = self.chars[self.at..end].iter().collect();
        if !is_plain_name(&name) {
            return None;
        }
        let after = |offset: usize| self.chars.get(end + offset).copied();
        if after(0) == Some(':') {
            let ends = |c: &&char| !(c.is_whitespace() || matches!(c, '(' | '"') || self.closes(**c));
            let rest: String = self.chars[end + 1..].iter().take_while(ends).take(MAX_ADDRESS_CHARS).collect();
            if reads_as_word(&name, &rest) {
                return None;
            }
            self.at = end + 1;
            return Some(name);
        }
        // `severity >= WARN`, with spaces or without
        let operator = (end..self.chars.len()).find(|i| !self.chars[*i].is_whitespace())?;
        if matches!(self.chars[operator], '<' | '>') {
            self.at = operator;
            return Some(name);
        }
        None
    }

    fn field(&mut self, name: &str, start: usize) -> Result<Query> {
        self.skip_space();
        match self.peek() {
            Some('(') => self.group(Some(name)),
            None => self.no_value(name, start),
            Some(next) if self.closes(next) => self.no_value(name, start),
            _ => self.value(name),
        }
    }

    fn no_value(&self, name: &str, start: usize) -> Result<Query> {
        let message = format!("a value is missing after `{name}:`");
        Err(error(
            start,
            message,
            Some("use `field:*` for rows that have the field, or put the text in quotes"),
        ))
    }

    fn value(&mut self, name: &str) -> Result<Query> {
        let start = self.at;
        let test = match self.peek() {
            Some('"') => {
                let text = self.quoted()?;
                match self.between() {
                    None => Test::Equals(text),
                    Some(between) => Test::Near { text, between },
                }
            }
            Some('[' | '{') => self.range()?,
            Some('<' | '>') => self.comparison(name)?,
            Some('~') if self.peek_at(1) == Some('"') => {
                self.at += 1;
                Test::Regex(self.quoted()?)
            }
            Some('=') if self.peek_at(1) == Some('"') => {
                self.at += 1;
                Test::Exact(self.quoted()?)
            }
            _ => match self.word(|_| false) {
                Word::Pattern(pattern) if pattern.chars().all(|c| c == '*') => Test::Exists,
                Word::Pattern(pattern) => Test::Matches(Wildcards::new(pattern)),
                Word::Literal(text) if self.is_network(&text, start) => Test::Network(text),
                Word::Literal(text) => Test::Equals(text),
                Word::Alike { word, mistakes: 0, .. } => Test::Equals(word),
                Word::Alike { word, mistakes, at, .. } => {
                    self.count_alike(at)?;
                    Test::Alike { value: word, mistakes }
                }
            },
        };
        match fields::check(self.table, name, &test) {
            Ok(()) => Ok(Query::Field { name: name.to_string(), test }),
            Err(problem) => Err(error(start, problem.message, problem.hint.as_deref())),
        }
    }

    fn text(&self, text: Text, start: usize) -> Result<Query> {
        match fields::check_text(&text) {
            Ok(()) => Ok(Query::Text(text)),
            Err(problem) => Err(error(start, problem.message, problem.hint.as_deref())),
        }
    }

    /// `[a TO b]`, with `{` and `}` where an end lies outside.
    fn range(&mut self) -> Result<Test> {
        let open = self.at;
        let hint = Some("write a range as `[1 TO 5]`, `{1 TO *]`, or put the text in quotes");
        let from_excluded = self.peek() == Some('{');
        self.at += 1;
        let from = self.range_end(open, hint)?;
        self.skip_space();
        if !self.looking_at_word("TO") {
            return Err(error(self.at, "TO is missing in this range", hint));
        }
        self.at += 2;
        let to = self.range_end(open, hint)?;
        self.skip_space();
        let to_excluded = match self.peek() {
            Some(']') => false,
            Some('}') => true,
            _ => return Err(error(open, "this range is never closed", hint)),
        };
        self.at += 1;
        let bound = |value: Option<String>, excluded: bool| match value {
            None => Bound::Open,
            Some(value) if excluded => Bound::Excluded(value),
            Some(value) => Bound::Included(value),
        };
        let (from, to) = (bound(from, from_excluded), bound(to, to_excluded));
        if (&from, &to) == (&Bound::Open, &Bound::Open) {
            return Ok(Test::Exists);
        }
        Ok(Test::Range { from, to })
    }

    /// One end of a range; `None` for `*`.
    fn range_end(&mut self, open: usize, hint: Option<&str>) -> Result<Option<String>> {
        self.skip_space();
        if self.peek() == Some('"') {
            return self.quoted().map(Some);
        }
        match self.word(|c| matches!(c, ']' | '}')) {
            Word::Literal(text) if text.is_empty() => Err(error(open, "an end of this range is missing", hint)),
            Word::Literal(text) | Word::Alike { whole: text, .. } => Ok(Some(text)),
            Word::Pattern(pattern) if pattern == "*" => Ok(None),
            Word::Pattern(_) => Err(error(open, "a range takes no wildcards", hint)),
        }
    }

    fn comparison(&mut self, name: &str) -> Result<Test> {
        let start = self.at;
        let is_greater = self.peek() == Some('>');
        self.at += 1;
        let included = self.peek() == Some('=');
        self.at += usize::from(included);
        self.skip_space();
        let value = match self.peek() {
            Some('"') => self.quoted()?,
            _ => match self.word(|_| false) {
                Word::Alike { whole, .. } => whole,
                Word::Literal(text) if !text.is_empty() => text,
                Word::Literal(_) => return Err(error(start, format!("a value is missing after `{name}`"), None)),
                Word::Pattern(_) => return Err(error(start, "a comparison takes no wildcards", None)),
            },
        };
        let bound = if included { Bound::Included(value) } else { Bound::Excluded(value) };
        Ok(match is_greater {
            true => Test::Range { from: bound, to: Bound::Open },
            false => Test::Range { from: Bound::Open, to: bound },
        })
    }

    /// Reads to white space, a parenthesis, a quote, or what `ends` says.
    fn word(&mut self, ends: impl Fn(char) -> bool) -> Word {
        let (mut literal, mut pattern, mut has_wildcard) = (String::new(), String::new(), false);
        // of the last tilde without escape: where it stands in the query and in the word
        let mut tilde = None;
        while let Some(c) = self.peek() {
            if c.is_whitespace() || matches!(c, '(' | '"') || self.closes(c) || ends(c) {
                break;
            }
            self.at += 1;
            let escaped = self.peek().filter(|next| c == '\\' && !next.is_ascii_alphanumeric());
            if escaped.is_none() && matches!(c, '*' | '?') {
                has_wildcard = true;
                pattern.push(c);
                literal.push(c);
                continue;
            }
            self.at += usize::from(escaped.is_some());
            if c == '~' {
                tilde = Some((self.at - 1, literal.len()));
            }
            let c = escaped.unwrap_or(c);
            if matches!(c, '*' | '?' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
            literal.push(c);
        }
        if has_wildcard {
            return Word::Pattern(pattern);
        }
        if let Some((at, end)) = tilde
            && end > 0
            && end + 1 < literal.len()
            && literal[end + 1..].bytes().all(|byte| byte.is_ascii_digit())
        {
            return Word::Alike {
                word: literal[..end].to_string(),
                mistakes: literal[end + 1..].parse().unwrap_or(u32::MAX),
                whole: literal,
                at,
            };
        }
        Word::Literal(literal)
    }

    /// Reads a text between quotes.
    fn quoted(&mut self) -> Result<String> {
        let open = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            match c {
                '"' => return Ok(text),
                '\\' if matches!(self.peek(), Some('"' | '\\')) => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                c => text.push(c),
            }
        }
        Err(error(open, "this quote is never closed", None))
    }
}

fn one_or(mut parts: Vec<Query>, many: impl Fn(Vec<Query>) -> Query) -> Query {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            many(parts)
        }
    }
}

mod spans;
#[cfg(test)]
mod tests;
