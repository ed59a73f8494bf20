//! The engine over rows in the head, in blocks with an index and in blocks without.

mod anchors;
mod bounds;
mod cold;
mod counts;
mod differential;
mod hidden;
mod insights;
mod log_patterns;
mod paging;
mod patterns;
mod pushdown;
mod semantics;
mod sql;
mod stops;
mod traces;
mod walks;
mod xray;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::*;
use crate::block::{self, BlockMeta, Level};
use crate::catalog::{Catalog, Commit, CommitKind, NodeId, block_path};
use crate::model::{
    Batch, Context, ContextBuilder, LogRecord, LogsBuilder, ManualClock, Rows, SpanId, SpanRecord, SpansBuilder, Table, TimeRange, TraceId, Value,
};
use crate::storage::{BucketStore, Cache, LocalStore, Store};

/// 2026-11-22T05:00:00Z.
pub(super) const T0: i64 = 1_795_323_600_000_000_000;
pub(super) const SECOND: i64 = 1_000_000_000;

/// A view that a test sets.
#[derive(Debug)]
struct Fixed {
    view: Mutex<View>,
    /// What it shows before, and how often.
    stale: Mutex<Option<(View, usize)>>,
    batches: broadcast::Sender<Arc<Batch>>,
}

impl Source for Fixed {
    fn view(&self) -> View {
        let mut stale = self.stale.lock();
        if let Some((view, times)) = stale.as_mut().filter(|(_, times)| *times > 0) {
            *times -= 1;
            return view.clone();
        }
        self.view.lock().clone()
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.batches.subscribe()
    }
}

/// An engine over a store in a temporary folder.
pub(super) struct Lake {
    pub(super) engine: Engine,
    source: Arc<Fixed>,
    store: Arc<dyn Store>,
    catalog: Catalog,
    pub(super) folder: tempfile::TempDir,
}

impl Lake {
    pub(super) async fn new() -> Lake {
        Lake::with_config(Config::default()).await
    }

    pub(super) async fn with_config(config: Config) -> Lake {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Arc::new(LocalStore::open(&folder.path().join("store")).expect("a store"));
        Lake::over(store, folder, config).await
    }

    /// An engine over a bucket of which nothing is here: all that is read is fetched, piece by piece.
    pub(super) async fn far() -> Lake {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Lake::over(Arc::new(BucketStore::in_memory("")), folder, Config::default()).await
    }

    /// An engine over any store.
    pub(super) async fn over(store: Arc<dyn Store>, folder: tempfile::TempDir, config: Config) -> Lake {
        let cache = Cache::open(store.clone(), &folder.path().join("cache"), 1 << 30).expect("a cache");
        let node = NodeId::load_or_create(folder.path()).expect("a node");
        let catalog = Catalog::open(store.clone(), node).await.expect("a catalog");
        let view = View {
            head: Arc::from([]),
            snapshot: catalog.snapshot(),
            lost: Arc::default(),
        };
        let source = Arc::new(Fixed {
            view: Mutex::new(view),
            stale: Mutex::new(None),
            batches: broadcast::channel(16).0,
        });
        let clock = Arc::new(ManualClock::new(T0 + 3_600 * SECOND));
        let engine = Engine::new(source.clone(), cache, config, clock);
        Lake {
            engine,
            source,
            store,
            catalog,
            folder,
        }
    }

    /// Puts rows into the head, one part each.
    pub(super) fn head(&self, parts: Vec<Rows>) {
        self.source.view.lock().head = parts.into();
    }

    /// Lets frames of the log be lost that held records of the first second.
    pub(super) fn lose_frames(&self) {
        let lost = crate::ingest::LostFrames {
            node: None,
            first_lsn: 5,
            last_lsn: 6,
            frames: 2,
            received_from_nanos: Some(T0),
            received_to_nanos: T0 + SECOND,
            events: (T0, T0 + SECOND),
            why: "damaged or missing".into(),
            copy: String::new(),
        };
        self.source.view.lock().lost = Arc::from([lost]);
    }

    /// Acknowledges a batch to whoever watches.
    pub(super) fn publish(&self, rows: Rows) {
        let _ = self.source.batches.send(Arc::new(Batch { rows: vec![rows] }));
    }

    /// Makes blocks with an index of rows of any hours.
    pub(super) async fn block_of(&self, parts: &[Rows]) {
        let mut of_hour: std::collections::BTreeMap<i64, Vec<Rows>> = std::collections::BTreeMap::new();
        for rows in parts {
            let (first, _) = rows.time_bounds().expect("rows");
            of_hour.entry(first.div_euclid(3_600 * SECOND)).or_default().push(rows.clone());
        }
        for parts in of_hour.into_values() {
            let rows = Rows::concat(parts[0].table(), &parts).expect("rows");
            self.block(&rows, true).await;
        }
    }

    /// Makes a block of rows.
    pub(super) async fn block(&self, rows: &Rows, index: bool) -> BlockMeta {
        let (first, _) = rows.time_bounds().expect("rows");
        let length = if rows.table().is_hourly() { 3_600 } else { 86_400 } * SECOND;
        let settings = block::Settings {
            index,
            ..block::Settings::default()
        };
        let built = block::build(
            rows.table(),
            first.div_euclid(length) * length,
            Level::L0,
            std::slice::from_ref(rows),
            &settings,
            T0,
        )
        .expect("a block");
        assert_eq!(built.meta.has_index(), index && rows.table().is_searchable());
        let path = block_path(&built.meta);
        self.store.put(&path.data(), built.parquet).await.expect("put");
        if let Some(bytes) = built.index {
            self.store.put(&path.index(), bytes).await.expect("put");
        }
        let mut commit = Commit::new(CommitKind::Flush, T0);
        commit.adds.push(built.meta.clone());
        let snapshot = self.catalog.commit(commit).await.expect("commit");
        self.source.view.lock().snapshot = snapshot;
        built.meta
    }

    /// Lets one block of rows take the place of another, whose objects go at once; so many views do not know it yet.
    pub(super) async fn replace(&self, old: &BlockMeta, rows: &Rows, stale_views: usize) {
        let before = self.source.view.lock().clone();
        let new = self.block(rows, true).await;
        let mut commit = Commit::new(CommitKind::Merge, T0);
        commit.removes.push(old.id.clone());
        let snapshot = self.catalog.commit(commit).await.expect("commit");
        assert!(snapshot.block(new.table, &new.id).is_some());
        self.source.view.lock().snapshot = snapshot;
        *self.source.stale.lock() = Some((before, stale_views));
        let path = block_path(old);
        for key in [path.data(), path.index()] {
            self.store.delete(&key).await.expect("delete");
        }
    }

    /// IDs of all rows that match, in the order of the answer.
    pub(super) async fn find(&self, table: Table, query: &str) -> Vec<String> {
        let query = parse(query, table).unwrap_or_else(|error| panic!("{query}: {error}"));
        self.find_query(table, query).await
    }

    pub(super) async fn find_query(&self, table: Table, query: Query) -> Vec<String> {
        let request = SearchRequest {
            table,
            query,
            range: TimeRange::ALL,
            limit: 10_000,
            cursor: None,
            order: Order::NewestFirst,
        };
        let answer = self.engine.search(&request).await.expect("an answer");
        assert!(answer.coverage.complete, "{:?}", answer.coverage);
        assert_eq!(answer.coverage.problems, []);
        assert_eq!(answer.next_cursor, None);
        answer.hits.iter().map(id_of).collect()
    }
}

/// The `id` that the fixtures give each row.
pub(super) fn id_of(hit: &Hit) -> String {
    let attribute = hit.attributes().iter().find(|(key, _)| key == "test.id").map(|(_, value)| value.clone());
    attribute.unwrap_or_else(|| hit.ingest_id().to_string())
}

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/query/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn with_value(value: &serde_json::Value, mut use_it: impl FnMut(Value<'_>)) {
    match value {
        serde_json::Value::String(text) => use_it(Value::Str(text)),
        serde_json::Value::Bool(flag) => use_it(Value::Bool(*flag)),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => use_it(Value::Int(whole)),
            None => use_it(Value::Double(number.as_f64().expect("a double"))),
        },
        other => use_it(Value::Json(&other.to_string())),
    }
}

fn context_of(record: &serde_json::Value) -> Arc<Context> {
    let mut builder = ContextBuilder::new();
    if let Some(service) = record["service"].as_str() {
        builder.attribute("service.name", Value::Str(service));
    }
    for (key, value) in record["resource"].as_object().into_iter().flatten() {
        with_value(value, |value| {
            builder.attribute(key, value);
        });
    }
    if let Some([name, version]) = record["scope"].as_array().map(Vec::as_slice) {
        builder.scope(name.as_str().expect("a name"), version.as_str().expect("a version"));
    }
    builder.build()
}

/// The rows of `logs.jsonl`, a second apart, oldest first.
pub(super) fn fixture_logs() -> Rows {
    let mut builder = LogsBuilder::default();
    for (number, line) in fixture("logs.jsonl").lines().enumerate() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let context = builder.context(context_of(&record));
        builder.attribute("test.id", Value::Str(record["id"].as_str().expect("an id")));
        for (key, value) in record["attributes"].as_object().into_iter().flatten() {
            with_value(value, |value| builder.attribute(key, value));
        }
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + number as i64 * SECOND,
                body: record["body"].as_str(),
                severity_number: record["severity"].as_i64().unwrap_or_default() as i32,
                severity_text: record["severity_text"].as_str(),
                event_name: record["event_name"].as_str(),
                trace_id: record["trace_id"].as_str().and_then(TraceId::from_hex),
                span_id: record["span_id"].as_str().and_then(SpanId::from_hex),
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

/// A span ID of a fixture's ID.
pub(super) fn span_id(id: &str) -> SpanId {
    let mut bytes = [7u8; 8];
    bytes[..id.len()].copy_from_slice(id.as_bytes());
    SpanId::from_bytes(&bytes).expect("not zero")
}

/// The rows of `spans.jsonl`, a second apart.
pub(super) fn fixture_spans() -> Rows {
    let mut builder = SpansBuilder::default();
    for (number, line) in fixture("spans.jsonl").lines().enumerate() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = |key: &str| record[key].as_str();
        let context = builder.context(context_of(&record));
        builder.attribute("test.id", Value::Str(text("id").expect("an id")));
        for (key, value) in record["attributes"].as_object().into_iter().flatten() {
            with_value(value, |value| builder.attribute(key, value));
        }
        let start = T0 + number as i64 * SECOND;
        for event in record["events"].as_array().into_iter().flatten() {
            for (key, value) in event.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
                with_value(value, |value| builder.event_attribute(key, value));
            }
            let name = event["name"].as_str().expect("a name");
            builder.event(&crate::model::SpanEvent { time_unix_nano: start, name });
        }
        let known = |list: &[&'static str], key: &str| list.iter().find(|word| Some(**word) == text(key)).copied().expect("a known word");
        builder.push(
            context,
            &SpanRecord {
                start_time_unix_nano: start,
                end_time_unix_nano: text("duration").map(|d| start + crate::model::parse_duration_nanos(d).expect("a duration")),
                trace_id: TraceId::from_bytes(&[5; 16]).expect("not zero"),
                span_id: span_id(text("id").expect("an id")),
                parent_span_id: text("parent").map(span_id),
                trace_state: None,
                trace_flags: None,
                name: text("name").expect("a name"),
                kind: known(&crate::model::SPAN_KINDS, "kind"),
                status_code: known(&crate::model::STATUS_CODES, "status"),
                status_message: text("message"),
                in_progress: record["in_progress"].as_bool().unwrap_or_default(),
                dropped_attributes_count: 0,
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1_000)
}
