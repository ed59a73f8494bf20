//! Commands that look at rows in a row, and their options.

use std::sync::Arc;

use crate::query::insights::lexer::{Kind, Token, malformed};
use crate::query::insights::parser::{Parser, Result};
use crate::query::insights::periods::Period;
use crate::query::insights::syntax::{Command, FieldName, Item, Outlier, Totals};
use crate::query::insights::value::{Number, Value};

/// How far back `autoregress` looks.
const MAX_LAG: usize = 1_000;
/// `sessionize` without `maxspan`.
const DEFAULT_GAP_MILLIS: i64 = 30 * 60_000;

/// `name=` if it stands here.
pub(super) fn option(parser: &mut Parser, names: &[&str]) -> Result<Option<String>> {
    let token = parser.lexer.peek()?.clone();
    let Kind::Word(word) = &token.kind else { return Ok(None) };
    let word = word.to_ascii_lowercase();
    if !names.contains(&word.as_str()) {
        return Ok(None);
    }
    let before = parser.lexer.clone();
    parser.lexer.next()?;
    match parser.eat_sign("=")? {
        true => Ok(Some(word)),
        // a field of that name
        false => {
            parser.lexer = before;
            Ok(None)
        }
    }
}

pub(super) fn flag(parser: &mut Parser) -> Result<bool> {
    let token = parser.lexer.next()?;
    match () {
        () if token.is_word("true") => Ok(true),
        () if token.is_word("false") => Ok(false),
        () => parser.unexpected(&token, "`true` or `false`"),
    }
}

pub(super) fn totals(parser: &mut Parser) -> Result<Command> {
    let (mut name, mut row, mut column): (Arc<str>, _, _) = ("Total".into(), true, false);
    while let Some(option) = option(parser, &["fieldname", "row", "col"])? {
        match option.as_str() {
            "fieldname" => name = parser.alias()?,
            "row" => row = flag(parser)?,
            _ => column = flag(parser)?,
        }
    }
    Ok(Command::Totals(Totals {
        name,
        row,
        column,
        fields: spaced_fields(parser)?,
    }))
}

/// Fields, with or without commas between; maybe none.
fn spaced_fields(parser: &mut Parser) -> Result<Vec<FieldName>> {
    let mut fields = Vec::new();
    while matches!(parser.lexer.peek()?.kind, Kind::Word(_) | Kind::Ticked(_)) {
        fields.push(parser.field()?);
        if parser.eat_sign(",")? && !matches!(parser.lexer.peek()?.kind, Kind::Word(_) | Kind::Ticked(_)) {
            let token = parser.lexer.next()?;
            return parser.unexpected(&token, "a field");
        }
    }
    Ok(fields)
}

pub(super) fn lag(parser: &mut Parser) -> Result<Command> {
    let field = parser.field()?;
    let alias = parser.optional_alias()?;
    let (mut first, mut last) = (1, 1);
    if option(parser, &["p"])?.is_some() {
        let start = parser.lexer.place()?;
        first = parser.count(MAX_LAG)?;
        last = first;
        if parser.eat_sign("-")? {
            last = parser.count(MAX_LAG)?;
        }
        if last < first || last - first >= 100 {
            return malformed(
                "`p=N-M` goes from the smaller to the larger, over at most 100",
                start,
                parser.lexer.end_before(),
            );
        }
    }
    let base = alias.clone().unwrap_or_else(|| field.name.clone());
    let lags = match alias {
        Some(alias) if first == last => vec![(first, alias)],
        _ => (first..=last).map(|lag| (lag, format!("{base}_p{lag}").into())).collect(),
    };
    Ok(Command::Lag { field, lags })
}

pub(super) fn fill_missing(parser: &mut Parser, token: &Token, before: &[Command]) -> Result<Command> {
    let stats = before.iter().rev().find_map(|command| match command {
        Command::Stats(stats) => Some(stats),
        _ => None,
    });
    let Some((stats, (place, period))) = stats.and_then(|stats| Some((stats, stats.bin?))) else {
        return malformed("`fillmissing` follows a `stats .. by bin(..)`", token.start, token.end);
    };
    let mut values = Vec::new();
    if parser.eat_word("with")? {
        loop {
            let token = parser.lexer.next()?;
            let (negative, token) = match token.is_sign("-") {
                true => (true, parser.lexer.next()?),
                false => (false, token),
            };
            let value = match &token.kind {
                Kind::Number(text) => Number::read(&format!("{}{text}", if negative { "-" } else { "" })).map(Value::from),
                Kind::Quoted(text) if !negative => Some(Value::text(text.as_str())),
                _ => None,
            };
            let Some(value) = value else {
                return parser.unexpected(&token, "a number or a text in quotes");
            };
            parser.expect_word("for")?;
            values.push((parser.alias()?, value));
            if !parser.eat_sign(",")? {
                break;
            }
        }
    }
    let field = |item: &Item| FieldName::plain(&item.name);
    let by = stats.by.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, item)| field(item)).collect();
    Ok(Command::FillMissing {
        bin: field(&stats.by[place]),
        period,
        offset: stats.offset,
        by,
        values,
    })
}

pub(super) fn outlier(parser: &mut Parser) -> Result<Command> {
    let mut outlier = Outlier {
        removes: false,
        factor: 2.5,
        uses_lower: false,
        marks: false,
        fields: Vec::new(),
    };
    while let Some(name) = option(parser, &["action", "param", "uselower", "mark"])? {
        match name.as_str() {
            "action" => {
                let token = parser.lexer.next()?;
                outlier.removes = match () {
                    () if token.is_word("remove") => true,
                    () if token.is_word("transform") => false,
                    () => return parser.unexpected(&token, "`remove` or `transform`"),
                };
            }
            "param" => {
                let token = parser.lexer.next()?;
                let number = match &token.kind {
                    Kind::Number(text) => text.parse::<f64>().ok().filter(|factor| factor.is_finite()),
                    _ => None,
                };
                match number {
                    Some(number) => outlier.factor = number,
                    None => return parser.unexpected(&token, "a number"),
                }
            }
            "uselower" => outlier.uses_lower = flag(parser)?,
            _ => outlier.marks = flag(parser)?,
        }
    }
    outlier.fields = spaced_fields(parser)?;
    match outlier.fields.is_empty() {
        true => {
            let token = parser.lexer.next()?;
            parser.unexpected(&token, "a field")
        }
        false => Ok(Command::Outlier(outlier)),
    }
}

pub(super) fn sessionize(parser: &mut Parser) -> Result<Command> {
    let fields = parser.fields()?;
    let mut max_gap_millis = DEFAULT_GAP_MILLIS;
    if parser.eat_word("maxspan")? {
        parser.eat_sign("=")?;
        max_gap_millis = Period::millis(parser.period()?);
    }
    let name = parser.optional_alias()?.unwrap_or_else(|| "session_id".into());
    Ok(Command::Sessionize { fields, max_gap_millis, name })
}
