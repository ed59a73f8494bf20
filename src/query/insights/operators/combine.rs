//! Rows together with those of another script.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Next, Operator};
use crate::query::insights::evaluate::key;
use crate::query::insights::row::Row;
use crate::query::insights::syntax::FieldName;
use crate::query::insights::{Answer, Failed, Flow, MAX_JOIN_KEYS, MAX_JOINED_ROWS};

/// What an entry of a map or a shared row takes beside what it holds, about.
const ENTRY_BYTES: usize = 48;

/// Rows of the right side by their keys.
type Right = HashMap<Vec<String>, Vec<Arc<Row>>>;

/// Each row with every row of the right side that has the same keys.
#[derive(Clone, Debug)]
pub(super) struct Join {
    keeps_all: bool,
    name: Arc<str>,
    keys: Vec<FieldName>,
    right: Arc<Right>,
}

impl Join {
    pub(super) fn try_new(keeps_all: bool, name: &Arc<str>, keys: &[(FieldName, FieldName)], answer: &Answer) -> Result<Self, Failed> {
        let too_many = |what: &'static str, max: usize| Failed::TooMany { command: "join", what, max };
        if answer.rows.len() >= MAX_JOINED_ROWS {
            return Err(too_many("rows on the right side", MAX_JOINED_ROWS - 1));
        }
        let mut right = Right::new();
        for row in &answer.rows {
            let values: Option<Vec<String>> = keys.iter().map(|(_, field)| key(&row.row.get(field))).collect();
            // what is missing is equal to nothing
            if let Some(values) = values {
                right.entry(values).or_default().push(Arc::new(row.row.clone()));
            }
            if right.len() > MAX_JOIN_KEYS {
                return Err(too_many("distinct keys on the right side", MAX_JOIN_KEYS));
            }
        }
        Ok(Self {
            keeps_all,
            name: name.clone(),
            keys: keys.iter().map(|(field, _)| field.clone()).collect(),
            right: Arc::new(right),
        })
    }

    /// Memory of the right side, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let of_key = |keys: &Vec<String>| keys.iter().map(|key| key.len() + size_of::<String>()).sum::<usize>() + ENTRY_BYTES;
        let of_rows = |rows: &Vec<Arc<Row>>| rows.iter().map(|row| row.memory_bytes() + ENTRY_BYTES).sum::<usize>();
        self.right.iter().map(|(keys, rows)| of_key(keys) + of_rows(rows)).sum()
    }
}

impl Operator for Join {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let values: Option<Vec<String>> = self.keys.iter().map(|field| key(&row.get(field))).collect();
        let found = values.and_then(|values| self.right.get(&values));
        let Some(found) = found else {
            return match self.keeps_all {
                true => next.push(row),
                false => Ok(Flow::More),
            };
        };
        for other in found {
            // of one row there may be very many
            if next.shared.stopped.load(Ordering::Relaxed) {
                return Ok(Flow::Enough);
            }
            let mut row = row.clone();
            row.joined = Some((self.name.clone(), other.clone()));
            if next.push(row)? == Flow::Enough {
                return Ok(Flow::Enough);
            }
        }
        Ok(Flow::More)
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
    fn is_rowwise(&self) -> bool {
        true
    }
}

/// Row by row, the fields of another script's rows; rows that it has more stand at the end.
#[derive(Clone, Debug)]
pub(super) struct AppendColumns {
    overrides: bool,
    columns: Vec<Arc<str>>,
    rows: Arc<Vec<Row>>,
    n_rows: usize,
}

impl AppendColumns {
    pub(super) fn new(overrides: bool, answer: &Answer) -> Self {
        let mut seen = HashSet::new();
        Self {
            overrides,
            columns: answer.columns.iter().filter(|column| seen.insert((*column).clone())).cloned().collect(),
            rows: Arc::new(answer.rows.iter().map(|row| row.row.clone()).collect()),
            n_rows: 0,
        }
    }

    fn add(&self, row: &mut Row, other: &Row) {
        for column in &self.columns {
            let value = other.column(column);
            if !value.is_null() && (self.overrides || row.column(column).is_null()) {
                row.set(column, value);
            }
        }
    }
}

impl Operator for AppendColumns {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        if let Some(other) = self.rows.get(self.n_rows) {
            self.add(&mut row, other);
        }
        self.n_rows += 1;
        next.push(row)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        for number in self.n_rows..self.rows.len() {
            let mut row = Row::default();
            self.add(&mut row, &self.rows[number]);
            if next.push(row)? == Flow::Enough {
                break;
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}
