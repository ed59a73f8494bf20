//! Questions whose time is up, and whose asker has gone: over a bucket that does not answer.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::*;
use crate::storage::{BucketStore, Key, Listed, Result};

/// A bucket whose reads wait while it is stuck.
#[derive(Debug)]
struct Stuck {
    inner: BucketStore,
    is_stuck: watch::Sender<bool>,
    begun: AtomicU64,
    waiting: AtomicU64,
}

/// Counts a read that waits, until it goes on or is given up.
struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stuck {
    fn new() -> Arc<Stuck> {
        Arc::new(Stuck {
            inner: BucketStore::in_memory(""),
            is_stuck: watch::channel(false).0,
            begun: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        })
    }

    fn stick(&self, is_stuck: bool) {
        self.is_stuck.send_replace(is_stuck);
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        let mut seen = self.is_stuck.subscribe();
        seen.wait_for(|is_stuck| !is_stuck).await.expect("the sender is ours");
    }
}

#[async_trait::async_trait]
impl Store for Stuck {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<()> {
        self.inner.put(key, bytes).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.inner.put_if_absent(key, bytes).await
    }
    async fn get(&self, key: &Key) -> Result<Bytes> {
        self.pass().await;
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.pass().await;
        self.inner.get_range(key, range).await
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

/// The trace that the fixtures of logs name.
fn known_trace() -> TraceId {
    TraceId::parse_any("1-5759e988-bd862e3fe1be46a994272793").expect("an ID")
}

/// Twelve blocks in the bucket, the newest rows in the head; nothing of the blocks is here.
async fn lake(store: &Arc<Stuck>, config: Config) -> Lake {
    let lake = Lake::over(store.clone(), tempfile::tempdir().expect("a folder"), config).await;
    let rows = fixture_logs();
    let piece = rows.len() / 13;
    for number in 0..12 {
        lake.block(&rows.slice(number * piece, piece), number % 3 > 0).await;
    }
    lake.head(vec![rows.slice(12 * piece, rows.len() - 12 * piece)]);
    lake
}

fn request() -> SearchRequest {
    SearchRequest {
        table: Table::Logs,
        query: Query::All,
        range: TimeRange::ALL,
        limit: 1_000,
        cursor: None,
        order: Order::NewestFirst,
    }
}

/// What each kind of question says: its rows, and what it read; or its error.
async fn ask(lake: &Lake, kind: &str) -> super::super::Result<(u64, Coverage)> {
    let engine = &lake.engine;
    Ok(match kind {
        "search" => {
            let answer = engine.search(&request()).await?;
            (answer.hits.len() as u64, answer.coverage)
        }
        "count" => {
            let answer = engine.count(Table::Logs, &Query::phrase("connection"), TimeRange::ALL).await?;
            (answer.count, answer.coverage)
        }
        "histogram" => {
            let answer = engine
                .histogram(&HistogramRequest {
                    table: Table::Logs,
                    query: Query::phrase("connection"),
                    range: TimeRange::ALL,
                    buckets: 10,
                })
                .await?;
            (answer.total, answer.coverage)
        }
        "trace" => match engine.trace(known_trace()).await? {
            Some(trace) => (trace.logs.len() as u64, trace.coverage),
            None => return Err(Error::NotFound("the trace".into())),
        },
        "sql" => {
            let request = SqlRequest {
                query: "SELECT body FROM logs WHERE match(body, 'connection')".into(),
                limit: 1_000,
            };
            let answer = engine.sql(&request).await?;
            (answer.n_rows as u64, answer.coverage)
        }
        other => panic!("{other}"),
    })
}

const KINDS: [&str; 5] = ["search", "count", "histogram", "trace", "sql"];

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_time_is_up_says_what_it_lacks_and_comes_in_time() {
    let store = Stuck::new();
    let config = Config {
        timeout_seconds: 1,
        ..Config::default()
    };
    for kind in KINDS {
        let lake = lake(&store, config.clone()).await;
        store.stick(true);
        // the store never answers: that there is an answer at all is what is shown
        let answer = tokio::time::timeout(Duration::from_secs(60), ask(&lake, kind)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{kind}: no answer"));
        match &answer {
            Ok((_, coverage)) => {
                assert!(!coverage.complete, "{kind}: {coverage:?}");
                assert!(
                    coverage.problems.iter().any(|problem| problem.kind == ProblemKind::Timeout),
                    "{kind}: {coverage:?}"
                );
            }
            // nothing was found by then: that is no answer, and is not told as one
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{kind}: {error}"),
        }
        if kind == "search" {
            // what is in memory needs no bucket
            assert!(answer.is_ok_and(|(rows, _)| rows > 0), "the rows of the head are missing");
        }
        // the next one finds everything
        store.stick(false);
        let whole = whole_answer(&lake, kind).await;
        assert!(whole > 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_cut_by_time_says_up_to_where_it_is_whole() {
    let store = Stuck::new();
    let config = Config {
        timeout_seconds: 1,
        ..Config::default()
    };
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for n_near in [0, 4] {
            let near = lake(&store, config.clone()).await;
            let piece = fixture_logs().len() as i64 / 13;
            let range_of = |number: i64| TimeRange::new(T0 + number * piece * SECOND, T0 + (number + 1) * piece * SECOND);
            let ask = async |range: TimeRange| {
                let request = SearchRequest { range, order, ..request() };
                near.engine.search(&request).await.expect("an answer")
            };
            // these are here, and need no store
            for nth in 0..n_near {
                let number = if order == Order::NewestFirst { 11 - nth } else { nth };
                while !ask(range_of(number)).await.coverage.complete {}
            }
            // the blocks are one behind the other; the head is the newest
            let has_some_here = n_near > 0 || order == Order::NewestFirst;
            let before = |hits: &[Hit], until: i64| -> Vec<i64> {
                let is_before = |hit: &&Hit| match order {
                    Order::NewestFirst => hit.time_unix_nano() > until,
                    Order::OldestFirst => hit.time_unix_nano() < until,
                };
                hits.iter().filter(is_before).map(Hit::ingest_id).collect()
            };
            store.stick(true);
            let mut cuts = Vec::new();
            // a busy machine may not come to what is here in time
            while cuts.len() < 30 {
                let cut = ask(TimeRange::ALL).await;
                let until = cut.whole_until.expect("the rest is missing");
                let came = before(&cut.hits, until);
                let is_enough = !came.is_empty() || !has_some_here;
                cuts.push((until, came));
                if is_enough {
                    break;
                }
            }
            store.stick(false);
            let mut whole = ask(TimeRange::ALL).await;
            while !whole.coverage.complete {
                whole = ask(TimeRange::ALL).await;
            }
            assert_eq!(whole.whole_until, None);
            for (until, came) in &cuts {
                assert_eq!(*came, before(&whole.hits, *until), "{order:?} {n_near}");
            }
            assert_eq!(cuts.iter().any(|(_, came)| !came.is_empty()), has_some_here, "{order:?} {n_near}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_lacks_what_may_have_been_anywhere_is_whole_nowhere() {
    let store = Stuck::new();
    let config = Config {
        timeout_seconds: 1,
        ..Config::default()
    };
    let lake = lake(&store, config).await;
    lake.lose_frames();
    for is_stuck in [true, false] {
        store.stick(is_stuck);
        for (order, nowhere) in [(Order::NewestFirst, i64::MAX), (Order::OldestFirst, i64::MIN)] {
            let request = SearchRequest { order, ..request() };
            let answer = lake.engine.search(&request).await.expect("an answer");
            assert_eq!(answer.whole_until, Some(nowhere), "{order:?} {:?}", answer.coverage);
            assert!(!answer.coverage.lacks_time_alone(), "{order:?} {:?}", answer.coverage);
        }
    }
}

/// The rows of a whole answer. A busy machine may take longer for one than a test lets it.
async fn whole_answer(lake: &Lake, kind: &str) -> u64 {
    for _ in 0..30 {
        match ask(lake, kind).await {
            Ok((rows, coverage)) if coverage.complete => return rows,
            Ok((_, coverage)) => assert!(
                coverage.problems.iter().all(|problem| problem.kind == ProblemKind::Timeout),
                "{kind}: {coverage:?}"
            ),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{kind}: {error}"),
        }
    }
    panic!("{kind}: no whole answer");
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_asker_has_gone_reads_no_further_and_leaves_its_place() {
    for kind in KINDS {
        // how many reads the whole answer takes
        let store = Stuck::new();
        let alone = Config {
            max_concurrent: 1,
            max_concurrent_batch: 1,
            max_queued: 0,
            ..Config::default()
        };
        let first = Arc::new(lake(&store, alone.clone()).await);
        let before = store.begun();
        whole_answer(&first, kind).await;
        let whole = store.begun() - before;

        let store = Stuck::new();
        let lake = Arc::new(lake(&store, alone).await);
        store.stick(true);
        let before = store.begun();
        let asking = {
            let lake = lake.clone();
            tokio::spawn(async move { ask(&lake, kind).await.map(|_| ()) })
        };
        until("nothing is read", || store.waiting() > 0).await;
        // as long as it stands, nobody else has its place
        assert!(matches!(ask(&lake, kind).await, Err(Error::Busy { .. })), "{kind}");
        asking.abort();
        assert!(asking.await.is_err_and(|error| error.is_cancelled()), "{kind}");
        // what is asked of the bucket already comes, and nothing is made of it
        store.stick(false);
        until("reads still wait", || store.waiting() == 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = store.begun() - before;
        assert!(store.waiting() == 0 && begun < whole, "{kind} went on to {begun} of {whole} reads");
        assert!(whole_answer(&lake, kind).await > 0, "{kind}");
    }
}
