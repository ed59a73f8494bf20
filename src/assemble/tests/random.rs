//! Random traces, late, doubled, out of order and in progress, with restarts, crashes and refusals in between: in the end the tables say
//! what the spans say.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::super::assembler::{Assembler, Checkpoint};
use super::super::compare::WrittenRow;
use super::super::lake::Lake;
use super::super::others::Others;
use super::super::summary::Summary;
use super::*;
use crate::catalog::NodeId;
use crate::ingest::{Lost, Refused};
use crate::model::{Clock, ManualClock, Rows, Table};
use crate::query::xray::facts::Service;
use crate::query::{Arrived, Logged};

pub(super) const HOUR: i64 = 3_600 * SECOND;
/// When the tests begin.
pub(super) const NOW: i64 = 1_000 * HOUR;
/// Spans that are read together.
const MAX_TOGETHER: usize = 12;

#[derive(Debug, Default)]
struct Inner {
    spans: Vec<SpanHit>,
    logs: Vec<(i64, TraceId, i64)>,
    last_lsn: i64,
    rows: HashMap<TraceId, Vec<WrittenRow>>,
    /// Of each row the trace, its start and its end.
    extents: Vec<(TraceId, i64, i64)>,
    edges: Calls,
    checkpoint: Option<Checkpoint>,
    durable: Option<Checkpoint>,
    refuse: u32,
    lookups: usize,
    /// Traces that cannot be read, or all; and how often that was tried.
    unreadable: Option<Vec<TraceId>>,
    failed_reads: usize,
    /// Writes are done, and their answers wait for this.
    holds_answers: Option<Arc<tokio::sync::Notify>>,
}

/// A lake in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<Inner>);

impl Memory {
    fn put(&self, mut span: SpanHit) {
        let mut inner = self.0.lock();
        inner.last_lsn += 1;
        span.ingest_id = inner.last_lsn << 20;
        inner.spans.push(span);
    }

    fn log(&self, id: TraceId, time: i64) {
        let mut inner = self.0.lock();
        inner.last_lsn += 1;
        let ingest_id = inner.last_lsn << 20;
        inner.logs.push((ingest_id, id, time));
    }

    /// What a flush does: a span in progress goes once its completion is there.
    fn hide_superseded(&self) {
        let mut inner = self.0.lock();
        let done: Vec<(String, String)> = inner
            .spans
            .iter()
            .filter(|span| !span.in_progress)
            .map(|span| (span.trace_id.clone(), span.span_id.clone()))
            .collect();
        inner
            .spans
            .retain(|span| !span.in_progress || !done.contains(&(span.trace_id.clone(), span.span_id.clone())));
    }

    /// A crash: what was kept without care falls back.
    fn crash(&self) {
        let mut inner = self.0.lock();
        inner.checkpoint = inner.durable.clone();
    }

    fn trace(&self, id: &TraceId, range: TimeRange) -> Option<Trace> {
        let inner = self.0.lock();
        let of_trace = inner
            .spans
            .iter()
            .filter(|span| span.trace_id == id.to_string() && range.contains(span.start_time_unix_nano));
        let spans: Vec<Hit> = of_trace.map(|span| Hit::Span(Box::new(span.clone()))).collect();
        Trace::assemble(*id, spans, Vec::new(), Coverage::new(TimeRange::ALL), Duration::ZERO)
    }

    /// What the tables are to say: calls of all, and each trace's summary.
    fn recomputed(&self) -> (Calls, BTreeMap<String, Summary>) {
        let mut ids: Vec<String> = self.0.lock().spans.iter().map(|span| span.trace_id.clone()).collect();
        ids.sort();
        ids.dedup();
        let (mut calls, mut summaries) = (Calls::default(), BTreeMap::new());
        for id in ids {
            let trace_id = TraceId::from_hex(&id).expect("an ID");
            let trace = self.trace(&trace_id, TimeRange::ALL).expect("it has spans");
            let summary = Summary::of(&TraceFacts::of(&trace), self.count_logs(&trace_id));
            calls.add(&summary.calls);
            summaries.insert(id, summary);
        }
        (calls, summaries)
    }

    fn store(&self, tables: Vec<Rows>) -> Result<(), Refused> {
        let mut inner = self.0.lock();
        if inner.refuse > 0 {
            inner.refuse -= 1;
            let is_one = tables.first().is_some_and(|rows| rows.len() == 1);
            return match inner.refuse.is_multiple_of(2) || is_one {
                true => Err(Refused::Draining),
                false => Err(Refused::TooLarge("no room".into())),
            };
        }
        for rows in tables {
            if rows.table() == Table::ServiceEdges {
                let change = calls_of(&rows);
                inner.edges.add(&change);
                continue;
            }
            let durations = rows
                .batch()
                .column_by_name("duration_nano")
                .expect("a column")
                .as_primitive::<Int64Type>()
                .clone();
            for (row, (id, written)) in rows_of(&rows).into_iter().enumerate() {
                inner.extents.push((id, written.start_nanos, written.start_nanos + durations.value(row)));
                let of_trace = inner.rows.entry(id).or_default();
                assert!(of_trace.iter().all(|row| row.revision < written.revision), "a revision is given twice");
                of_trace.push(written);
            }
        }
        Ok(())
    }

    fn count_logs(&self, id: &TraceId) -> Logged {
        let records = self.0.lock().logs.iter().filter(|(_, of, _)| of == id).count() as u64;
        Logged {
            records,
            worst_severity: if records > 0 { 9 } else { 0 },
        }
    }
}

/// What came of each trace: `ingest_id`, start and end.
pub(super) fn arrived_of(rows: impl Iterator<Item = (i64, TraceId, i64, i64)>, positions: RangeInclusive<i64>) -> HashMap<TraceId, Arrived> {
    let mut found: HashMap<TraceId, Arrived> = HashMap::new();
    for (first_ingest_id, id, first_nanos, last_nanos) in rows.filter(|(ingest_id, ..)| positions.contains(ingest_id)) {
        let arrived = Arrived {
            first_nanos,
            last_nanos,
            first_ingest_id,
        };
        found.entry(id).and_modify(|known| known.merge(arrived)).or_insert(arrived);
    }
    found
}

/// Traces with rows that start in a time, of rows with their start and end.
pub(super) fn starting(rows: impl Iterator<Item = (TraceId, i64, i64)>, range: TimeRange, most: usize) -> Option<HashMap<TraceId, Arrived>> {
    let starts = rows.filter(|(_, start, _)| range.contains(*start));
    let found = arrived_of(starts.map(|(id, start, end)| (0, id, start, end)), 0..=0);
    (found.len() <= most).then_some(found)
}

/// A node's name.
pub(super) fn node(number: u8) -> NodeId {
    NodeId::parse(&char::from(b'a' + number).to_string().repeat(26)).expect("a name")
}

/// Rows of `traces`.
pub(super) fn rows_of(rows: &Rows) -> Vec<(TraceId, WrittenRow)> {
    let column = |name: &str| rows.batch().column_by_name(name).expect("a column").clone();
    let (ids, calls, nodes) = (column("trace_id"), column("calls"), column("node"));
    let nodes = nodes.as_string::<i32>();
    let row = |row: usize| {
        let written = WrittenRow {
            node: nodes.is_valid(row).then(|| NodeId::parse(nodes.value(row)).expect("a name")),
            start_nanos: rows.times().value(row),
            revision: column("revision").as_primitive::<Int32Type>().value(row),
            digest: column("digest").as_primitive::<Int64Type>().value(row),
            calls: Calls::from_json(calls.as_string::<i32>().value(row)).expect("calls"),
        };
        (TraceId::from_hex(ids.as_string::<i32>().value(row)).expect("an ID"), written)
    };
    (0..rows.len()).map(row).collect()
}

/// Rows of `service_edges`.
pub(super) fn calls_of(rows: &Rows) -> Calls {
    let text = |name: &str, row: usize| {
        let column = rows.batch().column_by_name(name).expect("a column").as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_string())
    };
    let class = |name: &str, row: usize| {
        let column = rows.batch().column_by_name(name).expect("a column").as_primitive::<Int32Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let first = rows.batch().schema().index_of("requests").expect("a column");
    let mut calls = Calls::default();
    for row in 0..rows.len() {
        let service = |side: &str| {
            Some(Service {
                name: text(&format!("{side}_name"), row)?,
                kind: text(&format!("{side}_type"), row)?,
                account_id: text(&format!("{side}_account"), row)?,
            })
        };
        let key = CallKey {
            minute_nanos: rows.times().value(row),
            client: service("client"),
            server: service("server").expect("a server"),
            operation: text("operation", row).expect("an operation"),
            caller_class: class("caller_class", row),
            callee_class: class("callee_class", row),
        };
        let figures = std::array::from_fn(|i| rows.batch().column(first + i).as_primitive::<Int64Type>().value(row));
        calls.add_row(key, Figures::from_array(figures));
    }
    calls
}

#[async_trait]
impl Lake for Memory {
    async fn settled(&self, _before: i64) -> i64 {
        ((self.0.lock().last_lsn + 1) << 20) - 1
    }
    async fn arrived(&self, table: Table, positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String> {
        let inner = self.0.lock();
        let spans = inner.spans.iter().map(|span| {
            let id = TraceId::from_hex(&span.trace_id).expect("an ID");
            let start = span.start_time_unix_nano;
            (span.ingest_id, id, start, start + span.duration_nano)
        });
        let logs = inner.logs.iter().map(|(ingest_id, id, time)| (*ingest_id, *id, *time, *time));
        Ok(match table {
            Table::Spans => arrived_of(spans, positions),
            _ => arrived_of(logs, positions),
        })
    }
    async fn traces(&self, ids: &[TraceId], range: TimeRange) -> Result<Option<Vec<Trace>>, String> {
        {
            let mut inner = self.0.lock();
            let is_unreadable = |ids_without: &Vec<TraceId>| ids_without.is_empty() || ids.iter().any(|id| ids_without.contains(id));
            if inner.unreadable.as_ref().is_some_and(is_unreadable) {
                inner.failed_reads += 1;
                return Err("a block cannot be read".into());
            }
        }
        let range = if ids.len() == 1 { TimeRange::ALL } else { range };
        let traces: Vec<Trace> = ids.iter().filter_map(|id| self.trace(id, range)).collect();
        let n_spans: usize = traces.iter().map(|trace| trace.spans.len()).sum();
        Ok((ids.len() == 1 || n_spans <= MAX_TOGETHER).then_some(traces))
    }
    async fn logged(&self, ids: &[TraceId], _range: TimeRange) -> Result<HashMap<TraceId, Logged>, String> {
        Ok(ids.iter().map(|id| (*id, self.count_logs(id))).collect())
    }
    async fn written(&self, ids: &[TraceId], range: TimeRange) -> Result<HashMap<TraceId, Vec<WrittenRow>>, String> {
        let mut inner = self.0.lock();
        inner.lookups += 1;
        let newest = |id: &TraceId| {
            let rows = inner.rows.get(id)?.iter().filter(|row| range.contains(row.start_nanos));
            Some((*id, vec![rows.max_by_key(|row| row.revision)?.clone()]))
        };
        Ok(ids.iter().filter_map(newest).collect())
    }
    fn node(&self) -> NodeId {
        node(0)
    }
    fn others(&self) -> Others {
        Others::default()
    }
    async fn arrived_elsewhere(&self, _node: &NodeId, _positions: RangeInclusive<i64>) -> Result<HashMap<TraceId, Arrived>, String> {
        Ok(HashMap::new())
    }
    fn lost(&self) -> Vec<(String, Lost)> {
        Vec::new()
    }
    async fn forget_lost(&self, _key: &str) -> Result<(), String> {
        Ok(())
    }
    fn may_delete_old(&self) -> Result<(), String> {
        Ok(())
    }
    async fn delete_old(&self, _below: &[(TraceId, i32)], _range: TimeRange) -> Result<(), String> {
        Ok(())
    }
    async fn write(&self, tables: Vec<Rows>) -> Result<(), Refused> {
        self.store(tables)?;
        let held = self.0.lock().holds_answers.clone();
        if let Some(held) = held {
            held.notified().await;
        }
        Ok(())
    }
    fn newest_start(&self) -> i64 {
        let inner = self.0.lock();
        inner.rows.values().flatten().map(|row| row.start_nanos).max().unwrap_or(i64::MIN)
    }
    async fn with_rows(&self, range: TimeRange, most: usize) -> Result<Option<HashMap<TraceId, Arrived>>, String> {
        let inner = self.0.lock();
        Ok(starting(inner.extents.iter().copied(), range, most))
    }
    fn checkpoint(&self) -> Option<Checkpoint> {
        self.0.lock().checkpoint.clone()
    }
    fn beginning(&self) -> (i64, bool) {
        (-1, true)
    }
    async fn keep(&self, checkpoint: Checkpoint) -> Result<(), String> {
        let mut inner = self.0.lock();
        (inner.checkpoint, inner.durable) = (Some(checkpoint.clone()), Some(checkpoint));
        Ok(())
    }
    fn keep_relaxed(&self, checkpoint: Checkpoint) {
        self.0.lock().checkpoint = Some(checkpoint);
    }
}

/// One trace's spans, some of them first in progress, some twice.
pub(super) fn random_trace(rng: &mut StdRng, number: u64) -> Vec<SpanHit> {
    const SERVICES: [&str; 3] = ["web", "pay", "stock"];
    const KINDS: [&str; 5] = ["SERVER", "CLIENT", "INTERNAL", "PRODUCER", "CONSUMER"];
    // what lies long ago, and what lies so far ahead that it is surely new
    let base = NOW + rng.random_range(-5..8) * HOUR;
    let trace_id = format!("{:032x}", number + 1);
    let mut all = Vec::new();
    for id in 1..=rng.random_range(1..7u64) {
        let parent = rng.random_bool(0.8).then(|| rng.random_range(1..8));
        let start = base + rng.random_range(0..50 * 60) * SECOND;
        let service = SERVICES.choose(rng).expect("some");
        let kind = KINDS.choose(rng).expect("some");
        let mut one = span(id, parent, service, kind, start, rng.random_range(0..5 * SECOND));
        one.trace_id = trace_id.clone();
        if rng.random_bool(0.3) {
            one.status_code = "ERROR".into();
        }
        if rng.random_bool(0.3) {
            let mut unfinished = one.clone();
            (unfinished.in_progress, unfinished.duration_nano) = (true, 0);
            all.push(unfinished);
        }
        if rng.random_bool(0.2) {
            let mut other = one.clone();
            other.duration_nano += SECOND;
            all.push(other);
        }
        all.push(one);
    }
    all
}

async fn check(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let spans = (0..rng.random_range(1..12)).flat_map(|number| random_trace(&mut rng, number)).collect();
    check_spans(seed, rng, spans).await;
}

/// Traces whose parts lie hours apart, no more of them than are remembered.
async fn check_hours_apart(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut spans: Vec<SpanHit> = (0..rng.random_range(1..5)).flat_map(|number| random_trace(&mut rng, number)).collect();
    for span in &mut spans {
        // all that is sent of a span has one start; the last part lies before the end of the day that is remembered
        let hours = (span.start_time_unix_nano / SECOND + span.span_id.len() as i64).rem_euclid(9);
        span.start_time_unix_nano += (hours - 8) * HOUR;
    }
    check_spans(seed, rng, spans).await;
}

async fn check_spans(seed: u64, mut rng: StdRng, mut spans: Vec<SpanHit>) {
    let lake = Arc::new(Memory::default());
    let clock = Arc::new(ManualClock::new(NOW));
    let config = Config {
        max_open_traces: rng.random_range(2..20),
        ..Config::default()
    };
    let start = || Assembler::new(config.clone(), lake.clone(), clock.clone() as Arc<dyn Clock>);
    let mut assembler = start();
    spans.shuffle(&mut rng);
    for span in spans {
        lake.put(span);
        match rng.random_range(0..12) {
            // may fail, and is tried again
            0..=3 => {
                let quiet = if rng.random_bool(0.5) { 0 } else { 5 * SECOND };
                let _ = assembler.step(quiet).await;
            }
            4 => assembler = start(),
            5 => {
                lake.crash();
                assembler = start();
            }
            6 => lake.0.lock().refuse = rng.random_range(0..3),
            7 => lake.hide_superseded(),
            8 => {
                clock.advance(rng.random_range(0..10) * SECOND);
            }
            _ => {}
        }
    }
    lake.0.lock().refuse = 0;
    assembler.step(0).await.expect("nothing is refused any more");
    let (calls, summaries) = lake.recomputed();
    let inner = lake.0.lock();
    assert_eq!(inner.edges, calls, "seed {seed}: the edges");
    assert_eq!(inner.rows.len(), summaries.len(), "seed {seed}: the traces");
    for (id, summary) in &summaries {
        let rows = &inner.rows[&TraceId::from_hex(id).expect("an ID")];
        let newest = rows.iter().max_by_key(|row| row.revision).expect("a row");
        assert_eq!((newest.digest, &newest.calls), (summary.digest(), &summary.calls), "seed {seed}: trace {id}");
    }
}

pub(super) fn now<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_kept_step_by_step_is_what_the_spans_say(seed: u64) {
        now(check(seed));
    }

    #[test]
    fn parts_of_a_trace_that_lie_hours_apart_make_one_also_with_restarts_in_between(seed: u64) {
        now(check_hours_apart(seed));
    }
}

pub(super) fn web(number: u64, id: u64, start: i64) -> SpanHit {
    let mut one = span(id, None, "web", "SERVER", start, SECOND);
    one.trace_id = format!("{number:032x}");
    one
}

#[test]
fn a_trace_is_written_once_it_is_quiet_and_again_when_there_is_more_of_it() {
    now(async {
        let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
        let assembler = Assembler::new(Config::default(), lake.clone(), clock.clone());
        let id = TraceId::from_hex(&format!("{:032x}", 1)).expect("an ID");
        let revisions = || lake.0.lock().rows.get(&id).map_or(0, Vec::len);
        lake.put(web(1, 1, NOW));
        assembler.step(10 * SECOND).await.expect("a step");
        assert_eq!((revisions(), assembler.report().open_traces), (0, 1));
        clock.advance(10 * SECOND);
        assembler.step(10 * SECOND).await.expect("a step");
        assert_eq!((revisions(), assembler.report().open_traces), (1, 0));
        // nothing new, and the same once more
        lake.put(web(1, 1, NOW));
        assembler.step(0).await.expect("a step");
        assert_eq!(revisions(), 1);
        // a record of its log is something new
        lake.log(id, NOW + 5);
        assembler.step(0).await.expect("a step");
        lake.put(web(1, 2, NOW + 3));
        assembler.step(0).await.expect("a step");
        let report = assembler.report();
        assert_eq!((revisions(), report.written, report.corrected), (3, 3, 2));
        assert_eq!(report.done_ingest_id, lake.settled(0).await);
        // a log alone is no trace
        lake.log(TraceId::from_hex(&format!("{:032x}", 9)).expect("an ID"), NOW);
        assembler.step(0).await.expect("a step");
        assert_eq!(lake.0.lock().rows.len(), 1);
    });
}

#[test]
fn traces_that_are_surely_new_are_not_looked_up_and_a_bound_writes_the_oldest_early() {
    now(async {
        let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
        let config = Config {
            max_open_traces: 4,
            ..Config::default()
        };
        let assembler = Assembler::new(config, lake.clone(), clock.clone());
        assembler.step(0).await.expect("a step");
        for number in 1..=5 {
            lake.put(web(number, 1, NOW + 4 * HOUR));
        }
        assembler.step(i64::MAX).await.expect("a step");
        assert_eq!((lake.0.lock().rows.len(), assembler.report().open_traces), (2, 3));
        assembler.step(0).await.expect("a step");
        let written_and_looked_up = || {
            let inner = lake.0.lock();
            (inner.rows.len(), inner.lookups)
        };
        assert_eq!(written_and_looked_up(), (5, 0));
        lake.put(web(3, 2, NOW + 4 * HOUR));
        assembler.step(0).await.expect("a step");
        assert_eq!(written_and_looked_up(), (5, 1));
    });
}

#[test]
fn a_trace_that_is_never_quiet_is_written_all_the_same() {
    now(async {
        let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
        let assembler = Assembler::new(Config::default(), lake.clone(), clock.clone());
        for beat in 0..40 {
            lake.put(web(1, beat + 1, NOW + beat as i64 * 5 * SECOND));
            assembler.step(10 * SECOND).await.expect("a step");
            clock.advance(5 * SECOND);
        }
        let n_rows = lake.0.lock().rows.values().map(Vec::len).sum::<usize>();
        assert!((2..=4).contains(&n_rows), "{n_rows} rows in 200 seconds");
        assert!(assembler.report().done_ingest_id > 10 << 20, "a restart does not begin with the first span");
    });
}

#[test]
fn a_trace_that_cannot_be_read_does_not_keep_the_others_back() {
    now(async {
        let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
        let assembler = Assembler::new(Config::default(), lake.clone(), clock.clone());
        let bad = TraceId::from_hex(&format!("{:032x}", 2)).expect("an ID");
        for number in 1..=10 {
            lake.put(web(number, 1, NOW + number as i64));
        }
        lake.0.lock().unreadable = Some(vec![bad]);
        let nothing_comes = || clock.advance(SECOND);
        assembler.step(SECOND).await.expect("none is quiet");
        nothing_comes();
        assert!(assembler.step(SECOND).await.is_err());
        let written = || lake.0.lock().rows.len();
        assert_eq!((written(), assembler.report().open_traces), (9, 1));
        assert!(assembler.report().done_ingest_id < 2 << 20, "what is not written is not behind us");
        // it rests, unless somebody asks for all, and is tried again
        assembler.step(SECOND).await.expect("nothing is due");
        assert!(assembler.step(0).await.is_err());
        clock.advance(30 * SECOND);
        assert!(assembler.step(SECOND).await.is_err());
        lake.0.lock().unreadable = None;
        clock.advance(30 * SECOND);
        assembler.step(0).await.expect("a step");
        assert_eq!((written(), assembler.report().open_traces), (10, 0));
        // one that fails for an hour is given up, until something of it comes
        lake.0.lock().unreadable = Some(vec![bad]);
        lake.put(web(2, 2, NOW + 3));
        assert!(assembler.step(0).await.is_err());
        clock.advance(HOUR);
        assert!(assembler.step(0).await.is_err());
        assert_eq!(assembler.report().open_traces, 0);
        lake.0.lock().unreadable = None;
        lake.put(web(2, 3, NOW + 4));
        assembler.step(0).await.expect("a step");
        assert_eq!(lake.0.lock().rows[&bad].len(), 2);
    });
}

#[test]
fn where_nothing_can_be_read_little_is_tried() {
    now(async {
        let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
        let assembler = Assembler::new(Config::default(), lake.clone(), clock.clone());
        for number in 1..=100 {
            lake.put(web(number, 1, NOW + number as i64));
        }
        lake.0.lock().unreadable = Some(Vec::new());
        assert!(assembler.step(0).await.is_err());
        assert!(lake.0.lock().failed_reads < 10);
        assert_eq!(assembler.report().open_traces, 100);
        lake.0.lock().unreadable = None;
        clock.advance(30 * SECOND);
        assembler.step(0).await.expect("a step");
        assert_eq!(lake.0.lock().rows.len(), 100);
    });
}

#[test]
fn who_hangs_up_while_a_graph_is_made_fresh_doubles_nothing() {
    now(async {
        for asks_by_itself in [false, true] {
            let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
            let assembler = Arc::new(Assembler::new(Config::default(), lake.clone(), clock.clone()));
            assembler.step(0).await.expect("a step");
            for number in 1..=3 {
                lake.put(web(number, 1, NOW + 4 * HOUR));
            }
            let held = Arc::new(tokio::sync::Notify::new());
            lake.0.lock().holds_answers = Some(held.clone());
            let asked: std::pin::Pin<Box<dyn Future<Output = ()> + '_>> = match asks_by_itself {
                // even where the step itself is cut short
                false => Box::pin(async { drop(assembler.step(0).await) }),
                true => Box::pin(async { drop(assembler.freshen().await) }),
            };
            let is_written = async {
                while lake.0.lock().rows.len() < 3 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = asked => panic!("the write is not answered yet"),
                () = is_written => {}
            }
            lake.0.lock().holds_answers = None;
            held.notify_one();
            assembler.step(0).await.expect("a step");
            let (calls, _) = lake.recomputed();
            let inner = lake.0.lock();
            assert_eq!((&inner.edges, inner.rows.values().map(Vec::len).max()), (&calls, Some(1)));
        }
    });
}

#[test]
fn a_trace_of_many_hours_is_one_whichever_of_its_parts_comes_last() {
    now(async {
        for restarts in [false, true] {
            let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
            let start = || Assembler::new(Config::default(), lake.clone(), clock.clone() as Arc<dyn Clock>);
            let mut assembler = start();
            assembler.step(0).await.expect("a step");
            let child = |id: u64, start: i64| {
                let mut one = span(id, Some(1), "web", "SERVER", start, SECOND);
                one.trace_id = format!("{:032x}", 1);
                one
            };
            // a batch that takes three hours tells of itself when it is done
            for (id, minutes) in [(2, 1), (3, 90), (4, 179)] {
                lake.put(child(id, NOW + minutes * 60 * SECOND));
                assembler.step(0).await.expect("a step");
            }
            if restarts {
                assembler = start();
            }
            let mut root = web(1, 1, NOW);
            root.duration_nano = 3 * HOUR;
            lake.put(root);
            assembler.step(0).await.expect("a step");
            let (calls, summaries) = lake.recomputed();
            let inner = lake.0.lock();
            let newest = inner.rows.values().flatten().max_by_key(|row| row.revision).expect("a row");
            assert_eq!(
                (newest.revision, newest.digest),
                (4, summaries.values().next().expect("one").digest()),
                "{restarts}"
            );
            assert_eq!(inner.edges, calls);
        }
    });
}

#[test]
fn what_comes_late_of_a_trace_that_takes_hours_drops_none_of_its_other_parts() {
    now(async {
        for restarts in [false, true] {
            // the middle of it last, or the beginning, or the end
            for last in [2, 0, 5] {
                let (lake, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::new(NOW)));
                let start = || Assembler::new(Config::default(), lake.clone(), clock.clone() as Arc<dyn Clock>);
                let mut assembler = start();
                for hour in (0..6).filter(|hour| *hour != last).chain([last]) {
                    // two of them: what is read together is read of their time alone
                    for number in 1..=2 {
                        lake.put(web(number, hour + 1, NOW - 10 * HOUR + hour as i64 * 3 / 2 * HOUR));
                    }
                    if restarts {
                        assembler = start();
                    }
                    assembler.step(0).await.expect("a step");
                }
                let (calls, summaries) = lake.recomputed();
                let inner = lake.0.lock();
                assert_eq!(inner.edges, calls, "hour {last} last, restarts: {restarts}");
                for (id, summary) in &summaries {
                    let rows = &inner.rows[&TraceId::from_hex(id).expect("an ID")];
                    let newest = rows.iter().max_by_key(|row| row.revision).expect("a row");
                    assert_eq!(newest.digest, summary.digest(), "hour {last} last, restarts: {restarts}");
                }
            }
        }
    });
}
