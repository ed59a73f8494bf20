//! Spans from the socket, and what is asked of them: `cargo bench --bench traces [-- SPANS]` (1,000,000). Linux only: it reads `/proc`.
//!
//! Each part is a release binary on an empty folder, asked over loopback HTTP, each connection with one request under way.
//!
//! 1. Spans and log records by OTLP/HTTP (protobuf), 1,000 a request over 4 connections: how many a second, and CPU seconds of the server a
//!    million, until all are in blocks.
//! 2. On the stored spans, the server started again and warm: traces by ID, each another one (median and 95th percentile; the ratio is to
//!    decoding one row group of the spans' Parquet file in this process), `GetTraceSummaries` of the last hour with filter expressions (the first
//!    page with a trace on it), the service graph of the last hour.
//! 3. All of that with a tenth of the spans too: what depends on their number shows.
//! 4. One trace of 100,000 spans: sent, opened as columns and by `BatchGetTraces`; what was answered, and the server's most memory.
//!
//! (Run it with 10000000 for the figures that are published.)

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use serde_json::{Value, json};
use tracelake::model::{Clock as _, SystemClock};

#[path = "support/server.rs"]
mod server;

use server::{Connection, ROUNDS, Request, Server, median, request};

const BATCH: usize = 1_000;
const SPANS_A_TRACE: usize = 10;
const SERVICES: [&str; 6] = ["web", "cart", "checkout", "payment", "stock", "mail"];
const OPERATIONS: [&str; 5] = ["GET /cart", "POST /checkout", "SELECT orders", "PUT /stock/{sku}", "POST /mail"];
/// Requests held in memory at a time.
const PIECE: usize = 500;
const TRACES_ASKED: usize = 400;
/// Event times lie in so many nanoseconds, which end a minute before the bench began.
const SPREAD_NANOS: i64 = 3_000_000_000_000;
const LARGE_TRACE: usize = 100_000;

fn main() {
    let n_spans = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000usize);
    let times = Times::of(n_spans);
    ingest_of_logs(n_spans.min(1_000_000), &times);
    for n_spans in [n_spans / 10, n_spans] {
        let times = Times::of(n_spans);
        let folder = tempfile::tempdir().expect("a temporary folder");
        ingest_of_spans(folder.path(), n_spans, &times);
        questions(folder.path(), n_spans);
    }
    large_trace();
}

/// When each trace begins.
struct Times {
    first: i64,
    step: i64,
}

impl Times {
    fn of(n_spans: usize) -> Times {
        Times {
            first: SystemClock.now_nanos() - 60_000_000_000 - SPREAD_NANOS,
            step: SPREAD_NANOS / (n_spans / SPANS_A_TRACE).max(1) as i64,
        }
    }
}

fn mixed(number: usize) -> u64 {
    (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn trace_id(trace: usize) -> Vec<u8> {
    [mixed(trace), trace as u64 + 1].map(u64::to_be_bytes).concat()
}

fn value(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(key: &str, of: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value(any_value::Value::StringValue(of.into())),
        ..KeyValue::default()
    }
}

fn number(key: &str, of: i64) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value(any_value::Value::IntValue(of)),
        ..KeyValue::default()
    }
}

fn resource(service: &str) -> Option<Resource> {
    Some(Resource {
        attributes: vec![text("service.name", service), text("deployment.environment.name", "prod")],
        ..Resource::default()
    })
}

/// A span of a trace: a chain of calls, server and client by turns. One trace in 50 fails, one in 1,000 is slow.
fn span(trace: usize, at: usize, times: &Times) -> Span {
    let of_trace = mixed(trace);
    let (fails, is_slow) = (of_trace.is_multiple_of(50), of_trace.is_multiple_of(1_000));
    let start = times.first + trace as i64 * times.step + at as i64 * 100_000;
    let took = (2_000_000 + (of_trace >> 44) as i64 - at as i64 * 150_000) * if is_slow { 100 } else { 1 };
    let id = |at: usize| ((trace * SPANS_A_TRACE + at) as u64 + 1).to_be_bytes().to_vec();
    let is_server = at.is_multiple_of(2);
    Span {
        trace_id: trace_id(trace),
        span_id: id(at),
        parent_span_id: if at == 0 { Vec::new() } else { id(at - 1) },
        name: OPERATIONS[(at / 2 + trace) % OPERATIONS.len()].into(),
        kind: if is_server { SpanKind::Server } else { SpanKind::Client } as i32,
        start_time_unix_nano: start.cast_unsigned(),
        end_time_unix_nano: (start + took.max(1_000)).cast_unsigned(),
        attributes: vec![
            text("http.request.method", "POST"),
            number("http.response.status_code", if fails { 502 } else { 200 }),
            text("user.id", &format!("u-{}", of_trace % 50_021)),
        ],
        status: fails.then(|| Status {
            code: 2,
            message: "upstream went away".into(),
        }),
        ..Span::default()
    }
}

/// A request of spans by resource: those of one service together.
fn spans_request(batch: usize, times: &Times) -> Request {
    let mut by_service: Vec<Vec<Span>> = SERVICES.iter().map(|_| Vec::new()).collect();
    for i in batch * BATCH..(batch + 1) * BATCH {
        let (trace, at) = (i / SPANS_A_TRACE, i % SPANS_A_TRACE);
        by_service[(at / 2 + trace % 2) % SERVICES.len()].push(span(trace, at, times));
    }
    let of_service = |(service, spans): (&&str, Vec<Span>)| ResourceSpans {
        resource: resource(service),
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    let message = ExportTraceServiceRequest {
        resource_spans: SERVICES.iter().zip(by_service).map(of_service).collect(),
    };
    request("/v1/traces", "application/x-protobuf", "", &message.encode_to_vec())
}

/// A request of log records, each of the trace and the span of the same number.
fn logs_request(batch: usize, times: &Times) -> Request {
    let record = |i: usize| {
        let span = span(i / SPANS_A_TRACE, i % SPANS_A_TRACE, times);
        let body = format!("{} took {} us for user {}", span.name, mixed(i) % 90_001, mixed(i) % 50_021);
        LogRecord {
            time_unix_nano: span.start_time_unix_nano,
            trace_id: span.trace_id,
            span_id: span.span_id,
            severity_number: 9,
            body: value(any_value::Value::StringValue(body)),
            attributes: span.attributes,
            ..LogRecord::default()
        }
    };
    let message = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(SERVICES[batch % SERVICES.len()]),
            scope_logs: vec![ScopeLogs {
                log_records: (batch * BATCH..(batch + 1) * BATCH).map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request("/v1/logs", "application/x-protobuf", "", &message.encode_to_vec())
}

/// Sends records, piece by piece since not all requests fit into memory, and stops the server; what that took.
fn ingest(folder: &Path, what: &str, n: usize, of: impl Fn(usize) -> Request) {
    let server = Server::start(folder, "");
    let mut seconds = 0.0;
    for first in (0..n / BATCH).step_by(PIECE) {
        let requests: Vec<Request> = (first..(n / BATCH).min(first + PIECE)).map(&of).collect();
        let begun = Instant::now();
        server.send(&requests, 4);
        seconds += begun.elapsed().as_secs_f64();
    }
    let (cpu_acknowledged, begun) = (server.cpu(), Instant::now());
    let (cpu, peak) = server.stop();
    let all = seconds + begun.elapsed().as_secs_f64();
    println!(
        "| {n} {what} | {:.0} | {:.0} | {:.1} | {:.1} | {peak:.0} |",
        n as f64 / seconds,
        n as f64 / all,
        cpu_acknowledged * 1e6 / n as f64,
        cpu * 1e6 / n as f64
    );
}

const INGEST_HEAD: &str = "\n| | acknowledged/s | until in blocks/s | CPU-s a million, acknowledged | all | peak MiB |\n|---|---|---|---|---|---|";

fn ingest_of_logs(n: usize, times: &Times) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    println!("{INGEST_HEAD}");
    ingest(folder.path(), "log records", n, |batch| logs_request(batch, times));
}

fn ingest_of_spans(folder: &Path, n: usize, times: &Times) {
    println!("{INGEST_HEAD}");
    ingest(folder, "spans", n, |batch| spans_request(batch, times));
}

fn questions(folder: &Path, n_spans: usize) {
    let server = Server::start(folder, "");
    let mut connection = Connection::open(&server.address);
    let raw = row_group_millis(&folder.join("data/store"));
    println!("\nof {n_spans} spans; a row group of theirs decodes in {raw:.1} ms");
    let get = |path: &str| Request(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes());
    let n_traces = n_spans / SPANS_A_TRACE;
    let mut walls: Vec<f64> = (0..TRACES_ASKED)
        .map(|i| {
            let id: String = trace_id(mixed(i * 7) as usize % n_traces).iter().map(|byte| format!("{byte:02x}")).collect();
            let asked = get(&format!("/api/v1/traces/{id}"));
            let begun = Instant::now();
            let answer = connection.ask(&asked);
            let millis = begun.elapsed().as_secs_f64() * 1e3;
            assert_eq!(answer["spans"].as_array().map_or(0, Vec::len), SPANS_A_TRACE, "{answer}");
            millis
        })
        // the first ones open what is kept open from then on
        .skip(TRACES_ASKED / 4)
        .collect();
    walls.sort_unstable_by(f64::total_cmp);
    let (half, most) = (walls[walls.len() / 2], walls[walls.len() * 95 / 100]);
    println!(
        "trace by ID, {} different ones: median {half:.2} ms, p95 {most:.2} ms ({:.2} of the row group)",
        walls.len(),
        most / raw
    );
    println!("\n| GetTraceSummaries of the last hour | traces | pages | ms, median of {ROUNDS} |");
    println!("|---|---|---|---|");
    let now = SystemClock.now_nanos() / 1_000_000_000;
    for filter in [
        "",
        "service(\"payment\") AND fault = true",
        "user = \"u-77\" OR annotation.missing = \"x\"",
        "duration >= 0.2",
        "http.status = 502 AND responsetime > 0.1",
    ] {
        let (millis, (found, pages)) = median(|| {
            let (mut token, mut pages) = (Value::Null, 0);
            loop {
                let mut call = json!({"StartTime": now - 3_600, "EndTime": now, "FilterExpression": filter});
                if token.is_string() {
                    call["NextToken"] = token;
                }
                let answer = connection.ask(&request("/TraceSummaries", "application/json", "", call.to_string().as_bytes()));
                let found = answer["TraceSummaries"].as_array().map_or(0, Vec::len);
                token = answer["NextToken"].clone();
                pages += 1;
                if found > 0 || !token.is_string() {
                    return (found, pages);
                }
            }
        });
        println!("| `{filter}` | {found} | {pages} | {millis:.1} |");
    }
    // what is not yet in its table is answered from spans
    let begun = Instant::now();
    let count = json!({"query": "SELECT count(*) FROM traces"}).to_string();
    let count = request("/api/v1/sql", "application/json", "", count.as_bytes());
    let assembled = |answer: Value| answer["rows"][0][0].as_str().and_then(|n| n.parse::<usize>().ok());
    while assembled(connection.ask(&count)) < Some(n_traces) {
        std::thread::sleep(Duration::from_millis(500));
    }
    println!("\nall traces assembled {:.0} s later", begun.elapsed().as_secs_f64());
    let (millis, graph) = median(|| connection.ask(&get("/api/v1/service-graph?start=-1h")));
    let length = |key: &str| graph[key].as_array().map_or(0, Vec::len);
    println!(
        "service graph of the last hour: {millis:.1} ms, {} nodes, {} edges",
        length("nodes"),
        length("edges")
    );
    let (_, peak) = server.stop();
    println!("peak memory {peak:.0} MiB");
}

/// Milliseconds that decoding all columns of the first row group of the largest file takes, median.
fn row_group_millis(folder: &Path) -> f64 {
    fn files(folder: &Path, found: &mut Vec<(u64, PathBuf)>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => files(&path, found),
                false if path.extension().is_some_and(|kind| kind == "parquet") && path.to_string_lossy().contains("spans") => {
                    found.push((entry.metadata().map_or(0, |meta| meta.len()), path))
                }
                false => {}
            }
        }
    }
    let mut found = Vec::new();
    files(folder, &mut found);
    let (_, largest) = found.into_iter().max().expect("a Parquet file of spans");
    let (millis, n_rows) = median(|| {
        let file = std::fs::File::open(&largest).expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .expect("Parquet")
            .with_row_groups(vec![0])
            .build();
        reader.expect("a reader").map(|batch| batch.expect("rows").num_rows()).sum::<usize>()
    });
    println!("a row group of {n_rows} rows");
    millis
}

fn large_trace() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let times = Times::of(LARGE_TRACE);
    let server = Server::start(folder.path(), "");
    let requests: Vec<Request> = (0..LARGE_TRACE / BATCH)
        .map(|batch| {
            let spans = (batch * BATCH..(batch + 1) * BATCH).map(|i| Span {
                trace_id: trace_id(0),
                // a tree: each has up to ten children
                parent_span_id: if i == 0 {
                    Vec::new()
                } else {
                    ((i - 1) as u64 / 10 + 1).to_be_bytes().to_vec()
                },
                ..span(i / SPANS_A_TRACE, i % SPANS_A_TRACE, &times)
            });
            let message = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    resource: resource("web"),
                    scope_spans: vec![ScopeSpans {
                        spans: spans.collect(),
                        ..ScopeSpans::default()
                    }],
                    ..ResourceSpans::default()
                }],
            };
            request("/v1/traces", "application/x-protobuf", "", &message.encode_to_vec())
        })
        .collect();
    server.send(&requests, 4);
    server.stop();
    println!("\n| a trace of {LARGE_TRACE} spans | ms | answer, MB | peak MiB of the server |\n|---|---|---|---|");
    let id: String = trace_id(0).iter().map(|byte| format!("{byte:02x}")).collect();
    let xray = format!("1-{}-{}", &id[..8], &id[8..]);
    let as_columns = Request(format!("GET /api/v1/traces/{id}?format=columns HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes());
    let documents = request("/Traces", "application/json", "", json!({"TraceIds": [xray]}).to_string().as_bytes());
    for (name, asked) in [("columns", as_columns), ("BatchGetTraces", documents)] {
        let server = Server::start(folder.path(), "");
        let mut connection = Connection::open(&server.address);
        let begun = Instant::now();
        let (status, body) = connection.exchange(&asked);
        let millis = begun.elapsed().as_secs_f64() * 1e3;
        assert!(status.contains(" 200 "), "{status}: {}", String::from_utf8_lossy(&body));
        let (_, peak) = server.stop();
        println!("| {name} | {millis:.0} | {:.1} | {peak:.0} |", body.len() as f64 / 1e6);
    }
}
