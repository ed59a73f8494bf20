//! A rule: what to count, when that is bad, and who is told. Read from one YAML file a rule.
//!
//! In: the text of a file. Out: a [`Rule`] that is whole and checked, or [`Mistakes`], *all* of them, each with its file
//! and field; unknown keys are mistakes. Nothing here asks the clock or the engine.
//!
//! The words are ElastAlert 2's where it has them (`num_events`, `timeframe`, `query_key`, `spike_height`, `threshold_ref`,
//! `threshold_cur`, `realert`) and Prometheus' for the rest (`for`, pending, firing, resolved). Spans of time are written
//! `90s`, `5m`, `1h30m`, or as ElastAlert does, `{minutes: 5}`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::{Table, parse_duration_nanos};

/// How often a rule is evaluated unless it says so.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(5);
/// A rule is evaluated at most this often: the engine has other askers.
pub const MIN_EVERY: Duration = Duration::from_secs(1);
/// Time between two notifications of one alert while it keeps firing.
pub const DEFAULT_REALERT: Duration = Duration::from_secs(300);
/// The longest window; above it, evaluation every few seconds would read too much.
pub const MAX_TIMEFRAME: Duration = Duration::from_secs(7 * 86_400);
/// A rule file larger than this is a mistake.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Fields in `query_key` or `group_by`.
pub const MAX_GROUP_FIELDS: usize = 5;
/// Attributes that a rule may add to its SNS messages. With our own five that makes ten, which is what raw delivery to
/// SQS takes before it throws the message away.
pub const MAX_OWN_ATTRIBUTES: usize = 5;

/// One alert rule, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique over all rules; part of every alert's identity, so renaming a rule starts its alerts anew.
    pub name: String,
    /// What is counted or measured.
    pub source: Source,
    /// When that is bad.
    pub condition: Condition,
    /// Length of the window, which ends at now minus [`Rule::delay`].
    pub timeframe: Duration,
    /// Fields by which rows are grouped; one alert a group. Empty: one alert.
    pub group_by: Vec<String>,
    /// How long the condition must hold before the alert fires (`for`).
    pub hold: Duration,
    /// Time between evaluations.
    pub every: Duration,
    /// Time between two notifications of one alert that keeps, or comes back, firing.
    pub realert: Duration,
    /// How long the condition must be gone before the alert is resolved.
    pub resolve_after: Duration,
    /// How far behind now the window ends, for sources that deliver late.
    pub delay: Duration,
    /// Free text for people and filters: `critical`, `warning`, …
    pub severity: String,
    /// What it means and what to do, for the reader of the notification.
    pub description: Option<String>,
    /// Link to the runbook.
    pub runbook: Option<String>,
    /// Where notifications go; without it they are kept and shown (`local`).
    pub sns: Option<SnsTarget>,
    /// Whether the end is told as well.
    pub notify_resolved: bool,
    /// Whether the rule is evaluated.
    pub enabled: bool,
}

/// What a rule looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Rows of `logs` or `spans` that match a query of the search language.
    Rows {
        /// Which of the two.
        table: Table,
        /// The query; empty matches all.
        query: String,
    },
    /// Points of a gauge or sum.
    Metric {
        /// Its name.
        name: String,
        /// How points of the window become one number.
        aggregation: Aggregation,
        /// Attributes (of the series or its resource; `service` is the service name) that must be equal.
        filter: Vec<(String, String)>,
    },
}

/// How the points of a window become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Mean of all points.
    Avg,
    /// Sum of all points; of a delta sum, its increase.
    Sum,
    /// Smallest point.
    Min,
    /// Largest point.
    Max,
    /// Newest point of the group.
    Last,
    /// Number of points.
    Count,
}

/// When a value is bad.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// At least `num_events` in the window.
    Frequency {
        /// The limit, inclusive.
        num_events: u64,
    },
    /// The window against the one before it.
    Spike {
        /// Ratio that makes a spike, inclusive.
        height: f64,
        /// Which way.
        direction: Direction,
        /// Rows the earlier window must have at least. 1 unless set, so that what is new is no spike; 0 lets it be one.
        threshold_ref: u64,
        /// Rows the current window must have at least.
        threshold_cur: u64,
    },
    /// A count or metric against a limit.
    Threshold {
        /// How they are compared.
        operator: Operator,
        /// The limit.
        limit: f64,
    },
}

/// Which way a spike goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More than before.
    Up,
    /// Less than before.
    Down,
    /// Either.
    Both,
}

/// A comparison `value OPERATOR limit` that is bad when true. With NaN all but `!=` are false, and `!=` is too: see
/// [`Operator::holds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Operator {
    const ALL: [(Operator, &'static str); 6] = [
        (Operator::Above, ">"),
        (Operator::AtLeast, ">="),
        (Operator::Below, "<"),
        (Operator::AtMost, "<="),
        (Operator::Equal, "=="),
        (Operator::NotEqual, "!="),
    ];

    /// The sign.
    pub fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(operator, _)| *operator == self).map_or("", |(_, sign)| sign)
    }

    /// Whether `value` is on the bad side; never for NaN, which is no value.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Operator::Above => value > limit,
            Operator::AtLeast => value >= limit,
            Operator::Below => value < limit,
            Operator::AtMost => value <= limit,
            Operator::Equal => value == limit,
            Operator::NotEqual => value != limit && !value.is_nan(),
        }
    }

    /// Whether fewer rows can make it true, so that an incomplete count proves nothing.
    pub fn looks_down(self) -> bool {
        !matches!(self, Operator::Above | Operator::AtLeast)
    }
}

/// An SNS topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsTarget {
    /// `arn:aws:sns:REGION:ACCOUNT:NAME`.
    pub topic_arn: String,
    /// Stands in for the made subject; `{rule}`, `{state}`, `{group}`, `{value}` and `{severity}` are filled in.
    pub subject: Option<String>,
    /// Message attributes besides ours.
    pub attributes: Vec<(String, String)>,
}

impl Rule {
    /// `frequency`, `spike` or `threshold`.
    pub fn kind(&self) -> &'static str {
        match self.condition {
            Condition::Frequency { .. } => "frequency",
            Condition::Spike { .. } => "spike",
            Condition::Threshold { .. } => "threshold",
        }
    }

    /// The query, or what stands for it for a metric.
    pub fn query_text(&self) -> String {
        match &self.source {
            Source::Rows { query, .. } => query.clone(),
            Source::Metric { name, aggregation, filter } => {
                let filter: Vec<String> = filter.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
                let braces = if filter.is_empty() {
                    String::new()
                } else {
                    format!("{{{}}}", filter.join(", "))
                };
                format!("{}({name}{braces})", aggregation.name())
            }
        }
    }

    /// One line for people: when it fires.
    pub fn condition_text(&self) -> String {
        let window = format_duration(self.timeframe);
        let what = match &self.source {
            Source::Rows { table: Table::Spans, .. } => "spans",
            Source::Rows { .. } => "log records",
            Source::Metric { .. } => "",
        };
        let mut text = match self.condition {
            Condition::Frequency { num_events } => format!("at least {num_events} {what} in {window}"),
            Condition::Spike { height, direction, .. } => {
                let height = format_number(height);
                let how = match direction {
                    Direction::Up => format!("{height} times as many"),
                    Direction::Down => format!("{height} times fewer"),
                    Direction::Both => format!("{height} times as many or fewer"),
                };
                format!("{how} {what} in {window} as in the {window} before")
            }
            Condition::Threshold { operator, limit } => {
                let limit = format_number(limit);
                let subject = if what.is_empty() { self.query_text() } else { format!("number of {what}") };
                format!("{subject} {} {limit} over {window}", operator.sign())
            }
        };
        if !self.group_by.is_empty() {
            text.push_str(&format!(" per {}", self.group_by.join(", ")));
        }
        if !self.hold.is_zero() {
            text.push_str(&format!(", for {}", format_duration(self.hold)));
        }
        text
    }
}

impl Aggregation {
    const ALL: [Aggregation; 6] = [
        Aggregation::Avg,
        Aggregation::Sum,
        Aggregation::Min,
        Aggregation::Max,
        Aggregation::Last,
        Aggregation::Count,
    ];

    /// The word in rules.
    pub fn name(self) -> &'static str {
        match self {
            Aggregation::Avg => "avg",
            Aggregation::Sum => "sum",
            Aggregation::Min => "min",
            Aggregation::Max => "max",
            Aggregation::Last => "last",
            Aggregation::Count => "count",
        }
    }
}

/// Writes `90s`, `5m`, `1h30m`; below a second `250ms`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return if duration.is_zero() {
            "0s".into()
        } else {
            format!("{}ms", duration.as_millis())
        };
    }
    let mut text = String::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let count = match unit {
            "d" => seconds / length,
            "h" => seconds % 86_400 / length,
            "m" => seconds % 3_600 / length,
            _ => seconds % 60,
        };
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    text
}

/// Writes a number for people: whole ones whole, others with at most three decimals.
pub fn format_number(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e15 {
        return format!("{number:.0}");
    }
    if number.abs() < 0.001 || number.abs() >= 1e15 {
        return format!("{number:e}");
    }
    format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_string()
}

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

/// Says whether a text is a query of the search language on a table, and if not, why; [`super::engine::check_query`] is the
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
    let kinds = [("frequency", "frequency"), ("spike", "spike"), ("threshold", "threshold")];
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
    let condition = match kind {
        Some("frequency") => read_frequency(&mut fields, found),
        Some("spike") => read_spike(&mut fields, found),
        Some(_) => read_threshold(&mut fields, found),
        None => None,
    };
    let hold = fields.duration("for", found).unwrap_or_default();
    let every = fields.duration("every", found).unwrap_or(DEFAULT_EVERY);
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

#[cfg(test)]
mod tests;
