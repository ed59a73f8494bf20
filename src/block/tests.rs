//! Blocks as a whole: built, opened, read, searched, damaged, merged.

pub(super) mod search;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::model::{
    Context, ContextBuilder, LogRecord, LogsBuilder, MetricsBuilder, Point, PointKind, Rows, SeriesKey, SpanEvent, SpanId, SpanLink, SpanRecord, SpansBuilder,
    Table, TimeRange, TraceId, Value,
};
use crate::storage::Scratch;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;
use bytes::Bytes;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;

pub(super) fn small() -> Settings {
    Settings {
        row_group_rows: 64,
        page_rows: 8,
        chunk_rows: 10,
        index_memory_bytes: 16 << 20,
        ..Settings::default()
    }
}

fn trace(n: u8) -> TraceId {
    TraceId::from_bytes(&[n + 1; 16]).expect("not zero")
}
fn span(n: u8) -> SpanId {
    SpanId::from_bytes(&[n + 1; 8]).expect("not zero")
}

fn context(service: &str, extra: &[(&str, &str)]) -> Arc<Context> {
    let mut builder = ContextBuilder::new();
    builder.attribute("service.name", Value::Str(service));
    for (key, value) in extra {
        builder.attribute(key, Value::Str(value));
    }
    builder.scope("lib", "1").build()
}

/// One log record of a test.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    time: i64,
    body: Option<String>,
    trace: Option<u8>,
    span: Option<u8>,
    severity: i32,
    event: Option<&'static str>,
    attributes: Vec<(String, String)>,
    context: u8,
}

impl Log {
    /// One of which only the time counts.
    pub(super) fn at(time: i64) -> Self {
        Self { time, ..Self::default() }
    }
}

fn contexts() -> Vec<Arc<Context>> {
    (0..20).map(|i| context(&format!("svc{}", i % 3), &[("pod", &i.to_string())])).collect()
}

pub(super) fn log_rows(logs: &[Log], first_ingest_id: i64) -> Rows {
    let mut builder = LogsBuilder::default();
    let contexts: Vec<i32> = contexts().into_iter().map(|context| builder.context(context)).collect();
    for log in logs {
        for (key, value) in &log.attributes {
            builder.attribute(key, Value::Str(value));
        }
        let record = LogRecord {
            time_unix_nano: log.time,
            body: log.body.as_deref(),
            trace_id: log.trace.map(trace),
            span_id: log.span.map(span),
            severity_number: log.severity,
            event_name: log.event,
            ..LogRecord::default()
        };
        builder.push(contexts[usize::from(log.context) % contexts.len()], &record);
    }
    builder.finish().expect("rows").with_ingest_ids(first_ingest_id)
}

pub(super) fn span_rows(n: i64, first_ingest_id: i64) -> Rows {
    let mut builder = SpansBuilder::default();
    let context = builder.context(context("web", &[("host.name", "h1")]));
    for i in 0..n {
        builder.attribute("http.response.status_code", Value::Int(200 + i % 3));
        builder.attribute("http.route", Value::Str("/a/{id}"));
        builder.attribute("größe", Value::Double(i as f64 / 2.0));
        if i % 2 == 0 {
            builder.event_attribute("exception.type", Value::Str("Boom"));
            builder.event_attribute("exception.message", Value::Str(&format!("broken pipe {i}")));
            builder.event(&SpanEvent {
                time_unix_nano: i,
                name: "exception",
            });
            builder.link(&SpanLink {
                trace_id: Some(trace(1)),
                span_id: None,
                trace_state: Some("a=b"),
            });
        }
        builder.push(
            context,
            &SpanRecord {
                start_time_unix_nano: i * SECOND / 3,
                end_time_unix_nano: (i % 5 != 0).then_some(i * SECOND),
                trace_id: trace((i % 7) as u8),
                span_id: span((i % 50) as u8),
                parent_span_id: (i % 3 == 0).then(|| span(1)),
                trace_state: None,
                trace_flags: Some(1),
                name: if i % 2 == 0 { "GET /a" } else { "" },
                kind: "SERVER",
                status_code: if i % 4 == 0 { "ERROR" } else { "OK" },
                status_message: (i % 4 == 0).then_some("naïve café"),
                in_progress: i % 5 == 0,
                dropped_attributes_count: 0,
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(first_ingest_id)
}

fn metric_rows() -> Vec<Rows> {
    let mut builder = MetricsBuilder::default();
    let context = context("meter", &[]);
    let values = [0.5, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE];
    for i in 0..150i64 {
        builder.attribute("worker", Value::Int(i % 4));
        let key = SeriesKey {
            name: ["requests", "größe", "a"][(i % 3) as usize],
            metric_type: "gauge",
            unit: "",
            description: "",
            temporality: None,
            is_monotonic: None,
        };
        let time = 50 * SECOND - i * SECOND / 10;
        builder.series(&context, &key, time);
        builder.exemplar_attribute("k", Value::Str(""));
        builder.exemplar(time, Some(values[(i % 6) as usize]), None, Some(trace(1)), None);
        let value = values[(i % 6) as usize];
        let kind = match i % 5 {
            0 => PointKind::Double(value),
            1 => PointKind::Int(i64::MAX - i),
            2 => PointKind::Histogram {
                count: i,
                sum: Some(value),
                min: None,
                max: Some(value),
                bounds: &values[..(i % 4) as usize],
                bucket_counts: &[1, 2, 3][..(i % 4) as usize],
            },
            3 => PointKind::ExpHistogram {
                count: i,
                sum: None,
                min: None,
                max: None,
                scale: -3,
                zero_count: 1,
                zero_threshold: value,
                positive_offset: 2,
                positive_counts: &[4, 5][..(i % 3) as usize],
                negative_offset: 0,
                negative_counts: &[],
            },
            _ => PointKind::Summary {
                count: i,
                sum: Some(value),
                quantiles: &[(0.5, value), (0.99, 1.0)][..(i % 3) as usize],
            },
        };
        builder.point(&Point {
            time_unix_nano: time,
            start_time_unix_nano: (i % 2 == 0).then_some(0),
            flags: 1,
            kind,
        });
    }
    let batch = builder.finish().expect("metrics");
    batch.into_iter().map(|rows| rows.with_ingest_ids(9)).collect()
}

pub(super) fn open(built: &BuiltBlock) -> Block {
    assert!(built.meta.memory_bytes > 0, "a merge is bounded by it");
    let meta = Arc::new(built.meta.clone());
    let mut flaws = verify(&meta, &built.parquet, built.index.as_ref());
    // these tests put rows of any time into one block
    flaws.retain(|flaw| !flaw.contains("outside the partition"));
    assert_eq!(flaws, Vec::<String>::new());
    Block::open(meta, built.parquet.clone(), built.index.clone()).expect("a block")
}

/// All rows of `parts` in the order a block must have them, by sorting the stored columns here.
fn expected(table: Table, parts: &[Rows]) -> RecordBatch {
    let all = Rows::concat(table, parts).expect("rows");
    let stored = all.to_batch(None).expect("stored");
    let i64s = |name: &str| stored.column_by_name(name).expect("column").as_primitive::<Int64Type>().clone();
    let (times, ids) = (all.times().clone(), i64s("ingest_id"));
    let mut order: Vec<usize> = (0..all.len()).collect();
    if stored.column_by_name("start_time").is_some() && stored.column_by_name("metric_name").is_some() {
        let (names, series) = (
            stored.column_by_name("metric_name").expect("name").as_string::<i32>().clone(),
            i64s("series_id"),
        );
        order.sort_by_key(|row| (names.value(*row).to_string(), series.value(*row), times.value(*row), ids.value(*row)));
    } else {
        order.sort_by_key(|row| (-times.value(*row), -ids.value(*row)));
    }
    let order = UInt32Array::from_iter_values(order.into_iter().map(|row| row as u32));
    arrow::compute::take_record_batch(&stored, &order).expect("rows")
}

pub(super) fn scan_all(block: &Block, rows: Range<u32>) -> RecordBatch {
    let scan = block.scan(rows, &[]).expect("scan");
    let schema = scan.schema().clone();
    let batches: Vec<RecordBatch> = scan.collect::<Result<_>>().expect("batches");
    arrow::compute::concat_batches(&schema, &batches).expect("one batch")
}

/// `PartialEq` of arrays takes NaN as different from itself; their text does not.
fn same(a: &RecordBatch, b: &RecordBatch) {
    assert_eq!(a.schema(), b.schema());
    assert_eq!(a.num_rows(), b.num_rows());
    for (i, field) in a.schema().fields().iter().enumerate() {
        let (left, right) = (a.column(i), b.column(i));
        assert_eq!(left.data_type(), right.data_type());
        for row in 0..a.num_rows() {
            assert_eq!(left.is_null(row), right.is_null(row), "{} row {row}", field.name());
            if left.is_valid(row) {
                let text = |array: &dyn Array| arrow::util::display::array_value_to_string(array, row).expect("text");
                assert_eq!(text(left), text(right), "{} row {row}", field.name());
            }
        }
    }
}

#[test]
fn every_table_reads_back_as_it_was_built() {
    let mut tables = metric_rows();
    tables.push(span_rows(200, 5));
    tables.push(log_rows(&mixed_logs(300), 1));
    assert!(tables.len() >= 8, "one of each table");
    for rows in tables {
        let table = rows.table();
        let (half, n) = (rows.len() / 2, rows.len() as u32);
        let parts = [rows.slice(half, rows.len() - half), rows.slice(0, 0), rows.slice(0, half)];
        let built = build(table, 0, Level::L0, &parts, &small(), 1_000 * SECOND).expect("a block");
        let block = open(&built);
        let expected = expected(table, &parts);
        let all = scan_all(&block, 0..n);
        assert_eq!(all.schema(), table.schema());
        same(&all, &expected);
        same(&scan_all(&block, 3..n - 5), &expected.slice(3, n as usize - 8));
        let some: Vec<u32> = (0..n).filter(|row| row % 7 == 3 || *row == n - 1).collect();
        let taken = arrow::compute::take_record_batch(&expected, &UInt32Array::from(some.clone())).expect("rows");
        same(&block.read(&some, &[]).expect("rows"), &taken);
        let two = block.read(&[1], &["ingest_id", table.time_column()]).expect("rows");
        assert_eq!((two.num_columns(), two.schema().field(0).name().as_str()), (2, "ingest_id"));
        assert_eq!(block.read(&[], &[]).expect("none").num_rows(), 0);
        assert!(matches!(block.read(&[0], &["nope"]), Err(Error::NoColumn { .. })));
        assert!(block.read(&[1, 0], &[]).is_err() && block.read(&[n], &[]).is_err());
        assert_eq!(built.meta.n_rows, u64::from(n));
        assert_eq!(built.index.is_some(), table.is_searchable());
        assert!(block.bytes_of(1, &[]) > 0 && block.bytes_of(n as usize, &[]) <= built.meta.parquet_bytes);
    }
}

fn mixed_logs(n: usize) -> Vec<Log> {
    (0..n)
        .map(|i| Log {
            time: (i as i64 * 7919 % 100) * SECOND / 7,
            body: match i % 5 {
                0 => None,
                1 => Some(format!("GET /api/v1/cart {i} in 3 ms for häuser 日本")),
                2 => Some(format!("{{\"a\":{i},\"b\":{{\"c\":\"x y\"}}}}")),
                3 => Some(String::new()),
                _ => Some("connection reset by peer".into()),
            },
            trace: (i % 3 != 0).then_some((i % 40) as u8),
            span: None,
            severity: (i % 24) as i32,
            event: (i % 6 == 0).then_some("tick"),
            attributes: vec![("n".into(), i.to_string()), ("kind".into(), "a".into()), (String::new(), String::new())],
            context: (i % 20) as u8,
        })
        .collect()
}

#[test]
fn row_n_is_document_n() {
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&mixed_logs(500), 1)], &small(), 0).expect("a block");
    let block = open(&built);
    let index = block.index().expect("an index");
    let rows = block
        .read(&(0..500).collect::<Vec<_>>(), &["trace_id", "service_name", "ingest_id"])
        .expect("rows");
    let ids = rows.column(0).as_string::<i32>();
    for row in 0..500u32 {
        if ids.is_valid(row as usize) {
            let query = IndexQuery::Term {
                field: RawField::TraceId,
                value: ids.value(row as usize).into(),
            };
            let found = index.first(&query, 0..500, 500).expect("rows");
            assert!(found.contains(&row));
            assert!(found.iter().all(|other| ids.value(*other as usize) == ids.value(row as usize)));
        }
        let context = index.contexts().iter().position(|_| true);
        assert!(context.is_some());
    }
    // contexts of the index and columns of the file tell the same
    for (number, context) in index.contexts().iter().enumerate() {
        for row in index.first(&IndexQuery::Contexts(vec![number as u32]), 0..500, 500).expect("rows") {
            assert_eq!(Some(rows.column(1).as_string::<i32>().value(row as usize)), context.service_name());
        }
    }
    assert_eq!(index.context_counts().expect("counts").iter().sum::<u64>(), 500);
    assert_eq!(index.key_values("kind").expect("values"), [("a".to_string(), 500)]);
    assert_eq!(index.key_values("n").expect("values").len(), 500);
    assert_eq!(index.term_values(RawField::EventName).expect("values"), [("tick".to_string(), 84)]);
    assert_eq!(built.meta.services.as_deref(), Some(&["svc0".to_string(), "svc1".into(), "svc2".into()][..]));
}

#[test]
fn spans_are_found_by_what_they_say() {
    let built = build(Table::Spans, 0, Level::Sealed, &[span_rows(100, 1)], &small(), 0).expect("a block");
    let index = open(&built);
    let index = index.index().expect("an index");
    let count = |query: IndexQuery| index.count(&query, 0..100).expect("a count");
    let pair = |key: &str, value: &str| IndexQuery::KeyValue {
        key: key.into(),
        value: value.into(),
    };
    assert_eq!(count(pair("http.response.status_code", "200")), 34);
    assert_eq!(count(pair("exception.type", "Boom")), 50);
    assert_eq!(count(pair("größe", "0.5")), 1);
    assert_eq!(count(IndexQuery::Phrase(tokenizer::tokens("Broken Pipe 98"))), 1);
    assert_eq!(count(IndexQuery::Token("café".into())), 25);
    assert_eq!(
        count(IndexQuery::Term {
            field: RawField::SpanId,
            value: "01".repeat(8)
        }),
        2
    );
}

#[test]
fn rows_in_a_range_are_exact_at_its_ends() {
    let times = [0, 1, SECOND - 1, SECOND, SECOND, SECOND, SECOND + 1, 5 * SECOND, 5 * SECOND, 7 * SECOND - 1];
    let logs: Vec<Log> = times.iter().cycle().take(300).map(|time| Log { time: *time, ..Log::default() }).collect();
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&logs, 1)], &small(), 0).expect("a block");
    let with = open(&built);
    let without = Block::open(Arc::new(built.meta.clone()), built.parquet.clone(), None).expect("a block");
    let mut sorted: Vec<i64> = logs.iter().map(|log| log.time).collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let ends = [
        i64::MIN,
        -1,
        0,
        1,
        2,
        SECOND - 1,
        SECOND,
        SECOND + 1,
        SECOND + 2,
        3 * SECOND,
        5 * SECOND,
        5 * SECOND + 1,
        7 * SECOND - 1,
        7 * SECOND,
        i64::MAX,
    ];
    for start in ends {
        for end in ends {
            let range = TimeRange::new(start, end);
            let inside = sorted.iter().filter(|time| range.contains(**time)).count();
            let first = sorted.partition_point(|time| *time >= range.end_nanos) as u32;
            for block in [&with, &without] {
                let rows = block.rows_in(&range).expect("rows");
                assert_eq!(rows.len(), inside, "{range:?}");
                if inside > 0 {
                    assert_eq!(rows.start, first, "{range:?}");
                }
            }
        }
    }
}

#[test]
fn foreign_readers_see_plain_parquet() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    for rows in [span_rows(150, 1), log_rows(&mixed_logs(150), 1)] {
        let table = rows.table();
        let built = build(table, 0, Level::L0, &[rows], &small(), 0).expect("a block");
        let reader = SerializedFileReader::new(built.parquet.clone()).expect("parquet");
        let file = reader.metadata().file_metadata();
        let keys: Vec<&str> = file.key_value_metadata().into_iter().flatten().map(|pair| pair.key.as_str()).collect();
        assert!(!keys.contains(&"ARROW:schema") && keys.contains(&"tracelake.sort_order"));
        assert_eq!(file.version(), 1);
        for (field, root) in table.schema().fields().iter().zip(file.schema().get_fields()) {
            assert_eq!(field.name(), root.name());
            assert_eq!(field.metadata()["PARQUET:field_id"], root.get_basic_info().id().to_string());
        }
        let group = reader.metadata().row_group(0);
        assert_eq!(group.num_rows(), 64);
        let sorting = group.sorting_columns().expect("declared");
        let path = |at: usize| group.column(sorting[at].column_idx as usize).column_path().string();
        assert_eq!((path(0).as_str(), path(1).as_str()), (table.time_column(), "ingest_id"));
        assert!(sorting[0].descending);
        for column in group.columns() {
            let path = column.column_path().string();
            assert!(column.offset_index_offset().is_some(), "{path}");
            // the index of spans has their IDs
            let has_filter = path == "trace_id" || (path == "span_id" && table == Table::Logs);
            assert_eq!(column.bloom_filter_offset().is_some(), has_filter, "{path}");
        }
        assert!(reader.get_row_iter(None).expect("rows").all(|row| row.is_ok()));
        // and with types guessed from the file alone
        let plain = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(built.parquet.clone(), 1000).expect("reader");
        for batch in plain {
            let batch = batch.expect("rows");
            for (guessed, field) in batch.schema().fields().iter().zip(table.schema().fields()) {
                assert!(guessed.data_type().equals_datatype(field.data_type()), "{}", field.name());
            }
        }
    }
}

#[test]
fn an_index_of_other_rows_is_told_apart_from_damage_of_the_rows() {
    let one = build(Table::Logs, 0, Level::L0, &[log_rows(&mixed_logs(50), 1)], &small(), 0).expect("a block");
    let other = build(Table::Logs, 0, Level::L0, &[log_rows(&mixed_logs(51), 1)], &small(), 0).expect("a block");
    let meta = Arc::new(one.meta.clone());
    let error = Block::open(meta.clone(), one.parquet.clone(), other.index.clone()).expect_err("not its index");
    assert!(error.is_index(), "{error}");
    Block::open(meta.clone(), one.parquet.clone(), None).expect("readable without");
    let error = Block::open(meta.clone(), other.parquet.clone(), one.index.clone()).expect_err("not its rows");
    assert!(!error.is_index(), "{error}");
    for bytes in [Bytes::new(), Bytes::from_static(b"TLX1"), Bytes::from_static(b"PAR1PAR1")] {
        assert!(Block::open(meta.clone(), one.parquet.clone(), Some(bytes.clone())).is_err_and(|e| e.is_index()));
        assert!(Block::open(meta.clone(), bytes, None).is_err_and(|e| !e.is_index()));
    }
    assert!(build(Table::Logs, 0, Level::L0, &[], &small(), 0).is_err());
    assert!(build(Table::Spans, 0, Level::L0, &[log_rows(&mixed_logs(1), 1)], &small(), 0).is_err());
}

#[test]
fn flipped_bits_are_noticed_and_nothing_panics() {
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&mixed_logs(120), 1)], &small(), 0).expect("a block");
    let index = built.index.clone().expect("an index");
    let meta = Arc::new(built.meta.clone());
    let flip = |bytes: &Bytes, bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Bytes::from(bytes)
    };
    for step in 0..150 {
        let parquet = flip(&built.parquet, step * 7919 % (built.parquet.len() * 8));
        assert_ne!(verify(&meta, &parquet, None), Vec::<String>::new());
        if let Ok(block) = Block::open(meta.clone(), parquet, None) {
            let _ = block.read(&[0, 7, 119], &[]);
            let _ = block.rows_in(&TimeRange::new(SECOND, 2 * SECOND + 5));
            let _ = block.scan(0..120, &[]).map(|scan| scan.take_while(|batch| batch.is_ok()).count());
        }
        let damaged = flip(&index, step * 104_729 % (index.len() * 8));
        assert_ne!(verify(&meta, &built.parquet, Some(&damaged)), Vec::<String>::new());
        match Block::open(meta.clone(), built.parquet.clone(), Some(damaged)) {
            Err(error) => assert!(error.is_index(), "{error}"),
            Ok(block) => {
                let index = block.index().expect("an index");
                for query in [
                    IndexQuery::TokenPattern("*a*".into()),
                    IndexQuery::Phrase(tokenizer::tokens("connection reset by peer")),
                    IndexQuery::KeyExists("n".into()),
                    IndexQuery::Not(Box::new(IndexQuery::Token("get".into()))),
                ] {
                    let _ = index.bitmap(&query, 0..120);
                    let _ = index.first(&query, 3..100, 10);
                }
                let _ = (index.key_values("n"), index.context_counts());
            }
        }
    }
}

#[test]
fn a_panic_while_a_block_is_built_or_read_is_told_in_its_words() {
    let panic = std::panic::catch_unwind(|| panic!("column {}", std::hint::black_box(7))).expect_err("it panics");
    assert_eq!(build::panic_text(&panic), "panicked: column 7");
}

#[test]
fn merged_blocks_hold_all_rows_once() {
    let (a, b) = (log_rows(&mixed_logs(90), 1), log_rows(&mixed_logs(70), 500));
    let block = |rows: &Rows| {
        Arc::new(open(
            &build(rows.table(), HOUR, Level::L0, std::slice::from_ref(rows), &small(), 0).expect("a block"),
        ))
    };
    let merged = merge(&[block(&a), block(&b)], Level::Sealed, HOUR, &small(), &Scratch::memory(), 5)
        .expect("merged")
        .expect("rows");
    assert_eq!((merged.meta.level, merged.meta.n_rows), (Level::Sealed, 160));
    assert_eq!((merged.meta.min_ingest_id, merged.meta.max_ingest_id), (1, 569));
    same(&scan_all(&open(&merged), 0..160), &expected(Table::Logs, &[a, b]));
    assert!(merge(&[], Level::Sealed, HOUR, &small(), &Scratch::memory(), 5).expect("nothing").is_none());
}

#[test]
fn records_with_a_span_and_no_trace_are_counted() {
    let rows = |ids: &[(Option<u8>, Option<u8>)]| {
        let mut builder = LogsBuilder::default();
        let context = builder.context(context("web", &[]));
        for (trace_id, span_id) in ids {
            let record = LogRecord {
                time_unix_nano: 5,
                trace_id: trace_id.map(trace),
                span_id: span_id.map(span),
                ..LogRecord::default()
            };
            builder.push(context, &record);
        }
        builder.finish().expect("rows").with_ingest_ids(1)
    };
    let block = |ids| build(Table::Logs, 0, Level::L0, &[rows(ids)], &small(), 0).expect("a block");
    let (some, none) = (
        block(&[(Some(1), Some(1)), (None, Some(2)), (None, None), (Some(3), None)]),
        block(&[(Some(1), Some(1)), (None, None)]),
    );
    assert_eq!((some.meta.n_spans_alone, none.meta.n_spans_alone), (Some(1), Some(0)));
    let merged = merge(
        &[Arc::new(open(&some)), Arc::new(open(&none))],
        Level::Sealed,
        0,
        &small(),
        &Scratch::memory(),
        0,
    );
    assert_eq!(merged.expect("merged").expect("rows").meta.n_spans_alone, Some(1));
    let spans = build(Table::Spans, 0, Level::L0, &[span_rows(3, 1)], &small(), 0).expect("a block");
    assert_eq!(spans.meta.n_spans_alone, None);
}

#[test]
fn a_completed_span_replaces_the_one_in_progress() {
    let record = |in_progress: bool, id: u8| {
        let mut builder = SpansBuilder::default();
        let context = builder.context(context("web", &[]));
        builder.push(
            context,
            &SpanRecord {
                start_time_unix_nano: 5,
                end_time_unix_nano: (!in_progress).then_some(9),
                trace_id: trace(1),
                span_id: span(id),
                parent_span_id: None,
                trace_state: None,
                trace_flags: None,
                name: "n",
                kind: "SERVER",
                status_code: "OK",
                status_message: None,
                in_progress,
                dropped_attributes_count: 0,
            },
        );
        builder.finish().expect("rows").with_ingest_ids(i64::from(id))
    };
    let block = |rows: Rows| Arc::new(open(&build(Table::Spans, 0, Level::L0, &[rows], &small(), 0).expect("a block")));
    let blocks = [
        block(record(true, 1)),
        block(record(false, 1)),
        block(record(true, 2)),
        block(record(true, 2).with_ingest_ids(9)),
    ];
    let merged = merge(&blocks, Level::Sealed, 0, &small(), &Scratch::memory(), 0)
        .expect("merged")
        .expect("rows");
    let rows = open(&merged).read(&[0, 1], &["span_id", "in_progress"]).expect("two rows");
    let seen: Vec<(String, bool)> = (0..2)
        .map(|row| (rows.column(0).as_string::<i32>().value(row).to_string(), rows.column(1).as_boolean().value(row)))
        .collect();
    assert_eq!(seen, [("03".repeat(8), true), ("02".repeat(8), false)]);
}

#[test]
fn a_series_is_kept_once_with_its_earliest_row() {
    let series = metric_rows().into_iter().find(|rows| rows.table() == Table::MetricSeries).expect("series");
    let n = series.len() as u64;
    let later = series.with_column("time_unix_nano", Arc::new(series.times().unary::<_, Int64Type>(|time| time + 10)));
    let block = |rows: &Rows| {
        Arc::new(open(
            &build(Table::MetricSeries, 0, Level::L0, std::slice::from_ref(rows), &small(), 0).expect("a block"),
        ))
    };
    let merged = merge(&[block(&later), block(&series)], Level::Sealed, 0, &small(), &Scratch::memory(), 0)
        .expect("merged")
        .expect("rows");
    assert_eq!(merged.meta.n_rows, n);
    assert_eq!(merged.meta.max_time_nanos, series.time_bounds().expect("rows").1);
}

#[test]
fn a_block_of_many_contexts_and_huge_rows_is_built() {
    let mut builder = LogsBuilder::default();
    for i in 0..3000 {
        let context = builder.context(context(&format!("s{i}"), &[]));
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: i,
                body: Some(if i == 7 { "big ".repeat(1 << 18) } else { "small".into() }).as_deref(),
                ..LogRecord::default()
            },
        );
    }
    let rows = builder.finish().expect("rows").with_ingest_ids(1);
    let built = build(Table::Logs, 0, Level::L0, &[rows], &small(), 0).expect("a block");
    assert_eq!(built.meta.services, None);
    let block = open(&built);
    let index = block.index().expect("an index");
    assert_eq!(index.first(&IndexQuery::Token("big".into()), 0..3000, 5).expect("rows"), [2992]);
    assert_eq!(index.count(&IndexQuery::Contexts((0..500).collect()), 0..3000).expect("a count"), 500);
    assert_eq!(index.context_counts().expect("counts").iter().sum::<u64>(), 3000);
}

// ---- the format, for ever: fixtures made once, of `fixture_rows`, by the first release of format 1

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format_v1").join(name)
}

fn fixture_rows(table: Table) -> Rows {
    match table {
        Table::Spans => span_rows(60, 100),
        _ => log_rows(&mixed_logs(100), 100),
    }
}

#[test]
fn blocks_of_format_1_open_for_ever() {
    for table in [Table::Logs, Table::Spans] {
        let read = |suffix: &str| std::fs::read(fixture(&format!("{}.{suffix}", table.name()))).expect("a fixture");
        let meta: Arc<BlockMeta> = Arc::new(serde_json::from_slice(&read("json")).expect("a meta"));
        let (parquet, index) = (Bytes::from(read("parquet")), Bytes::from(read("idx")));
        assert_eq!(verify(&meta, &parquet, Some(&index)), Vec::<String>::new());
        let block = Block::open(meta, parquet, Some(index)).expect("a block");
        let rows = fixture_rows(table);
        // a column that came later is null here: compare those of then
        let stored = scan_all(&block, 0..block.n_rows());
        same(&stored, &expected(table, &[rows]));
        // of columns that came later alone, too
        let later = if table == Table::Logs { "pattern_id" } else { "xray_document" };
        let nulls = block.read(&[0, 7], &[later]).expect("rows");
        assert_eq!((nulls.num_rows(), nulls.column(0).null_count()), (2, 2), "{later}");
        let index = block.index().expect("an index");
        let token = if table == Table::Logs { "reset" } else { "pipe" };
        assert!(index.count(&IndexQuery::Token(token.into()), 0..block.n_rows()).expect("a count") > 0);
        let text = RowText::new(table, &stored).expect("text");
        let mut scratch = String::new();
        for row in index.first(&IndexQuery::Token(token.into()), 0..block.n_rows(), 100).expect("rows") {
            assert!(tokenizer::tokens(text.text(row as usize, &mut scratch)).contains(&token.to_string()));
        }
    }
}

#[test]
fn times_of_all_kinds_survive() {
    let logs: Vec<Log> = [i64::MIN + 1, -1, 0, 1, i64::MAX - 1]
        .iter()
        .map(|time| Log { time: *time, ..Log::default() })
        .collect();
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&logs, 1)], &small(), 0).expect("a block");
    let block = open(&built);
    let times = block.read(&[0, 1, 2, 3, 4], &["time_unix_nano"]).expect("rows");
    assert_eq!(
        times.column(0).as_primitive::<Int64Type>(),
        &Int64Array::from(vec![i64::MAX - 1, 1, 0, -1, i64::MIN + 1])
    );
    assert_eq!(block.rows_in(&TimeRange::new(0, 2)).expect("rows"), 1..3);
}
