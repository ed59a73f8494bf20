//! Steps that look at rows in a row: sums, lags, gaps, outliers, sessions, frequencies.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::{Next, Operator, Shared, copy_of};
use crate::query::insights::evaluate::key;
use crate::query::insights::periods::Period;
use crate::query::insights::row::Row;
use crate::query::insights::syntax::{self, FieldName};
use crate::query::insights::value::Value;
use crate::query::insights::{Failed, Flow};

/// Rows that `fillmissing` adds.
const MAX_FILLED: usize = 100_000;

/// A number that can be added up: times, flags and words cannot.
fn addend(value: &Value) -> Option<f64> {
    match value {
        Value::Time(_) | Value::Flag(_) => None,
        value => value.as_f64(),
    }
}

/// Sums along rows, and along columns in a last row.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    totals: syntax::Totals,
    fields: Vec<FieldName>,
    sums: Vec<Option<f64>>,
}

impl Totals {
    pub(super) fn new(totals: syntax::Totals, fields: Vec<FieldName>) -> Self {
        Self {
            sums: vec![None; fields.len() + 1],
            totals,
            fields,
        }
    }
}

impl Operator for Totals {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let mut total = None;
        for (place, field) in self.fields.iter().enumerate() {
            if let Some(number) = addend(&row.get(field)) {
                *total.get_or_insert(0.0) += number;
                *self.sums[place].get_or_insert(0.0) += number;
            }
        }
        if let (Some(total), true) = (total, self.totals.row) {
            *self.sums[self.fields.len()].get_or_insert(0.0) += total;
            row.set(&self.totals.name, Value::double(total));
        }
        next.push(row)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        if !self.totals.column {
            return Ok(());
        }
        let mut row = Row::default();
        let names = self.fields.iter().map(|field| &field.name).chain([&self.totals.name]);
        for (name, sum) in names.zip(&self.sums) {
            if let Some(sum) = sum {
                row.set(name, Value::double(*sum));
            }
        }
        next.push(row).map(|_| ())
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// The sum of a field so far.
#[derive(Clone, Debug)]
pub(super) struct Accumulate {
    field: FieldName,
    name: Arc<str>,
    sum: f64,
}

impl Accumulate {
    pub(super) fn new(field: FieldName, name: Arc<str>) -> Self {
        Self { field, name, sum: 0.0 }
    }
}

impl Operator for Accumulate {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        if let Some(number) = addend(&row.get(&self.field)) {
            self.sum += number;
            row.set(&self.name, Value::double(self.sum));
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// A field's values in rows before.
#[derive(Clone, Debug)]
pub(super) struct Lag {
    field: FieldName,
    lags: Vec<(usize, Arc<str>)>,
    /// The latest last.
    before: VecDeque<Value>,
    longest: usize,
}

impl Lag {
    pub(super) fn new(field: FieldName, lags: Vec<(usize, Arc<str>)>) -> Self {
        Self {
            longest: lags.iter().map(|(lag, _)| *lag).max().unwrap_or_default(),
            field,
            lags,
            before: VecDeque::new(),
        }
    }
}

impl Operator for Lag {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let value = row.get(&self.field);
        for (lag, name) in &self.lags {
            let earlier = self.before.len().checked_sub(*lag).and_then(|at| self.before.get(at));
            row.set(name, earlier.cloned().unwrap_or_default());
        }
        next.shared.hold("autoregress", value.memory_bytes())?;
        self.before.push_back(value);
        if self.before.len() > self.longest
            && let Some(oldest) = self.before.pop_front()
        {
            next.shared.release(oldest.memory_bytes());
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// What is missing is as in the last row that has it.
#[derive(Clone, Debug)]
pub(super) struct FillDown {
    fields: Vec<FieldName>,
    last: Vec<Value>,
}

impl FillDown {
    pub(super) fn new(fields: Vec<FieldName>) -> Self {
        Self {
            last: vec![Value::Null; fields.len()],
            fields,
        }
    }
}

impl Operator for FillDown {
    fn push(&mut self, mut row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        for (field, last) in self.fields.iter().zip(&mut self.last) {
            match row.get(field) {
                Value::Null if last.is_null() => {}
                Value::Null => row.set(&field.name, last.clone()),
                value => *last = value,
            }
        }
        next.push(row)
    }
    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// The values of a group's fields, and the bins that it has.
type FilledGroup = (Vec<Value>, HashSet<i64>);

/// A row for each bin of the query's range that has none, of each group.
#[derive(Clone, Debug)]
pub(super) struct FillMissing {
    bin: FieldName,
    period: Period,
    offset: Option<Period>,
    by: Vec<FieldName>,
    values: Vec<(Arc<str>, Value)>,
    rows: Vec<Row>,
}

impl FillMissing {
    pub(super) fn new(bin: FieldName, period: Period, offset: Option<Period>, by: Vec<FieldName>, values: Vec<(Arc<str>, Value)>) -> Self {
        Self {
            bin,
            period,
            offset,
            by,
            values,
            rows: Vec::new(),
        }
    }

    fn shown(&self, bin: i64) -> i64 {
        self.offset.map_or(bin, |offset| offset.after(bin))
    }
}

impl Operator for FillMissing {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        next.shared.hold("fillmissing", row.memory_bytes())?;
        self.rows.push(row);
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut groups: BTreeMap<Vec<Option<String>>, FilledGroup> = BTreeMap::new();
        for row in &rows {
            let values: Vec<Value> = self.by.iter().map(|field| row.get(field)).collect();
            let keys = values.iter().map(key).collect();
            let bins = &mut groups.entry(keys).or_insert_with(|| (values, HashSet::new())).1;
            bins.extend(row.get(&self.bin).whole());
        }
        if groups.is_empty() && self.by.is_empty() {
            groups.insert(Vec::new(), (Vec::new(), HashSet::new()));
        }
        let (start, end) = (next.shared.scope.start_millis, next.shared.scope.end_millis);
        let mut n_filled = 0;
        for (values, bins) in groups.values() {
            let mut bin = self.period.floor(start);
            while bin <= end {
                if !bins.contains(&self.shown(bin)) {
                    n_filled += 1;
                    if n_filled > MAX_FILLED {
                        return Err(Failed::TooMany {
                            command: "fillmissing",
                            what: "empty bins",
                            max: MAX_FILLED,
                        });
                    }
                    let mut row = Row::default();
                    row.set(&self.bin.name, Value::Time(self.shown(bin)));
                    for (field, value) in self.by.iter().zip(values) {
                        row.set(&field.name, value.clone());
                    }
                    for (name, value) in &self.values {
                        row.set(name, value.clone());
                    }
                    next.shared.hold("fillmissing", row.memory_bytes())?;
                    rows.push(row);
                }
                let after = self.period.after(bin);
                if after <= bin {
                    break;
                }
                bin = after;
            }
        }
        rows.sort_by(|a, b| {
            let by_bin = a.get(&self.bin).natural_order(&b.get(&self.bin));
            let by_keys = self.by.iter().map(|field| a.get(field).natural_order(&b.get(field)));
            by_keys.fold(by_bin, Ordering::then)
        });
        next.push_all(rows)
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// The field in which `outlier` marks rows.
pub(super) fn marker(field: &FieldName) -> Arc<str> {
    format!("{}_outlier", field.name).into()
}

/// Values beyond the quartiles by so many of the range between them.
#[derive(Clone, Debug)]
pub(super) struct OutlierStep {
    outlier: syntax::Outlier,
    rows: Vec<Row>,
}

impl OutlierStep {
    pub(super) fn new(outlier: syntax::Outlier) -> Self {
        Self { outlier, rows: Vec::new() }
    }
}

/// Between the two values that are nearest.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

impl Operator for OutlierStep {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        next.shared.hold("outlier", row.memory_bytes())?;
        self.rows.push(row);
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let mut rows = std::mem::take(&mut self.rows);
        let bounds: Vec<Option<(f64, f64)>> = self
            .outlier
            .fields
            .iter()
            .map(|field| {
                let mut numbers: Vec<f64> = rows.iter().filter_map(|row| addend(&row.get(field))).collect();
                numbers.sort_by(f64::total_cmp);
                let (first, third) = (quantile(&numbers, 0.25)?, quantile(&numbers, 0.75)?);
                let reach = (third - first) * self.outlier.factor;
                let lower = if self.outlier.uses_lower { first - reach } else { f64::NEG_INFINITY };
                Some((lower, third + reach))
            })
            .collect();
        rows.retain_mut(|row| {
            let mut stays = true;
            for (field, bound) in self.outlier.fields.iter().zip(&bounds) {
                let outside = match (bound, addend(&row.get(field))) {
                    (Some((lower, upper)), Some(number)) if number < *lower || number > *upper => Some(number.clamp(*lower, *upper)),
                    _ => None,
                };
                if self.outlier.marks {
                    row.set(&marker(field), Value::Flag(outside.is_some()));
                }
                match outside {
                    Some(_) if self.outlier.removes => stays = false,
                    Some(bound) => row.set(&field.name, Value::double(bound)),
                    None => {}
                }
            }
            stays
        });
        next.push_all(rows)
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// Numbers sessions: rows of the same identity, none of which is much later than the one before.
#[derive(Clone, Debug)]
pub(super) struct Sessionize {
    fields: Vec<FieldName>,
    max_gap_millis: i64,
    name: Arc<str>,
    rows: Vec<Row>,
}

impl Sessionize {
    pub(super) fn new(fields: Vec<FieldName>, max_gap_millis: i64, name: Arc<str>) -> Self {
        Self {
            fields,
            max_gap_millis,
            name,
            rows: Vec::new(),
        }
    }
}

impl Operator for Sessionize {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        next.shared.hold("sessionize", row.memory_bytes() + 64)?;
        self.rows.push(row);
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let mut rows = std::mem::take(&mut self.rows);
        let mut timed: Vec<(i64, usize)> = rows
            .iter()
            .enumerate()
            .filter_map(|(number, row)| Some((row.column("@timestamp").whole()?, number)))
            .collect();
        timed.sort_unstable();
        // the latest time and number of each identity's session
        let mut open: HashMap<Vec<Option<String>>, (i64, i64)> = HashMap::new();
        let mut n_sessions = 0;
        for (time, number) in timed {
            let row = &mut rows[number];
            let identity: Vec<Option<String>> = self.fields.iter().map(|field| key(&row.get(field))).collect();
            if identity.iter().all(Option::is_none) {
                continue;
            }
            let session = match open.get(&identity) {
                Some((before, session)) if time.saturating_sub(*before) <= self.max_gap_millis => *session,
                _ => {
                    n_sessions += 1;
                    n_sessions
                }
            };
            open.insert(identity, (time, session));
            row.set(&self.name, Value::Whole(session));
        }
        next.push_all(rows)
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }
}

/// How often values stand together, most first; exact here.
#[derive(Clone, Debug)]
pub(super) struct CountFrequent {
    fields: Vec<FieldName>,
    counts: HashMap<Vec<Option<String>>, (Vec<Value>, i64)>,
}

impl CountFrequent {
    pub(super) fn new(fields: Vec<FieldName>) -> Self {
        Self {
            fields,
            counts: HashMap::new(),
        }
    }

    fn add(&mut self, keys: Vec<Option<String>>, values: Vec<Value>, more: i64, shared: &mut Shared) -> Result<(), Failed> {
        if let Some((_, count)) = self.counts.get_mut(&keys) {
            *count += more;
            return Ok(());
        }
        let bytes: usize = keys.iter().flatten().map(|key| 2 * key.len() + 64).sum();
        shared.hold("countFrequent", bytes + 96)?;
        self.counts.insert(keys, (values, more));
        Ok(())
    }
}

impl Operator for CountFrequent {
    fn push(&mut self, row: Row, next: &mut Next<'_>) -> Result<Flow, Failed> {
        let values: Vec<Value> = self.fields.iter().map(|field| row.get(field)).collect();
        let keys: Vec<Option<String>> = values.iter().map(key).collect();
        self.add(keys, values, 1, next.shared)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Failed> {
        let mut counts: Vec<(Vec<Value>, i64)> = std::mem::take(&mut self.counts).into_values().collect();
        counts.sort_by(|(a, n), (b, m)| {
            let by_values = a.iter().zip(b).map(|(a, b)| a.natural_order(b));
            by_values.fold(m.cmp(n), Ordering::then)
        });
        let row = |(values, count): (Vec<Value>, i64)| {
            let mut row = Row::default();
            for (field, value) in self.fields.iter().zip(values) {
                row.set(&field.name, value);
            }
            row.set(&"_approxcount".into(), Value::Whole(count));
            row
        };
        next.push_all(counts.into_iter().map(row))
    }

    fn copy(&self) -> Box<dyn Operator> {
        Box::new(self.clone())
    }

    fn can_absorb(&self) -> bool {
        true
    }

    fn absorb(&mut self, other: Box<dyn Operator>, shared: &mut Shared) -> Result<(), Failed> {
        for (keys, (values, count)) in copy_of::<CountFrequent>(other).map(|other| other.counts).unwrap_or_default() {
            self.add(keys, values, count, shared)?;
        }
        Ok(())
    }
}
