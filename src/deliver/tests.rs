use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::dead::DeadLetters;
use super::envelope;
use super::lake::{Lake, Page};
use super::sink::{Fault, MAX_RECORD_BYTES, Record, Remedy, Sink, Sinks, Taken};
use super::*;
use crate::model::{EventId, ManualClock};
use crate::net::{Encoding, inflate};
use crate::query::filter_pattern::FilterPattern;
use crate::query::{Cursor, Hit, LogHit, Query};

const NOW: i64 = 1_795_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

fn event(lsn: i64, time_millis: i64, stream: &str, message: &str) -> Hit {
    Hit::Log(Box::new(LogHit {
        ingest_id: lsn << 20,
        time_unix_nano: time_millis * 1_000_000,
        observed_time_micros: Some(NOW / 1_000),
        body: Some(message.into()),
        resource_attributes: vec![("aws.log.group.names".into(), "g".into()), ("aws.log.stream.names".into(), stream.into())],
        ..LogHit::default()
    }))
}

/// Rows and documents in memory. Each page has two rows.
#[derive(Debug, Default)]
struct Memory {
    hits: Mutex<Vec<Hit>>,
    states: Mutex<BTreeMap<String, Bytes>>,
    /// Keeping a document fails so often first.
    failing_puts: Mutex<usize>,
    failing_pages: Mutex<usize>,
}

#[async_trait]
impl Lake for Memory {
    async fn settled(&self, _before: i64) -> i64 {
        let last = self.hits.lock().iter().map(Hit::ingest_id).max().unwrap_or_default();
        last | 0xf_ffff
    }
    async fn page(&self, _table: Table, _query: &Query, positions: RangeInclusive<i64>, after: Option<Cursor>) -> Result<Page, String> {
        if take_one(&self.failing_pages) {
            return Err("the store is away".into());
        }
        let key = |hit: &Hit| (hit.time_unix_nano(), hit.ingest_id());
        let mut found: Vec<Hit> = self.hits.lock().iter().filter(|hit| positions.contains(&hit.ingest_id())).cloned().collect();
        found.retain(|hit| after.is_none_or(|after| key(hit) > (after.time_unix_nano, after.ingest_id)));
        found.sort_by_key(key);
        let has_more = found.len() > 2;
        found.truncate(2);
        let next = found.last().filter(|_| has_more).map(|hit| Cursor {
            time_unix_nano: hit.time_unix_nano(),
            ingest_id: hit.ingest_id(),
        });
        Ok(Page { hits: found, next })
    }
    async fn put(&self, key: &str, value: Option<Bytes>) -> Result<(), String> {
        if take_one(&self.failing_puts) {
            return Err("the log is full".into());
        }
        match value {
            Some(value) => self.states.lock().insert(key.into(), value),
            None => self.states.lock().remove(key),
        };
        Ok(())
    }
    fn put_relaxed(&self, key: &str, value: Bytes) {
        self.states.lock().insert(key.into(), value);
    }
    fn states(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let states = self.states.lock();
        let found = states.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
    fn node(&self) -> String {
        "here".into()
    }
}

fn take_one(left: &Mutex<usize>) -> bool {
    let mut left = left.lock();
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

/// What a destination answers to one call.
#[derive(Debug)]
enum Answer {
    Takes,
    /// All but these.
    AllBut(Vec<usize>),
    Fails(Remedy),
}

/// A destination: answers in turn, then as it does for ever.
#[derive(Debug, Default)]
struct Destinations {
    answers: Mutex<VecDeque<Answer>>,
    /// Answered when there are no others: whether it is away.
    is_away: Mutex<Option<Remedy>>,
    /// Refuses calls that hold a record with this in it.
    poison: Mutex<Option<Vec<u8>>>,
    taken: Mutex<Vec<Record>>,
    calls: Mutex<usize>,
}

fn fault(remedy: Remedy) -> Fault {
    Fault {
        message: format!("{remedy:?}"),
        remedy,
    }
}

#[derive(Debug)]
struct Reached(Arc<Destinations>);

#[async_trait]
impl Sinks for Reached {
    async fn open(&self, _destination: &Destination) -> Arc<dyn Sink> {
        Arc::new(Reached(self.0.clone()))
    }
}

#[async_trait]
impl Sink for Reached {
    async fn put(&self, records: &[Record]) -> Result<Taken, Fault> {
        *self.0.calls.lock() += 1;
        if let Some(poison) = &*self.0.poison.lock()
            && records.iter().any(|record| record.data.windows(poison.len()).any(|part| part == poison))
        {
            return Err(fault(Remedy::Nothing));
        }
        let answer = self.0.answers.lock().pop_front();
        let missed = match answer {
            None => match *self.0.is_away.lock() {
                Some(remedy) => return Err(fault(remedy)),
                None => vec![],
            },
            Some(Answer::Takes) => vec![],
            Some(Answer::AllBut(missed)) => missed,
            Some(Answer::Fails(remedy)) => return Err(fault(remedy)),
        };
        let outcome = |(number, record): (usize, &Record)| {
            if missed.contains(&number) {
                return Err(fault(Remedy::Retry));
            }
            self.0.taken.lock().push(record.clone());
            Ok(())
        };
        Ok(records.iter().enumerate().map(outcome).collect())
    }
}

/// Log groups with these filters.
#[derive(Debug, Default)]
struct Groups {
    filters: Mutex<Vec<Subscription>>,
    hidden_stream: Mutex<Option<String>>,
}

impl Subscriptions for Groups {
    fn subscriptions(&self) -> Vec<Subscription> {
        self.filters.lock().clone()
    }
    fn shows(&self, _group: &str, stream: &str, _millis: i64) -> bool {
        self.hidden_stream.lock().as_deref() != Some(stream)
    }
    fn account_id(&self) -> &str {
        "000000000000"
    }
}

fn subscription(pattern: &str) -> Subscription {
    Subscription {
        log_group: "g".into(),
        name: "f".into(),
        created_millis: 1,
        pattern: pattern.into(),
        destination: Destination::of_arn("arn:aws:kinesis:us-east-1:1:stream/out").expect("a stream"),
        is_random: false,
        is_for_us: true,
        system_fields: BTreeMap::new(),
        since: Position { node: "here".into(), lsn: 0 },
    }
}

/// A server that delivers; its lake and destinations outlive it.
struct Life {
    deliveries: Arc<Deliveries>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

struct World {
    lake: Arc<Memory>,
    destinations: Arc<Destinations>,
    groups: Arc<Groups>,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    config: Config,
}

impl World {
    fn new() -> Self {
        Self {
            lake: Arc::default(),
            destinations: Arc::default(),
            groups: Arc::default(),
            clock: Arc::new(ManualClock::new(NOW)),
            folder: tempfile::tempdir().expect("a folder"),
            config: Config {
                every_millis: 10,
                ..Config::default()
            },
        }
    }

    fn with_filter(pattern: &str) -> Self {
        let world = Self::new();
        world.groups.filters.lock().push(subscription(pattern));
        world
    }

    async fn live(&self) -> Life {
        let sinks = Arc::new(Reached(self.destinations.clone()));
        let dead = DeadLetters::new(self.folder.path(), 1 << 20);
        let deliveries = Deliveries::over(self.config.clone(), self.lake.clone(), sinks, dead, self.clock.clone(), 0.001).await;
        deliveries.follow(self.groups.clone());
        let (deliveries, stop) = (Arc::new(deliveries), CancellationToken::new());
        let (working, stopping) = (deliveries.clone(), stop.clone());
        let running = tokio::spawn(async move { working.run(stopping).await });
        Life { deliveries, stop, running }
    }

    fn add(&self, hits: impl IntoIterator<Item = Hit>) {
        self.lake.hits.lock().extend(hits);
    }

    /// Messages as they arrived.
    fn arrived(&self) -> Vec<String> {
        let taken = self.destinations.taken.lock();
        let of_record = |record: &Record| {
            let events = opened(record)["logEvents"].as_array().cloned().unwrap_or_default();
            events
                .iter()
                .map(|event| event["message"].as_str().expect("text").to_string())
                .collect::<Vec<_>>()
        };
        taken.iter().flat_map(of_record).collect()
    }

    fn letters(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("dead-letters.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Life {
    async fn until(&self, what: &str, is_so: impl Fn(&Report) -> bool) -> Report {
        let begun = std::time::Instant::now();
        loop {
            if let Some(report) = self.deliveries.reports().into_iter().find(|report| is_so(report)) {
                return report;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {:?}", self.deliveries.reports());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_delivered(&self, rows: u64) -> Report {
        let report = self.until("delivered", |report| report.delivered >= rows && report.positions_behind == 0).await;
        assert_eq!(report.delivered, rows, "{report:?}");
        report
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("ends");
    }

    /// As `kill -9` does.
    fn kill(self) {
        self.running.abort();
        self.deliveries.kill();
    }
}

/// What a subscription's record holds.
fn opened(record: &Record) -> Value {
    let json = inflate::inflate(Encoding::Gzip, &record.data, 16 << 20).expect("gzip");
    serde_json::from_slice(&json).expect("JSON")
}

fn all(messages: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = messages.iter().map(|text| (*text).to_string()).collect();
    all.sort();
    all
}

fn sorted(mut messages: Vec<String>) -> Vec<String> {
    messages.sort();
    messages
}

#[tokio::test]
async fn events_arrive_once_in_envelopes_of_their_stream() {
    let world = World::with_filter("ERROR");
    let life = world.live().await;
    world.add([
        event(1, 5, "a", "ERROR 1"),
        event(2, 3, "b", "ERROR 2"),
        event(3, 4, "b", "fine"),
        event(4, 9, "a", "ERROR 3"),
    ]);
    life.until_delivered(3).await;
    assert_eq!(sorted(world.arrived()), all(&["ERROR 1", "ERROR 2", "ERROR 3"]));
    let first = opened(&world.destinations.taken.lock()[0]);
    let id = EventId::new(3_000_000, 2 << 20, "g", "b").to_string();
    let expected = serde_json::json!({
        "messageType": "DATA_MESSAGE", "owner": "000000000000", "logGroup": "g", "logStream": "b", "subscriptionFilters": ["f"],
        "logEvents": [{ "id": id, "timestamp": 3, "message": "ERROR 2" }],
    });
    assert_eq!(first, expected);
    // a later life goes on behind them
    life.end().await;
    let life = world.live().await;
    world.add([event(7, 1, "a", "ERROR 4")]);
    life.until_delivered(4).await;
    assert_eq!(world.arrived().len(), 4);
    let keys: Vec<String> = world.destinations.taken.lock().iter().map(|record| record.partition_key.clone()).collect();
    assert_eq!((keys.len(), &keys[1]), (3, &keys[2]), "a stream's records go to one shard");
    assert_ne!(keys[0], keys[1]);
    life.end().await;
}

#[tokio::test]
async fn a_record_that_failed_is_tried_again_alone() {
    let world = World::with_filter("");
    world
        .destinations
        .answers
        .lock()
        .extend([Answer::AllBut(vec![1]), Answer::AllBut(vec![0]), Answer::Takes]);
    world.add([event(1, 1, "a", "1"), event(2, 2, "b", "2")]);
    let life = world.live().await;
    let report = life.until_delivered(2).await;
    assert_eq!(world.arrived(), ["1", "2"]);
    assert_eq!((*world.destinations.calls.lock(), report.failing_since, report.error), (3, None, None));
    life.end().await;
}

#[tokio::test]
async fn throttling_faults_and_silence_lose_nothing_and_double_nothing() {
    let world = World::with_filter("");
    let fails = |n| std::iter::repeat_with(|| Answer::Fails(Remedy::Retry)).take(n);
    world
        .destinations
        .answers
        .lock()
        .extend(fails(5).chain([Answer::Takes]).chain(fails(2)).chain([Answer::Fails(Remedy::Mend)]));
    *world.lake.failing_pages.lock() = 2;
    *world.lake.failing_puts.lock() = 2;
    let messages: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    world.add(messages.iter().enumerate().map(|(n, text)| event(n as i64 + 1, 100 - n as i64, "a", text)));
    let life = world.live().await;
    life.until_delivered(20).await;
    assert_eq!(sorted(world.arrived()), sorted(messages));
    assert_eq!(world.letters().len(), 0);
    life.end().await;
}

#[tokio::test]
async fn a_death_before_the_checkpoint_repeats_a_page_and_loses_nothing() {
    let world = World::with_filter("");
    world.add((1..=5).map(|n| event(n, n, "a", &n.to_string())));
    let life = world.live().await;
    // the first page is delivered, and its checkpoint cannot be kept; nor can that of the beginning be in doubt
    life.until("begun", |report| report.delivered >= 1 || report.positions_behind == 0).await;
    life.until_delivered(5).await;
    *world.lake.failing_puts.lock() = usize::MAX;
    world.add((6..=9).map(|n| event(n, n, "a", &n.to_string())));
    life.until("stuck at the checkpoint", |report| {
        report.error.as_ref().is_some_and(|error| error.contains("checkpoint"))
    })
    .await;
    assert_eq!(world.arrived().len(), 7);
    life.kill();
    *world.lake.failing_puts.lock() = 0;
    let life = world.live().await;
    life.until_delivered(9).await;
    let arrived = world.arrived();
    let expected = all(&["1", "2", "3", "4", "5", "6", "6", "7", "7", "8", "9"]);
    assert_eq!(sorted(arrived), expected, "a page again, and no more");
    life.end().await;
}

#[tokio::test]
async fn what_a_destination_refuses_for_good_is_a_letter_and_the_rest_arrives() {
    let mut world = World::new();
    world.config.rows.push(RowsConfig {
        name: "r".into(),
        stream: "s".into(),
        ..RowsConfig::default()
    });
    *world.destinations.poison.lock() = Some(b"poison".to_vec());
    let life = world.live().await;
    world.add([event(1, 1, "a", "good"), event(2, 2, "a", "poison"), event(3, 3, "a", "better")]);
    let report = life.until("both", |report| report.delivered == 2 && !report.dead_letters.is_empty()).await;
    assert_eq!(report.dead_letters, BTreeMap::from([("refused".to_string(), 1)]));
    let letters = world.letters();
    assert_eq!(
        (letters.len(), letters[0]["job"].as_str(), letters[0]["reason"].as_str()),
        (1, Some("rows r"), Some("refused"))
    );
    let lines: Vec<String> = world
        .destinations
        .taken
        .lock()
        .iter()
        .map(|record| String::from_utf8_lossy(&record.data).into_owned())
        .collect();
    assert_eq!(lines.len(), 2);
    for (line, body) in lines.iter().zip(["good", "better"]) {
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        let row: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((row["body"].as_str(), row["log_group"].as_str()), (Some(body), Some("g")));
    }
    life.end().await;
}

#[tokio::test]
async fn what_could_not_be_delivered_for_a_day_is_a_letter() {
    let world = World::with_filter("");
    *world.destinations.is_away.lock() = Some(Remedy::Retry);
    world.add([event(1, 1, "a", "old")]);
    let life = world.live().await;
    let report = life.until("failing", |report| report.failing_since.is_some()).await;
    assert_eq!((report.delivered, report.error.as_deref()), (0, Some("Retry")));
    world.clock.advance(23 * HOUR);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.letters().len(), 0);
    // also when the server was not there all the time
    life.end().await;
    world.clock.advance(2 * HOUR);
    let life = world.live().await;
    let report = life.until("given up", |report| report.dead_letters.contains_key("too_old")).await;
    assert_eq!(report.dead_letters["too_old"], 1);
    assert_eq!(world.letters()[0]["reason"], "too_old");
    life.end().await;
}

#[tokio::test]
async fn a_filter_that_is_gone_leaves_its_sums_and_one_of_its_name_begins_anew() {
    let world = World::with_filter("");
    world.add([event(1, 1, "a", "1")]);
    let life = world.live().await;
    life.until_delivered(1).await;
    world.groups.filters.lock().clear();
    let begun = std::time::Instant::now();
    while world.lake.states("deliver/").iter().all(|(key, _)| !key.starts_with("deliver/ended/")) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.add([event(2, 2, "a", "while there was none")]);
    let mut again = subscription("");
    again.created_millis = 2;
    again.since.lsn = 2;
    world.groups.filters.lock().push(again);
    world.add([event(3, 3, "a", "3")]);
    life.until_delivered(1).await;
    assert_eq!(world.arrived(), ["1", "3"]);
    let sums: Vec<crate::ingest::Sent> = world
        .lake
        .states("deliver/")
        .iter()
        .map(|(_, bytes)| serde_json::from_slice(bytes).expect("sums"))
        .collect();
    assert_eq!(sums.iter().map(|sent| sent.delivered).sum::<u64>(), 2);
    life.end().await;
}

#[test]
fn envelopes_are_parted_until_they_fit_and_what_never_fits_is_told() {
    let noise = |seed: u64, n: usize| -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from_u32(0x4e00 + ((state >> 33) % 20_000) as u32).expect("a character")
        };
        (0..n).map(|_| next()).collect()
    };
    let (one, pattern) = (subscription(""), FilterPattern::parse("").expect("a pattern"));
    // three bytes a character, two of them noise: about 0.62 MB a text once compressed
    let hits: Vec<Hit> = (1..=5).map(|n| event(n, n, "a", &noise(n as u64, 320_000))).collect();
    let encoded = envelope::of_subscription(&one, &pattern, &Groups::default(), "node", hits);
    assert_eq!(encoded.records.iter().map(|record| record.rows).sum::<u64>(), 5);
    assert!(encoded.records.iter().all(|record| record.data.len() <= MAX_RECORD_BYTES));
    assert_eq!(encoded.too_large.len(), 0);
    let encoded = envelope::of_subscription(&one, &pattern, &Groups::default(), "node", vec![event(1, 1, "a", &noise(9, 700_000))]);
    assert_eq!((encoded.records.len(), encoded.too_large.len()), (0, 1));
    let small: Vec<Hit> = (1..=2_000).map(|n| event(n, n, "a", "small")).collect();
    let encoded = envelope::of_subscription(&one, &pattern, &Groups::default(), "node", small);
    assert_eq!((encoded.records.len(), encoded.records[0].rows), (1, 2_000));
}

#[test]
fn events_of_gone_streams_and_other_groups_stay_and_fields_are_extracted() {
    let groups = Groups::default();
    *groups.hidden_stream.lock() = Some("gone".into());
    let one = subscription("[ip, user, status = 5*]");
    let pattern = FilterPattern::parse(&one.pattern).expect("a pattern");
    let mut other = event(3, 3, "a", "1.1.1.1 eve 500");
    if let Hit::Log(log) = &mut other {
        log.resource_attributes[0].1 = "other".into();
    }
    let hits = vec![
        event(1, 1, "a", "1.1.1.1 ann 503"),
        event(2, 2, "gone", "1.1.1.1 bob 503"),
        other,
        event(4, 4, "a", "1.1.1.1 dan 200"),
    ];
    let encoded = envelope::of_subscription(&one, &pattern, &groups, "node", hits);
    assert_eq!(encoded.records.len(), 1);
    let events = opened(&encoded.records[0])["logEvents"].clone();
    assert_eq!(events.as_array().map(Vec::len), Some(1));
    let expected = serde_json::json!({ "ip": "1.1.1.1", "user": "ann", "status": "503" });
    assert_eq!(events[0]["extractedFields"], expected);
}

#[test]
fn events_say_the_system_fields_that_a_filter_asks_for() {
    let one = Subscription {
        system_fields: BTreeMap::from([("@aws.region".to_string(), "eu-west-1".to_string())]),
        ..subscription("")
    };
    let pattern = FilterPattern::parse("").expect("a pattern");
    let encoded = envelope::of_subscription(&one, &pattern, &Groups::default(), "node", vec![event(1, 1, "a", "m")]);
    let events = &opened(&encoded.records[0])["logEvents"];
    assert_eq!(events[0]["extractedFields"], serde_json::json!({ "@aws.region": "eu-west-1" }));
    let elsewhere = Subscription {
        is_for_us: false,
        ..one.clone()
    };
    let encoded = envelope::of_subscription(&elsewhere, &pattern, &Groups::default(), "node", vec![event(1, 1, "a", "m")]);
    assert!(encoded.records.is_empty());
    // beside those of the pattern
    let delimited = Subscription {
        pattern: "[level, ...]".into(),
        ..one
    };
    let pattern = FilterPattern::parse("[level, ...]").expect("a pattern");
    let encoded = envelope::of_subscription(&delimited, &pattern, &Groups::default(), "node", vec![event(1, 1, "a", "INFO m")]);
    let fields = &opened(&encoded.records[0])["logEvents"][0]["extractedFields"];
    assert_eq!((&fields["level"], &fields["@aws.region"]), (&"INFO".into(), &"eu-west-1".into()));
}

#[test]
fn rows_that_came_by_a_stream_do_not_go_into_it_again() {
    let from = |arn: &str| {
        let mut hit = event(1, 1, "a", "m");
        if let Hit::Log(log) = &mut hit {
            log.resource_attributes.push(("aws.firehose.arn".into(), arn.into()));
        }
        hit
    };
    let destination = Destination::of_arn("arn:aws:firehose:eu-west-1:123456789012:deliverystream/out").expect("a stream");
    let one = Subscription {
        destination: destination.clone(),
        ..subscription("")
    };
    let hits = vec![
        from("arn:aws:firehose:eu-west-1:123456789012:deliverystream/out"),
        from("arn:aws:firehose:eu-west-1:123456789012:deliverystream/other"),
        from("arn:aws:firehose:us-east-1:123456789012:deliverystream/out"),
        from("arn:aws:firehose:eu-west-1:999999999999:deliverystream/out"),
        from("no ARN"),
        event(1, 1, "a", "m"),
    ];
    let pattern = FilterPattern::parse("").expect("a pattern");
    let encoded = envelope::of_subscription(&one, &pattern, &Groups::default(), "node", hits.clone());
    assert_eq!((encoded.came_from_there, encoded.records[0].rows), (1, 5));
    // the setting tells a name alone
    let named = Destination {
        account: String::new(),
        region: String::new(),
        ..destination
    };
    let encoded = envelope::of_rows(&named, &hits);
    assert_eq!((encoded.came_from_there, encoded.records.len()), (3, 3));
    let nothing = FilterPattern::parse("absent").expect("a pattern");
    let encoded = envelope::of_subscription(&one, &nothing, &Groups::default(), "node", hits);
    assert_eq!(
        (encoded.came_from_there, encoded.records.len()),
        (0, 0),
        "only what would have been sent counts"
    );
}

#[test]
fn the_control_message_is_the_services() {
    let record = control_message("Kinesis", 7);
    let message = opened(&record);
    assert_eq!(
        (&message["messageType"], &message["owner"]),
        (&"CONTROL_MESSAGE".into(), &"CloudwatchLogs".into())
    );
    assert_eq!(
        message["logEvents"][0]["message"],
        "CWL CONTROL MESSAGE: Checking health of destination Kinesis."
    );
}

#[test]
fn settings_with_mistakes_are_told_by_their_place() {
    assert_eq!(Config::default().problems(), Vec::<String>::new());
    let rows = |name: &str, query: &str, stream: &str, table: &str| RowsConfig {
        name: name.into(),
        query: query.into(),
        stream: stream.into(),
        table: table.into(),
        ..RowsConfig::default()
    };
    let config = Config {
        every_millis: 0,
        rows: vec![
            rows("a", "x", "s", ""),
            rows("a", "severity>=ERROR", "s", "spans"),
            rows("b c", "", "", "metrics"),
            rows("d", "(", "s", ""),
        ],
        ..Config::default()
    };
    let problems = config.problems().join("\n");
    for part in [
        "every_millis",
        "rows[1]: name \"a\" is given twice",
        "rows[2]: name",
        "rows[2]: stream",
        "rows[2]: table",
        "rows[3]: query",
    ] {
        assert!(problems.contains(part), "{part} in {problems}");
    }
    assert!(!problems.contains("rows[0]"), "{problems}");
}
