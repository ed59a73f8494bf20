//! What holds for any request.

use proptest::prelude::*;

use super::*;

/// The same rules over prost's structs: what the walk must agree with.
fn reference(request: &ExportLogsServiceRequest) -> RecordBatch {
    let mut builder = LogsBuilder::default();
    let mut scratch = String::new();
    for resource in &request.resource_logs {
        for scope in &resource.scope_logs {
            let context = builder.context(context_of(resource.resource.as_ref(), scope.scope.as_ref()));
            for record in &scope.log_records {
                for attribute in &record.attributes {
                    builder.attribute(&attribute.key, values::value(attribute.value.as_ref(), &mut scratch));
                }
                let body = record.body.as_ref().filter(|body| body.value.is_some());
                let body_text = body.map(|body| values::value(Some(body), &mut scratch).text(&mut String::new()).to_string());
                let trace_id = (record.trace_id.len() == 16).then(|| TraceId::from_bytes(&record.trace_id)).flatten();
                let fallback = time(record.observed_time_unix_nano).unwrap_or(CONTEXT.received_at_nanos);
                builder.push(
                    context,
                    &model::LogRecord {
                        time_unix_nano: time(record.time_unix_nano).unwrap_or(fallback),
                        observed_time_unix_nano: time(record.observed_time_unix_nano),
                        trace_id,
                        span_id: SpanId::from_bytes(&record.span_id),
                        trace_flags: trace_id.map(|_| (record.flags & 0xff) as i32),
                        severity_number: Some(record.severity_number).filter(|n| (1..=24).contains(n)).unwrap_or(0),
                        severity_text: Some(&record.severity_text),
                        event_name: Some(&record.event_name),
                        body: body_text.as_deref(),
                        body_type: match body.and_then(|body| body.value.as_ref()) {
                            None | Some(Any::StringValue(_) | Any::StringValueStrindex(_)) => 1,
                            Some(Any::BoolValue(_)) => 2,
                            Some(Any::IntValue(_)) => 3,
                            Some(Any::DoubleValue(_)) => 4,
                            Some(Any::ArrayValue(_)) => 5,
                            Some(Any::KvlistValue(_)) => 6,
                            Some(Any::BytesValue(_)) => 7,
                        },
                        dropped_attributes_count: record.dropped_attributes_count.min(i32::MAX as u32) as i32,
                    },
                );
            }
        }
    }
    builder.finish().unwrap().to_batch(None).unwrap()
}

fn any_values() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        4 => "\\PC{0,12}".prop_map(|value| text(&value)),
        1 => any::<bool>().prop_map(|value| sent(Any::BoolValue(value))),
        1 => any::<i64>().prop_map(|value| sent(Any::IntValue(value))),
        1 => any::<f64>().prop_map(|value| sent(Any::DoubleValue(value))),
        1 => prop::collection::vec(any::<u8>(), 0..5).prop_map(|value| sent(Any::BytesValue(value))),
        1 => Just(AnyValue { value: None }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(array),
            prop::collection::vec(("[a-c]", inner).prop_map(|(key, value)| key_value(&key, value)), 0..3).prop_map(kvlist),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let some = ("[a-d]|service.name|aws.log.group.names", any_values()).prop_map(|(key, value)| key_value(&key, value));
    prop::collection::vec(some, 0..5)
}

fn ids(size: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), size..=size),
        1 => Just(vec![]),
        1 => Just(vec![0; size]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

prop_compose! {
    fn records()(
        times in prop::array::uniform2(prop_oneof![3 => 1u64..1 << 62, 1 => Just(0), 1 => any::<u64>()]),
        severity_number in prop_oneof![0i32..30, any::<i32>()],
        texts in prop::array::uniform2("\\PC{0,6}"),
        body in prop::option::of(any_values()),
        attributes in attributes(),
        dropped_attributes_count in any::<u32>(),
        flags in any::<u32>(),
        trace_id in ids(16),
        span_id in ids(8),
    ) -> LogRecord {
        let [severity_text, event_name] = texts;
        LogRecord {
            time_unix_nano: times[0], observed_time_unix_nano: times[1], severity_number, severity_text, body, attributes, dropped_attributes_count, flags,
            trace_id, span_id, event_name,
        }
    }
}

fn requests() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope_logs = (prop::option::of(("\\PC{0,4}", attributes())), prop::collection::vec(records(), 1..4)).prop_map(|(scope, log_records)| ScopeLogs {
        scope: scope.map(|(name, attributes)| InstrumentationScope {
            name,
            attributes,
            ..Default::default()
        }),
        log_records,
        schema_url: "x".into(),
    });
    let resource_logs = (prop::option::of(attributes()), prop::collection::vec(scope_logs, 1..3)).prop_map(|(attributes, scope_logs)| ResourceLogs {
        resource: attributes.map(|attributes| Resource {
            attributes,
            ..Default::default()
        }),
        scope_logs,
        schema_url: String::new(),
    });
    prop::collection::vec(resource_logs, 1..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_walk_agrees_with_prost_and_with_json(request in requests()) {
        let expected = reference(&request);
        let walked = stored(&logs(&request.encode_to_vec(), &CONTEXT).unwrap());
        prop_assert_eq!(&walked, &expected);
        let from_json = stored(&logs_json(to_json(&request).to_string().as_bytes(), &CONTEXT).unwrap());
        prop_assert_eq!(&from_json, &expected);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for decode in [logs, traces, metrics, logs_json, traces_json, metrics_json] {
            let _ = decode(&bytes, &CONTEXT);
        }
    }

    #[test]
    fn damaged_requests_never_panic_and_what_prost_takes_is_taken(request in requests(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = request.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let ours = logs(&bytes, &CONTEXT);
        if ExportLogsServiceRequest::decode(bytes.as_slice()).is_ok()
            && let Err(error) = ours
        {
            // prost reads groups of unknown number, which OTLP never has
            prop_assert!(error.to_string().contains("a wire type that proto3 does not have"), "{}", error);
        }
        for decode in [traces, metrics] {
            let _ = decode(&bytes, &CONTEXT);
        }
    }
}

#[test]
fn truncation_at_any_byte_is_an_error_or_a_smaller_request() {
    type Decoder = fn(&[u8], &Context) -> Result<Decoded, Error>;
    let cases: [(Vec<u8>, Decoder); 3] = [
        (logs_request(vec![full_record(), full_record()]).encode_to_vec(), logs),
        (spans_request(vec![full_span()]).encode_to_vec(), traces),
        (metrics_request(every_kind()).encode_to_vec(), metrics),
    ];
    for (bytes, decode) in cases {
        for end in 1..bytes.len() {
            assert!(matches!(decode(&bytes[..end], &CONTEXT), Err(Error::Protobuf { .. })), "cut at {end}");
        }
        assert!(decode(&bytes, &CONTEXT).is_ok());
    }
    let json = to_json(&logs_request(vec![full_record()])).to_string();
    for end in 0..json.len() {
        assert!(matches!(logs_json(&json.as_bytes()[..end], &CONTEXT), Err(Error::Json(_))), "cut at {end}");
    }
}
