use proptest::prelude::*;

use super::super::book::Book;
use super::super::correlate;
use super::*;
use crate::model::{ContextBuilder, LogRecord, LogsBuilder, SpanRecord, SpansBuilder, Value};

const TRACE: &str = "5759e988bd862e3fe1be46a994272793";
const XRAY: &str = "1-5759e988-bd862e3fe1be46a994272793";
const OTHER: &str = "11111111111111111111111111111111";
const SPAN: &str = "53995c3f42cd8ad8";
const ID: &str = "8f507cfc-6e3e-11e9-a923-1681be663d3e";
const SECOND: &str = "22222222-6e3e-11e9-a923-1681be663d3e";

/// A record: its text, the trace and the span that the sender gave.
#[derive(Clone, Debug, Default)]
struct Line {
    text: String,
    trace: Option<&'static str>,
    span: Option<&'static str>,
}

fn line(text: &str) -> Line {
    Line {
        text: text
            .replace("UUID", ID)
            .replace("SECOND", SECOND)
            .replace("XRAY", XRAY)
            .replace("SPANHEX", SPAN),
        ..Line::default()
    }
}

fn logs(lines: &[Line]) -> Batch {
    let mut builder = LogsBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    for line in lines {
        builder.push(
            context,
            &LogRecord {
                body: Some(&line.text),
                trace_id: line.trace.and_then(TraceId::from_hex),
                span_id: line.span.and_then(SpanId::from_hex),
                ..LogRecord::default()
            },
        );
    }
    Batch {
        rows: vec![builder.finish().expect("rows")],
    }
}

/// A span with an attribute.
fn span(trace: &str, span: &str, (name, value): (&str, &str)) -> Batch {
    let mut builder = SpansBuilder::default();
    let context = builder.context(ContextBuilder::new().build());
    builder.attribute(name, Value::Str(value));
    builder.push(
        context,
        &SpanRecord {
            start_time_unix_nano: 1,
            end_time_unix_nano: Some(2),
            trace_id: TraceId::from_hex(trace).expect("an ID"),
            span_id: SpanId::from_hex(span).expect("an ID"),
            parent_span_id: None,
            trace_state: None,
            trace_flags: None,
            name: "x",
            kind: "SERVER",
            status_code: "UNSET",
            status_message: None,
            in_progress: false,
            dropped_attributes_count: 0,
        },
    );
    Batch {
        rows: vec![builder.finish().expect("rows")],
    }
}

/// What became of a row: trace, source, span.
type Row = (Option<String>, Option<String>, Option<String>);

fn rows_of(batch: &Batch) -> Vec<Row> {
    let of = |rows: &Rows, column: &str, row: usize| value(text(rows, column), row).map(str::to_string);
    let logs = batch.rows.iter().filter(|rows| rows.table() == Table::Logs);
    logs.flat_map(|rows| (0..rows.len()).map(move |row| (of(rows, "trace_id", row), of(rows, "trace_id_source", row), of(rows, "span_id", row))))
        .collect()
}

/// A request on its way in, as the write path does it.
fn take(book: &Book, batch: Batch) -> Vec<Row> {
    let names = names(&batch);
    let known = Known::new(book.traces_of(names.wanted(&batch)));
    let (batch, found) = link(correlate(batch), &names, &known);
    book.learn(&found.told);
    rows_of(&batch)
}

fn session() -> Vec<Line> {
    [
        "INIT_START Runtime Version: python:3.12.v1",
        "START RequestId: UUID Version: $LATEST\n",
        "[INFO]\t2026-11-22T03:12:41.123Z\tUUID\tloading order 7\n",
        "2026-11-22T03:12:41.123Z\tUUID\tINFO\tof Node",
        "{\"level\":\"INFO\",\"requestId\":\"UUID\",\"message\":\"JSON\"}",
        "a line printed by the function",
        "END RequestId: UUID\n",
        "REPORT RequestId: UUID\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\nXRAY TraceId: XRAYID\tSegmentId: SPANHEX\tSampled: true\t\n",
    ]
    .map(|text| Line {
        text: text.replace("XRAYID", "§").replace("UUID", ID).replace("SPANHEX", SPAN).replace('§', XRAY),
        ..Line::default()
    })
    .into()
}

fn words(rows: &[Row]) -> Vec<Option<&str>> {
    rows.iter().map(|(trace, source, _)| trace.as_ref().and(source.as_deref())).collect()
}

const R: Option<&str> = Some("request_id");

#[test]
fn a_lambda_session_in_one_batch_is_of_the_trace_that_its_report_tells() {
    let book = Book::new(100);
    let rows = take(&book, logs(&session()));
    assert_eq!(words(&rows), [None, R, R, R, R, None, R, Some("text")]);
    assert!(rows.iter().all(|(trace, ..)| trace.is_none() || trace.as_deref() == Some(TRACE)));
    assert_eq!(rows[1].2, None, "a request is no span");
    assert_eq!(rows[7].2.as_deref(), Some(SPAN));
}

#[test]
fn what_came_before_tells_the_trace_of_what_comes_later() {
    for (name, value) in [("aws.request_id", ID), ("faas.invocation_id", ID), ("aws.request_id", &*ID.to_uppercase())] {
        let book = Book::new(100);
        assert_eq!(words(&take(&book, logs(&session()[..3]))), [None, None, None], "nobody has told it yet");
        take(&book, span(TRACE, SPAN, (name, value)));
        assert_eq!(words(&take(&book, logs(&session()[..3]))), [None, R, R], "{name}");
    }
    // a record that has both
    let book = Book::new(100);
    let both = Line {
        trace: Some(TRACE),
        ..line("done request_id=UUID")
    };
    assert_eq!(words(&take(&book, logs(&[both]))), [None], "the sender's own");
    assert_eq!(words(&take(&book, logs(&[line("request_id=UUID"), line("request_id=SECOND")]))), [R, None]);
    // an API Gateway's access log names both
    let book = Book::new(100);
    take(&book, logs(&[line("{\"requestId\":\"UUID\",\"xrayTraceId\":\"XRAY\"}")]));
    assert_eq!(words(&take(&book, logs(&[line("x-amzn-requestid: UUID")]))), [R]);
}

#[test]
fn a_span_id_alone_is_enough() {
    let book = Book::new(100);
    take(&book, span(TRACE, SPAN, ("x", "y")));
    let in_column = Line { span: Some(SPAN), ..line("x") };
    let rows = take(
        &book,
        logs(&[
            line("span_id=SPANHEX"),
            in_column.clone(),
            line("{\"spanId\":\"SPANHEX\"}"),
            line("span_id=aaaaaaaaaaaaaaaa"),
        ]),
    );
    let found = (Some(TRACE.into()), Some("span_id".into()), Some(SPAN.to_string()));
    assert_eq!(
        rows,
        [found.clone(), found.clone(), found, (None, None, None)],
        "a span that nobody knows stays in the text"
    );
    // told by a record
    let book = Book::new(100);
    let both = Line {
        trace: Some(TRACE),
        ..in_column
    };
    take(&book, logs(&[both]));
    assert_eq!(words(&take(&book, logs(&[line("span_id=SPANHEX")]))), [Some("span_id")]);
}

#[test]
fn two_traces_of_one_name_give_no_link() {
    let of = |trace: &'static str| Line {
        trace: Some(trace),
        ..line("request_id=UUID")
    };
    let book = Book::new(100);
    assert_eq!(words(&take(&book, logs(&[of(TRACE), of(OTHER), line("request_id=UUID")]))), [None, None, None]);
    assert_eq!(words(&take(&book, logs(&[line("request_id=UUID")]))), [None], "and not later");
    // one known, another told now
    let book = Book::new(100);
    take(&book, logs(&[of(TRACE)]));
    assert_eq!(words(&take(&book, logs(&[of(OTHER), line("request_id=UUID")]))), [None, None]);
    // the request of one trace, the span of another
    let book = Book::new(100);
    take(&book, logs(&[of(TRACE)]));
    take(&book, span(OTHER, SPAN, ("x", "y")));
    assert_eq!(
        words(&take(&book, logs(&[line("request_id=UUID span_id=SPANHEX"), line("request_id=UUID")]))),
        [None, R]
    );
}

#[test]
fn a_trace_that_a_row_has_is_not_overruled() {
    let book = Book::new(100);
    take(&book, span(TRACE, SPAN, ("aws.request_id", ID)));
    let own = Line {
        trace: Some(OTHER),
        ..line("request_id=UUID")
    };
    let rows = take(&book, logs(&[own, line("trace_id=11111111111111111111111111111111 request_id=UUID")]));
    assert_eq!(rows[0], (Some(OTHER.into()), None, None));
    assert_eq!((rows[1].0.as_deref(), rows[1].1.as_deref()), (Some(OTHER), Some("text")));
}

#[test]
fn rows_that_name_nothing_are_not_copied() {
    let batch = logs(&[line("x"), line("y")]);
    let (linked, found) = link(batch.clone(), &names(&batch), &Known::default());
    assert!(found.told.is_empty() && found.waiting.is_empty());
    for (before, after) in batch.rows[0].batch().columns().iter().zip(linked.rows[0].batch().columns()) {
        assert!(Arc::ptr_eq(before, after));
    }
}

#[test]
fn what_was_known_is_written_and_read_back() {
    let trace = TraceId::from_hex(TRACE).expect("an ID");
    let keys = [
        Key::Span(SpanId::from_hex(SPAN).expect("an ID")),
        Key::Request(RequestId::parse(ID.as_bytes()).expect("an ID")),
    ];
    let known = Known::new([(keys[0], Some(trace)), (keys[1], None)]);
    assert_eq!(Known::from_bytes(&known.to_bytes()), Some(known.clone()));
    assert_eq!(Known::from_bytes(&[]), Some(Known::default()));
    assert_eq!(Known::from_bytes(&known.to_bytes()[1..]), None);
}

#[test]
fn the_same_request_with_the_same_knowledge_gives_the_same_rows() {
    let book = Book::new(100);
    take(&book, span(TRACE, SPAN, ("aws.request_id", ID)));
    let batch = logs(&session()[..4]);
    let named = names(&batch);
    let known = Known::new(book.traces_of(named.wanted(&batch)));
    let (first, _) = link(correlate(batch.clone()), &named, &known);
    // a replay has no book
    let known = Known::from_bytes(&known.to_bytes()).expect("whole");
    let (again, _) = link(correlate(batch.clone()), &names(&batch), &known);
    assert_eq!(rows_of(&first), rows_of(&again));
    assert_eq!(words(&rows_of(&again)), [None, R, R, R]);
}

proptest! {
    /// What is linked when records come in pieces is linked to the same trace when they come at once, unless two traces are told for a
    /// name: then at once nothing is linked by it. What is linked at once and not in pieces came before what told its trace.
    #[test]
    fn pieces_link_a_part_of_what_the_whole_links(
        lines in prop::collection::vec((0usize..4, 0usize..3), 1..14),
        cuts in prop::collection::vec(0usize..14, 0..4),
    ) {
        let ids = [ID, SECOND, "33333333-6e3e-11e9-a923-1681be663d3e", "44444444-6e3e-11e9-a923-1681be663d3e"];
        let all: Vec<Line> = lines.iter().map(|(id, kind)| Line {
            text: format!("requestId: {}", ids[*id]),
            // the first two requests have one trace each, the others may have two
            trace: match (*kind, *id) {
                (0, _) => None,
                (1, _) => Some(TRACE),
                (_, 0 | 1) => Some(TRACE),
                _ => Some(OTHER),
            },
            span: None,
        }).collect();
        let whole = take(&Book::new(100), logs(&all));
        let book = Book::new(100);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < all.len()).chain([0, all.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<Row> = cuts.windows(2).flat_map(|ends| take(&book, logs(&all[ends[0]..ends[1]]))).collect();
        prop_assert_eq!(pieces.len(), whole.len());
        let mut of_request: HashMap<usize, BTreeSet<&str>> = HashMap::new();
        for ((id, _), line) in lines.iter().zip(&all) {
            of_request.entry(*id).or_default().extend(line.trace);
        }
        for (((id, _), piece), whole) in lines.iter().zip(&pieces).zip(&whole) {
            let has_conflict = of_request[id].len() > 1;
            if piece.0.is_some() && !has_conflict {
                prop_assert_eq!(piece, whole);
            }
            if has_conflict {
                prop_assert!(whole.1.is_none());
            }
        }
    }
}
