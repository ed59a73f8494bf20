//! Log records.

use super::*;

#[test]
fn a_full_log_record_is_stored_whole() {
    let batch = logs_of(vec![full_record()]);
    assert_eq!(batch.schema(), Table::Logs.schema());
    assert_eq!(int64(&batch, "time_unix_nano", 0), Some(TIME as i64));
    assert_eq!(string(&batch, "trace_id", 0), Some("ab".repeat(16)));
    assert_eq!(string(&batch, "span_id", 0), Some("cd".repeat(8)));
    assert_eq!(int32(&batch, "trace_flags", 0), Some(1));
    assert_eq!(
        (int32(&batch, "severity_number", 0), string(&batch, "severity_text", 0)),
        (Some(17), Some("ERROR".into()))
    );
    assert_eq!(
        (string(&batch, "body", 0), int32(&batch, "body_type", 0)),
        (Some("payment \"refused\"\n".into()), Some(1))
    );
    assert_eq!(string(&batch, "event_name", 0).as_deref(), Some("payment.refused"));
    assert_eq!(int32(&batch, "dropped_attributes_count", 0), Some(3));
    assert_eq!(
        map(&batch, "attributes", 0),
        pairs(&[
            ("ratio", "0.25"),
            ("ok", "false"),
            ("order", "43"),
            ("raw", "/wAB"),
            ("list", r#"["a\"b","NaN",null,{}]"#),
            ("map", r#"{"k":"AQ==","é":[]}"#),
            ("none", ""),
        ])
    );
    assert_eq!(string(&batch, "service_name", 0).as_deref(), Some("checkout"));
    assert_eq!(
        (string(&batch, "scope_name", 0), string(&batch, "scope_version", 0)),
        (Some("lib".into()), Some("1.2".into()))
    );
    assert_eq!(
        map(&batch, "resource_attributes", 0),
        pairs(&[("host.cpus", "8"), ("otel.scope.short", "true")])
    );
}

#[test]
fn a_log_record_is_never_lost_over_its_fields() {
    let records = vec![
        LogRecord::default(),
        LogRecord {
            observed_time_unix_nano: 5,
            severity_number: 25,
            trace_id: vec![1; 8],
            span_id: vec![1; 9],
            flags: 1,
            body: Some(AnyValue { value: None }),
            ..Default::default()
        },
        LogRecord {
            time_unix_nano: u64::MAX,
            severity_number: -3,
            trace_id: vec![0; 16],
            span_id: vec![0; 8],
            body: Some(text("")),
            dropped_attributes_count: u32::MAX,
            ..Default::default()
        },
    ];
    let batch = logs_of(records);
    let times: Vec<_> = (0..3).map(|row| int64(&batch, "time_unix_nano", row)).collect();
    assert_eq!(times, [Some(CONTEXT.received_at_nanos), Some(5), Some(CONTEXT.received_at_nanos)]);
    for row in 0..3 {
        assert_eq!((string(&batch, "trace_id", row), string(&batch, "span_id", row)), (None, None));
        assert_eq!((int32(&batch, "trace_flags", row), int32(&batch, "severity_number", row)), (None, Some(0)));
    }
    let bodies: Vec<_> = (0..3).map(|row| string(&batch, "body", row)).collect();
    assert_eq!(bodies, [None, None, Some(String::new())]);
    assert_eq!(int32(&batch, "dropped_attributes_count", 2), Some(i32::MAX));
}

#[test]
fn bodies_that_are_not_text_keep_their_type() {
    let bodies = [
        (sent(Any::BoolValue(true)), "true", 2),
        (sent(Any::IntValue(i64::MIN)), "-9223372036854775808", 3),
        (sent(Any::DoubleValue(1e21)), "1000000000000000000000", 4),
        (array(vec![sent(Any::IntValue(1)), text("x")]), r#"[1,"x"]"#, 5),
        (kvlist(vec![key_value("level", text("warn"))]), r#"{"level":"warn"}"#, 6),
        (sent(Any::BytesValue(b"hi".to_vec())), "aGk=", 7),
    ];
    let records = bodies.iter().map(|(body, ..)| LogRecord {
        body: Some(body.clone()),
        ..Default::default()
    });
    let batch = logs_of(records.collect());
    for (row, (_, expected, number)) in bodies.iter().enumerate() {
        assert_eq!(
            (string(&batch, "body", row).as_deref(), int32(&batch, "body_type", row)),
            (Some(*expected), Some(*number))
        );
    }
}

#[test]
fn every_scope_has_its_own_context_and_empty_ones_have_none() {
    let record = LogRecord::default;
    let mut request = logs_request(vec![record(), record()]);
    request.resource_logs[0].scope_logs.push(ScopeLogs::default());
    request.resource_logs[0].scope_logs.push(ScopeLogs {
        log_records: vec![record()],
        ..Default::default()
    });
    request.resource_logs.push(ResourceLogs::default());
    let decoded = logs(&request.encode_to_vec(), &CONTEXT).unwrap();
    let rows = &decoded.batch.rows[0];
    assert_eq!((rows.len(), rows.contexts().len()), (3, 2));
    let batch = stored(&decoded);
    assert_eq!((string(&batch, "scope_name", 1), string(&batch, "scope_name", 2)), (Some("lib".into()), None));
    assert_eq!(map(&batch, "resource_attributes", 2), pairs(&[("host.cpus", "8")]));
}

#[test]
fn fields_may_come_in_any_order_and_unknown_ones_are_passed_over() {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
    }
    let record = LogRecord {
        body: Some(text("hi")),
        ..Default::default()
    };
    let unknown = [
        &[0xf8, 0x07, 5, 0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8, 0xfd, 0x07, 1, 2, 3, 4][..],
        &[0xfa, 0x07, 1, 0],
    ]
    .concat();
    let record = [unknown.clone(), record.encode_to_vec()].concat();
    let scope = InstrumentationScope {
        name: "late".into(),
        ..Default::default()
    };
    let scope_logs = [field(2, &record), unknown.clone(), field(1, &scope.encode_to_vec())].concat();
    let resource = Resource {
        attributes: vec![key_value("service.name", text("s"))],
        ..Default::default()
    };
    let resource_logs = [field(2, &scope_logs), field(1, &resource.encode_to_vec()), unknown.clone()].concat();
    let body = [unknown, field(1, &resource_logs)].concat();
    let batch = stored(&logs(&body, &CONTEXT).unwrap());
    assert_eq!(string(&batch, "body", 0).as_deref(), Some("hi"));
    assert_eq!(
        (string(&batch, "scope_name", 0), string(&batch, "service_name", 0)),
        (Some("late".into()), Some("s".into()))
    );
}

#[test]
fn bad_utf8_costs_no_record() {
    let with = |mut bytes: Vec<u8>| {
        let at = bytes.windows(4).position(|window| window == b"MARK").unwrap();
        bytes[at] = 0xff;
        bytes
    };
    let record = LogRecord {
        body: Some(text("MARKed")),
        ..Default::default()
    };
    let body = with(logs_request(vec![record]).encode_to_vec());
    assert_eq!(string(&stored(&logs(&body, &CONTEXT).unwrap()), "body", 0).as_deref(), Some("\u{fffd}ARKed"));
    let span = Span {
        attributes: vec![key_value("k", text("MARK"))],
        ..full_span()
    };
    let body = with(spans_request(vec![span]).encode_to_vec());
    let batch = stored(&traces(&body, &CONTEXT).unwrap());
    assert_eq!(map(&batch, "attributes", 0), pairs(&[("k", "\u{fffd}ARK")]));
    let body = with(metrics_request(vec![gauge("MARK", 1.0)]).encode_to_vec());
    let batch = table(&metrics(&body, &CONTEXT).unwrap(), Table::MetricPoints);
    assert_eq!(string(&batch, "metric_name", 0).as_deref(), Some("\u{fffd}ARK"));
    let body = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"?x"}}]}]}]}"#;
    let body: Vec<u8> = body.iter().map(|b| if *b == b'?' { 0xff } else { *b }).collect();
    assert_eq!(string(&stored(&logs_json(&body, &CONTEXT).unwrap()), "body", 0).as_deref(), Some("\u{fffd}x"));
}

#[test]
fn nesting_bombs_are_cut_at_the_bound() {
    for open in [(|inner| array(vec![inner])) as fn(AnyValue) -> AnyValue, |inner| {
        kvlist(vec![key_value("k", inner)])
    }] {
        let nest = |levels| (0..levels).fold(text("deep"), |inner, _| open(inner));
        let shape = |levels: usize, core: &str| match open(text("x")).value {
            Some(Any::ArrayValue(_)) => "[".repeat(levels) + core + &"]".repeat(levels),
            _ => "{\"k\":".repeat(levels) + core + &"}".repeat(levels),
        };
        for (levels, expected) in [(MAX_NESTING, shape(MAX_NESTING, "\"deep\"")), (MAX_NESTING + 1, shape(MAX_NESTING, CUT))] {
            let record = LogRecord {
                body: Some(nest(levels)),
                ..Default::default()
            };
            assert_eq!(string(&logs_of(vec![record]), "body", 0), Some(expected.clone()));
        }
        // deeper than prost itself would read
        let levels = 2_000;
        let record = LogRecord {
            body: Some(nest(levels)),
            ..Default::default()
        };
        assert_eq!(string(&logs_of(vec![record]), "body", 0), Some(shape(MAX_NESTING, CUT)));
        let span = Span {
            attributes: vec![key_value("deep", nest(levels))],
            ..full_span()
        };
        let decoded = traces(&spans_request(vec![span]).encode_to_vec(), &CONTEXT).unwrap();
        assert!(map(&stored(&decoded), "attributes", 0)[0].1.len() >= 31 * 2);
    }
}

#[test]
fn faults_name_message_and_byte() {
    let good = spans_request(vec![full_span()]).encode_to_vec();
    let error = traces(&good[..good.len() - 1], &CONTEXT).unwrap_err().to_string();
    assert!(error.starts_with("invalid protobuf in ExportTraceServiceRequest: field 1 is"), "{error}");
    // Span.start_time_unix_nano as a varint
    let span = [0x38, 1];
    let nested = [&[0x0a, 6, 0x12, 4, 0x12, 2][..], &span].concat();
    let error = traces(&nested, &CONTEXT).unwrap_err().to_string();
    assert_eq!(error, "invalid protobuf in Span: field 7 is 64 bits but was sent as a varint at byte 6");
    let error = logs(&[0x0a, 4, 0x12, 2, 0x12, 9], &CONTEXT).unwrap_err().to_string();
    assert_eq!(error, "invalid protobuf in ScopeLogs: field 2 is 9 bytes long but only 0 are left at byte 4");
}

#[test]
fn an_empty_request_has_no_rows() {
    for decoded in [logs(b"", &CONTEXT), traces(b"", &CONTEXT), metrics(b"", &CONTEXT)] {
        assert!(decoded.unwrap().batch.rows.is_empty());
    }
    for decoded in [
        logs_json(b"{}", &CONTEXT),
        traces_json(b" {} ", &CONTEXT),
        metrics_json(b"{\"x\":[1]}", &CONTEXT),
    ] {
        assert!(decoded.unwrap().batch.rows.is_empty());
    }
}
