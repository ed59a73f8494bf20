//! The whole process beside its parts: `cargo bench --bench compare [-- RECORDS [HOURS]]`. Linux only: it reads `/proc`.
//!
//! 1. Starts the release binary as a server on an empty folder and sends it seeded OTLP/HTTP log requests over four
//!    connections with `tracelake generate`, event times spread over HOURS (1); stops it, which flushes: records a second
//!    acknowledged and in blocks, CPU seconds and peak memory a million records, bytes a record in the store.
//! 2. Starts it again on what is stored and asks it over HTTP, one keep-alive connection, answers read whole: median of
//!    nine after two to warm up.
//! 3. The same kind of records go through the parts alone, in this process: decode into columns, tantivy, Parquet. The
//!    ratio is what durability, correlation, the head, HTTP and the rest of the server add.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracelake::decode::{Context, Kind, decode};
use tracelake::generate::load;
use tracelake::model::Rows;

#[path = "support/raw.rs"]
mod raw;

const BINARY: &str = env!("CARGO_BIN_EXE_tracelake");
const WARM_UP: usize = 2;
const ROUNDS: usize = 9;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let records = numbers.next().unwrap_or(1_000_000);
    let hours = numbers.next().unwrap_or(1);
    let folder = tempfile::tempdir().expect("a temporary folder");

    let cost = ingest(folder.path(), records, hours);
    queries(folder.path());
    let parts = parts_alone(records);
    println!("the parts alone: {parts:.1} CPU-s a million; the server is {:.2} x that", cost / parts);
}

/// A server on `folder`, and the addresses it tells.
fn serve(folder: &Path) -> (Child, Value) {
    let addresses = [
        "--http",
        "127.0.0.1:0",
        "--otlp-http",
        "127.0.0.1:0",
        "--otlp-grpc",
        "",
        "--xray",
        "",
        "--data-dir",
    ];
    let mut server = Command::new(BINARY)
        .arg("serve")
        .args(addresses)
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let mut ready = String::new();
    let mut out = BufReader::new(server.stdout.take().expect("piped"));
    out.read_line(&mut ready).expect("a ready line");
    (server, serde_json::from_str(&ready).expect("JSON"))
}

/// Tells the server to stop and waits; its last usage.
fn stop(mut server: Child) -> Usage {
    let stopped = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    assert!(stopped.is_ok_and(|status| status.success()), "the server is told to stop");
    let mut last = usage(&server).unwrap_or_default();
    while server.try_wait().expect("our child").is_none() {
        last = usage(&server).unwrap_or(last);
        std::thread::sleep(Duration::from_millis(20));
    }
    last
}

/// CPU seconds a million records, from socket to stored block.
fn ingest(folder: &Path, records: u64, hours: u64) -> f64 {
    let (server, ready) = serve(folder);
    let otlp = format!("http://{}", ready["otlp_http"].as_str().expect("an address"));
    let begun = Instant::now();
    let generated = Command::new(BINARY)
        .args(["generate", "--connections", "4", "--otlp-http", &otlp])
        .args(["--records", &records.to_string(), "--spread", &(hours * 3_600).to_string()])
        .output()
        .expect("the generator runs");
    let report: Value = serde_json::from_slice(&generated.stdout).expect("the generator's report");
    println!("{report}");
    let acknowledged = report["acknowledged"].as_u64().unwrap_or(0).max(1);
    println!("until acknowledged: {}", line(usage(&server).expect("the server runs"), acknowledged));
    let draining = Instant::now();
    let end = stop(server);
    let seconds = begun.elapsed().as_secs_f64() - report["build_seconds"].as_f64().unwrap_or(0.0);
    println!(
        "with all rows in blocks (+{:.1} s, {:.0} records/s over all): {}",
        draining.elapsed().as_secs_f64(),
        acknowledged as f64 / seconds,
        line(end, acknowledged)
    );
    let stored = bytes_under(&folder.join("store"));
    println!("{:.1} B a record in the store", stored as f64 / acknowledged as f64);
    end.0 * 1e6 / acknowledged as f64
}

/// What people and tools ask, over HTTP.
fn queries(folder: &Path) {
    let (server, ready) = serve(folder);
    let url = format!("http://{}/api/v1", ready["http"].as_str().expect("an address"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let all = [("start", "-8d"), ("end", "now")];
        let search = |q: &str, limit: &str| client.get(format!("{url}/search")).query(&all).query(&[("q", q), ("limit", limit)]);
        let sql = |text: &str| client.post(format!("{url}/sql")).json(&json!({ "query": text }));
        let some = ask(search("trace_id:*", "1")).await;
        let trace = some["hits"][0]["trace_id"].as_str().expect("a traced row").to_string();
        let questions = [
            ("rare term", search(load::RARE, "1000")),
            ("newest 100 of a common term", search("request", "100")),
            ("newest 100 of a phrase", search("\"connection reset by peer\"", "100")),
            ("newest 100 of all", search("*", "100")),
            (
                "hour x service",
                client
                    .get(format!("{url}/count"))
                    .query(&all)
                    .query(&[("by", "service_name"), ("bucket", "1h"), ("limit", "10000")]),
            ),
            (
                "hour x service, SQL",
                sql("SELECT date_trunc('hour', time) AS hour, service_name, count(*) AS n FROM logs GROUP BY 1, 2"),
            ),
            ("trace by ID", client.get(format!("{url}/traces/{trace}"))),
            (
                "count of a common term",
                client.get(format!("{url}/count")).query(&all).query(&[("q", "request")]),
            ),
        ];
        println!("| over HTTP | median ms | found |");
        println!("|---|---|---|");
        for (name, request) in questions {
            let mut times = Vec::new();
            let mut answer = Value::Null;
            for round in 0..WARM_UP + ROUNDS {
                let started = Instant::now();
                answer = ask(request.try_clone().expect("no stream")).await;
                if round >= WARM_UP {
                    times.push(started.elapsed());
                }
            }
            times.sort_unstable();
            println!("| {name} | {:.2} | {} |", times[ROUNDS / 2].as_secs_f64() * 1e3, found(&answer));
        }
    });
    println!("after the queries: peak memory {:.0} MiB", stop(server).1);
}

async fn ask(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer");
    let (status, bytes) = (answer.status(), answer.bytes().await.expect("its body"));
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).expect("JSON")
}

fn found(answer: &Value) -> String {
    let length = |key: &str| answer[key].as_array().map(|list| list.len().to_string());
    length("hits")
        .or_else(|| length("rows"))
        .or_else(|| length("spans").and_then(|spans| Some(format!("{spans} spans, {} logs", length("logs")?))))
        .or_else(|| length("groups").filter(|groups| groups != "0"))
        .unwrap_or_else(|| answer["count"].to_string())
}

/// CPU seconds, and peak resident MiB.
type Usage = (f64, f64);

fn usage(server: &Child) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // utime and stime, in ticks of 10 ms
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some((ticks / 100.0, kib / 1024.0))
}

fn line((cpu, peak): Usage, records: u64) -> String {
    format!("{:.1} CPU-s a million records, peak memory {peak:.0} MiB", cpu * 1e6 / records as f64)
}

fn bytes_under(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_under(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// CPU seconds a million records of decode, tantivy and Parquet, each alone.
fn parts_alone(records: u64) -> f64 {
    let options = load::Options {
        records: records.min(500_000),
        ..load::Options::default()
    };
    let now = 1_795_323_600_000_000_000;
    let bodies = load::build(&options, now).expect("bodies");
    let context = Context {
        received_at_nanos: now,
        retention_days: 0,
    };
    let before = raw::cpu_seconds();
    let mut parts: Vec<Rows> = Vec::new();
    for body in &bodies {
        parts.extend(decode(Kind::OtlpLogs, &body.bytes, &context).expect("our own bytes").batch.rows);
    }
    let decoding = raw::cpu_seconds() - before;
    drop(bodies);
    let n: usize = parts.iter().map(Rows::len).sum();
    println!("decode alone: {:.2} CPU s per million", decoding * 1e6 / n as f64);
    (decoding + raw::raw_tantivy(&parts, n) + raw::raw_parquet(&parts, n)) * 1e6 / n as f64
}
