//! `stats`: groups of rows, and what aggregates make of each.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::aggregates::State;
use super::{Next, Operator};
use crate::query::insights::evaluate::{Place, Scope};
use crate::query::insights::row::Row;
use crate::query::insights::syntax;
use crate::query::insights::value::Value;
use crate::query::insights::{Failed, Flow};

/// Memory of a group beside its names and values.
const GROUP_BYTES: usize = 160;

#[derive(Clone, Debug)]
struct Group {
    values: Vec<Value>,
    states: Vec<State>,
}

/// Holds groups, never rows.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    stats: syntax::Stats,
    groups: HashMap<Vec<Option<String>>, Group>,
}

impl Stats {
    pub(super) fn new(stats: syntax::Stats) -> Self {
        Self { stats, groups: HashMap::new() }
    }
}

impl Operator for Stats {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let scope = next.shared.scope.clone();
        let place = Place::of(&row, &scope);
        let values: Vec<Value> = self
            .stats
            .by
            .iter()
            .map(|item| match place.value(&item.expression) {
                // they make no groups
                Value::List(_) | Value::Map(_) => Value::Null,
                value => value,
            })
            .collect();
        let keys: Vec<Option<String>> = values.iter().map(|value| value.as_text().map(|text| text.into_owned())).collect();
        let group = match self.groups.entry(keys) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let names: usize = entry.key().iter().flatten().map(|key| 2 * key.len() + 48).sum();
                next.shared
                    .hold("stats", GROUP_BYTES + names + self.stats.aggregates.len() * size_of::<State>())?;
                entry.insert(Group {
                    values,
                    states: self.stats.aggregates.iter().map(|call| State::new(&call.kind)).collect(),
                })
            }
        };
        let mut time = None;
        for (state, call) in group.states.iter_mut().zip(&self.stats.aggregates) {
            let value = match &call.of {
                Some(of) => place.value(of),
                // every row counts
                None => Value::Flag(true),
            };
            if value.is_null() {
                continue;
            }
            if matches!(state, State::Earliest(_) | State::Latest(_) | State::Rate { .. }) && time.is_none() {
                time = row.column("@timestamp").whole();
            }
            state.add(value, time, next.shared)?;
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let groups = std::mem::take(&mut self.groups);
        let groups = groups
            .into_values()
            .map(|group| (group.values, group.states.iter().map(State::value).collect()));
        let rows = group_rows(&self.stats, groups.collect(), &next.shared.scope.clone());
        next.push_all(rows)
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// Groups as rows, in the order of what they are grouped by: the values of a group's fields, and of its aggregates.
pub(in crate::query::insights) fn group_rows(stats: &syntax::Stats, mut groups: Vec<(Vec<Value>, Vec<Value>)>, scope: &Scope) -> Vec<Row> {
    groups.sort_by(|(a, _), (b, _)| a.iter().zip(b).map(|(a, b)| a.natural_order(b)).fold(Ordering::Equal, Ordering::then));
    let row = |(values, aggregates): (Vec<Value>, Vec<Value>)| {
        let mut row = Row::default();
        for (place, (item, value)) in stats.by.iter().zip(values).enumerate() {
            let shown = match (stats.bin, stats.offset, &value) {
                (Some((bin, _)), Some(offset), Value::Time(time)) if bin == place => Value::Time(offset.after(*time)),
                _ => value,
            };
            row.set(&item.name, shown);
        }
        for item in &stats.items {
            let place = Place {
                row: &row,
                aggregates: &aggregates,
                scope,
            };
            let value = place.value(&item.expression);
            row.set(&item.name, value);
        }
        row
    };
    groups.into_iter().map(row).collect()
}
