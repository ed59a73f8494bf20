//! `stats`: groups of rows, and what aggregates make of each.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smallvec::SmallVec;

use super::aggregates::State;
use super::{Next, Operator, Shared, copy_of};
use crate::query::insights::evaluate::{Place, Scope};
use crate::query::insights::row::Row;
use crate::query::insights::syntax;
use crate::query::insights::value::{Value, read_millis};
use crate::query::insights::{Failed, Flow};

/// Memory of a group beside its names and values.
const GROUP_BYTES: usize = 160;

#[derive(Clone, Debug)]
struct Group {
    values: SmallVec<[Value; 2]>,
    states: SmallVec<[State; 1]>,
}

/// Holds groups, never rows.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    stats: syntax::Stats,
    /// By [`push_key`] of their values.
    groups: HashMap<Box<[u8]>, Group>,
    /// The key of the row at hand.
    key: Vec<u8>,
}

impl Stats {
    pub(super) fn new(stats: syntax::Stats) -> Self {
        Self {
            stats,
            groups: HashMap::new(),
            key: Vec::new(),
        }
    }
}

/// What a group takes beside what its aggregates hold.
fn group_bytes(key: &[u8], n_aggregates: usize) -> usize {
    GROUP_BYTES + 2 * key.len() + n_aggregates * size_of::<State>()
}

/// Values are of one group if they are shown alike: `200` and `"200"`, a time and its date.
fn push_key(key: &mut Vec<u8>, value: &Value) {
    let text = match value {
        Value::Null | Value::List(_) | Value::Map(_) => {
            key.push(0);
            return;
        }
        Value::Time(millis) => {
            key.push(1);
            key.extend(millis.to_le_bytes());
            return;
        }
        Value::Text(text) => Cow::Borrowed(&**text),
        other => Cow::Owned(other.to_string()),
    };
    if let Some(millis) = read_millis(&text) {
        push_key(key, &Value::Time(millis));
        return;
    }
    key.push(2);
    key.extend((text.len() as u64).to_le_bytes());
    key.extend(text.as_bytes());
}

impl Operator for Stats {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let scope = next.shared.scope.clone();
        let place = Place::of(&row, &scope);
        let mut values: SmallVec<[Value; 2]> = SmallVec::new();
        self.key.clear();
        for item in &self.stats.by {
            let value = match place.value(&item.expression) {
                // they make no groups
                Value::List(_) | Value::Map(_) => Value::Null,
                value => value,
            };
            push_key(&mut self.key, &value);
            values.push(value);
        }
        if !self.groups.contains_key(&*self.key) {
            next.shared.hold("stats", group_bytes(&self.key, self.stats.aggregates.len()))?;
            let states = self.stats.aggregates.iter().map(|call| State::new(&call.kind)).collect();
            self.groups.insert(self.key.as_slice().into(), Group { values, states });
        }
        let Some(group) = self.groups.get_mut(&*self.key) else {
            return Ok(Flow::More);
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
            .map(|group| (group.values.into_vec(), group.states.iter().map(State::value).collect()));
        let rows = group_rows(&self.stats, groups.collect(), &next.shared.scope.clone());
        next.push_all(rows)
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }

    fn can_absorb(&self) -> bool {
        true
    }

    fn absorb(&mut self, other: Box<dyn Operator>, shared: &mut Shared) -> Result<(), Failed> {
        let Some(other) = copy_of::<Stats>(other) else { return Ok(()) };
        for (key, group) in other.groups {
            match self.groups.entry(key) {
                Entry::Occupied(entry) => {
                    for (state, other) in entry.into_mut().states.iter_mut().zip(group.states) {
                        state.absorb(other, shared)?;
                    }
                }
                Entry::Vacant(entry) => {
                    let of_states: usize = group.states.iter().map(State::held_bytes).sum();
                    shared.hold("stats", group_bytes(entry.key(), group.states.len()) + of_states)?;
                    entry.insert(group);
                }
            }
        }
        Ok(())
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
