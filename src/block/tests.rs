//! Blocks as a whole: built, opened, read, searched, damaged, merged.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Context, ContextBuilder, LogRecord, LogsBuilder, MetricsBuilder, Point, PointKind, Rows, SeriesKey, SpanEvent, SpanId, SpanLink, SpanRecord, SpansBuilder,
    Table, TimeRange, TraceId, Value,
};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;

fn small() -> Settings {
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
struct Log {
    time: i64,
    body: Option<String>,
    trace: Option<u8>,
    severity: i32,
    event: Option<&'static str>,
    attributes: Vec<(String, String)>,
    context: u8,
}

fn contexts() -> Vec<Arc<Context>> {
    (0..20).map(|i| context(&format!("svc{}", i % 3), &[("pod", &i.to_string())])).collect()
}

fn log_rows(logs: &[Log], first_ingest_id: i64) -> Rows {
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
            severity_number: log.severity,
            event_name: log.event,
            ..LogRecord::default()
        };
        builder.push(contexts[usize::from(log.context) % contexts.len()], &record);
    }
    builder.finish().expect("rows").with_ingest_ids(first_ingest_id)
}

fn span_rows(n: i64, first_ingest_id: i64) -> Rows {
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

/// Whether both objects are as the meta says; what the cache checks of each when it fetches it.
fn verify(meta: &BlockMeta, parquet: &[u8], index: Option<&[u8]>) -> Result<(), ()> {
    let is = |bytes: &[u8], n_bytes, crc32c| bytes.len() as u64 == n_bytes && crc32c::crc32c(bytes) == crc32c;
    let index_is_whole = index.is_none_or(|index| is(index, meta.index_bytes, meta.index_crc32c));
    (is(parquet, meta.parquet_bytes, meta.parquet_crc32c) && index_is_whole).then_some(()).ok_or(())
}

fn open(built: &BuiltBlock) -> Block {
    assert!(built.meta.memory_bytes > 0, "a merge is bounded by it");
    verify(&built.meta, &built.parquet, built.index.as_deref()).expect("what was built");
    Block::open(Arc::new(built.meta.clone()), built.parquet.clone(), built.index.clone()).expect("a block")
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

fn scan_all(block: &Block, rows: Range<u32>) -> RecordBatch {
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
        assert_eq!(format!("{:?}", a.column(i).to_data()), format!("{:?}", a.column(i).to_data()));
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
    assert_eq!(index.keys().expect("keys"), ["", "a", "b.c", "kind", "n"]);
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
            assert_eq!(column.bloom_filter_offset().is_some(), path == "trace_id", "{path}");
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

// ---- search against brute force

fn brute(query: &IndexQuery, rows: &RowText<'_>, row: usize, ordinal: u32) -> bool {
    let mut scratch = String::new();
    let tokens = tokenizer::tokens(rows.text(row, &mut scratch));
    let mut pairs = Vec::new();
    rows.for_each_pair(row, &mut |key, value| pairs.push((key.to_string(), value.to_string())));
    let mut fields = Vec::new();
    rows.for_each_field(row, &mut |field, value| fields.push((field, value.to_string())));
    let any_value = |key: &str, test: &dyn Fn(&str) -> bool| pairs.iter().any(|(k, v)| k == key && test(v));
    match query {
        IndexQuery::All => true,
        IndexQuery::None => false,
        IndexQuery::Token(token) => tokens.contains(token),
        IndexQuery::Phrase(phrase) => phrase.is_empty() || tokens.windows(phrase.len()).any(|window| window == phrase),
        IndexQuery::TokenPattern(pattern) => {
            let pattern = Pattern::new(&tokenizer::lowercase(pattern));
            tokens.iter().any(|token| pattern.matches(token))
        }
        IndexQuery::Near { tokens: wanted, between } => {
            // every beginning, and the nearest next token from each
            wanted.is_empty()
                || (0..tokens.len()).filter(|at| tokens[*at] == wanted[0]).any(|begin| {
                    let mut last = Some(begin);
                    for token in &wanted[1..] {
                        last = last.and_then(|last| (last + 1..tokens.len()).find(|at| tokens[*at] == *token));
                    }
                    last.is_some_and(|last| last - begin < *between as usize + wanted.len())
                })
        }
        IndexQuery::TokenMatching(test) => tokens.iter().any(|token| test(token)),
        IndexQuery::TermMatching { field, test } => fields.iter().any(|(f, v)| f == field && test(v)),
        IndexQuery::KeyInside { key, test } => any_value(key, &|v| v.starts_with(['[', '{']) && test(v)),
        IndexQuery::Term { field, value } => fields.iter().any(|(f, v)| f == field && v == value),
        IndexQuery::TermPattern { field, pattern } => fields.iter().any(|(f, v)| f == field && Pattern::new(pattern).matches(v)),
        IndexQuery::KeyValue { key, value } => any_value(key, &|v| v == value),
        IndexQuery::KeyPattern { key, pattern } => any_value(key, &|v| Pattern::new(pattern).matches(v)),
        IndexQuery::KeyExists(key) => any_value(key, &|_| true),
        IndexQuery::KeyMatching { key, test } => any_value(key, &|v| test(v)),
        IndexQuery::Contexts(numbers) => numbers.contains(&ordinal),
        IndexQuery::And(all) => all.iter().all(|query| brute(query, rows, row, ordinal)),
        IndexQuery::Or(any) => any.iter().any(|query| brute(query, rows, row, ordinal)),
        IndexQuery::Not(query) => !brute(query, rows, row, ordinal),
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_string()),
        Just("B".into()),
        Just("abc".into()),
        Just("ab".into()),
        Just("Éa".into()),
        Just("漢字".into()),
        Just("x_y".into()),
        Just("123e4567-e89b-12d3-a456-426614174000".into()),
        Just("x".repeat(140)),
        "[ab]{1,3}",
        "\\PC{0,4}",
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("k".to_string()),
        Just("k.l".into()),
        Just(String::new()),
        Just("k\0l".into()),
        Just("k".repeat(130)),
        Just(format!("{}z", "k".repeat(125))),
        Just("k\u{1d}".into()),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        word(),
        Just("1".to_string()),
        Just("17".into()),
        Just("y".repeat(250)),
        Just("y".repeat(255)),
        Just(format!("{}b", "y".repeat(300))),
        Just("é".repeat(128)),
        Just("a\u{1d}\0b".into()),
        Just("[1,2]".into()),
        Just("{\"a\":1}".into()),
        Just(format!("[\"{}\"]", "y".repeat(300))),
    ]
}

fn log() -> impl Strategy<Value = Log> {
    let body = prop_oneof![
        1 => Just(None),
        4 => proptest::collection::vec(word(), 0..5).prop_map(|words| Some(words.join(" "))),
        1 => (key(), value()).prop_map(|(key, value)| Some(serde_json::json!({ key: {"in": [value, 3]} }).to_string())),
    ];
    let event = prop_oneof![Just(None), Just(Some("tick")), Just(Some("tock"))];
    let attributes = proptest::collection::vec((key(), value()), 0..4);
    (0..5 * SECOND, body, proptest::option::of(0..4u8), 0..25i32, event, attributes, 0..20u8).prop_map(
        |(time, body, trace, severity, event, attributes, context)| Log {
            time: time / 1000 * 1000,
            body,
            trace,
            severity,
            event,
            attributes,
            context,
        },
    )
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_string()),
        Just("a*".into()),
        Just("*b".into()),
        Just("?".into()),
        Just("A?C".into()),
        Just("*y*".into()),
        Just("y*b".into()),
        Just(format!("{}*", "y".repeat(252))),
        Just("1*".into()),
        "[ab*?é]{0,4}",
    ]
}

fn query() -> impl Strategy<Value = IndexQuery> {
    let leaf = prop_oneof![
        Just(IndexQuery::All),
        Just(IndexQuery::None),
        word().prop_map(|word| IndexQuery::Phrase(tokenizer::tokens(&word))),
        word().prop_map(|word| IndexQuery::Token(tokenizer::tokens(&word).into_iter().next().unwrap_or_default())),
        proptest::collection::vec(word(), 1..3).prop_map(|words| IndexQuery::Phrase(tokenizer::tokens(&words.join(" ")))),
        pattern().prop_map(IndexQuery::TokenPattern),
        (0..5u8).prop_map(|n| IndexQuery::Term {
            field: RawField::TraceId,
            value: format!("{:02x}", n + 1).repeat(16)
        }),
        (0..25i32).prop_map(|n| IndexQuery::Term {
            field: RawField::Severity,
            value: n.to_string()
        }),
        pattern().prop_map(|pattern| IndexQuery::TermPattern {
            field: RawField::Severity,
            pattern
        }),
        Just(IndexQuery::TermPattern {
            field: RawField::EventName,
            pattern: "t?ck".into()
        }),
        (key(), value()).prop_map(|(key, value)| IndexQuery::KeyValue { key, value }),
        (key(), pattern()).prop_map(|(key, pattern)| IndexQuery::KeyPattern { key, pattern }),
        key().prop_map(IndexQuery::KeyExists),
        key().prop_map(|key| IndexQuery::KeyMatching {
            key,
            test: Arc::new(|value| value.parse::<f64>().is_ok_and(|number| number >= 2.0)),
        }),
        (proptest::collection::vec(word(), 1..4), 0..4u32).prop_map(|(words, between)| IndexQuery::Near {
            tokens: tokenizer::tokens(&words.join(" ")),
            between
        }),
        (0..6usize).prop_map(|length| IndexQuery::TokenMatching(Arc::new(move |token| token.len() == length))),
        (0..6usize).prop_map(|length| IndexQuery::TermMatching {
            field: RawField::EventName,
            test: Arc::new(move |value| value.len() == length)
        }),
        key().prop_map(|key| IndexQuery::KeyInside {
            key,
            test: Arc::new(|value| value.len() % 2 == 0),
        }),
        proptest::collection::vec(0..25u32, 0..20).prop_map(IndexQuery::Contexts),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(IndexQuery::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(IndexQuery::Or),
            inner.prop_map(|query| IndexQuery::Not(Box::new(query))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn search_finds_what_brute_force_finds(
        logs in proptest::collection::vec(log(), 1..80),
        queries in proptest::collection::vec((query(), 0..90u32, 0..90u32, 0..90usize), 24),
    ) {
        let parts = [log_rows(&logs[..logs.len() / 2], 1), log_rows(&logs[logs.len() / 2..], 1000)];
        let built = build(Table::Logs, 0, Level::L0, &parts, &small(), 0).expect("a block");
        let block = open(&built);
        let index = block.index().expect("an index");
        let n = block.n_rows();
        let stored = expected(Table::Logs, &parts);
        let rows = RowText::new(Table::Logs, &stored).expect("text");
        let mut ordinals = vec![0; n as usize];
        for number in 0..index.contexts().len() as u32 {
            for row in index.first(&IndexQuery::Contexts(vec![number]), 0..n, usize::MAX).expect("rows") {
                ordinals[row as usize] = number;
            }
        }
        for (query, a, b, k) in &queries {
            let range = *a.min(b)..*a.max(b);
            let wanted: Vec<u32> = (0..n).filter(|row| range.contains(row) && brute(query, &rows, *row as usize, ordinals[*row as usize])).collect();
            let bitmap = index.bitmap(query, range.clone()).expect("a bitmap");
            let found: Vec<u32> = bitmap.set_indices().map(|row| row as u32).collect();
            prop_assert_eq!(bitmap.len(), n as usize);
            if index.is_exact(query).expect("an answer") {
                prop_assert_eq!(&found, &wanted, "{:?} in {:?}", query, range);
            } else {
                prop_assert!(wanted.iter().all(|row| found.contains(row)), "{:?} in {:?}: {:?} has not all of {:?}", query, range, found, wanted);
                prop_assert!(found.iter().all(|row| range.contains(row)));
            }
            prop_assert_eq!(index.first(query, range.clone(), *k).expect("rows"), &found[..found.len().min(*k)]);
            prop_assert_eq!(index.count(query, range.clone()).expect("a count"), found.len() as u64);
            let whole = index.bitmap(query, 0..n).expect("a bitmap").count_set_bits() as u64;
            prop_assert_eq!(index.count(query, 0..n).expect("a count"), whole);
        }
        let keys = index.keys().expect("keys");
        for key in &keys {
            prop_assert!(!index.key_values(key).expect("values").is_empty() || key.len() >= 120 || key.starts_with('k'));
        }
    }
}

#[test]
fn a_pattern_over_too_many_terms_is_refused() {
    let logs: Vec<Log> = (0..MAX_TERMS + 10)
        .map(|i| Log {
            attributes: vec![("id".into(), format!("{i:x}"))],
            ..Log::default()
        })
        .collect();
    let settings = Settings {
        page_rows: 2048,
        row_group_rows: 1 << 20,
        chunk_rows: 1 << 14,
        ..Settings::default()
    };
    let built = build(Table::Logs, 0, Level::L0, &[log_rows(&logs, 1)], &settings, 0).expect("a block");
    let block = open(&built);
    let index = block.index().expect("an index");
    assert!(matches!(index.key_values("id"), Err(Error::TooManyTerms { .. })));
    assert!(matches!(
        index.count(&IndexQuery::KeyExists("id".into()), 0..5),
        Err(Error::TooManyTerms { .. })
    ));
    let some = IndexQuery::KeyPattern {
        key: "id".into(),
        pattern: "1f*".into(),
    };
    assert!(index.count(&some, 0..block.n_rows()).expect("a count") > 256);
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
        assert!(verify(&meta, &parquet, None).is_err());
        if let Ok(block) = Block::open(meta.clone(), parquet, None) {
            let _ = block.read(&[0, 7, 119], &[]);
            let _ = block.rows_in(&TimeRange::new(SECOND, 2 * SECOND + 5));
            let _ = block.scan(0..120, &[]).map(|scan| scan.take_while(|batch| batch.is_ok()).count());
        }
        let damaged = flip(&index, step * 104_729 % (index.len() * 8));
        assert!(verify(&meta, &built.parquet, Some(&damaged)).is_err());
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
                let _ = (index.keys(), index.key_values("n"), index.context_counts());
            }
        }
    }
}

#[test]
fn merged_blocks_hold_all_rows_once() {
    let (a, b) = (log_rows(&mixed_logs(90), 1), log_rows(&mixed_logs(70), 500));
    let block = |rows: &Rows| {
        Arc::new(open(
            &build(rows.table(), HOUR, Level::L0, std::slice::from_ref(rows), &small(), 0).expect("a block"),
        ))
    };
    let merged = merge(&[block(&a), block(&b)], Level::Sealed, HOUR, &small(), 5).expect("merged").expect("rows");
    assert_eq!((merged.meta.level, merged.meta.n_rows), (Level::Sealed, 160));
    assert_eq!((merged.meta.min_ingest_id, merged.meta.max_ingest_id), (1, 569));
    same(&scan_all(&open(&merged), 0..160), &expected(Table::Logs, &[a, b]));
    assert!(merge(&[], Level::Sealed, HOUR, &small(), 5).expect("nothing").is_none());
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
    let merged = merge(&blocks, Level::Sealed, 0, &small(), 0).expect("merged").expect("rows");
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
    let merged = merge(&[block(&later), block(&series)], Level::Sealed, 0, &small(), 0)
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
    assert_eq!(index.count_by_context(|context| context.service_name()).expect("counts")["s5"], 1);
}

// ---- the format, for ever

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format_v1").join(name)
}

fn fixture_rows(table: Table) -> Rows {
    match table {
        Table::Spans => span_rows(60, 100),
        _ => log_rows(&mixed_logs(100), 100),
    }
}

/// Writes the fixtures. They were made once, by the first release of format 1, and are never made again:
/// `cargo test --lib block::tests::write_format_v1 -- --ignored` into an empty folder.
#[test]
#[ignore = "writes the fixtures of a format that is fixed"]
fn write_format_v1() {
    std::fs::create_dir_all(fixture("")).expect("folder");
    for table in [Table::Logs, Table::Spans] {
        let built = build(table, 0, Level::Sealed, &[fixture_rows(table)], &small(), 0).expect("a block");
        let write = |suffix: &str, bytes: &[u8]| std::fs::write(fixture(&format!("{}.{suffix}", table.name())), bytes).expect("written");
        write("parquet", &built.parquet);
        write("idx", &built.index.clone().expect("an index"));
        write("json", &serde_json::to_vec_pretty(&built.meta).expect("json"));
    }
}

#[test]
fn blocks_of_format_1_open_for_ever() {
    for table in [Table::Logs, Table::Spans] {
        let read = |suffix: &str| std::fs::read(fixture(&format!("{}.{suffix}", table.name()))).expect("a fixture");
        let meta: BlockMeta = serde_json::from_slice(&read("json")).expect("a meta");
        let (parquet, index) = (Bytes::from(read("parquet")), Bytes::from(read("idx")));
        verify(&meta, &parquet, Some(&index)).expect("unharmed");
        let block = Block::open(Arc::new(meta), parquet, Some(index)).expect("a block");
        let rows = fixture_rows(table);
        // a column that came later is null here: compare those of then
        let stored = scan_all(&block, 0..block.n_rows());
        same(&stored, &expected(table, &[rows]));
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
