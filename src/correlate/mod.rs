//! Gives each log row its trace ID and severity, where the record says them only in its attributes, fields or text; and the ID of its
//! text's pattern.
//!
//! In: a decoded [`Batch`]. Out: the same rows; of `logs`, those whose `trace_id` was null may have one now (with
//! `trace_id_source`, which says how it was found, and a `span_id`, if that was null too), those whose `severity_number` was 0 may have
//! one, and those with a text have the `pattern_id` of its template ([`pattern`](crate::pattern)). Nothing else changes, no row is
//! added or dropped, and what a sender did say is never overruled: a row with a trace ID is not looked at for one.
//! `severity_text` stays as sent. Pure, so replay finds the same; correlating twice is correlating once.
//!
//! Where is looked, the first that answers wins:
//!
//! | | trace ID ([`trace_id`]) | severity ([`severity`]) |
//! |---|---|---|
//! | 1 | | `severity_text` |
//! | 2 | attributes under the usual names | attributes called `level` and the like |
//! | 3 | leaves of a JSON body under the same names | leaves of a JSON body |
//! | 4 | the text of the body | the beginning of the text |
//!
//! The evidence must be exact. 32 hex digits without a name that says trace are not a trace ID (they may be an MD5, a
//! request ID or a UUID without dashes); a level word amid a sentence is not a severity. No match leaves the row as it is.
//!
//! What a record names without saying its trace, a request or a span, is looked up beside this: [`link`].
//!
//! Cost: rows that have both are skipped wholesale; a JSON body is walked once for both, and only if it has a word that could
//! matter; of other text only the places of such words and the beginning are read.

pub mod severity;
pub mod trace_id;
pub mod named;
pub mod link;
pub mod book;
mod metrics;
mod source;

use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, MatchKind};
use arrow::array::{Array, AsArray, Int32Array, Int64Array, MapArray, StringArray, StringBuilder};
use arrow::datatypes::{Int32Type, Int64Type};

use self::trace_id::Trace;
use crate::model::{Batch, Rows, Table, json};
use crate::pattern::{Miner, PatternId};

pub use source::Source;

/// Fills what log records say only in their attributes, fields or text: see the module's page.
pub fn correlate(batch: Batch) -> Batch {
    let rows = batch.rows.into_iter().map(|rows| match rows.table() {
        Table::Logs => logs(rows),
        _ => rows,
    });
    Batch { rows: rows.collect() }
}

/// What was found for one row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    trace: Option<(Trace, Source)>,
    severity_number: Option<i32>,
}

/// What a row lacks, and so is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    trace: bool,
    severity: bool,
}

impl Wanted {
    fn without(self, found: &Found) -> Wanted {
        Wanted {
            trace: self.trace && found.trace.is_none(),
            severity: self.severity && found.severity_number.is_none(),
        }
    }
    fn nothing(self) -> bool {
        !self.trace && !self.severity
    }
}

fn logs(rows: Rows) -> Rows {
    // the schema of `logs` has these columns and types: `Rows` is only built with it
    let column = |name: &str| rows.batch().column_by_name(name).expect("a column of logs");
    let trace_ids: &StringArray = column("trace_id").as_string();
    let span_ids: &StringArray = column("span_id").as_string();
    let severity_numbers: &Int32Array = column("severity_number").as_primitive::<Int32Type>();
    let severity_texts: &StringArray = column("severity_text").as_string();
    let bodies: &StringArray = column("body").as_string();
    let attributes = Attributes::new(column("attributes").as_map());

    let mut traces: Vec<(usize, (Trace, Source))> = Vec::new();
    let mut severities: Vec<(usize, i32)> = Vec::new();
    for row in 0..rows.len() {
        let wanted = Wanted {
            trace: trace_ids.is_null(row),
            severity: severity_numbers.value(row) == 0,
        };
        if wanted.nothing() {
            continue;
        }
        let severity_text = severity_texts.is_valid(row).then(|| severity_texts.value(row));
        let body = bodies.is_valid(row).then(|| bodies.value(row));
        let found = find(wanted, severity_text, attributes.of(row), body);
        traces.extend(found.trace.map(|trace| (row, trace)));
        severities.extend(found.severity_number.map(|number| (row, number)));
    }

    let mut out = rows.clone();
    let pattern_ids: &Int64Array = column("pattern_id").as_primitive::<Int64Type>();
    if pattern_ids.null_count() > 0 {
        out = out.with_column("pattern_id", Arc::new(patterns(bodies)));
    }
    if !severities.is_empty() {
        let mut numbers = severity_numbers.values().to_vec();
        for (row, number) in severities {
            numbers[row] = number;
        }
        out = out.with_column("severity_number", Arc::new(Int32Array::from(numbers)));
    }
    if !traces.is_empty() {
        let found = || traces.iter().map(|(row, trace)| (*row, trace));
        let ids = filled(trace_ids, 32, found(), |(trace, _), column| {
            column.append_value(trace.trace_id.hex(&mut [0; 32]))
        });
        out = out.with_column("trace_id", Arc::new(ids));
        let sources = filled(column("trace_id_source").as_string(), 9, found(), |(_, source), column| {
            column.append_value(source.word())
        });
        out = out.with_column("trace_id_source", Arc::new(sources));
        if traces.iter().any(|(row, (trace, _))| trace.span_id.is_some() && span_ids.is_null(*row)) {
            let ids = filled(span_ids, 16, found(), |(trace, _), column| match trace.span_id {
                Some(id) => column.append_value(id.hex(&mut [0; 16])),
                None => column.append_null(),
            });
            out = out.with_column("span_id", Arc::new(ids));
        }
    }
    out
}

/// The pattern of each text; none of a text that says nothing.
fn patterns(bodies: &StringArray) -> Int64Array {
    let mut miner = Miner::default();
    bodies.iter().map(|body| miner.id(body?).map(PatternId::get)).collect()
}

/// The column with the nulls of the found rows, given in order, filled by `append`.
fn filled<'t>(
    column: &StringArray,
    value_bytes: usize,
    mut found: impl Iterator<Item = (usize, &'t (Trace, Source))>,
    append: impl Fn(&(Trace, Source), &mut StringBuilder),
) -> StringArray {
    let mut out = StringBuilder::with_capacity(column.len(), column.len() * value_bytes);
    let mut next = found.next();
    for row in 0..column.len() {
        let here = match next {
            Some((at, what)) if at == row => {
                next = found.next();
                Some(what)
            }
            _ => None,
        };
        match here {
            Some(what) if column.is_null(row) => append(what, &mut out),
            _ => out.append_option(column.is_valid(row).then(|| column.value(row))),
        }
    }
    out.finish()
}

/// The attributes of all rows, read in place.
struct Attributes<'a> {
    keys: &'a StringArray,
    values: &'a StringArray,
    offsets: &'a [i32],
}

impl<'a> Attributes<'a> {
    fn new(map: &'a MapArray) -> Self {
        Self {
            keys: map.keys().as_string(),
            values: map.values().as_string(),
            offsets: map.value_offsets(),
        }
    }
    fn of(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (keys, values) = (self.keys, self.values);
        let entries = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        entries
            .filter(|entry| values.is_valid(*entry))
            .map(|entry| (keys.value(entry), values.value(entry)))
    }
}

/// Looks in one record, place by place.
fn find<'a>(wanted: Wanted, severity_text: Option<&str>, attributes: impl Iterator<Item = (&'a str, &'a str)>, body: Option<&str>) -> Found {
    let mut found = Found::default();
    if wanted.severity {
        found.severity_number = severity_text.and_then(crate::model::severity::number);
    }
    let missing = wanted.without(&found);
    if missing.nothing() {
        return found;
    }
    let mut fields = Fields::new(missing);
    attributes.for_each(|(name, value)| fields.visit(name, value));
    fields.settle(&mut found, Source::Attribute);

    let (missing, Some(body)) = (wanted.without(&found), body) else {
        return found;
    };
    if missing.nothing() {
        return found;
    }
    let mut is_json = false;
    if json::looks_like_object(body) {
        let hints = Hints::of(body);
        if (missing.trace && hints.trace) || (missing.severity && hints.severity) {
            let mut fields = Fields::new(missing);
            // leaves of a text that turns out not to be JSON do not count; the text itself is looked at below
            is_json = json::for_each_leaf(body, &mut |name, value| fields.visit(name, value));
            if is_json {
                fields.settle(&mut found, Source::Json);
            }
        }
    }
    if missing.trace && found.trace.is_none() {
        // the names in JSON were read already, some passed over on purpose
        let trace = if is_json { trace_id::xray_in_text(body) } else { trace_id::in_text(body) };
        found.trace = trace.map(|trace| (trace, Source::Text));
    }
    // a word amid the keys of JSON is no beginning of a line
    if missing.severity && found.severity_number.is_none() && !is_json {
        found.severity_number = severity::in_text(body);
    }
    found
}

/// Whether a field is the text that a JSON log line was made for.
fn is_message(name: &str) -> bool {
    matches!(name.len(), 3 | 7) && ["log", "msg", "message"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The best of the named values seen so far.
struct Fields {
    wanted: Wanted,
    trace: trace_id::Fields,
    severity: severity::Fields,
}

impl Fields {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            trace: trace_id::Fields::default(),
            severity: severity::Fields::default(),
        }
    }
    fn visit(&mut self, name: &str, value: &str) {
        if self.wanted.trace {
            self.trace.visit(name, value);
        }
        if self.wanted.severity {
            self.severity.visit(name, value);
        }
    }
    fn settle(self, found: &mut Found, source: Source) {
        let is_in_message = self.trace.is_in_message();
        let source = if is_in_message { Source::Text } else { source };
        found.trace = found.trace.take().or(self.trace.best().map(|trace| (trace, source)));
        found.severity_number = found.severity_number.or(self.severity.best());
    }
}

/// Whether the JSON of a body may have keys of interest at all.
#[derive(Clone, Copy, Debug, Default)]
struct Hints {
    trace: bool,
    severity: bool,
}

impl Hints {
    fn of(body: &str) -> Hints {
        let mut hints = Hints::default();
        for found in HINTS.find_iter(body) {
            match found.pattern().as_usize() < N_TRACE_HINTS {
                true => hints.trace = true,
                false => hints.severity = true,
            }
            if hints.trace && hints.severity {
                break;
            }
        }
        hints
    }
}

/// How many of [`HINTS`] are of trace IDs.
const N_TRACE_HINTS: usize = 4;

/// The ends of words rather than words, as their case varies at the front: of `trace`, the B3 header, `level`, `lvl`
/// and `severity`; and keys whose text may begin with a severity.
static HINTS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let patterns = [
        "race",
        "RACE",
        "b3\"",
        "B3\"",
        "evel",
        "EVEL",
        "lvl",
        "LVL",
        "everity",
        "EVERITY",
        "\"log\"",
        "\"message\"",
        "\"msg\"",
    ];
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(patterns)
        .expect("a few short patterns make a small automaton")
});

#[cfg(test)]
mod tests;
