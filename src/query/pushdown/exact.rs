//! Conditions of SQL that a filter answers wholly: the plan does not test the rows again, and a column that nothing else asks for is read
//! once, or not at all.
//!
//! | condition | of what | is asked |
//! |---|---|---|
//! | `IS [NOT] NULL` | attributes, `body` | whether there is a value: of resources, and of spans, the index alone |
//! | `NOT LIKE`, `NOT ILIKE`, `!~`, `<>`, `NOT IN`, and the like under `NOT` | `body` | the text, before the other columns; rows with a token that has `word` inside are left out by the index where `NOT ILIKE '%word%'` or `NOT LIKE '%503%'` is asked |
//!
//! A null is neither like a pattern nor not like it, and none of these leaves it but `IS NULL`.

use datafusion::logical_expr::{Expr, Operator};

use super::{MAX_DEPTH, Subject, subject};
use crate::model::Table;
use crate::query::conditions::ValueTest;
use crate::query::filter::{Filter, Leaf};
use crate::query::judge::{self, literal_text, plain};

/// Shorter pieces of words stand in too many tokens.
const MIN_WORD_BYTES: usize = 3;

/// Whether [`filter`] has one.
pub(in crate::query) fn is_exact(table: Table, condition: &Expr) -> bool {
    filter(table, condition).is_some()
}

/// A filter that leaves exactly the rows of which the condition is true; `None` if there is none, or it is not worth it.
pub(super) fn filter(table: Table, condition: &Expr) -> Option<Filter> {
    exactly(table, condition, true, 0)
}

fn exactly(table: Table, condition: &Expr, wanted: bool, depth: usize) -> Option<Filter> {
    if !table.is_searchable() || depth > MAX_DEPTH {
        return None;
    }
    let in_map = |inner: &Expr| match subject(table, plain(inner))? {
        Subject::Values(column, keys, Some(map)) => {
            let name = keys.into_iter().next()?.name;
            Some(Filter::leaf(Leaf::InMap { map, name, column }))
        }
        Subject::Body => Some(Filter::leaf(Leaf::Column("body", ValueTest::Any))),
        _ => None,
    };
    match condition {
        Expr::Alias(alias) => exactly(table, &alias.expr, wanted, depth + 1),
        Expr::Not(inner) => exactly(table, inner, !wanted, depth + 1),
        Expr::IsNotNull(inner) if wanted => in_map(inner),
        Expr::IsNull(inner) if !wanted => in_map(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => in_map(inner).map(Filter::negated),
        _ => {
            let (text, read) = judge::read(condition)?;
            let Subject::Body = subject(table, text)? else { return None };
            if !is_negative(condition, wanted) {
                return None;
            }
            // a null is neither like nor not like
            Some(Filter::leaf(Leaf::Body {
                test: read.test(wanted)?,
                without: word_inside(condition),
            }))
        }
    }
}

/// Whether it is asked for what a text does not say: then words of it tell little, and most rows are left.
fn is_negative(condition: &Expr, wanted: bool) -> bool {
    match condition {
        Expr::Like(like) => like.negated == wanted,
        Expr::InList(list) => list.negated == wanted,
        // compared with a number, a text that is none is an error, which the plan is to tell
        Expr::BinaryExpr(binary) if literal_text(&binary.left).or(literal_text(&binary.right)).is_none() => false,
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::Eq | Operator::RegexMatch | Operator::RegexIMatch => !wanted,
            Operator::NotEq | Operator::RegexNotMatch | Operator::RegexNotIMatch => wanted,
            _ => false,
        },
        _ => false,
    }
}

/// Of `[NOT] LIKE '%word%'`, a pattern of tokens: a text that has one is sure to be like it. Tokens know no case, and have a letter more for
/// `i` (`İ`) than `ILIKE` has.
fn word_inside(condition: &Expr) -> Option<String> {
    let Expr::Like(like) = condition else { return None };
    let word = literal_text(&like.pattern)?.strip_prefix('%')?.strip_suffix('%')?;
    let is_sure = |letter: char| letter.is_ascii_digit() || (like.case_insensitive && letter.is_ascii_alphabetic() && !"iI".contains(letter));
    if word.len() < MIN_WORD_BYTES || !word.chars().all(is_sure) {
        return None;
    }
    Some(format!("*{}*", word.to_ascii_lowercase()))
}
