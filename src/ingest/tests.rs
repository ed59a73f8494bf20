//! The write path over stores that are slow, late or away, and clocks moved by hand.

mod bounds;
mod counts;
mod deletes;
mod format;
mod late;
mod lives;
mod lost_frames;
mod repeats;
mod retries;
mod rules;
mod states;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use super::maintain::made_nanos;
use super::*;
use crate::block::{Block, BlockMeta};
use crate::catalog::{NodeId, ORPHAN_AGE_NANOS, block_path};
use crate::decode::{self, Reason};
use crate::model::{ManualClock, Rows, Table, from_stored};
use crate::storage::faulty::{Fault, FaultyStore};
use crate::storage::{self, BucketStore, Key, Listed};
use crate::wal::Frame;
use arrow::array::AsArray;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// 2026-11-22T05:00:00Z
const START: i64 = 1_795_323_600 * SECOND;

/// A store that keeps a catalog record back when told to, as a network may, and counts the puts under way.
#[derive(Debug)]
struct SlowStore {
    inner: Arc<dyn Store>,
    keeps_records_back: AtomicBool,
    kept_back: Mutex<Option<(Key, Bytes)>>,
    puts_now: AtomicUsize,
    puts_at_once: AtomicUsize,
}

impl SlowStore {
    fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            keeps_records_back: AtomicBool::new(false),
            kept_back: Mutex::default(),
            puts_now: AtomicUsize::new(0),
            puts_at_once: AtomicUsize::new(0),
        })
    }
}

#[async_trait::async_trait]
impl Store for SlowStore {
    async fn put(&self, key: &Key, bytes: Bytes) -> storage::Result<()> {
        let now = self.puts_now.fetch_add(1, Ordering::SeqCst) + 1;
        self.puts_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.puts_now.fetch_sub(1, Ordering::SeqCst);
        self.inner.put(key, bytes).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> storage::Result<bool> {
        if self.keeps_records_back.load(Ordering::SeqCst) && key.as_str().starts_with("_catalog/log/") {
            *self.kept_back.lock() = Some((key.clone(), bytes));
            return std::future::pending().await;
        }
        self.inner.put_if_absent(key, bytes).await
    }
    async fn get(&self, key: &Key) -> storage::Result<Bytes> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> storage::Result<Bytes> {
        self.inner.get_range(key, range).await
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> storage::Result<Vec<Listed>> {
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> storage::Result<()> {
        self.inner.delete(key).await
    }
    fn local_path(&self, key: &Key) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(BucketStore::in_memory(""))
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START))
}

async fn open(dir: &Path, store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Ingest {
    open_with(Config::default(), dir, store, clock).await
}

async fn open_with(config: Config, dir: &Path, store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Ingest {
    open_on(wal::Config::default(), config, dir, store, clock).await
}

async fn open_on(wal: wal::Config, config: Config, dir: &Path, store: Arc<dyn Store>, clock: Arc<ManualClock>) -> Ingest {
    let node = NodeId::load_or_create(dir).expect("a node");
    let catalog = Catalog::open(store.clone(), node).await.expect("a catalog");
    Ingest::open(parts(wal, config, dir, store, catalog, clock)).await.expect("opens")
}

fn parts(wal: wal::Config, config: Config, dir: &Path, store: Arc<dyn Store>, catalog: Catalog, clock: Arc<ManualClock>) -> Parts {
    let cache = Cache::open(store.clone(), &dir.join("cache"), 64 << 20).expect("a cache");
    Parts {
        config,
        wal,
        block: block::Settings::default(),
        data_dir: dir.to_path_buf(),
        catalog: Arc::new(catalog),
        store,
        cache,
        finder: Arc::new(crate::query::SearchLanguage),
        rules: Arc::new(NoRules),
        clock,
    }
}

async fn send_body(ingest: &Ingest, kind: Kind, body: String) {
    let context = Context {
        received_at_nanos: ingest.clock().now_nanos(),
        retention_days: 0,
    };
    let decoded = decode::decode(kind, body.as_bytes(), &context).expect("decodes");
    ingest.accept(Received::plain(kind, context, body), decoded).await.expect("taken");
}

/// Sends one log record.
async fn send(ingest: &Ingest, text: &str, time_nanos: i64) {
    let record = serde_json::json!({"timeUnixNano": time_nanos.to_string(), "body": {"stringValue": text}});
    let body = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]});
    send_body(ingest, Kind::OtlpLogsJson, body.to_string()).await;
}

async fn block_rows(store: &dyn Store, meta: &Arc<BlockMeta>) -> Vec<Rows> {
    let parquet = store.get(&block_path(meta).data()).await.expect("a live block is there");
    let block = Block::open(meta.clone(), parquet, None).expect("opens");
    let visible: Vec<u32> = block.visible(0..block.n_rows()).set_indices().map(|row| row as u32).collect();
    let batch = block.read(&visible, &[]).expect("reads");
    vec![from_stored(meta.table, &batch).expect("rows")]
}

/// All rows of a table that a query sees: the head's and the blocks'.
async fn seen(ingest: &Ingest, store: &dyn Store, table: Table) -> Vec<Rows> {
    let view = ingest.view();
    let mut rows: Vec<Rows> = view.head.iter().filter(|rows| rows.table() == table).cloned().collect();
    for meta in view.snapshot.blocks(table) {
        rows.extend(block_rows(store, meta).await);
    }
    rows
}

fn texts(rows: &[Rows], column: &str) -> Vec<String> {
    let of = |rows: &Rows| -> Vec<String> {
        let column = rows.batch().column_by_name(column).expect("a column").as_string::<i32>();
        column.iter().map(|text| text.unwrap_or_default().to_string()).collect()
    };
    let mut all: Vec<String> = rows.iter().flat_map(of).collect();
    all.sort();
    all
}

fn numbered(range: Range<usize>) -> Vec<String> {
    range.map(|n| format!("line {n:03}")).collect()
}

/// What lies on the disk at this moment is what a crash leaves. A file that goes or gets its name meanwhile makes it another moment.
fn copy(from: &Path, to: &Path) {
    fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                std::fs::create_dir(&target)?;
                try_copy(&entry.path(), &target)?;
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    }
    for _ in 0..100 {
        match try_copy(from, to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::remove_dir_all(to).and_then(|()| std::fs::create_dir(to)).expect("emptied");
            }
            result => return result.expect("copied"),
        }
    }
    panic!("{} does not come to rest", from.display());
}

/// A first life ends with its catalog record on the way; the second has replayed and joined its rows with new ones
/// when the record lands. `told`: whether the second life hears of it before its own flush.
async fn a_record_lands_late(told: bool) {
    let (inner, clock) = (memory(), clock());
    let slow = SlowStore::new(inner.clone());
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path(), slow.clone(), clock.clone()).await;
    for text in numbered(0..40) {
        send(&first, &text, START).await;
    }
    slow.keeps_records_back.store(true, Ordering::SeqCst);
    let flush = tokio::spawn(async move { first.flush().await });
    let (key, record) = loop {
        if let Some(kept) = slow.kept_back.lock().take() {
            break kept;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());
    flush.abort();

    let second = open(image.path(), inner.clone(), clock).await;
    assert_eq!(second.status().replay.rows, 40);
    for text in numbered(40..80) {
        send(&second, &text, START).await;
    }
    assert!(second.view().head.len() < 40, "old and new rows were joined");
    assert!(inner.put_if_absent(&key, record).await.expect("lands"));
    if told {
        second.catalog().refresh().await.expect("reads");
        let rows = seen(&second, &*inner, Table::Logs).await;
        assert_eq!(texts(&rows, "body"), numbered(0..80), "before the flush");
    }
    second.flush().await;
    let view = second.view();
    assert_eq!(view.head.len(), 0);
    assert_eq!(view.snapshot.flushed_lsn(second.catalog().node()), 80);
    let rows = seen(&second, &*inner, Table::Logs).await;
    assert_eq!(texts(&rows, "body"), numbered(0..80), "after it");
    assert_eq!(second.status().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_record_that_lands_after_the_replay_doubles_nothing() {
    a_record_lands_late(true).await;
    a_record_lands_late(false).await;
}

#[tokio::test]
async fn a_flush_older_than_the_sweep_allows_is_made_anew_under_new_names() {
    let (inner, clock) = (memory(), clock());
    let faulty = FaultyStore::new(inner.clone());
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), faulty.clone(), clock.clone()).await;
    send(&ingest, "a", START).await;
    // the catalog's records do not get through for 28 hours
    let (mut tries, hands) = (0, clock.clone());
    faulty.choose(move |key| {
        if !key.as_str().starts_with("_catalog/log/") || tries == 4 {
            return None;
        }
        tries += 1;
        hands.advance(7 * HOUR);
        Some(Fault::Before)
    });
    ingest.flush().await;
    let now_nanos = clock.now_nanos();
    assert_eq!(now_nanos, START + 28 * HOUR);
    let snapshot = ingest.view().snapshot;
    let live: Vec<_> = snapshot.all_blocks().collect();
    assert_eq!(live.len(), 1);
    assert!(now_nanos - made_nanos(&live[0].id) <= ORPHAN_AGE_NANOS / 2, "its objects are young enough");
    // the sweep may take all that was put more than half an orphan's age ago
    for object in inner.list("", None).await.expect("lists") {
        let is_old = storage::paths::BlockPath::parse(&object.key).is_some_and(|(path, _)| path.block_id != live[0].id.as_str());
        if is_old {
            inner.delete(&object.key).await.expect("deleted");
        }
    }
    assert_eq!(texts(&seen(&ingest, &*inner, Table::Logs).await, "body"), ["a"]);
}

#[tokio::test]
async fn the_blocks_of_one_flush_are_put_several_at_a_time_and_not_all() {
    let slow = SlowStore::new(memory());
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), slow.clone(), clock()).await;
    for hour in 0..30 {
        send(&ingest, "x", START - hour * HOUR).await;
    }
    ingest.flush().await;
    assert_eq!(ingest.view().snapshot.blocks(Table::Logs).len(), 30);
    let at_once = slow.puts_at_once.load(Ordering::SeqCst);
    assert!((2..=8).contains(&at_once), "{at_once} puts at once");
}

#[tokio::test]
async fn a_client_ahead_of_the_blocks_waits_for_them_but_not_for_a_store_that_is_away() {
    let (store, dir) = (FaultyStore::new(memory()), tempfile::tempdir().expect("a directory"));
    let config = Config {
        pace_bytes: 1,
        ..Config::default()
    };
    let ingest = open_with(config, dir.path(), store.clone(), clock()).await;
    send(&ingest, "line 000", START).await;
    let (ahead, text) = (ingest.clone(), "line 001");
    let waiting = tokio::spawn(async move { send(&ahead, text, START).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished() && ingest.status().head_rows == 1, "rows wait for a block");
    ingest.flush().await;
    waiting.await.expect("taken");
    assert_eq!(ingest.status().head_rows, 1);

    store.stop_after(0);
    let (ahead, text) = (ingest.clone(), "line 002");
    let waiting = tokio::spawn(async move { send(&ahead, text, START).await });
    let in_vain = ingest.clone();
    let flush = tokio::spawn(async move { in_vain.flush().await });
    waiting.await.expect("taken while the store is away");
    assert_eq!(ingest.status().head_rows, 2);
    store.heal();
    flush.await.expect("flushed");
}

#[tokio::test]
async fn what_a_request_rejected_is_counted_again_after_a_crash() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let first = open(dir.path(), store.clone(), clock()).await;
    let records = [START, START - 40 * 24 * HOUR].map(|time| serde_json::json!({"timeUnixNano": time.to_string(), "body": {"stringValue": "x"}}));
    let body = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).to_string();
    let context = Context {
        received_at_nanos: START,
        retention_days: 30,
    };
    let decoded = decode::decode(Kind::OtlpLogsJson, body.as_bytes(), &context).expect("decodes");
    first
        .accept(Received::plain(Kind::OtlpLogsJson, context, body.clone()), decoded)
        .await
        .expect("taken");
    let counted = |ingest: &Ingest| {
        ingest
            .ledger()
            .sums()
            .iter()
            .map(|(_, _, sums)| (sums.accepted, sums.rejected))
            .collect::<Vec<_>>()
    };
    assert_eq!(counted(&first), [(1, 1)]);
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());
    let second = open(image.path(), store, clock()).await;
    assert_eq!(counted(&second), [(1, 1)]);
}

#[tokio::test]
async fn a_frame_that_cannot_be_decoded_is_kept_when_the_log_is_cut() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let (wal, _) = Wal::open(&dir.path().join("wal"), &wal::Config::default(), 0).expect("a log");
    let from_the_future = Frame {
        kind: 99,
        flags: 0,
        source: 0,
        received_at_nanos: START,
        payload: Bytes::from_static(b"of a newer program"),
    };
    for _ in 0..2 {
        wal.append(from_the_future.clone()).await.expect("taken");
    }
    wal.close().await;
    drop(wal);
    let ingest = open(dir.path(), store, clock()).await;
    assert_eq!(ingest.status().replay.undecodable_frames, 2);
    assert_eq!(ingest.status().problems, Vec::<String>::new(), "it takes records all the same");
    send(&ingest, "line 000", START).await;
    ingest.flush().await;
    let kept: Vec<_> = std::fs::read_dir(dir.path().join("wal/quarantine")).expect("a folder").collect();
    let [Ok(kept)] = &kept[..] else { panic!("{kept:?}") };
    let bytes = std::fs::read(kept.path()).expect("a copy");
    let n_found = bytes.windows(18).filter(|window| window == b"of a newer program").count();
    assert_eq!(n_found, 2);
}

#[tokio::test]
async fn a_document_that_a_later_frame_has_set_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), memory(), clock()).await;
    let set = |lsn: Lsn, value: &'static str| ingest.inner.publish_state(lsn, "group/a".into(), Some(Bytes::from_static(value.as_bytes())));
    set(5, "30 days");
    set(4, "7 days");
    assert_eq!(ingest.states("group/"), [("group/a".to_string(), Bytes::from_static(b"30 days"))]);
    set(6, "60 days");
    assert_eq!(ingest.states("group/")[0].1, "60 days");
}

#[tokio::test]
async fn a_log_that_fills_without_rows_is_flushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let small = wal::Config {
        max_bytes: 64 << 10,
        ..wal::Config::default()
    };
    let ingest = open_on(small, Config::default(), dir.path(), memory(), clock()).await;
    let document = Bytes::from(vec![b'x'; 10 << 10]);
    for n in 0..3 {
        ingest.put_state("group/a", Some(document.clone())).await.expect("taken");
        assert!(!ingest.is_flush_due(), "{n}");
    }
    ingest.put_state("group/a", Some(document.clone())).await.expect("taken");
    assert!(ingest.is_flush_due());
    ingest.flush().await;
    assert!(!ingest.is_flush_due());
    assert_eq!(ingest.status().wal.waiting_bytes, 0);
}

#[tokio::test]
async fn a_note_of_lost_spans_that_cannot_be_read_is_told_once_and_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), memory(), clock()).await;
    let told = || metrics::UNREADABLE_NOTES.get();
    let before = told();
    for key in ["erased/flush/0/0", "erased/flush/0/1"] {
        ingest.put_state(key, Some(Bytes::from_static(b"torn"))).await.expect("taken");
    }
    for _ in 0..3 {
        assert_eq!(ingest.lost(), []);
    }
    assert_eq!((told() - before, ingest.states("erased/").len()), (2, 2));
}

#[tokio::test]
async fn an_orderly_stop_keeps_the_ledger_even_without_new_rows() {
    let (inner, clock) = (memory(), clock());
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path(), inner.clone(), clock.clone()).await;
    send(&first, "a", START).await;
    first.flush().await;
    first.ledger().rejected("otlp", Signal::Logs, Reason::Malformed, 7);
    first.put_state_relaxed("stream/s", Bytes::from_static(b"later"));
    first.drain(Duration::from_secs(60)).await;
    let before = first.catalog().snapshot();
    drop(first);

    let second = open(dir.path(), inner.clone(), clock.clone()).await;
    let sums = second.ledger().sums();
    assert_eq!((sums[0].2.accepted, sums[0].2.rejected), (1, 7));
    assert_eq!(second.states("stream/"), [("stream/s".to_string(), Bytes::from_static(b"later"))]);
    second.drain(Duration::from_secs(60)).await;
    let after = second.catalog().snapshot();
    assert_eq!(after.seq(), before.seq() + 2, "nothing is committed but that it came and left");
    let state = |snapshot: &crate::catalog::Snapshot| snapshot.state(second.catalog().node()).cloned();
    assert!(state(&after) == state(&before) && state(&after).is_some(), "nothing has changed");
}

#[tokio::test]
async fn documents_beyond_one_batch_are_all_stored() {
    let (inner, clock) = (memory(), clock());
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path(), inner.clone(), clock.clone()).await;
    for n in 0..10_000 {
        first.put_state_relaxed(&format!("stream/\"{n:05}\u{0}"), Bytes::from(format!("{n}")));
    }
    first.drain(Duration::from_secs(60)).await;
    let states = first.states("stream/");
    drop(first);
    let second = open(dir.path(), inner, clock).await;
    assert_eq!(states.len(), 10_000);
    assert_eq!(second.states("stream/"), states);
}

#[tokio::test]
async fn a_stop_while_the_store_is_away_takes_no_longer_than_it_may() {
    let faulty = FaultyStore::new(memory());
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), faulty.clone(), clock()).await;
    send(&ingest, "a", START).await;
    faulty.choose(|_| Some(Fault::Before));
    let drained = tokio::time::timeout(Duration::from_secs(60), ingest.drain(Duration::from_millis(50)));
    drained.await.expect("ends");
    assert_eq!(ingest.status().head_rows, 1, "the row still waits");
}

/// An X-Ray document.
fn segment(id: u8, in_progress: bool) -> String {
    let seconds = START / SECOND;
    let end = if in_progress {
        r#""in_progress":true"#.to_string()
    } else {
        format!(r#""end_time":{seconds}.5"#)
    };
    let text = format!(r#"{{"name":"n","id":"{id:016x}","trace_id":"1-{seconds:08x}-000000000000000000000001","start_time":{seconds},{end}}}"#);
    serde_json::to_string(&[text]).expect("JSON")
}

#[tokio::test]
async fn a_span_completed_before_its_flush_stands_once_whatever_came_first() {
    let inner = memory();
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), inner.clone(), clock()).await;
    for (id, in_progress) in [(1, true), (2, false), (3, true), (1, false), (2, true)] {
        send_body(&ingest, Kind::XraySegments, segment(id, in_progress)).await;
    }
    let ids = [1, 2, 3].map(|id| format!("{id:016x}"));
    let in_head = texts(&seen(&ingest, &*inner, Table::Spans).await, "span_id");
    assert_eq!(
        in_head,
        [&ids[0], &ids[1], &ids[1], &ids[2]].map(String::clone),
        "a beat that comes late is told by the flush"
    );
    ingest.flush().await;
    let rows = seen(&ingest, &*inner, Table::Spans).await;
    assert_eq!(texts(&rows, "span_id"), ids);
    let in_progress: usize = rows
        .iter()
        .map(|rows| rows.batch().column_by_name("in_progress").expect("a column").as_boolean().true_count())
        .sum();
    assert_eq!(in_progress, 1, "the one that is not completed");
}

#[tokio::test]
async fn a_span_completed_after_its_flush_stands_once_from_the_next_flush_on() {
    let inner = memory();
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), inner.clone(), clock()).await;
    let spans = async |ingest: &Ingest| {
        let rows = seen(ingest, &*inner, Table::Spans).await;
        let in_progress = |rows: &Rows| rows.batch().column_by_name("in_progress").expect("a column").as_boolean().true_count();
        (rows.iter().map(Rows::len).sum::<usize>(), rows.iter().map(in_progress).sum::<usize>())
    };
    for id in 1..=4 {
        send_body(&ingest, Kind::XraySegments, segment(id, true)).await;
    }
    ingest.flush().await;
    assert_eq!(ingest.view().snapshot.blocks(Table::Spans)[0].n_in_progress, 4);
    // 1 is completed, 2 beats again, and 5 has nothing to do with them
    for (id, in_progress) in [(1, false), (2, true), (5, false)] {
        send_body(&ingest, Kind::XraySegments, segment(id, in_progress)).await;
    }
    ingest.flush().await;
    assert_eq!(spans(&ingest).await, (5, 3));
    // the beat is replaced in its turn; a restart knows what is hidden
    drop(ingest);
    let ingest = open(dir.path(), inner.clone(), clock()).await;
    assert_eq!(spans(&ingest).await, (5, 3));
    for id in [2, 3] {
        send_body(&ingest, Kind::XraySegments, segment(id, false)).await;
    }
    ingest.flush().await;
    assert_eq!(spans(&ingest).await, (5, 1));
    let hidden: usize = ingest.view().snapshot.blocks(Table::Spans).iter().map(|meta| meta.hidden.len()).sum();
    assert_eq!(hidden, 4);
    assert_eq!(ingest.status().problems, Vec::<String>::new());
}

fn delete_request(query: &str) -> DeleteRequest {
    DeleteRequest {
        table: Table::Logs,
        query: query.into(),
        range: crate::model::TimeRange::ALL,
    }
}

#[tokio::test]
async fn a_delete_takes_what_was_acknowledged_before_it_from_the_head_and_nothing_later() {
    let (inner, clock) = (memory(), clock());
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), inner.clone(), clock.clone()).await;
    for text in ["keep 1", "alice 1", "alice 2"] {
        send(&ingest, text, START).await;
    }
    let refused = ingest.delete(&delete_request("body:\"open")).await;
    assert!(matches!(refused, Err(DeleteError::Query(_))), "{refused:?}");
    let id = ingest.delete(&delete_request("alice")).await.expect("taken");
    send(&ingest, "alice later", START).await;
    assert!(ingest.inner.is_delete_waiting());
    // a crash before the flush: the log brings the rows back, and the flush still leaves them out
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());
    drop(ingest);
    let second = open(image.path(), inner.clone(), clock).await;
    assert_eq!(second.status().replay.rows, 4);
    assert!(second.inner.is_delete_waiting());
    second.flush().await;
    let rows = seen(&second, &*inner, Table::Logs).await;
    assert_eq!(texts(&rows, "body"), ["alice later", "keep 1"]);
    let snapshot = second.catalog().snapshot();
    let delete = &snapshot.deletes()[&id];
    assert_eq!((delete.n_rows, delete.ended_at_nanos.is_some()), (2, true));
    assert!(!second.inner.is_delete_waiting());
    // nothing of it is done twice
    drop(second);
    let third = open(image.path(), inner.clone(), self::clock()).await;
    assert_eq!(third.status().replay.rows, 0);
    assert_eq!(texts(&seen(&third, &*inner, Table::Logs).await, "body"), ["alice later", "keep 1"]);
    assert_eq!(third.ledger().sums()[0].2.accepted, 4);
}

#[tokio::test]
async fn another_node_leaves_out_what_it_had_acknowledged_by_the_time_of_the_order() {
    let (inner, clock) = (memory(), clock());
    let (dir, other_dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let one = open(dir.path(), inner.clone(), clock.clone()).await;
    let two = open(other_dir.path(), inner.clone(), clock.clone()).await;
    send(&two, "alice before", START).await;
    send(&two, "keep", START).await;
    two.inner.note_position();
    clock.advance(SECOND);
    two.inner.note_position();
    let id = one.delete(&delete_request("alice")).await.expect("taken");
    clock.advance(SECOND);
    // it has not heard of the delete yet
    send(&two, "alice after", START).await;
    two.inner.note_position();
    two.flush().await;
    assert_eq!(two.status().problems, Vec::<String>::new());
    let rows = seen(&two, &*inner, Table::Logs).await;
    assert_eq!(texts(&rows, "body"), ["alice after", "keep"]);
    let snapshot = one.catalog().refresh().await.expect("reads");
    assert_eq!((snapshot.deletes()[&id].n_rows, snapshot.deletes()[&id].ended_at_nanos.is_some()), (1, true));
}

#[tokio::test]
async fn a_node_without_rows_tells_that_it_knows_of_a_delete() {
    let (inner, clock) = (memory(), clock());
    let (dir, other_dir) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let one = open(dir.path(), inner.clone(), clock.clone()).await;
    let two = open(other_dir.path(), inner.clone(), clock.clone()).await;
    send(&two, "x", START).await;
    two.flush().await;
    let id = one.delete(&delete_request("x")).await.expect("taken");
    two.catalog().refresh().await.expect("reads");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { two.run(async { drop(stopped.await) }).await });
    while one.catalog().refresh().await.expect("reads").deletes()[&id].cuts.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stop);
    running.await.expect("ends");
    let snapshot = one.catalog().snapshot();
    assert_eq!(snapshot.nodes_behind(&snapshot.deletes()[&id]).count(), 0);
    assert_eq!(snapshot.deletes()[&id].todo.len(), 1, "the block is the maintainer's");
}

#[tokio::test]
async fn with_everything_in_the_lake_a_crash_in_mid_flush_shows_no_row_twice() {
    let config = || Config {
        lake_visible: LakeVisible::All,
        ..Config::default()
    };
    for n_writes in 0.. {
        let (inner, clock) = (memory(), clock());
        let faulty = FaultyStore::new(inner.clone());
        let dir = tempfile::tempdir().expect("a directory");
        let first = open_with(config(), dir.path(), faulty.clone(), clock.clone()).await;
        send(&first, "a", START).await;
        send(&first, "b", START + HOUR).await;
        faulty.stop_after(n_writes);
        let flushing = tokio::spawn({
            let first = first.clone();
            async move { first.flush().await }
        });
        while !flushing.is_finished() && !faulty.has_stopped() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let went_through = flushing.is_finished();
        flushing.abort();
        let image = tempfile::tempdir().expect("a directory");
        copy(dir.path(), image.path());

        faulty.heal();
        let second = open_with(config(), image.path(), inner.clone(), clock).await;
        second.flush().await;
        assert_eq!(texts(&seen(&second, &*inner, Table::Logs).await, "body"), ["a", "b"], "after {n_writes} writes");
        let listed = inner.list("", None).await.expect("lists");
        let in_the_lake = listed.iter().filter_map(|object| storage::paths::BlockPath::parse(&object.key));
        let n_files = in_the_lake.filter(|(_, part)| *part == storage::paths::Part::Data).count();
        assert_eq!(n_files, 2, "after {n_writes} writes");
        assert!(second.catalog().snapshot().intents().is_empty());
        if went_through {
            // intent, two blocks of two objects, state, record
            assert!(n_writes >= 7, "{n_writes}");
            return;
        }
    }
}
