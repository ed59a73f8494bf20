//! The whole process: `cargo bench --bench end_to_end [-- RECORDS]`.
//!
//! Starts the release binary as a server on an empty folder, sends it seeded OTLP/HTTP log requests over four connections
//! with `tracelake generate`, stops it (which flushes), and says what it cost the server: acknowledged records a second,
//! CPU seconds and peak memory a million records, bytes a record in the store. Linux only: it reads `/proc`.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let records: u64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let binary = env!("CARGO_BIN_EXE_tracelake");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = Command::new(binary)
        .args([
            "serve",
            "--http",
            "127.0.0.1:0",
            "--otlp-http",
            "127.0.0.1:0",
            "--otlp-grpc",
            "",
            "--xray",
            "",
            "--data-dir",
        ])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let mut ready = String::new();
    BufReader::new(server.stdout.take().expect("piped"))
        .read_line(&mut ready)
        .expect("a ready line");
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
    let otlp = format!("http://{}", ready["otlp_http"].as_str().expect("an address"));

    let generated = Command::new(binary)
        .args(["generate", "--connections", "4", "--otlp-http", &otlp, "--records", &records.to_string()])
        .output()
        .expect("the generator runs");
    let report: serde_json::Value = serde_json::from_slice(&generated.stdout).expect("the generator's report");
    println!("{report}");
    let acknowledged = report["acknowledged"].as_u64().unwrap_or(0).max(1);
    let until_acknowledged = usage(&server);
    println!("until acknowledged: {}", line(&until_acknowledged, acknowledged));

    let started = Instant::now();
    let stopped = Command::new("kill").args(["-TERM", &server.id().to_string()]).status();
    assert!(stopped.is_ok_and(|status| status.success()), "the server is told to stop");
    let mut last = until_acknowledged;
    while server.try_wait().expect("our child").is_none() {
        if let Some(now) = try_usage(&server) {
            last = now;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "with all rows in blocks (+{:.1} s): {}",
        started.elapsed().as_secs_f64(),
        line(&last, acknowledged)
    );
    let stored = bytes_under(&folder.path().join("store"));
    println!("{:.1} B a record in the store", stored as f64 / acknowledged as f64);
}

/// CPU seconds, and peak resident MiB.
type Usage = (f64, f64);

fn usage(server: &Child) -> Usage {
    try_usage(server).expect("the server runs")
}

fn try_usage(server: &Child) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // utime and stime, in ticks of 10 ms
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some((ticks / 100.0, kib / 1024.0))
}

fn line((cpu, peak): &Usage, records: u64) -> String {
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
