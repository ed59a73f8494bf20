//! What questions in the language of CloudWatch Logs cost: `cargo bench --bench insights [-- EVENTS]`. Medians of five, warm.
//!
//! Events of one log group in ten blocks of a local store. First filter patterns, asked and verified as `FilterLogEvents` does, each
//! beside the nearest question of the search language through the same [`Engine`]: the ratio is what the pattern costs more. Then
//! scripts of Logs Insights, with the share of the blocks' bytes that each scanned.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tracelake::block::{self, Level, Settings};
use tracelake::catalog::{Catalog, Commit, CommitKind, NodeId, block_path};
use tracelake::model::{ContextBuilder, LogRecord, LogsBuilder, Rows, SystemClock, Table, TimeRange, Value};
use tracelake::query::filter_pattern::FilterPattern;
use tracelake::query::insights::{self, Context, Event, Limits, Plan, Progress, Scope, Script};
use tracelake::query::{Config, Engine, Hit, Order, Query, SearchRequest, View, parse};
use tracelake::storage::{Cache, LocalStore, Store};

use fixed::Fixed;

#[expect(dead_code, reason = "the rows of the shop have no log group; only the number of records is asked for here")]
mod support;
#[path = "support/fixed.rs"]
mod fixed;

const BLOCKS: usize = 10;
const ROUNDS: usize = 5;
const GROUP: &str = "/shop/logs";
/// 2026-11-22T05:00:00Z.
const START_NANOS: i64 = 1_795_323_600_000_000_000;

/// All events of the group.
#[derive(Debug)]
struct All;

impl Scope for All {
    fn query(&self) -> Query {
        Query::equals("@log_group", GROUP)
    }
    fn event(&self, hit: Hit) -> Option<Event> {
        let Hit::Log(log) = hit else { return None };
        Some(Event {
            group: GROUP.into(),
            stream: "s".into(),
            timestamp_millis: log.time_unix_nano / 1_000_000,
            message: log.body.unwrap_or_default().into(),
            ..Event::default()
        })
    }
    fn has(&self, group: &str, _: &str) -> Option<bool> {
        Some(group == GROUP)
    }
    fn shows(&self, group: &str, _: &str, _: i64) -> bool {
        group == GROUP
    }
}

/// Events of 40 streams within an hour: half JSON, half plain lines; one in 100,000 has a rare word inside of another.
fn events(n: usize) -> Vec<Rows> {
    let step = 3_600_000_000_000 / n.max(1) as i64;
    let part = |first: usize| {
        let mut builder = LogsBuilder::with_capacity(1_000);
        let contexts: Vec<i32> = (0..40)
            .map(|stream| {
                let mut resource = ContextBuilder::new();
                resource.attribute("aws.log.group.names", Value::Str(GROUP));
                resource.attribute("aws.log.stream.names", Value::Str(&format!("task/{stream}")));
                builder.context(resource.build())
            })
            .collect();
        for i in first..n.min(first + 1_000) {
            let mixed = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (ms, user, status) = (mixed % 997, (mixed >> 20) % 50_000, [200, 200, 200, 404, 500][(mixed >> 50) as usize % 5]);
            let rare = if i % 100_000 == 50_000 { " nonheliotropes" } else { "" };
            let body = match i % 2 {
                0 => format!(
                    r#"{{"level":"INFO","path":"/cart/{}","status":{status},"ms":{ms},"user":"u-{user}","note":"done{rare}"}}"#,
                    mixed % 5_003
                ),
                _ => format!("request {mixed:016x} completed: status={status} in {ms} ms for user=u-{user}{rare}"),
            };
            builder.push(
                contexts[i % 40],
                &LogRecord {
                    time_unix_nano: START_NANOS + i as i64 * step,
                    body: Some(&body),
                    ..LogRecord::default()
                },
            );
        }
        builder.finish().expect("rows fit").with_ingest_ids(first as i64 + 1)
    };
    (0..n).step_by(1_000).map(part).collect()
}

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
    let mut commit = Commit::new(CommitKind::Flush, 0);
    let parts = events(n);
    for rows in parts.chunks(parts.len().div_ceil(BLOCKS)) {
        let built = block::build(Table::Logs, 0, Level::L0, rows, &Settings::default(), 0).expect("a block");
        let path = block_path(&built.meta);
        store.put(&path.data(), built.parquet).await.expect("put");
        store.put(&path.index(), built.index.expect("an index")).await.expect("put");
        commit.adds.push(built.meta);
    }
    let bytes: u64 = commit.adds.iter().map(|meta| meta.parquet_bytes + meta.index_bytes).sum();
    let snapshot = catalog.commit(commit).await.expect("a commit");
    let source = Fixed {
        view: View {
            head: Arc::from([]),
            snapshot,
            lost: Arc::default(),
        },
        batches: broadcast::channel(1).0,
    };
    let engine = Engine::new(Arc::new(source), cache, Config::default(), Arc::new(SystemClock));
    println!("{n} events in {BLOCKS} blocks of {} MB together; median of {ROUNDS}, warm", bytes >> 20);
    patterns(&engine).await;
    scripts(&engine).await;
}

async fn patterns(engine: &Engine) {
    println!("| filter pattern, newest first | events | ms | the same search, ms | ratio |");
    println!("|---|---|---|---|---|");
    for (name, pattern, search, limit) in [
        ("rare word", "nonheliotropes", "nonheliotropes", 100),
        ("common word", "completed", "completed", 100),
        ("common word, large page", "completed", "completed", 2_500),
        ("JSON selector", "{ $.status = 500 && $.user = \"u-77*\" }", "$.status:500 $.user:u-77*", 100),
        ("no event", "%nosuch.*word%", "body:/nosuch.*word/", 100),
    ] {
        let pattern = FilterPattern::parse(pattern).expect("a pattern");
        let (asked, found) = median(async || find(engine, Query::equals("@log_group", GROUP).and(pattern.prefilter()), limit, Some(&pattern)).await).await;
        let query = parse(search, Table::Logs).expect("a query");
        let (searched, _) = median(async || find(engine, Query::equals("@log_group", GROUP).and(query.clone()), limit, None).await).await;
        let ratio = asked.as_secs_f64() / searched.as_secs_f64();
        println!("| {name} | {found} | {} | {} | {ratio:.2} |", millis(asked), millis(searched));
    }
}

/// Events that match, up to a limit, page by page.
async fn find(engine: &Engine, query: Query, limit: usize, pattern: Option<&FilterPattern>) -> usize {
    let (mut n_found, mut cursor) = (0, None);
    loop {
        let request = SearchRequest {
            table: Table::Logs,
            query: query.clone(),
            range: TimeRange::ALL,
            limit,
            cursor,
            order: Order::NewestFirst,
        };
        let answer = engine.search(&request).await.expect("an answer");
        let matches = |hit: &&Hit| match (hit, pattern) {
            (Hit::Log(log), Some(pattern)) => pattern.matches(log.body.as_deref().unwrap_or_default()),
            _ => true,
        };
        n_found += answer.hits.iter().filter(matches).count();
        cursor = answer.next_cursor;
        if n_found >= limit || cursor.is_none() {
            return n_found.min(limit);
        }
    }
}

async fn scripts(engine: &Engine) {
    println!("| script | rows | ms | scanned, % of bytes |");
    println!("|---|---|---|---|");
    for text in [
        "stats count(*) by bin(5m)",
        "stats count(*) by @logStream, bin(5m)",
        r#"filter @message like "heliotrope" | stats count(*) by bin(5m)"#,
        "filter @message like /(?i)heliotrop/ | stats count(*) by bin(5m)",
        r#"filter @message like "completed" | stats count(*) by bin(5m)"#,
        r#"parse @message "status=* in * ms" as status, ms | stats count(*), avg(ms) by status, bin(5m)"#,
        "parse @message /status=(?<status>\\d+) in (?<ms>\\d+)/ | stats count(*), pct(ms, 95) by status",
        "filter status >= 500 | stats count(*), max(ms) by path | sort path asc | limit 20",
        "fields @timestamp, @message | filter @message like /user=u-7\\d\\d$/ | limit 20",
        "pattern @message",
    ] {
        let plan = Plan {
            script: Script::parse(text).expect("a script"),
            scope: Arc::new(All),
            context: Context {
                start_millis: START_NANOS / 1_000_000,
                end_millis: START_NANOS / 1_000_000 + 3_600_000,
                now_millis: START_NANOS / 1_000_000 + 3_600_000,
                account_id: "000000000000".into(),
                region: "us-east-1".into(),
                answers: vec![],
                memory: Arc::default(),
            },
            limits: Limits::default(),
            first: vec![],
        };
        let (took, (rows, share)) = median(async || {
            let progress = Progress::default();
            let answer = insights::run(engine, &plan, &progress).await.expect("an answer");
            let scanned = progress.scanned();
            let share = 100.0 * scanned.bytes as f64 / (scanned.bytes + scanned.bytes_skipped).max(1) as f64;
            (answer.rows.len(), share)
        })
        .await;
        println!("| `{}` | {rows} | {} | {share:.2} |", text.replace('|', "\\|"), millis(took));
    }
}

fn millis(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64() * 1_000.0)
}

/// The median time, and what the last run gave.
async fn median<T>(mut run: impl AsyncFnMut() -> T) -> (Duration, T) {
    let mut last = run().await;
    let mut walls = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        last = run().await;
        walls.push(started.elapsed());
    }
    walls.sort_unstable();
    (walls[ROUNDS / 2], last)
}
