//! A statement's text, read, checked, and put into the words of the SQL that runs it.
//!
//! AWS' SQL is Spark's: names stand in backticks, texts in either quotation mark. It is parsed as such; then what Spark does otherwise
//! than DataFusion is written as DataFusion must be asked for it ([`Rewriter`]). What would silently be answered otherwise is refused.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::execution::FunctionRegistry;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, Subscript, TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::super::{MAX_CHARS, Malformed, Script, Source};
use crate::query::functions;

/// Tables of one statement.
const MAX_TABLES: usize = 10;
/// Functions that DataFusion knows by a name under which Spark has another.
const OTHERS: [(&str, &str); 6] = [
    ("date_format", "Java's patterns of dates are not served; take `date_trunc` or `date_part`"),
    ("to_char", "patterns of dates are not served; take `date_trunc` or `date_part`"),
    ("from_unixtime", "it is not served; `to_timestamp_seconds` gives a time"),
    ("trunc", "it is not served; take `date_trunc` for times and `floor` for numbers"),
    ("arrow_cast", "it is not served; take `CAST`"),
    ("arrow_typeof", "it is not served"),
];
/// Functions whose patterns of dates are another language's.
const WITH_PATTERNS: [&str; 7] = [
    "to_date",
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_timestamp_nanos",
    "to_unixtime",
];

/// Functions that a statement may call, in lower case.
static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let session = SessionContext::new();
    functions::register(&session);
    let state = session.state();
    [state.udfs(), state.udafs(), state.udwfs()].into_iter().flatten().collect()
});

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
struct Refused(Box<(String, Span)>);

impl Refused {
    fn new<T>(message: impl Into<String>, span: Span) -> ControlFlow<Refused, T> {
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

fn joined(name: &ObjectName) -> Option<(String, Span)> {
    let idents: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
    let idents = idents?;
    let span = idents.first()?.span.union(&idents.last()?.span);
    Some((idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join("."), span))
}

fn ticked(name: &str) -> Ident {
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

/// Writes what Spark means as DataFusion understands it, and gathers which columns are asked for.
///
/// | Spark | here |
/// |---|---|
/// | `a / b` is no whole number, and of zero there is none | `CAST(a AS DOUBLE) / nullif(b, 0)` |
/// | `a % 0` is null | `a % nullif(b, 0)` |
/// | `a RLIKE 'x'` | `a ~ 'x'` |
/// | `concat` of a null is null | `a \|\| b` |
/// | `log(a)` is the natural one | `ln(a)` |
/// | `regexp_replace` replaces all | with `'g'` |
/// | `a.b.c`, `a[0].b` are fields of JSON | `` `a.b.c` ``, `` `a.0.b` `` |
struct Rewriter {
    qualifiers: BTreeSet<String>,
    common: BTreeSet<String>,
    columns: BTreeSet<(Option<String>, Arc<str>)>,
    is_wild: bool,
}

impl Rewriter {
    /// What a path names: a field, maybe of a certain table.
    fn resolved(&self, parts: &[&str]) -> (Option<String>, String) {
        let qualifier = (1..parts.len()).rev().find_map(|end| {
            let qualifier = parts[..end].join(".");
            self.qualifiers.contains(&qualifier).then_some((qualifier, end))
        });
        match qualifier {
            Some((qualifier, end)) => (Some(qualifier), parts[end..].join(".")),
            None => (None, parts.join(".")),
        }
    }

    /// The column that an expression is, if it is one.
    fn column(&self, expr: &Expr) -> Option<(Option<String>, String)> {
        match expr {
            Expr::Identifier(ident) => Some((None, ident.value.clone())),
            Expr::CompoundIdentifier(idents) => {
                let parts: Vec<&str> = idents.iter().map(|ident| ident.value.as_str()).collect();
                Some(self.resolved(&parts))
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                let mut parts: Vec<String> = match &**root {
                    Expr::Identifier(ident) => vec![ident.value.clone()],
                    Expr::CompoundIdentifier(idents) => idents.iter().map(|ident| ident.value.clone()).collect(),
                    _ => return None,
                };
                for access in access_chain {
                    let step = match access {
                        AccessExpr::Dot(expr) | AccessExpr::Subscript(Subscript::Index { index: expr }) => expr,
                        AccessExpr::Subscript(Subscript::Slice { .. }) => return None,
                    };
                    parts.push(match step {
                        Expr::Identifier(ident) => ident.value.clone(),
                        Expr::Value(ValueWithSpan { value, .. }) => match value {
                            Value::Number(number, _) => number.to_string(),
                            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
                            _ => return None,
                        },
                        _ => return None,
                    });
                }
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                Some(self.resolved(&parts))
            }
            _ => None,
        }
    }

    fn gather(&mut self, expr: &Expr, but: &BTreeSet<String>) {
        let mut found = Columns {
            of: self,
            depth: 0,
            found: Vec::new(),
        };
        // nothing is changed, nor refused
        let _ = expr.clone().visit(&mut found);
        let found = found.found;
        let named = found.into_iter().filter(|(qualifier, name)| qualifier.is_some() || !but.contains(name));
        self.columns.extend(named.map(|(qualifier, name)| (qualifier, Arc::from(name))));
    }

    /// Whether rows of log groups are in a `FROM`, and not only those of other queries.
    fn reads_events(&self, select: &Select) -> bool {
        fn reads(factor: &TableFactor, common: &BTreeSet<String>) -> bool {
            match factor {
                TableFactor::Table { name, .. } => joined(name).is_some_and(|(name, _)| !common.contains(&name)),
                TableFactor::NestedJoin { table_with_joins, .. } => {
                    reads(&table_with_joins.relation, common) || table_with_joins.joins.iter().any(|join| reads(&join.relation, common))
                }
                _ => false,
            }
        }
        select
            .from
            .iter()
            .any(|from| reads(&from.relation, &self.common) || from.joins.iter().any(|join| reads(&join.relation, &self.common)))
    }

    fn gather_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        if !self.reads_events(select) {
            return ControlFlow::Continue(());
        }
        let none = BTreeSet::new();
        let aliases = aliases(select);
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } | SelectItem::ExprWithAliases { expr, .. } => self.gather(expr, &none),
                SelectItem::QualifiedWildcard(..) | SelectItem::Wildcard(_) => self.is_wild = true,
            }
        }
        for expr in select.selection.iter().chain(&select.prewhere) {
            self.gather(expr, &none);
        }
        let joins = select.from.iter().flat_map(|from| match &from.relation {
            TableFactor::NestedJoin { table_with_joins, .. } => [&table_with_joins.joins[..], &from.joins].concat(),
            _ => from.joins.clone(),
        });
        for join in joins {
            let constraint = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint)
                | JoinOperator::CrossJoin(constraint)
                | JoinOperator::Semi(constraint)
                | JoinOperator::LeftSemi(constraint)
                | JoinOperator::Anti(constraint)
                | JoinOperator::LeftAnti(constraint) => constraint,
                _ => return Refused::new("of joins, INNER, LEFT, RIGHT, FULL, CROSS, SEMI and ANTI are served", Span::empty()),
            };
            match constraint {
                JoinConstraint::On(expr) => self.gather(expr, &none),
                JoinConstraint::Using(names) => {
                    // both sides have them
                    let names: Vec<String> = names.iter().filter_map(|name| Some(joined(name)?.0)).collect();
                    let every: Vec<String> = self.qualifiers.iter().cloned().collect();
                    for name in names {
                        self.columns
                            .extend(every.iter().map(|qualifier| (Some(qualifier.clone()), Arc::from(name.as_str()))));
                    }
                }
                JoinConstraint::Natural => return Refused::new("NATURAL JOIN is not served: name the columns", Span::empty()),
                JoinConstraint::None => {}
            }
        }
        if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
            exprs.iter().for_each(|expr| self.gather(expr, &aliases));
        }
        let sorted = select.sort_by.iter().map(|sort| &sort.expr);
        for expr in select.having.iter().chain(&select.qualify).chain(sorted) {
            self.gather(expr, &aliases);
        }
        ControlFlow::Continue(())
    }
}

fn aliases(select: &Select) -> BTreeSet<String> {
    let alias = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        _ => None,
    };
    select.projection.iter().filter_map(alias).collect()
}

impl VisitorMut for Rewriter {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Refused> {
        if let (SetExpr::Select(select), Some(order)) = (&*query.body, &query.order_by)
            && let OrderByKind::Expressions(exprs) = &order.kind
            && self.reads_events(select)
        {
            let aliases = aliases(select);
            for sort in exprs {
                self.gather(&sort.expr, &aliases);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Refused> {
        if !select.lateral_views.is_empty() {
            return Refused::new("LATERAL VIEW is not served", Span::empty());
        }
        self.gather_select(select)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Refused> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(ident)] = &function.name.0[..] else {
            return Refused::new(format!("there is no function {}", function.name), Span::empty());
        };
        let name = ident.value.to_ascii_lowercase();
        if let Some((_, why)) = OTHERS.iter().find(|(other, _)| *other == name) {
            return Refused::new(format!("the function `{name}` is another here: {why}"), ident.span);
        }
        if !KNOWN.contains(&name) {
            return Refused::new(format!("there is no function `{name}`"), ident.span);
        }
        if WITH_PATTERNS.contains(&&*name) && n_arguments(function) > 1 {
            return Refused::new(format!("`{name}` takes no pattern here"), ident.span);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Refused> {
        match expr {
            Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } => {
                if let Some((qualifier, name)) = self.column(expr) {
                    *expr = match qualifier {
                        Some(qualifier) => Expr::CompoundIdentifier(vec![ticked(&qualifier), ticked(&name)]),
                        None => Expr::Identifier(ticked(&name)),
                    };
                }
            }
            Expr::BinaryOp { left, op, right } if matches!(op, BinaryOperator::Divide | BinaryOperator::Modulo) => {
                let divided = match op {
                    BinaryOperator::Divide => template("(CAST(x AS DOUBLE) / nullif(y, 0))", left, right),
                    _ => template("(x % nullif(y, 0))", left, right),
                };
                if let Some(divided) = divided {
                    *expr = divided;
                }
            }
            Expr::RLike {
                negated, expr: left, pattern, ..
            } => {
                let op = match negated {
                    true => BinaryOperator::PGRegexNotMatch,
                    false => BinaryOperator::PGRegexMatch,
                };
                *expr = Expr::BinaryOp {
                    left: left.clone(),
                    op,
                    right: pattern.clone(),
                };
            }
            Expr::Function(function) => {
                if let Some(rewritten) = rewritten(function) {
                    *expr = rewritten;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn arguments(function: &mut Function) -> Option<&mut Vec<FunctionArg>> {
    match &mut function.args {
        FunctionArguments::List(list) => Some(&mut list.args),
        _ => None,
    }
}

fn n_arguments(function: &Function) -> usize {
    match &function.args {
        FunctionArguments::List(list) => list.args.len(),
        _ => 0,
    }
}

/// A call as DataFusion must be asked for it, where that is another.
fn rewritten(function: &mut Function) -> Option<Expr> {
    let name = joined(&function.name)?.0.to_ascii_lowercase();
    match (name.as_str(), n_arguments(function)) {
        ("log", 1) => {
            function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("ln"))]);
            None
        }
        ("regexp_replace", 3) => {
            let every = Expr::Value(Value::SingleQuotedString("g".into()).with_empty_span());
            arguments(function)?.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(every)));
            None
        }
        ("concat", 1..) => {
            let mut texts = arguments(function)?.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            });
            let empty = Expr::Value(Value::SingleQuotedString(String::new()).with_empty_span());
            let chained = texts.try_fold(empty, |before, text| {
                Some(Expr::BinaryOp {
                    left: Box::new(before),
                    op: BinaryOperator::StringConcat,
                    right: Box::new(text?),
                })
            });
            Some(Expr::Nested(Box::new(chained?)))
        }
        _ => None,
    }
}

/// An expression over `x` and `y`.
fn template(text: &str, x: &Expr, y: &Expr) -> Option<Expr> {
    struct Put<'a>(&'a Expr, &'a Expr);
    impl VisitorMut for Put<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let Expr::Identifier(ident) = expr else { return ControlFlow::Continue(()) };
            let put = if ident.value == "x" { self.0 } else { self.1 };
            *expr = Expr::Nested(Box::new(put.clone()));
            ControlFlow::Continue(())
        }
    }
    let mut parser = Parser::new(&DatabricksDialect {}).try_with_sql(text).ok()?;
    let mut made = parser.parse_expr().ok()?;
    let _ = made.visit(&mut Put(x, y));
    Some(made)
}

/// The columns in an expression, but for those in queries inside of it.
struct Columns<'a> {
    of: &'a Rewriter,
    depth: usize,
    found: Vec<(Option<String>, String)>,
}

impl VisitorMut for Columns<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        if let Some(column) = self.of.column(expr) {
            self.found.push(column);
            // what it is made of is none
            *expr = Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(Expr::Value(Value::Null.with_empty_span())),
            };
        }
        ControlFlow::Continue(())
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
