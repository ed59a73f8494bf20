//! A release binary in a process of its own, asked over loopback HTTP by connections that stay. Linux only: it reads `/proc`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_tracelake");
const WARM_UP: usize = 2;
/// Measured runs of a [`median`].
pub(crate) const ROUNDS: usize = 9;

/// A request, head and body.
pub(crate) struct Request(pub(crate) Vec<u8>);

/// A `POST` of a body; `more` are header lines, each with its end.
pub(crate) fn request(path: &str, content_type: &str, more: &str, body: &[u8]) -> Request {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    );
    Request([head.as_bytes(), body].concat())
}

/// A server in a process of its own.
pub(crate) struct Server {
    process: Child,
    /// Of HTTP.
    pub(crate) address: String,
}

impl Server {
    /// On what the folder holds, with these settings.
    pub(crate) fn start(folder: &Path, settings: &str) -> Server {
        let config = folder.join("bench.toml");
        std::fs::write(&config, settings).expect("a file");
        let mut process = Command::new(BINARY)
            .args(["serve", "--http", "127.0.0.1:0", "--otlp-http", "", "--otlp-grpc", "", "--xray", ""])
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let mut ready = String::new();
        BufReader::new(process.stdout.take().expect("piped"))
            .read_line(&mut ready)
            .expect("a ready line");
        let ready: Value = serde_json::from_str(&ready).expect("JSON");
        Server {
            process,
            address: ready["http"].as_str().expect("an address").to_string(),
        }
    }

    /// Sends requests over so many connections.
    pub(crate) fn send(&self, requests: &[Request], connections: usize) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let mut connection = Connection::open(&self.address);
                    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                        connection.ask_whatever(request);
                    }
                });
            }
        });
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        usage(&self.process).expect("the server runs").0
    }

    /// Tells it to stop, which flushes, and waits; its CPU seconds, and the most MiB of memory it had.
    pub(crate) fn stop(mut self) -> (f64, f64) {
        let stopped = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(stopped.is_ok_and(|status| status.success()), "the server is told to stop");
        let mut last = (0.0, 0.0);
        while self.process.try_wait().expect("our child").is_none() {
            last = usage(&self.process).unwrap_or(last);
            std::thread::sleep(Duration::from_millis(5));
        }
        last
    }
}

fn usage(process: &Child) -> Option<(f64, f64)> {
    let of_process = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", process.id())).ok();
    let (stat, status) = (of_process("stat")?, of_process("status")?);
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // utime and stime, in ticks of 10 ms
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some((ticks / 100.0, kib / 1024.0))
}

/// One connection that stays.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// To a server's address.
    pub(crate) fn open(address: &str) -> Connection {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Connection(BufReader::with_capacity(1 << 16, stream))
    }

    /// The answer, which must be a success.
    pub(crate) fn ask(&mut self, request: &Request) -> Value {
        let (status, body) = self.exchange(request);
        assert!(status.contains(" 200 "), "{status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or(Value::Null)
    }

    /// The same for one whose answer says nothing; one that is told to come again does.
    pub(crate) fn ask_whatever(&mut self, request: &Request) {
        loop {
            let (status, body) = self.exchange(request);
            if status.contains(" 200 ") {
                return;
            }
            assert!(status.contains(" 503 "), "{status}: {}", String::from_utf8_lossy(&body));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The status line and the body of the answer.
    pub(crate) fn exchange(&mut self, request: &Request) -> (String, Vec<u8>) {
        self.0.get_mut().write_all(&request.0).expect("sent");
        let (mut status, mut length) = (String::new(), 0);
        self.0.read_line(&mut status).expect("a status");
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a header");
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        (status, body)
    }
}

/// The median time in milliseconds, and what the last run gave.
pub(crate) fn median<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    for _ in 0..WARM_UP {
        run();
    }
    let mut last = run();
    let mut walls = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        last = run();
        walls.push(begun.elapsed());
    }
    walls.sort_unstable();
    (walls[ROUNDS / 2].as_secs_f64() * 1e3, last)
}
