//! What a script is once it is read: plain data.

use std::sync::Arc;

use chrono::{DateTime, Months};
use memchr::memmem::Finder;
use regex::Regex;

use super::functions::Function;
use super::lookup::Lookup;
use super::periods::Period;
use super::value::Value;
use crate::query::Query;

/// A field by name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldName {
    /// Its steps joined by dots: `a.b.0.c`.
    pub(super) name: Arc<str>,
    /// Where in it each step but the last ends: a map may stand under what is before.
    pub(super) ends: Box<[usize]>,
}

impl FieldName {
    pub(super) fn new<'a>(steps: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut name, mut ends) = (String::new(), Vec::new());
        for step in steps {
            if !name.is_empty() {
                ends.push(name.len());
                name.push('.');
            }
            name.push_str(step);
        }
        Self {
            name: name.into(),
            ends: ends.into(),
        }
    }

    /// Of a name as it stands, its dots between steps.
    pub(super) fn plain(name: &str) -> Self {
        Self::new(name.split('.'))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What `like` looks for.
#[derive(Clone, Debug)]
pub(super) enum Sought {
    /// This text, anywhere.
    Text(Arc<str>),
    /// The text that this gives.
    Computed(Box<Expression>),
    Regex(Regex),
}

#[derive(Clone, Debug)]
pub(super) enum Expression {
    Literal(Value),
    Field(FieldName),
    /// Of the group at hand, by its number; only in `stats`.
    Aggregate(usize),
    Negative(Box<Expression>),
    Arithmetic(Arithmetic, Box<(Expression, Expression)>),
    Compare(Comparison, Box<(Expression, Expression)>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    In {
        value: Box<Expression>,
        list: Vec<Expression>,
        negated: bool,
    },
    /// In the answer of a subscript, by its number.
    InAnswer {
        value: Box<Expression>,
        subscript: usize,
        negated: bool,
    },
    Like {
        value: Box<Expression>,
        sought: Sought,
        negated: bool,
    },
    /// Of a row that a search of the language of the page finds: the engine has asked it already, of whatever event comes here.
    Found(Arc<Query>),
    Call {
        function: &'static Function,
        arguments: Vec<Expression>,
        period: Option<Period>,
        regex: Option<Regex>,
    },
}

/// An expression under a name.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) expression: Expression,
    /// As written after `as`, or the expression's own text.
    pub(super) name: Arc<str>,
    /// Whether it is a field shown under its own name.
    pub(super) is_plain: bool,
}

/// One call of an aggregate.
#[derive(Clone, Debug)]
pub(super) struct AggregateCall {
    pub(super) kind: AggregateKind,
    /// What it is of; none for `count(*)`.
    pub(super) of: Option<Expression>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum AggregateKind {
    Count,
    CountDistinct,
    Sum,
    Average,
    Minimum,
    Maximum,
    Percentile(f64),
    Deviation,
    Variance,
    Values,
    TopValues(usize),
    Earliest,
    Latest,
    SortsFirst,
    SortsLast,
    Rate(Period),
    Histogram(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Stats {
    pub(super) aggregates: Vec<AggregateCall>,
    /// Over the groups' fields, the aggregates, and items before.
    pub(super) items: Vec<Item>,
    pub(super) by: Vec<Item>,
    /// Of the group that is `bin(…)`, and its place in `by`.
    pub(super) bin: Option<(usize, Period)>,
    /// How much later bins are shown.
    pub(super) offset: Option<Period>,
}

#[derive(Clone, Debug)]
pub(super) struct SortKey {
    pub(super) expression: Expression,
    pub(super) descending: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Extraction {
    /// What stands around the `*` of a pattern, one more than there are, and their names; `None` where nobody asks for one.
    Glob {
        pieces: Arc<[Finder<'static>]>,
        stars: Vec<Option<Arc<str>>>,
    },
    /// A regular expression, and the names of its groups' values.
    Regex {
        regex: Regex,
        /// Group and name.
        groups: Vec<(usize, Arc<str>)>,
        /// All matches, as lists.
        multi: bool,
    },
    Logfmt(Arc<str>),
    Csv(Vec<Arc<str>>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outlier {
    pub(super) removes: bool,
    pub(super) factor: f64,
    pub(super) uses_lower: bool,
    pub(super) marks: bool,
    pub(super) fields: Vec<FieldName>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Totals {
    pub(super) name: Arc<str>,
    pub(super) row: bool,
    pub(super) column: bool,
    pub(super) fields: Vec<FieldName>,
}

/// An earlier time of the same length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Earlier {
    /// Right before.
    Period,
    Day,
    Week,
    Month,
}

impl Earlier {
    /// The first and last millisecond of it.
    pub(super) fn range(self, start: i64, end: i64) -> (i64, i64) {
        const DAY: i64 = 86_400_000;
        let shift = match self {
            Earlier::Period => end.saturating_sub(start).saturating_add(1),
            Earlier::Day => DAY,
            Earlier::Week => 7 * DAY,
            Earlier::Month => {
                let before = DateTime::from_timestamp_millis(start).and_then(|time| time.checked_sub_months(Months::new(1)));
                before.map_or(30 * DAY, |before| start - before.timestamp_millis())
            }
        };
        (start.saturating_sub(shift), end.saturating_sub(shift))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Command {
    Fields(Vec<Item>),
    Display(Vec<Item>),
    Filter(Expression),
    Stats(Box<Stats>),
    Sort(Vec<SortKey>),
    Limit(usize),
    Parse {
        field: FieldName,
        extraction: Extraction,
    },
    Json {
        field: FieldName,
        /// Path and name.
        paths: Vec<(FieldName, Arc<str>)>,
    },
    Lookup(Box<Lookup>),
    Dedup(Vec<FieldName>),
    Unnest {
        field: FieldName,
        name: Arc<str>,
        /// Texts of JSON arrays too.
        reads_json: bool,
    },
    Pattern {
        of: Expression,
        /// `diff` behind it: with which time it is compared.
        compared: Option<Earlier>,
    },
    Unmask(Vec<FieldName>),
    Join {
        keeps_all: bool,
        right: Arc<str>,
        /// Fields of the left and of the right.
        keys: Vec<(FieldName, FieldName)>,
        subscript: usize,
    },
    AppendColumns {
        overrides: bool,
        subscript: usize,
    },
    Totals(Totals),
    Accumulate {
        field: FieldName,
        name: Arc<str>,
    },
    Lag {
        field: FieldName,
        /// How far back, and the name.
        lags: Vec<(usize, Arc<str>)>,
    },
    FillDown(Vec<FieldName>),
    FillMissing {
        /// The bins' field, its width, and the other groups.
        bin: FieldName,
        period: Period,
        offset: Option<Period>,
        by: Vec<FieldName>,
        values: Vec<(Arc<str>, Value)>,
    },
    Outlier(Outlier),
    Sessionize {
        fields: Vec<FieldName>,
        max_gap_millis: i64,
        name: Arc<str>,
    },
    CountFrequent(Vec<FieldName>),
}

impl Command {
    /// As it is written.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Command::Fields(_) => "fields",
            Command::Display(_) => "display",
            Command::Filter(_) => "filter",
            Command::Stats(_) => "stats",
            Command::Sort(_) => "sort",
            Command::Limit(_) => "limit",
            Command::Parse { .. } => "parse",
            Command::Json { .. } => "json",
            Command::Lookup(lookup) => lookup.name(),
            Command::Dedup(_) => "dedup",
            Command::Unnest { reads_json: false, .. } => "unnest",
            Command::Unnest { .. } => "expand",
            Command::Pattern { .. } => "pattern",
            Command::Unmask(_) => "unmask",
            Command::Join { .. } => "join",
            Command::AppendColumns { .. } => "appendcols",
            Command::Totals(_) => "addtotals",
            Command::Accumulate { .. } => "accum",
            Command::Lag { .. } => "autoregress",
            Command::FillDown(_) => "filldown",
            Command::FillMissing { .. } => "fillmissing",
            Command::Outlier(_) => "outlier",
            Command::Sessionize { .. } => "sessionize",
            Command::CountFrequent(_) => "countFrequent",
        }
    }
}
