//! Log records of a trace that have no trace ID, found by the request IDs and span IDs that its spans and other records name.
//!
//! Most such records get their trace ID as they come ([`crate::correlate::link`]), or while they are in the head, from what comes later; those
//! that were flushed before anything told it are looked for when the trace is opened. Of unflushed rows each without a trace is asked
//! what it names; in blocks, the index is asked for the words and attributes, and what it finds is verified in the same way. A span ID
//! that stands in its column alone is in no index, and of as many IDs as a trace has the file's Bloom filters rule out little: so the column is read,
//! but only where the trace's spans were, and a little around them.
//!
//! Rows stay as they are: a search by `trace_id` or `trace_id_source`, conditions on a trace, counts and SQL know what a row says itself, which
//! the index answers, and not these. To find them too, such a question would have to read all spans of each trace that it means. One question
//! does: the condition that names a trace, `trace:(trace_id:…)`, finds what the opened trace shows ([`rows_of`]).
//!
//! | bound | value |
//! |---|---|
//! | request IDs, span IDs of a trace that are looked for in texts; span IDs in their column | [`MAX_REQUESTS`], [`MAX_WORDS`]; [`MAX_SPANS`] |
//! | time before the trace's first row and behind its last; of span IDs in their column, around its spans | [`SLACK_NANOS`]; [`SPAN_SLACK_NANOS`] |
//! | rows of blocks whose column is read | [`MAX_COLUMN_ROWS`]; if there are more, none, and the answer says so |
//! | records found | [`MAX_ROWS`]; more, and the answer says so |
//! | spans and records that say its ID | [`Most`], for a search as for the opened trace; more, and the answer says so |
//!
//! Who numbers spans 1, 2, 3, … gives them the IDs of other traces' spans: a span ID that another trace of that time has too links nothing.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::datatypes::Int64Type;

use super::blocks::Blocks;
use super::conditions::{Key, Phrase, TokenTest, ValueTest};
use super::engine::MAX_ANSWER_BYTES;
use super::filter::{Filter, Leaf};
use super::hit::Hit;
use super::job::Job;
use super::limits::Config;
use super::trace::Link;
use super::{Error, LogHit, Order, ProblemKind, Result, search};
use crate::block::{BlockMeta, Pairs};
use crate::correlate::Source;
use crate::correlate::named::{Named, RequestId, is_request_attribute, named};
use crate::model::{Rows, SpanId, Table, TimeRange, TraceId};

/// Request IDs of a trace that are looked for.
const MAX_REQUESTS: usize = 32;
/// Span IDs of a trace that are looked for in texts.
const MAX_WORDS: usize = 64;
/// Span IDs of a trace that are looked for in their column.
const MAX_SPANS: usize = 10_000;
/// Rows of blocks whose span ID is read.
const MAX_COLUMN_ROWS: u64 = 4_000_000;
/// How far from a trace's spans records are looked for that have a span ID in its column: whoever writes that writes within the span, so this is
/// for clocks that differ. Ten seconds.
const SPAN_SLACK_NANOS: i64 = 10_000_000_000;
/// Records that are found at the most.
const MAX_ROWS: usize = 1_000;
/// How far from a trace's rows its other records are looked for: five minutes.
const SLACK_NANOS: i64 = 300_000_000_000;
/// How often spans of other traces are asked for that have the same IDs, [`MAX_ROWS`] at a time.
const MAX_SHARED_ROUNDS: usize = 8;
/// Attributes by which blocks are asked for a request ID.
const ATTRIBUTES: [&str; 4] = ["aws.request_id", "faas.invocation_id", "request_id", "requestId"];
/// The bound's name in answers that it cut.
const BOUND: &str = "log records linked to a trace";

/// What the rows of a trace name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    requests: BTreeSet<RequestId>,
    spans: BTreeSet<SpanId>,
    /// Those of the spans that are looked for in texts too: the first ones that were read.
    words: Vec<SpanId>,
    /// First start and last end of the spans.
    during: Option<(i64, i64)>,
    /// Whether the rows name more.
    is_cut: bool,
}

fn pairs(hit: &Hit) -> impl Iterator<Item = (&str, &str)> {
    hit.attributes().iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// What attributes and text of a log record name.
fn named_in_text(log: &LogHit) -> Named {
    let attributes = log.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    named(attributes, log.body.as_deref())
}

fn span_in_column(log: &LogHit) -> Option<SpanId> {
    log.span_id.as_deref().and_then(SpanId::from_hex)
}

/// What a log record names.
pub(super) fn named_by(log: &LogHit) -> Named {
    let mut named = named_in_text(log);
    named.span = span_in_column(log).or(named.span);
    named
}

impl Wanted {
    /// Of the spans and log records of a trace.
    pub(super) fn of(spans: &[Hit], logs: &[Hit]) -> Wanted {
        let mut wanted = Wanted::default();
        for hit in spans {
            let Hit::Span(span) = hit else { continue };
            let requests = pairs(hit).filter(|(name, _)| is_request_attribute(name));
            let requests = requests.filter_map(|(_, value)| RequestId::parse(value.as_bytes()));
            requests.for_each(|id| wanted.add_request(id));
            let end = span.start_time_unix_nano.saturating_add(span.duration_nano.max(0));
            let (first, last) = wanted.during.unwrap_or((i64::MAX, i64::MIN));
            wanted.during = Some((first.min(span.start_time_unix_nano), last.max(end)));
            SpanId::from_hex(&span.span_id).into_iter().for_each(|id| wanted.add_span(id));
        }
        for hit in logs {
            let Hit::Log(log) = hit else { continue };
            if wanted.is_cut && wanted.requests.len() >= MAX_REQUESTS {
                break;
            }
            named_by(log).request.into_iter().for_each(|id| wanted.add_request(id));
        }
        wanted
    }

    fn add_span(&mut self, id: SpanId) {
        if self.spans.contains(&id) {
            return;
        }
        self.is_cut |= self.spans.len() >= MAX_WORDS;
        if self.spans.len() < MAX_WORDS {
            self.words.push(id);
        }
        if self.spans.len() < MAX_SPANS {
            self.spans.insert(id);
        }
    }

    fn add_request(&mut self, id: RequestId) {
        match self.requests.len() < MAX_REQUESTS {
            true => _ = self.requests.insert(id),
            false => self.is_cut |= !self.requests.contains(&id),
        }
    }

    /// How a record belongs to the trace whose text and attributes name this, and whose column says that span. What stands in a column counts while the
    /// trace's spans ran; what a text says, if the column says nothing else, and blocks are asked for it too.
    fn link_of(&self, named: Named, column: Option<SpanId>, time: i64) -> Option<Link> {
        if let Some(id) = named.request.filter(|id| self.requests.contains(id)) {
            return Some(Link::new(Source::RequestId, id));
        }
        let by_column = column.filter(|id| self.spans.contains(id) && self.during().is_some_and(|range| range.contains(time)));
        let by_text = named.span.filter(|id| column.is_none_or(|column| column == *id) && self.words.contains(id));
        by_column.or(by_text).map(|id| Link::new(Source::SpanId, id))
    }

    fn link_of_log(&self, log: &LogHit) -> Option<Link> {
        self.link_of(named_in_text(log), span_in_column(log), log.time_unix_nano)
    }

    /// Rows of blocks that may name it.
    fn in_blocks(&self) -> Filter {
        Filter::and(vec![without_trace(), Filter::or(self.by_words())])
    }

    fn by_words(&self) -> Vec<Filter> {
        let token = |text: String| Filter::leaf(Leaf::Phrase(Phrase::new(vec![TokenTest::Is(text)])));
        let mut any: Vec<Filter> = self.requests.iter().map(|id| token(id.to_string())).collect();
        any.extend(self.words.iter().map(|id| token(id.to_string())));
        if !self.requests.is_empty() {
            let test = ValueTest::OneOf(Arc::new(self.requests.iter().map(RequestId::to_string).collect()));
            let keys = ATTRIBUTES.iter().map(|name| Key::new(name)).collect();
            any.push(Filter::leaf(Leaf::Value { column: None, keys, test }));
        }
        any
    }

    /// When records may lie that have one of the spans in its column; `None` without spans.
    fn during(&self) -> Option<TimeRange> {
        let (first, last) = self.during?;
        Some(TimeRange::new(first.saturating_sub(SPAN_SLACK_NANOS), last.saturating_add(SPAN_SLACK_NANOS)))
    }

    fn in_column(&self) -> Filter {
        let is_one = ValueTest::OneOf(Arc::new(self.spans.iter().map(SpanId::to_string).collect()));
        Filter::leaf(Leaf::Column("span_id", is_one))
    }
}

/// How many rows of a block lie in a range, if they are spread evenly.
fn rows_within(meta: &BlockMeta, range: TimeRange) -> u64 {
    let length = |first: i64, last: i64| u128::from(last.max(first).abs_diff(first)) + 1;
    let common = length(meta.min_time_nanos.max(range.start_nanos), meta.max_time_nanos.min(range.end_nanos));
    let all = length(meta.min_time_nanos, meta.max_time_nanos);
    u64::try_from(u128::from(meta.n_rows) * common.min(all) / all).unwrap_or(u64::MAX)
}

fn without_trace() -> Filter {
    Filter::leaf(Leaf::Column("trace_id", ValueTest::Any)).negated()
}

/// The rows of a part of the head, of those in a mask, that belong to the trace.
fn in_part(wanted: &Wanted, rows: &Rows, among: impl Iterator<Item = usize>) -> Result<Vec<Hit>> {
    let not_read = || Error::internal("a column is not of its type");
    let column = |name: &str| rows.batch().column_by_name(name).ok_or_else(not_read);
    let text = |name: &str| column(name).and_then(|column| column.as_string_opt::<i32>().ok_or_else(not_read));
    let (bodies, span_ids) = (text("body")?, text("span_id")?);
    let attributes = column("attributes").and_then(|column| Pairs::new(column).ok_or_else(not_read))?;
    let times = column("time_unix_nano").and_then(|column| column.as_primitive_opt::<Int64Type>().ok_or_else(not_read))?;
    let is_linked = |row: &usize| {
        let body = bodies.is_valid(*row).then(|| bodies.value(*row));
        let in_column = span_ids.is_valid(*row).then(|| SpanId::from_hex(span_ids.value(*row))).flatten();
        wanted.link_of(named(attributes.of_row(*row), body), in_column, times.value(*row)).is_some()
    };
    let found = among.filter(is_linked).take(MAX_ROWS + 1);
    let found = UInt32Array::from_iter_values(found.filter_map(|row| u32::try_from(row).ok()));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    Hit::from_stored(rows.table(), &rows.take(&found)?.to_batch(None)?)
}

/// When records of the trace may lie, besides those that say so.
pub(super) fn around(range: TimeRange) -> TimeRange {
    TimeRange::new(range.start_nanos.saturating_sub(SLACK_NANOS), range.end_nanos.saturating_add(SLACK_NANOS))
}

/// Finds them: `job` makes a job with a filter, for part of the time if that is given. What could not be read, or is too much, is in the coverage.
pub(super) async fn find(
    trace: TraceId,
    wanted: Wanted,
    job: impl Fn(Table, Filter, Option<TimeRange>) -> Job,
    blocks: &Arc<Blocks>,
    max_bytes: usize,
) -> Result<(Vec<(LogHit, Link)>, super::Coverage)> {
    let wanted = Arc::new(wanted);
    let mut unflushed = job(Table::Logs, without_trace(), None);
    unflushed.metas.clear();
    unflushed.coverage.blocks_total = 0;
    let among = Arc::clone(&wanted);
    let of_head = unflushed.over_head(move |_, rows, found| in_part(&among, rows, found.set_indices())).await?;
    let mut hits: Vec<Hit> = of_head.into_iter().flatten().collect();

    let mut coverage = unflushed.coverage;
    let (mut is_cut, mut is_left_out) = (false, false);
    let in_column = Filter::and(vec![wanted.in_column(), without_trace()]);
    let by_column = wanted.during().map(|range| (in_column, Some(range)));
    for (filter, range) in [Some((wanted.in_blocks(), None)), by_column].into_iter().flatten() {
        let mut flushed = job(Table::Logs, filter, range);
        if let Some(range) = range {
            // hardly any block has such rows; where there are none, nothing is read
            let n_all = flushed.metas.len();
            flushed.metas.retain(|meta| meta.n_spans_alone != Some(0));
            flushed.coverage.blocks_total -= (n_all - flushed.metas.len()) as u64;
            let n_rows: u64 = flushed.metas.iter().map(|meta| rows_within(meta, range)).sum();
            is_left_out |= n_rows > MAX_COLUMN_ROWS;
            if flushed.metas.is_empty() || n_rows > MAX_COLUMN_ROWS {
                continue;
            }
        }
        flushed.head = Arc::default();
        flushed.coverage.head_rows = 0;
        let bounds = search::Bounds {
            rows: MAX_ROWS,
            bytes: max_bytes,
        };
        let page = search::page(&mut flushed, blocks, Order::NewestFirst, bounds, None).await?;
        is_cut |= page.next.is_some();
        hits.extend(page.hits);
        coverage.merge(flushed.coverage);
    }
    let linked = hits.into_iter().filter_map(|hit| match hit {
        Hit::Log(log) => wanted.link_of_log(&log).map(|link| (*log, link)),
        Hit::Span(_) => None,
    });
    let mut linked: Vec<(LogHit, Link)> = linked.collect();
    linked.sort_unstable_by(|(one, _), (other, _)| place_of(other).cmp(&place_of(one)));
    linked.dedup_by(|(one, _), (other, _)| place_of(one) == place_of(other));
    let by_span = linked.iter().filter_map(|(_, link)| span_of(link)).collect();
    let shared = spans_of_others(by_span, trace, &job, blocks, max_bytes, &mut coverage).await?;
    linked.retain(|(_, link)| span_of(link).is_none_or(|id| !shared.contains(&id)));
    let mut bytes = 0;
    let fitting = linked.iter().take(MAX_ROWS).take_while(|(log, _)| {
        bytes += size_of::<LogHit>() + log.body.as_ref().map_or(0, String::len);
        bytes <= max_bytes
    });
    let n_fitting = fitting.count();
    is_cut |= linked.len() > n_fitting;
    linked.truncate(n_fitting);
    if wanted.is_cut {
        // no loss of what the trace's own ID finds
        let message = format!(
            "of the trace {MAX_REQUESTS} request IDs and {MAX_WORDS} span IDs were looked for in texts, {MAX_SPANS} in span_id; records that name others alone \
             are not shown"
        );
        coverage.note(ProblemKind::Limit, BOUND, message);
    }
    if is_left_out {
        let message = format!("more than {MAX_COLUMN_ROWS} log records lie around the trace's spans; those that have a span ID in span_id alone are not shown");
        coverage.note(ProblemKind::Limit, BOUND, message);
    }
    if is_cut {
        let message = format!("more log records name requests or spans of the trace; {n_fitting} are shown");
        coverage.incomplete(ProblemKind::Limit, BOUND, message);
    }
    Ok((linked, coverage))
}

/// A record's place in the order of records; two nodes may give the same `ingest_id`.
pub(super) fn place_of(log: &LogHit) -> (i64, i64, Option<&str>) {
    (log.time_unix_nano, log.ingest_id, log.body.as_deref())
}

/// The span by whose ID a record is linked.
fn span_of(link: &Link) -> Option<SpanId> {
    (link.by == Source::SpanId.word()).then(|| SpanId::from_hex(&link.value)).flatten()
}

/// Those of a trace's span IDs that another trace of that time has too.
async fn spans_of_others(
    ids: BTreeSet<SpanId>,
    trace: TraceId,
    job: &impl Fn(Table, Filter, Option<TimeRange>) -> Job,
    blocks: &Arc<Blocks>,
    max_bytes: usize,
    coverage: &mut super::Coverage,
) -> Result<BTreeSet<SpanId>> {
    let (mut left, mut shared) = (ids, BTreeSet::new());
    for _ in 0..MAX_SHARED_ROUNDS {
        if left.is_empty() {
            return Ok(shared);
        }
        let is_one = ValueTest::OneOf(Arc::new(left.iter().map(SpanId::to_string).collect()));
        let is_of_other = Filter::leaf(Leaf::Column("trace_id", ValueTest::Is(trace.to_string()))).negated();
        let filter = Filter::and(vec![Filter::leaf(Leaf::Column("span_id", is_one)), is_of_other]);
        let mut others = job(Table::Spans, filter, None);
        let bounds = search::Bounds {
            rows: MAX_ROWS,
            bytes: max_bytes,
        };
        let page = search::page(&mut others, blocks, Order::NewestFirst, bounds, None).await?;
        coverage.merge(others.coverage);
        for hit in &page.hits {
            let Hit::Span(span) = hit else { continue };
            shared.extend(SpanId::from_hex(&span.span_id).filter(|id| left.remove(id)));
        }
        if page.next.is_none() {
            return Ok(shared);
        }
    }
    if !left.is_empty() {
        let message = format!(
            "{} of its span IDs may be other traces' too; records that name them alone are not shown",
            left.len()
        );
        coverage.note(ProblemKind::Limit, BOUND, message);
        shared.append(&mut left);
    }
    Ok(shared)
}

/// How much is read of a trace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Most {
    spans: usize,
    logs: usize,
    bytes: usize,
}

impl Most {
    pub(super) fn of(config: &Config) -> Most {
        Most {
            spans: config.max_trace_spans,
            logs: config.max_trace_logs,
            bytes: config.max_answer_bytes,
        }
    }
}

/// Rows that say a trace's ID.
pub(super) struct Own {
    pub(super) spans: Vec<Hit>,
    pub(super) logs: Vec<Hit>,
    pub(super) coverage: super::Coverage,
    /// What is left for other rows.
    pub(super) bytes: usize,
}

/// The rows that say the ID of a trace, its log records only if they are wanted.
pub(super) async fn own_rows(id: TraceId, with_logs: bool, most: Most, job: impl Fn(Table, Filter, TimeRange) -> Job, blocks: &Arc<Blocks>) -> Result<Own> {
    let filter = Filter::leaf(Leaf::Column("trace_id", ValueTest::Is(id.to_string())));
    let (mut spans, mut logs, mut coverage) = (Vec::new(), Vec::new(), None::<super::Coverage>);
    // spans come first, and leave the logs at least a quarter
    let mut bytes = most.bytes / 4 * 3;
    let of_logs = (Table::Logs, most.logs, "log records of a trace");
    let of_spans = (Table::Spans, most.spans, "spans of a trace");
    for (table, rows, what) in [Some(of_spans), Some(of_logs).filter(|_| with_logs)].into_iter().flatten() {
        let mut asked = job(table, filter.clone(), TimeRange::ALL);
        let bounds = search::Bounds { rows, bytes };
        let mut page = search::page(&mut asked, blocks, Order::NewestFirst, bounds, None).await?;
        let mut shown = "newest";
        if page.next.is_some() && table == Table::Spans {
            // of a tree the trunk: without its root a trace says neither what was asked for nor how that went
            shown = "oldest";
            asked = job(table, filter.clone(), TimeRange::ALL);
            page = search::page(&mut asked, blocks, Order::OldestFirst, bounds, None).await?;
        }
        bytes = most.bytes.saturating_sub(page.bytes);
        if page.next.is_some() {
            let message = format!("the trace has more; the {shown} {} are shown", page.hits.len());
            let what = if page.is_cut { MAX_ANSWER_BYTES } else { what };
            asked.coverage.incomplete(ProblemKind::Limit, what, message);
        }
        match table {
            Table::Spans => spans = page.hits,
            _ => logs = page.hits,
        }
        match &mut coverage {
            None => coverage = Some(asked.coverage),
            Some(coverage) => coverage.merge(asked.coverage),
        }
    }
    let coverage = coverage.unwrap_or(super::Coverage::new(TimeRange::ALL));
    Ok(Own { spans, logs, coverage, bytes })
}

/// The records of a trace, as a filter: those that say its ID, and those that it is linked to; and what the latter rest on. `job` makes a job.
pub(super) async fn rows_of(id: TraceId, most: Most, job: impl Fn(Table, Filter, TimeRange) -> Job, blocks: &Arc<Blocks>) -> Result<(Filter, super::Coverage)> {
    let says_it = Filter::leaf(Leaf::Column("trace_id", ValueTest::Is(id.to_string())));
    let Own {
        spans,
        logs,
        mut coverage,
        bytes,
    } = own_rows(id, true, most, &job, blocks).await?;
    let times = || spans.iter().chain(&logs).map(Hit::time_unix_nano);
    let wanted = Wanted::of(&spans, &logs);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Ok((says_it, coverage));
    };
    if wanted == Wanted::default() {
        return Ok((says_it, coverage));
    }
    let range = around(TimeRange::new(first, last.saturating_add(1)));
    let within = |table: Table, filter: Filter, part: Option<TimeRange>| job(table, filter, part.unwrap_or(range));
    let (linked, of_linked) = find(id, wanted, within, blocks, bytes).await?;
    coverage.merge(of_linked);
    Ok((Filter::or(vec![says_it, just(&linked)]), coverage))
}

/// These records and no others, in such words that the index finds them.
fn just(linked: &[(LogHit, Link)]) -> Filter {
    if linked.is_empty() {
        return Filter::None;
    }
    let mut found_by = Wanted::default();
    let (mut keys, mut values) = (BTreeSet::new(), HashSet::new());
    // first and last of those that the column links
    let mut in_column: Option<(i64, i64)> = None;
    for (log, link) in linked {
        RequestId::parse(link.value.as_bytes())
            .into_iter()
            .for_each(|id| _ = found_by.requests.insert(id));
        if let Some(id) = span_of(link) {
            match span_in_column(log) == Some(id) {
                true => {
                    found_by.spans.insert(id);
                    let (first, last) = in_column.unwrap_or((i64::MAX, i64::MIN));
                    in_column = Some((first.min(log.time_unix_nano), last.max(log.time_unix_nano)));
                }
                false if !found_by.words.contains(&id) => found_by.words.push(id),
                false => {}
            }
        }
        // unflushed ones name it in attributes of any name
        for (name, value) in log.attributes.iter().filter(|(_, value)| value.eq_ignore_ascii_case(&link.value)) {
            keys.insert(name.as_str());
            values.insert(value.clone());
        }
    }
    let mut any = found_by.by_words();
    if let Some((first, last)) = in_column {
        let then = Filter::leaf(Leaf::Numbers("time_unix_nano", vec![first..=last]));
        any.push(Filter::and(vec![then, found_by.in_column()]));
    }
    if !keys.is_empty() {
        let (keys, test) = (keys.into_iter().map(Key::new).collect(), ValueTest::OneOf(Arc::new(values)));
        any.push(Filter::leaf(Leaf::Value { column: None, keys, test }));
    }
    let ids = linked.iter().map(|(log, _)| log.ingest_id..=log.ingest_id).collect();
    Filter::and(vec![Filter::or(any), without_trace(), Filter::leaf(Leaf::Numbers("ingest_id", ids))])
}
