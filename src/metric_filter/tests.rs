use arrow::datatypes::{Float64Type, Int64Type};
use serde_json::json;

use super::*;
use crate::correlate::correlate;
use crate::decode::{self, Kind};

const NOW: i64 = 1_795_323_600_000_000_000;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn definition(pattern: &str, value: &str) -> Definition {
    Definition {
        pattern: pattern.into(),
        metric: "m".into(),
        namespace: "n".into(),
        value: value.into(),
        ..Definition::default()
    }
}

fn decoded(group: &str, messages: &[&str]) -> Decoded {
    decoded_at(group, messages.iter().map(|message| (7, *message)))
}

/// Messages, each so many milliseconds before now.
fn decoded_at<'m>(group: &str, messages: impl Iterator<Item = (i64, &'m str)>) -> Decoded {
    let events: Vec<_> = messages
        .map(|(ago, message)| json!({"timestamp": NOW / 1_000_000 - ago, "message": message}))
        .collect();
    let body = json!({"logGroupName": group, "logStreamName": "s", "logEvents": events}).to_string();
    let context = decode::Context {
        received_at_nanos: NOW,
        retention_days: 0,
    };
    let decoded = decode::decode(Kind::PutLogEvents, body.as_bytes(), &context).expect("decodes");
    Decoded {
        batch: correlate(decoded.batch),
        ..decoded
    }
}

fn table(decoded: &Decoded, table: Table) -> Option<&Rows> {
    decoded.batch.rows.iter().find(|rows| rows.table() == table)
}

fn n(decoded: &Decoded, of: Table) -> usize {
    table(decoded, of).map_or(0, Rows::len)
}

fn values(decoded: &Decoded) -> Vec<f64> {
    let Some(rows) = table(decoded, Table::MetricPoints) else { return vec![] };
    let column = rows.batch().column_by_name("value").expect("a column");
    column.as_primitive::<Float64Type>().values().to_vec()
}

fn rejected(decoded: &Decoded) -> Vec<(Reason, u64)> {
    decoded.rejected_points.iter().map(|rejected| (rejected.reason, rejected.count)).collect()
}

/// Puts rows through the filters of now, and through the same read back from a frame: both must make the same.
fn made(filters: &Filters, group: &str, messages: &[&str]) -> Decoded {
    let before = decoded(group, messages);
    let Some(rules) = filters.in_effect(&before.batch) else { return before };
    let made = rules.apply(before);
    let replayed = Filters::default().read(rules.bytes()).expect("reads").apply(decoded(group, messages));
    assert_eq!(
        (values(&replayed), rejected(&replayed)),
        (values(&made), rejected(&made)),
        "a replay makes the same"
    );
    for (ours, theirs) in made.batch.rows.iter().zip(&replayed.batch.rows) {
        assert_eq!(ours.batch(), theirs.batch());
    }
    made
}

fn one(definition: Definition, messages: &[&str]) -> Decoded {
    let filters = Filters::default();
    filters.set("g", &[definition]);
    made(&filters, "g", messages)
}

#[test]
fn each_event_that_matches_is_a_point_of_the_number() {
    let out = one(definition("ERROR", "2.5"), &["ERROR a", "fine", "an ERROR"]);
    assert_eq!((values(&out), n(&out, Table::Logs)), (vec![2.5, 2.5], 3));
    assert_eq!(values(&one(definition("", "1"), &["a", "b"])), [1.0, 1.0], "an empty pattern matches all");
    assert_eq!(values(&one(definition("ERROR", "1"), &["fine"])), [] as [f64; 0]);
}

#[test]
fn the_value_is_a_field_of_the_event() {
    let json = one(
        definition("{ $.status >= 500 }", "$.timing['total ms']"),
        &[
            r#"{"status":500,"timing":{"total ms":12.5}}"#,
            r#"{"status":200,"timing":{"total ms":1}}"#,
            r#"{"status":503,"timing":{"total ms":"7"}}"#,
            r#"{"status":503,"timing":{"total ms":"long"}}"#,
            r#"{"status":503}"#,
        ],
    );
    assert_eq!((values(&json), rejected(&json)), (vec![12.5, 7.0], vec![(Reason::InvalidField, 2)]));
    let delimited = one(
        definition("[ip, status = 5*, size]", "$size"),
        &["1.2.3.4 500 1024", "1.2.3.4 200 9", "1.2.3.4 503 -"],
    );
    assert_eq!((values(&delimited), rejected(&delimited)), (vec![1024.0], vec![(Reason::InvalidField, 1)]));
}

#[test]
fn a_point_has_its_dimensions_unit_time_and_trace_and_no_stream() {
    let mut filter = definition("{ $.ms = * }", "$.ms");
    filter.unit = Some("Milliseconds".into());
    filter.dimensions = BTreeMap::from([("Route".into(), "$.route".into()), ("Zone".into(), "$.zone".into())]);
    let line = format!(r#"{{"ms":5,"route":"/pay","zone":"b","trace_id":"{TRACE}"}}"#);
    let out = one(filter, &[&line, r#"{"ms":6,"route":"/pay"}"#, r#"{"ms":7,"route":"","zone":"b"}"#]);
    assert_eq!(
        (values(&out), rejected(&out)),
        (vec![5.0], vec![(Reason::InvalidField, 2)]),
        "no point lacks a dimension"
    );
    let points = table(&out, Table::MetricPoints).expect("points");
    assert_eq!(points.times().values().to_vec(), [NOW - 7_000_000]);
    let series = table(&out, Table::MetricSeries).expect("series");
    let shown = format!("{:?}", series.batch());
    for part in ["Route", "/pay", "Zone", "ms", "aws.cloudwatch.namespace"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("aws.log.stream.names"));
    let exemplars = table(&out, Table::MetricExemplars).expect("an exemplar");
    let ids = exemplars.batch().column_by_name("trace_id").expect("a column").as_string::<i32>();
    assert_eq!(ids.value(0), TRACE);
    let of_point = points
        .batch()
        .column_by_name("series_id")
        .expect("a column")
        .as_primitive::<Int64Type>()
        .value(0);
    let of_series = series
        .batch()
        .column_by_name("series_id")
        .expect("a column")
        .as_primitive::<Int64Type>()
        .value(0);
    assert_eq!(of_point, of_series);
}

#[test]
fn points_say_the_system_fields_also_those_of_a_default_value() {
    let mut filter = definition("{ $.ms = * }", "$.ms");
    filter.default_value = Some(0.5);
    filter.system_dimensions = BTreeMap::from([("@aws.region".into(), "eu-west-1".into())]);
    for (line, value) in [(r#"{"ms":5}"#, 5.0), ("fine", 0.5)] {
        let out = one(filter.clone(), &[line]);
        assert_eq!(values(&out), [value]);
        let shown = format!("{:?}", table(&out, Table::MetricSeries).expect("series").batch());
        assert!(shown.contains("@aws.region") && shown.contains("eu-west-1"), "{shown}");
    }
    // what somebody calls so himself goes first
    filter.default_value = None;
    filter.dimensions = BTreeMap::from([("@aws.region".into(), "$.region".into())]);
    let out = one(filter, &[r#"{"ms":5,"region":"mars"}"#]);
    let shown = format!("{:?}", table(&out, Table::MetricSeries).expect("series").batch());
    assert!(shown.contains("mars") && !shown.contains("eu-west-1"), "{shown}");
}

#[test]
fn minutes_of_a_request_without_a_match_get_the_default_value() {
    let with_default = Definition {
        default_value: Some(-1.5),
        ..definition("ERROR", "1")
    };
    let (minute, filters) = (60_000, Filters::default());
    filters.set("g", &[with_default.clone(), definition("fine", "7")]);
    // this minute began at NOW: the oldest minute has a match, the next has none, the last one again has
    let messages = [
        (3 * minute, "ERROR"),
        (3 * minute - 5, "fine"),
        (2 * minute - 5, "fine"),
        (2 * minute - 9, "fine"),
        (minute, "so so"),
        (minute - 1, "ERROR"),
    ];
    let before = || decoded_at("g", messages.into_iter());
    let rules = filters.in_effect(&before().batch).expect("some");
    for out in [rules.apply(before()), filters.read(rules.bytes()).expect("reads").apply(before())] {
        let points = table(&out, Table::MetricPoints).expect("points");
        let mut made: Vec<(i64, f64)> = points.times().values().iter().copied().zip(values(&out)).collect();
        made.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        let at = |ago: i64| NOW - ago * 1_000_000;
        assert_eq!(
            made,
            [
                (at(3 * minute), 1.0),
                (at(3 * minute - 5), 7.0),
                (at(2 * minute - 5), -1.5),
                (at(2 * minute - 5), 7.0),
                (at(2 * minute - 9), 7.0),
                (at(minute - 1), 1.0),
            ]
        );
    }
    let per_event: Vec<(i64, &str)> = (0..2_000).rev().map(|i| (i * minute / 2, "fine")).collect();
    filters.set("g", &[with_default]);
    let before = decoded_at("g", per_event.into_iter());
    let out = filters.in_effect(&before.batch).expect("some").apply(before);
    assert_eq!(n(&out, Table::MetricPoints), 1_001, "one a minute");
}

#[test]
fn filters_are_for_their_group_alone_and_for_as_long_as_they_are_set() {
    let filters = Filters::default();
    filters.set("g", &[definition("a", "1"), definition("b", "2")]);
    filters.set("h", &[definition("a", "3")]);
    assert_eq!(values(&made(&filters, "g", &["ab", "a"])), [1.0, 2.0, 1.0]);
    assert_eq!(values(&made(&filters, "h", &["ab"])), [3.0]);
    assert!(filters.in_effect(&decoded("other", &["a"]).batch).is_none());
    let before = filters.in_effect(&decoded("g", &["a"]).batch).expect("some");
    filters.set("g", &[definition("a", "9")]);
    assert_eq!(values(&before.apply(decoded("g", &["a"]))), [1.0], "what was in effect stays what it was");
    assert_eq!(values(&made(&filters, "g", &["a"])), [9.0]);
    filters.set("g", &[]);
    assert!(filters.in_effect(&decoded("g", &["a"]).batch).is_none());
}

#[test]
fn rows_of_several_groups_in_one_request_meet_the_filters_of_each() {
    let resource = |group: &str, text: &str| {
        let attributes = json!([{"key": "aws.log.group.names", "value": {"stringValue": group}}]);
        json!({"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [{"timeUnixNano": NOW.to_string(), "body": {"stringValue": text}}]}]})
    };
    let body = json!({"resourceLogs": [resource("g", "a"), resource("h", "a"), resource("i", "a")]}).to_string();
    let context = decode::Context {
        received_at_nanos: NOW,
        retention_days: 0,
    };
    let decoded = || decode::decode(Kind::OtlpLogsJson, body.as_bytes(), &context).expect("decodes");
    let filters = Filters::default();
    filters.set("g", &[definition("a", "1")]);
    filters.set("h", &[definition("a", "2")]);
    let rules = filters.in_effect(&decoded().batch).expect("some");
    assert_eq!(values(&rules.apply(decoded())), [1.0, 2.0]);
    assert_eq!(values(&filters.read(rules.bytes()).expect("reads").apply(decoded())), [1.0, 2.0]);
}

#[test]
fn points_are_bounded_and_what_is_over_is_counted() {
    let filters = Filters::default();
    let many: Vec<Definition> = (0..100).map(|i| definition("", &i.to_string())).collect();
    filters.set("g", &many);
    let messages = vec!["x"; 2_000];
    let out = made(&filters, "g", &messages);
    let n_points = n(&out, Table::MetricPoints) as u64;
    assert!((10_000..200_000).contains(&n_points), "{n_points}");
    assert_eq!(rejected(&out), [(Reason::TooLarge, 200_000 - n_points)]);
    assert_eq!(n(&out, Table::Logs), 2_000);
}

#[test]
fn what_is_no_filter_is_told() {
    let bad = |pattern: &str, value: &str| Filter::new(&definition(pattern, value)).err().map(|error| error.to_string());
    assert_eq!(bad("{ $.a = 1 }", "$.b"), None);
    assert_eq!(bad("[a, b]", "$b"), None);
    assert_eq!(bad("ERROR", "-1e3"), None);
    for (pattern, value) in [
        ("{ $.a = ", "1"),
        ("ERROR", "$.a"),
        ("", "$size"),
        ("[a, b]", "$c"),
        ("[a, b]", "$.b"),
        ("{ $.a = 1 }", "$.b.*"),
        ("{ $.a = 1 }", "$.b x"),
        ("{ $.a = 1 }", "$b"),
        ("{ $.a = 1 }", "NaN"),
        ("ERROR", "inf"),
        ("ERROR", "many"),
    ] {
        assert!(bad(pattern, value).is_some(), "{pattern} {value}");
    }
    assert!(Filters::default().read(b"[1]").is_err() && Filters::default().read(b"").is_err());
}

#[test]
fn numbers_are_finite_and_written_as_numbers() {
    for (text, number) in [("1", 1.0), ("-0.5", -0.5), (" 7 ", 7.0), ("+2e3", 2_000.0), ("3.", 3.0)] {
        assert_eq!(read_number(text), Some(number), "{text}");
    }
    for text in ["", "NaN", "inf", "-infinity", "1e999", "1x", "$1", "0x10", "-"] {
        assert_eq!(read_number(text), None, "{text}");
    }
}

#[test]
fn points_of_lines_and_of_filters_together_are_bounded() {
    let filters = Filters::default();
    filters.set("g", &[definition("", "1")]);
    let before = decoded("g", &["a", "b", "c"]);
    let rules = filters.in_effect(&before.batch).expect("a filter");
    let of_lines = rules.apply(before).batch;
    assert_eq!(room(&of_lines), MAX_POINTS, "three points leave room for as many as filters may make");
    let groups = [Arc::new(OfGroup::new("g", &[definition("", "1")]))];
    let mut walk = Walk::new(&groups, 2);
    for rows in decoded("g", &["a", "b", "c"]).batch.rows.iter().filter(|rows| rows.table() == Table::Logs) {
        walk.rows(rows);
    }
    let rejected = walk.rejected.finish();
    assert_eq!((walk.builder.n_points(), rejected[0].reason, rejected[0].count), (2, Reason::TooLarge, 1));
}
