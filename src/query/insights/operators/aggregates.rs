//! What `stats` makes of the values of a group.
//!
//! Percentiles are exact up to [`EXACT_VALUES`] values of a group and within half a percent beyond; counts of distinct values
//! are exact up to [`EXACT_DISTINCT`] and within about one percent beyond. Deviation and variance are those of the population.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::Shared;
use super::sums::{ExactSum, variance};
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
/// What a hash takes, and a bucket of values.
const BYTES_OF_HASH: usize = 16;
const BYTES_OF_BUCKET: usize = 24;
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
        double: ExactSum,
        n: u64,
        is_whole: bool,
    },
    Average {
        sum: ExactSum,
        n: u64,
    },
    Minimum(Option<Value>),
    Maximum(Option<Value>),
    Percentile(f64, Sketch),
    /// Sum and sum of squares, and whether the root is wanted.
    Spread {
        n: u64,
        sum: ExactSum,
        squares: ExactSum,
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
                double: ExactSum::default(),
                n: 0,
                is_whole: true,
            },
            AggregateKind::Average => State::Average {
                sum: ExactSum::default(),
                n: 0,
            },
            AggregateKind::Minimum | AggregateKind::SortsFirst => State::Minimum(None),
            AggregateKind::Maximum | AggregateKind::SortsLast => State::Maximum(None),
            AggregateKind::Percentile(percent) => State::Percentile(*percent, Sketch::Exact(Vec::new())),
            AggregateKind::Deviation | AggregateKind::Variance => State::Spread {
                n: 0,
                sum: ExactSum::default(),
                squares: ExactSum::default(),
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
                if let Some(key) = key(&value) {
                    add_hash(hashes, xxh3_64(key.as_bytes()), shared)?;
                }
            }
            State::Sum { whole, double, n, is_whole } => {
                match number {
                    Some(Number::Whole(number)) => *whole += i128::from(number),
                    Some(Number::Double(number)) => {
                        double.add(number);
                        *is_whole = false;
                    }
                    None => return Ok(()),
                }
                *n += 1;
            }
            State::Average { sum, n } => {
                if let Some(number) = number {
                    sum.add(number.as_f64());
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
            State::Spread { n, sum, squares, .. } => {
                if let Some(number) = number {
                    *n += 1;
                    sum.add(number.as_f64());
                    squares.add_square(number.as_f64());
                }
            }
            State::Values(values) => {
                if let Some(key) = key(&value)
                    && !values.contains_key(&key)
                {
                    shared.hold(STATS, values_bytes(&key, &value))?;
                    values.insert(key, value);
                }
            }
            State::Top(_, values) => {
                let Some(key) = key(&value) else { return Ok(()) };
                if let Some((n, _)) = values.get_mut(&key) {
                    *n += 1;
                } else {
                    shared.hold(STATS, top_bytes(&key, &value))?;
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

    /// Takes what another of its kind holds, which was given other rows.
    pub(super) fn absorb(&mut self, other: State, shared: &mut Shared) -> Result<(), Failed> {
        match (self, other) {
            (State::Count(n), State::Count(more)) => *n += more,
            (State::Distinct(hashes), State::Distinct(more)) => {
                for hash in more {
                    add_hash(hashes, hash, shared)?;
                }
            }
            (
                State::Sum { whole, double, n, is_whole },
                State::Sum {
                    whole: more_whole,
                    double: more_double,
                    n: more,
                    is_whole: is_more_whole,
                },
            ) => {
                *whole += more_whole;
                double.absorb(more_double);
                *n += more;
                *is_whole &= is_more_whole;
            }
            (State::Average { sum, n }, State::Average { sum: more_sum, n: more }) => {
                sum.absorb(more_sum);
                *n += more;
            }
            (State::Minimum(best), State::Minimum(Some(value))) => keep(best, value, |order| order.is_lt(), shared)?,
            (State::Maximum(best), State::Maximum(Some(value))) => keep(best, value, |order| order.is_gt(), shared)?,
            (State::Percentile(_, sketch), State::Percentile(_, more)) => sketch.absorb(more, shared)?,
            (
                State::Spread { n, sum, squares, .. },
                State::Spread {
                    n: more,
                    sum: more_sum,
                    squares: more_squares,
                    ..
                },
            ) => {
                sum.absorb(more_sum);
                squares.absorb(more_squares);
                *n += more;
            }
            (State::Values(values), State::Values(more)) => {
                for (key, value) in more {
                    if let Entry::Vacant(entry) = values.entry(key) {
                        shared.hold(STATS, values_bytes(entry.key(), &value))?;
                        entry.insert(value);
                    }
                }
            }
            (State::Top(_, values), State::Top(_, more)) => {
                for (key, (n, value)) in more {
                    if let Some((known, _)) = values.get_mut(&key) {
                        *known += n;
                    } else {
                        shared.hold(STATS, top_bytes(&key, &value))?;
                        values.insert(key, (n, value));
                    }
                }
            }
            (State::Earliest(best), State::Earliest(Some(At(time, value)))) if best.as_ref().is_none_or(|At(other, _)| time < *other) => {
                *best = Some(At(time, value));
            }
            (State::Latest(best), State::Latest(Some(At(time, value)))) if best.as_ref().is_none_or(|At(other, _)| time > *other) => {
                *best = Some(At(time, value));
            }
            (
                State::Rate { first, last, .. },
                State::Rate {
                    first: other_first,
                    last: other_last,
                    ..
                },
            ) => {
                if let Some(at) = other_first
                    && first.is_none_or(|(time, _)| at.0 < time)
                {
                    *first = Some(at);
                }
                if let Some(at) = other_last
                    && last.is_none_or(|(time, _)| at.0 > time)
                {
                    *last = Some(at);
                }
            }
            (State::Histogram(_, values), State::Histogram(_, more)) => {
                shared.hold(STATS, more.len() * 8)?;
                values.extend(more);
            }
            // nothing is there to take
            _ => {}
        }
        Ok(())
    }

    /// What it has counted as held.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            State::Distinct(hashes) => hashes.len() * BYTES_OF_HASH,
            State::Minimum(best) | State::Maximum(best) => best.as_ref().map_or(0, Value::memory_bytes),
            State::Percentile(_, sketch) => sketch.held_bytes(),
            State::Values(values) => values.iter().map(|(key, value)| values_bytes(key, value)).sum(),
            State::Top(_, values) => values.iter().map(|(key, (_, value))| top_bytes(key, value)).sum(),
            State::Histogram(_, values) => values.len() * 8,
            _ => 0,
        }
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
                _ => Value::double(double.with_whole(*whole)),
            },
            State::Average { n: 0, .. } => Value::Null,
            State::Average { sum, n } => Value::double(sum.value() / *n as f64),
            State::Minimum(best) | State::Maximum(best) => best.clone().unwrap_or_default(),
            State::Percentile(percent, sketch) => sketch.percentile(*percent).map_or(Value::Null, Value::double),
            State::Spread { n: 0, .. } => Value::Null,
            State::Spread { n, sum, squares, root } => {
                let variance = variance(*n, *sum, *squares);
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

fn values_bytes(key: &str, value: &Value) -> usize {
    key.len() + value.memory_bytes() + 64
}

fn top_bytes(key: &str, value: &Value) -> usize {
    key.len() + value.memory_bytes() + 96
}

fn add_hash(hashes: &mut BTreeSet<u64>, hash: u64, shared: &mut Shared) -> Result<(), Failed> {
    if hashes.insert(hash) {
        match hashes.len() > EXACT_DISTINCT {
            // the smallest of the hashes tell how many there are
            true => drop(hashes.pop_last()),
            false => shared.hold(STATS, BYTES_OF_HASH)?,
        }
    }
    Ok(())
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
                add_to_bucket(counts, bucket, 1, shared)?;
            }
        }
        Ok(())
    }

    fn absorb(&mut self, other: Sketch, shared: &mut Shared) -> Result<(), Failed> {
        let other = match (&mut *self, other) {
            (Sketch::Exact(values), other @ Sketch::Buckets { .. }) => {
                let values = std::mem::take(values);
                shared.release(values.len() * 8);
                shared.hold(STATS, other.held_bytes())?;
                *self = other;
                Sketch::Exact(values)
            }
            (_, other) => other,
        };
        match (&mut *self, other) {
            (_, Sketch::Exact(more)) => {
                for number in more {
                    self.add(number, shared)?;
                }
            }
            (
                Sketch::Buckets { below, zero, above, n },
                Sketch::Buckets {
                    below: more_below,
                    zero: more_zero,
                    above: more_above,
                    n: more,
                },
            ) => {
                *zero += more_zero;
                *n += more;
                for (counts, more) in [(below, more_below), (above, more_above)] {
                    for (bucket, count) in more {
                        add_to_bucket(counts, bucket, count, shared)?;
                    }
                }
            }
            // was turned round above
            (Sketch::Exact(_), Sketch::Buckets { .. }) => {}
        }
        Ok(())
    }

    fn held_bytes(&self) -> usize {
        match self {
            Sketch::Exact(values) => values.len() * 8,
            Sketch::Buckets { below, above, .. } => (below.len() + above.len()) * BYTES_OF_BUCKET,
        }
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

fn add_to_bucket(counts: &mut BTreeMap<i32, u64>, bucket: i32, more: u64, shared: &mut Shared) -> Result<(), Failed> {
    let count = counts.entry(bucket).or_default();
    if *count == 0 {
        shared.hold(STATS, BYTES_OF_BUCKET)?;
    }
    *count += more;
    Ok(())
}
