//! How two sets of rows differ: the fields whose values are distributed most differently come first.
//!
//! The difference of a field is the total variation distance of its values in both sets, having none being a value too: the share of rows
//! that would have to have another value for the sets to be alike, from 0 to 1. A field that tells nearly every row from every other, as
//! an ID does, differs always and says nothing: those are named, not ranked.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::super::Hit;
use crate::model::severity;

/// Values of a field that are listed.
const MAX_VALUES: usize = 10;
/// A field with at least this many values, and with more than half as many as rows have it, tells rows apart.
const MIN_VALUES_OF_IDS: usize = 20;
/// Bytes of a value that are compared.
const MAX_VALUE_BYTES: usize = 256;

/// What two sets of rows differ by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Most different first.
    pub fields: Vec<Difference>,
    /// Fields that tell nearly every row from every other, in order of their names.
    pub identifiers: Vec<String>,
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

#[derive(Default)]
struct Counts<'h> {
    values: HashMap<&'h str, [u64; 2]>,
    having: [u64; 2],
}

fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE_BYTES)]
}

/// Calls `seen` with each field of a row, once.
fn each_field<'h>(hit: &'h Hit, seen: &mut dyn FnMut(&'h str, &'h str)) {
    match hit {
        Hit::Log(log) => seen("severity", severity::class(log.severity_number)),
        Hit::Span(span) => {
            seen("name", &span.name);
            seen("kind", &span.kind);
            seen("status", &span.status_code);
        }
    }
    let resource = match hit {
        Hit::Log(log) => &log.resource_attributes,
        Hit::Span(span) => &span.resource_attributes,
    };
    let own = hit.attributes();
    own.iter().for_each(|(key, value)| seen(key, cut(value)));
    // a record's own attribute is what a search finds first
    let is_new = |(key, _): &&(String, String)| !own.iter().any(|(known, _)| known == key);
    resource.iter().filter(is_new).for_each(|(key, value)| seen(key, cut(value)));
}

/// Compares two samples, and gives at most `limit` fields.
pub fn compare(selection: &[Hit], baseline: &[Hit], limit: usize) -> Comparison {
    let mut fields: BTreeMap<&str, Counts<'_>> = BTreeMap::new();
    for (side, hits) in [selection, baseline].into_iter().enumerate() {
        for hit in hits {
            each_field(hit, &mut |field, value| {
                let counts = fields.entry(field).or_default();
                counts.values.entry(value).or_default()[side] += 1;
                counts.having[side] += 1;
            });
        }
    }
    let totals = [selection.len() as u64, baseline.len() as u64];
    let share = |rows: u64, side: usize| rows as f64 / totals[side].max(1) as f64;
    let mut comparison = Comparison {
        fields: Vec::new(),
        identifiers: Vec::new(),
    };
    for (field, counts) in fields {
        let n_having: u64 = counts.having.iter().sum();
        if counts.values.len() >= MIN_VALUES_OF_IDS && counts.values.len() as u64 * 2 > n_having {
            comparison.identifiers.push(field.to_string());
            continue;
        }
        let without = [0, 1].map(|side| totals[side].saturating_sub(counts.having[side]));
        let mut values: Vec<(Option<String>, u64, u64)> = counts.values.iter().map(|(value, [a, b])| (Some(value.to_string()), *a, *b)).collect();
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
            field: field.to_string(),
            difference: (difference * 1e4).round() / 1e4,
            values,
        });
    }
    comparison
        .fields
        .sort_by(|a, b| b.difference.total_cmp(&a.difference).then_with(|| a.field.cmp(&b.field)));
    comparison.fields.truncate(limit);
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::LogHit;

    fn log(number: usize, pairs: &[(&str, &str)]) -> Hit {
        let mut attributes: Vec<(String, String)> = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        attributes.push(("request.id".into(), format!("r{number}")));
        Hit::Log(Box::new(LogHit {
            attributes,
            severity_number: 9,
            ..LogHit::default()
        }))
    }

    #[test]
    fn what_is_distributed_most_differently_comes_first() {
        let version = |bad: bool| if bad { "2.1" } else { "2.0" };
        // nine of ten of the selection have the new version, one of ten of the others; the zone tells nothing
        let rows = |bad: usize| -> Vec<Hit> {
            (0..40)
                .map(|number| {
                    let mut pairs = vec![("version", version(number % 10 < bad)), ("zone", ["a", "b"][number % 2])];
                    if number % 4 == 0 && bad > 5 {
                        pairs.push(("retry", "yes"));
                    }
                    log(number + bad * 100, &pairs)
                })
                .collect()
        };
        let (selection, baseline) = (rows(9), rows(1));
        let comparison = compare(&selection, &baseline, 10);
        let told: Vec<(&str, f64)> = comparison.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
        assert_eq!(told, [("version", 0.8), ("retry", 0.25)]);
        assert_eq!(
            comparison.fields[0].values,
            [(Some("2.0".to_string()), 4, 36), (Some("2.1".to_string()), 36, 4)]
        );
        assert_eq!(comparison.fields[1].values, [(None, 30, 40), (Some("yes".to_string()), 10, 0)]);
        assert_eq!(comparison.identifiers, ["request.id"]);
        assert_eq!(compare(&selection, &baseline, 1).fields.len(), 1);
    }

    #[test]
    fn samples_that_are_alike_or_empty_differ_by_nothing() {
        let rows: Vec<Hit> = (0..5).map(|_| log(1, &[("a", "b")])).collect();
        assert_eq!(compare(&rows, &rows, 10).fields, []);
        assert_eq!(compare(&[], &[], 10).fields, []);
        // nothing to compare with: every field has gone
        assert!(compare(&rows, &[], 10).fields.iter().all(|field| field.difference <= 1.0));
    }
}
