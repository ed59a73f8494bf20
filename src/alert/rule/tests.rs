use std::path::Path;

use super::*;

/// Stands for the search language's parser: anything with an open parenthesis is bad.
fn check(_: Table, query: &str) -> Result<(), String> {
    if query.contains('(') {
        Err("a parenthesis is not closed, at character 0".into())
    } else {
        Ok(())
    }
}

fn read(text: &str) -> Result<Rule, Mistakes> {
    parse("r.yaml", text, &check)
}

fn fields_of(text: &str) -> Vec<String> {
    read(text).expect_err("mistakes").0.into_iter().map(|mistake| mistake.field).collect()
}

const FREQUENCY: &str = "name: r\ntype: frequency\nquery: 'severity>=ERROR'\nnum_events: 10\ntimeframe: 1m\n";

#[test]
fn a_short_rule_gets_the_documented_defaults() {
    let rule = read(FREQUENCY).expect("a rule");
    assert_eq!((rule.every, rule.realert, rule.hold), (DEFAULT_EVERY, DEFAULT_REALERT, Duration::ZERO));
    assert_eq!(rule.condition, Condition::Frequency { num_events: 10 });
    assert!(rule.enabled && rule.notify_resolved && rule.sns.is_none() && rule.group_by.is_empty());
    assert_eq!(rule.condition_text(), "at least 10 log records in 1m");
}

#[test]
fn every_field_is_read() {
    let rule = read(concat!(
        "name: payment errors\ntype: frequency\ntable: spans\nquery: status:ERROR\nnum_events: 3\ntimeframe: {minutes: 5}\n",
        "query_key: [service, host]\nfor: 30s\nevery: 2s\nrealert: 1h\nresolve_after: 2m\ndelay: 10s\nseverity: critical\n",
        "description: Payments fail.\nrunbook: https://runbooks.example.com/payment\nnotify_resolved: false\nenabled: false\n",
        "notify:\n  sns:\n    topic_arn: arn:aws:sns:eu-west-1:123456789012:oncall.fifo\n    subject: '{rule} is {state}'\n    attributes: {team: pay}\n",
    ))
    .expect("a rule");
    assert_eq!(rule.group_by, ["service", "host"]);
    assert_eq!(
        (rule.timeframe, rule.hold, rule.every, rule.realert, rule.resolve_after, rule.delay),
        (
            Duration::from_secs(300),
            Duration::from_secs(30),
            Duration::from_secs(2),
            Duration::from_secs(3600),
            Duration::from_secs(120),
            Duration::from_secs(10)
        )
    );
    let sns = rule.sns.expect("a topic");
    assert_eq!(
        (sns.topic_arn.as_str(), sns.attributes.len()),
        ("arn:aws:sns:eu-west-1:123456789012:oncall.fifo", 1)
    );
    assert!(!rule.enabled && !rule.notify_resolved);
    assert!(matches!(rule.source, Source::Rows { table: Table::Spans, .. }));
}

#[test]
fn rules_on_patterns_are_read() {
    let base = "name: p\ntype: pattern\nquery: severity:error\ntimeframe: 10m\n";
    let rule = read(base).expect("a rule");
    assert_eq!((rule.kind(), rule.every, rule.group_by.len()), ("pattern", DEFAULT_PATTERN_EVERY, 2));
    assert_eq!(
        rule.condition_text(),
        "a pattern of at least 1 log records in 10m is new, compared with the 1d before"
    );
    let rule = read(&format!("{base}states: [vanished, surging]\ncompare_with: 2h\nnum_events: 7\nevery: 10s\n")).expect("a rule");
    assert_eq!(
        rule.condition_text(),
        "a pattern of at least 7 log records in 10m is surging or vanished, compared with the 2h before"
    );
    for (more, field) in [
        ("states: [steady]", "states"),
        ("states: []", "states"),
        ("compare_with: 5m", "compare_with"),
        ("compare_with: 30d", "compare_with"),
        ("num_events: 0", "num_events"),
        ("query_key: service", "query_key"),
        ("table: spans", "table"),
        ("spike_height: 3", "spike_height"),
    ] {
        let mistakes = read(&format!("{base}{more}\n")).expect_err(more);
        assert!(mistakes.0.iter().any(|mistake| mistake.field == field), "{more}: {mistakes}");
    }
}

#[test]
fn spikes_and_thresholds_are_read() {
    let spike = read("name: s\ntype: spike\nquery: ''\ntimeframe: 5m\nspike_height: 3\nspike_type: both\nthreshold_cur: 5\n").expect("a rule");
    assert_eq!(
        spike.condition,
        Condition::Spike {
            height: 3.0,
            direction: Direction::Both,
            threshold_ref: 1,
            threshold_cur: 5
        }
    );
    let metric = "name: q\ntype: threshold\ntimeframe: 1m\nmetric: {name: queue.depth, aggregation: max, where: {queue: orders}, group_by: service}\n";
    let rule = read(&format!("{metric}above: 100\nfor: 1m\n")).expect("a rule");
    assert_eq!(rule.query_text(), "max(queue.depth{queue=\"orders\"})");
    assert_eq!(rule.group_by, ["service"]);
    assert_eq!(rule.condition_text(), "max(queue.depth{queue=\"orders\"}) > 100 over 1m per service, for 1m");
    let below = read(&format!("{metric}operator: '<='\nvalue: 0.5\n")).expect("a rule");
    assert_eq!(
        below.condition,
        Condition::Threshold {
            operator: Operator::AtMost,
            limit: 0.5
        }
    );
}

#[test]
fn all_mistakes_are_told_together_with_their_fields() {
    let text = concat!(
        "type: frequency\nquery: '(open'\nnum_events: 0\ntimeframe: soon\nquerykey: service\nevery: 10ms\nenabled: maybe\n",
        "notify: {sns: {topic_arn: oncall, colour: red}, mail: me}\n",
    );
    let fields = fields_of(text);
    for field in [
        "name",
        "query",
        "num_events",
        "timeframe",
        "every",
        "enabled",
        "notify.sns.topic_arn",
        "notify.sns.colour",
        "notify.mail",
        "querykey",
    ] {
        assert!(fields.iter().any(|found| found == field), "{field} is missing in {fields:?}");
    }
    let mistakes = read(text).expect_err("mistakes").to_string();
    assert!(
        mistakes.contains("r.yaml: querykey: is not a field") && mistakes.contains("did you mean query_key?"),
        "{mistakes}"
    );
    assert!(mistakes.contains("r.yaml: query: a parenthesis is not closed"), "{mistakes}");
}

#[test]
fn bad_rules_name_the_field() {
    let base = |more: &str| format!("{FREQUENCY}{more}\n");
    for (text, field) in [
        ("- a\n".to_string(), ""),
        ("name: [".to_string(), ""),
        (base("name: other"), ""),
        (base("spike_height: 3"), "spike_height"),
        (base("table: metrics"), "table"),
        (base("query_key: [a, a]"), "query_key"),
        (base("query_key: {a: b}"), "query_key"),
        (
            base("notify: {sns: {topic_arn: 'arn:aws:sns:r:1:t', attributes: {AWS.x: y}}}"),
            "notify.sns.attributes",
        ),
        (
            base("notify: {sns: {topic_arn: 'arn:aws:sns:r:1:t', attributes: {rule: y}}}"),
            "notify.sns.attributes",
        ),
        (base("notify: yes please"), "notify"),
        (base("realert: {fortnights: 1}"), "realert"),
        (base("realert: -5m"), "realert"),
        ("name: t\ntype: threshold\nquery: x\ntimeframe: 1m\n".to_string(), ""),
        ("name: t\ntype: threshold\nquery: x\ntimeframe: 1m\nabove: 1\nbelow: 2\n".to_string(), ""),
        (
            "name: t\ntype: threshold\ntimeframe: 1m\nabove: 1\nmetric: {name: m, aggregation: p99}\n".to_string(),
            "metric.aggregation",
        ),
        (
            "name: t\ntype: threshold\ntimeframe: 1m\nabove: 1\nquery: x\nmetric: {name: m, aggregation: avg}\n".to_string(),
            "query",
        ),
        (
            "name: s\ntype: spike\nquery: x\ntimeframe: 1m\nspike_height: 1\nspike_type: up\n".to_string(),
            "spike_height",
        ),
        ("name: s\ntype: cardinality\nquery: x\ntimeframe: 1m\n".to_string(), "type"),
        ("name: s\ntype: frequency\nquery: x\nnum_events: 1\ntimeframe: 30d\n".to_string(), "timeframe"),
    ] {
        assert!(fields_of(&text).iter().any(|found| found == field), "{field:?} in {text}: {:?}", read(&text));
    }
}

#[test]
fn a_folder_gives_the_right_rules_and_the_mistakes_of_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    put("a.yaml", FREQUENCY);
    put("b.yml", FREQUENCY);
    put("c.yaml", "name: c\ntype: nonsense\n");
    put("notes.txt", "not a rule");
    let (rules, mistakes) = load(folder.path(), &check);
    assert_eq!(rules.len(), 1);
    assert!(mistakes.iter().any(|m| m.field == "name" && m.file.ends_with("b.yml")), "{mistakes:?}");
    assert!(mistakes.iter().any(|m| m.field == "type" && m.file.ends_with("c.yaml")), "{mistakes:?}");
    assert!(!load(&folder.path().join("nowhere"), &check).1.is_empty());
}

#[test]
fn durations_and_numbers_read_well() {
    for (seconds, text) in [(0, "0s"), (90, "1m30s"), (300, "5m"), (5_400, "1h30m"), (90_000, "1d1h")] {
        assert_eq!(format_duration(Duration::from_secs(seconds)), text);
    }
    assert_eq!(format_duration(Duration::from_millis(250)), "250ms");
    for (number, text) in [(14.0, "14"), (0.5, "0.5"), (1.0 / 3.0, "0.333"), (-2.0, "-2"), (1e-9, "1e-9")] {
        assert_eq!(format_number(number), text);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = read(&text);
    }

    #[test]
    fn no_value_of_a_known_field_panics(field in "(name|type|query|timeframe|query_key|for|every|notify|metric|above|num_events)", value in "[\\PC]{0,12}") {
        let _ = read(&format!("{FREQUENCY}{field}: {value}"));
        let _ = read(&format!("name: t\ntype: threshold\n{field}: {value}"));
    }
}

#[test]
fn the_example_rules_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules");
    let (rules, mistakes) = load(&folder, &crate::alert::engine::check_query);
    assert_eq!(mistakes, []);
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        ["checkout-latency", "log-volume-spike", "new-error-pattern", "payment-errors", "queue-depth"]
    );
}
