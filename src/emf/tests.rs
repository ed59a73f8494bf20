use arrow::datatypes::{Float64Type, Int64Type};
use serde_json::json;

use super::*;
use crate::correlate::correlate;
use crate::decode::{self, Kind};

const NOW: i64 = 1_795_323_600_000_000_000;
const NOW_MILLIS: i64 = NOW / 1_000_000;

fn context() -> decode::Context {
    decode::Context {
        received_at_nanos: NOW,
        retention_days: 0,
    }
}

fn of_lines(lines: &[String]) -> Decoded {
    let events: Vec<_> = lines.iter().map(|line| json!({"timestamp": NOW_MILLIS - 7, "message": line})).collect();
    let body = json!({"logGroupName": "/aws/lambda/pay", "logStreamName": "s", "logEvents": events}).to_string();
    let decoded = decode::decode(Kind::PutLogEvents, body.as_bytes(), &context()).expect("decodes");
    let decoded = Decoded {
        batch: correlate(decoded.batch),
        ..decoded
    };
    extract(decoded, NOW)
}

fn of_line(line: &serde_json::Value) -> Decoded {
    of_lines(&[line.to_string()])
}

fn table(decoded: &Decoded, table: Table) -> Option<&Rows> {
    decoded.batch.rows.iter().find(|rows| rows.table() == table)
}

fn len(decoded: &Decoded, of: Table) -> usize {
    table(decoded, of).map_or(0, Rows::len)
}

fn text(rows: &Rows, column: &str, row: usize) -> String {
    rows.batch().column_by_name(column).expect("a column").as_string::<i32>().value(row).to_string()
}

/// (name, dimensions, value) of each gauge point.
fn points(decoded: &Decoded) -> Vec<(String, String, f64)> {
    let Some(rows) = table(decoded, Table::MetricPoints) else { return vec![] };
    let series = table(decoded, Table::MetricSeries).expect("series");
    let ids = |rows: &Rows| {
        rows.batch()
            .column_by_name("series_id")
            .expect("a column")
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    let (ids, series_ids) = (ids(rows), ids(series));
    (0..rows.len())
        .map(|row| {
            let at = series_ids.iter().position(|id| *id == ids[row]).expect("its series");
            let entries = series.batch().column_by_name("attributes").expect("a column").as_map().value(at);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            let dimensions: Vec<String> = keys
                .iter()
                .zip(values)
                .map(|(k, v)| format!("{}={}", k.unwrap_or("?"), v.unwrap_or("?")))
                .collect();
            let value = rows.batch().column_by_name("value").expect("a column").as_primitive::<Float64Type>().value(row);
            (text(rows, "metric_name", row), dimensions.join(","), value)
        })
        .collect()
}

fn reasons(decoded: &Decoded) -> Vec<(Reason, u64)> {
    assert_eq!(decoded.rejected, [], "the line itself is kept");
    decoded.rejected_points.iter().map(|rejected| (rejected.reason, rejected.count)).collect()
}

fn emf(directive: serde_json::Value, members: serde_json::Value) -> serde_json::Value {
    let mut line = members;
    line["_aws"] = json!({"Timestamp": NOW_MILLIS - 1_000, "CloudWatchMetrics": [directive], "LogGroupName": "x"});
    line
}

#[test]
fn each_dimension_set_gives_a_point_and_the_line_stays() {
    let line = emf(
        json!({"Namespace": "Shop", "Dimensions": [["Service", "Zone"], ["Service"], []],
               "Metrics": [{"Name": "Latency", "Unit": "Milliseconds", "StorageResolution": 1}, {"Name": "Orders"}]}),
        json!({"Service": "pay", "Zone": "b", "Latency": 12.5, "Orders": 3, "order": {"id": 7},
               "traceId": "4bf92f3577b34da6a3ce929d0e0e4736"}),
    );
    let decoded = of_line(&line);
    let point = |name: &str, dimensions: &str, value: f64| (name.to_string(), dimensions.to_string(), value);
    assert_eq!(
        points(&decoded),
        [
            point("Latency", "Service=pay,Zone=b", 12.5),
            point("Orders", "Service=pay,Zone=b", 3.0),
            point("Latency", "Service=pay", 12.5),
            point("Orders", "Service=pay", 3.0),
            point("Latency", "", 12.5),
            point("Orders", "", 3.0),
        ]
    );
    let logs = table(&decoded, Table::Logs).expect("logs");
    assert_eq!((logs.len(), text(logs, "body", 0)), (1, line.to_string()));
    assert_eq!(table(&decoded, Table::MetricPoints).expect("points").times().value(0), NOW - 1_000_000_000);
    let exemplars = table(&decoded, Table::MetricExemplars).expect("exemplars");
    assert_eq!(
        (exemplars.len(), text(exemplars, "trace_id", 5)),
        (6, "4bf92f3577b34da6a3ce929d0e0e4736".into())
    );
    let series = table(&decoded, Table::MetricSeries).expect("series");
    assert_eq!((text(series, "unit", 0), text(series, "unit", 1)), ("ms".into(), "1".into()));
    assert_eq!(text(series, "service_name", 0), "pay");
    let resource = format!(
        "{:?}",
        series.batch().column_by_name("resource_attributes").expect("a column").as_map().value(0)
    );
    assert!(
        resource.contains(NAMESPACE) && resource.contains("Shop") && resource.contains("/aws/lambda/pay"),
        "{resource}"
    );
    assert!(!resource.contains(STREAM), "{resource}");
    assert_eq!(reasons(&decoded), []);
}

#[test]
fn arrays_are_summaries_and_nothing_is_counted_twice() {
    let line = emf(
        json!({"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": "many"}, {"Name": "one"}, {"Name": "none"}, {"Name": "text"}, {"Name": "gone"}]}),
        json!({"many": [3, 1, 2], "one": [4], "none": [], "text": "5"}),
    );
    let decoded = of_line(&line);
    assert_eq!(points(&decoded), [("one".into(), String::new(), 4.0)]);
    let summaries = table(&decoded, Table::MetricSummaries).expect("summaries");
    let sum = summaries
        .batch()
        .column_by_name("sum")
        .expect("a column")
        .as_primitive::<Float64Type>()
        .value(0);
    assert_eq!((summaries.len(), sum), (1, 6.0));
    assert_eq!(reasons(&decoded), [(Reason::InvalidField, 3)]);
}

#[test]
fn container_insights_old_form_is_read_and_its_timestamp_is_text() {
    let line = json!({"Version": "0", "Type": "Pod", "Timestamp": (NOW_MILLIS - 60_000).to_string(), "ClusterName": "c", "PodName": "p",
        "pod_cpu_utilization": 1.25, "Sources": ["cadvisor"], "kubernetes": {"host": "h"},
        "CloudWatchMetrics": [{"Namespace": "ContainerInsights", "Dimensions": [["PodName", "ClusterName"], ["ClusterName"]],
                               "Metrics": [{"Name": "pod_cpu_utilization", "Unit": "Percent"}]}]});
    let decoded = of_line(&line);
    assert_eq!(points(&decoded).len(), 2);
    assert_eq!(table(&decoded, Table::MetricPoints).expect("points").times().value(0), NOW - 60_000_000_000);
}

#[test]
fn lines_that_are_not_emf_make_no_points() {
    let whole = emf(json!({"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": "a"}]}), json!({"a": 1}));
    let lines = [
        format!("INFO {whole}"),
        format!("{whole} trailing"),
        format!("{whole}{whole}"),
        "{\"CloudWatchMetrics\"".into(),
        json!({"nested": whole}).to_string(),
        json!({"_aws": {"x": 1}, "CloudWatchMetrics": []}).to_string(),
        "plain CloudWatchMetrics".into(),
        json!({"CloudWatchMetrics": "only a word"}).to_string(),
    ];
    let decoded = of_lines(&lines);
    assert_eq!((decoded.batch.rows.len(), decoded.batch.n_rows()), (1, lines.len()));
    assert_eq!(reasons(&decoded), []);
}

#[test]
fn what_is_over_a_bound_is_counted_and_the_rest_is_taken() {
    let metrics: Vec<_> = (0..MAX_METRICS + 5).map(|i| json!({"Name": format!("m{i}")})).collect();
    let mut members = json!({"long": vec![1; MAX_VALUES + 1], "full": vec![1; MAX_VALUES]});
    for i in 0..MAX_METRICS + 5 {
        members[format!("m{i}")] = i.into();
    }
    let names: Vec<String> = (0..=MAX_DIMENSIONS).map(|i| format!("d{i}")).collect();
    for name in &names {
        members[name] = "v".into();
    }
    let directive = json!({"Namespace": "N", "Dimensions": [names[..MAX_DIMENSIONS], names[..1]], "Metrics": metrics});
    let decoded = of_line(&emf(directive, members.clone()));
    assert_eq!((len(&decoded, Table::MetricPoints), reasons(&decoded)), (200, vec![(Reason::TooLarge, 10)]));

    let directive = json!({"Namespace": "N", "Dimensions": [names, []], "Metrics": [{"Name": "m1"}, {"Name": "long"}, {"Name": "full"}]});
    let decoded = of_line(&emf(directive, members));
    assert_eq!((len(&decoded, Table::MetricPoints), len(&decoded, Table::MetricSummaries)), (1, 1));
    assert_eq!(reasons(&decoded), [(Reason::TooLarge, 3 + 1)]);
}

#[test]
fn times_outside_cloudwatchs_window_are_counted() {
    let at = |millis: i64| {
        let mut line = emf(json!({"Namespace": "N", "Dimensions": [], "Metrics": [{"Name": "a"}]}), json!({"a": 1}));
        line["_aws"]["Timestamp"] = millis.into();
        of_line(&line)
    };
    let day = 86_400_000;
    assert_eq!(reasons(&at(NOW_MILLIS - 14 * day - 1)), [(Reason::TooOld, 1)]);
    assert_eq!(reasons(&at(NOW_MILLIS + 7_200_001)), [(Reason::TooNew, 1)]);
    assert_eq!(reasons(&at(-1)), [(Reason::InvalidTime, 1)]);
    assert_eq!((reasons(&at(NOW_MILLIS - 14 * day)), reasons(&at(NOW_MILLIS + 7_200_000))), (vec![], vec![]));
}

#[test]
fn a_small_line_cannot_ask_for_much_memory() {
    let names: Vec<String> = (0..MAX_DIMENSIONS).map(|i| format!("d{i}")).collect();
    let metrics: Vec<_> = (0..MAX_METRICS).map(|_| json!({"Name": "m"})).collect();
    let directive = json!({"Namespace": "N", "Dimensions": vec![names.clone(); MAX_SETS], "Metrics": metrics});
    let mut members = json!({"m": 1});
    for name in names {
        members[name] = "v".repeat(MAX_NAME_CHARS).into();
    }
    members["_aws"] = json!({"Timestamp": NOW_MILLIS, "CloudWatchMetrics": vec![directive; 5]});
    let line = members.to_string();
    let decoded = of_lines(std::slice::from_ref(&line));
    let (taken, rejected) = (len(&decoded, Table::MetricPoints), reasons(&decoded));
    assert_eq!(rejected, [(Reason::TooLarge, (5 * MAX_SETS * MAX_METRICS - taken) as u64)]);
    assert!(taken > 100 && taken * 30 * 1_024 / 8 < FREE_BYTES + MEMORY_FACTOR * line.len(), "{taken}");
}

#[test]
fn many_namespaces_do_not_copy_a_large_resource_without_end() {
    let directives: Vec<_> = (0..2_000)
        .map(|i| json!({"Namespace": format!("n{i}"), "Dimensions": [], "Metrics": [{"Name": "m"}]}))
        .collect();
    let line = json!({"m": 1, "_aws": {"Timestamp": NOW_MILLIS, "CloudWatchMetrics": directives}}).to_string();
    let attributes = json!([{"key": "a", "value": {"stringValue": "x".repeat(50_000)}}]);
    let record = json!({"timeUnixNano": NOW.to_string(), "body": {"stringValue": line}});
    let body = json!({"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [record]}]}]});
    let decoded = decode::decode(Kind::OtlpLogsJson, body.to_string().as_bytes(), &context()).expect("decodes");
    let decoded = extract(decoded, NOW);
    let taken = len(&decoded, Table::MetricPoints);
    assert_eq!(reasons(&decoded), [(Reason::TooLarge, 2_000 - taken as u64)]);
    assert!(taken > 10 && taken * 50_000 < FREE_BYTES + MEMORY_FACTOR * line.len(), "{taken}");
}

#[test]
fn the_points_of_a_request_have_an_end() {
    let metrics: Vec<_> = (0..MAX_METRICS).map(|_| json!({"Name": "m"})).collect();
    let none: [&str; 0] = [];
    let line = emf(
        json!({"Namespace": "N", "Dimensions": vec![none; MAX_SETS], "Metrics": metrics}),
        json!({"m": 1}),
    )
    .to_string();
    let lines = vec![line.clone(); (1 << 20) / (line.len() + 26)];
    assert!(MEMORY_FACTOR * lines.len() * line.len() + FREE_BYTES > MAX_BYTES);
    let decoded = of_lines(&lines);
    let taken = len(&decoded, Table::MetricPoints);
    assert!(taken * POINT_BYTES <= MAX_BYTES, "{taken}");
    assert_eq!(reasons(&decoded), [(Reason::TooLarge, (lines.len() * MAX_SETS * MAX_METRICS - taken) as u64)]);

    let mut walk = Walk::new(NOW, 3);
    walk.rows(table(&of_lines(&[line]), Table::Logs).expect("logs"));
    let rejected = walk.rejected.finish();
    assert_eq!((walk.builder.n_points(), rejected[0].count), (3, (MAX_SETS * MAX_METRICS - 3) as u64));
}

#[test]
fn units_lists_and_texts_that_are_too_long_are_rejected() {
    let unit = |unit: &str| json!({"Name": "a", "Unit": unit});
    let line = emf(
        json!({"Namespace": "N", "Dimensions": [], "Metrics": [unit(""), unit("Parsecs"), unit(&"u".repeat(MAX_UNIT_CHARS)), unit(&"u".repeat(MAX_UNIT_CHARS + 1))]}),
        json!({"a": 1}),
    );
    let decoded = of_line(&line);
    let series = table(&decoded, Table::MetricSeries).expect("series");
    let units: Vec<String> = (0..series.len()).map(|row| text(series, "unit", row)).collect();
    assert_eq!(units, ["1", "Parsecs", &"u".repeat(MAX_UNIT_CHARS)]);
    assert_eq!(reasons(&decoded), [(Reason::InvalidField, 1)]);

    // each read once, however often it is named
    let members = json!({"list": vec![1; 100_000], "text": "t".repeat(300_000), "escaped": "\u{1}".repeat(MAX_NAME_CHARS), "a": 1});
    let directive = json!({"Namespace": "N", "Dimensions": [["text"], ["escaped"]], "Metrics": [{"Name": "list"}, {"Name": "a"}]});
    let decoded = of_line(&emf(directive, members));
    assert_eq!(len(&decoded, Table::MetricPoints), 1);
    assert_eq!(reasons(&decoded), [(Reason::InvalidField, 2), (Reason::TooLarge, 1)]);
}

#[test]
fn a_line_longer_than_cloudwatch_takes_is_a_log_record_alone() {
    for (n_bytes, n_points, rejected) in [(MAX_LINE_BYTES, 1, vec![]), (MAX_LINE_BYTES + 1, 0, vec![(Reason::TooLarge, 1)])] {
        let line = |text: &str| {
            emf(
                json!({"Namespace": "N", "Dimensions": [], "Metrics": [{"Name": "a"}]}),
                json!({"a": 1, "t": text}),
            )
            .to_string()
        };
        let line = line(&"x".repeat(n_bytes - line("").len()));
        assert_eq!(line.len(), n_bytes);
        let record = json!({"timeUnixNano": NOW.to_string(), "body": {"stringValue": line}});
        let body = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).to_string();
        let decoded = extract(decode::decode(Kind::OtlpLogsJson, body.as_bytes(), &context()).expect("decodes"), NOW);
        assert_eq!((len(&decoded, Table::Logs), len(&decoded, Table::MetricPoints)), (1, n_points));
        assert_eq!(reasons(&decoded), rejected);
    }
}

#[test]
fn points_join_those_that_the_request_has_already() {
    let line = emf(json!({"Namespace": "N", "Dimensions": [], "Metrics": [{"Name": "a"}]}), json!({"a": 1})).to_string();
    let first = of_lines(&[line]);
    let twice = extract(first, NOW);
    assert_eq!((len(&twice, Table::MetricPoints), len(&twice, Table::Logs)), (2, 1));
    assert_eq!(twice.batch.rows.iter().filter(|rows| rows.table() == Table::MetricPoints).count(), 1);
}

proptest::proptest! {
    #[test]
    fn no_line_panics(parts in proptest::collection::vec(proptest::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"_aws\"", "\"CloudWatchMetrics\"", "\"Namespace\"", "\"Dimensions\"", "\"Metrics\"", "\"Name\"",
        "\"a\"", "1", "-1e999", "\"\"", "null", "\"Timestamp\"", "1795323600000",
    ]), 0..60)) {
        let line = format!("{{\"_aws\":{{\"CloudWatchMetrics\":{}}}}}", parts.concat());
        let _ = of_lines(&[line, format!("{{{}CloudWatchMetrics}}", parts.concat())]);
    }
}
