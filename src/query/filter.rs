//! What a query is once its names are known: a tree of conditions over the rows of one table.
//!
//! [`super::fields`] makes it, [`super::scan`] evaluates it, [`super::plan`] asks an index for it.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::conditions::{Key, Phrase, ValueTest};
use crate::block::{RawField, Texts};
use crate::model::Table;

/// A filter over the rows of one table.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    All,
    None,
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Leaf(Box<Leaf>),
}

/// One condition.
#[derive(Clone, Debug)]
pub(super) enum Leaf {
    /// The table's text holds the phrase.
    Phrase(Phrase),
    /// The table's text, whole, passes; tested piece by piece.
    WholeText(ValueTest),
    /// A column's canonical text passes; its name and test.
    Column(&'static str, ValueTest),
    /// A whole-number column lies in one of these ranges.
    Numbers(&'static str, Vec<RangeInclusive<i64>>),
    /// One of a field's values passes: a text column (of the row or of its context), if any, and attributes of these
    /// names (the row's, the resource's, or leaves of a JSON body).
    Value {
        column: Option<&'static str>,
        keys: Vec<Key>,
        test: ValueTest,
    },
    /// The body of a log, which must be there, passes; none does of which a token is like the pattern.
    Body { test: ValueTest, without: Option<String> },
    /// One of the row's two maps, as SQL shows it, has a value under exactly this name.
    InMap {
        map: Map,
        name: String,
        /// The column in which it stands instead ([`super::whole_maps`]).
        column: Option<&'static str>,
    },
}

/// A map of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    Attributes,
    ResourceAttributes,
}

impl Map {
    /// Its column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Map::Attributes => "attributes",
            Map::ResourceAttributes => "resource_attributes",
        }
    }

    pub(super) fn of_column(name: &str) -> Option<Map> {
        [Map::Attributes, Map::ResourceAttributes].into_iter().find(|map| map.name() == name)
    }
}

impl Filter {
    pub(super) fn leaf(leaf: Leaf) -> Filter {
        Filter::Leaf(Box::new(leaf))
    }

    /// Rows of these traces, whose IDs are as they stand in their column.
    pub(super) fn of_traces(ids: Arc<HashSet<String>>) -> Filter {
        Filter::leaf(Leaf::Column("trace_id", ValueTest::OneOf(ids)))
    }

    pub(super) fn and(parts: Vec<Filter>) -> Filter {
        let mut kept = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Filter::All => {}
                Filter::None => return Filter::None,
                Filter::And(more) => kept.extend(more),
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Filter::All,
            1 => kept.swap_remove(0),
            _ => Filter::And(kept),
        }
    }

    pub(super) fn or(parts: Vec<Filter>) -> Filter {
        let mut kept = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Filter::None => {}
                Filter::All => return Filter::All,
                Filter::Or(more) => kept.extend(more),
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Filter::None,
            1 => kept.swap_remove(0),
            _ => Filter::Or(kept),
        }
    }

    pub(super) fn negated(self) -> Filter {
        match self {
            Filter::All => Filter::None,
            Filter::None => Filter::All,
            Filter::Not(inner) => *inner,
            filter => Filter::Not(Box::new(filter)),
        }
    }

    /// The stored columns that the filter looks at.
    pub(super) fn columns(&self, table: Table) -> Vec<&'static str> {
        fn gather(filter: &Filter, table: Table, out: &mut Vec<&'static str>) {
            match filter {
                Filter::All | Filter::None => {}
                Filter::And(parts) | Filter::Or(parts) => parts.iter().for_each(|part| gather(part, table, out)),
                Filter::Not(inner) => gather(inner, table, out),
                Filter::Leaf(leaf) => leaf.columns(table, out),
            }
        }
        let mut out = Vec::new();
        gather(self, table, &mut out);
        out
    }
}

impl Leaf {
    /// The stored columns that the condition looks at.
    pub(super) fn columns(&self, table: Table, out: &mut Vec<&'static str>) {
        let mut add = |column: &'static str| {
            if !out.contains(&column) {
                out.push(column);
            }
        };
        match self {
            Leaf::Phrase(_) | Leaf::WholeText(_) => Texts::columns(table).iter().for_each(|column| add(column)),
            Leaf::Column(column, _) | Leaf::Numbers(column, _) => add(column),
            Leaf::Body { .. } => add("body"),
            Leaf::InMap { map, column, .. } => {
                add(map.name());
                column.iter().for_each(|column| add(column));
            }
            Leaf::Value { column, keys, .. } => {
                column.iter().for_each(|column| add(column));
                if keys.is_empty() {
                    return;
                }
                add("attributes");
                add("resource_attributes");
                if table == Table::Logs {
                    add("body");
                }
            }
        }
    }

    /// The index field that answers for a column, if there is one.
    pub(super) fn raw_field(table: Table, column: &str) -> Option<RawField> {
        RawField::of_column(table, column)
    }
}
