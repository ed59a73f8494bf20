//! `SOURCE`: what a script's events are of.

use crate::query::insights::Source;
use crate::query::insights::lexer::{Kind, malformed};
use crate::query::insights::parser::{Parser, Result};

/// Prefixes, accounts and data sources of `SOURCE`.
const MAX_PREFIXES: usize = 5;
const MAX_ACCOUNTS: usize = 20;
const MAX_DATA_SOURCES: usize = 10;
const MAX_NAMED: usize = 50;

pub(super) fn source(parser: &mut Parser) -> Result<Vec<Source>> {
    let token = parser.lexer.next()?;
    match &token.kind {
        Kind::Quoted(name) | Kind::Ticked(name) => {
            let mut names = vec![name.clone()];
            while parser.eat_sign(",")? {
                names.push(text(parser)?);
            }
            if names.len() > MAX_NAMED {
                return malformed(format!("`SOURCE` names at most {MAX_NAMED} log groups"), token.start, parser.lexer.end_before());
            }
            Ok(vec![Source::Named(names)])
        }
        Kind::Word(_) if token.is_word("logGroups") => {
            parser.expect_sign("(")?;
            let (mut prefixes, mut accounts, mut classes) = (Vec::new(), Vec::new(), Vec::new());
            while !parser.lexer.peek()?.is_sign(")") {
                let key = parser.lexer.next()?;
                parser.expect_sign(":")?;
                let (list, most) = match () {
                    () if key.is_word("namePrefix") => (&mut prefixes, MAX_PREFIXES),
                    () if key.is_word("accountIdentifiers") || key.is_word("accountIdentifier") => (&mut accounts, MAX_ACCOUNTS),
                    () if key.is_word("class") => (&mut classes, 3),
                    () => return parser.unexpected(&key, "`namePrefix`, `accountIdentifiers` or `class`"),
                };
                *list = texts(parser, most)?;
                if !parser.eat_sign(",")? {
                    break;
                }
            }
            parser.expect_sign(")")?;
            Ok(vec![Source::LogGroups { prefixes, accounts, classes }])
        }
        Kind::Word(_) if token.is_word("dataSource") => {
            parser.expect_sign("(")?;
            let names = texts(parser, MAX_DATA_SOURCES)?;
            parser.expect_sign(")")?;
            Ok(vec![Source::DataSource(names)])
        }
        // a name without signs needs no quotes
        Kind::Word(name) => Ok(vec![Source::Named(vec![name.clone()])]),
        _ => parser.unexpected(&token, "`logGroups(..)`, `dataSource(..)` or a log group in quotes"),
    }
}

fn text(parser: &mut Parser) -> Result<String> {
    let token = parser.lexer.next()?;
    match token.kind {
        Kind::Quoted(text) | Kind::Ticked(text) => Ok(text),
        _ => parser.unexpected(&token, "a text in quotes"),
    }
}

fn texts(parser: &mut Parser, most: usize) -> Result<Vec<String>> {
    let start = parser.lexer.place()?;
    parser.expect_sign("[")?;
    let mut texts = vec![text(parser)?];
    while parser.eat_sign(",")? {
        texts.push(text(parser)?);
    }
    parser.expect_sign("]")?;
    match texts.len() > most {
        true => malformed(format!("at most {most} may be listed here"), start, parser.lexer.end_before()),
        false => Ok(texts),
    }
}
