//! What a query takes from a bucket of which this machine has no copy, and what it says when that is damaged or away.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::storage::{BucketStore, Error as StoreError, ErrorKind as StoreErrorKind, Key, Listed, Result};

/// A bucket that counts what is read of it.
#[derive(Debug)]
struct Counting {
    inner: BucketStore,
    gets: AtomicU64,
    bytes: AtomicU64,
    under_way: AtomicU64,
    most_at_once: AtomicU64,
    is_away: AtomicBool,
}

impl Counting {
    fn new() -> Arc<Counting> {
        Arc::new(Counting {
            inner: BucketStore::in_memory(""),
            gets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
        })
    }

    fn counted(&self) -> (u64, u64) {
        (self.gets.load(Ordering::SeqCst), self.bytes.load(Ordering::SeqCst))
    }

    /// Flips a bit of an object.
    async fn damage(&self, key: &Key, at: u64) {
        let mut bytes = self.inner.get(key).await.expect("there").to_vec();
        bytes[at as usize] ^= 1;
        self.inner.put(key, bytes.into()).await.expect("put");
    }
}

#[async_trait::async_trait]
impl Store for Counting {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.inner.put(key, bytes).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.inner.put_if_absent(key, bytes).await
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(range.end - range.start, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        // a bucket is not quick: whoever else wants something asks meanwhile
        tokio::time::sleep(Duration::from_millis(20)).await;
        let read = match self.is_away.load(Ordering::SeqCst) {
            true => Err(StoreError::new(StoreErrorKind::Unreachable, "read", key.as_str(), "on purpose")),
            false => self.inner.get_range(key, range).await,
        };
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        read
    }
    async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<Listed>> {
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    fn local_path(&self, _: &Key) -> Option<PathBuf> {
        None
    }
    fn url(&self) -> &str {
        "memory:"
    }
}

async fn search(lake: &Lake, query: &str, limit: usize) -> Coverage {
    let request = SearchRequest {
        table: Table::Logs,
        query: parse(query, Table::Logs).expect("a query"),
        range: TimeRange::ALL,
        limit,
        cursor: None,
        order: Order::NewestFirst,
    };
    let coverage = lake.engine.search(&request).await.expect("an answer").coverage;
    assert!(coverage.complete, "{coverage:?}");
    coverage
}

/// A lake of the same bucket, of which nothing is here.
async fn anew(store: &Arc<Counting>) -> Lake {
    Lake::over(store.clone(), tempfile::tempdir().expect("a temporary folder"), Config::default()).await
}

/// Twelve blocks in a row, eight of them with an index; and the bytes of all their objects.
async fn cold_lake(store: &Arc<Counting>) -> (Lake, u64) {
    let lake = Lake::over(store.clone(), tempfile::tempdir().expect("a temporary folder"), Config::default()).await;
    let rows = fixture_logs();
    let piece = rows.len() / 12;
    let mut bytes = 0;
    for number in 0..12 {
        let meta = lake.block(&rows.slice(number * piece, piece), number % 3 > 0).await;
        bytes += meta.parquet_bytes + meta.index_bytes;
    }
    (lake, bytes)
}

#[tokio::test]
async fn a_cold_search_takes_no_more_than_it_reads_and_several_blocks_at_a_time() {
    let store = Counting::new();
    let (lake, bytes) = cold_lake(&store).await;
    let before = store.counted();
    let cold = search(&lake, "nosuchword", 10).await;
    // four are scanned; of the others the tail says what they have, or where in the dictionary to look
    assert_eq!(cold.blocks_read, 12);
    assert!(
        (4 + 8..=4 + 2 * 8).contains(&cold.store_gets) && cold.store_bytes < bytes,
        "{cold:?} of {bytes}"
    );
    let after = store.counted();
    assert_eq!((after.0 - before.0, after.1 - before.1), (cold.store_gets, cold.store_bytes));
    let at_once = store.most_at_once.load(Ordering::SeqCst);
    assert!((4..=16).contains(&at_once), "{at_once}");
    let warm = search(&lake, "nosuchword", 10).await;
    assert_eq!((warm.store_gets, warm.store_bytes), (0, 0));
    // nobody's question is billed for another's
    let found = search(&lake, "rare OR reset OR error", 1_000).await;
    assert_eq!(store.counted().0 - after.0, found.store_gets);
}

#[tokio::test]
async fn the_newest_row_costs_the_newest_block() {
    let store = Counting::new();
    let (lake, bytes) = cold_lake(&store).await;
    let before = store.counted();
    let newest = search(&lake, "*", 1).await;
    assert!(
        newest.blocks_read == 1 && newest.store_gets <= 4 && newest.store_bytes < bytes / 12 * 2,
        "{newest:?}"
    );
    let answer = lake
        .engine
        .sql(&SqlRequest {
            query: "select count(*), max(body) from logs".into(),
            limit: 10,
        })
        .await
        .expect("rows");
    assert_eq!(answer.coverage.store_gets + newest.store_gets, store.counted().0 - before.0);
}

/// Rows with a common word, a word that one row has, and trace IDs, in one block.
fn many_rows() -> Rows {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    for n in 0..6_000i64 {
        builder.attribute("n", Value::Int(n));
        builder.attribute("test.id", Value::Int(n));
        let word = if n == 4_321 { "needle" } else { "hay" };
        builder.push(
            context,
            &LogRecord {
                time_unix_nano: T0 + n * 1_000_003,
                body: Some(&format!("common {word} w{} of {n}", n.wrapping_mul(2_654_435_761) % 100_003)),
                severity_number: 9,
                trace_id: TraceId::from_bytes(&[(n % 200 + 1) as u8; 16]),
                ..Default::default()
            },
        );
    }
    builder.finish().expect("rows").with_ingest_ids(1)
}

#[tokio::test]
async fn each_kind_of_question_takes_few_requests() {
    let store = Counting::new();
    let maker = anew(&store).await;
    let meta = maker.block(&many_rows(), true).await;
    assert!(meta.index_tail_bytes > 0 && meta.index_tail_bytes < meta.index_bytes);
    let here = Lake::new().await;
    here.block(&many_rows(), true).await;
    for (query, limit, most) in [
        ("zzzznosuchword", 10, 1),
        ("nosuchword", 10, 2),
        ("needle", 10, 8),
        ("\"common needle\"", 10, 12),
        ("trace_id:7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b7b w1", 10, 10),
        ("common", 20, 14),
        ("severity:INFO", 20, 14),
    ] {
        // chunks are small here, and what is called near is too: rows take several requests
        let lake = anew(&store).await;
        let before = store.counted();
        let cold = search(&lake, query, limit).await;
        assert!(cold.store_gets <= most, "{query}: {cold:?}");
        assert!(cold.store_bytes < meta.parquet_bytes + meta.index_bytes, "{query}: {cold:?}");
        assert_eq!(store.counted().0 - before.0, cold.store_gets, "{query}");
        assert_eq!(lake.find(Table::Logs, query).await, here.find(Table::Logs, query).await, "{query}");
    }
    let lake = anew(&store).await;
    let query = parse("needle", Table::Logs).expect("a query");
    let counted = lake.engine.count(Table::Logs, &query, TimeRange::ALL).await.expect("a count");
    assert!(counted.count == 1 && counted.coverage.store_gets <= 2, "{:?}", counted.coverage);
}

#[tokio::test]
async fn a_damaged_index_costs_time_and_damaged_rows_are_told() {
    let store = Counting::new();
    let maker = anew(&store).await;
    let rows = many_rows();
    let meta = maker.block(&rows, true).await;
    let path = block_path(&meta);
    let whole = store.inner.get(&path.index()).await.expect("there");
    let asked = |query: &str| SearchRequest {
        table: Table::Logs,
        query: parse(query, Table::Logs).expect("a query"),
        range: TimeRange::ALL,
        limit: 10_000,
        cursor: None,
        order: Order::NewestFirst,
    };
    // all of the dictionary, of the postings, of the positions, of the tail
    let body = meta.index_bytes - meta.index_tail_bytes;
    for (from, to) in [(8, body), (body, body + 100), (meta.index_bytes - 4, meta.index_bytes)] {
        let mut bytes = whole.to_vec();
        bytes[from as usize..to as usize].iter_mut().for_each(|byte| *byte ^= 0x55);
        store.inner.put(&path.index(), bytes.into()).await.expect("put");
        let lake = anew(&store).await;
        let answer = lake.engine.search(&asked("needle")).await.expect("an answer");
        assert_eq!(
            (answer.hits.len(), answer.coverage.complete),
            (1, true),
            "{from} to {to}: {:?}",
            answer.coverage
        );
        assert!(
            answer.coverage.problems.iter().any(|problem| problem.kind == ProblemKind::Corrupt),
            "{:?}",
            answer.coverage
        );
    }
    store.inner.put(&path.index(), whole).await.expect("put");
    // behind the first bytes, which hold no page
    for at in [meta.parquet_bytes / 3, meta.parquet_bytes / 2] {
        store.damage(&path.data(), at).await;
        let lake = anew(&store).await;
        let answer = lake.engine.search(&asked("common")).await.expect("an answer");
        assert!(
            !answer.coverage.complete && answer.coverage.problems.iter().all(|problem| problem.kind == ProblemKind::Corrupt),
            "{at}: {:?}",
            answer.coverage
        );
        // what needs no row needs none that is damaged
        let query = parse("needle", Table::Logs).expect("a query");
        let counted = lake.engine.count(Table::Logs, &query, TimeRange::ALL).await.expect("a count");
        assert!(counted.count == 1 && counted.coverage.complete);
        store.damage(&path.data(), at).await;
    }
}

#[tokio::test]
async fn a_store_that_goes_away_behind_the_tail_is_told_and_may_come_back() {
    let store = Counting::new();
    let maker = anew(&store).await;
    maker.block(&many_rows(), true).await;
    let lake = anew(&store).await;
    search(&lake, "zzzznosuchword", 10).await;
    store.is_away.store(true, Ordering::SeqCst);
    for query in ["needle", "*", "body:~\"ne+dle\""] {
        let request = SearchRequest {
            table: Table::Logs,
            query: parse(query, Table::Logs).expect("a query"),
            range: TimeRange::ALL,
            limit: 10,
            cursor: None,
            order: Order::NewestFirst,
        };
        let answer = lake.engine.search(&request).await.expect("an answer");
        let kinds: Vec<ProblemKind> = answer.coverage.problems.iter().map(|problem| problem.kind).collect();
        assert!(
            !answer.coverage.complete && kinds == [ProblemKind::Unreachable],
            "{query}: {:?}",
            answer.coverage
        );
        let sql = SqlRequest {
            query: "select body from logs where match(body, 'needle')".into(),
            limit: 10,
        };
        let kinds: Vec<ProblemKind> = lake
            .engine
            .sql(&sql)
            .await
            .expect("an answer")
            .coverage
            .problems
            .iter()
            .map(|problem| problem.kind)
            .collect();
        assert_eq!(kinds, [ProblemKind::Unreachable]);
    }
    store.is_away.store(false, Ordering::SeqCst);
    assert_eq!(lake.find(Table::Logs, "needle").await, ["4321"]);
}

/// Another node replaced a block, and deleted it before a question that began earlier came to it.
#[tokio::test]
async fn a_question_whose_block_was_replaced_meanwhile_is_asked_again() {
    let rows = fixture_logs();
    for stale_views in [0, 1] {
        for is_sql in [false, true] {
            let lake = Lake::far().await;
            let old = lake.block(&rows, true).await;
            lake.replace(&old, &rows, stale_views).await;
            let (n_rows, coverage) = match is_sql {
                false => {
                    let request = SearchRequest {
                        table: Table::Logs,
                        query: Query::All,
                        range: TimeRange::ALL,
                        limit: 10_000,
                        cursor: None,
                        order: Order::NewestFirst,
                    };
                    let answer = lake.engine.search(&request).await.expect("an answer");
                    (answer.hits.len(), answer.coverage)
                }
                true => {
                    let request = SqlRequest {
                        query: "SELECT body FROM logs".into(),
                        limit: 10_000,
                    };
                    let answer = lake.engine.sql(&request).await.expect("an answer");
                    (answer.n_rows, answer.coverage)
                }
            };
            assert!(coverage.complete, "{stale_views} {is_sql}: {coverage:?}");
            assert_eq!(n_rows, rows.len());
        }
    }
    // what stays away is told
    let lake = Lake::far().await;
    let old = lake.block(&rows, true).await;
    lake.replace(&old, &rows, 100).await;
    let request = SqlRequest {
        query: "SELECT body FROM logs".into(),
        limit: 10_000,
    };
    let answer = lake.engine.sql(&request).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.coverage.complete));
}
