use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use serde_json::json;

use super::*;
use crate::decode::decode;
use crate::model::{Rows, Table};

const NOW: i64 = 1_795_323_600_000_000_000;
const SECONDS: i64 = NOW / 1_000_000_000;

fn context(retention_days: i32) -> Context {
    Context {
        received_at_nanos: NOW,
        retention_days,
    }
}

fn cbor(value: &serde_json::Value) -> Vec<u8> {
    fn write(encoder: &mut minicbor::Encoder<Vec<u8>>, value: &serde_json::Value) {
        match value {
            serde_json::Value::Null => _ = encoder.null().expect("memory"),
            serde_json::Value::Bool(value) => _ = encoder.bool(*value).expect("memory"),
            serde_json::Value::String(text) => _ = encoder.str(text).expect("memory"),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => _ = encoder.i64(number).expect("memory"),
                None => _ = encoder.f64(number.as_f64().expect("a number")).expect("memory"),
            },
            serde_json::Value::Array(items) => {
                encoder.array(items.len() as u64).expect("memory");
                items.iter().for_each(|item| write(encoder, item));
            }
            serde_json::Value::Object(members) => {
                encoder.begin_map().expect("memory");
                for (name, value) in members {
                    encoder.str(name).expect("memory");
                    if name == "Timestamp" {
                        encoder.tag(minicbor::data::IanaTag::Timestamp).expect("memory");
                    }
                    write(encoder, value);
                }
                encoder.end().expect("memory");
            }
        }
    }
    let mut encoder = minicbor::Encoder::new(Vec::new());
    write(&mut encoder, value);
    encoder.into_writer()
}

fn query(value: &serde_json::Value) -> Vec<u8> {
    fn write(out: &mut Vec<(String, String)>, at: &str, value: &serde_json::Value) {
        let under = |name: &str| if at.is_empty() { name.to_string() } else { format!("{at}.{name}") };
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => out.push((at.to_string(), text.clone())),
            serde_json::Value::Array(items) => {
                // from the last to the first: order is by number
                for (i, item) in items.iter().enumerate().rev() {
                    write(out, &under(&format!("member.{}", i + 1)), item);
                }
            }
            serde_json::Value::Object(members) if at.ends_with("Attributes") => {
                for (i, (name, value)) in members.iter().enumerate() {
                    write(out, &under(&format!("entry.{}.key", i + 1)), &name.clone().into());
                    write(out, &under(&format!("entry.{}.value", i + 1)), value);
                }
            }
            serde_json::Value::Object(members) => members.iter().for_each(|(name, value)| write(out, &under(name), value)),
            other => out.push((at.to_string(), other.to_string())),
        }
    }
    let mut pairs = vec![("Action".to_string(), "PutMetricData".to_string()), ("Version".into(), "2010-08-01".into())];
    write(&mut pairs, "", value);
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(pairs);
    body.finish().into_bytes()
}

/// The same call in all three forms.
fn forms(value: &serde_json::Value) -> [(Kind, Vec<u8>); 3] {
    [
        (Kind::PutMetricDataJson, value.to_string().into_bytes()),
        (Kind::PutMetricDataCbor, cbor(value)),
        (Kind::PutMetricDataQuery, query(value)),
    ]
}

fn fault(value: &serde_json::Value) -> Fault {
    let faults: Vec<Fault> = forms(value)
        .iter()
        .map(|(kind, body)| Call::read(*kind, body).expect_err(&format!("{kind:?}: {value}")))
        .collect();
    assert!(faults.windows(2).all(|pair| pair[0] == pair[1]), "{faults:?}");
    faults[0].clone()
}

fn datum(more: serde_json::Value) -> serde_json::Value {
    let mut datum = json!({"MetricName": "m"});
    for (name, value) in more.as_object().expect("members") {
        datum[name] = value.clone();
    }
    json!({"Namespace": "N", "MetricData": [datum]})
}

fn table(decoded: &Decoded, table: Table) -> Option<&Rows> {
    decoded.batch.rows.iter().find(|rows| rows.table() == table)
}

#[test]
fn one_call_means_the_same_in_all_three_forms() {
    let call = json!({
        "Namespace": "Shop/Ünits & more",
        "MetricData": [
            {"MetricName": "one", "Value": 1.5, "Unit": "Kilobytes/Second", "Timestamp": SECONDS - 60, "StorageResolution": 1,
             "Dimensions": [{"Name": "Service", "Value": "pay"}, {"Name": "Zone", "Value": "a=b&c"}]},
            {"MetricName": "many", "Values": [1, 2, 3], "Counts": [1, 0, 2]},
            {"MetricName": "set", "StatisticValues": {"SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 5}},
        ],
        "EntityMetricData": [{
            "Entity": {"KeyAttributes": {"Type": "Service", "Name": "checkout", "Environment": "prod"}, "Attributes": {"Platform": "ECS"}},
            "MetricData": [{"MetricName": "of entity", "Value": -1e10}],
        }],
        "StrictEntityValidation": false,
    });
    let calls: Vec<Call> = forms(&call).iter().map(|(kind, body)| Call::read(*kind, body).expect("valid")).collect();
    assert_eq!(calls[0], calls[1]);
    assert_eq!(calls[0], calls[2]);
    assert_eq!(calls[0].n_datums(), 4);
    for (kind, body) in forms(&call) {
        let decoded = decode(kind, &body, &context(30)).expect("decodes");
        let points = table(&decoded, Table::MetricPoints).expect("points");
        let values = points.batch().column_by_name("value").expect("a column").as_primitive::<Float64Type>();
        assert_eq!(
            (values.values().to_vec(), points.times().values().to_vec()),
            (vec![1.5, -1e10], vec![NOW - 60_000_000_000, NOW])
        );
        let summaries = table(&decoded, Table::MetricSummaries).expect("summaries");
        let sums = summaries.batch().column_by_name("sum").expect("a column").as_primitive::<Float64Type>();
        assert_eq!(sums.values().to_vec(), [7.0, 10.0]);
        let series = table(&decoded, Table::MetricSeries).expect("series");
        let text = |column: &str, row: usize| {
            series
                .batch()
                .column_by_name(column)
                .expect("a column")
                .as_string::<i32>()
                .value(row)
                .to_string()
        };
        assert_eq!(
            (text("unit", 0), text("unit", 1), text("service_name", 3)),
            ("kBy/s".into(), "1".into(), "checkout".into())
        );
    }
}

#[test]
fn numbers_and_times_are_read_as_each_form_may_write_them() {
    for (value, expected) in [(json!("1.5"), 1.5), (json!(3), 3.0), (json!("-2e3"), -2_000.0)] {
        for (kind, body) in forms(&datum(json!({ "Value": value }))) {
            let call = Call::read(kind, &body).expect("valid");
            assert_eq!(call.datums[0].sample, Sample::One(expected), "{kind:?}");
        }
    }
    for time in [
        json!("2026-11-22T05:00:00Z"),
        json!("2026-11-22T05:00:00.000000+00:00"),
        json!(1_795_323_600),
        json!(1_795_323_600.0),
    ] {
        for (kind, body) in forms(&datum(json!({ "Value": 1, "Timestamp": time }))) {
            assert_eq!(
                Call::read(kind, &body).expect("valid").datums[0].timestamp_nanos,
                Some(1_795_323_600_000_000_000),
                "{kind:?} {time}"
            );
        }
    }
}

#[test]
fn each_rule_has_its_fault_and_names_the_parameter() {
    let missing = |parameter: &str| Fault::Missing(parameter.into());
    assert_eq!(fault(&json!({"MetricData": [{"MetricName": "m", "Value": 1}]})), missing("Namespace"));
    assert_eq!(fault(&json!({"Namespace": "N"})), missing("MetricData"));
    assert_eq!(
        fault(&json!({"Namespace": "N", "MetricData": [{"Value": 1}]})),
        missing("MetricData.member.1.MetricName")
    );
    let no_value = datum(json!({"Value": 1, "Dimensions": [{"Name": "n"}]}));
    assert_eq!(fault(&no_value), missing("MetricData.member.1.Dimensions.member.1.Value"));
    let half = datum(json!({"StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 1}}));
    assert_eq!(fault(&half), missing("MetricData.member.1.StatisticValues.Maximum"));
    let value = |text: &str| Fault::Value(text.into());
    let nan = value("The value NaN for parameter MetricData.member.1.Value is invalid.");
    assert_eq!(fault(&datum(json!({"Value": "NaN"}))), nan);
    for bad in [
        json!({"Value": "abc"}),
        json!({"Value": "Infinity"}),
        json!({"Value": "2.4e108"}),
        json!({"Value": 1, "Unit": "Parsecs"}),
        json!({"Value": 1, "StorageResolution": 5}),
        json!({"Value": 1, "Timestamp": "yesterday"}),
        json!({"Value": 1, "Timestamp": "-15m"}),
        json!({"StatisticValues": {"SampleCount": -1, "Sum": 1, "Minimum": 1, "Maximum": 1}}),
        json!({"Values": [1], "Counts": [-1]}),
        json!({"Values": [1], "Counts": [0]}),
        json!({"Values": [1, 2], "Counts": [1]}),
        json!({"Values": vec![1; MAX_VALUES + 1]}),
        json!({"Value": 1, "Dimensions": vec![json!({"Name": "n", "Value": "v"}); MAX_DIMENSIONS + 1]}),
        json!({"Value": 1, "MetricName": "m".repeat(256)}),
        json!({"Value": 1, "Dimensions": [{"Name": "n", "Value": "v".repeat(1_025)}]}),
    ] {
        assert!(matches!(fault(&datum(bad.clone())), Fault::Value(_)), "{bad}");
    }
    assert!(matches!(
        fault(&json!({"Namespace": ":N", "MetricData": [{"MetricName": "m", "Value": 1}]})),
        Fault::Value(_)
    ));
    for bad in [
        json!({}),
        json!({"Value": 1, "Values": [1]}),
        json!({"Value": 1, "StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 1, "Maximum": 1}}),
        json!({"StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1}}),
    ] {
        assert!(matches!(fault(&datum(bad.clone())), Fault::Combination(_)), "{bad}");
    }
    let n = |n: usize| json!({"Namespace": "N", "MetricData": vec![json!({"MetricName": "m", "Value": 1}); n]});
    assert_eq!(
        fault(&n(MAX_DATUMS + 1)),
        value("The collection MetricData must not have a size greater than 1000.")
    );
    assert!(forms(&n(MAX_DATUMS)).iter().all(|(kind, body)| Call::read(*kind, body).is_ok()));
    let full = json!({"Values": vec![1; MAX_VALUES], "Dimensions": vec![json!({"Name": "n", "Value": "v"}); MAX_DIMENSIONS]});
    assert!(forms(&datum(full)).iter().all(|(kind, body)| Call::read(*kind, body).is_ok()));
}

#[test]
fn times_outside_cloudwatchs_window_refuse_the_call_unless_any_time_is_taken() {
    let day = 86_400;
    for (seconds, is_fine) in [
        (SECONDS - 14 * day, true),
        (SECONDS - 14 * day - 1, false),
        (SECONDS + 7_200, true),
        (SECONDS + 7_201, false),
    ] {
        for (kind, body) in forms(&datum(json!({"Value": 1, "Timestamp": seconds}))) {
            assert_eq!(decode(kind, &body, &context(30)).is_ok(), is_fine, "{seconds}");
            assert!(decode(kind, &body, &context(0)).is_ok());
        }
    }
}

#[test]
fn what_is_not_of_its_form_is_told_as_such() {
    for (kind, body) in [
        (Kind::PutMetricDataJson, &b"{"[..]),
        (Kind::PutMetricDataJson, b"{} x"),
        (Kind::PutMetricDataCbor, b"\xff"),
        (Kind::PutMetricDataCbor, b"\xa0\xa0"),
        (Kind::PutMetricDataCbor, b"\x9f\x01"),
        (Kind::PutMetricDataCbor, &[0x81; 100]),
        (Kind::PutMetricDataJson, br#"{"Namespace":"N","MetricData":"m"}"#),
    ] {
        assert!(matches!(Call::read(kind, body), Err(Fault::Serialization(_))), "{kind:?} {body:?}");
    }
    let deep = format!("{}=1", vec!["a"; 1_000].join("."));
    assert!(matches!(Call::read(Kind::PutMetricDataQuery, deep.as_bytes()), Err(Fault::Serialization(_))));
    // an array of 2^32 items that are not there
    assert!(Call::read(Kind::PutMetricDataCbor, b"\x9a\xff\xff\xff\xff").is_err());
    let many = vec![0x9f; 1].into_iter().chain(vec![0x00; MAX_NODES + 1]).chain([0xff]).collect::<Vec<u8>>();
    assert!(matches!(Call::read(Kind::PutMetricDataCbor, &many), Err(Fault::Serialization(_))));
    assert_eq!(action(b"Version=1&Action=PutMetricData&x=%ZZ"), Some("PutMetricData".into()));
    assert_eq!(action(b""), None);
}

#[test]
fn each_part_of_a_name_is_weighed() {
    let n = 1_000;
    let deep: String = (0..n).map(|i| format!("p{i}.a.a%2Ea.a.a.a.a.a=&")).collect();
    assert!(weigh(Kind::PutMetricDataQuery, deep.as_bytes()) > 9 * n * 250);
    assert!(query::read(deep.as_bytes()).is_ok());
    let lists = format!("[{}[]]", "[],".repeat(n));
    assert!(weigh(Kind::PutMetricDataJson, lists.as_bytes()) > n * 100);
    let many = "a&".repeat(MAX_NODES + 1);
    assert!(matches!(query::read(many.as_bytes()), Err(Fault::Serialization(_))));
}

proptest::proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        for kind in [Kind::PutMetricDataJson, Kind::PutMetricDataCbor, Kind::PutMetricDataQuery] {
            let _ = decode(kind, &body, &context(30));
        }
    }

    #[test]
    fn no_damage_to_a_call_panics(at in 0usize..200, byte in proptest::prelude::any::<u8>()) {
        let call = json!({"Namespace": "N", "MetricData": [{"MetricName": "m", "Values": [1.5, 2], "Counts": [1, 1], "Timestamp": SECONDS,
            "Dimensions": [{"Name": "n", "Value": "v"}]}]});
        for (kind, mut body) in forms(&call) {
            let at = at % body.len();
            body[at] = byte;
            let _ = decode(kind, &body, &context(30));
        }
    }
}
