//! What Spark does otherwise than DataFusion, written as DataFusion must be asked for it.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::execution::FunctionRegistry;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, OrderByKind, Query, Select, SelectItem, SetExpr, Subscript, TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;

use super::statement::{Refused, joined, ticked};
use crate::query::functions;

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
pub(super) struct Rewriter {
    pub(super) qualifiers: BTreeSet<String>,
    pub(super) common: BTreeSet<String>,
    pub(super) columns: BTreeSet<(Option<String>, Arc<str>)>,
    pub(super) is_wild: bool,
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
