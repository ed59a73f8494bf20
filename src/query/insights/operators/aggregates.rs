//! What `stats` makes of the values of a group.
//!
//! Percentiles are exact up to [`EXACT_VALUES`] values of a group and within half a percent beyond; counts of distinct values
//! are exact up to [`EXACT_DISTINCT`] and within about one percent beyond. Deviation and variance are those of the population.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::Shared;
use crate::query::insights::Failed;
use crate::query::insights::evaluate::key;
use crate::query::insights::syntax::AggregateKind;
use crate::query::insights::value::{Number, Value};

/// Values of a group whose percentiles are exact.
const EXACT_VALUES: usize = 16_384;
/// Distinct values of a group that are counted exactly.
const EXACT_DISTINCT: usize = 16_384;
/// Ratio of the ends of a bucket of values, beyond that.
const BUCKET_RATIO: f64 = 1.01;
/// The command whose memory it is.
const STATS: &str = "stats";

/// A value and its time.
#[derive(Clone, Debug)]
pub(super) struct At(i64, Value);

#[derive(Clone, Debug)]
pub(super) enum State {
    Count(u64),
    Distinct(BTreeSet<u64>),
    Sum {
        whole: i128,
        double: f64,
        n: u64,
        is_whole: bool,
    },
    Average {
        sum: f64,
        n: u64,
    },
    Minimum(Option<Value>),
    Maximum(Option<Value>),
    Percentile(f64, Sketch),
    /// Mean and sum of squares of differences, and whether the root is wanted.
    Spread {
        n: u64,
        mean: f64,
        squares: f64,
        root: bool,
    },
    Values(BTreeMap<String, Value>),
    Top(usize, HashMap<String, (u64, Value)>),
    Earliest(Option<At>),
    Latest(Option<At>),
    Rate {
        first: Option<(i64, f64)>,
        last: Option<(i64, f64)>,
        period_millis: i64,
    },
    Histogram(usize, Vec<f64>),
}

impl State {
    pub(super) fn new(kind: &AggregateKind) -> Self {
        match kind {
            AggregateKind::Count => State::Count(0),
            AggregateKind::CountDistinct => State::Distinct(BTreeSet::new()),
            AggregateKind::Sum => State::Sum {
                whole: 0,
                double: 0.0,
                n: 0,
                is_whole: true,
            },
            AggregateKind::Average => State::Average { sum: 0.0, n: 0 },
            AggregateKind::Minimum | AggregateKind::SortsFirst => State::Minimum(None),
            AggregateKind::Maximum | AggregateKind::SortsLast => State::Maximum(None),
            AggregateKind::Percentile(percent) => State::Percentile(*percent, Sketch::Exact(Vec::new())),
            AggregateKind::Deviation | AggregateKind::Variance => State::Spread {
                n: 0,
                mean: 0.0,
                squares: 0.0,
                root: *kind == AggregateKind::Deviation,
            },
            AggregateKind::Values => State::Values(BTreeMap::new()),
            AggregateKind::TopValues(k) => State::Top(*k, HashMap::new()),
            AggregateKind::Earliest => State::Earliest(None),
            AggregateKind::Latest => State::Latest(None),
            AggregateKind::Rate(period) => State::Rate {
                first: None,
                last: None,
                period_millis: period.millis(),
            },
            AggregateKind::Histogram(n) => State::Histogram(*n, Vec::new()),
        }
    }

    /// Takes a row's value, which is there; `time` is that of its event.
    pub(super) fn add(&mut self, value: Value, time: Option<i64>, shared: &mut Shared) -> Result<(), Failed> {
        let number = value.number();
        match self {
            State::Count(n) => *n += 1,
            State::Distinct(hashes) => {
                if let Some(key) = key(&value)
                    && hashes.insert(xxh3_64(key.as_bytes()))
                {
                    match hashes.len() > EXACT_DISTINCT {
                        // the smallest of the hashes tell how many there are
                        true => drop(hashes.pop_last()),
                        false => shared.hold(STATS, 16)?,
                    }
                }
            }
            State::Sum { whole, double, n, is_whole } => {
                match number {
                    Some(Number::Whole(number)) => *whole += i128::from(number),
                    Some(Number::Double(number)) => {
                        *double += number;
                        *is_whole = false;
                    }
                    None => return Ok(()),
                }
                *n += 1;
            }
            State::Average { sum, n } => {
                if let Some(number) = number {
                    *sum += number.as_f64();
                    *n += 1;
                }
            }
            State::Minimum(best) => keep(best, value, |order| order.is_lt(), shared)?,
            State::Maximum(best) => keep(best, value, |order| order.is_gt(), shared)?,
            State::Percentile(_, sketch) => {
                if let Some(number) = number {
                    sketch.add(number.as_f64(), shared)?;
                }
            }
            State::Spread { n, mean, squares, .. } => {
                if let Some(number) = number {
                    *n += 1;
                    let difference = number.as_f64() - *mean;
                    *mean += difference / *n as f64;
                    *squares += difference * (number.as_f64() - *mean);
                }
            }
            State::Values(values) => {
                if let Some(key) = key(&value)
                    && !values.contains_key(&key)
                {
                    shared.hold(STATS, key.len() + value.memory_bytes() + 64)?;
                    values.insert(key, value);
                }
            }
            State::Top(_, values) => {
                let Some(key) = key(&value) else { return Ok(()) };
                if let Some((n, _)) = values.get_mut(&key) {
                    *n += 1;
                } else {
                    shared.hold(STATS, key.len() + value.memory_bytes() + 96)?;
                    values.insert(key, (1, value));
                }
            }
            State::Earliest(best) => {
                if let Some(time) = time
                    && best.as_ref().is_none_or(|At(other, _)| time < *other)
                {
                    *best = Some(At(time, value));
                }
            }
            State::Latest(best) => {
                if let Some(time) = time
                    && best.as_ref().is_none_or(|At(other, _)| time > *other)
                {
                    *best = Some(At(time, value));
                }
            }
            State::Rate { first, last, .. } => {
                if let (Some(time), Some(number)) = (time, number) {
                    if first.is_none_or(|(other, _)| time < other) {
                        *first = Some((time, number.as_f64()));
                    }
                    if last.is_none_or(|(other, _)| time > other) {
                        *last = Some((time, number.as_f64()));
                    }
                }
            }
            State::Histogram(_, values) => {
                if let Some(number) = number {
                    shared.hold(STATS, 8)?;
                    values.push(number.as_f64());
                }
            }
        }
        Ok(())
    }

    pub(super) fn value(&self) -> Value {
        match self {
            State::Count(n) => Value::Whole(*n as i64),
            State::Distinct(hashes) => Value::Whole(match hashes.last() {
                // so many hashes lie below this one of all that there could be
                Some(last) if hashes.len() >= EXACT_DISTINCT => {
                    let share = *last as f64 / u64::MAX as f64;
                    ((hashes.len() - 1) as f64 / share).round() as i64
                }
                _ => hashes.len() as i64,
            }),
            State::Sum { n: 0, .. } => Value::Null,
            State::Sum { whole, double, is_whole, .. } => match i64::try_from(*whole) {
                Ok(whole) if *is_whole => Value::Whole(whole),
                _ => Value::double(*whole as f64 + *double),
            },
            State::Average { n: 0, .. } => Value::Null,
            State::Average { sum, n } => Value::double(sum / *n as f64),
            State::Minimum(best) | State::Maximum(best) => best.clone().unwrap_or_default(),
            State::Percentile(percent, sketch) => sketch.percentile(*percent).map_or(Value::Null, Value::double),
            State::Spread { n: 0, .. } => Value::Null,
            State::Spread { n, squares, root, .. } => {
                let variance = squares / *n as f64;
                Value::double(if *root { variance.sqrt() } else { variance })
            }
            State::Values(values) => {
                let mut values: Vec<Value> = values.values().cloned().collect();
                values.sort_by(Value::natural_order);
                Value::list(values)
            }
            State::Top(k, values) => {
                let mut values: Vec<&(u64, Value)> = values.values().collect();
                values.sort_by(|(n, value), (m, other)| m.cmp(n).then_with(|| value.natural_order(other)));
                Value::list(values.into_iter().take(*k).map(|(_, value)| value.clone()).collect())
            }
            State::Earliest(best) | State::Latest(best) => best.as_ref().map(|At(_, value)| value.clone()).unwrap_or_default(),
            State::Rate { first, last, period_millis } => match (first, last) {
                (Some((from, first)), Some((to, last))) if to > from => Value::double((last - first) / to.saturating_sub(*from) as f64 * *period_millis as f64),
                _ => Value::Null,
            },
            State::Histogram(n, values) => histogram(values, *n),
        }
    }
}

fn keep(best: &mut Option<Value>, value: Value, replaces: fn(std::cmp::Ordering) -> bool, shared: &mut Shared) -> Result<(), Failed> {
    match best {
        Some(best) if !replaces(value.natural_order(best)) => {}
        _ => {
            let before = best.as_ref().map_or(0, Value::memory_bytes);
            shared.release(before);
            shared.hold(STATS, value.memory_bytes())?;
            *best = Some(value);
        }
    }
    Ok(())
}

/// Ranges of the same width from the least to the greatest, and how many values lie in each.
fn histogram(values: &[f64], n: usize) -> Value {
    let (Some(least), Some(greatest)) = (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max)) else {
        return Value::Null;
    };
    let width = (greatest - least) / n as f64;
    let n = if width > 0.0 { n } else { 1 };
    let mut counts = vec![0i64; n];
    for value in values {
        let at = if width > 0.0 { ((value - least) / width) as usize } else { 0 };
        counts[at.min(n - 1)] += 1;
    }
    let end = |i: usize| Value::double(least + width * i as f64);
    let entries = counts.into_iter().enumerate().map(|(i, count)| {
        let name: Arc<str> = format!("{}-{}", end(i), if i + 1 == n { Value::double(greatest) } else { end(i + 1) }).into();
        (name, Value::Whole(count))
    });
    Value::Map(Arc::new(entries.collect()))
}

/// Values by which percentiles are told.
#[derive(Clone, Debug)]
pub(super) enum Sketch {
    Exact(Vec<f64>),
    /// How many lie in each bucket, by the power of [`BUCKET_RATIO`] that ends it, with the sign of the values; 0 apart.
    Buckets {
        below: BTreeMap<i32, u64>,
        zero: u64,
        above: BTreeMap<i32, u64>,
        n: u64,
    },
}

impl Sketch {
    fn add(&mut self, number: f64, shared: &mut Shared) -> Result<(), Failed> {
        match self {
            Sketch::Exact(values) => {
                values.push(number);
                shared.hold(STATS, 8)?;
                if values.len() > EXACT_VALUES {
                    let values = std::mem::take(values);
                    shared.release(values.len() * 8);
                    *self = Sketch::Buckets {
                        below: BTreeMap::new(),
                        zero: 0,
                        above: BTreeMap::new(),
                        n: 0,
                    };
                    for value in values {
                        self.add(value, shared)?;
                    }
                }
            }
            Sketch::Buckets { below, zero, above, n } => {
                *n += 1;
                let bucket = (number.abs().ln() / BUCKET_RATIO.ln()).ceil() as i32;
                let counts = match number.total_cmp(&0.0) {
                    _ if number == 0.0 => {
                        *zero += 1;
                        return Ok(());
                    }
                    std::cmp::Ordering::Less => below,
                    _ => above,
                };
                let count = counts.entry(bucket).or_default();
                if *count == 0 {
                    shared.hold(STATS, 24)?;
                }
                *count += 1;
            }
        }
        Ok(())
    }

    /// The value that so many percent are not above; one of the values, where they are exact.
    fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = |n: u64| ((percent / 100.0 * n as f64).ceil() as u64).clamp(1, n.max(1));
        match self {
            Sketch::Exact(values) => {
                let mut values = values.clone();
                values.sort_by(f64::total_cmp);
                values.get(rank(values.len() as u64) as usize - 1).copied()
            }
            Sketch::Buckets { below, zero, above, n } => {
                let middle = |bucket: i32| 2.0 * BUCKET_RATIO.powi(bucket) / (BUCKET_RATIO + 1.0);
                let counts = below
                    .iter()
                    .rev()
                    .map(|(bucket, count)| (-middle(*bucket), *count))
                    .chain([(0.0, *zero)])
                    .chain(above.iter().map(|(bucket, count)| (middle(*bucket), *count)));
                let mut left = rank(*n);
                for (value, count) in counts {
                    if left <= count {
                        return Some(value);
                    }
                    left -= count;
                }
                None
            }
        }
    }
}
