//! What a block's index can say about a filter, and what must be verified on the rows it names.

use std::sync::{Arc, OnceLock};

use arrow::buffer::BooleanBuffer;
use regex_syntax::hir::{Hir, HirKind};

use super::conditions::{Alike, Key, Phrase, Sought, TokenTest, ValueTest};
use super::filter::{Filter, Leaf, Map};
use super::refine;
use super::scan::{context_has, context_passes};
use crate::block::{self, Block, BlockIndex, IndexQuery, RawField, tokenizer};
use crate::model::Table;
use crate::model::schema::{SPAN_COLUMNS, is_context_column};

/// Names deeper than this are not looked for in attributes that are objects by way of the index.
const MAX_PARENTS: usize = 16;

/// A question to the index and the rest.
#[derive(Debug)]
pub(super) struct Plan {
    /// Gives every row that matches, and perhaps more.
    pub(super) index: IndexQuery,
    /// What those rows must pass; `None` when the index is exact.
    pub(super) residual: Option<Filter>,
    /// The rows that may pass it, once they were asked for ([`Plan::refined`]).
    refined: OnceLock<Option<BooleanBuffer>>,
    /// A question of which few rows are the answer, if one was found ([`Plan::is_refined_cheaply`]).
    few: OnceLock<Option<IndexQuery>>,
    /// Whether few of the index's rows pass the residual, once some were tried.
    pub(super) is_rare: OnceLock<bool>,
}

impl Plan {
    /// Rows that may match the residual, as bits over the block, by a question that looks through all tokens of it; `None` where
    /// that says nothing, or costs more than the rows. Worked out once.
    pub(super) fn refined(&self, index: &BlockIndex) -> Option<&BooleanBuffer> {
        let residual = self.residual.as_ref()?;
        self.refined.get_or_init(|| refine::rows(&refine::questions(residual), index)).as_ref()
    }

    /// Whether [`Self::refined`] costs little and leaves few rows: the block's tokens are at hand, and few rows have those that are
    /// asked for. Worked out once.
    pub(super) fn is_refined_cheaply(&self, index: &BlockIndex) -> bool {
        let Some(residual) = &self.residual else { return false };
        if self.refined.get().is_some_and(Option::is_some) {
            return true;
        }
        let find = || {
            let mut asked = refine::about_few(refine::questions(residual), index);
            if asked.is_empty() {
                return None;
            }
            asked.push(self.index.clone());
            Some(IndexQuery::And(asked))
        };
        self.few.get_or_init(find).is_some()
    }

    /// The question that names few rows and all that match, if [`Self::is_refined_cheaply`] found one; `None` before that was asked.
    pub(super) fn few(&self) -> Option<Option<&IndexQuery>> {
        self.few.get().map(Option::as_ref)
    }
}

/// Part of a plan: the index's question, and whether its answer is exact.
struct Part {
    query: IndexQuery,
    exact: bool,
}

impl Part {
    fn exact(query: IndexQuery) -> Self {
        Self { query, exact: true }
    }
    /// More rows than match.
    fn wider(query: IndexQuery) -> Self {
        Self { query, exact: false }
    }
}

/// The plan of a filter on one block.
pub(super) fn plan(filter: &Filter, block: &Block, index: &BlockIndex) -> block::Result<Plan> {
    let conjuncts = match filter {
        Filter::And(parts) => parts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let (mut asked, mut residual) = (Vec::new(), Vec::new());
    for conjunct in conjuncts {
        let part = lower(conjunct, block, index)?;
        if !part.exact {
            residual.push(conjunct.clone());
        }
        if !matches!(part.query, IndexQuery::All) {
            asked.push(part.query);
        }
    }
    Ok(Plan {
        index: match asked.len() {
            0 => IndexQuery::All,
            1 => asked.swap_remove(0),
            _ => IndexQuery::And(asked),
        },
        residual: (!residual.is_empty()).then(|| Filter::and(residual)),
        refined: OnceLock::new(),
        few: OnceLock::new(),
        is_rare: OnceLock::new(),
    })
}

fn lower(filter: &Filter, block: &Block, index: &BlockIndex) -> block::Result<Part> {
    let many = |parts: &[Filter]| parts.iter().map(|part| lower(part, block, index)).collect::<block::Result<Vec<_>>>();
    Ok(match filter {
        Filter::All => Part::exact(IndexQuery::All),
        Filter::None => Part::exact(IndexQuery::None),
        Filter::And(parts) => {
            let parts = many(parts)?;
            let exact = parts.iter().all(|part| part.exact);
            let query = IndexQuery::And(parts.into_iter().map(|part| part.query).collect());
            Part { query, exact }
        }
        Filter::Or(parts) => {
            let parts = many(parts)?;
            let exact = parts.iter().all(|part| part.exact);
            let query = IndexQuery::Or(parts.into_iter().map(|part| part.query).collect());
            Part { query, exact }
        }
        Filter::Not(inner) => {
            let inner = lower(inner, block, index)?;
            match inner.exact {
                true => Part::exact(IndexQuery::Not(Box::new(inner.query))),
                // what is wider turns narrower
                false => Part::wider(IndexQuery::All),
            }
        }
        Filter::Leaf(leaf) => lower_leaf(leaf, block, index)?,
    })
}

fn lower_leaf(leaf: &Leaf, block: &Block, index: &BlockIndex) -> block::Result<Part> {
    let table = block.meta().table;
    let part = match leaf {
        Leaf::Phrase(phrase) => lower_phrase(phrase),
        Leaf::WholeText(ValueTest::Holds(text)) => {
            Part::wider(std::str::from_utf8(text.needle()).map_or(IndexQuery::All, |text| IndexQuery::And(tokens_around(text))))
        }
        Leaf::WholeText(ValueTest::Find(regex)) => {
            let literals = needed_literals(regex);
            Part::wider(IndexQuery::And(literals.iter().flat_map(|literal| tokens_around(literal)).collect()))
        }
        Leaf::WholeText(_) => Part::wider(IndexQuery::All),
        Leaf::Column(column, test) => match Leaf::raw_field(table, column) {
            Some(field) => lower_term(field, test, index)?,
            None => Part::wider(lower_unindexed(column, test, block)?),
        },
        Leaf::Numbers(column, ranges) => match Leaf::raw_field(table, column) {
            Some(field) => enumerate(field, index, |value| {
                value.parse::<i64>().is_ok_and(|number| ranges.iter().any(|range| range.contains(&number)))
            })?,
            None => Part::wider(IndexQuery::All),
        },
        Leaf::Body { without, .. } => Part::wider(match without {
            Some(pattern) => IndexQuery::Not(Box::new(IndexQuery::TokenPattern(pattern.clone()))),
            None => IndexQuery::All,
        }),
        Leaf::InMap {
            map: Map::ResourceAttributes,
            name,
            column,
        } => {
            let contexts: Vec<u32> = (0u32..)
                .zip(index.contexts())
                .filter(|(_, context)| context_has(context, name, *column))
                .map(|(number, _)| number)
                .collect();
            Part::exact(match contexts.len() {
                0 => IndexQuery::None,
                n if n == index.contexts().len() => IndexQuery::All,
                _ => IndexQuery::Contexts(contexts),
            })
        }
        Leaf::InMap {
            map: Map::Attributes, name, ..
        } => Part {
            query: IndexQuery::KeyExists(name.clone()),
            // under the name stand also what a body has that is JSON, and the types of exceptions
            exact: table == Table::Spans && name != "exception.type",
        },
        Leaf::Value { column, keys, test } => {
            let contexts: Vec<u32> = (0u32..)
                .zip(index.contexts())
                .filter(|(_, context)| context_passes(context, *column, keys, test))
                .map(|(number, _)| number)
                .collect();
            let mut any = Vec::with_capacity(keys.len() + 1);
            let mut exact = true;
            if !contexts.is_empty() {
                any.push(IndexQuery::Contexts(contexts));
            }
            for key in keys {
                any.push(key_query(&key.name, test));
                exact &= inside(key, test, table, &mut any);
            }
            // a promoted span attribute is indexed under its name; other columns of rows have fields of their own
            if let Some(column) = column.filter(|column| !is_context_column(column)) {
                if let Some(field) = Leaf::raw_field(table, column) {
                    let part = lower_term(field, test, index)?;
                    exact &= part.exact;
                    any.push(part.query);
                } else if !keys.iter().any(|key| is_promoted_as(&key.name, column)) {
                    return Ok(Part::wider(IndexQuery::All));
                }
            }
            let query = if any.len() == 1 { any.swap_remove(0) } else { IndexQuery::Or(any) };
            Part { query, exact }
        }
    };
    // long terms are indexed by their beginning
    match index.is_exact(&part.query) {
        Ok(exact) => Ok(Part {
            exact: part.exact && exact,
            query: part.query,
        }),
        // too many to be worth it: the rows that the other conditions leave are read
        Err(block::Error::TooManyTerms { .. }) => Ok(Part::wider(IndexQuery::All)),
        Err(error) => Err(error),
    }
}

/// Rows that may pass a test of a column that the index does not have: the file may tell in which row groups a value may be.
fn lower_unindexed(column: &str, test: &ValueTest, block: &Block) -> block::Result<IndexQuery> {
    let values: Vec<&str> = match test {
        ValueTest::Is(value) => vec![value],
        ValueTest::OneOf(values) => values.iter().map(String::as_str).collect(),
        _ => return Ok(IndexQuery::All),
    };
    Ok(match block.may_have(column, &values)? {
        None => IndexQuery::All,
        Some(ranges) if ranges.is_empty() => IndexQuery::None,
        Some(ranges) => IndexQuery::Ranges(ranges),
    })
}

/// Adds the rows where a value of the key stands inside of one that is an array or object; returns whether those are all.
fn inside(key: &Key, test: &ValueTest, table: Table, any: &mut Vec<IndexQuery>) -> bool {
    let mut add = |name: &str, path: &str| {
        let (test, path) = (test.clone(), path.to_string());
        any.push(IndexQuery::KeyInside {
            key: name.to_string(),
            test: Arc::new(move |value: &str| test.passes_inside(value, &path)),
        });
    };
    // what passes whatever the value needs not look inside
    if !matches!(test, ValueTest::Any) {
        add(&key.name, "");
    }
    if key.parents().count() > MAX_PARENTS {
        any.push(IndexQuery::All);
        return false;
    }
    let mut exact = true;
    for (parent, path) in key.parents() {
        add(parent, path);
        // the index has columns of these names, in which a scan does not look
        exact &= table != Table::Spans || !(SPAN_COLUMNS.iter().any(|(attribute, _)| *attribute == parent) || parent == "exception.type");
    }
    exact
}

/// Texts that stand, to the letter, in whatever a regular expression matches. Not all of them.
fn needed_literals(regex: &regex::Regex) -> Vec<String> {
    fn gather(hir: &Hir, out: &mut Vec<String>) {
        match hir.kind() {
            HirKind::Literal(literal) => out.extend(std::str::from_utf8(&literal.0).ok().map(str::to_string)),
            HirKind::Concat(parts) => parts.iter().for_each(|part| gather(part, out)),
            HirKind::Capture(group) => gather(&group.sub, out),
            HirKind::Repetition(repeated) if repeated.min > 0 => gather(&repeated.sub, out),
            // of alternatives none is needed
            HirKind::Repetition(_) | HirKind::Alternation(_) | HirKind::Class(_) | HirKind::Look(_) | HirKind::Empty => {}
        }
    }
    let mut out = Vec::new();
    if let Ok(hir) = regex_syntax::Parser::new().parse(regex.as_str()) {
        gather(&hir, &mut out);
    }
    out
}

/// Tokens that any text has in which `text` stands to the letter. A token at an end may go on outside, and what could be
/// a piece of a UUID may be none of its own.
fn tokens_around(text: &str) -> Vec<IndexQuery> {
    let mut all = Vec::new();
    tokenizer::for_each_token(text, &mut |token| {
        let before = text[..token.start].chars().next_back();
        let after = text[token.end..].chars().next();
        let in_no_uuid = token.text.contains(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
        match (before, after) {
            (None, _) => {}
            (Some('-'), _) | (_, Some('-')) if !in_no_uuid => {}
            (Some(_), Some(_)) => all.push(IndexQuery::Token(token.text.to_string())),
            // a UUID that goes on is none: its pieces are tokens then
            (Some(_), None) if token.text.contains('-') => {}
            // shorter beginnings stand for too many tokens
            (Some(_), None) if token.text.len() > 2 => all.push(IndexQuery::TokenPattern(format!("{}*", token.text))),
            (Some(_), None) => {}
        }
    });
    all
}

fn is_promoted_as(key: &str, column: &str) -> bool {
    let others = [("exception.type", "exception_type")];
    SPAN_COLUMNS.iter().chain(&others).any(|(attribute, c)| *attribute == key && *c == column)
}

fn lower_phrase(phrase: &Phrase) -> Part {
    let tokens = match &phrase.sought {
        Sought::InARow(tokens) => tokens,
        Sought::Near(tokens, between) => {
            return Part::exact(IndexQuery::Near {
                tokens: tokens.clone(),
                between: *between,
            });
        }
        Sought::Address(network) => return Part::wider(network.candidates()),
    };
    let literal: Option<Vec<String>> = tokens
        .iter()
        .map(|token| match token {
            TokenTest::Is(token) => Some(token.clone()),
            TokenTest::Like(..) | TokenTest::Alike(_) => None,
        })
        .collect();
    match (literal, tokens.as_slice()) {
        (Some(mut tokens), _) if tokens.len() == 1 => Part::exact(IndexQuery::Token(tokens.swap_remove(0))),
        (Some(tokens), _) => Part::exact(IndexQuery::Phrase(tokens)),
        (None, [TokenTest::Like(_, glob)]) => Part::exact(IndexQuery::TokenPattern(glob.clone())),
        (None, [TokenTest::Alike(alike)]) => Part::exact(matching(alike)),
        (None, tokens) => {
            let all = tokens
                .iter()
                .filter_map(|token| match token {
                    TokenTest::Is(token) => Some(IndexQuery::Token(token.clone())),
                    // any token at all: true of nearly every row
                    TokenTest::Like(_, glob) if glob.chars().all(|c| c == '*') => None,
                    TokenTest::Like(_, glob) => Some(IndexQuery::TokenPattern(glob.clone())),
                    TokenTest::Alike(alike) => Some(matching(alike)),
                })
                .collect();
            Part::wider(IndexQuery::And(all))
        }
    }
}

fn matching(alike: &Alike) -> IndexQuery {
    let alike = alike.clone();
    IndexQuery::TokenMatching(Arc::new(move |token: &str| alike.is_like(token)))
}

fn lower_term(field: RawField, test: &ValueTest, index: &BlockIndex) -> block::Result<Part> {
    Ok(match test {
        ValueTest::Is(value) => Part::exact(IndexQuery::Term { field, value: value.clone() }),
        ValueTest::OneOf(values) => Part::exact(IndexQuery::Or(
            values.iter().map(|value| IndexQuery::Term { field, value: value.clone() }).collect(),
        )),
        ValueTest::Like(_, pattern) => Part::exact(IndexQuery::TermPattern {
            field,
            pattern: pattern.clone(),
        }),
        ValueTest::Any => Part::wider(IndexQuery::All),
        test if field == RawField::Severity => enumerate(field, index, |value| test.passes(value))?,
        test => {
            let test = test.clone();
            Part::exact(IndexQuery::TermMatching {
                field,
                test: Arc::new(move |value: &str| test.passes(value)),
            })
        }
    })
}

/// Rows whose value of a field with few different values passes.
fn enumerate(field: RawField, index: &BlockIndex, passes: impl Fn(&str) -> bool) -> block::Result<Part> {
    if field != RawField::Severity {
        return Ok(Part::wider(IndexQuery::All));
    }
    let any = index
        .term_values(field)?
        .into_iter()
        .filter(|(value, _)| passes(value))
        .map(|(value, _)| IndexQuery::Term { field, value })
        .collect();
    Ok(Part::exact(IndexQuery::Or(any)))
}

fn key_query(key: &str, test: &ValueTest) -> IndexQuery {
    let key = key.to_string();
    match test {
        ValueTest::Any => IndexQuery::KeyExists(key),
        ValueTest::Is(value) => IndexQuery::KeyValue { key, value: value.clone() },
        ValueTest::OneOf(values) => IndexQuery::KeyOneOf {
            key,
            values: values.iter().cloned().collect(),
        },
        ValueTest::Like(_, pattern) => IndexQuery::KeyPattern { key, pattern: pattern.clone() },
        test => {
            let test = test.clone();
            IndexQuery::KeyMatching {
                key,
                test: Arc::new(move |value: &str| test.passes(value)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_on_outside_of_a_text_is_no_token_of_it() {
        let tokens = |text: &str| format!("{:?}", tokens_around(text));
        assert_eq!(tokens("ab cdef ghi"), r#"[token("cdef"), token~("ghi*")]"#);
        assert_eq!(tokens("x yz"), "[]");
        // followed by one more digit it is five tokens
        assert_eq!(tokens(" 123e4567-e89b-12d3-a456-426614174000"), "[]");
        assert_eq!(
            tokens("id 123e4567-e89b-12d3-a456-426614174000 "),
            r#"[token("123e4567-e89b-12d3-a456-426614174000")]"#
        );
    }

    #[test]
    fn a_regular_expression_asks_the_index_for_the_words_it_cannot_do_without() {
        for (regex, expected) in [
            ("connection reset by peer", &["reset", "by", "peer*"][..]),
            (r"timeout after \d+ms in payment", &["after", "in", "payment*"]),
            (r"id=(?P<id>\w+) user=alice;", &["user", "alice"]),
            ("( retry )+then", &["retry"]),
            ("reset|timeout", &[]),
            ("(?i) reset ", &[]),
            ("( reset )?", &[]),
            ("rese[tT]", &[]),
            ("-0123-", &[]),
        ] {
            let literals = needed_literals(&regex::Regex::new(regex).expect("a regex"));
            let asked: Vec<String> = literals
                .iter()
                .flat_map(|literal| tokens_around(literal))
                .map(|query| match query {
                    IndexQuery::Token(token) => token,
                    IndexQuery::TokenPattern(pattern) => pattern,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(asked, expected, "{regex}");
        }
    }
}
