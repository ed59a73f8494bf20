//! The one filter that every query language becomes, and its spelling in the search language.
//!
//! A [`Query`] is plain data: it knows nothing of tables. Names and literals stand as they were written; [`super::fields`]
//! resolves them for a table. `Display` prints the search language, and [`super::parse`] reads it back to an equal query.

use std::fmt;

use super::addresses::Network;

/// A condition on rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Every row: `*`.
    All,
    /// Rows that all of these match; without any, every row.
    And(Vec<Query>),
    /// Rows that one of these matches; without any, no row.
    Or(Vec<Query>),
    /// Rows that this does not match.
    Not(Box<Query>),
    /// Rows whose text has it: `word`, `"a phrase"`, `pre*`, `word~1`, `10.0.0.0/8`.
    Text(Text),
    /// Rows in which one of the field's values passes a test.
    Field {
        /// As written.
        name: String,
        /// The test.
        test: Test,
    },
    /// Rows of a trace that has such spans: `trace:(…)`.
    Trace(Spans),
    /// Rows of a trace that has a log record which this matches: `log:(…)`.
    Log(Box<Query>),
}

/// Spans of one trace, by what they are and how they stand to each other. Inside stand neither [`Query::Trace`] nor [`Query::Log`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spans {
    /// Those that match: `{ … }`.
    Where(Box<Query>),
    /// The spans of the right side that have one of the left side there: `{ … } > { … }`.
    Related {
        /// The left side.
        left: Box<Spans>,
        /// Where it stands.
        relation: Relation,
        /// The right side.
        right: Box<Spans>,
    },
    /// Those of all sides, of traces that have some of each: `{ … } AND { … }`.
    All(Vec<Spans>),
    /// Those of any side: `{ … } OR { … }`.
    Any(Vec<Spans>),
}

/// How a span of the right side stands to one of the left side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// `>`: it is its child.
    Child,
    /// `>>`: it lies below it, however deep.
    Descendant,
    /// `~`: it has the same parent, and is another.
    Sibling,
}

impl Relation {
    fn sign(self) -> &'static str {
        match self {
            Relation::Child => ">",
            Relation::Descendant => ">>",
            Relation::Sibling => "~",
        }
    }
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, separator) = match self {
            Spans::Where(query) => return write!(f, "{{{query}}}"),
            Spans::Related { left, relation, right } => {
                left.write_side(f, true)?;
                write!(f, " {} ", relation.sign())?;
                return right.write_side(f, false);
            }
            Spans::All(parts) => (parts, " AND "),
            Spans::Any(parts) => (parts, " OR "),
        };
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                f.write_str(separator)?;
            }
            match part {
                Spans::All(_) | Spans::Any(_) => write!(f, "({part})")?,
                part => write!(f, "{part}")?,
            }
        }
        Ok(())
    }
}

impl Spans {
    /// Relations are read from the left.
    fn write_side(&self, f: &mut fmt::Formatter<'_>, is_left: bool) -> fmt::Result {
        match self {
            Spans::Where(_) => write!(f, "{self}"),
            Spans::Related { .. } if is_left => write!(f, "{self}"),
            _ => write!(f, "({self})"),
        }
    }
}

/// What is looked for in text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// Its tokens, one after the other; a trace ID in any spelling also finds its trace.
    Phrase(String),
    /// `"a phrase"~3`: its tokens in order, with at most so many others between them, altogether.
    Near {
        /// The words.
        text: String,
        /// How many others.
        between: u32,
    },
    /// Tokens, of which some have wildcards, one after the other.
    Pattern(Wildcards),
    /// `word~1`: one token but for so many mistakes.
    Alike {
        /// As written.
        word: String,
        /// One or two.
        mistakes: u32,
    },
    /// `10.0.0.0/8`: an address of the network, as written.
    Network(String),
}

/// A text with wildcards: `*` any run of characters, `?` one character, `\` takes the next character as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Wildcards(pub(super) String);

impl Wildcards {
    /// A pattern as it is written, escapes included.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }
    /// The pattern with its escapes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A test of a field's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// `field:*`: it has a value.
    Exists,
    /// `field:value`, `field:"a value"`: it is this.
    Equals(String),
    /// `field:val*`: it matches.
    Matches(Wildcards),
    /// `field:~"regex"`: the regular expression is found in it.
    Regex(String),
    /// `field:="text"`: the text holds this to the letter; another field is this.
    Exact(String),
    /// `body:"a phrase"~3`: in text, as [`Text::Near`].
    Near {
        /// The words.
        text: String,
        /// How many others.
        between: u32,
    },
    /// `field:word~1`: it is this but for so many mistakes.
    Alike {
        /// As written.
        value: String,
        /// One or two.
        mistakes: u32,
    },
    /// `field:10.0.0.0/8`: an address of the network stands in it.
    Network(String),
    /// `field>5`, `field:[1 TO 5]`, `field:[10.0.0.1 TO 10.0.0.9]`: it lies between.
    Range {
        /// Lower end.
        from: Bound,
        /// Upper end.
        to: Bound,
    },
}

/// An end of a range, as written (numbers, durations, times, severities).
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// None.
    Open,
    /// The value itself lies inside.
    Included(String),
    /// It does not.
    Excluded(String),
}

impl Query {
    /// Calls `visit` with each condition on a trace, in order.
    pub(super) fn for_each_anchor<'q>(&'q self, visit: &mut dyn FnMut(&'q Query)) {
        match self {
            Query::Trace(_) | Query::Log(_) => visit(self),
            Query::And(parts) | Query::Or(parts) => parts.iter().for_each(|part| part.for_each_anchor(visit)),
            Query::Not(inner) => inner.for_each_anchor(visit),
            Query::All | Query::Text(_) | Query::Field { .. } => {}
        }
    }

    /// `field:value`, exactly.
    pub fn equals(name: impl Into<String>, value: impl Into<String>) -> Query {
        Query::Field {
            name: name.into(),
            test: Test::Equals(value.into()),
        }
    }

    /// `field:*`.
    pub fn exists(name: impl Into<String>) -> Query {
        Query::Field {
            name: name.into(),
            test: Test::Exists,
        }
    }

    /// The tokens of a text, one after the other.
    pub fn phrase(text: impl Into<String>) -> Query {
        Query::Text(Text::Phrase(text.into()))
    }

    /// Rows that both match.
    pub fn and(self, other: Query) -> Query {
        match (self, other) {
            (Query::All, query) | (query, Query::All) => query,
            (Query::And(mut all), Query::And(more)) => {
                all.extend(more);
                Query::And(all)
            }
            (Query::And(mut all), query) => {
                all.push(query);
                Query::And(all)
            }
            (query, Query::And(mut all)) => {
                all.insert(0, query);
                Query::And(all)
            }
            (a, b) => Query::And(vec![a, b]),
        }
    }
}

impl std::ops::Not for Query {
    type Output = Query;
    fn not(self) -> Query {
        Query::Not(Box::new(self))
    }
}

/// How tightly the surroundings bind, loosest first.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Tightness {
    Or,
    And,
    Not,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Tightness::Or)
    }
}

impl Query {
    fn write(&self, f: &mut fmt::Formatter<'_>, around: Tightness) -> fmt::Result {
        let (parts, separator, own) = match self {
            Query::All => return f.write_str("*"),
            Query::Text(text) => return write!(f, "{text}"),
            Query::Field { name, test } => return write_field(f, name, test),
            Query::Trace(Spans::Where(query)) => return write!(f, "trace:({query})"),
            Query::Trace(spans) => return write!(f, "trace:({spans})"),
            Query::Log(query) => return write!(f, "log:({query})"),
            Query::Not(inner) => {
                f.write_str("NOT ")?;
                return inner.write(f, Tightness::Not);
            }
            Query::And(all) if all.is_empty() => return f.write_str("*"),
            Query::Or(any) if any.is_empty() => {
                f.write_str(if around > Tightness::And { "(NOT *)" } else { "NOT *" })?;
                return Ok(());
            }
            Query::And(one) | Query::Or(one) if one.len() == 1 => return one[0].write(f, around),
            Query::And(all) => (all, " ", Tightness::And),
            Query::Or(any) => (any, " OR ", Tightness::Or),
        };
        // parts of the same kind keep their parentheses: that way the text reads back to the same tree
        let wrap = around > own;
        if wrap {
            f.write_str("(")?;
        }
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                f.write_str(separator)?;
            }
            let same = matches!((self, part), (Query::And(_), Query::And(p)) | (Query::Or(_), Query::Or(p)) if p.len() > 1);
            part.write(f, if same { Tightness::Not } else { own })?;
        }
        if wrap {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Text::Phrase(phrase) => write_literal(f, phrase, true),
            Text::Near { text, between } => write_near(f, text, *between),
            Text::Pattern(pattern) => write_pattern(f, pattern),
            Text::Alike { word, mistakes } => write_alike(f, word, *mistakes),
            Text::Network(network) => f.write_str(network),
        }
    }
}

/// Characters that may stand in a word without quotes anywhere.
fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.' | '/' | '@' | '%' | '#' | '$' | ',' | ';' | '=' | '\'')
}

/// Whether a literal reads back as itself without quotes; `bare` words must not read as an operator or a field.
fn needs_no_quotes(text: &str, bare: bool) -> bool {
    let plain = |c: char| is_plain(c) || (c == '-') || (c == ':' && !bare);
    let is_literal = !text.starts_with('-') && !matches!(text, "AND" | "OR" | "NOT" | "TO");
    !text.is_empty() && text.chars().all(plain) && is_literal && Network::read(text).is_none()
}

fn write_literal(f: &mut fmt::Formatter<'_>, text: &str, bare: bool) -> fmt::Result {
    if needs_no_quotes(text, bare) {
        return f.write_str(text);
    }
    write_quoted(f, text)
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{character}")?;
    }
    f.write_str("\"")
}

fn write_near(f: &mut fmt::Formatter<'_>, text: &str, between: u32) -> fmt::Result {
    write_quoted(f, text)?;
    write!(f, "~{between}")
}

fn write_alike(f: &mut fmt::Formatter<'_>, text: &str, mistakes: u32) -> fmt::Result {
    for character in text.chars() {
        if !is_plain(character) {
            f.write_str("\\")?;
        }
        write!(f, "{character}")?;
    }
    write!(f, "~{mistakes}")
}

/// Writes a pattern so that a word reads back to it: what is literal and not plain is escaped.
fn write_pattern(f: &mut fmt::Formatter<'_>, pattern: &Wildcards) -> fmt::Result {
    let mut characters = pattern.0.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '*' | '?' => {
                write!(f, "{character}")?;
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        };
        if !is_plain(literal) {
            f.write_str("\\")?;
        }
        write!(f, "{literal}")?;
    }
    Ok(())
}

fn write_field(f: &mut fmt::Formatter<'_>, name: &str, test: &Test) -> fmt::Result {
    let is_plain = super::parse::is_plain_name(name);
    let test = PrintedTest { test, after_quotes: !is_plain }.to_string();
    if is_plain && !test.strip_prefix(':').is_some_and(|value| super::parse::reads_as_word(name, value)) {
        return write!(f, "{name}{test}");
    }
    write!(f, "\"{}\"{test}", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A test as it stands after its field's name.
struct PrintedTest<'a> {
    test: &'a Test,
    /// After a name in quotes an operator alone would stand after a phrase, so it takes a colon.
    after_quotes: bool,
}

impl fmt::Display for PrintedTest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.after_quotes { ":" } else { "" };
        match self.test {
            Test::Exists => f.write_str(":*"),
            Test::Equals(value) => {
                f.write_str(":")?;
                write_literal(f, value, false)
            }
            Test::Matches(pattern) => {
                f.write_str(":")?;
                write_pattern(f, pattern)
            }
            Test::Regex(regex) => {
                f.write_str(":~")?;
                write_quoted(f, regex)
            }
            Test::Exact(text) => {
                f.write_str(":=")?;
                write_quoted(f, text)
            }
            Test::Near { text, between } => {
                f.write_str(":")?;
                write_near(f, text, *between)
            }
            Test::Alike { value, mistakes } => {
                f.write_str(":")?;
                write_alike(f, value, *mistakes)
            }
            Test::Network(network) => write!(f, ":{network}"),
            Test::Range { from, to } => match (from, to) {
                (Bound::Included(value), Bound::Open) => write_comparison(f, colon, ">=", value),
                (Bound::Excluded(value), Bound::Open) => write_comparison(f, colon, ">", value),
                (Bound::Open, Bound::Included(value)) => write_comparison(f, colon, "<=", value),
                (Bound::Open, Bound::Excluded(value)) => write_comparison(f, colon, "<", value),
                (from, to) => {
                    f.write_str(if matches!(from, Bound::Excluded(_)) { ":{" } else { ":[" })?;
                    write_bound(f, from)?;
                    f.write_str(" TO ")?;
                    write_bound(f, to)?;
                    f.write_str(if matches!(to, Bound::Excluded(_)) { "}" } else { "]" })
                }
            },
        }
    }
}

fn write_comparison(f: &mut fmt::Formatter<'_>, colon: &str, operator: &str, value: &str) -> fmt::Result {
    f.write_str(colon)?;
    f.write_str(operator)?;
    write_bound_value(f, value)
}

fn write_bound(f: &mut fmt::Formatter<'_>, bound: &Bound) -> fmt::Result {
    match bound {
        Bound::Open => f.write_str("*"),
        Bound::Included(value) | Bound::Excluded(value) => write_bound_value(f, value),
    }
}

fn write_bound_value(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    // a leading minus is a sign here, not a negation
    let sign = value.strip_prefix('-').filter(|rest| needs_no_quotes(rest, false));
    match sign {
        Some(rest) => write!(f, "-{rest}"),
        None => write_literal(f, value, false),
    }
}
