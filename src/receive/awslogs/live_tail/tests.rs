use tokio::sync::broadcast;

use super::super::super::testing::{Memory, ample};
use super::super::Config;
use super::*;
use crate::catalog::Snapshot;
use crate::ingest::{Source, View};
use crate::model::{Batch, ManualClock};
use crate::query::Engine;
use crate::storage::{Cache, LocalStore};

/// What a write path says to those who follow it, as long as there is one.
#[derive(Debug)]
struct Path(parking_lot::Mutex<Option<broadcast::Sender<Arc<Batch>>>>);

impl Source for Path {
    fn view(&self) -> View {
        View {
            head: Arc::from([]),
            snapshot: Arc::new(Snapshot::default()),
            lost: Arc::default(),
        }
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.0.lock().as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }
}

/// A session that has begun, whose updates are due at once.
fn session(path: &Arc<Path>, folder: &tempfile::TempDir, length: Duration) -> Frames {
    let begun = Instant::now();
    let clock = Arc::new(ManualClock::new(1_795_323_600_000_000_000));
    let store = Arc::new(LocalStore::open(&folder.path().join("store")).expect("a store"));
    let cache = Cache::open(store, &folder.path().join("cache"), 1 << 20).expect("a cache");
    let engine = Engine::new(path.clone(), cache, query::Config::default(), clock.clone());
    Frames {
        first: None,
        receiver: Receiver::new(Config::default(), Arc::new(Memory::default()), clock, ample()),
        session: Session {
            groups: vec![("g".into(), "000000000000:g".into())],
            streams: Streams::All,
            pattern: FilterPattern::parse("").expect("a pattern"),
        },
        tail: Some(engine.tail(Table::Logs, Query::All).expect("a tail")),
        ticks: tokio::time::interval_at(begun, UPDATE_EVERY),
        ends: begun + length,
        update: Update::default(),
    }
}

/// The type of an exception's frame.
fn exception_of(frame: &Bytes) -> Option<&'static str> {
    let text = String::from_utf8_lossy(frame);
    let known = ["SessionTimeoutException", "SessionStreamingException"];
    known
        .into_iter()
        .find(|name| text.contains(":exception-type") && text.contains(name) && text.contains("\"message\""))
}

#[tokio::test]
async fn a_session_ends_with_its_time_and_says_so_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Arc::new(Path(parking_lot::Mutex::new(Some(broadcast::channel(1).0))));
    let mut frames = session(&path, &folder, MAX_SESSION);
    let update = frames.next().await.expect("an update");
    assert_eq!(
        (update.clone(), exception_of(&update)),
        (Update::default().frame(), None),
        "three hours are not over"
    );
    let mut frames = session(&path, &tempfile::tempdir().expect("a folder"), Duration::ZERO);
    assert_eq!(exception_of(&frames.next().await.expect("the last frame")), Some("SessionTimeoutException"));
    assert!(frames.next().await.is_none() && frames.tail.is_none(), "its place is free again");
}

#[tokio::test]
async fn a_session_says_that_the_server_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Arc::new(Path(parking_lot::Mutex::new(Some(broadcast::channel(1).0))));
    let mut frames = session(&path, &folder, MAX_SESSION);
    frames.ticks = ticks();
    *path.0.lock() = None;
    let last = loop {
        let frame = frames.next().await.expect("a frame");
        // an update may be due before
        if exception_of(&frame).is_some() {
            break frame;
        }
    };
    assert_eq!(exception_of(&last), Some("SessionStreamingException"));
    assert!(frames.next().await.is_none());
}

/// An event of the stream that the session shows.
fn with_body(now_millis: i64, number: usize, body: String) -> query::Hit {
    query::Hit::Log(Box::new(query::LogHit {
        ingest_id: number as i64,
        time_unix_nano: now_millis * 1_000_000,
        observed_time_micros: Some(now_millis * 1_000),
        body: Some(body),
        resource_attributes: vec![("aws.log.group.names".into(), "g".into()), ("aws.log.stream.names".into(), "s".into())],
        ..query::LogHit::default()
    }))
}

#[tokio::test]
async fn an_update_has_a_mebibyte_of_messages_or_one_that_has_more_and_its_frame_is_one_that_sdks_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Arc::new(Path(parking_lot::Mutex::new(Some(broadcast::channel(1).0))));
    let frames = session(&path, &folder, MAX_SESSION);
    let now_millis = 1_795_323_600_000;
    frames.receiver.registry.make_streams("g", ["s"], now_millis).await.expect("made");
    let (kib, mib) = (1 << 10, 1 << 20);
    for (sizes, n_shown, is_sampled) in [
        (vec![256 * kib; 4], 4, false),
        (vec![256 * kib; 5], 4, true),
        (vec![mib], 1, false),
        (vec![mib, 1], 1, true),
        // what finds room behind one that does not
        (vec![kib, mib, kib], 2, true),
        (vec![3 * mib], 1, false),
        (vec![3 * mib + 1, kib], 1, true),
    ] {
        let mut update = Update::default();
        let tailed = TailEvent {
            // six bytes each in JSON
            hits: sizes.iter().map(|size| with_body(now_millis, 1, "\u{1}".repeat(*size))).collect(),
            dropped: 0,
            missed_batches: 0,
            reason: None,
        };
        update.take_in(tailed, &frames.session, &frames.receiver);
        assert_eq!((update.results.len(), update.is_sampled), (n_shown, is_sampled), "of {sizes:?}");
        // botocore's eventstream.py: _MAX_PAYLOAD_LENGTH
        assert!(update.frame().len() < 24 << 20);
    }
}

#[tokio::test]
async fn an_update_has_five_hundred_events_and_says_if_there_were_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Arc::new(Path(parking_lot::Mutex::new(Some(broadcast::channel(1).0))));
    let frames = session(&path, &folder, MAX_SESSION);
    let now_millis = 1_795_323_600_000;
    frames.receiver.registry.make_streams("g", ["s"], now_millis).await.expect("made");
    let event = |number: usize| with_body(now_millis, number, format!("event {number}"));
    for (n_events, n_shown, is_sampled) in [(MAX_RESULTS, 500, false), (MAX_RESULTS + 1, 500, true), (0, 0, false)] {
        let mut update = Update::default();
        let tailed = TailEvent {
            hits: (0..n_events).map(event).collect(),
            dropped: 0,
            missed_batches: 0,
            reason: None,
        };
        update.take_in(tailed, &frames.session, &frames.receiver);
        assert_eq!((update.results.len(), update.is_sampled), (n_shown, is_sampled), "of {n_events}");
    }
    // what the tail could not look at is told too
    for (dropped, missed_batches) in [(1, 0), (0, 1)] {
        let mut update = Update::default();
        let tailed = TailEvent {
            hits: vec![event(1)],
            dropped,
            missed_batches,
            reason: None,
        };
        update.take_in(tailed, &frames.session, &frames.receiver);
        assert_eq!((update.results.len(), update.is_sampled), (1, true));
    }
}
