//! The whole process beside its parts: `cargo bench --bench compare [-- RECORDS [HOURS]]`. Linux only: it reads `/proc`.
//!
//! 1. Starts the release binary as a server on an empty folder and sends it seeded OTLP/HTTP log requests over four
//!    connections with `tracelake generate`, event times spread over HOURS (1); stops it, which flushes: records a second
//!    acknowledged and in blocks, CPU seconds and peak memory a million records, bytes a record in the store by kind.
//! 2. Adds a twentieth more of logs with their spans, starts it again on what is stored and asks it over HTTP, one keep-alive connection, answers read whole: median of
//!    nine after two to warm up.
//! 3. The same kind of records go through the parts alone, in this process: decode into columns, tantivy, Parquet; and
//!    the bare parts are asked the same questions, in process: the index for document numbers only (in no order of time: it has none), the
//!    Parquet file for its two columns, counted. The ratios are what durability, correlation, the head, whole rows, their order, HTTP and
//!    the rest of the server add.
//!
//! All ends up in one table.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{PhraseQuery, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, Term};
use tracelake::decode::{Context, Kind, decode};
use tracelake::generate::load;
use tracelake::model::Rows;

#[path = "support/raw.rs"]
mod raw;

const BINARY: &str = env!("CARGO_BIN_EXE_tracelake");
/// Of the records, for the server and for the parts alone.
const SEED: u64 = 1;
const WARM_UP: usize = 2;
const ROUNDS: usize = 9;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let records = numbers.next().unwrap_or(1_000_000);
    let hours = numbers.next().unwrap_or(1);
    let folder = tempfile::tempdir().expect("a temporary folder");

    let ours = ingest(folder.path(), records, hours);
    add_traces(folder.path(), records / 20);
    let answers = queries(folder.path());
    let parts = parts_alone(records, hours);

    let parts_cpu = parts.decode + parts.tantivy.cpu + parts.parquet.cpu;
    let a_record = |bytes: u64| bytes as f64 / records as f64;
    let (decode, parquet) = (format!("decode alone {:.2}", parts.decode), a_record(parts.parquet.bytes as u64));
    let tantivy = a_record(parts.tantivy.bytes as u64);
    println!("\n| | tracelake | the parts alone | ratio |");
    println!("|---|---|---|---|");
    println!("| acknowledged | {:.0} records/s | | |", ours.acknowledged_a_second);
    println!("| in blocks | {:.0} records/s | | |", ours.stored_a_second);
    let parts_text = format!("{decode}, tantivy {:.2}, Parquet {:.2}", parts.tantivy.cpu, parts.parquet.cpu);
    println!("| CPU-s a million | {:.1} | {parts_text} | {:.2} |", ours.cpu, ours.cpu / parts_cpu);
    println!("| peak memory | {:.0} MiB | | |", ours.peak_mib);
    println!(
        "| bytes a record | {:.1} | {:.1} | {:.2} |",
        a_record(ours.bytes),
        parquet + tantivy,
        a_record(ours.bytes) / (parquet + tantivy)
    );
    for (kind, bytes) in &ours.bytes_by_kind {
        match kind.as_str() {
            "Parquet" => println!("| … {kind} | {:.1} | {parquet:.1} | {:.2} |", a_record(*bytes), a_record(*bytes) / parquet),
            "positions" | "postings" | "terms" => {
                let is_its = |ending: &str| kind_of(ending) == Some(kind.as_str());
                let raw = parts
                    .tantivy
                    .by_ending
                    .iter()
                    .filter(|(ending, _)| is_its(ending))
                    .map(|(_, bytes)| *bytes as u64);
                let raw = a_record(raw.sum());
                println!("| … {kind} | {:.1} | {raw:.1} | {:.2} |", a_record(*bytes), a_record(*bytes) / raw);
            }
            _ => println!("| … {kind} | {:.1} | | |", a_record(*bytes)),
        }
    }
    for (name, millis, found) in answers {
        match parts.answers.iter().find(|(of, _)| *of == name) {
            Some((_, bare)) => println!("| {name} ({found}) | {millis:.2} ms | {bare:.3} ms | {:.1} |", millis / bare),
            None => println!("| {name} ({found}) | {millis:.2} ms | | |"),
        }
    }
}

/// What the server took for all records, from socket to stored block.
struct Ingested {
    acknowledged_a_second: f64,
    stored_a_second: f64,
    /// CPU seconds a million records.
    cpu: f64,
    peak_mib: f64,
    /// Under the store.
    bytes: u64,
    /// The largest first.
    bytes_by_kind: Vec<(String, u64)>,
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

fn ingest(folder: &Path, records: u64, hours: u64) -> Ingested {
    let (server, ready) = serve(folder);
    let otlp = format!("http://{}", ready["otlp_http"].as_str().expect("an address"));
    let begun = Instant::now();
    let generated = Command::new(BINARY)
        .args(["generate", "--connections", "4", "--otlp-http", &otlp])
        .args([
            "--records",
            &records.to_string(),
            "--spread",
            &(hours * 3_600).to_string(),
            "--seed",
            &SEED.to_string(),
        ])
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
    let mut by_kind = BTreeMap::new();
    let bytes = add_bytes(&folder.join("store"), &mut by_kind);
    let mut bytes_by_kind: Vec<(String, u64)> = by_kind.into_iter().collect();
    bytes_by_kind.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ingested {
        acknowledged_a_second: report["acknowledged_per_second"].as_f64().unwrap_or_default(),
        stored_a_second: acknowledged as f64 / seconds,
        cpu: end.0 * 1e6 / acknowledged as f64,
        peak_mib: end.1,
        bytes,
        bytes_by_kind,
    }
}

/// Some of the same with their spans, and newer: what is measured above is logs alone, and a trace is to have both.
fn add_traces(folder: &Path, records: u64) {
    let (server, ready) = serve(folder);
    let otlp = format!("http://{}", ready["otlp_http"].as_str().expect("an address"));
    let generated = Command::new(BINARY)
        .args(["generate", "--signals", "logs,traces", "--seed", "2", "--spread", "60", "--otlp-http", &otlp])
        .args(["--records", &records.max(1_000).to_string()])
        .output();
    assert!(generated.expect("the generator runs").status.success());
    stop(server);
}

/// What people and tools ask, over HTTP: median milliseconds, and what was found.
fn queries(folder: &Path) -> Vec<(&'static str, f64, String)> {
    let (server, ready) = serve(folder);
    let url = format!("http://{}/api/v1", ready["http"].as_str().expect("an address"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let client = reqwest::Client::new();
        let all = [("start", "-8d"), ("end", "now")];
        let search = |q: &str, limit: &str| client.get(format!("{url}/search")).query(&all).query(&[("q", q), ("limit", limit)]);
        let sql = |text: &str| client.post(format!("{url}/sql")).json(&json!({ "query": text }));
        // not the newest: generating ended before their spans were sent
        let some = ask(search("trace_id:*", "5000")).await;
        let trace = some["hits"]
            .as_array()
            .and_then(|hits| hits.last()?["trace_id"].as_str())
            .expect("a traced row")
            .to_string();
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
        let mut answers = Vec::new();
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
            answers.push((name, times[ROUNDS / 2].as_secs_f64() * 1e3, found(&answer)));
        }
        answers
    });
    println!("after the queries: peak memory {:.0} MiB", stop(server).1);
    answers
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

/// What tantivy's file of an ending holds.
fn kind_of(ending: &str) -> Option<&'static str> {
    match ending {
        "pos" => Some("positions"),
        "idx" => Some("postings"),
        "term" => Some("terms"),
        _ => None,
    }
}

/// Adds the bytes of the files under a folder, index objects by what is in them; gives their sum.
fn add_bytes(folder: &Path, by_kind: &mut BTreeMap<String, u64>) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut sum = 0;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            sum += add_bytes(&path, by_kind);
            continue;
        }
        let n_bytes = entry.metadata().map_or(0, |meta| meta.len());
        sum += n_bytes;
        let mut add = |kind: &str, bytes: u64| *by_kind.entry(kind.to_string()).or_default() += bytes;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => add("Parquet", n_bytes),
            Some("idx") => {
                let index = std::fs::read(&path).expect("a readable index");
                let mut rest = n_bytes;
                for (part, bytes) in tracelake::block::index_parts(&index.into()).expect("an index") {
                    let Some(kind) = kind_of(&part) else { continue };
                    add(kind, bytes);
                    rest -= bytes;
                }
                add("rest of the index", rest);
            }
            _ => add("catalog and state", n_bytes),
        }
    }
    sum
}

/// Decode, tantivy and Parquet, each alone.
struct Parts {
    /// CPU seconds a million records of decoding; those of the others are a million's too.
    decode: f64,
    tantivy: raw::Alone,
    parquet: raw::Alone,
    /// Median milliseconds of the bare index.
    answers: Vec<(&'static str, f64)>,
}

fn parts_alone(records: u64, hours: u64) -> Parts {
    let options = load::Options {
        records,
        seed: SEED,
        spread: Duration::from_secs(hours * 3_600),
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
    let (mut tantivy, index) = raw::raw_tantivy(&parts, n);
    let (mut parquet, file) = raw::raw_parquet(&parts, n);
    let a_million = 1e6 / n as f64;
    tantivy.cpu *= a_million;
    parquet.cpu *= a_million;
    Parts {
        decode: decoding * a_million,
        tantivy,
        parquet,
        answers: bare_answers(&index)
            .into_iter()
            .chain([("hour x service", bare_histogram(&file.into()))])
            .collect(),
    }
}

/// Median milliseconds of reading times and services out of the bare file, and counting them by hour.
fn bare_histogram(file: &bytes::Bytes) -> f64 {
    median(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("a Parquet file");
        let columns = ProjectionMask::columns(reader.parquet_schema(), ["time_unix_nano", "service_name"]);
        let mut counts: BTreeMap<(i64, String), u64> = BTreeMap::new();
        for batch in reader.with_projection(columns).build().expect("a reader") {
            let batch = batch.expect("rows");
            let times = batch.column_by_name("time_unix_nano").expect("times").as_primitive::<Int64Type>();
            let services = batch.column_by_name("service_name").expect("services").as_string::<i32>();
            for (time, service) in times.values().iter().zip(services) {
                let hour = time.div_euclid(3_600_000_000_000);
                let service = service.unwrap_or_default();
                match counts.iter_mut().find(|((of, name), _)| *of == hour && name == service) {
                    Some((_, n)) => *n += 1,
                    None => _ = counts.insert((hour, service.to_string()), 1),
                }
            }
        }
        counts
    })
}

/// The questions that a bare index can be asked: the best 100 documents, or how many.
fn bare_answers(index: &Index) -> Vec<(&'static str, f64)> {
    let searcher = index.reader().expect("a reader").searcher();
    let body = index.schema().get_field("body").expect("a field");
    let term = |text: &str| Term::from_field_text(body, text);
    let word = |text: &str| TermQuery::new(term(text), IndexRecordOption::Basic);
    let phrase = PhraseQuery::new(["connection", "reset", "by", "peer"].map(term).to_vec());
    let best = |query: &dyn Query| searcher.search(query, &TopDocs::with_limit(100).order_by_score()).expect("an answer").len();
    let (rare, common) = (word(load::RARE), word("request"));
    let traces = index.schema().get_field("trace_id").expect("a field");
    let some_trace = {
        let dictionary = searcher.segment_reader(0).inverted_index(traces).expect("an inverted index");
        let mut ids = dictionary.terms().stream().expect("terms");
        assert!(ids.advance(), "a trace ID");
        String::from_utf8_lossy(ids.key()).into_owned()
    };
    let trace = TermQuery::new(Term::from_field_text(traces, &some_trace), IndexRecordOption::Basic);
    vec![
        ("trace by ID", median(|| best(&trace))),
        ("rare term", median(|| best(&rare))),
        ("newest 100 of a common term", median(|| best(&common))),
        ("newest 100 of a phrase", median(|| best(&phrase))),
        ("count of a common term", median(|| searcher.search(&common, &Count).expect("an answer"))),
    ]
}

/// Median milliseconds.
fn median<T>(ask: impl Fn() -> T) -> f64 {
    let mut times: Vec<f64> = (0..WARM_UP + ROUNDS)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(ask());
            started.elapsed().as_secs_f64() * 1e3
        })
        .skip(WARM_UP)
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[ROUNDS / 2]
}
