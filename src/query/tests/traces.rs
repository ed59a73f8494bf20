//! Traces of every odd shape.

use std::time::Duration;

use super::*;

fn span(id: &str, parent: Option<&str>, start: i64, duration: i64) -> SpanHit {
    SpanHit {
        span_id: id.into(),
        parent_span_id: parent.map(str::to_string),
        start_time_unix_nano: start,
        duration_nano: duration,
        trace_id: "0".repeat(31) + "1",
        kind: "INTERNAL".into(),
        status_code: "UNSET".into(),
        ..SpanHit::default()
    }
}

fn assemble(spans: Vec<SpanHit>, logs: Vec<LogHit>) -> Trace {
    let id = TraceId::from_hex(&("0".repeat(31) + "1")).expect("an ID");
    let spans = spans.into_iter().map(|span| Hit::Span(Box::new(span))).collect();
    let logs = logs.into_iter().map(|log| Hit::Log(Box::new(log))).collect();
    Trace::assemble(id, spans, logs, Coverage::new(TimeRange::ALL), Duration::ZERO).expect("a trace")
}

/// `id` with dots for its depth, `!` for a missing parent, `@` in a circle, `~` for skew, `*` while in progress.
fn outline(trace: &Trace) -> String {
    let line = |span: &TraceSpan| {
        let sign = |flag: bool, sign: &'static str| if flag { sign } else { "" };
        format!(
            "{}{}{}{}{}{}",
            ".".repeat(span.depth),
            span.span.span_id,
            sign(span.missing_parent, "!"),
            sign(span.in_circle, "@"),
            sign(span.skewed, "~"),
            sign(span.span.in_progress, "*")
        )
    };
    trace.spans.iter().map(line).collect::<Vec<_>>().join(" ")
}

#[test]
fn spans_stand_depth_first_by_start() {
    let trace = assemble(
        vec![
            span("d", Some("b"), 12, 1),
            span("c", Some("a"), 20, 5),
            span("b", Some("a"), 10, 5),
            span("a", None, 0, 100),
            span("e", Some("b"), 11, 1),
        ],
        vec![],
    );
    assert_eq!(outline(&trace), "a .b ..e ..d .c");
    assert_eq!((trace.start_unix_nano, trace.duration_nano), (0, 100));
    assert_eq!(
        trace.spans.iter().map(|span| span.parent).collect::<Vec<_>>(),
        [None, Some(0), Some(1), Some(1), Some(0)]
    );
}

#[test]
fn missing_parents_and_circles_make_roots() {
    assert_eq!(outline(&assemble(vec![span("a", None, 0, 9), span("b", Some("x"), 1, 1)], vec![])), "a b!");
    assert_eq!(outline(&assemble(vec![span("a", Some("a"), 0, 9)], vec![])), "a@");
    let circle = vec![
        span("a", Some("c"), 0, 9),
        span("b", Some("a"), 1, 1),
        span("c", Some("b"), 2, 1),
        span("d", Some("c"), 3, 1),
    ];
    assert_eq!(outline(&assemble(circle, vec![])), "a@ .b@ ..c@ ...d");
    let two = vec![
        span("a", Some("b"), 5, 1),
        span("b", Some("a"), 0, 9),
        span("x", Some("y"), 7, 1),
        span("y", Some("x"), 8, 1),
    ];
    assert_eq!(outline(&assemble(two, vec![])), "b@ .a@ x@ .y@");
    // what hangs at a circle is judged by its own parent; the circle's own times say nothing of clocks
    let timed = vec![
        span("r", Some("a"), 0, 9),
        span("a", Some("b"), 1, 5),
        span("b", Some("r"), 2, 3),
        span("late", Some("b"), 1, 1),
    ];
    assert_eq!(outline(&assemble(timed, vec![])), "r@ .b@ ..a@ ..late~");
}

#[test]
fn a_completed_span_supersedes_one_in_progress_and_doubles_fall() {
    let with = |mut span: SpanHit, in_progress: bool, ingest_id: i64| {
        (span.in_progress, span.ingest_id) = (in_progress, ingest_id);
        span
    };
    let spans = vec![
        with(span("a", None, 0, 50), false, 1),
        with(span("a", None, 0, 0), true, 9),
        with(span("b", Some("a"), 1, 1), false, 2),
        with(span("b", Some("a"), 1, 2), false, 3),
        with(span("c", Some("a"), 2, 0), true, 4),
    ];
    let trace = assemble(spans, vec![]);
    assert_eq!(outline(&trace), "a .b .c*");
    assert_eq!((trace.duration_nano, trace.spans[1].span.duration_nano), (50, 2));
}

#[test]
fn clocks_that_differ_are_flagged() {
    let mut call = span("a", None, 100, 50);
    call.kind = "CLIENT".into();
    let mut early = span("b", Some("a"), 90, 20);
    early.kind = "SERVER".into();
    let mut late = span("c", Some("a"), 140, 20);
    late.kind = "SERVER".into();
    let detached = span("d", Some("a"), 140, 500);
    assert_eq!(outline(&assemble(vec![call, early, late, detached], vec![])), "a .b~ .c~ .d");
}

#[test]
fn logs_stand_in_their_spans_in_order_of_time() {
    let log = |id: i64, time: i64, span: Option<&str>| LogHit {
        ingest_id: id,
        time_unix_nano: time,
        span_id: span.map(str::to_string),
        ..LogHit::default()
    };
    let logs = vec![log(3, 7, Some("b")), log(1, 5, None), log(2, 5, Some("gone")), log(4, 6, Some("b"))];
    let trace = assemble(vec![span("a", None, 0, 10), span("b", Some("a"), 1, 2)], logs.clone());
    let places: Vec<_> = trace.logs.iter().map(|log| (log.log.ingest_id, log.span)).collect();
    assert_eq!(places, [(1, None), (2, None), (4, Some(1)), (3, Some(1))]);
    assert_eq!(trace.spans[1].n_logs, 2);
    let only_logs = assemble(vec![], logs);
    assert_eq!((only_logs.start_unix_nano, only_logs.duration_nano, only_logs.spans.len()), (5, 2, 0));
}

#[test]
fn a_long_chain_is_no_deep_recursion() {
    let n = 50_000;
    let spans = (0..n)
        .map(|i| span(&format!("{i:06}"), (i > 0).then(|| format!("{:06}", i - 1)).as_deref(), i, 1))
        .collect();
    let trace = assemble(spans, vec![]);
    assert_eq!(trace.spans.last().map(|span| span.depth), Some(n as usize - 1));
    let columns = trace.to_columns_json();
    assert_eq!(columns["spans"]["depth"].as_array().map(Vec::len), Some(n as usize));
}

#[tokio::test]
async fn a_trace_is_gathered_from_head_and_blocks() {
    let lake = Lake::new().await;
    let id = TraceId::from_hex("5759e988bd862e3fe1be46a994272793").expect("an ID");
    assert!(lake.engine.trace(id).await.expect("an answer").is_none());
    lake.head(vec![fixture_spans()]);
    lake.block(&fixture_logs(), true).await;
    let trace = lake.engine.trace(id).await.expect("an answer").expect("a trace");
    assert_eq!((trace.spans.len(), trace.logs.len()), (0, 2));
    let spans = TraceId::from_bytes(&[5; 16]).expect("an ID");
    let trace = lake.engine.trace(spans).await.expect("an answer").expect("a trace");
    let outline: Vec<_> = trace.spans.iter().map(|span| (span.span.name.as_str(), span.depth)).collect();
    assert_eq!(
        outline,
        [("GET /checkout", 0), ("SELECT orders", 1), ("publish", 2), ("Invoke", 0), ("legacy", 0)]
    );
    assert_eq!((trace.services.len(), trace.n_errors), (4, 2));
    let json = trace.to_json(0);
    assert_eq!(json["xray_trace_id"], "1-05050505-050505050505050505050505");
    assert_eq!(json["spans"][1]["parent"], 0);
    assert_eq!(json["spans"][0]["attributes"]["http.response.status_code"], "502");
    assert_eq!(json["spans"][0]["events"][0]["name"], "exception");
    assert_eq!(json["coverage"]["complete"], true);
}
