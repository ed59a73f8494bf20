//! Which patterns the log records of a question have: how many of each, since when, how over time; and how that differs from before.
//!
//! In: a query, a range of time and, where that is to be compared, another range. Out: [`Patterns`], each with its count, first and
//! last time, a count by bin, severities, services and a sample.
//!
//! Rows are counted by the ID of their text's template ([`crate::pattern`]), from the column alone; the text of one row of each ID and
//! block is read, to have the template. Rows of blocks that are older than the column have no ID there: it is made of their text. Then
//! templates that differ in names become one ([`cluster`]), those of both ranges together, so that a new user is no new pattern; those
//! of which some row is an ERROR or worse stay apart from the others.
//!
//! # Then and now
//!
//! With counts `n` now and `b` before, and ranges that are as `r` to 1 in length, `e = b * r` rows were to be expected. A pattern is
//!
//! | state | if |
//! |---|---|
//! | `new` | `b = 0` |
//! | `vanished` | `n = 0` and `e >= 3`: chance alone leaves out one in 20 of these |
//! | `surging` | `n >= 10`, `n >= 2 e`, and `2 (sqrt(n + 3/8) - sqrt((b + 3/8) r)) / sqrt(1 + r) >= 3`: by chance, one in 700 |
//! | `steady` | otherwise |
//!
//! # Bounds
//!
//! [`MAX_SHAPES`] templates are held before they are put together; rows of further ones are counted as `other`, and the coverage says
//! so. [`MAX_IDS`] IDs of a pattern are listed, and [`MAX_SERVICES`] services.

mod shapes;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use self::shapes::{Seen, Shapes};
pub use self::state::State;
use super::answer::{millis, number_text};
use super::engine::{Engine, INTERACTIVE_FACET_ROWS};
use super::histogram::{Buckets, LOG_SERIES};
use super::pool::Priority;
use super::{Coverage, ProblemKind, Query, Result};
use crate::model::{Table, TimeRange, format_time, severity};
use crate::pattern::{self, Shape, cluster};

/// Templates of one range that are held. (Few in tests.)
pub const MAX_SHAPES: usize = if cfg!(test) { 500 } else { 10_000 };
/// IDs of one pattern that are listed.
pub const MAX_IDS: usize = 100;
/// Services of one pattern that are listed.
pub const MAX_SERVICES: usize = 10;
/// The least severity of an error.
const ERROR: i32 = 17;

/// Asks for patterns.
#[derive(Clone, Debug)]
pub struct PatternsRequest {
    /// Which log records.
    pub query: Query,
    /// When.
    pub range: TimeRange,
    /// When else, to be compared with.
    pub baseline: Option<TimeRange>,
    /// At most so many bins of time (1 to 2,000); their width is rounded up to a round one.
    pub bins: usize,
    /// At most so many patterns.
    pub limit: usize,
    /// Only patterns in these states, if any are named; that needs a baseline.
    pub states: Vec<State>,
}

/// Patterns of log records.
#[derive(Clone, Debug, Serialize)]
pub struct Patterns {
    /// Most rows first; where compared, the new ones before the surging, the vanished and the steady ones.
    pub patterns: Vec<Found>,
    /// How many there are, listed or not.
    pub n_patterns: usize,
    /// Rows that match.
    pub total: u64,
    /// Rows of the baseline that match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_total: Option<u64>,
    /// Rows of patterns that are not listed, or were too many to be held.
    pub other: u64,
    /// Rows without a text.
    pub without_pattern: u64,
    /// Whether there are patterns that are not listed.
    pub truncated: bool,
    /// First nanosecond asked for (where the range was open: of what there is).
    #[serde(serialize_with = "number_text")]
    pub start_unix_nano: i64,
    /// First nanosecond after.
    #[serde(serialize_with = "number_text")]
    pub end_unix_nano: i64,
    /// First nanosecond of the first bin.
    #[serde(serialize_with = "number_text")]
    pub first_bin_unix_nano: i64,
    /// Width of a bin.
    #[serde(serialize_with = "number_text")]
    pub bin_nanos: i64,
    /// What it rests on.
    pub coverage: Coverage,
    /// How long it took.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The ID of its template.
    pub id: i64,
    /// The template.
    pub template: String,
    /// Which `pattern_id`s its rows have, most rows first.
    pub pattern_ids: Vec<i64>,
    /// How many different ones, listed or not.
    pub n_pattern_ids: usize,
    /// Rows.
    pub count: u64,
    /// Of all rows that match, from 0 to 1.
    pub share: f64,
    /// Time of its first row, in either range.
    #[serde(serialize_with = "time_text")]
    pub first_seen: i64,
    /// Time of its last row.
    #[serde(serialize_with = "time_text")]
    pub last_seen: i64,
    /// Rows by bin.
    pub sparkline: Vec<u64>,
    /// The worst class of severity.
    pub severity: &'static str,
    /// Rows by class of severity.
    pub severities: BTreeMap<&'static str, u64>,
    /// Services that wrote it and how many rows, most first.
    pub services: Vec<(String, u64)>,
    /// How it stands to before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Rows before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_count: Option<u64>,
    /// Its newest row.
    pub sample: Sample,
}

/// A row, for an impression; `/api/v1/records/{id}` has all of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// As in hits.
    #[serde(serialize_with = "number_text")]
    pub id: i64,
    /// Event time.
    #[serde(serialize_with = "time_text")]
    pub time: i64,
    /// The same, exact.
    #[serde(serialize_with = "number_text")]
    pub time_unix_nano: i64,
    /// Its trace.
    pub trace_id: Option<String>,
    /// Who wrote it.
    pub service_name: Option<String>,
    /// Its class of severity.
    pub severity: &'static str,
    /// Its text, cut.
    pub body: String,
}

fn time_text<S: serde::Serializer>(nanos: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_time(*nanos))
}

impl Engine {
    /// The patterns of log records, and how they stand to those of another time.
    pub async fn patterns(&self, request: &PatternsRequest) -> Result<Patterns> {
        let ranges = [Some(request.range), request.baseline];
        let n_rows: u64 = ranges.iter().flatten().map(|range| self.extent(Table::Logs, *range).rows).sum();
        let priority = match n_rows {
            ..=INTERACTIVE_FACET_ROWS => Priority::Interactive,
            _ => Priority::Batch,
        };
        self.timed_by(
            "patterns",
            priority,
            |answer: &Patterns| answer.coverage.complete,
            async |begun, stop| {
                let mut job = self.job(priority, Table::Logs, &request.query, request.range, stop.clone()).await?;
                job.close_range();
                let range = job.range;
                let bins = Buckets::over(&range, request.bins);
                let now = shapes::gather(&mut job, self.blocks(), Some(bins)).await?;
                let mut coverage = job.coverage;
                let before = match request.baseline {
                    None => None,
                    Some(baseline) => {
                        let mut job = self.job(priority, Table::Logs, &request.query, baseline, stop).await?;
                        job.close_range();
                        let before = shapes::gather(&mut job, self.blocks(), None).await?;
                        coverage.merge(job.coverage);
                        Some((before, job.range))
                    }
                };
                let beyond = now.beyond + before.as_ref().map_or(0, |(before, _)| before.beyond);
                if beyond > 0 {
                    let message = format!("more than {MAX_SHAPES} different texts: counts are lower bounds, and the rest is counted together");
                    coverage.incomplete(ProblemKind::Limit, "patterns", message);
                }
                let asked = request.clone();
                let made = self.workers(priority).run(move || Ok(put_together(&asked, now, before, range, bins))).await?;
                Ok(Patterns {
                    coverage,
                    took: begun.elapsed(),
                    ..made
                })
            },
        )
        .await
    }
}

/// Makes the patterns of what was gathered.
fn put_together(request: &PatternsRequest, now: Shapes, before: Option<(Shapes, TimeRange)>, range: TimeRange, bins: Buckets) -> Patterns {
    let length = |range: TimeRange| (range.end_nanos.saturating_sub(range.start_nanos).max(1)) as f64;
    let ratio = before.as_ref().map(|(_, baseline)| length(range) / length(*baseline));
    let baseline_total = before.as_ref().map(|(before, _)| before.matched);
    let (total, beyond, without_pattern) = (now.matched, now.beyond, now.without);
    // of a side of which not all texts were told apart it cannot be said that it lacks one
    let cut = [beyond > 0, before.as_ref().is_some_and(|(before, _)| before.beyond > 0)];
    let mut both: BTreeMap<i64, [Option<Seen>; 2]> = BTreeMap::new();
    for (id, seen) in now.known {
        both.entry(id).or_default()[0] = Some(seen);
    }
    for (id, seen) in before.into_iter().flat_map(|(before, _)| before.known) {
        both.entry(id).or_default()[1] = Some(seen);
    }
    let templates: Vec<Shape<'_>> = both.values().map(shape_of).collect();
    let clusters = cluster(&templates);
    let ids: Vec<i64> = both.keys().copied().collect();
    let seen: Vec<&[Option<Seen>; 2]> = both.values().collect();
    let mut found: Vec<Found> = clusters
        .into_iter()
        .filter_map(|cluster| found(cluster, &ids, &seen, total, ratio.map(|ratio| (ratio, cut)), &bins))
        .collect();
    let n_rows_found: u64 = found.iter().map(|found| found.count).sum();
    debug_assert_eq!(n_rows_found + beyond + without_pattern, total, "every row is of one pattern");
    if !request.states.is_empty() {
        found.retain(|found| found.state.is_none_or(|state| request.states.contains(&state)));
    }
    found.sort_by(|a, b| {
        let order = |found: &Found| (found.state, std::cmp::Reverse((found.count, found.baseline_count)));
        order(a).cmp(&order(b)).then_with(|| a.template.cmp(&b.template))
    });
    let n_patterns = found.len();
    found.truncate(request.limit);
    let listed: u64 = found.iter().map(|found| found.count).sum();
    Patterns {
        truncated: n_patterns > found.len() || beyond > 0,
        patterns: found,
        n_patterns,
        total,
        baseline_total,
        other: total.saturating_sub(listed + without_pattern),
        without_pattern,
        start_unix_nano: range.start_nanos,
        end_unix_nano: range.end_nanos,
        first_bin_unix_nano: bins.start(0),
        bin_nanos: bins.width,
        coverage: Coverage::new(range),
        took: Duration::ZERO,
    }
}

fn shape_of(seen: &[Option<Seen>; 2]) -> Shape<'_> {
    let worst = seen.iter().flatten().map(|seen| seen.worst).max();
    let sample = seen.iter().flatten().find_map(|seen| seen.sample.as_ref());
    Shape {
        template: sample.map_or("", |sample| &sample.template),
        group: u8::from(worst.is_some_and(|worst| worst >= ERROR)),
    }
}

fn found(cluster: pattern::Cluster, ids: &[i64], seen: &[&[Option<Seen>; 2]], total: u64, ratio: Option<(f64, [bool; 2])>, bins: &Buckets) -> Option<Found> {
    let of_side = |side: usize| cluster.members.iter().filter_map(move |member| seen[*member][side].as_ref());
    let mut both = of_side(0).chain(of_side(1));
    let sample = of_side(0)
        .filter_map(|seen| seen.sample.as_ref())
        .max_by_key(|sample| sample.place())
        .or_else(|| of_side(1).filter_map(|seen| seen.sample.as_ref()).max_by_key(|sample| sample.place()))?;
    let [count, baseline_count] = [0, 1].map(|side| of_side(side).map(|seen| seen.count).sum::<u64>());
    let first = both.next()?;
    let (first_seen, last_seen) = both.fold((first.first, first.last), |(first, last), seen| (first.min(seen.first), last.max(seen.last)));
    // what vanished is shown as it was
    let shown: Vec<&Seen> = if count > 0 { of_side(0).collect() } else { of_side(1).collect() };
    let mut sparkline = vec![0; bins.count];
    for (bin, rows) in of_side(0).flat_map(|seen| &seen.bins) {
        sparkline[*bin as usize] += rows;
    }
    let mut severities: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut services: BTreeMap<&str, u64> = BTreeMap::new();
    for seen in &shown {
        for (class, rows) in LOG_SERIES.iter().zip(seen.severities).filter(|(_, rows)| *rows > 0) {
            *severities.entry(class).or_default() += rows;
        }
        for (service, rows) in &seen.services {
            *services.entry(service).or_default() += rows;
        }
    }
    let mut services: Vec<(String, u64)> = services.into_iter().map(|(service, rows)| (service.to_string(), rows)).collect();
    services.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    services.truncate(MAX_SERVICES);
    let rows_of = |member: &usize| -> u64 { seen[*member].iter().flatten().map(|seen| seen.count).sum() };
    let mut members = cluster.members.clone();
    members.sort_by_key(|member| (std::cmp::Reverse(rows_of(member)), ids[*member]));
    let worst = shown.iter().map(|seen| seen.worst).max().unwrap_or_default();
    Some(Found {
        id: cluster.id.get(),
        pattern_ids: members.iter().take(MAX_IDS).map(|member| ids[*member]).collect(),
        n_pattern_ids: members.len(),
        count,
        share: (count as f64 / total.max(1) as f64 * 1e6).round() / 1e6,
        first_seen,
        last_seen,
        sparkline,
        severity: severity::class(worst),
        severities,
        services,
        state: ratio.map(|(ratio, cut)| State::of(count, baseline_count, ratio).unless_cut(cut)),
        baseline_count: ratio.map(|_| baseline_count),
        sample: Sample {
            id: sample.ingest_id,
            time: sample.time,
            time_unix_nano: sample.time,
            trace_id: sample.trace_id.clone(),
            service_name: sample.service.clone(),
            severity: severity::class(sample.severity),
            body: sample.body.clone(),
        },
        template: cluster.template,
    })
}
