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
//! as a search has them (`[12 TO 40]`). Whole numbers of [`ID_DIGITS`] digits and more are IDs, or points in time.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::super::Hit;
use super::super::fields::Field;
use crate::model::{Table, json, severity};

/// Values of a field that are listed.
const MAX_VALUES: usize = 10;
/// A field with at least this many values, and with more than half as many as rows have it, tells rows apart; one of numbers is compared by range.
const MIN_VALUES_OF_IDS: usize = 20;
/// Digits of whole numbers that count nothing.
const ID_DIGITS: usize = 12;
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
    values: HashMap<Cow<'h, str>, [u64; 2]>,
    having: [u64; 2],
}

/// A field: columns stand apart from attributes of the same name.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Calls `seen` with each field of a row, once.
fn each_field<'h>(hit: &'h Hit, seen: &mut dyn FnMut(Name<'h>, Cow<'h, str>)) {
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
    json::for_each_leaf(body.unwrap_or_default(), &mut |name, value| {
        if !known.contains(name) && in_body.insert(name.to_string()) {
            seen(attribute(name.to_string().into()), cut(value).to_string().into());
        }
    });
}

/// A finite number.
fn number(text: &str) -> Option<f64> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|number: &f64| is_plain && number.is_finite())
}

/// The ranges of a field all of whose values are numbers that count something, with the rows of both sets in each; `None` of another.
fn in_ranges(counts: &Counts<'_>) -> Option<Vec<(Option<String>, u64, u64)>> {
    let read = |(text, rows): (&'_ Cow<'_, str>, &[u64; 2])| Some((number(text)?, text.to_string(), *rows));
    let mut values: Vec<(f64, String, [u64; 2])> = counts.values.iter().map(read).collect::<Option<_>>()?;
    let is_id = |text: &str| text.len() >= ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if values.iter().all(|(_, text, _)| is_id(text)) {
        return None;
    }
    values.sort_by(|(a, a_text, _), (b, b_text, _)| a.total_cmp(b).then_with(|| a_text.cmp(b_text)));
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

/// Compares two samples, and gives at most `limit` fields.
pub fn compare(selection: &[Hit], baseline: &[Hit], limit: usize) -> Comparison {
    let mut fields: BTreeMap<Name<'_>, Counts<'_>> = BTreeMap::new();
    let table = match selection.first().or(baseline.first()) {
        Some(Hit::Span(_)) => Table::Spans,
        _ => Table::Logs,
    };
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
        let field = field.written(table);
        let n_having: u64 = counts.having.iter().sum();
        let has_many = counts.values.len() >= MIN_VALUES_OF_IDS;
        let mut values = match has_many.then(|| in_ranges(&counts)).flatten() {
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
    }
    comparison
        .fields
        .sort_by(|a, b| b.difference.total_cmp(&a.difference).then_with(|| a.field.cmp(&b.field)));
    comparison.fields.truncate(limit);
    comparison.identifiers.sort();
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
    fn leaves_of_json_bodies_are_fields_too() {
        let row = |number: usize, tenant: &str, tags: &str| {
            let body = format!(r#"{{"request.id":"b{number}","order":{{"tenant":"{tenant}","zone":"a"}},"tags":{tags},"level":"{tenant}"}}"#);
            let log = LogHit {
                body: Some(body),
                attributes: vec![("order.zone".into(), "own".into())],
                resource_attributes: vec![("order.zone".into(), "resource".into())],
                severity_number: 9,
                ..LogHit::default()
            };
            Hit::Log(Box::new(log))
        };
        let selection: Vec<Hit> = (0..30).map(|number| row(number, "bad", r#"["x","y","x"]"#)).collect();
        let baseline: Vec<Hit> = (30..60)
            .map(|number| row(number, if number % 3 == 0 { "bad" } else { "good" }, r#"["x"]"#))
            .collect();
        let told = compare(&selection, &baseline, 10);
        let fields: Vec<(&str, f64)> = told.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
        assert_eq!(
            fields,
            [("$.level", 0.6667), ("order.tenant", 0.6667)],
            "of an array the first, of equal names the record's own"
        );
        assert_eq!(told.identifiers, ["request.id"]);
    }

    #[test]
    fn an_attribute_of_a_columns_name_is_told_from_the_column() {
        let span = |number: usize, status: &str| {
            let span = crate::query::SpanHit {
                name: "GET /".into(),
                kind: "SERVER".into(),
                status_code: "UNSET".into(),
                attributes: [("status", status), ("name", "n"), ("kind", "k"), ("http.route", "/")]
                    .map(|(key, value)| (key.to_string(), value.to_string()))
                    .to_vec(),
                ingest_id: number as i64,
                ..crate::query::SpanHit::default()
            };
            Hit::Span(Box::new(span))
        };
        let (selection, baseline): (Vec<Hit>, Vec<Hit>) = ((0..10).map(|n| span(n, "late")).collect(), (0..10).map(|n| span(n, "early")).collect());
        let told = compare(&selection, &baseline, 10);
        let fields: Vec<(&str, f64)> = told.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
        assert_eq!(fields, [("$.status", 1.0)], "no share is above 1, and the columns are alike");
    }

    #[test]
    fn numbers_of_many_values_are_compared_by_range() {
        // of the selection a third takes ten times as long; IDs and times are no numbers that count
        let rows = |slow: usize| -> Vec<Hit> {
            (0..300usize)
                .map(|number| {
                    let millis = number + if number % 3 < slow { 3_000 } else { 0 };
                    let (millis, id, time) = (
                        millis.to_string(),
                        (100_000_000_000 + number + slow * 1_000).to_string(),
                        format!("{}.5", number % 7),
                    );
                    log(number + slow * 1_000, &[("took_ms", &millis), ("order", &id), ("few", &time)])
                })
                .collect()
        };
        let told = compare(&rows(1), &rows(0), 10);
        let fields: Vec<(&str, f64)> = told.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
        assert_eq!(fields.len(), 1, "{fields:?}");
        let (field, difference) = fields[0];
        assert!(field == "took_ms" && (0.3..0.4).contains(&difference), "{fields:?}");
        let values = &told.fields[0].values;
        assert!(values.len() <= MAX_VALUES && values.len() > 5, "{values:?}");
        let slow = values
            .iter()
            .find(|(value, ..)| value.as_deref().is_some_and(|value| value.ends_with(" TO 3297]")));
        let (_, selection, baseline) = slow.expect("the slowest range");
        assert!(*selection > 20 && *baseline == 0, "{values:?}");
        assert_eq!(values.iter().map(|(_, a, _)| a).sum::<u64>(), 300, "each row is in one range");
        assert_eq!(told.identifiers, ["order", "request.id"]);
        assert!(compare(&rows(0), &rows(0), 10).fields.is_empty());
        // the same number in two spellings is in one range
        let spelled: Vec<Hit> = (0..60)
            .map(|number| log(number, &[("n", &format!("{}{}", number / 2, if number % 2 == 0 { "" } else { ".0" }))]))
            .collect();
        assert!(compare(&spelled, &spelled, 10).fields.is_empty());
        assert_eq!([number("1e400"), number("inf"), number("nan"), number(""), number("0x1")], [None; 5]);
        assert_eq!([number("-1.5e3"), number("007")], [Some(-1_500.0), Some(7.0)]);
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
