//! What the service graph of an hour costs, from its table and from the spans, and what it costs to keep the table:
//! `cargo bench --bench service_graph [-- SPANS]`. Medians of five, warm.
//!
//! Traces of ten spans over six services, within an hour, through the write path; then the same with ten times as many spans. From the
//! table the answer takes as long for both, if the aim is met. The spans are answered for only up to 100,000 traces.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracelake::assemble::{self, Assembler, Graphs, ServiceGraph};
use tracelake::block;
use tracelake::catalog::{Catalog, NodeId};
use tracelake::ingest::{self, Ingest, NoRules};
use tracelake::model::{Clock, ContextBuilder, ManualClock, Rows, SpanId, SpanRecord, SpansBuilder, TimeRange, TraceId, Value};
use tracelake::query::xray::Expression;
use tracelake::query::{self, Engine, SearchLanguage};
use tracelake::storage::{Cache, LocalStore};
use tracelake::wal;

const ROUNDS: usize = 5;
const SPANS_A_TRACE: usize = 10;
const SERVICES: [&str; 6] = ["web", "cart", "checkout", "payment", "stock", "mail"];
/// 2026-11-22T05:00:00Z.
const START_NANOS: i64 = 1_795_323_600_000_000_000;
const HOUR_NANOS: i64 = 3_600_000_000_000;

/// Spans in requests of a thousand: a chain of calls, client and server by turns.
fn spans(n: usize) -> Vec<Rows> {
    let step = HOUR_NANOS / n.max(1) as i64;
    let request = |first: usize| {
        let mut builder = SpansBuilder::default();
        let contexts: Vec<i32> = SERVICES
            .iter()
            .map(|service| builder.context(ContextBuilder::new().attribute("service.name", Value::Str(service)).build()))
            .collect();
        for i in first..n.min(first + 1_000) {
            let (trace, at) = (i / SPANS_A_TRACE, i % SPANS_A_TRACE);
            let mixed = (trace as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let start = START_NANOS + trace as i64 * SPANS_A_TRACE as i64 * step + at as i64 * 100_000;
            let took = 1_000_000 + (mixed >> 40) as i64 * 10 - at as i64 * 90_000;
            let id = |number: usize| SpanId::from_bytes(&(i as u64 - at as u64 + number as u64 + 1).to_be_bytes()).expect("an ID");
            let service = (at / 2 + trace % 2) % SERVICES.len();
            builder.push(
                contexts[service],
                &SpanRecord {
                    start_time_unix_nano: start,
                    end_time_unix_nano: Some(start + took.max(1_000)),
                    trace_id: TraceId::from_bytes(&[mixed.to_be_bytes(), (trace as u64 + 1).to_be_bytes()].concat()).expect("an ID"),
                    span_id: id(at),
                    parent_span_id: (at > 0).then(|| id(at - 1)),
                    trace_state: None,
                    trace_flags: None,
                    name: "GET /checkout",
                    kind: if at % 2 == 0 { "SERVER" } else { "CLIENT" },
                    status_code: if mixed.is_multiple_of(50) { "ERROR" } else { "UNSET" },
                    status_message: None,
                    in_progress: false,
                    dropped_attributes_count: 0,
                },
            );
        }
        builder.finish().expect("rows")
    };
    (0..n).step_by(1_000).map(request).collect()
}

struct Lake {
    ingest: Ingest,
    engine: Engine,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Lake {
    async fn open() -> Lake {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(LocalStore::open(&folder.path().join("store")).expect("a store"));
        let cache = Cache::open(store.clone(), &folder.path().join("cache"), 4 << 30).expect("a cache");
        let node = NodeId::load_or_create(folder.path()).expect("a node");
        let catalog = Arc::new(Catalog::open(store.clone(), node).await.expect("a catalog"));
        let clock = Arc::new(ManualClock::new(START_NANOS - 24 * HOUR_NANOS));
        let ingest = Ingest::open(ingest::Parts {
            config: ingest::Config::default(),
            wal: wal::Config::default(),
            block: block::Settings::default(),
            data_dir: folder.path().to_path_buf(),
            store,
            cache: cache.clone(),
            catalog,
            finder: Arc::new(SearchLanguage),
            rules: Arc::new(NoRules),
            clock: clock.clone(),
        })
        .await
        .expect("a write path");
        let engine = Engine::new(Arc::new(ingest.clone()), cache, query::Config::default(), clock.clone());
        Lake {
            ingest,
            engine,
            clock,
            _folder: folder,
        }
    }
}

async fn median<T>(mut run: impl AsyncFnMut() -> T) -> Duration {
    run().await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        std::hint::black_box(run().await);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times[ROUNDS / 2]
}

async fn measure(n: usize) {
    let lake = Lake::open().await;
    let clock: Arc<dyn Clock> = lake.clock.clone();
    let assembler = Arc::new(Assembler::over(assemble::Config::default(), lake.engine.clone(), lake.ingest.clone(), clock));
    let graphs = Graphs::new(lake.engine.clone(), Some(assembler.clone()));
    assembler.freshen().await.expect("begun");
    let (mut taken, mut assembled) = (Duration::ZERO, Duration::ZERO);
    for some in spans(n).chunks(50) {
        let started = Instant::now();
        for rows in some {
            lake.ingest.accept_own(rows.clone()).await.expect("taken");
        }
        taken += started.elapsed();
        lake.clock.advance(10_000_000_000);
        let started = Instant::now();
        assembler.freshen().await.expect("assembled");
        assembled += started.elapsed();
        if lake.ingest.status().head_bytes > 64 << 20 {
            lake.ingest.flush().await;
        }
    }
    lake.ingest.flush().await;
    let range = TimeRange::new(START_NANOS, START_NANOS + HOUR_NANOS);
    let graph = graphs.graph(range, &Expression::All, true).await.expect("a graph").found;
    let requests: i64 = graph.nodes.iter().map(|node| node.statistics.requests).sum();
    println!("{n} spans: {} services, {} edges, {requests} requests", graph.nodes.len(), graph.edges.len(),);
    println!(
        "  taken in {:.2} s, assembled in {:.2} s ({:.0} spans/s)",
        taken.as_secs_f64(),
        assembled.as_secs_f64(),
        n as f64 / assembled.as_secs_f64()
    );
    println!(
        "  graph of the hour from its table: {:.1} ms",
        median(async || graphs.graph(range, &Expression::All, true).await.expect("a graph"))
            .await
            .as_secs_f64()
            * 1e3
    );
    if n / SPANS_A_TRACE <= 100_000 {
        let started = Instant::now();
        let of_spans = Graphs::new(lake.engine.clone(), None);
        let from_spans = of_spans.graph(range, &Expression::All, true).await.expect("a graph").found;
        println!("  the same from the spans: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        let total = |graph: &ServiceGraph| {
            graph
                .nodes
                .iter()
                .map(|node| (node.service.name.clone(), node.statistics.requests))
                .collect::<Vec<_>>()
        };
        assert_eq!(total(&from_spans), total(&graph), "both say the same");
    }
}

fn main() {
    let n = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for n in [n, 10 * n] {
        runtime.block_on(measure(n));
    }
}
