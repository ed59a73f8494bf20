//! Counts that no other frame of the log says.

use super::*;
use crate::decode::{Decoded, Rejected};
use crate::model::Signal;

fn of_logs(ingest: &Ingest) -> (u64, u64, u64) {
    let sums = ingest.ledger().sums();
    let found = sums
        .iter()
        .find(|(receiver, signal, _)| (receiver.as_str(), signal.as_str()) == ("otlp", "logs"));
    found.map_or((0, 0, 0), |(.., sums)| (sums.accepted, sums.refused, sums.rejected))
}

#[tokio::test]
async fn counts_outlive_a_crash_and_are_counted_once_however_often_it_flushes() {
    let (store, clock) = (memory(), clock());
    let [dir, a, b, c] = [(); 4].map(|()| tempfile::tempdir().expect("a directory"));
    let ingest = open(dir.path(), store.clone(), clock.clone()).await;
    let reject = |ingest: &Ingest, n| ingest.ledger().rejected("otlp", Signal::Logs, Reason::Malformed, n);
    reject(&ingest, 5);
    ingest.log_counts().await;
    ingest.log_counts().await;
    assert_eq!(ingest.last_lsn(), 1, "nothing new, no frame");
    // only rejections: they wait for a flush as rows do
    assert!(!ingest.is_flush_due());
    clock.advance(601 * SECOND);
    assert!(ingest.is_flush_due());
    copy(dir.path(), a.path());
    let again = open(a.path(), store.clone(), clock.clone()).await;
    assert_eq!(of_logs(&again), (0, 0, 5));
    assert_eq!(again.status().replay.frames, 1);
    drop(again);

    // counted before a cut, and brought to the log behind it
    reject(&ingest, 2);
    send(&ingest, "a", START).await;
    ingest.flush().await;
    ingest.log_counts().await;
    assert_eq!(of_logs(&ingest), (1, 0, 7));
    copy(dir.path(), b.path());
    let again = open(b.path(), store.clone(), clock.clone()).await;
    assert_eq!(of_logs(&again), (1, 0, 7));
    drop(again);
    ingest.flush().await;
    // what came within the last second, and a stop
    reject(&ingest, 1);
    ingest.drain(Duration::from_secs(60)).await;
    drop(ingest);
    copy(dir.path(), c.path());
    let again = open(c.path(), store.clone(), clock.clone()).await;
    assert_eq!(of_logs(&again), (1, 0, 8));
}

#[tokio::test]
async fn what_a_full_log_does_not_take_is_stored_when_the_node_leaves() {
    let (store, clock) = (memory(), clock());
    let dir = tempfile::tempdir().expect("a directory");
    let full = wal::Config {
        min_free_disk_bytes: u64::MAX / 2,
        ..wal::Config::default()
    };
    let ingest = open_on(full, Config::default(), dir.path(), store.clone(), clock.clone()).await;
    ingest.ledger().refused("otlp", Signal::Logs, 3);
    ingest.log_counts().await;
    assert_eq!((ingest.last_lsn(), of_logs(&ingest)), (0, (0, 3, 0)));
    ingest.drain(Duration::from_secs(60)).await;
    drop(ingest);
    let again = open(dir.path(), store, clock).await;
    assert_eq!(of_logs(&again), (0, 3, 0));
}

#[tokio::test]
async fn a_drain_brings_counts_to_the_log_once_and_keeps_to_its_deadline() {
    let (store, clock) = (memory(), clock());
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), store, clock.clone()).await;
    // what keeps the counts out of the log keeps nobody from stopping
    let held = ingest.inner.publication.write().await;
    ingest.ledger().refused("otlp", Signal::Logs, 3);
    tokio::time::timeout(Duration::from_secs(60), ingest.drain(Duration::from_millis(50)))
        .await
        .expect("at its deadline");
    drop(held);

    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let ingest = open(dir.path(), store.clone(), clock.clone()).await;
    ingest.end_counts();
    let last_lsn = ingest.last_lsn();
    ingest.ledger().refused("otlp", Signal::Logs, 4);
    // the tick between the last flush and the record with which the node leaves
    ingest.log_counts().await;
    assert_eq!(ingest.last_lsn(), last_lsn);
    ingest.drain(Duration::from_secs(60)).await;
    let snapshot = ingest.catalog().snapshot();
    assert!(snapshot.nodes()[ingest.catalog().node()].away.is_some(), "it has left");
    drop(ingest);
    let again = open(dir.path(), store, clock).await;
    assert_eq!(of_logs(&again), (0, 4, 0));
}

#[tokio::test]
async fn counts_that_cannot_be_read_are_no_lost_records() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let (wal, _) = Wal::open(&dir.path().join("wal"), &wal::Config::default(), 0).expect("a log");
    for payload in ["torn", r#"{"v": 2, "sums": []}"#, r#"{"v": 1, "sums": []}"#] {
        let frame = Frame {
            kind: COUNTS_FRAME,
            flags: 0,
            source: 0,
            received_at_nanos: START,
            payload: Bytes::from_static(payload.as_bytes()),
        };
        wal.append(frame).await.expect("taken");
    }
    wal.close().await;
    drop(wal);
    let ingest = open(dir.path(), store, clock()).await;
    let replay = ingest.status().replay;
    assert_eq!((replay.undecodable_frames, replay.frames), (2, 1));
    assert!(ingest.lost_frames().is_empty(), "{:?}", ingest.lost_frames());
}

#[tokio::test]
async fn a_request_that_is_refused_is_refused_with_its_bad_records() {
    let (store, clock) = (memory(), clock());
    let dir = tempfile::tempdir().expect("a directory");
    let no_room = Config {
        max_head_bytes: 0,
        ..Config::default()
    };
    let ingest = open_with(no_room, dir.path(), store, clock).await;
    let context = Context {
        received_at_nanos: START,
        retention_days: 0,
    };
    let body = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": START.to_string(), "body": {"stringValue": "x"}}]}]}]});
    let body = body.to_string();
    let rejected = Rejected {
        count: 4,
        reason: Reason::TooOld,
        message: String::new(),
        index: None,
        sender: None,
    };
    let decoded = Decoded {
        rejected: vec![rejected],
        ..decode::decode(Kind::OtlpLogsJson, body.as_bytes(), &context).expect("decodes")
    };
    let refused = ingest.accept(Received::plain(Kind::OtlpLogsJson, context, body), decoded).await;
    assert!(matches!(refused, Err(Refused::Overloaded { .. })));
    assert_eq!(of_logs(&ingest), (0, 5, 0), "the client sends all of it again");
}
