//! Spans.

use super::*;

#[test]
fn a_full_span_is_stored_whole() {
    let root = Span {
        parent_span_id: vec![0; 8],
        end_time_unix_nano: TIME - 1,
        kind: 77,
        status: Some(Status {
            message: String::new(),
            code: -1,
        }),
        ..full_span()
    };
    let open = Span {
        parent_span_id: vec![],
        end_time_unix_nano: 0,
        ..full_span()
    };
    let decoded = traces(&spans_request(vec![full_span(), root, open]).encode_to_vec(), &CONTEXT).unwrap();
    assert_eq!(decoded.rejected, []);
    let batch = stored(&decoded);
    assert_eq!(batch.schema(), Table::Spans.schema());
    assert_eq!(string(&batch, "parent_span_id", 0), Some("03".repeat(8)));
    let is_root: Vec<_> = column(&batch, "is_root").as_boolean().iter().flatten().collect();
    assert_eq!(is_root, [false, true, true]);
    let durations: Vec<_> = (0..3).map(|row| int64(&batch, "duration_nano", row)).collect();
    assert_eq!(durations, [Some(1_000), Some(0), Some(0)], "a span that ends before it starts ends there");
    assert!(column(&batch, "end_time").is_null(2));
    assert_eq!(
        (string(&batch, "kind", 0), string(&batch, "kind", 1)),
        (Some("SERVER".into()), Some("UNSPECIFIED".into()))
    );
    assert_eq!(
        (string(&batch, "status_code", 0), string(&batch, "status_code", 1)),
        (Some("ERROR".into()), Some("UNSET".into()))
    );
    assert_eq!(
        (string(&batch, "http_route", 0), string(&batch, "exception_type", 0)),
        (Some("/".into()), Some("Boom".into()))
    );
    assert_eq!(int32(&batch, "trace_flags", 0), Some(1));
    let events = column(&batch, "events").as_list::<i32>().value(0);
    let times = events.as_struct().column_by_name("time_unix_nano").unwrap().clone();
    assert_eq!(times.as_primitive::<Int64Type>().values(), &[TIME as i64 + 10, TIME as i64]);
    let links = column(&batch, "links").as_list::<i32>().value(0);
    assert!(links.as_struct().column_by_name("span_id").unwrap().is_null(0));
    assert_eq!(
        links.as_struct().column_by_name("trace_id").unwrap().as_string::<i32>().value(0),
        "09".repeat(16)
    );
}

#[test]
fn spans_without_usable_ids_or_times_are_rejected_alone() {
    let bad = |change: fn(&mut Span)| {
        let mut span = full_span();
        change(&mut span);
        span
    };
    for (span, reason, message) in [
        (
            bad(|s| s.trace_id = vec![]),
            Reason::InvalidTraceId,
            "span \"GET /\": trace_id must be 16 bytes, not all zero, and is 0",
        ),
        (
            bad(|s| s.trace_id = vec![1; 8]),
            Reason::InvalidTraceId,
            "span \"GET /\": trace_id must be 16 bytes, not all zero, and is 8",
        ),
        (
            bad(|s| s.trace_id = vec![0; 16]),
            Reason::InvalidTraceId,
            "span \"GET /\": trace_id must be 16 bytes, not all zero, and is 16 zero",
        ),
        (
            bad(|s| s.span_id = vec![0; 8]),
            Reason::InvalidSpanId,
            "span \"GET /\": span_id must be 8 bytes, not all zero, and is 8 zero",
        ),
        (
            bad(|s| s.parent_span_id = vec![1]),
            Reason::InvalidSpanId,
            "span \"GET /\": parent_span_id must be 8 bytes, not all zero, and is 1",
        ),
        (
            bad(|s| s.start_time_unix_nano = 0),
            Reason::InvalidTime,
            "span \"GET /\": start_time_unix_nano must be set and before the year 2262, and is 0",
        ),
        (
            bad(|s| s.end_time_unix_nano = u64::MAX),
            Reason::InvalidTime,
            "span \"GET /\": end_time_unix_nano must be before the year 2262, and is 18446744073709551615",
        ),
    ] {
        let decoded = traces(&spans_request(vec![span.clone(), full_span(), span]).encode_to_vec(), &CONTEXT).unwrap();
        assert_eq!(stored(&decoded).num_rows(), 1);
        let rejected = &decoded.rejected[0];
        assert_eq!(
            (decoded.rejected.len(), rejected.count, rejected.reason, rejected.message.as_str()),
            (1, 2, reason, message)
        );
    }
}
