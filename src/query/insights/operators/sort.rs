//! Rows in order.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::{Next, Operator};
use crate::query::insights::evaluate::Place;
use crate::query::insights::row::Row;
use crate::query::insights::syntax::SortKey;
use crate::query::insights::value::Value;
use crate::query::insights::{Failed, Flow};

/// Rows beyond those that are kept, before the others go.
const SLACK: usize = 1_024;

#[derive(Clone, Debug)]
struct Entry {
    keys: SmallVec<[Value; 2]>,
    /// Rows that are alike stay in the order in which they came.
    number: usize,
    bytes: usize,
    row: Row,
}

/// Holds all rows, or as many of the first as are looked at.
#[derive(Clone, Debug)]
pub(super) struct Sort {
    keys: Vec<SortKey>,
    kept: Option<usize>,
    entries: Vec<Entry>,
    n_rows: usize,
}

impl Sort {
    pub(super) fn new(keys: Vec<SortKey>, kept: Option<usize>) -> Self {
        Self {
            keys,
            kept,
            entries: Vec::new(),
            n_rows: 0,
        }
    }

    fn order(&mut self) {
        let keys = &self.keys;
        let compare = |a: &Entry, b: &Entry| {
            let by_keys = a.keys.iter().zip(&b.keys).zip(keys).map(|((a, b), key)| match key.descending {
                true => b.natural_order(a),
                false => a.natural_order(b),
            });
            by_keys.fold(Ordering::Equal, Ordering::then).then(a.number.cmp(&b.number))
        };
        self.entries.sort_unstable_by(compare);
    }
}

impl Operator for Sort {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let place = Place::of(&row, &next.shared.scope);
        let keys: SmallVec<[Value; 2]> = self
            .keys
            .iter()
            .map(|key| match place.value(&key.expression) {
                // what has no order is as if it were missing
                Value::List(_) | Value::Map(_) => Value::Null,
                value => value,
            })
            .collect();
        let bytes = row.memory_bytes() + size_of::<Entry>() + keys.iter().map(Value::memory_bytes).sum::<usize>();
        self.entries.push(Entry {
            keys,
            number: self.n_rows,
            bytes,
            row,
        });
        self.n_rows += 1;
        if let Some(kept) = self.kept
            && self.entries.len() >= kept.saturating_mul(2).saturating_add(SLACK)
        {
            self.order();
            let dropped: usize = self.entries[kept..].iter().map(|entry| entry.bytes).sum();
            self.entries.truncate(kept);
            next.shared.release(dropped);
        }
        next.shared.hold("sort", bytes)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        self.order();
        for entry in std::mem::take(&mut self.entries) {
            next.shared.release(entry.bytes);
            if next.push(entry.row)? == Flow::Enough {
                break;
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}
