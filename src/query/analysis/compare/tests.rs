use super::*;
use crate::query::LogHit;

fn log(number: usize, pairs: &[(&str, &str)]) -> Hit {
    let mut attributes: Vec<(String, String)> = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    attributes.push(("request.id".into(), format!("r{number}")));
    Hit::Log(Box::new(LogHit {
        attributes,
        severity_number: 9,
        ..LogHit::default()
    }))
}

#[test]
fn what_is_distributed_most_differently_comes_first() {
    let version = |bad: bool| if bad { "2.1" } else { "2.0" };
    // nine of ten of the selection have the new version, one of ten of the others; the zone tells nothing
    let rows = |bad: usize| -> Vec<Hit> {
        (0..40)
            .map(|number| {
                let mut pairs = vec![("version", version(number % 10 < bad)), ("zone", ["a", "b"][number % 2])];
                if number % 4 == 0 && bad > 5 {
                    pairs.push(("retry", "yes"));
                }
                log(number + bad * 100, &pairs)
            })
            .collect()
    };
    let (selection, baseline) = (rows(9), rows(1));
    let comparison = compare(&selection, &baseline, 10);
    let told: Vec<(&str, f64)> = comparison.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
    assert_eq!(told, [("version", 0.8), ("retry", 0.25)]);
    assert_eq!(
        comparison.fields[0].values,
        [(Some("2.0".to_string()), 4, 36), (Some("2.1".to_string()), 36, 4)]
    );
    assert_eq!(comparison.fields[1].values, [(None, 30, 40), (Some("yes".to_string()), 10, 0)]);
    assert_eq!(comparison.identifiers, ["request.id"]);
    assert_eq!(compare(&selection, &baseline, 1).fields.len(), 1);
}

#[test]
fn leaves_of_json_bodies_are_fields_too() {
    let row = |number: usize, tenant: &str, tags: &str| {
        let body = format!(r#"{{"request.id":"b{number}","order":{{"tenant":"{tenant}","zone":"a"}},"tags":{tags},"level":"{tenant}"}}"#);
        let log = LogHit {
            body: Some(body),
            attributes: vec![("order.zone".into(), "own".into())],
            resource_attributes: vec![("order.zone".into(), "resource".into())],
            severity_number: 9,
            ..LogHit::default()
        };
        Hit::Log(Box::new(log))
    };
    let selection: Vec<Hit> = (0..30).map(|number| row(number, "bad", r#"["x","y","x"]"#)).collect();
    let baseline: Vec<Hit> = (30..60)
        .map(|number| row(number, if number % 3 == 0 { "bad" } else { "good" }, r#"["x"]"#))
        .collect();
    let told = compare(&selection, &baseline, 10);
    let fields: Vec<(&str, f64)> = told.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
    assert_eq!(
        fields,
        [("$.level", 0.6667), ("order.tenant", 0.6667)],
        "of an array the first, of equal names the record's own"
    );
    assert_eq!(told.identifiers, ["request.id"]);
}

#[test]
fn an_attribute_of_a_columns_name_is_told_from_the_column() {
    let span = |number: usize, status: &str| {
        let span = crate::query::SpanHit {
            name: "GET /".into(),
            kind: "SERVER".into(),
            status_code: "UNSET".into(),
            attributes: [("status", status), ("name", "n"), ("kind", "k"), ("http.route", "/")]
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .to_vec(),
            ingest_id: number as i64,
            ..crate::query::SpanHit::default()
        };
        Hit::Span(Box::new(span))
    };
    let (selection, baseline): (Vec<Hit>, Vec<Hit>) = ((0..10).map(|n| span(n, "late")).collect(), (0..10).map(|n| span(n, "early")).collect());
    let told = compare(&selection, &baseline, 10);
    let fields: Vec<(&str, f64)> = told.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
    assert_eq!(fields, [("$.status", 1.0)], "no share is above 1, and the columns are alike");
}

#[test]
fn numbers_of_many_values_are_compared_by_range() {
    // of the selection a third takes ten times as long; IDs and times are no numbers that count
    let rows = |slow: usize| -> Vec<Hit> {
        (0..300usize)
            .map(|number| {
                let millis = number + if number % 3 < slow { 3_000 } else { 0 };
                let (millis, id, time) = (
                    millis.to_string(),
                    (100_000_000_000 + number + slow * 1_000).to_string(),
                    format!("{}.5", number % 7),
                );
                log(number + slow * 1_000, &[("took_ms", &millis), ("order", &id), ("few", &time)])
            })
            .collect()
    };
    let told = compare(&rows(1), &rows(0), 10);
    let fields: Vec<(&str, f64)> = told.fields.iter().map(|field| (field.field.as_str(), field.difference)).collect();
    assert_eq!(fields.len(), 1, "{fields:?}");
    let (field, difference) = fields[0];
    assert!(field == "took_ms" && (0.3..0.4).contains(&difference), "{fields:?}");
    let values = &told.fields[0].values;
    assert!(values.len() <= MAX_VALUES && values.len() > 5, "{values:?}");
    let slow = values
        .iter()
        .find(|(value, ..)| value.as_deref().is_some_and(|value| value.ends_with(" TO 3297]")));
    let (_, selection, baseline) = slow.expect("the slowest range");
    assert!(*selection > 20 && *baseline == 0, "{values:?}");
    assert_eq!(values.iter().map(|(_, a, _)| a).sum::<u64>(), 300, "each row is in one range");
    assert_eq!(told.identifiers, ["order", "request.id"]);
    assert!(compare(&rows(0), &rows(0), 10).fields.is_empty());
    // the same number in two spellings is in one range
    let spelled: Vec<Hit> = (0..60)
        .map(|number| log(number, &[("n", &format!("{}{}", number / 2, if number % 2 == 0 { "" } else { ".0" }))]))
        .collect();
    assert!(compare(&spelled, &spelled, 10).fields.is_empty());
    assert_eq!([number("1e400"), number("inf"), number("nan"), number(""), number("0x1")], [None; 5]);
    assert_eq!([number("-1.5e3"), number("007")], [Some(-1_500.0), Some(7.0)]);
}

#[test]
fn times_counters_and_names_of_digits_are_identifiers() {
    let now = 1_795_323_600;
    let row = |number: usize| {
        let at = now + number;
        // an hour and more between the sets: all that tells when differs wholly
        let numbers = [
            ("at", at.to_string()),
            ("at_fine", format!("{at}.25")),
            ("at_millis", (at * 1_000).to_string()),
            ("offset", (5_000_000 + number).to_string()),
            // one of them is shorter
            ("order", (if number == 7 { 99 } else { 834_567_890_123 + number }).to_string()),
            ("took_ms", (number % 60 + if number < 60 { 40 } else { 0 }).to_string()),
        ];
        let pairs: Vec<(&str, &str)> = numbers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match log(number, &pairs) {
            Hit::Log(log) => Hit::Log(Box::new(LogHit {
                time_unix_nano: at as i64 * 1_000_000_000,
                ..*log
            })),
            span => span,
        }
    };
    let (selection, baseline): (Vec<Hit>, Vec<Hit>) = ((0..60).map(row).collect(), (6_000..6_060).map(row).collect());
    let told = compare(&selection, &baseline, 10);
    let fields: Vec<&str> = told.fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(fields, ["took_ms"], "{told:?}");
    assert_eq!(told.identifiers, ["at", "at_fine", "at_millis", "offset", "order", "request.id"]);
    // what only one set has differs by that
    let without: Vec<Hit> = (0..60).map(|number| log(number, &[])).collect();
    let told = compare(&selection, &without, 10);
    assert!(
        told.fields.iter().any(|field| field.field == "offset" && field.difference >= 0.9999),
        "{told:?}"
    );
}

#[test]
fn bodies_with_ids_as_keys_are_compared_within_bounds() {
    let row = |number: usize, n_leaves: usize, level: &str| {
        let leaves: Vec<String> = (0..n_leaves).map(|leaf| format!(r#""k{number}_{leaf}":1"#)).collect();
        let log = LogHit {
            body: Some(format!(r#"{{"level":"{level}",{}}}"#, leaves.join(","))),
            // in the last rows only
            attributes: if number % 100 > 17 { vec![("late".into(), level.into())] } else { Vec::new() },
            severity_number: 9,
            ..LogHit::default()
        };
        Hit::Log(Box::new(log))
    };
    let set = |from: usize, n_leaves: usize, level: &str| -> Vec<Hit> { (from..from + 20).map(|number| row(number, n_leaves, level)).collect() };
    let told = compare(&set(0, 900, "bad"), &set(100, 900, "good"), 5);
    let names: Vec<&str> = told.bounds.iter().map(|(what, _)| *what).collect();
    assert_eq!((names, told.fields.len(), told.compared), (vec!["fields"], 5, [20, 20]));
    let first: Vec<&str> = told.fields.iter().take(2).map(|field| field.field.as_str()).collect();
    assert_eq!(first, ["$.level", "late"], "{:?}", told.fields);
    let told = compare(&set(0, MAX_LEAVES, "bad"), &set(0, 3, "good"), 5);
    assert_eq!(told.bounds[0].0, "fields");
    assert!(
        told.bounds[1].1.starts_with("the bodies of 20 rows have more than 1000 leaves"),
        "{:?}",
        told.bounds
    );
    let long = [Hit::Log(Box::new(LogHit {
        body: Some(format!(r#"{{"{}":{{"a":1,"b":2}},"c":3}}"#, "x".repeat(MAX_LEAF_NAME_BYTES))),
        severity_number: 9,
        ..LogHit::default()
    }))];
    let told = compare(&long, &[], 5);
    let fields: Vec<&str> = told.fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!((fields, told.bounds.len()), (vec!["c", "severity"], 1));
}

#[test]
fn values_are_counted_within_memory_and_both_sets_alike() {
    let row = |number: usize| {
        let leaves: Vec<String> = (0..300).map(|leaf| format!(r#""k{leaf}":"{number:_>250}""#)).collect();
        let log = LogHit {
            body: Some(format!("{{{}}}", leaves.join(","))),
            ..LogHit::default()
        };
        Hit::Log(Box::new(log))
    };
    let (selection, baseline): (Vec<Hit>, Vec<Hit>) = ((0..60).map(row).collect(), (60..120).map(row).collect());
    let told = compare(&selection, &baseline, 5);
    assert_eq!(told.bounds.len(), 1);
    assert!(
        told.bounds[0].0 == "memory" && told.compared[0] == told.compared[1],
        "{:?}",
        (told.bounds, told.compared)
    );
    assert!((15..30).contains(&told.compared[0]), "{:?}", told.compared);
    assert_eq!(told.identifiers.len(), 300, "of the rows compared none lacks one");
}

#[test]
fn samples_that_are_alike_or_empty_differ_by_nothing() {
    let rows: Vec<Hit> = (0..5).map(|_| log(1, &[("a", "b")])).collect();
    assert_eq!(compare(&rows, &rows, 10).fields, []);
    assert_eq!(compare(&[], &[], 10).fields, []);
    // nothing to compare with: every field has gone
    assert!(compare(&rows, &[], 10).fields.iter().all(|field| field.difference <= 1.0));
}
