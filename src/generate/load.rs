//! Throughput: so many records, as fast as they are acknowledged or at a given rate, and how long that took.
//!
//! Request bodies are built before the clock starts, so that what is measured is the server, not us: up to
//! [`MAX_BODY_BYTES`] of them; if more is asked for, a thread builds the others while these are sent. No record is sent twice.
//! Each connection has one request under way at a time, as an OTLP exporter has.

mod records;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use records::{RARE, Records};

use super::otlp;
use super::send::{Sender, Targets};
use super::{Error, Result};
use crate::model::{Clock, Signal};

/// Bytes of request bodies that are built beforehand and held.
pub const MAX_BODY_BYTES: usize = if cfg!(test) { 8 << 20 } else { 512 << 20 };
/// Bodies that wait to be sent, where more are built while others are sent.
const MAX_READY_BODIES: usize = 64;
/// Log records that arise with one trace, background ones included: 15 in its spans and 5.5 beside it.
const LOGS_PER_TRACE: f64 = 20.5;
/// Instrumentation scope of what is sent.
const SCOPE: &str = "tracelake.load";

/// What to send.
#[derive(Clone, Debug)]
pub struct Options {
    /// OTLP/HTTP base address, `http://127.0.0.1:4318`.
    pub otlp_http: String,
    /// Bearer token, where the server asks for one.
    pub token: Option<String>,
    /// Records in all: log records, spans and metric points together (1,000,000).
    pub records: u64,
    /// Records a second; none: as fast as they are acknowledged.
    pub rate: Option<f64>,
    /// Requests under way at a time (4).
    pub connections: usize,
    /// Of the values.
    pub seed: u64,
    /// Which signals; log records and spans come in the ratio in which they arise.
    pub signals: Vec<Signal>,
    /// Records a request (1,000).
    pub batch: usize,
    /// Whether bodies are gzipped.
    pub gzip: bool,
    /// Event times spread over so long (10 min).
    pub spread: Duration,
    /// They end so long before now (0).
    pub ago: Duration,
    /// Event times begin now and go on as the rate does, instead; bodies are built while others are sent.
    pub live: bool,
    /// Whether each log record carries its number as the attribute `load.number`, so that a test can find it.
    pub numbered: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            otlp_http: "http://127.0.0.1:4318".into(),
            token: None,
            records: 1_000_000,
            rate: None,
            connections: 4,
            seed: 42,
            signals: vec![Signal::Logs],
            batch: 1_000,
            gzip: false,
            spread: Duration::from_secs(600),
            ago: Duration::ZERO,
            live: false,
            numbered: false,
        }
    }
}

/// How it went; printed as JSON.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Records that were to be sent.
    pub records: u64,
    /// Records that the server acknowledged.
    pub acknowledged: u64,
    /// Records it rejected.
    pub rejected: u64,
    /// Records given up.
    pub given_up: u64,
    /// Requests acknowledged.
    pub requests: u64,
    /// Tries beyond the first.
    pub retries: u64,
    /// Bytes of acknowledged bodies, as sent.
    pub body_bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Acknowledged records a second.
    pub acknowledged_per_second: f64,
    /// Milliseconds from sending to acknowledgement, retries included.
    pub ack_ms: Quantiles,
    /// Seconds it took to build the bodies.
    pub build_seconds: f64,
    /// What the last refused request was told.
    pub last_error: Option<String>,
}

/// Of request times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// Nine in ten were as fast.
    pub p90: f64,
    /// 99 in 100 were as fast.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// One request, ready to go.
#[derive(Clone, Debug)]
pub struct Body {
    /// What is in it.
    pub signal: Signal,
    /// How many records.
    pub n_records: u64,
    /// Its bytes, gzipped if so asked.
    pub bytes: Bytes,
}

/// Bodies, one after the other, until all records are in one.
struct Bodies {
    options: Options,
    records: Records,
    n_built: usize,
    left: u64,
}

impl Bodies {
    /// The newest event time is, nearly, `options.ago` before `now_nanos`; with `options.live` the oldest is `now_nanos`, and times go on as the
    /// rate does.
    fn new(options: &Options, now_nanos: i64) -> Result<Bodies> {
        if options.signals.is_empty() || options.batch == 0 || options.connections == 0 || options.records == 0 {
            return Err(Error::Invalid("signals, batch, connections and records must not be empty or zero".into()));
        }
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let (start_nanos, spread) = match (options.live, options.rate) {
            (false, _) => {
                let spread = nanos(options.spread);
                (now_nanos.saturating_sub(nanos(options.ago)).saturating_sub(spread), spread)
            }
            (true, Some(rate)) if rate > 0.0 => (now_nanos, (options.records as f64 / rate * 1e9) as i64),
            (true, _) => return Err(Error::Invalid("event times that go on as they are sent need a rate".into())),
        };
        let n_traces = (options.records as f64 / LOGS_PER_TRACE).max(1.0);
        let step = (spread as f64 / n_traces) as i64;
        Ok(Bodies {
            records: Records::new(options.seed, start_nanos, step, options.numbered),
            options: options.clone(),
            n_built: 0,
            left: options.records,
        })
    }
}

impl Iterator for Bodies {
    type Item = Body;

    fn next(&mut self) -> Option<Body> {
        if self.left == 0 {
            return None;
        }
        let (options, records) = (&self.options, &mut self.records);
        let wants = |signal: Signal| options.signals.contains(&signal);
        let n = self.left.min(options.batch as u64) as usize;
        let turn_of_metrics = wants(Signal::Metrics) && (options.signals.len() == 1 || self.n_built % 10 == 9);
        let (signal, bytes) = if turn_of_metrics {
            (Signal::Metrics, otlp::metrics_request(records.metrics(n), SCOPE).encode_to_vec())
        } else if wants(Signal::Traces) && (!wants(Signal::Logs) || records.spans_wait()) {
            (Signal::Traces, otlp::traces_request(records.spans(n), SCOPE).encode_to_vec())
        } else {
            (Signal::Logs, otlp::logs_request(records.logs(n), SCOPE).encode_to_vec())
        };
        if !wants(Signal::Traces) {
            records.drop_spans();
        }
        if !wants(Signal::Logs) {
            records.drop_logs();
        }
        let bytes = if options.gzip { gzip(&bytes) } else { bytes };
        self.left -= n as u64;
        self.n_built += 1;
        Some(Body {
            signal,
            n_records: n as u64,
            bytes: bytes.into(),
        })
    }
}

/// The first bodies, up to [`MAX_BODY_BYTES`] of them.
pub fn build(options: &Options, now_nanos: i64) -> Result<Vec<Body>> {
    Ok(first_of(&mut Bodies::new(options, now_nanos)?))
}

fn first_of(bodies: &mut Bodies) -> Vec<Body> {
    let (mut first, mut held) = (Vec::new(), 0usize);
    while held < MAX_BODY_BYTES
        && let Some(body) = bodies.next()
    {
        held += body.bytes.len();
        first.push(body);
    }
    first
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // level 1, as exporters do; writing to a Vec cannot fail
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// Builds the bodies, sends them, and reports. Ends early, with what there is, on `stop`.
pub async fn run(options: Options, clock: &dyn Clock, stop: CancellationToken) -> Result<Report> {
    let building = Instant::now();
    let now_nanos = clock.now_nanos();
    let mut bodies = Bodies::new(&options, now_nanos)?;
    let is_live = options.live;
    // what is built beforehand takes no time from the server while it is measured
    let built = tokio::task::spawn_blocking(move || {
        let first = if is_live { Vec::new() } else { first_of(&mut bodies) };
        (first, bodies)
    });
    let (first, bodies) = built.await.map_err(|error| Error::Invalid(format!("building failed: {error}")))?;
    let build_seconds = building.elapsed().as_secs_f64();
    let targets = Targets {
        http: options.otlp_http.clone(),
        otlp_http: options.otlp_http.clone(),
        // nothing is sent there
        xray: "127.0.0.1:9".into(),
        token: options.token.clone(),
    };
    let sender = Arc::new(Sender::open(targets).await?);
    let (made, others) = mpsc::channel(MAX_READY_BODIES);
    let making = std::thread::spawn(move || {
        for body in bodies {
            // nobody takes them any more
            if made.blocking_send(body).is_err() {
                return;
            }
        }
    });
    let shared = Arc::new(Shared {
        first: Mutex::new(first.into()),
        others: tokio::sync::Mutex::new(others),
        sender,
        claimed: AtomicU64::new(0),
        rate: options.rate.filter(|rate| *rate > 0.0),
        gzip: options.gzip,
        took: Mutex::default(),
        last_error: Mutex::default(),
        began: Instant::now(),
    });
    let mut connections = JoinSet::new();
    for _ in 0..options.connections {
        connections.spawn(send_until(shared.clone(), stop.clone()));
    }
    while connections.join_next().await.is_some() {}
    shared.others.lock().await.close();
    let _ = tokio::task::spawn_blocking(move || making.join()).await;
    let seconds = shared.began.elapsed().as_secs_f64();
    let counts = shared.sender.counters.read();
    let mut took = std::mem::take(&mut *shared.took.lock());
    took.sort_unstable();
    Ok(Report {
        records: options.records,
        acknowledged: counts.acknowledged,
        rejected: counts.rejected,
        given_up: counts.given_up,
        requests: took.len() as u64,
        retries: counts.retries,
        body_bytes: counts.bytes,
        seconds,
        acknowledged_per_second: counts.acknowledged as f64 / seconds.max(1e-9),
        ack_ms: quantiles(&took),
        build_seconds,
        last_error: shared.last_error.lock().take(),
    })
}

/// What the connections share.
struct Shared {
    /// Built beforehand.
    first: Mutex<VecDeque<Body>>,
    /// Built meanwhile.
    others: tokio::sync::Mutex<mpsc::Receiver<Body>>,
    sender: Arc<Sender>,
    /// Records in bodies that were taken.
    claimed: AtomicU64,
    rate: Option<f64>,
    gzip: bool,
    took: Mutex<Vec<Duration>>,
    last_error: Mutex<Option<String>>,
    began: Instant,
}

impl Shared {
    async fn next(&self) -> Option<Body> {
        let first = self.first.lock().pop_front();
        match first {
            Some(body) => Some(body),
            None => self.others.lock().await.recv().await,
        }
    }
}

async fn send_until(shared: Arc<Shared>, stop: CancellationToken) {
    while let Some(body) = shared.next().await {
        let before = shared.claimed.fetch_add(body.n_records, Ordering::Relaxed);
        if let Some(rate) = shared.rate {
            let due = Duration::from_secs_f64(before as f64 / rate);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(due.saturating_sub(shared.began.elapsed())) => {}
            }
        }
        let sent = tokio::select! {
            () = stop.cancelled() => return,
            sent = shared.sender.otlp(body.signal, body.bytes.clone(), body.n_records, shared.gzip) => sent,
        };
        match sent {
            Ok(took) => shared.took.lock().push(took),
            Err(message) => *shared.last_error.lock() = Some(message),
        }
    }
}

fn quantiles(sorted: &[Duration]) -> Quantiles {
    let at = |q: f64| {
        let index = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).map_or(0.0, |took| (took.as_secs_f64() * 1e6).round() / 1e3)
    };
    Quantiles {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Context, Kind, decode};
    use crate::model::{ManualClock, Table};

    const NOW: i64 = 1_795_000_000_000_000_000;

    fn options(signals: &[Signal], records: u64) -> Options {
        Options {
            records,
            batch: 500,
            signals: signals.to_vec(),
            ..Options::default()
        }
    }

    fn kind(signal: Signal) -> Kind {
        match signal {
            Signal::Logs => Kind::OtlpLogs,
            Signal::Traces => Kind::OtlpTraces,
            Signal::Metrics => Kind::OtlpMetrics,
        }
    }

    const CONTEXT: Context = Context {
        received_at_nanos: NOW,
        retention_days: 0,
    };

    #[test]
    fn a_seed_always_gives_the_same_bodies_and_our_decoder_takes_all_of_them() {
        let all = [Signal::Logs, Signal::Traces, Signal::Metrics];
        let (one, two) = (
            build(&options(&all, 10_250), NOW).expect("bodies"),
            build(&options(&all, 10_250), NOW).expect("bodies"),
        );
        assert!(one.iter().zip(&two).all(|(a, b)| a.bytes == b.bytes));
        assert_eq!(one.iter().map(|body| body.n_records).sum::<u64>(), 10_250);
        for body in &one {
            let decoded = decode(kind(body.signal), &body.bytes, &CONTEXT).expect("decodes");
            assert_eq!(decoded.rejected, []);
            let points = |rows: &crate::model::Rows| if rows.table() == Table::MetricSeries { 0 } else { rows.len() as u64 };
            assert_eq!(decoded.batch.rows.iter().map(points).sum::<u64>(), body.n_records, "{:?}", body.signal);
        }
        let of = |signal| one.iter().filter(|body| body.signal == signal).count();
        assert!(of(Signal::Logs) > of(Signal::Traces) && of(Signal::Traces) > 2 && of(Signal::Metrics) == 2);
    }

    #[test]
    fn records_are_about_as_large_as_real_ones_and_lie_in_the_spread() {
        let bodies = build(&options(&[Signal::Logs], 20_000), NOW).expect("bodies");
        let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
        let each = bytes / 20_000;
        assert!((200..400).contains(&each), "{each} bytes a record");
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for body in bodies {
            let rows = decode(Kind::OtlpLogs, &body.bytes, &CONTEXT).expect("decodes").batch.rows.remove(0);
            let (first, last) = rows.time_bounds().expect("rows");
            (min, max) = (min.min(first), max.max(last));
        }
        assert!(
            min >= NOW - 601_000_000_000 && max <= NOW + 20_000_000_000,
            "from {} to {}",
            NOW - min,
            NOW - max
        );
    }

    #[test]
    fn options_that_send_nothing_are_refused() {
        assert!(build(&options(&[], 10), NOW).is_err());
        assert!(build(&options(&[Signal::Logs], 0), NOW).is_err());
    }

    #[tokio::test]
    async fn what_is_acknowledged_adds_up() {
        let app = axum::Router::new().route("/v1/logs", axum::routing::post(|| async { "" }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        let options = Options {
            otlp_http: format!("http://{address}"),
            gzip: true,
            ..options(&[Signal::Logs], 2_300)
        };
        let report = run(options, &ManualClock::new(NOW), CancellationToken::new()).await.expect("a report");
        assert_eq!((report.acknowledged, report.requests, report.rejected, report.given_up), (2_300, 5, 0, 0));
        assert!(report.ack_ms.p50 <= report.ack_ms.p99 && report.acknowledged_per_second > 0.0);
    }

    #[tokio::test]
    async fn no_record_is_sent_twice_however_many_there_are() {
        use std::collections::HashSet;
        use xxhash_rust::xxh3::xxh3_64;
        let (seen, bytes) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicU64::new(0)));
        let takes = {
            let (seen, bytes) = (seen.clone(), bytes.clone());
            move |body: Bytes| async move {
                bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                seen.lock().insert(xxh3_64(&body));
                ""
            }
        };
        let app = axum::Router::new().route("/v1/logs", axum::routing::post(takes));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        let options = Options {
            otlp_http: format!("http://{address}"),
            ..options(&[Signal::Logs], 50_250)
        };
        let report = run(options, &ManualClock::new(NOW), CancellationToken::new()).await.expect("a report");
        assert_eq!((report.acknowledged, report.requests, seen.lock().len()), (50_250, 101, 101));
        assert!(bytes.load(Ordering::Relaxed) > MAX_BODY_BYTES as u64, "some were built while others were sent");
    }

    #[test]
    fn live_times_begin_now_and_go_on_at_the_rate() {
        let live = Options {
            live: true,
            rate: Some(1_000.0),
            ..options(&[Signal::Logs], 10_000)
        };
        let mut times: Vec<i64> = Vec::new();
        for body in Bodies::new(&live, NOW).expect("bodies") {
            let decoded = decode(Kind::OtlpLogs, &body.bytes, &CONTEXT).expect("decodes");
            times.extend(decoded.batch.rows.iter().flat_map(|rows| rows.times().values().to_vec()));
        }
        let seconds = |nanos: i64| (nanos - NOW) as f64 / 1e9;
        let (first, last) = (times.iter().min().expect("a time"), times.iter().max().expect("a time"));
        assert!(
            (-5.0..1.0).contains(&seconds(*first)) && (8.0..20.0).contains(&seconds(*last)),
            "{first} {last}"
        );
        assert!(Bodies::new(&Options { rate: None, ..live }, NOW).is_err());
    }

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let found = quantiles(&times);
        assert_eq!((found.p50, found.p90, found.p99, found.max), (50.0, 90.0, 99.0, 100.0));
        assert_eq!(quantiles(&[]), Quantiles::default());
    }
}
