//! Rule files: YAML to a [`Rule`], or all the mistakes in it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    Aggregation, Condition, DEFAULT_COMPARE_WITH, DEFAULT_EVERY, DEFAULT_PATTERN_EVERY, DEFAULT_REALERT, Direction, MAX_FILE_BYTES, MAX_GROUP_FIELDS,
    MAX_OWN_ATTRIBUTES, MAX_TIMEFRAME, MIN_EVERY, Operator, PATTERN_GROUP, PatternStates, Rule, SnsTarget, Source, format_duration,
};
use crate::model::{Table, parse_duration_nanos};

/// One thing wrong in a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named to us.
    pub file: String,
    /// The field's path (`notify.sns.topic_arn`); empty for the file as a whole.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// All that is wrong in one or more rule files, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match mistake.field.as_str() {
                "" => write!(f, "{}: {}", mistake.file, mistake.message)?,
                field => write!(f, "{}: {field}: {}", mistake.file, mistake.message)?,
            }
        }
        Ok(())
    }
}

/// Says whether a text is a query of the search language on a table, and if not, why; [`crate::alert::engine::check_query`] is the
/// real one.
pub type CheckQuery<'a> = &'a dyn Fn(Table, &str) -> Result<(), String>;

/// Reads every `*.yaml` and `*.yml` file of a folder, in order of name. The rules that are right are given even if
/// others are wrong: the caller decides whether to go on with them.
pub fn load(folder: &Path, check_query: CheckQuery<'_>) -> (Vec<Rule>, Vec<Mistake>) {
    let mut rules: Vec<Rule> = Vec::new();
    let mut mistakes = Vec::new();
    let whole = |path: &Path, message: String| Mistake {
        file: path.display().to_string(),
        field: String::new(),
        message,
    };
    let mut paths = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => paths.push(entry.path()),
                    Err(error) => mistakes.push(whole(folder, format!("cannot be listed: {error}"))),
                }
            }
        }
        Err(error) => mistakes.push(whole(folder, format!("cannot be listed: {error}"))),
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    paths.sort();
    for path in paths {
        let text = match std::fs::metadata(&path).map(|meta| meta.len()) {
            Ok(length) if length > MAX_FILE_BYTES => Err(format!("has {length} bytes, more than {MAX_FILE_BYTES}")),
            Ok(_) => std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}")),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        let rule = match text {
            Ok(text) => parse(&path.display().to_string(), &text, check_query),
            Err(message) => Err(Mistakes(vec![whole(&path, message)])),
        };
        match rule {
            Ok(rule) if rules.iter().any(|other| other.name == rule.name) => mistakes.push(Mistake {
                field: "name".into(),
                ..whole(&path, format!("{:?} is the name of another rule too", rule.name))
            }),
            Ok(rule) => rules.push(rule),
            Err(more) => mistakes.extend(more.0),
        }
    }
    (rules, mistakes)
}

/// Reads one rule. `file` is only for the mistakes.
pub fn parse(file: &str, text: &str, check_query: CheckQuery<'_>) -> Result<Rule, Mistakes> {
    let whole = |message: String| {
        Mistakes(vec![Mistake {
            file: file.to_string(),
            field: String::new(),
            message,
        }])
    };
    let map = match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(whole("a rule is a mapping of fields to values".into())),
        Err(error) => return Err(whole(format!("not YAML: {error}"))),
    };
    let mut found = Vec::new();
    let rule = read_rule(map, check_query, &mut found);
    match rule {
        Some(rule) if found.is_empty() => Ok(rule),
        _ => Err(Mistakes(
            found
                .into_iter()
                .map(|(field, message)| Mistake {
                    file: file.to_string(),
                    field,
                    message,
                })
                .collect(),
        )),
    }
}

type Found = Vec<(String, String)>;

/// The fields of one mapping; what is left at the end is unknown.
struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Reads a field with `read`, which says what it expected if it cannot.
    fn read<T>(&mut self, key: &str, found: &mut Found, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.take(key)?;
        match read(&value) {
            Ok(value) => Some(value),
            Err(message) => {
                found.push((self.at(key), message));
                None
            }
        }
    }

    fn required<T>(&mut self, key: &str, found: &mut Found, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.map.shift_remove(key);
            found.push((self.at(key), "is missing".into()));
            return None;
        }
        self.read(key, found, read)
    }

    fn text(&mut self, key: &str, found: &mut Found) -> Option<String> {
        self.read(key, found, text)
    }

    fn duration(&mut self, key: &str, found: &mut Found) -> Option<Duration> {
        self.read(key, found, duration)
    }

    fn flag(&mut self, key: &str, default: bool, found: &mut Found) -> bool {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| format!("expected true or false, found {value}"));
        self.read(key, found, flag).unwrap_or(default)
    }

    /// A nested mapping.
    fn fields(&mut self, key: &str, found: &mut Found) -> Option<Fields> {
        let path = self.at(key);
        let map = self.read(key, found, |value| {
            value.as_object().cloned().ok_or_else(|| format!("expected a mapping, found {value}"))
        })?;
        Some(Fields { path, map })
    }

    fn end(self, known: &[&str], found: &mut Found) {
        for key in self.map.keys() {
            let near = known.iter().find(|name| is_near(name, key));
            let hint = near.map_or_else(|| format!("known here: {}", known.join(", ")), |name| format!("did you mean {name}?"));
            found.push((self.at(key), format!("is not a field of a rule of this type; {hint}")));
        }
    }
}

/// Whether two names differ only in case, separators or one letter.
fn is_near(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    let (a, b) = (plain(a), plain(b));
    let prefix = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let suffix = a.bytes().rev().zip(b.bytes().rev()).take_while(|(x, y)| x == y).count();
    let (longer, shorter) = (a.len().max(b.len()), a.len().min(b.len()));
    longer - shorter <= 1 && prefix + suffix + 1 >= longer
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.trim().to_string()),
        Value::String(_) => Err("is empty".into()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(format!("expected text, found {other}")),
    }
}

fn duration(value: &Value) -> Result<Duration, String> {
    let expected = || format!("expected a time such as 90s, 5m or 1h30m, found {value}");
    let nanos = match value {
        Value::String(text) => parse_duration_nanos(text).ok_or_else(expected)?,
        Value::Number(number) if number.as_u64() == Some(0) => 0,
        Value::Object(parts) if !parts.is_empty() => {
            let mut total = 0f64;
            for (unit, count) in parts {
                let seconds = match unit.as_str() {
                    "weeks" => 604_800.0,
                    "days" => 86_400.0,
                    "hours" => 3_600.0,
                    "minutes" => 60.0,
                    "seconds" => 1.0,
                    _ => return Err(expected()),
                };
                total += seconds * count.as_f64().filter(|count| *count >= 0.0).ok_or_else(expected)?;
            }
            if total > MAX_TIMEFRAME.as_secs_f64() * 100.0 {
                return Err(expected());
            }
            (total * 1e9) as i64
        }
        _ => return Err(expected()),
    };
    Ok(Duration::from_nanos(nanos.unsigned_abs()))
}

fn number(value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("expected a number, found {value}"))
}

fn whole_number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("expected a whole number from 0 up, found {value}"))
}

fn names(value: &Value) -> Result<Vec<String>, String> {
    let list = match value {
        Value::Array(items) => items.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        other => vec![text(other)?],
    };
    if list.len() > MAX_GROUP_FIELDS {
        return Err(format!("at most {MAX_GROUP_FIELDS} fields, found {}", list.len()));
    }
    if (1..list.len()).any(|i| list[..i].contains(&list[i])) {
        return Err("a field stands in it twice".into());
    }
    Ok(list)
}

fn pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    let map = value
        .as_object()
        .ok_or_else(|| format!("expected a mapping of names to values, found {value}"))?;
    map.iter().map(|(key, value)| Ok((key.clone(), text(value)?))).collect()
}

/// One of a closed list of words.
fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("expected one of {}, found {value}", words.join(", "))
    })
}

const EVERY_TYPE: [&str; 17] = [
    "name",
    "type",
    "table",
    "query",
    "timeframe",
    "query_key",
    "for",
    "every",
    "realert",
    "resolve_after",
    "delay",
    "severity",
    "description",
    "runbook",
    "notify",
    "notify_resolved",
    "enabled",
];

fn read_rule(map: Map<String, Value>, check_query: CheckQuery<'_>, found: &mut Found) -> Option<Rule> {
    let mut fields = Fields { path: String::new(), map };
    let name = fields.required("name", found, |value| {
        let name = text(value)?;
        if name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err("has more than 100 characters or control characters".into());
        }
        Ok(name)
    });
    let kinds = [
        ("frequency", "frequency"),
        ("spike", "spike"),
        ("pattern", "pattern"),
        ("threshold", "threshold"),
    ];
    let kind = fields.required("type", found, |value| word(value, &kinds));
    let timeframe = fields.required("timeframe", found, duration).filter(|timeframe| {
        let fits = (MIN_EVERY..=MAX_TIMEFRAME).contains(timeframe);
        if !fits {
            let (min, max) = (format_duration(MIN_EVERY), format_duration(MAX_TIMEFRAME));
            found.push((
                "timeframe".into(),
                format!("expected from {min} to {max}, found {}", format_duration(*timeframe)),
            ));
        }
        fits
    });
    let mut group_by = fields.read("query_key", found, names).unwrap_or_default();
    let metric = if kind == Some("threshold") { fields.fields("metric", found) } else { None };
    let source = match metric {
        Some(metric) => {
            for key in ["table", "query", "query_key"] {
                let meant = fields.map.shift_remove(key).is_some() || (key == "query_key" && !group_by.is_empty());
                if meant {
                    let hint = if key == "query_key" { "use metric.group_by" } else { "use metric.where" };
                    found.push((key.into(), format!("is not for a rule on a metric; {hint}")));
                }
            }
            let (source, metric_groups) = read_metric(metric, found);
            group_by = metric_groups;
            source
        }
        None => read_rows(&mut fields, check_query, found),
    };
    if kind == Some("pattern") {
        if !group_by.is_empty() {
            found.push(("query_key".into(), "is not for a rule on patterns: each pattern is an alert of its own".into()));
        }
        if matches!(source, Some(Source::Rows { table: Table::Spans, .. })) {
            found.push(("table".into(), "spans have no patterns: expected logs".into()));
        }
        group_by = PATTERN_GROUP.map(String::from).to_vec();
    }
    let condition = match kind {
        Some("pattern") => read_pattern(&mut fields, timeframe, found),
        Some("frequency") => read_frequency(&mut fields, found),
        Some("spike") => read_spike(&mut fields, found),
        Some(_) => read_threshold(&mut fields, found),
        None => None,
    };
    let hold = fields.duration("for", found).unwrap_or_default();
    let default_every = if kind == Some("pattern") { DEFAULT_PATTERN_EVERY } else { DEFAULT_EVERY };
    let every = fields.duration("every", found).unwrap_or(default_every);
    if every < MIN_EVERY {
        found.push(("every".into(), format!("expected at least {}", format_duration(MIN_EVERY))));
    }
    let realert = fields.duration("realert", found).unwrap_or(DEFAULT_REALERT);
    let resolve_after = fields.duration("resolve_after", found).unwrap_or_default();
    let delay = fields.duration("delay", found).unwrap_or_default();
    let severity = fields.text("severity", found).unwrap_or_else(|| "warning".into());
    let description = fields.text("description", found);
    let runbook = fields.text("runbook", found);
    let sns = read_notify(&mut fields, found);
    let notify_resolved = fields.flag("notify_resolved", true, found);
    let enabled = fields.flag("enabled", true, found);
    let own: &[&str] = match kind {
        Some("frequency") => &["num_events"],
        Some("pattern") => &["states", "compare_with", "num_events"],
        Some("spike") => &["spike_height", "spike_type", "threshold_ref", "threshold_cur"],
        Some(_) => &["metric", "above", "below", "operator", "value"],
        // what is right depends on the type, which is wrong already
        None => return None,
    };
    fields.end(&[own, EVERY_TYPE.as_slice()].concat(), found);
    Some(Rule {
        name: name?,
        source: source?,
        condition: condition?,
        timeframe: timeframe?,
        group_by,
        hold,
        every,
        realert,
        resolve_after,
        delay,
        severity,
        description,
        runbook,
        sns: sns?,
        notify_resolved,
        enabled,
    })
}

fn read_rows(fields: &mut Fields, check_query: CheckQuery<'_>, found: &mut Found) -> Option<Source> {
    let tables = [("logs", Table::Logs), ("spans", Table::Spans)];
    let table = fields.read("table", found, |value| word(value, &tables)).unwrap_or(Table::Logs);
    let query = fields.required("query", found, |value| {
        let query = value.as_str().ok_or_else(|| format!("expected text, found {value}"))?.trim().to_string();
        check_query(table, &query).map(|()| query)
    });
    Some(Source::Rows { table, query: query? })
}

fn read_metric(mut metric: Fields, found: &mut Found) -> (Option<Source>, Vec<String>) {
    let name = metric.required("name", found, text);
    let words: Vec<(&str, Aggregation)> = Aggregation::ALL.iter().map(|a| (a.name(), *a)).collect();
    let aggregation = metric.required("aggregation", found, |value| word(value, &words));
    let filter = metric.read("where", found, pairs).unwrap_or_default();
    let group_by = metric.read("group_by", found, names).unwrap_or_default();
    metric.end(&["name", "aggregation", "where", "group_by"], found);
    let source = name.zip(aggregation).map(|(name, aggregation)| Source::Metric { name, aggregation, filter });
    (source, group_by)
}

fn read_frequency(fields: &mut Fields, found: &mut Found) -> Option<Condition> {
    let num_events = fields.required("num_events", found, |value| match whole_number(value)? {
        0 => Err("expected at least 1".into()),
        number => Ok(number),
    })?;
    Some(Condition::Frequency { num_events })
}

fn read_pattern(fields: &mut Fields, timeframe: Option<Duration>, found: &mut Found) -> Option<Condition> {
    let states = fields.read("states", found, |value| {
        let mut states = PatternStates {
            new: false,
            surging: false,
            vanished: false,
        };
        for name in names(value)? {
            match name.as_str() {
                "new" => states.new = true,
                "surging" => states.surging = true,
                "vanished" => states.vanished = true,
                _ => return Err(format!("expected new, surging, vanished, found {name:?}")),
            }
        }
        match states.named().is_empty() {
            true => Err("is empty: expected new, surging, vanished".into()),
            false => Ok(states),
        }
    });
    let compare_with = fields.duration("compare_with", found).unwrap_or(DEFAULT_COMPARE_WITH);
    if timeframe.is_some_and(|timeframe| compare_with < timeframe) || compare_with > MAX_TIMEFRAME {
        let (found_text, max) = (format_duration(compare_with), format_duration(MAX_TIMEFRAME));
        found.push(("compare_with".into(), format!("expected from the timeframe to {max}, found {found_text}")));
        return None;
    }
    let num_events = fields.read("num_events", found, |value| match whole_number(value)? {
        0 => Err("expected at least 1".into()),
        number => Ok(number),
    });
    Some(Condition::Pattern {
        states: states.unwrap_or(PatternStates {
            new: true,
            surging: false,
            vanished: false,
        }),
        compare_with,
        num_events: num_events.unwrap_or(1),
    })
}

fn read_spike(fields: &mut Fields, found: &mut Found) -> Option<Condition> {
    let height = fields.required("spike_height", found, |value| match number(value)? {
        height if height > 1.0 => Ok(height),
        height => Err(format!("expected a ratio above 1, found {height}")),
    });
    let words = [("up", Direction::Up), ("down", Direction::Down), ("both", Direction::Both)];
    let direction = fields.required("spike_type", found, |value| word(value, &words));
    let threshold_ref = fields.read("threshold_ref", found, whole_number).unwrap_or(1);
    let threshold_cur = fields.read("threshold_cur", found, whole_number).unwrap_or(0);
    Some(Condition::Spike {
        height: height?,
        direction: direction?,
        threshold_ref,
        threshold_cur,
    })
}

fn read_threshold(fields: &mut Fields, found: &mut Found) -> Option<Condition> {
    let above = fields.read("above", found, number);
    let below = fields.read("below", found, number);
    let signs: Vec<(&str, Operator)> = Operator::ALL.iter().map(|(operator, sign)| (*sign, *operator)).collect();
    let operator = fields.read("operator", found, |value| word(value, &signs));
    let value = fields.read("value", found, number);
    let (operator, limit) = match (above, below, operator, value) {
        (Some(limit), None, None, None) => (Operator::Above, limit),
        (None, Some(limit), None, None) => (Operator::Below, limit),
        (None, None, Some(operator), Some(limit)) => (operator, limit),
        _ => {
            found.push((String::new(), "a threshold needs one of: above, below, or operator and value".into()));
            return None;
        }
    };
    Some(Condition::Threshold { operator, limit })
}

/// `Some(None)`: no target named; `None`: a mistake in it.
fn read_notify(fields: &mut Fields, found: &mut Found) -> Option<Option<SnsTarget>> {
    let before = found.len();
    let Some(mut notify) = fields.fields("notify", found) else {
        return (found.len() == before).then_some(None);
    };
    let sns = notify.fields("sns", found);
    notify.end(&["sns"], found);
    let Some(mut sns) = sns else {
        return (found.len() == before).then_some(None);
    };
    let topic_arn = sns.required("topic_arn", found, |value| {
        let arn = text(value)?;
        match arn.split(':').collect::<Vec<_>>().as_slice() {
            ["arn", partition, "sns", region, _, name] if !partition.is_empty() && !region.is_empty() && !name.is_empty() => Ok(arn),
            _ => Err(format!("expected arn:aws:sns:REGION:ACCOUNT:TOPIC, found {arn:?}")),
        }
    });
    let subject = sns.text("subject", found);
    let attributes = sns.read("attributes", found, attributes).unwrap_or_default();
    sns.end(&["topic_arn", "subject", "attributes"], found);
    Some(Some(SnsTarget {
        topic_arn: topic_arn?,
        subject,
        attributes,
    }))
}

/// SNS's rules for attribute names, checked here because SNS would say it only when the alert fires.
fn attributes(value: &Value) -> Result<Vec<(String, String)>, String> {
    let list = pairs(value)?;
    if list.len() > MAX_OWN_ATTRIBUTES {
        return Err(format!("at most {MAX_OWN_ATTRIBUTES}, found {}", list.len()));
    }
    for (name, _) in &list {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.len() > 256 || !plain || dots || lower.starts_with("aws.") || lower.starts_with("amazon.") {
            return Err(format!(
                "{name:?} is not an attribute name: letters, digits, '_', '.', '-', and not AWS. or Amazon. in front"
            ));
        }
        if ["rule", "state", "severity", "service", "tracelake.notification_id"].contains(&name.as_str()) {
            return Err(format!("{name:?} is set by tracelake"));
        }
    }
    Ok(list)
}
