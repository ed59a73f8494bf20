//! What a notification says: a subject of one plain line, a text for a phone at 3 a.m., and attributes to filter by.
//!
//! The subject keeps to the older, stricter rule of SNS: printable ASCII, at most 99 characters, no line breaks. The text
//! is UTF-8 and stays under the 256 KiB that message and attributes may have together.

use chrono::DateTime;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::evaluate::Tell;
use super::observe::group_query;
use super::rule::{Rule, Source, format_duration, format_number};
use super::state::{Alert, Notification, Status};

/// Longest subject: SNS wants fewer than 100 characters.
pub const MAX_SUBJECT_CHARS: usize = 99;
/// Longest text. The rest of SNS's 262,144 bytes is room for attributes.
pub const MAX_MESSAGE_BYTES: usize = 240 << 10;
/// Rows shown.
pub const MAX_SAMPLES: usize = 5;
/// Characters of a row's body that are shown.
const MAX_SAMPLE_CHARS: usize = 300;
/// Characters of an attribute's value.
const MAX_ATTRIBUTE_CHARS: usize = 256;

/// What may stand in a query string as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// Makes the notification that tells where `alert` stands now. `public_url` is where people reach the pages.
pub fn notification(rule: &Rule, alert: &Alert, tell: Tell, now_nanos: i64, public_url: &str) -> Notification {
    let subject = match rule.sns.as_ref().and_then(|sns| sns.subject.as_deref()) {
        Some(template) => fill(template, rule, alert, tell),
        None => default_subject(rule, alert, tell),
    };
    let (channel, target) = match &rule.sns {
        Some(sns) => ("sns", sns.topic_arn.as_str()),
        None => ("local", "local"),
    };
    let id = format!("{}-{:x}", alert.id(), now_nanos / 1_000);
    let attributes = attributes(rule, alert, tell, &id);
    Notification {
        tell,
        created_at_nanos: now_nanos,
        channel: channel.into(),
        target: target.into(),
        subject: plain_subject(&subject),
        message: cut(text(rule, alert, tell, now_nanos, public_url), MAX_MESSAGE_BYTES),
        attributes,
        id,
        status: Status::Pending,
        attempts: 0,
        next_attempt_nanos: now_nanos,
        error: None,
        delivered_at_nanos: None,
        message_id: None,
    }
}

fn word(tell: Tell) -> &'static str {
    match tell {
        Tell::Firing => "firing",
        Tell::Resolved => "resolved",
    }
}

fn default_subject(rule: &Rule, alert: &Alert, tell: Tell) -> String {
    let group = alert.group_key();
    let group = if group.is_empty() { String::new() } else { format!(" ({group})") };
    format!("[{}] {}{group}: {}", word(tell).to_uppercase(), rule.name, alert.summary)
}

fn fill(template: &str, rule: &Rule, alert: &Alert, tell: Tell) -> String {
    template
        .replace("{state}", word(tell))
        .replace("{severity}", &rule.severity)
        .replace("{value}", &alert.value.map_or_else(|| "none".into(), format_number))
        .replace("{rule}", &rule.name)
        .replace("{group}", &alert.group_key())
}

/// One line of at most [`MAX_SUBJECT_CHARS`] printable ASCII characters that begins with a letter, digit or punctuation.
pub fn plain_subject(text: &str) -> String {
    let mut out = String::with_capacity(MAX_SUBJECT_CHARS);
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            c if c.is_control() || c.is_whitespace() => out.push(' '),
            '\u{2013}' | '\u{2014}' => out.push('-'),
            _ => out.push('?'),
        }
    }
    let words: Vec<&str> = out.split_ascii_whitespace().collect();
    let mut line = words.join(" ");
    if line.len() > MAX_SUBJECT_CHARS {
        line.truncate(MAX_SUBJECT_CHARS - 3);
        line.truncate(line.trim_end().len());
        line.push_str("...");
    }
    if line.is_empty() { "tracelake alert".into() } else { line }
}

fn cut(mut text: String, max_bytes: usize) -> String {
    const MARK: &str = "\n… (cut)";
    if text.len() > max_bytes {
        let end = (0..=max_bytes - MARK.len()).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

fn when(nanos: i64) -> String {
    DateTime::from_timestamp_nanos(nanos).format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn text(rule: &Rule, alert: &Alert, tell: Tell, now: i64, public_url: &str) -> String {
    let group = alert.group_key();
    let group = if group.is_empty() { String::new() } else { format!(" ({group})") };
    let mut lines = vec![
        format!("{}: {}{group}", word(tell).to_uppercase(), rule.name),
        alert.summary.clone(),
        String::new(),
    ];
    if let Some(description) = &rule.description {
        lines.extend([description.clone(), String::new()]);
    }
    let fired = alert.standing.fired_at_nanos.unwrap_or(now);
    let lasted = format_duration(std::time::Duration::from_secs(now.saturating_sub(fired).max(0).unsigned_abs() / 1_000_000_000));
    match tell {
        Tell::Firing if lasted == "0s" => lines.push(format!("Since: {}", when(fired))),
        Tell::Firing => lines.push(format!("Since: {} ({lasted})", when(fired))),
        Tell::Resolved => lines.push(format!("Fired: {}, resolved {} after {lasted}", when(fired), when(now))),
    }
    let shown = |number: Option<f64>| number.map_or_else(|| "none".into(), format_number);
    lines.push(format!("Value: {} (threshold {})", shown(alert.value), shown(alert.threshold)));
    lines.push(format!("Severity: {}", rule.severity));
    lines.push(format!("Rule: {} ({}), fires at {}", rule.name, rule.kind(), rule.condition_text()));
    lines.push(format!("Query: {}", rule.query_text()));
    if tell == Tell::Firing && !alert.samples.is_empty() {
        lines.extend([String::new(), "Newest rows:".into()]);
        lines.extend(alert.samples.iter().take(MAX_SAMPLES).map(|row| format!("- {}", sample_line(row))));
    }
    lines.push(String::new());
    lines.push(format!("Alert: {public_url}{}", alert_path(alert)));
    if let Some(path) = rows_path(rule, alert) {
        lines.push(format!("Rows:  {public_url}{path}"));
    }
    if let Some(path) = trace_path(alert) {
        lines.push(format!("Trace: {public_url}{path}"));
    }
    if let Some(runbook) = &rule.runbook {
        lines.push(format!("Runbook: {runbook}"));
    }
    if tell == Tell::Firing {
        lines.push(format!("\nTold again in {} if it keeps firing.", format_duration(rule.realert)));
    }
    lines.join("\n")
}

/// Time, service, severity, body and trace of a row, on one line.
fn sample_line(row: &Value) -> String {
    let field = |name: &str| row.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut parts = Vec::new();
    parts.extend(field("time").map(|time| time.get(11..23).unwrap_or(time).trim_end_matches('Z').to_string()));
    parts.extend(field("service_name").map(str::to_string));
    parts.extend(field("severity").filter(|severity| *severity != "UNSET").map(str::to_string));
    parts.extend(field("name").map(str::to_string));
    if let Some(duration) = row.get("duration_nano").and_then(Value::as_i64) {
        parts.push(format!("{} ms", format_number(duration as f64 / 1e6)));
    }
    parts.extend(field("status_code").filter(|status| *status != "UNSET").map(str::to_string));
    if let Some(body) = field("body").or_else(|| field("status_message")) {
        let words: Vec<&str> = body.split_whitespace().collect();
        let line = words.join(" ");
        let mut short: String = line.chars().take(MAX_SAMPLE_CHARS).collect();
        if short.len() < line.len() {
            short.push('…');
        }
        parts.push(short);
    }
    parts.extend(field("trace_id").map(|trace| format!("[trace {trace}]")));
    parts.join(" ")
}

/// The alert's page.
pub fn alert_path(alert: &Alert) -> String {
    format!("/ui/alert?id={}", alert.id())
}

/// The rows that were counted, over the window they were counted in; none for a metric.
pub fn rows_path(rule: &Rule, alert: &Alert) -> Option<String> {
    let Source::Rows { table, query } = &rule.source else {
        return None;
    };
    let window = alert.window?;
    let query = group_query(query, &alert.group);
    let table = match table {
        crate::model::Table::Spans => "&table=spans",
        _ => "",
    };
    // the page takes milliseconds; the end is rounded up, so that no counted row is left out
    let (from, to) = (
        window.start_nanos.div_euclid(1_000_000),
        window.end_nanos.saturating_add(999_999).div_euclid(1_000_000),
    );
    Some(format!("/ui/search?q={}&from={from}&to={to}{table}", utf8_percent_encode(&query, QUERY)))
}

/// The trace of the first sample that has one.
pub fn trace_path(alert: &Alert) -> Option<String> {
    let trace = alert.samples.iter().find_map(|row| row.get("trace_id").and_then(Value::as_str))?;
    Some(format!("/ui/trace?id={}", utf8_percent_encode(trace, QUERY)))
}

fn attributes(rule: &Rule, alert: &Alert, tell: Tell, id: &str) -> Vec<(String, String)> {
    let mut all = vec![
        ("rule".to_string(), rule.name.clone()),
        ("state".to_string(), word(tell).to_string()),
        ("severity".to_string(), rule.severity.clone()),
        ("tracelake.notification_id".to_string(), id.to_string()),
    ];
    let is_service = |field: &str| ["service", "service_name", "service.name"].contains(&field);
    if let Some((_, service)) = alert.group.iter().find(|(field, value)| is_service(field) && !value.is_empty()) {
        all.push(("service".into(), service.clone()));
    }
    all.extend(rule.sns.iter().flat_map(|sns| sns.attributes.iter().cloned()));
    for (_, value) in &mut all {
        if value.chars().count() > MAX_ATTRIBUTE_CHARS {
            *value = value.chars().take(MAX_ATTRIBUTE_CHARS).collect();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::rule;
    use super::*;
    use crate::model::TimeRange;

    const SECOND: i64 = 1_000_000_000;

    fn payment() -> (Rule, Alert) {
        let rule = rule::parse(
            "r.yaml",
            concat!(
                "name: payment-errors\ntype: frequency\nquery: 'severity>=ERROR service:payment'\nnum_events: 10\ntimeframe: 1m\n",
                "query_key: service\nseverity: critical\ndescription: Payments fail.\nrunbook: https://runbooks.example.com/p\n",
                "notify: {sns: {topic_arn: 'arn:aws:sns:us-east-1:1:oncall', attributes: {team: pay}}}\n",
            ),
            &|_, _| Ok(()),
        )
        .expect("a rule");
        let mut alert = Alert::new(&rule.name, vec![("service".into(), "payment".into())]);
        alert.standing.fired_at_nanos = Some(1_795_000_000 * SECOND);
        alert.value = Some(14.0);
        alert.threshold = Some(10.0);
        alert.summary = "14 matching log records in 1m, limit 10".into();
        alert.window = Some(TimeRange::new(1_794_999_940 * SECOND, 1_795_000_000 * SECOND));
        alert.samples = vec![
            serde_json::json!({"time": "2026-11-22T03:12:40.556Z", "service_name": "payment", "severity": "ERROR",
                "body": "payment declined:\n  upstream größer", "trace_id": null}),
            serde_json::json!({"time": "2026-11-22T03:12:40.1Z", "body": "x".repeat(1000), "trace_id": "5759e988bd862e3fe1be46a994272793"}),
        ];
        (rule, alert)
    }

    #[test]
    fn the_text_answers_what_where_since_when_and_what_now() {
        let (rule, alert) = payment();
        let notification = notification(&rule, &alert, Tell::Firing, 1_795_000_000 * SECOND, "http://lake.example.com:7070");
        for part in [
            "FIRING: payment-errors (service=payment)",
            "14 matching log records in 1m, limit 10",
            "Payments fail.",
            "Since: 2026-11-18 11:06:40 UTC",
            "Value: 14 (threshold 10)",
            "at least 10 log records in 1m per service",
            "Query: severity>=ERROR service:payment",
            "- 03:12:40.556 payment ERROR payment declined: upstream größer",
            "[trace 5759e988bd862e3fe1be46a994272793]",
            "Alert: http://lake.example.com:7070/ui/alert?id=payment-errors-",
            "/ui/search?q=%28severity%3E%3DERROR%20service:payment%29%20AND%20service:%22payment%22&from=1794999940000&to=1795000000000",
            "/ui/trace?id=5759e988bd862e3fe1be46a994272793",
            "Runbook: https://runbooks.example.com/p",
        ] {
            assert!(notification.message.contains(part), "{part} is not in\n{}", notification.message);
        }
        assert_eq!(
            notification.subject,
            "[FIRING] payment-errors (service=payment): 14 matching log records in 1m, limit 10"
        );
        let names: Vec<&str> = notification.attributes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["rule", "state", "severity", "tracelake.notification_id", "service", "team"]);
    }

    #[test]
    fn the_end_says_how_long_it_lasted() {
        let (rule, alert) = payment();
        let notification = notification(&rule, &alert, Tell::Resolved, 1_795_000_090 * SECOND, "");
        assert!(notification.message.contains("after 1m30s"), "{}", notification.message);
        assert!(!notification.message.contains("Newest rows"));
        assert!(notification.subject.starts_with("[RESOLVED] "));
    }

    #[test]
    fn subjects_are_short_plain_lines() {
        for (text, expected) in [
            ("ok", "ok"),
            ("  two\r\nlines\t ", "two lines"),
            ("größer als – null", "gr??er als - null"),
            ("\u{1f525}fire", "?fire"),
            ("\n", "tracelake alert"),
        ] {
            assert_eq!(plain_subject(text), expected);
        }
        let long = plain_subject(&"a b".repeat(100));
        assert_eq!((long.len(), long.ends_with("...")), (99, true));
    }

    #[test]
    fn a_subject_template_is_filled() {
        let (mut rule, alert) = payment();
        if let Some(sns) = &mut rule.sns {
            sns.subject = Some("{severity}: {rule} is {state} at {value} for {group}".into());
        }
        let notification = notification(&rule, &alert, Tell::Firing, 0, "");
        assert_eq!(notification.subject, "critical: payment-errors is firing at 14 for service=payment");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = cut("ä".repeat(200_000), MAX_MESSAGE_BYTES);
        assert!(text.len() <= MAX_MESSAGE_BYTES && text.ends_with("(cut)"));
    }

    proptest::proptest! {
        #[test]
        fn any_subject_keeps_to_the_rules(text in "[\\PC\\n\\r\\t]{0,300}") {
            let subject = plain_subject(&text);
            assert!(!subject.is_empty() && subject.len() <= MAX_SUBJECT_CHARS);
            assert!(subject.bytes().all(|b| (b' '..=b'~').contains(&b)));
            assert!(subject.as_bytes()[0].is_ascii_graphic());
        }
    }
}
