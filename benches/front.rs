//! The AWS face of logs beside our own: `cargo bench --bench front [-- EVENTS]` (1,000,000). Linux only: it reads `/proc`.
//!
//! Each part is a release binary on an empty folder, asked over loopback HTTP, unsigned, each connection with one request under way.
//!
//! 1. `PutLogEvents` and OTLP/HTTP (protobuf) take the same events, 1,000 a request, over 1, 4 and 64 connections: events a second, and
//!    CPU seconds of the server a million events. The ratio is OTLP's CPU to `PutLogEvents`': the rate per core.
//! 2. The same `PutLogEvents` while nobody, and 100 live tails, watch a tenth of it: what the tails were sent, and what they cost.
//! 3. All events of one group are stored, the server starts again on them: `FilterLogEvents` of a rare word, a common one newest first and a
//!    JSON selector, each beside the same question to `/api/v1/search`: medians of nine, after two to warm up.
//! 4. A script of Logs Insights, `stats count(*) by bin(5m)` behind a filter by a rare word: the time, and the share of the bytes that it
//!    says it scanned. (Run it with 10000000 for the figure that is published.)

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};
use tracelake::model::{Clock as _, SystemClock};

#[path = "support/server.rs"]
mod server;

use server::{Connection, ROUNDS, Request, Server, median, request};

const GROUP: &str = "/shop/logs";
const ARN: &str = "arn:aws:logs:us-east-1:000000000000:log-group:/shop/logs";
const BATCH: usize = 1_000;
const TAILS: usize = 100;

fn main() {
    let n_events = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000usize);
    writes(n_events.min(1_000_000));
    tails(n_events.min(200_000));
    reads(n_events);
}

fn writes(n_events: usize) {
    println!("\n{n_events} events a run, {BATCH} a request");
    println!("| connections | PutLogEvents, events/s | CPU-s a million | OTLP, events/s | CPU-s a million | PutLogEvents per core, of OTLP |");
    println!("|---|---|---|---|---|---|");
    for connections in [1, 4, 64] {
        let [(put_rate, put_cpu), (otlp_rate, otlp_cpu)] = [put_log_events, otlp].map(|body: fn(usize) -> Request| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let server = start(folder.path());
            make_group(&server);
            let bodies: Vec<Request> = (0..n_events / BATCH).map(body).collect();
            let (cpu, begun) = (server.cpu(), Instant::now());
            server.send(&bodies, connections);
            let seconds = begun.elapsed().as_secs_f64();
            // what is flushed later costs too
            let cpu = server.stop().0 - cpu;
            (n_events as f64 / seconds, cpu * 1e6 / n_events as f64)
        });
        let ratio = otlp_cpu / put_cpu;
        println!("| {connections} | {put_rate:.0} | {put_cpu:.1} | {otlp_rate:.0} | {otlp_cpu:.1} | {ratio:.2} |");
    }
}

fn tails(n_events: usize) {
    println!("\n{n_events} events by PutLogEvents over 4 connections, live tails of those with status 500 and ms below 100");
    println!("| live tails | events/s | CPU-s a million | bytes sent to tails |");
    println!("|---|---|---|---|");
    for n_tails in [0, TAILS] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = start(folder.path());
        make_group(&server);
        let (is_over, sent, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let watching: Vec<_> = (0..n_tails)
            .map(|_| {
                let (is_over, sent, ready, address) = (is_over.clone(), sent.clone(), ready.clone(), server.address.clone());
                std::thread::spawn(move || watch(&address, &is_over, &sent, &ready))
            })
            .collect();
        while ready.load(Ordering::Relaxed) < n_tails {
            std::thread::sleep(Duration::from_millis(10));
        }
        let bodies: Vec<Request> = (0..n_events / BATCH).map(put_log_events).collect();
        let (cpu, begun) = (server.cpu(), Instant::now());
        server.send(&bodies, 4);
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = (server.cpu() - cpu) * 1e6 / n_events as f64;
        // the last second's events are on their way
        std::thread::sleep(Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
        watching.into_iter().for_each(|tail| tail.join().expect("a tail ends"));
        let rate = n_events as f64 / seconds;
        println!("| {n_tails} | {rate:.0} | {cpu:.1} | {} |", sent.load(Ordering::Relaxed));
        server.stop();
    }
}

/// Reads a live tail until it is over.
fn watch(address: &str, is_over: &AtomicBool, sent: &AtomicU64, ready: &AtomicUsize) {
    let call = json!({"logGroupIdentifiers": [ARN], "logEventFilterPattern": "{ $.status = 500 && $.ms < 100 }"});
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    stream.write_all(&aws_call("StartLiveTail", &call).0).expect("sent");
    let mut buffer = vec![0; 1 << 16];
    let mut is_ready = false;
    while !is_over.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                assert!(is_ready || buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..n]));
                sent.fetch_add(n as u64, Ordering::Relaxed);
                ready.fetch_add(usize::from(!is_ready), Ordering::Relaxed);
                is_ready = true;
            }
            Err(_) => {}
        }
    }
}

fn reads(n_events: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(folder.path());
    make_group(&server);
    // piece by piece: not all bodies fit into memory
    for first in (0..n_events / BATCH).step_by(500) {
        let bodies: Vec<Request> = (first..(n_events / BATCH).min(first + 500)).map(otlp).collect();
        server.send(&bodies, 4);
    }
    server.stop();
    let server = start(folder.path());
    let mut connection = Connection::open(&server.address);
    println!("\n{n_events} events of one group, in blocks; medians of {ROUNDS}, warm, over one connection");
    println!("| question | events | FilterLogEvents, ms | /api/v1/search, ms | ratio |");
    println!("|---|---|---|---|---|");
    for (name, pattern, search, limit) in [
        ("rare word", "heliotrope", "heliotrope", 100),
        ("common word, newest first", "completed", "completed", 100),
        (
            "JSON selector, newest first",
            "{ $.status = 500 && $.user = \"u-77*\" }",
            "$.status:500 $.user:u-77*",
            100,
        ),
    ] {
        // a token where the pages that came so far have fewer
        let (ours, n_found) = median(|| {
            let (mut found, mut token) = (0, None);
            loop {
                let mut call =
                    json!({"logGroupName": GROUP, "filterPattern": pattern, "limit": limit, "startFromHead": false, "startTime": millis_ago(3_600_000)});
                if let Some(token) = token {
                    call["nextToken"] = token;
                }
                let answer = connection.ask(&aws_call("FilterLogEvents", &call));
                found += answer["events"].as_array().map_or(0, Vec::len);
                token = answer.get("nextToken").cloned();
                if found >= limit || token.is_none() {
                    return found;
                }
            }
        });
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("q", &format!("@log_group:\"{GROUP}\" {search}"))
            .append_pair("start", "-1h")
            .append_pair("limit", &limit.to_string())
            .finish();
        let request = Request(format!("GET /api/v1/search?{query} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes());
        let (searched, _) = median(|| connection.ask(&request)["hits"].as_array().map_or(0, Vec::len));
        println!("| {name} | {n_found} | {ours:.2} | {searched:.2} | {:.2} |", ours / searched);
    }
    println!("\n| script | ms | scanned, % of bytes |");
    println!("|---|---|---|");
    for script in [
        "filter @message like \"heliotrope\" | stats count(*) by bin(5m)",
        "stats count(*) by bin(5m)",
        "stats count(*), avg(ms) by path | limit 20",
    ] {
        let begun = Instant::now();
        let range = (millis_ago(3_600_000) / 1_000, millis_ago(0) / 1_000);
        let call = json!({"logGroupName": GROUP, "queryString": script, "startTime": range.0, "endTime": range.1});
        let id = connection.ask(&aws_call("StartQuery", &call))["queryId"].clone();
        let answer = loop {
            let answer = connection.ask(&aws_call("GetQueryResults", &json!({"queryId": id})));
            if answer["status"] != "Running" && answer["status"] != "Scheduled" {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert_eq!(answer["status"], "Complete", "{answer}");
        let figure = |name: &str| answer["statistics"][name].as_f64().unwrap_or_default();
        let (scanned, skipped) = (figure("bytesScanned"), figure("estimatedBytesSkipped"));
        let share = 100.0 * scanned / (scanned + skipped).max(1.0);
        let millis = begun.elapsed().as_secs_f64() * 1e3;
        println!("| `{}` | {millis:.0} | {share:.3} |", script.replace('|', "\\|"));
    }
    server.stop();
}

fn millis_ago(millis: i64) -> i64 {
    SystemClock.now_nanos().div_euclid(1_000_000) - millis
}

fn aws_call(operation: &str, call: &Value) -> Request {
    let target = format!("x-amz-target: Logs_20140328.{operation}\r\n");
    request("/", "application/x-amz-json-1.1", &target, call.to_string().as_bytes())
}

fn start(folder: &Path) -> Server {
    Server::start(folder, &format!("[query]\nmax_tails = {}\n", TAILS + 1))
}

fn make_group(server: &Server) {
    let mut connection = Connection::open(&server.address);
    connection.ask(&aws_call("CreateLogGroup", &json!({"logGroupName": GROUP})));
    for stream in 0..8 {
        let call = json!({"logGroupName": GROUP, "logStreamName": format!("s{stream}")});
        connection.ask(&aws_call("CreateLogStream", &call));
    }
}

/// The text of an event, the same in both protocols: half JSON, one in 100,000 with the rare word.
fn text(number: usize) -> String {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (ms, user, status) = (mixed % 997, (mixed >> 20) % 50_000, [200, 200, 200, 404, 500][(mixed >> 50) as usize % 5]);
    let rare = if number % 100_000 == 50_000 { " heliotrope" } else { "" };
    match number % 2 {
        0 => format!(
            r#"{{"level":"INFO","path":"/cart/{}","status":{status},"ms":{ms},"user":"u-{user}","note":"done{rare}"}}"#,
            mixed % 5_003
        ),
        _ => format!("request {mixed:016x} completed: status={status} in {ms} ms for user=u-{user}{rare}"),
    }
}

/// Events of a batch: within the half hour that ended a minute ago.
fn times(batch: usize) -> impl Iterator<Item = (usize, i64)> {
    let first = millis_ago(1_860_000) + (batch as i64 * 37) % 1_700_000;
    (0..BATCH).map(move |i| (batch * BATCH + i, first + i as i64))
}

fn put_log_events(batch: usize) -> Request {
    let events: Vec<Value> = times(batch)
        .map(|(number, millis)| json!({"timestamp": millis, "message": text(number)}))
        .collect();
    let stream = format!("s{}", batch % 8);
    aws_call("PutLogEvents", &json!({"logGroupName": GROUP, "logStreamName": stream, "logEvents": events}))
}

fn otlp(batch: usize) -> Request {
    let text_value = |text: String| AnyValue {
        value: Some(any_value::Value::StringValue(text)),
    };
    let attribute = |key: &str, value: String| KeyValue {
        key: key.into(),
        value: Some(text_value(value)),
        ..KeyValue::default()
    };
    let records = times(batch).map(|(number, millis)| LogRecord {
        time_unix_nano: millis.cast_unsigned() * 1_000_000,
        body: Some(text_value(text(number))),
        ..LogRecord::default()
    });
    let message = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![
                    attribute("aws.log.group.names", GROUP.into()),
                    attribute("aws.log.stream.names", format!("s{}", batch % 8)),
                ],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records: records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request("/v1/logs", "application/x-protobuf", "", &message.encode_to_vec())
}
