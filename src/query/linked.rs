//! Log records of a trace that have no trace ID, found by the request IDs and span IDs that its spans and other records name.
//!
//! Most such records get their trace ID as they come ([`crate::correlate::link`]); those that came before anything told it (a Lambda
//! function's lines come before its segment) are looked for when the trace is opened. Of unflushed rows each without a trace is asked
//! what it names; in blocks, the index is asked for the words and attributes, and what it finds is verified in the same way. (A record
//! in a block whose span ID stands only in its column is not found: the file's Bloom filters name too many row groups wrongly to ask them for
//! each of a trace's spans.)
//!
//! Rows stay as they are: a search by `trace_id` or `trace_id_source`, conditions on a trace, counts and SQL know what a row says itself, which
//! the index answers, and not these. To find them too, such a question would have to read all spans of each trace that it means.
//!
//! | bound | value |
//! |---|---|
//! | request IDs, span IDs of a trace that are looked for | [`MAX_REQUESTS`], [`MAX_SPANS`] |
//! | time before the trace's first row and behind its last | [`SLACK_NANOS`] |
//! | records found | [`MAX_ROWS`]; more, and the answer says so |

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, UInt32Array};

use super::blocks::Blocks;
use super::conditions::{Key, Phrase, TokenTest, ValueTest};
use super::filter::{Filter, Leaf};
use super::hit::Hit;
use super::job::Job;
use super::trace::Link;
use super::{Error, LogHit, Order, ProblemKind, Result, search};
use crate::block::Pairs;
use crate::correlate::Source;
use crate::correlate::named::{Named, RequestId, is_request_attribute, named};
use crate::model::{Rows, SpanId, TimeRange};

/// Request IDs of a trace that are looked for.
const MAX_REQUESTS: usize = 32;
/// Span IDs of a trace that are looked for.
const MAX_SPANS: usize = 64;
/// Records that are found at the most.
const MAX_ROWS: usize = 1_000;
/// How far from a trace's rows its other records are looked for: five minutes.
const SLACK_NANOS: i64 = 300_000_000_000;
/// Attributes by which blocks are asked for a request ID.
const ATTRIBUTES: [&str; 4] = ["aws.request_id", "faas.invocation_id", "request_id", "requestId"];
/// The bound's name in answers that it cut.
const BOUND: &str = "log records linked to a trace";

/// What the rows of a trace name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    requests: BTreeSet<RequestId>,
    spans: BTreeSet<SpanId>,
    /// Whether the rows name more.
    is_cut: bool,
}

fn pairs(hit: &Hit) -> impl Iterator<Item = (&str, &str)> {
    hit.attributes().iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// What a log record names.
pub(super) fn named_by(log: &LogHit) -> Named {
    let attributes = log.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut named = named(attributes, log.body.as_deref());
    named.span = log.span_id.as_deref().and_then(SpanId::from_hex).or(named.span);
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
            if let Some(id) = SpanId::from_hex(&span.span_id) {
                match wanted.spans.len() < MAX_SPANS {
                    true => _ = wanted.spans.insert(id),
                    false => wanted.is_cut |= !wanted.spans.contains(&id),
                }
            }
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

    fn add_request(&mut self, id: RequestId) {
        match self.requests.len() < MAX_REQUESTS {
            true => _ = self.requests.insert(id),
            false => self.is_cut |= !self.requests.contains(&id),
        }
    }

    /// How a record that names this belongs to the trace.
    fn link_of(&self, named: Named) -> Option<Link> {
        let request = named.request.filter(|id| self.requests.contains(id)).map(|id| Link::new(Source::RequestId, id));
        request.or_else(|| named.span.filter(|id| self.spans.contains(id)).map(|id| Link::new(Source::SpanId, id)))
    }

    /// Rows of blocks that may name it.
    fn in_blocks(&self) -> Filter {
        let token = |text: String| Filter::leaf(Leaf::Phrase(Phrase::new(vec![TokenTest::Is(text)])));
        let mut any: Vec<Filter> = self.requests.iter().map(|id| token(id.to_string())).collect();
        any.extend(self.spans.iter().map(|id| token(id.to_string())));
        if !self.requests.is_empty() {
            let test = ValueTest::OneOf(Arc::new(self.requests.iter().map(RequestId::to_string).collect()));
            let keys = ATTRIBUTES.iter().map(|name| Key::new(name)).collect();
            any.push(Filter::leaf(Leaf::Value { column: None, keys, test }));
        }
        Filter::and(vec![without_trace(), Filter::or(any)])
    }
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
    let names = |row: usize| {
        let body = bodies.is_valid(row).then(|| bodies.value(row));
        let mut named = named(attributes.of_row(row), body);
        named.span = span_ids.is_valid(row).then(|| SpanId::from_hex(span_ids.value(row))).flatten().or(named.span);
        named
    };
    let found = among.filter(|row| wanted.link_of(names(*row)).is_some()).take(MAX_ROWS + 1);
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

/// Finds them: `job` makes a job with a filter. What could not be read, or is too much, is in the coverage.
pub(super) async fn find(
    wanted: Wanted,
    job: impl Fn(Filter) -> Job,
    blocks: &Arc<Blocks>,
    max_bytes: usize,
) -> Result<(Vec<(LogHit, Link)>, super::Coverage)> {
    let wanted = Arc::new(wanted);
    let mut unflushed = job(without_trace());
    unflushed.metas.clear();
    unflushed.coverage.blocks_total = 0;
    let among = Arc::clone(&wanted);
    let of_head = unflushed.over_head(move |_, rows, found| in_part(&among, rows, found.set_indices())).await?;
    let mut hits: Vec<Hit> = of_head.into_iter().flatten().collect();

    let mut flushed = job(wanted.in_blocks());
    flushed.head = Arc::default();
    flushed.coverage.head_rows = 0;
    let bounds = search::Bounds {
        rows: MAX_ROWS,
        bytes: max_bytes,
    };
    let page = search::page(&mut flushed, blocks, Order::NewestFirst, bounds, None).await?;
    let mut is_cut = page.next.is_some();
    hits.extend(page.hits);
    let mut coverage = unflushed.coverage;
    coverage.merge(flushed.coverage);
    let linked = hits.into_iter().filter_map(|hit| match hit {
        Hit::Log(log) => wanted.link_of(named_by(&log)).map(|link| (*log, link)),
        Hit::Span(_) => None,
    });
    let mut linked: Vec<(LogHit, Link)> = linked.collect();
    linked.sort_unstable_by_key(|(log, _)| std::cmp::Reverse((log.time_unix_nano, log.ingest_id)));
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
        let message = format!("of the trace {MAX_REQUESTS} request IDs and {MAX_SPANS} span IDs were looked for; records that name others alone are not shown");
        coverage.note(ProblemKind::Limit, BOUND, message);
    }
    if is_cut {
        let message = format!("more log records name requests or spans of the trace; {n_fitting} are shown");
        coverage.incomplete(ProblemKind::Limit, BOUND, message);
    }
    Ok((linked, coverage))
}
