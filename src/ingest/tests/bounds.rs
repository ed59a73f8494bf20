//! Bytes of bodies on their way to the log, at and past their bound.

use super::*;

/// A body of exactly `n_bytes` with one log record.
fn body(text: &str, n_bytes: usize) -> String {
    let with = |padding: usize| {
        let text = format!("{text}{}", " ".repeat(padding));
        serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": START.to_string(), "body": {"stringValue": text}}]}]}]}).to_string()
    };
    let body = with(n_bytes - with(0).len());
    assert_eq!(body.len(), n_bytes);
    body
}

async fn try_send(ingest: &Ingest, text: &str, n_bytes: usize) -> Result<Ack, Refused> {
    let context = Context {
        received_at_nanos: START,
        retention_days: 0,
    };
    let body = body(text, n_bytes);
    let decoded = decode::decode(Kind::OtlpLogsJson, body.as_bytes(), &context).expect("decodes");
    ingest.accept(Received::plain(Kind::OtlpLogsJson, context, body), decoded).await
}

#[tokio::test]
async fn bodies_in_flight_are_bounded_and_what_was_acknowledged_stays() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let config = Config {
        max_in_flight_bytes: 8 << 10,
        ..Config::default()
    };
    let ingest = open_with(config.clone(), dir.path(), store.clone(), clock()).await;
    let mut acknowledged = Vec::new();
    // four fill it to its last byte; of those that come before the log has them none is taken. (It may have them at once.)
    for round in 0.. {
        assert!(round < 100, "eight at once were never too many");
        let names: Vec<String> = (0..8).map(|n| format!("at once {round} {n}")).collect();
        let answers = futures::future::join_all(names.iter().map(|text| try_send(&ingest, text, 2 << 10))).await;
        let mut n_refused = 0;
        for (text, answer) in names.into_iter().zip(answers) {
            match answer {
                Ok(_) => acknowledged.push(text),
                Err(refused @ Refused::Overloaded { .. }) => {
                    n_refused += 1;
                    assert!(refused.to_string().contains("ingest.max_in_flight_bytes = 8192"), "{refused}");
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(n_refused <= 4, "{n_refused}");
        if n_refused == 4 {
            break;
        }
    }
    // at the bound alone, and past it alone: that waits for nobody, and is taken
    for (text, n_bytes) in [("at", 8 << 10), ("past", (8 << 10) + 1), ("small", 300)] {
        try_send(&ingest, text, n_bytes).await.expect("taken");
        acknowledged.push(text.into());
    }
    // at the bound together, and past it together
    for (first, second, fits) in [(6 << 10, 2 << 10, true), (6 << 10, (2 << 10) + 1, false)] {
        for round in 0.. {
            assert!(round < 100, "two that are too many together were always taken");
            let names = [format!("first {second} {round}"), format!("second {second} {round}")];
            let (one, other) = tokio::join!(try_send(&ingest, &names[0], first), try_send(&ingest, &names[1], second));
            assert!(one.is_ok() && (other.is_ok() || !fits), "{one:?} {other:?}");
            let are_taken = other.is_ok();
            acknowledged.extend(names.into_iter().take(1 + usize::from(are_taken)));
            if are_taken == fits {
                break;
            }
        }
    }
    acknowledged.sort();
    let found = |rows: Vec<Rows>| texts(&rows, "body").iter().map(|text| text.trim_end().to_string()).collect::<Vec<_>>();
    assert_eq!(found(seen(&ingest, &*store, Table::Logs).await), acknowledged);
    // and after a crash
    let crashed = tempfile::tempdir().expect("a directory");
    copy(dir.path(), crashed.path());
    let again = open_with(config, crashed.path(), store.clone(), clock()).await;
    assert_eq!(found(seen(&again, &*store, Table::Logs).await), acknowledged);
}
