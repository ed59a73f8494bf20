//! Requests that are sent again because their answer was lost.

use super::*;
use crate::ingest::Outcomes;

/// `PutLogEvents` of two events, at the clock's time.
fn put(text: &str) -> String {
    let events = [START, START + SECOND].map(|time| serde_json::json!({"timestamp": time / 1_000_000, "message": text}));
    serde_json::json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events}).to_string()
}

async fn offer(ingest: &Ingest, body: String, since_nanos: i64) -> Result<Ack, Refused> {
    let context = Context {
        received_at_nanos: ingest.clock().now_nanos(),
        retention_days: 0,
    };
    let decoded = decode::decode(Kind::PutLogEvents, body.as_bytes(), &context).expect("decodes");
    let mut received = Received::plain(Kind::PutLogEvents, context, body);
    received.repeats_since_nanos = since_nanos;
    ingest.accept(received, decoded).await
}

/// Whether it was there already.
async fn send_again(ingest: &Ingest, text: &str) -> bool {
    offer(ingest, put(text), i64::MIN).await.expect("taken").is_repeat
}

fn counted(ingest: &Ingest) -> (u64, u64) {
    let sums: Vec<Outcomes> = ingest.ledger().sums().into_iter().map(|(_, _, outcomes)| outcomes).collect();
    (sums.iter().map(|sums| sums.accepted).sum(), sums.iter().map(|sums| sums.repeated).sum())
}

#[tokio::test]
async fn a_request_that_comes_again_adds_no_rows_also_after_restarts_and_does_once_its_window_is_over() {
    let (store, clock) = (memory(), clock());
    let (mut dir, mut life) = (tempfile::tempdir().expect("a directory"), 0);
    let mut ingest = open(dir.path(), store.clone(), clock.clone()).await;
    assert!(!send_again(&ingest, "a").await);
    assert!(send_again(&ingest, "a").await);
    assert!(!send_again(&ingest, "b").await, "other events are another request");
    assert_eq!(counted(&ingest), (4, 2));
    // in the log alone, in blocks alone, in both
    for is_flushed in [false, true, true] {
        if is_flushed {
            ingest.flush().await;
            assert_eq!(ingest.status().head_rows, 0);
        }
        life += 1;
        clock.advance(60 * SECOND);
        let image = tempfile::tempdir().expect("a directory");
        copy(dir.path(), image.path());
        drop(ingest);
        ingest = open(image.path(), store.clone(), clock.clone()).await;
        dir = image;
        for text in ["a", "b"] {
            assert!(send_again(&ingest, text).await, "{text} in life {life}");
        }
        let new = format!("new in life {life}");
        assert!(!send_again(&ingest, &new).await);
        assert!(send_again(&ingest, &new).await);
    }
    let rows = seen(&ingest, &*store, Table::Logs).await;
    assert_eq!(texts(&rows, "body").iter().filter(|text| *text == "a").count(), 2);
    assert_eq!(rows.iter().map(Rows::len).sum::<usize>(), 2 * 5);
    clock.advance((Config::default().repeat_window_seconds as i64) * SECOND);
    assert!(!send_again(&ingest, "a").await, "a quarter of an hour later");
    assert_eq!(
        texts(&seen(&ingest, &*store, Table::Logs).await, "body")
            .iter()
            .filter(|text| *text == "a")
            .count(),
        4
    );
}

#[tokio::test]
async fn of_many_that_come_at_once_one_is_stored_and_all_are_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open(dir.path(), memory(), clock()).await;
    let sends = (0..20).map(|_| {
        let ingest = ingest.clone();
        tokio::spawn(async move { send_again(&ingest, "a").await })
    });
    let repeats = futures::future::join_all(sends).await;
    assert_eq!(repeats.into_iter().filter(|is_repeat| !*is_repeat.as_ref().expect("taken")).count(), 1);
    assert_eq!((ingest.status().head_rows, counted(&ingest)), (2, (2, 38)));
}

#[tokio::test]
async fn what_was_refused_is_taken_when_it_comes_again() {
    let (store, dir, clock) = (memory(), tempfile::tempdir().expect("a directory"), clock());
    let full = wal::Config {
        min_free_disk_bytes: 1 << 60,
        ..wal::Config::default()
    };
    let ingest = open_on(full, Config::default(), dir.path(), store.clone(), clock.clone()).await;
    for _ in 0..2 {
        assert!(offer(&ingest, put("a"), i64::MIN).await.is_err());
    }
    ingest.drain(Duration::from_secs(5)).await;
    drop(ingest);
    let ingest = open(dir.path(), store, clock).await;
    assert!(!send_again(&ingest, "a").await);
    assert!(send_again(&ingest, "a").await);
}

#[tokio::test]
async fn events_for_a_stream_that_was_made_anew_are_new_and_nothing_is_known_where_it_is_off() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let ingest = open(dir.path(), memory(), clock.clone()).await;
    assert!(!send_again(&ingest, "a").await);
    clock.advance(SECOND);
    assert!(!offer(&ingest, put("a"), clock.now_nanos()).await.expect("taken").is_repeat);
    assert!(offer(&ingest, put("a"), clock.now_nanos()).await.expect("taken").is_repeat);

    let off = Config {
        repeat_window_seconds: 0,
        ..Config::default()
    };
    let dir = tempfile::tempdir().expect("a directory");
    let ingest = open_with(off, dir.path(), memory(), clock).await;
    for _ in 0..2 {
        assert!(!send_again(&ingest, "a").await);
    }
    assert_eq!(counted(&ingest), (4, 0));
}

#[tokio::test]
async fn an_event_that_was_too_new_at_first_is_stored_once_it_is_not() {
    let (dir, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let ingest = open(dir.path(), memory(), clock.clone()).await;
    let events = [START, START + 2 * 3_600 * SECOND + 60 * SECOND].map(|time| serde_json::json!({"timestamp": time / 1_000_000, "message": "a"}));
    let body = serde_json::json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events}).to_string();
    for (seconds, is_repeat, n_rows) in [(0, false, 1), (1, true, 1), (120, false, 3), (1, true, 3)] {
        clock.advance(seconds * SECOND);
        let ack = offer(&ingest, body.clone(), i64::MIN).await.expect("taken");
        assert_eq!((ack.is_repeat, ingest.status().head_rows), (is_repeat, n_rows));
    }
}

#[test]
fn a_call_is_the_same_however_it_is_written_and_another_with_another_token_or_stream() {
    let identity = |body: &str| {
        let context = Context {
            received_at_nanos: START,
            retention_days: 0,
        };
        decode::decode(Kind::PutLogEvents, body.as_bytes(), &context)
            .expect("decodes")
            .identity
            .expect("one")
    };
    let one = identity(r#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1795323600000,"message":"a"}]}"#);
    for same in [
        r#"{"logEvents":[{"message":"\u0061","timestamp":1795323600000}],"logStreamName":"s","logGroupName":"g"}"#,
        r#"{"logGroupName":"g","logStreamName":"s","sequenceToken":null,"logEvents":[{"timestamp":1795323600000,"message":"a"}]}"#,
    ] {
        assert_eq!(identity(same), one, "{same}");
    }
    for other in [
        r#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1795323600001,"message":"a"}]}"#,
        r#"{"logGroupName":"g","logStreamName":"t","logEvents":[{"timestamp":1795323600000,"message":"a"}]}"#,
        r#"{"logGroupName":"gs","logStreamName":"s","logEvents":[{"timestamp":1795323600000,"message":"a"}]}"#,
        r#"{"logGroupName":"g","logStreamName":"s","sequenceToken":"49","logEvents":[{"timestamp":1795323600000,"message":"a"}]}"#,
        r#"{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1795323600000,"message":"a"},{"timestamp":1795323600000,"message":"a"}]}"#,
    ] {
        assert_ne!(identity(other), one, "{other}");
    }
}
