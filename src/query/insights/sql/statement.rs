//! A statement's text, read, checked, and put into the words of the SQL that runs it.
//!
//! AWS' SQL is Spark's: names stand in backticks, texts in either quotation mark. It is parsed as such; then what Spark does otherwise
//! than DataFusion is written as DataFusion must be asked for it ([`rewrite`](super::rewrite)). What would silently be answered otherwise is refused.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Statement, TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::super::{MAX_CHARS, Malformed, Script, Source};
use super::rewrite::Rewriter;

/// Tables of one statement.
const MAX_TABLES: usize = 10;
/// What a table of a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlSource {
    /// The events of log groups.
    Groups(Vec<Source>),
    /// `filterIndex('field' = 'value')`: events of the groups that the request names, which have the field, with one of the values
    /// if there are any.
    Indexed {
        /// The field's name.
        field: String,
        /// Its values; empty: any.
        values: Vec<String>,
    },
}

/// A table of a statement.
#[derive(Clone, Debug)]
pub struct SqlTable {
    /// What stands behind `FROM`.
    pub name: String,
    /// What that is.
    pub source: SqlSource,
    /// What columns may be called by.
    pub(super) qualifiers: BTreeSet<String>,
}

/// A statement that was read and checked.
#[derive(Clone, Debug)]
pub struct SqlScript {
    pub(super) statement: Box<Statement>,
    pub(super) tables: Vec<SqlTable>,
    /// Columns that it names, with what stands before them.
    pub(super) columns: BTreeSet<(Option<String>, Arc<str>)>,
    /// It asks for all columns.
    pub(super) is_wild: bool,
}

impl SqlScript {
    /// Reads a statement.
    pub fn parse(text: &str) -> Result<SqlScript, Malformed> {
        let n_chars = text.chars().count();
        let whole = |message: String| Malformed {
            message,
            start: 0,
            end: n_chars,
        };
        if n_chars > MAX_CHARS {
            return Err(Malformed {
                message: format!("the query is longer than {MAX_CHARS} characters"),
                start: MAX_CHARS,
                end: n_chars,
            });
        }
        let statements = Parser::new(&DatabricksDialect {})
            .try_with_sql(text)
            .and_then(|mut parser| parser.parse_statements())
            .map_err(|error| syntax_error(text, &error))?;
        let mut statements = statements.into_iter();
        let (Some(mut statement), None) = (statements.next(), statements.next()) else {
            return Err(whole("a query is one SELECT statement".into()));
        };
        let Statement::Query(query) = &mut statement else {
            return Err(whole("only SELECT is served: statements do not change anything here".into()));
        };
        let mut tables = Tables::default();
        if let ControlFlow::Break(refused) = query.visit(&mut tables) {
            return Err(refused.at(text));
        }
        if tables.found.len() > MAX_TABLES {
            return Err(whole(format!("a query reads at most {MAX_TABLES} tables")));
        }
        name_columns(query);
        let mut rewriter = Rewriter {
            qualifiers: tables
                .found
                .iter()
                .flat_map(|table| table.qualifiers.iter().cloned())
                .chain(tables.others)
                .collect(),
            common: tables.common,
            columns: BTreeSet::new(),
            is_wild: false,
        };
        if let ControlFlow::Break(refused) = query.visit(&mut rewriter) {
            return Err(refused.at(text));
        }
        Ok(SqlScript {
            statement: Box::new(statement),
            tables: tables.found,
            columns: rewriter.columns,
            is_wild: rewriter.is_wild,
        })
    }

    /// What it reads.
    pub fn tables(&self) -> &[SqlTable] {
        &self.tables
    }
}

/// What is wrong, and where if that is known.
pub(super) struct Refused(Box<(String, Span)>);

impl Refused {
    pub(super) fn new<T>(message: impl Into<String>, span: Span) -> ControlFlow<Refused, T> {
        ControlFlow::Break(Refused(Box::new((message.into(), span))))
    }

    fn at(self, text: &str) -> Malformed {
        let (message, span) = *self.0;
        let n_chars = text.chars().count();
        let (start, end) = match (place(text, span.start), place(text, span.end)) {
            (Some(start), Some(end)) => (start, end.max(start)),
            _ => (0, n_chars),
        };
        Malformed { message, start, end }
    }
}

/// A place's character, counted from 0.
fn place(text: &str, location: Location) -> Option<usize> {
    if location.line == 0 {
        return None;
    }
    let mut line = 1;
    let start = match location.line {
        1 => 0,
        wanted => {
            text.chars().position(|c| {
                line += u64::from(c == '\n');
                line == wanted
            })? + 1
        }
    };
    Some((start + usize::try_from(location.column.saturating_sub(1)).ok()?).min(text.chars().count()))
}

fn syntax_error(text: &str, error: &ParserError) -> Malformed {
    let n_chars = text.chars().count();
    let (ParserError::TokenizerError(message) | ParserError::ParserError(message)) = error else {
        return Malformed {
            message: "the query nests too deeply".into(),
            start: 0,
            end: n_chars,
        };
    };
    let found = message.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let (line, column) = (line.trim().parse().ok()?, column.trim().parse().ok()?);
        Some((message, Location { line, column }))
    });
    let (message, start) = match found {
        Some((message, location)) => (message, place(text, location).unwrap_or(n_chars)),
        // it ended too early
        None => (message.as_str(), n_chars),
    };
    Malformed {
        message: message.to_string(),
        start,
        end: (start + 1).min(n_chars),
    }
}

/// Finds the tables of a statement, and gives each one name.
#[derive(Default)]
struct Tables {
    found: Vec<SqlTable>,
    /// Names of common table expressions.
    common: BTreeSet<String>,
    /// Names of subqueries.
    others: BTreeSet<String>,
}

pub(super) fn joined(name: &ObjectName) -> Option<(String, Span)> {
    let idents: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
    let idents = idents?;
    let span = idents.first()?.span.union(&idents.last()?.span);
    Some((idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join("."), span))
}

pub(super) fn ticked(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

impl VisitorMut for Tables {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Refused> {
        if let Some(with) = &query.with {
            if with.recursive {
                return Refused::new("WITH RECURSIVE is not served", Span::empty());
            }
            self.common.extend(with.cte_tables.iter().map(|common| common.alias.name.value.clone()));
        }
        if !query.pipe_operators.is_empty() {
            return Refused::new("`|>` is not served", Span::empty());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Refused> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                version,
                sample,
                json_path,
                ..
            } => {
                let Some((written, span)) = joined(name) else {
                    return Refused::new("this is no name of a log group", Span::empty());
                };
                if args.is_some() {
                    return Refused::new(format!("`{written}` needs backticks around all of it, or is no table"), span);
                }
                if version.is_some() || sample.is_some() || json_path.is_some() {
                    return Refused::new(format!("of `{written}` all events of the time range are read: nothing else is served"), span);
                }
                *name = ObjectName(vec![ObjectNamePart::Identifier(ticked(&written))]);
                let called = alias.as_ref().map_or(&written, |alias| &alias.name.value).clone();
                if self.common.contains(&written) {
                    self.others.insert(called);
                    return ControlFlow::Continue(());
                }
                match self.found.iter_mut().find(|table| table.name == written) {
                    Some(table) => {
                        table.qualifiers.insert(called);
                    }
                    None => {
                        let source = match source(&written) {
                            Ok(source) => source,
                            Err(message) => return Refused::new(message, span),
                        };
                        self.found.push(SqlTable {
                            name: written,
                            source,
                            qualifiers: [called].into(),
                        });
                    }
                }
                ControlFlow::Continue(())
            }
            TableFactor::Derived { alias, lateral, .. } => {
                self.others.extend(alias.iter().map(|alias| alias.name.value.clone()));
                match lateral {
                    true => Refused::new("LATERAL is not served", Span::empty()),
                    false => ControlFlow::Continue(()),
                }
            }
            TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            other => Refused::new(format!("a table is a log group, not {other}"), Span::empty()),
        }
    }
}

/// What a name behind `FROM` means.
fn source(written: &str) -> Result<SqlSource, String> {
    let text = written.trim();
    let begins = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins("filterindex") {
        return indexed(&text["filterindex".len()..])
            .ok_or_else(|| "filterIndex takes a field, as in filterIndex('region'), with `=` and a value, or IN and a list of values in brackets".into());
    }
    if !begins("loggroups") {
        return match begins("datasource") {
            true => Err("dataSource is not served: events are kept by log group".into()),
            false => Ok(SqlSource::Groups(vec![Source::Named(vec![written.to_string()])])),
        };
    }
    let inside = text["loggroups".len()..].trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let inside = inside.ok_or("logGroups takes its arguments in parentheses")?.trim();
    if let Some(rest) = inside.strip_prefix("logGroupIdentifier") {
        let rest = rest.strip_prefix('s').unwrap_or(rest).trim_start();
        let names = rest.strip_prefix(':').and_then(|list| texts(list.trim())).filter(|names| !names.is_empty());
        return match names {
            Some(names) if names.len() <= 50 => Ok(SqlSource::Groups(vec![Source::Named(names)])),
            Some(_) => Err("logGroups takes at most 50 log groups".into()),
            None => Err("logGroups takes a list, as in logGroups(logGroupIdentifier: ['a', 'b'])".into()),
        };
    }
    match Script::parse(&format!("SOURCE {text} | fields @message")) {
        Ok(script) => Ok(SqlSource::Groups(script.sources().to_vec())),
        Err(malformed) => Err(malformed.message),
    }
}

/// `['a', 'b']`.
fn texts(list: &str) -> Option<Vec<String>> {
    let inside = list.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside.split(',').map(|item| quoted(item.trim())).collect()
}

fn quoted(text: &str) -> Option<String> {
    ['\'', '"'].into_iter().find_map(|sign| {
        let inside = text.strip_prefix(sign)?.strip_suffix(sign)?;
        (!inside.is_empty() && !inside.contains(sign)).then(|| inside.to_string())
    })
}

/// `('field' = 'value')`, `('field' IN ['a', 'b'])`, `('field')`.
fn indexed(text: &str) -> Option<SqlSource> {
    let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?.trim();
    if let Some(field) = quoted(inside) {
        return Some(SqlSource::Indexed { field, values: Vec::new() });
    }
    let sign = inside.chars().next().filter(|sign| matches!(sign, '\'' | '"'))?;
    let end = inside[1..].find(sign)? + 2;
    let (field, rest) = (quoted(&inside[..end])?, inside[end..].trim());
    let values = match rest.strip_prefix('=') {
        Some(value) => vec![quoted(value.trim())?],
        None => {
            let word = rest.get(..2).filter(|word| word.eq_ignore_ascii_case("in"))?;
            texts(rest[word.len()..].trim()).filter(|values| !values.is_empty())?
        }
    };
    Some(SqlSource::Indexed { field, values })
}

/// Columns of the answer that have no name are called by what they are.
fn name_columns(query: &mut Query) {
    let mut body = &mut *query.body;
    loop {
        match body {
            SetExpr::Select(select) => {
                for item in &mut select.projection {
                    let SelectItem::UnnamedExpr(expr) = item else { continue };
                    if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                        let alias = ticked(&expr.to_string().replace('`', ""));
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                    }
                }
                return;
            }
            SetExpr::Query(query) => body = &mut query.body,
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Vec<String> {
        let script = SqlScript::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let shown = |(qualifier, name): &(Option<String>, Arc<str>)| match qualifier {
            Some(qualifier) => format!("{qualifier}:{name}"),
            None => name.to_string(),
        };
        script.columns.iter().map(shown).collect()
    }

    #[test]
    fn columns_are_those_of_events_and_not_of_other_queries() {
        for (text, expected) in [
            (
                "SELECT `@message`, a.b.c, d[0].e FROM `/x` WHERE f = 'g'",
                &["@message", "a.b.c", "d.0.e", "f"][..],
            ),
            ("SELECT upper(a) AS b, count(*) AS n FROM x GROUP BY b HAVING n > 1 ORDER BY n, c", &["a", "c"]),
            ("SELECT t.a.b, `/x`.c FROM `/x` AS t, `/x`", &["/x:c", "t:a.b"]),
            ("SELECT n FROM (SELECT count(*) AS n, s AS k FROM x GROUP BY k) q", &["s"]),
            ("WITH q AS (SELECT s AS k FROM x) SELECT k FROM q WHERE k IN (SELECT z FROM y)", &["s", "z"]),
            ("SELECT * FROM x a JOIN y b USING (id)", &["a:id", "b:id"]),
            ("SELECT a FROM my.group.x WHERE my.group.x.b = 1", &["a", "my.group.x:b"]),
        ] {
            assert_eq!(columns(text), expected, "{text}");
        }
    }

    #[test]
    fn tables_are_log_groups() {
        let source = |text: &str| SqlScript::parse(text).map(|script| script.tables.into_iter().map(|table| table.source).collect::<Vec<_>>());
        let named = |names: &[&str]| SqlSource::Groups(vec![Source::Named(names.iter().map(|name| name.to_string()).collect())]);
        assert_eq!(source("SELECT 1 FROM `/a/b-c`, x.y"), Ok(vec![named(&["/a/b-c"]), named(&["x.y"])]));
        assert_eq!(
            source("SELECT 1 FROM `logGroups(logGroupIdentifier: ['a', \"b\"])`"),
            Ok(vec![named(&["a", "b"])])
        );
        assert_eq!(
            source("SELECT 1 FROM `filterIndex('region' = 'us-east-1')`"),
            Ok(vec![SqlSource::Indexed {
                field: "region".into(),
                values: vec!["us-east-1".into()]
            }])
        );
        assert!(matches!(
            source("SELECT 1 FROM `logGroups(namePrefix: ['/a'])`").as_deref(),
            Ok([SqlSource::Groups(sources)]) if matches!(&sources[..], [Source::LogGroups { prefixes, .. }] if prefixes == &["/a"])
        ));
        assert_eq!(source("SELECT 1"), Ok(vec![]));
    }

    #[test]
    fn what_is_refused_says_where() {
        for (text, start, end, part) in [
            ("SELEC 1", 0, 1, "SELEC"),
            ("SELECT a\nFROM x WHERE", 21, 21, "expression"),
            ("DELETE FROM x", 0, 13, "only SELECT"),
            ("SELECT 1; SELECT 2", 0, 18, "one SELECT"),
            ("SELECT date_format(a, 'yyyy') FROM x", 7, 18, "Java"),
            ("SELECT a,\n  nosuch(b) FROM x", 12, 18, "nosuch"),
            ("SELECT a FROM range(1, 10)", 14, 19, "backticks"),
            ("SELECT a FROM `dataSource(['x'])`", 14, 33, "log group"),
            ("WITH RECURSIVE q AS (SELECT 1 AS a) SELECT a FROM q", 0, 51, "RECURSIVE"),
            ("SELECT a FROM x NATURAL JOIN y", 0, 30, "NATURAL"),
        ] {
            let error = SqlScript::parse(text).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error:?}");
            assert_eq!((error.start, error.end), (start, end), "{text}: {error:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(SELECT|FROM|WHERE|GROUP BY|`[a-z@.()': ]{0,6}`|[a-z]{1,3}|[0-9*,()+/.=\\[\\]'\"]| ){0,24}") {
            let _ = SqlScript::parse(&text);
        }
    }
}
