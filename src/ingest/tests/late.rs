//! Log records whose request is told its trace after they came.

use super::*;

const REQUEST: &str = "8f507cfc-0e2b-4b1a-9d2c-7e1f3a5b6c7d";
const OTHER: &str = "11111111-0e2b-4b1a-9d2c-7e1f3a5b6c7d";
const XRAY: &str = "1-5759e988-bd862e3fe1be46a994272793";
const TRACE: &str = "5759e988bd862e3fe1be46a994272793";

async fn put(ingest: &Ingest, lines: &[String]) {
    let events: Vec<_> = lines
        .iter()
        .map(|line| serde_json::json!({"timestamp": START / 1_000_000, "message": line}))
        .collect();
    let body = serde_json::json!({"logGroupName": "/aws/lambda/pay", "logStreamName": "s", "logEvents": events});
    send_body(ingest, Kind::PutLogEvents, body.to_string()).await;
}

fn start(request: &str) -> String {
    format!("START RequestId: {request} Version: $LATEST")
}

fn report(request: &str, xray: &str) -> String {
    format!("REPORT RequestId: {request}\tDuration: 1 ms\t\nXRAY TraceId: {xray}\t")
}

/// (first word, trace, how it was found), sorted.
async fn linked(ingest: &Ingest, store: &dyn Store) -> Vec<(String, String, String)> {
    let rows = seen(ingest, store, Table::Logs).await;
    let mut all: Vec<_> = rows
        .iter()
        .flat_map(|rows| {
            let text = |column: &str| {
                let column = rows.batch().column_by_name(column).expect("a column").as_string::<i32>();
                column.iter().map(|text| text.unwrap_or_default().to_string()).collect::<Vec<_>>()
            };
            let bodies = text("body").into_iter().map(|body| body.split(' ').next().unwrap_or_default().to_string());
            let linked = text("trace_id").into_iter().zip(text("trace_id_source"));
            bodies.zip(linked).map(|(body, (trace, source))| (body, trace, source)).collect::<Vec<_>>()
        })
        .collect();
    all.sort();
    all
}

fn row(word: &str, trace: &str, source: &str) -> (String, String, String) {
    (word.into(), trace.into(), source.into())
}

#[tokio::test]
async fn a_line_is_told_its_trace_while_it_is_in_the_head_and_keeps_it_in_blocks_and_after_a_crash() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let ingest = open(dir.path(), store.clone(), clock()).await;
    put(&ingest, &[start(REQUEST), start(OTHER)]).await;
    // so many requests that parts are joined in between
    for n in 0..70 {
        put(&ingest, &[format!("line{n} of nobody")]).await;
    }
    let of_starts = async |ingest: &Ingest| {
        let mut rows = linked(ingest, &*store).await;
        rows.retain(|(word, ..)| !word.starts_with("line"));
        rows
    };
    assert_eq!(of_starts(&ingest).await, [row("START", "", ""), row("START", "", "")]);
    put(&ingest, &[report(REQUEST, XRAY)]).await;
    let expected = [row("REPORT", TRACE, "text"), row("START", "", ""), row("START", TRACE, "request_id")];
    assert_eq!(of_starts(&ingest).await, expected);
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());
    ingest.flush().await;
    assert_eq!((ingest.status().head_rows, of_starts(&ingest).await), (0, expected.to_vec()));
    // a later one finds it flushed: it stays as it is
    put(&ingest, &[report(OTHER, "1-5759e988-00000000000000000000000f")]).await;
    assert!(of_starts(&ingest).await.contains(&row("START", "", "")));
    drop(ingest);
    // the crash before that flush
    let store = memory();
    let ingest = open(image.path(), store.clone(), clock()).await;
    let mut rows = linked(&ingest, &*store).await;
    rows.retain(|(word, ..)| !word.starts_with("line"));
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_request_of_two_traces_tells_none_and_who_is_too_many_does_not_wait() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let config = Config {
        max_linked_ids: 4,
        ..Config::default()
    };
    let ingest = open_with(config, dir.path(), store.clone(), clock()).await;
    put(&ingest, &[start(REQUEST)]).await;
    let two = [report(REQUEST, XRAY), report(REQUEST, "1-5759e988-00000000000000000000000f")];
    put(&ingest, &two).await;
    assert_eq!(linked(&ingest, &*store).await[2], row("START", "", ""));
    put(&ingest, &vec![start(OTHER); 6]).await;
    put(&ingest, &[report(OTHER, XRAY)]).await;
    let n_linked = linked(&ingest, &*store).await.iter().filter(|(_, _, source)| source == "request_id").count();
    assert_eq!(n_linked, 4);
}

#[tokio::test]
async fn what_was_known_of_two_traces_is_so_after_a_crash_though_one_of_them_is_flushed() {
    let (store, dir) = (memory(), tempfile::tempdir().expect("a directory"));
    let ingest = open(dir.path(), store.clone(), clock()).await;
    put(&ingest, &[report(REQUEST, XRAY)]).await;
    ingest.flush().await;
    put(&ingest, &[report(REQUEST, "1-5759e988-00000000000000000000000f")]).await;
    put(&ingest, &[start(REQUEST)]).await;
    put(&ingest, &[report(REQUEST, "1-5759e988-00000000000000000000000f")]).await;
    let before = linked(&ingest, &*store).await;
    assert!(before.contains(&row("START", "", "")), "{before:?}");
    let image = tempfile::tempdir().expect("a directory");
    copy(dir.path(), image.path());
    drop(ingest);
    let ingest = open(image.path(), store.clone(), clock()).await;
    assert_eq!(linked(&ingest, &*store).await, before);
}
