//! Reads scripts: what commands and expressions share. They stand in [`super::commands`] and [`super::expressions`].

use std::collections::HashSet;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::lexer::{Kind, Lexer, Token, malformed};
use super::periods::Period;
use super::syntax::{AggregateCall, Command, Expression, FieldName, Item};
use super::{Malformed, Script, Source, Subscript};

pub(super) type Result<T, E = Malformed> = std::result::Result<T, E>;

/// Compiled size of one regular expression, bytes.
const REGEX_BYTES: usize = 1 << 20;
/// Regular expressions of one script.
const MAX_REGEXES: usize = 50;
/// Scripts in parentheses of one script: each is a run of its own.
const MAX_SUBSCRIPTS: usize = 10;

/// A script being read.
#[derive(Debug)]
pub(super) struct Parser {
    pub(super) lexer: Lexer,
    pub(super) depth: usize,
    n_regexes: usize,
    /// Aggregates may stand here, and are gathered.
    pub(super) aggregates: Option<Vec<AggregateCall>>,
    /// Inside of one.
    pub(super) in_aggregate: bool,
    /// Names of fields that `stats` gave, which then may be written as they stand there: `count(*)`.
    pub(super) columns: Vec<Arc<str>>,
    /// What the rows that a `join` found on the left are called.
    pub(super) left: Option<String>,
    pub(super) subscripts: Vec<Subscript>,
    /// It stands in parentheses inside another.
    pub(super) is_inner: bool,
    /// Where each `search('…')` of the command at hand stands.
    pub(super) searches: Vec<(usize, usize)>,
    /// All fields that are named anywhere.
    pub(super) names: HashSet<Arc<str>>,
}

/// Reads a whole script.
pub(super) fn parse(text: &str) -> Result<Script> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        depth: 0,
        n_regexes: 0,
        aggregates: None,
        in_aggregate: false,
        columns: Vec::new(),
        left: None,
        subscripts: Vec::new(),
        is_inner: false,
        searches: Vec::new(),
        names: HashSet::new(),
    };
    let (sources, commands) = parser.script()?;
    let end = parser.lexer.next()?;
    match end.kind {
        Kind::End => Ok(Script::new(sources, commands, parser.subscripts, Some(parser.names))),
        _ => parser.unexpected(&end, "`|` or the end"),
    }
}

impl Parser {
    /// What stands here is not what should.
    pub(super) fn unexpected<T>(&self, token: &Token, expected: &str) -> Result<T> {
        let found = match &token.kind {
            Kind::End => "end of the query".to_string(),
            _ => format!("'{}'", self.lexer.text(token.start, token.end)),
        };
        let instead = self.other_languages_sign(token).map_or(String::new(), |instead| format!(": write {instead}"));
        malformed(format!("unexpected {found}: expected {expected}{instead}"), token.start, token.end)
    }

    /// What a sign that other languages have is here.
    fn other_languages_sign(&self, token: &Token) -> Option<&'static str> {
        let before = match token.start {
            0 => String::new(),
            start => self.lexer.text(start - 1, start),
        };
        match (&*before, &token.kind) {
            ("=", Kind::Sign("=")) => Some("`=`"),
            ("<", Kind::Sign(">")) => Some("`!=`"),
            ("|", Kind::Sign("|")) => Some("`or`"),
            _ => None,
        }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> Result<bool> {
        let found = self.lexer.peek()?.is_word(word);
        if found {
            self.lexer.next()?;
        }
        Ok(found)
    }

    pub(super) fn eat_sign(&mut self, sign: &str) -> Result<bool> {
        let found = self.lexer.peek()?.is_sign(sign);
        if found {
            self.lexer.next()?;
        }
        Ok(found)
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Result<()> {
        let token = self.lexer.next()?;
        match token.is_sign(sign) {
            true => Ok(()),
            false => self.unexpected(&token, &format!("`{sign}`")),
        }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<()> {
        let token = self.lexer.next()?;
        match token.is_word(word) {
            true => Ok(()),
            false => self.unexpected(&token, &format!("`{word}`")),
        }
    }

    /// A name for a new field.
    pub(super) fn alias(&mut self) -> Result<Arc<str>> {
        let token = self.lexer.next()?;
        match token.kind {
            Kind::Word(name) | Kind::Ticked(name) => Ok(name.into()),
            _ => self.unexpected(&token, "a name"),
        }
    }

    /// `as NAME`, if it stands here.
    pub(super) fn optional_alias(&mut self) -> Result<Option<Arc<str>>> {
        match self.eat_word("as")? {
            true => self.alias().map(Some),
            false => Ok(None),
        }
    }

    /// A field: `a.b`, `` a.`b-c` ``, `a.list[0]`.
    pub(super) fn field(&mut self) -> Result<FieldName> {
        let token = self.lexer.next()?;
        self.field_from(token)
    }

    pub(super) fn field_from(&mut self, token: Token) -> Result<FieldName> {
        let mut steps: Vec<String> = Vec::new();
        let mut end = token.end;
        // a dot at the end of a word is followed by a step in backticks
        let mut awaits_step = match &token.kind {
            Kind::Word(name) => {
                let (name, awaits) = match name.strip_suffix('.') {
                    Some(name) if !name.is_empty() => (name, true),
                    _ => (name.as_str(), false),
                };
                steps.extend(name.split('.').map(str::to_string));
                awaits
            }
            Kind::Ticked(name) => {
                steps.push(name.clone());
                false
            }
            _ => return self.unexpected(&token, "a field"),
        };
        loop {
            let next = self.lexer.peek()?.clone();
            if next.start != end {
                break;
            }
            match next.kind {
                Kind::Ticked(name) if awaits_step => {
                    self.lexer.next()?;
                    steps.push(name);
                    awaits_step = false;
                    end = next.end;
                }
                Kind::Word(name) if name.starts_with('.') && !awaits_step && name.len() > 1 => {
                    self.lexer.next()?;
                    let (name, awaits) = match name.strip_suffix('.') {
                        Some(name) => (name, true),
                        None => (name.as_str(), false),
                    };
                    steps.extend(name[1..].split('.').map(str::to_string));
                    awaits_step = awaits;
                    end = next.end;
                }
                Kind::Word(name) if name == "." && !awaits_step => {
                    self.lexer.next()?;
                    awaits_step = true;
                    end = next.end;
                }
                Kind::Sign("[") if !awaits_step => {
                    self.lexer.next()?;
                    let index = self.lexer.next()?;
                    match index.kind {
                        Kind::Number(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => steps.push(digits),
                        Kind::Quoted(name) => steps.push(name),
                        _ => return self.unexpected(&index, "the number of an item"),
                    }
                    self.expect_sign("]")?;
                    end = self.lexer.end_before();
                }
                _ => break,
            }
        }
        if awaits_step {
            return malformed("a name is missing behind the dot", token.start, end);
        }
        if let (Some(left), [first, _, ..]) = (&self.left, &steps[..])
            && first == left
        {
            steps.remove(0);
        }
        Ok(self.named(FieldName::new(steps.iter().map(String::as_str))))
    }

    /// Takes down that a field is named.
    pub(super) fn named(&mut self, field: FieldName) -> FieldName {
        self.names.insert(field.name.clone());
        field
    }

    /// Fields between commas.
    pub(super) fn fields(&mut self) -> Result<Vec<FieldName>> {
        let mut fields = vec![self.field()?];
        while self.eat_sign(",")? {
            fields.push(self.field()?);
        }
        Ok(fields)
    }

    /// Expressions between commas, maybe with names.
    pub(super) fn items(&mut self) -> Result<Vec<Item>> {
        let mut items = vec![self.item()?];
        while self.eat_sign(",")? {
            items.push(self.item()?);
        }
        Ok(items)
    }

    pub(super) fn item(&mut self) -> Result<Item> {
        let start = self.lexer.place()?;
        let expression = self.expression()?;
        let written = self.lexer.text(start, self.lexer.end_before());
        let alias = self.optional_alias()?;
        let own = match &expression {
            Expression::Field(_) => written.replace('`', ""),
            _ => written,
        };
        let is_plain = alias.is_none() && matches!(&expression, Expression::Field(field) if *field.name == own);
        Ok(Item {
            expression,
            name: alias.unwrap_or_else(|| own.into()),
            is_plain,
        })
    }

    pub(super) fn period(&mut self) -> Result<Period> {
        let token = self.lexer.next()?;
        match &token.kind {
            Kind::Period(text) => Period::read(text).or_else(|message| malformed(message, token.start, token.end)),
            _ => self.unexpected(&token, "a period of time such as `5m`"),
        }
    }

    /// A whole number of at least one.
    pub(super) fn count(&mut self, max: usize) -> Result<usize> {
        let token = self.lexer.next()?;
        match &token.kind {
            Kind::Number(text) => match text.parse::<usize>() {
                Ok(number) if (1..=max).contains(&number) => Ok(number),
                _ => malformed(format!("'{text}' is no whole number from 1 to {max}"), token.start, token.end),
            },
            _ => self.unexpected(&token, &format!("a number from 1 to {max}")),
        }
    }

    pub(super) fn regex(&mut self) -> Result<Option<Regex>> {
        match self.lexer.regex()? {
            Some((text, start, end)) => self.compile(&text, start, end).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn compile(&mut self, text: &str, start: usize, end: usize) -> Result<Regex> {
        self.n_regexes += 1;
        if self.n_regexes > MAX_REGEXES {
            return malformed(format!("the query has more than {MAX_REGEXES} regular expressions"), start, end);
        }
        RegexBuilder::new(text).size_limit(REGEX_BYTES).build().or_else(|error| {
            let message = match error {
                regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_string(),
                error => {
                    let text = error.to_string();
                    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    format!("the regular expression cannot be read: {reason}")
                }
            };
            malformed(message, start, end)
        })
    }

    /// A script in parentheses, the first of which was read.
    pub(super) fn inner_script(&mut self, start: usize, max_rows: usize, is_set: bool) -> Result<usize> {
        if self.is_inner {
            return malformed("a subquery cannot stand inside another", start, self.lexer.place()?);
        }
        if self.subscripts.len() >= MAX_SUBSCRIPTS {
            return malformed(format!("the query has more than {MAX_SUBSCRIPTS} subqueries"), start, self.lexer.place()?);
        }
        let left = self.left.take();
        let columns = std::mem::take(&mut self.columns);
        let aggregates = self.aggregates.take();
        let searches = std::mem::take(&mut self.searches);
        self.is_inner = true;
        let parsed = self.script();
        self.is_inner = false;
        self.searches = searches;
        self.left = left;
        self.columns = columns;
        self.aggregates = aggregates;
        let (sources, commands) = parsed?;
        self.expect_sign(")")?;
        // the outer script may name any of its fields, but none of its events behind a command that gathers
        let wanted = commands.iter().any(super::operators::leaves_only_what_it_gathers).then(|| self.names.clone());
        let script = Script::new(sources, commands, Vec::new(), wanted);
        if is_set && script.n_columns() != 1 {
            let message = "a subquery behind `in` gives one field: end it with `fields f` or `display f`";
            return malformed(message, start, self.lexer.end_before());
        }
        self.subscripts.push(Subscript {
            script,
            shift_millis: 0,
            max_rows,
            is_set,
        });
        Ok(self.subscripts.len() - 1)
    }

    fn script(&mut self) -> Result<(Vec<Source>, Vec<Command>)> {
        super::commands::script(self)
    }
}
