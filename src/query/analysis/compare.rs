//! How two sets of rows differ: the fields whose values are distributed most differently come first.
//!
//! The difference of a field is the total variation distance of its values in both sets, having none being a value too: the share of rows
//! that would have to have another value for the sets to be alike, from 0 to 1. A field that tells nearly every row from every other, as
//! an ID does, differs always and says nothing: those are named, not ranked.
//!
//! Fields are columns, attributes and resource attributes, and the leaves of JSON bodies, each once a row: the first that has the name. What has the
//! name of a column and is none is told as searches ask for it, with `$.` before.
//!
//! Numbers of many values, such as times taken, are compared by range: [`MAX_VALUES`] at most, with about as many rows of both sets in each, told
//! as a search has them (`[12 TO 40]`). Numbers that are names (of [`ID_DIGITS`] digits and more), points in time around that of the rows, and
//! counters (of nearly every row another, all of one set behind all of the other) are not: they would come first wherever times are compared.
//!
//! Rows say what they like, so fields are bounded ([`MAX_FIELDS`], [`MAX_LEAVES`]) and memory is ([`MAX_BYTES`]); what is over is told.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::super::fields::Field;
use super::super::{Engine, Hit, Result};
use crate::model::{Table, json, severity};

/// Values of a field that are listed.
const MAX_VALUES: usize = 10;
/// A field with at least this many values, and with more than half as many as rows have it, tells rows apart; one of numbers is compared by range.
const MIN_VALUES_OF_IDS: usize = 20;
/// Digits of whole numbers that count nothing, if at least nine of ten have so many.
const ID_DIGITS: usize = 12;
/// Points in time lie at most so far from the rows, and behind the year 2000.
const NEAR_NANOS: i64 = 2 * 366 * 86_400 * 1_000_000_000;
const YEAR_2000_NANOS: i64 = 946_684_800 * 1_000_000_000;
/// Nanoseconds of what times are told in: seconds, milliseconds, microseconds, nanoseconds.
const UNITS: [i64; 4] = [1_000_000_000, 1_000_000, 1_000, 1];
/// Bytes of a value that are compared.
const MAX_VALUE_BYTES: usize = 256;
/// Different fields that are compared; leaves of bodies leave some room to attributes.
const MAX_FIELDS: usize = 10_000;
const MAX_FIELDS_WITH_LEAVES: usize = 8_000;
/// Leaves of a body that are compared, and bytes of their names.
const MAX_LEAVES: usize = 1_000;
const MAX_LEAF_NAME_BYTES: usize = 512;
/// Memory of what is counted, about; no further rows are looked at beyond. (Little in tests, which have few rows.)
const MAX_BYTES: usize = if cfg!(test) { 4 << 20 } else { 128 << 20 };
/// What a field, and a value of it, takes beside its text.
const FIELD_BYTES: usize = 256;
const VALUE_BYTES: usize = 64;

/// What two sets of rows differ by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Most different first.
    pub fields: Vec<Difference>,
    /// Fields that tell nearly every row from every other, in order of their names.
    pub identifiers: Vec<String>,
    /// Rows of both sets that were compared.
    pub compared: [u64; 2],
    /// Bounds that were reached: which, and what is lacking.
    pub bounds: Vec<(&'static str, String)>,
}

/// A field that both sets differ by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its name, as searches have it.
    pub field: String,
    /// From 0, alike, to 1, nothing in common.
    pub difference: f64,
    /// Those that differ most in their share: value (none: the rows without any), rows of the selection, rows of the baseline.
    pub values: Vec<(Option<String>, u64, u64)>,
}

#[derive(Debug, Default)]
struct Counts<'h> {
    values: HashMap<Cow<'h, str>, [u64; 2]>,
    having: [u64; 2],
}

/// A field: columns stand apart from attributes of the same name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Name<'h> {
    is_column: bool,
    text: Cow<'h, str>,
}

impl Name<'_> {
    /// As searches have it.
    fn written(&self, table: Table) -> String {
        match self.is_column || matches!(Field::resolve(table, &self.text), Field::Attribute(_) | Field::Promoted { .. }) {
            true => self.text.to_string(),
            false => format!("$.{}", self.text),
        }
    }
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE_BYTES)]
}

/// Calls `seen` with each field of a row, once; gives whether its body has more leaves than are looked at. Names of leaves are owned.
fn each_field<'h>(hit: &'h Hit, seen: &mut dyn FnMut(Name<'h>, Cow<'h, str>)) -> bool {
    let mut column = |name: &'static str, value: &'h str| {
        let name = Name {
            is_column: true,
            text: name.into(),
        };
        seen(name, cut(value).into());
    };
    let (resource, body) = match hit {
        Hit::Log(log) => {
            column("severity", severity::class(log.severity_number));
            (&log.resource_attributes, log.body.as_deref())
        }
        Hit::Span(span) => {
            column("name", &span.name);
            column("kind", &span.kind);
            column("status", &span.status_code);
            (&span.resource_attributes, None)
        }
    };
    let attribute = |text: Cow<'h, str>| Name { is_column: false, text };
    // a record's own attribute is what a search finds first
    let mut known: HashSet<&str> = HashSet::new();
    for (key, value) in hit.attributes().iter().chain(resource) {
        if known.insert(key) {
            seen(attribute(key.as_str().into()), cut(value).into());
        }
    }
    let mut in_body: HashSet<String> = HashSet::new();
    let (mut n_leaves, mut is_cut) = (0, false);
    json::for_each_leaf(body.unwrap_or_default(), &mut |name, value| {
        n_leaves += 1;
        if n_leaves > MAX_LEAVES || name.len() > MAX_LEAF_NAME_BYTES {
            is_cut = true;
        } else if !known.contains(name) && in_body.insert(name.to_string()) {
            seen(attribute(name.to_string().into()), cut(value).to_string().into());
        }
    });
    is_cut
}

/// What is counted of two sets.
#[derive(Debug, Default)]
struct Counted<'h> {
    fields: BTreeMap<Name<'h>, Counts<'h>>,
    bytes: usize,
    /// Rows of both that were looked at.
    rows: [u64; 2],
    /// Rows whose bodies have more leaves than are looked at.
    n_cut: u64,
    /// Whether there are fields beyond those that are counted.
    has_more: bool,
}

impl<'h> Counted<'h> {
    fn take_in(&mut self, side: usize, hit: &'h Hit) {
        let (fields, bytes, has_more) = (&mut self.fields, &mut self.bytes, &mut self.has_more);
        let is_cut = each_field(hit, &mut |field, value| {
            let is_leaf = matches!(field.text, Cow::Owned(_));
            let is_full = fields.len() >= if is_leaf { MAX_FIELDS_WITH_LEAVES } else { MAX_FIELDS };
            let counts = match fields.entry(field) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if is_full => {
                    *has_more = true;
                    return;
                }
                Entry::Vacant(new) => {
                    *bytes += FIELD_BYTES + new.key().text.len();
                    new.insert(Counts::default())
                }
            };
            let n_bytes = VALUE_BYTES + if is_leaf { value.len() } else { 0 };
            let of_value = counts.values.entry(value).or_insert_with(|| {
                *bytes += n_bytes;
                [0; 2]
            });
            of_value[side] += 1;
            counts.having[side] += 1;
        });
        self.rows[side] += 1;
        self.n_cut += u64::from(is_cut);
    }

    /// The bounds that were reached, of sets of so many rows.
    fn bounds(&self, of: [usize; 2]) -> Vec<(&'static str, String)> {
        let mut bounds = Vec::new();
        if self.has_more {
            let message = format!("there are more than {MAX_FIELDS_WITH_LEAVES} different fields: those of later rows are not compared");
            bounds.push(("fields", message));
        }
        if self.n_cut > 0 {
            let message = format!(
                "the bodies of {} rows have more than {MAX_LEAVES} leaves, or names of more than {MAX_LEAF_NAME_BYTES} bytes: those are not compared",
                self.n_cut
            );
            bounds.push(("leaves of bodies", message));
        }
        if self.rows.iter().zip(of).any(|(rows, of)| *rows < of as u64) {
            let message = format!(
                "the values of {} and {} rows filled {} MiB: no more are compared",
                self.rows[0],
                self.rows[1],
                MAX_BYTES >> 20
            );
            bounds.push(("memory", message));
        }
        bounds
    }
}

/// A finite number.
fn number(text: &str) -> Option<f64> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|number: &f64| is_plain && number.is_finite())
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether numbers are names: at least nine of ten are long.
fn are_ids(values: &[(f64, String, [u64; 2])]) -> bool {
    let n_long = values.iter().filter(|(_, text, _)| text.len() >= ID_DIGITS && is_digits(text)).count();
    n_long * 10 >= values.len() * 9
}

/// Whether numbers are points in time near rows whose first and last are of these times.
fn are_times(values: &[(f64, String, [u64; 2])], rows: (i64, i64)) -> bool {
    let first = rows.0.saturating_sub(NEAR_NANOS).max(YEAR_2000_NANOS);
    let last = rows.1.saturating_add(NEAR_NANOS);
    UNITS.iter().any(|unit| {
        let near = (first / unit) as f64..=(last / unit) as f64;
        values.iter().all(|(value, ..)| near.contains(value))
    })
}

/// Whether numbers, in their order, only tell when or in which turn: whole, of nearly each row of either set another, and all of one set
/// behind all of the other.
fn are_counters(values: &[(f64, String, [u64; 2])], having: [u64; 2]) -> bool {
    let of = |side: usize| values.iter().filter(move |(.., rows)| rows[side] > 0);
    let are_different = |side: usize| of(side).count() as u64 * 2 > having[side];
    let is_behind = |a: usize, b: usize| of(a).next().zip(of(b).next_back()).is_some_and(|((first, ..), (last, ..))| first > last);
    values.iter().all(|(_, text, _)| is_digits(text)) && are_different(0) && are_different(1) && (is_behind(0, 1) || is_behind(1, 0))
}

/// The ranges of a field all of whose values are numbers that count something, with the rows of both sets in each; `None` of another. The
/// rows are of times between these.
fn in_ranges(counts: &Counts<'_>, times: (i64, i64)) -> Option<Vec<(Option<String>, u64, u64)>> {
    let read = |(text, rows): (&'_ Cow<'_, str>, &[u64; 2])| Some((number(text)?, text.to_string(), *rows));
    let mut values: Vec<(f64, String, [u64; 2])> = counts.values.iter().map(read).collect::<Option<_>>()?;
    values.sort_by(|(a, a_text, _), (b, b_text, _)| a.total_cmp(b).then_with(|| a_text.cmp(b_text)));
    if are_ids(&values) || are_times(&values, times) || are_counters(&values, counts.having) {
        return None;
    }
    // both sets have the same say, however many rows they have
    let weight = |rows: [u64; 2]| [0, 1].map(|side| rows[side] as f64 / counts.having[side].max(1) as f64).iter().sum::<f64>();
    let whole = weight(counts.having);
    // how many of the ranges' ends lie behind so many rows
    let ends = |rows: f64| (rows / whole * MAX_VALUES as f64 + 1e-9).floor();
    let (mut ranges, mut before) = (Vec::new(), 0.0);
    let mut open: Option<(f64, &str, f64, [u64; 2])> = None;
    for (at, (value, text, rows)) in values.iter().enumerate() {
        let (from, first, begun, [a, b]) = open.take().unwrap_or((*value, text, before, [0; 2]));
        before += weight(*rows);
        let (a, b) = (a + rows[0], b + rows[1]);
        let is_same_next = values.get(at + 1).is_some_and(|(next, ..)| next == value);
        if at + 1 == values.len() || (ends(before) > ends(begun) && !is_same_next) {
            let told = if from == *value { first.to_string() } else { format!("[{first} TO {text}]") };
            ranges.push((Some(told), a, b));
        } else {
            open = Some((from, first, begun, [a, b]));
        }
    }
    Some(ranges)
}

/// The most different fields first, `limit` at most.
fn rank(fields: &mut Vec<Difference>, limit: usize) {
    fields.sort_by(|a, b| b.difference.total_cmp(&a.difference).then_with(|| a.field.cmp(&b.field)));
    fields.truncate(limit);
}

impl Engine {
    /// Compares two samples on the threads of reports, and gives at most `limit` fields.
    pub async fn compare(&self, selection: Vec<Hit>, baseline: Vec<Hit>, limit: usize) -> Result<Comparison> {
        self.compute_for_report(move || Ok(compare(&selection, &baseline, limit))).await
    }
}

fn compare(selection: &[Hit], baseline: &[Hit], limit: usize) -> Comparison {
    let table = match selection.first().or(baseline.first()) {
        Some(Hit::Span(_)) => Table::Spans,
        _ => Table::Logs,
    };
    let mut counted = Counted::default();
    // in turns, so that bounds meet both alike
    for row in 0..selection.len().max(baseline.len()) {
        if counted.bytes > MAX_BYTES {
            break;
        }
        for (side, hits) in [selection, baseline].into_iter().enumerate() {
            if let Some(hit) = hits.get(row) {
                counted.take_in(side, hit);
            }
        }
    }
    let totals = counted.rows;
    let times = selection.iter().chain(baseline).map(Hit::time_unix_nano);
    let times = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
    let share = |rows: u64, side: usize| rows as f64 / totals[side].max(1) as f64;
    let mut comparison = Comparison {
        fields: Vec::new(),
        identifiers: Vec::new(),
        compared: totals,
        bounds: counted.bounds([selection.len(), baseline.len()]),
    };
    for (field, counts) in counted.fields {
        let field = field.written(table);
        let n_having: u64 = counts.having.iter().sum();
        let has_many = counts.values.len() >= MIN_VALUES_OF_IDS;
        let mut values = match has_many.then(|| in_ranges(&counts, times)).flatten() {
            Some(ranges) => ranges,
            None if has_many && counts.values.len() as u64 * 2 > n_having => {
                comparison.identifiers.push(field);
                continue;
            }
            None => counts.values.iter().map(|(value, [a, b])| (Some(value.to_string()), *a, *b)).collect(),
        };
        let without = [0, 1].map(|side| totals[side].saturating_sub(counts.having[side]));
        if without.iter().any(|rows| *rows > 0) {
            values.push((None, without[0], without[1]));
        }
        let apart = |(_, a, b): &(Option<String>, u64, u64)| (share(*a, 0) - share(*b, 1)).abs();
        let difference = values.iter().map(apart).sum::<f64>() / 2.0;
        if difference <= 0.0 {
            continue;
        }
        values.sort_by(|a, b| apart(b).total_cmp(&apart(a)).then_with(|| a.0.cmp(&b.0)));
        values.truncate(MAX_VALUES);
        comparison.fields.push(Difference {
            field,
            difference: (difference * 1e4).round() / 1e4,
            values,
        });
        if comparison.fields.len() >= limit.saturating_mul(2).max(100) {
            rank(&mut comparison.fields, limit);
        }
    }
    rank(&mut comparison.fields, limit);
    comparison.identifiers.sort();
    comparison
}

#[cfg(test)]
mod tests;
