use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, KeyValueList, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde_json::json;

use super::metric_streams as otel;
use super::*;
use crate::decode::{Kind, decode};

const NOW: i64 = 1_795_323_600_000_000_000;
const NOW_MILLIS: i64 = NOW / 1_000_000;
const ARN: &str = "arn:aws:firehose:eu-central-1:123456789012:deliverystream/to-lake";

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(data).expect("memory");
    encoder.finish().expect("memory")
}

fn context() -> Context {
    Context {
        received_at_nanos: NOW,
        retention_days: 30,
    }
}

fn body(head: &Head, records: &[Vec<u8>]) -> Vec<u8> {
    let records: Vec<_> = records.iter().map(|data| json!({ "data": STANDARD.encode(data) })).collect();
    let delivery = json!({ "requestId": "r", "timestamp": NOW_MILLIS - 5, "records": records }).to_string();
    let (raw, delivery) = (Bytes::new(), Bytes::from(delivery));
    envelope::seal(head, &raw, &delivery, Encoding::Identity).expect("sealed").plain.to_vec()
}

fn read(records: &[Vec<u8>]) -> (Decoded, Tally) {
    let head = head(Some(ARN), Some(r#"{"commonAttributes":{"team":"shop"}}"#)).expect("headers");
    let body = body(&head, records);
    assert!(weigh(&body).expect("weighs") > 0);
    deliveries(&body, &context(), &mut |_| Ok(())).expect("decodes")
}

fn table(decoded: &Decoded, table: Table) -> Option<&Rows> {
    let mut of_table = decoded.batch.rows.iter().filter(|rows| rows.table() == table);
    let first = of_table.next();
    assert!(of_table.next().is_none(), "one entry a table");
    first
}

fn bodies(decoded: &Decoded) -> Vec<String> {
    let Some(rows) = table(decoded, Table::Logs) else { return vec![] };
    let column = rows.batch().column_by_name("body").expect("a column").as_string::<i32>().clone();
    column.iter().map(|body| body.expect("a body").to_string()).collect()
}

fn subscription(kind: &str, group: &str, messages: &[&str]) -> Vec<u8> {
    let events: Vec<_> = messages
        .iter()
        .enumerate()
        .map(|(i, message)| json!({"id": "3".repeat(56), "timestamp": NOW_MILLIS - 1_000 + i as i64, "message": message}))
        .collect();
    json!({"messageType": kind, "owner": "111122223333", "logGroup": group, "logStream": "s1", "subscriptionFilters": ["all"], "logEvents": events})
        .to_string()
        .into_bytes()
}

#[test]
fn a_subscription_becomes_rows_as_put_log_events_makes_them() {
    let (decoded, tally) = read(&[
        gzip(&subscription("DATA_MESSAGE", "/aws/lambda/pay", &["one", "two"])),
        gzip(&subscription(
            "CONTROL_MESSAGE",
            "",
            &["CWL CONTROL MESSAGE: Checking health of destination Firehose."],
        )),
        // Firehose may inflate for us
        subscription("DATA_MESSAGE", "/aws/lambda/pay", &["three"]),
    ]);
    assert_eq!(bodies(&decoded), ["one", "two", "three"]);
    assert_eq!((tally.subscription_events, tally.control_messages, tally.json, tally.lines), (3, 1, 0, 0));
    let rows = table(&decoded, Table::Logs).expect("logs");
    assert_eq!(rows.times().values()[1], NOW - 999_000_000);
    let context = rows.context(2).expect("a context");
    for (attribute, value) in [
        ("aws.log.group.names", "/aws/lambda/pay"),
        ("aws.log.stream.names", "s1"),
        ("service.name", "pay"),
        ("cloud.account.id", "111122223333"),
        ("cloud.region", "eu-central-1"),
        ("aws.firehose.arn", ARN),
        ("team", "shop"),
    ] {
        assert_eq!(context.attribute(attribute), Some(value), "{attribute}");
    }
    assert_eq!(rows.contexts().len(), 1, "one context a stream");
    let attributes = format!("{:?}", rows.batch().column_by_name("attributes").expect("a column"));
    assert_eq!(attributes.matches(EVENT_ID).count(), 3, "each event has its ID: {attributes}");
    assert_eq!(attributes.matches(&"3".repeat(56)).count(), 3, "{attributes}");
}

#[test]
fn members_documents_and_lines_in_one_record_are_told_apart() {
    let members = [
        gzip(&subscription("DATA_MESSAGE", "/g", &["a"])),
        gzip(&subscription("DATA_MESSAGE", "/g", &["b"])),
    ]
    .concat();
    let documents = [subscription("DATA_MESSAGE", "/g", &["c"]), subscription("DATA_MESSAGE", "/g", &["d"])].concat();
    let (decoded, tally) = read(&[
        members,
        documents,
        b"{\"level\":\"info\"}\n{\"level\":\n \"warn\"}{}".to_vec(),
        b"plain one\r\n\r\n{\"half\": \n{\"whole\": 1}\nplain two\n".to_vec(),
        vec![],
    ]);
    let expected = [
        "a",
        "b",
        "c",
        "d",
        "{\"level\":\"info\"}",
        "{\"level\":\n \"warn\"}",
        "{}",
        "plain one",
        "{\"half\": ",
        "{\"whole\": 1}",
        "plain two",
    ];
    assert_eq!(bodies(&decoded), expected);
    assert_eq!((tally.subscription_events, tally.json, tally.lines), (4, 4, 3));
    let rows = table(&decoded, Table::Logs).expect("logs");
    assert_eq!(rows.times().value(7), NOW - 5_000_000, "the delivery's time");
    assert_eq!(rows.context(7).expect("a context").service_name(), Some("to-lake"));
}

#[test]
fn what_is_neither_base64_nor_gzip_is_rejected_alone() {
    let head = Head::default();
    let mut broken = gzip(b"text");
    broken.truncate(12);
    let body = String::from_utf8(body(&head, &[b"fine".to_vec(), broken])).expect("text");
    let body = body.replace("]}", ",{\"data\":\"***\"},{}]}");
    let (decoded, _) = deliveries(body.as_bytes(), &context(), &mut |_| Ok(())).expect("decodes");
    assert_eq!(bodies(&decoded), ["fine"]);
    assert_eq!(decoded.rejected.iter().map(|rejected| rejected.count).sum::<u64>(), 2);
    assert!(decoded.rejected[0].message.starts_with("records[1].data"), "{:?}", decoded.rejected);
}

#[test]
fn times_outside_the_window_are_rejected_by_signal() {
    let old = |millis: i64| {
        json!({"metric_stream_name": "m", "namespace": "N", "metric_name": "C", "dimensions": {}, "timestamp": millis, "unit": "Count",
               "value": {"count": 1, "sum": 2, "min": 2, "max": 2}})
        .to_string()
        .into_bytes()
    };
    let event = json!({"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": "s", "logEvents": [{"timestamp": 1, "message": "m"}]});
    let (decoded, _) = read(&[old(1), old(NOW_MILLIS), event.to_string().into_bytes()]);
    assert_eq!((decoded.rejected.len(), decoded.rejected[0].reason), (1, Reason::TooOld));
    assert_eq!((decoded.rejected_points.len(), decoded.rejected_points[0].reason), (1, Reason::TooOld));
    assert_eq!(table(&decoded, Table::MetricSummaries).expect("one").len(), 1);
    assert!(table(&decoded, Table::Logs).is_none());
}

/// (name, unit, namespace, dimensions, sum, quantiles)
type Shown = (String, String, String, Vec<(String, String)>, f64, Vec<(f64, f64)>);

fn summaries(decoded: &Decoded) -> Vec<Shown> {
    let rows = table(decoded, Table::MetricSummaries).expect("summaries");
    let series = table(decoded, Table::MetricSeries).expect("series");
    let map = |column: &str, row: usize| -> Vec<(String, String)> {
        let entries = series.batch().column_by_name(column).expect("a column").as_map().value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        keys.iter()
            .zip(values.iter())
            .map(|(key, value)| (key.expect("a key").to_string(), value.expect("a value").to_string()))
            .collect()
    };
    let batch = rows.batch();
    let ids = batch.column_by_name("series_id").expect("a column").as_primitive::<Int64Type>();
    let series_ids = series.batch().column_by_name("series_id").expect("a column").as_primitive::<Int64Type>();
    let text =
        |batch: &arrow::array::RecordBatch, column: &str, row: usize| batch.column_by_name(column).expect("a column").as_string::<i32>().value(row).to_string();
    (0..rows.len())
        .map(|row| {
            let at = series_ids.values().iter().position(|id| *id == ids.value(row)).expect("its series");
            let namespace = map("resource_attributes", at)
                .into_iter()
                .find(|(key, _)| key == super::super::cloudwatch::NAMESPACE);
            let quantiles = batch.column_by_name("quantiles").expect("a column").as_list::<i32>().value(row);
            let quantiles = quantiles.as_struct();
            let (which, values) = (
                quantiles.column(0).as_primitive::<Float64Type>(),
                quantiles.column(1).as_primitive::<Float64Type>(),
            );
            (
                text(batch, "metric_name", row),
                text(series.batch(), "unit", at),
                namespace.expect("a namespace").1,
                map("attributes", at),
                batch.column_by_name("sum").expect("a column").as_primitive::<Float64Type>().value(row),
                which.values().iter().copied().zip(values.values().iter().copied()).collect(),
            )
        })
        .collect()
}

fn string(text: &str) -> Option<AnyValue> {
    Some(AnyValue {
        value: Some(any_value::Value::StringValue(text.into())),
    })
}

fn key_value(key: &str, value: Option<AnyValue>) -> KeyValue {
    KeyValue {
        key: key.into(),
        value,
        ..KeyValue::default()
    }
}

fn otel_record(point: otel::SummaryPoint) -> Vec<u8> {
    let metric = otel::Metric {
        name: "amazonaws.com/AWS/EC2/CPUUtilization".into(),
        unit: "%".into(),
        summary: Some(otel::Summary { data_points: vec![point] }),
    };
    let resource = Resource {
        attributes: vec![key_value("cloud.account.id", string("123456789012"))],
        ..Resource::default()
    };
    let request = otel::Request {
        resource_metrics: vec![otel::ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![otel::ScopeMetrics { metrics: vec![metric] }],
        }],
    };
    let message = request.encode_length_delimited_to_vec();
    [&message[..], &message].concat()
}

#[test]
fn metric_streams_give_the_same_rows_in_all_three_forms() {
    let json = json!({"metric_stream_name": "m", "account_id": "123456789012", "region": "eu-central-1", "namespace": "AWS/EC2",
        "metric_name": "CPUUtilization", "dimensions": {"InstanceId": "i-1", "Namespace": "own"}, "timestamp": NOW_MILLIS,
        "value": {"count": 3, "sum": 30, "min": 0, "max": 20, "p99.9": 19.5}, "unit": "Percent"});
    let quantile_values = [(0.0, 0.0), (0.999, 19.5), (1.0, 20.0)].map(|(quantile, value)| otel::Quantile { quantile, value });
    let point = otel::SummaryPoint {
        start_time_unix_nano: (NOW - 60_000_000_000) as u64,
        time_unix_nano: NOW as u64,
        count: 3,
        sum: 30.0,
        quantile_values: quantile_values.to_vec(),
        ..Default::default()
    };
    let label = |key: &str, value: &str| otel::Label {
        key: key.into(),
        value: value.into(),
    };
    let labels = [
        ("Namespace", "AWS/EC2"),
        ("MetricName", "CPUUtilization"),
        ("InstanceId", "i-1"),
        ("Namespace", "own"),
    ];
    let v0_7 = otel::SummaryPoint {
        labels: labels.map(|(key, value)| label(key, value)).to_vec(),
        ..point.clone()
    };
    let dimensions = KeyValueList {
        values: vec![key_value("InstanceId", string("i-1")), key_value("Namespace", string("own"))],
    };
    let dimensions = AnyValue {
        value: Some(any_value::Value::KvlistValue(dimensions)),
    };
    let v1_0 = otel::SummaryPoint {
        attributes: vec![
            key_value("Namespace", string("AWS/EC2")),
            key_value("MetricName", string("CPUUtilization")),
            key_value("Dimensions", Some(dimensions)),
        ],
        ..point
    };
    let own = |key: &str, value: &str| (key.to_string(), value.to_string());
    let expected: Shown = (
        "CPUUtilization".into(),
        "%".into(),
        "AWS/EC2".into(),
        vec![own("InstanceId", "i-1"), own("Namespace", "own")],
        30.0,
        vec![(0.0, 0.0), (0.999, 19.5), (1.0, 20.0)],
    );
    for (form, record, n) in [
        ("json", json.to_string().into_bytes(), 1),
        ("0.7", otel_record(v0_7), 2),
        ("1.0", otel_record(v1_0), 2),
    ] {
        let (decoded, tally) = read(&[record]);
        assert_eq!(summaries(&decoded), vec![expected.clone(); n], "{form}");
        assert_eq!((tally.metric_points, tally.lines, tally.json), (n as u64, 0, 0), "{form}");
    }
}

#[test]
fn other_otlp_metrics_and_other_statistics_are_kept_too() {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point};
    let point = NumberDataPoint {
        time_unix_nano: NOW as u64,
        value: Some(number_data_point::Value::AsDouble(1.5)),
        ..Default::default()
    };
    let metric = Metric {
        name: "g".into(),
        data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })),
        ..Default::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![metric],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    let trimmed = json!({"metric_stream_name": "m", "namespace": "N", "metric_name": "C", "timestamp": NOW_MILLIS,
        "value": {"count": 1, "sum": 2, "TM(25%:75%)": 2.5}, "unit": "None"});
    let (decoded, tally) = read(&[request.encode_length_delimited_to_vec(), trimmed.to_string().into_bytes()]);
    assert_eq!(table(&decoded, Table::MetricPoints).expect("points").len(), 2);
    assert_eq!(table(&decoded, Table::MetricSummaries).expect("summaries").len(), 1);
    assert_eq!(tally.metric_points, 3);
}

#[test]
fn a_bomb_and_too_many_records_are_refused_whole() {
    let bomb = gzip(&vec![b'a'; MAX_INFLATED_BYTES / 2 + 1]);
    let body = body(&Head::default(), &[bomb.clone(), bomb]);
    let weight = weigh(&body).expect("weighs");
    assert!(weight > MAX_INFLATED_BYTES, "a bomb is known by what it says of itself: {weight}");
    assert!(matches!(deliveries(&body, &context(), &mut |_| Ok(())), Err(Error::TooMany { .. })));
    let many = format!("{{}}\n{{\"records\":[{}]}}", vec!["{}"; MAX_DELIVERED + 1].join(","));
    assert!(matches!(decode(Kind::Firehose, many.as_bytes(), &context()), Err(Error::TooMany { .. })));
}

/// What was asked for before a delivery was read, or refused at so many bytes.
fn held(records: &[Vec<u8>], most: usize) -> Result<usize, Error> {
    let mut asked = 0;
    let mut hold = |bytes: usize| {
        asked = asked.max(bytes);
        match bytes > most {
            true => Err(Exhausted::Busy { max_bytes: most }),
            false => Ok(()),
        }
    };
    deliveries(&body(&Head::default(), records), &context(), &mut hold)?;
    Ok(asked)
}

#[test]
fn memory_is_asked_for_as_rows_are_made_whatever_gzip_says_of_itself() {
    let n = 100_000;
    // the last member tells its size alone
    let liar = [gzip("a\n".repeat(n).as_bytes()), gzip(b"b")].concat();
    let weight = weigh(&body(&Head::default(), std::slice::from_ref(&liar))).expect("weighs");
    assert!(weight < n * ROW_BYTES, "{weight}");
    assert!(held(std::slice::from_ref(&liar), usize::MAX).expect("decodes") >= n * ROW_BYTES);
    for most in [1_000, 1 << 20] {
        assert!(matches!(held(std::slice::from_ref(&liar), most), Err(Error::Exhausted(_))), "{most}");
    }
    // contexts of their own
    let streams: Vec<u8> = (0..1_000).flat_map(|n| subscription("DATA_MESSAGE", &format!("g{n}"), &[])).collect();
    assert!(held(&[streams], usize::MAX).expect("decodes") > 1_000 * 200);
    // points that two bytes each make, and labels
    for (field, n_bytes) in [
        (&[0x0a, 0][..], size_of::<otel::SummaryPoint>()),
        (&[0x0a, 2, 0x0a, 0], 2 * size_of::<otel::Label>()),
    ] {
        let n = 10_000;
        let wrapped = |tag: u8, inner: &[u8]| {
            let mut out = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut out);
            [&out[..], inner].concat()
        };
        let message = wrapped(0x0a, &wrapped(0x12, &wrapped(0x12, &wrapped(0x5a, &field.repeat(n)))));
        let mut framed = Vec::new();
        prost::encoding::encode_varint(message.len() as u64, &mut framed);
        framed.extend(message);
        assert!(held(&[framed], usize::MAX).expect("decodes") > n * n_bytes);
    }
    // dimensions that each statistic has again
    let statistics: BTreeMap<String, f64> = (0..500)
        .map(|i| (format!("TM({i})"), 1.0))
        .chain([("count".into(), 1.0), ("sum".into(), 1.0)])
        .collect();
    let metric = json!({"metric_stream_name": "m", "namespace": "N", "metric_name": "C", "timestamp": NOW_MILLIS, "value": statistics,
        "dimensions": {"d": "x".repeat(10_000)}});
    assert!(held(&[metric.to_string().into_bytes()], usize::MAX).expect("decodes") > 500 * 10_000);
}

#[test]
fn more_rows_than_a_request_may_have_are_refused_where_they_begin_to_be() {
    let record = gzip("a\n".repeat(MAX_RECORDS + 1).as_bytes());
    assert!(matches!(held(&[record], usize::MAX), Err(Error::TooMany { .. })));
    let record = gzip("{}".repeat(MAX_RECORDS + 1).as_bytes());
    assert!(matches!(held(&[record], usize::MAX), Err(Error::TooMany { .. })));
}

#[test]
fn one_request_id_for_other_records_is_another_delivery() {
    let identity = |records: &[Vec<u8>]| read(records).0.identity.expect("one");
    let one = identity(&[b"a".to_vec(), b"b".to_vec()]);
    assert_eq!(identity(&[b"a".to_vec(), b"b".to_vec()]), one);
    assert_ne!(identity(&[b"a".to_vec(), b"c".to_vec()]), one);
    assert_ne!(identity(&[b"a".to_vec()]), one);
}

#[test]
fn headers_that_are_wrong_are_told() {
    assert!(head(None, Some("{")).is_err());
    assert!(head(None, Some(r#"{"commonAttributes":{"a":1}}"#)).is_err());
    let many: BTreeMap<String, String> = (0..=MAX_COMMON_ATTRIBUTES).map(|i| (i.to_string(), String::new())).collect();
    assert!(head(None, Some(&json!({ "commonAttributes": many }).to_string())).is_err());
    assert_eq!(head(None, Some("")).expect("nothing"), Head::default());
    assert_eq!(request_id(br#"{"records":[],"requestId":"a"}"#).expect("read"), Some("a".into()));
    assert_eq!(request_id(b"{}").expect("read"), None);
    assert!(request_id(b"[").is_err());
}

proptest::proptest! {
    #[test]
    fn no_delivery_panics(records in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), 0..4), garbage in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
        let _ = deliveries(&body(&Head::default(), &records), &context(), &mut |_| Ok(()));
        let zipped: Vec<_> = records.iter().map(|record| gzip(record)).collect();
        let _ = deliveries(&body(&Head::default(), &zipped), &context(), &mut |_| Ok(()));
        let _ = decode(Kind::Firehose, &garbage, &context());
    }

    #[test]
    fn no_frame_panics(bytes in proptest::collection::vec(proptest::sample::select(vec![0u8, 1, 2, 5, 9, 0x0a, 0x12, 0x5a, 0x7b, 0xff]), 0..60)) {
        let _ = deliveries(&body(&Head::default(), &[bytes]), &context(), &mut |_| Ok(()));
    }
}
