//! What the engine answers in what time: `cargo bench --bench query [-- RECORDS [WORDS]]`, of the questions whose names hold
//! one of the words. Medians of seven, warm, of wall and CPU time.
//!
//! Ten blocks of one hour in a local store, their newest tenth also once as rows of the head; then each kind of question
//! through [`Engine`], as the pages ask it, beside the same done by hand on the blocks' indexes and files: the ratio is what
//! the engine adds (planning, view, paging, coverage, rows of the head).

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use tokio::sync::broadcast;
use tracelake::block::{self, Block, BlockMeta, IndexQuery, Level, RawField, Settings};
use tracelake::catalog::{Catalog, Commit, CommitKind, NodeId, block_path};
use tracelake::model::{Rows, SystemClock, Table, TimeRange, TraceId};
use tracelake::query::{Config, CountRequest, Engine, HistogramRequest, Order, SearchRequest, SqlRequest, View, parse};
use tracelake::storage::{Cache, LocalStore, Store};

use fixed::Fixed;

mod support;
#[path = "support/fixed.rs"]
mod fixed;
#[path = "support/raw.rs"]
#[expect(dead_code, reason = "of what is alone only the CPU clock is used here")]
mod raw;

const BLOCKS: usize = 10;
const ROUNDS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let n = support::records(1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&folder.path().join("store")).expect("a store"));
    let cache = Cache::open(store.clone(), &folder.path().join("cache"), 4 << 30).expect("a cache");
    let node = NodeId::load_or_create(folder.path()).expect("a node");
    let catalog = Catalog::open(store.clone(), node).await.expect("a catalog");
    // one part more than the blocks take: the head
    let parts = support::shop_logs(n + n / BLOCKS / 2, 7);
    let (stored, head) = parts.split_at(n / 1000);
    let mut commit = Commit::new(CommitKind::Flush, 0);
    let mut blocks = Vec::new();
    for rows in stored.chunks(stored.len().div_ceil(BLOCKS)) {
        let built = block::build(Table::Logs, 0, Level::L0, rows, &Settings::default(), 0).expect("a block");
        let path = block_path(&built.meta);
        store.put(&path.data(), built.parquet.clone()).await.expect("put");
        store.put(&path.index(), built.index.clone().expect("an index")).await.expect("put");
        blocks.push(open(&built.meta, built.parquet, built.index));
        commit.adds.push(built.meta);
    }
    blocks.reverse();
    let snapshot = catalog.commit(commit).await.expect("a commit");
    println!(
        "{} records in {} blocks, {} in the head; median of {ROUNDS}, warm",
        blocks.iter().map(|block| u64::from(block.n_rows())).sum::<u64>(),
        blocks.len(),
        head.iter().map(Rows::len).sum::<usize>()
    );
    let view = |head: &[Rows]| View {
        head: head.into(),
        snapshot: snapshot.clone(),
        lost: Arc::default(),
    };
    let engine = |view: View| {
        let source = Fixed {
            view,
            batches: broadcast::channel(1).0,
        };
        Engine::new(Arc::new(source), cache.clone(), Config::default(), Arc::new(SystemClock))
    };
    println!("| question | blocks only ms (CPU) | with the head ms (CPU) | by hand ms (CPU) | ratio of CPU |");
    println!("|---|---|---|---|---|");
    let (cold, warm) = (engine(view(&[])), engine(view(head)));
    searches(&cold, &warm, &blocks).await;
    traces(&cold, &warm, &blocks).await;
    numbers(&cold, &warm, &blocks).await;
    sql(&cold, &warm).await;
}

fn open(meta: &BlockMeta, parquet: bytes::Bytes, index: Option<bytes::Bytes>) -> Block {
    Block::open(Arc::new(meta.clone()), parquet, index).expect("a block")
}

/// The newest hundred rows, all columns.
async fn searches(cold: &Engine, warm: &Engine, blocks: &[Block]) {
    let token = |text: &str| IndexQuery::Token(text.into());
    let phrase = |text: &str| IndexQuery::Phrase(block::tokenizer::tokens(text));
    let questions = [
        ("newest 100, no condition", "*", None),
        ("newest 100, rare term", "insufficient", Some(token("insufficient"))),
        ("newest 100, common term", "completed", Some(token("completed"))),
        ("newest 100, phrase", "\"connection reset by peer\"", Some(phrase("connection reset by peer"))),
        (
            "newest 100, attribute and term",
            "http.response.status_code:404 completed",
            Some(IndexQuery::And(vec![
                IndexQuery::KeyValue {
                    key: "http.response.status_code".into(),
                    value: "404".into(),
                },
                token("completed"),
            ])),
        ),
        ("ten scattered rows", "heliotrope", Some(token("heliotrope"))),
        ("a hundred scattered rows", "jacaranda", Some(token("jacaranda"))),
        ("no row", "nosuchtermatall", Some(token("nosuchtermatall"))),
    ];
    for (name, text, raw) in questions {
        if !is_asked(name) {
            continue;
        }
        let request = SearchRequest {
            table: Table::Logs,
            query: parse(text, Table::Logs).expect("a query"),
            range: TimeRange::ALL,
            limit: 100,
            cursor: None,
            order: Order::NewestFirst,
        };
        let by_hand = || {
            let mut wanted = 100;
            for block in blocks {
                let rows: Vec<u32> = match &raw {
                    Some(query) => block.index().expect("an index").first(query, 0..block.n_rows(), wanted).expect("rows"),
                    None => (0..100).collect(),
                };
                wanted -= rows.len();
                if !rows.is_empty() {
                    std::hint::black_box(block.read(&rows, &[]).expect("rows"));
                }
                if wanted == 0 {
                    break;
                }
            }
        };
        let a = median(async || cold.search(&request).await.expect("an answer")).await;
        let b = median(async || warm.search(&request).await.expect("an answer")).await;
        line(name, a, b, Some(median(async || by_hand()).await));
    }
}

/// Whether a question is among those that the arguments name; without names, all are.
fn is_asked(name: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-') && word.parse::<u64>().is_err())
        .peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

/// One trace by its ID.
async fn traces(cold: &Engine, warm: &Engine, blocks: &[Block]) {
    if !is_asked("trace by ID") {
        return;
    }
    let block = &blocks[blocks.len() / 2];
    let some = block.read(&(0..100).collect::<Vec<u32>>(), &["trace_id"]).expect("rows");
    let text = some.column(0).as_string::<i32>().iter().flatten().next().expect("a traced row").to_string();
    let id = TraceId::parse_any(&text).expect("an ID");
    let query = IndexQuery::Term {
        field: RawField::TraceId,
        value: text,
    };
    let by_hand = || {
        for block in blocks {
            let rows = block.index().expect("an index").first(&query, 0..block.n_rows(), 1000).expect("rows");
            if !rows.is_empty() {
                std::hint::black_box(block.read(&rows, &[]).expect("rows"));
            }
        }
    };
    let a = median(async || cold.trace(id).await.expect("an answer").expect("a trace")).await;
    let b = median(async || warm.trace(id).await.expect("an answer").expect("a trace")).await;
    line("trace by ID", a, b, Some(median(async || by_hand()).await));
}

/// Counts and histograms.
async fn numbers(cold: &Engine, warm: &Engine, blocks: &[Block]) {
    if !is_asked("counts and histograms") {
        return;
    }
    let completed = parse("completed", Table::Logs).expect("a query");
    let term = IndexQuery::Token("completed".into());
    let by_hand = || {
        for block in blocks {
            std::hint::black_box(block.index().expect("an index").count(&term, 0..block.n_rows()).expect("a count"));
        }
    };
    let count = async |engine: &Engine| engine.count(Table::Logs, &completed, TimeRange::ALL).await.expect("an answer");
    let (a, b) = (median(async || count(cold).await).await, median(async || count(warm).await).await);
    line("count of a common term", a, b, Some(median(async || by_hand()).await));
    for (name, text) in [("histogram of a common term", "completed"), ("histogram of all rows", "*")] {
        let request = HistogramRequest {
            table: Table::Logs,
            query: parse(text, Table::Logs).expect("a query"),
            range: TimeRange::ALL,
            buckets: 60,
        };
        let a = median(async || cold.histogram(&request).await.expect("an answer")).await;
        let b = median(async || warm.histogram(&request).await.expect("an answer")).await;
        line(name, a, b, None);
    }
    let by = ["service_name".to_string()];
    let count_by = async |engine: &Engine| engine.count_by(Table::Logs, &completed, TimeRange::ALL, &by, 20).await.expect("an answer");
    let (a, b) = (median(async || count_by(cold).await).await, median(async || count_by(warm).await).await);
    line("count of a common term by service", a, b, None);
    for (name, query) in [
        ("hour x service of all rows", parse("*", Table::Logs).expect("a query")),
        ("hour x service of a common term", completed),
    ] {
        let request = CountRequest {
            table: Table::Logs,
            query,
            range: TimeRange::ALL,
            by: by.to_vec(),
            bucket_nanos: Some(3_600_000_000_000),
            limit: 1_000,
        };
        let a = median(async || cold.count_groups(&request).await.expect("an answer")).await;
        let b = median(async || warm.count_groups(&request).await.expect("an answer")).await;
        line(name, a, b, None);
    }
}

/// The analyst's way.
async fn sql(cold: &Engine, warm: &Engine) {
    for (name, text) in [
        ("SQL: count by service", "SELECT service_name, count(*) FROM logs GROUP BY 1"),
        (
            "SQL: hour x service",
            "SELECT date_trunc('hour', time), service_name, count(*) FROM logs GROUP BY 1, 2",
        ),
        ("SQL: newest 100", "SELECT time, service_name, body FROM logs ORDER BY time DESC LIMIT 100"),
    ] {
        if !is_asked(name) {
            continue;
        }
        let request = SqlRequest {
            query: text.into(),
            limit: 1_000,
        };
        let a = median(async || cold.sql(&request).await.expect("an answer")).await;
        let b = median(async || warm.sql(&request).await.expect("an answer")).await;
        line(name, a, b, None);
    }
}

/// Wall and CPU time, the latter of all threads: on a busy machine only that can be compared.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: f64,
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2})", self.wall.as_secs_f64() * 1e3, self.cpu * 1e3)
    }
}

async fn median<T>(mut run: impl AsyncFnMut() -> T) -> Took {
    run().await;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (started, cpu) = (Instant::now(), raw::cpu_seconds());
        std::hint::black_box(run().await);
        walls.push(started.elapsed());
        cpus.push(raw::cpu_seconds() - cpu);
    }
    walls.sort_unstable();
    cpus.sort_unstable_by(f64::total_cmp);
    Took {
        wall: walls[ROUNDS / 2],
        cpu: cpus[ROUNDS / 2],
    }
}

fn line(name: &str, cold: Took, warm: Took, by_hand: Option<Took>) {
    let raw = by_hand.map_or(String::new(), |raw| raw.to_string());
    let ratio = by_hand.map_or(String::new(), |raw| format!("{:.2}", cold.cpu / raw.cpu));
    println!("| {name} | {cold} | {warm} | {raw} | {ratio} |");
}
