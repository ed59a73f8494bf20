//! What an evaluation asks, and how the answers become one [`Observation`] a group.
//!
//! Asks the query engine through [`Questions`], so that the rest of this module can be tested without one. Rows are
//! counted by the rule's groups; patterns are compared by the engine, and each that is as the rule says is a group; metrics are read by one SQL statement over `metric_points` and `metric_series`.
//!
//! A group that is known (pending or firing) but not in the answer has counted zero. Rules that look down (spikes that
//! may go down, thresholds below) also ask for the groups of the window before, so that a group that fell silent is seen.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use super::evaluate::{Observation, Window};
use super::rule::{Aggregation, Condition, Direction, PATTERN_GROUP, Rule, Source};
use super::state::Group;
use crate::model::{Table, TimeRange};
use crate::query::patterns::State as PatternState;

/// Groups that one evaluation looks at; more are not evaluated, and the rule says so.
pub const MAX_GROUPS: usize = 1_000;

/// A question that could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct QuestionError(pub String);

/// Rows by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Values of the fields (empty text: the row has none), and how many rows; most first.
    pub groups: Vec<(Vec<String>, f64)>,
    /// Whether all rows could be read.
    pub complete: bool,
    /// Whether there are more groups than were asked for.
    pub truncated: bool,
}

/// A pattern of log records that is not as before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PatternCount {
    /// The pattern IDs of its rows, most rows first.
    pub ids: Vec<i64>,
    /// What they have in common.
    pub template: String,
    /// Rows.
    pub count: u64,
    /// Rows before.
    pub before: u64,
}

/// Patterns by which a time differs from the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PatternCounts {
    /// Most rows first.
    pub patterns: Vec<PatternCount>,
    /// Whether all rows could be read, and all texts told apart.
    pub complete: bool,
    /// Whether there are more than were asked for.
    pub truncated: bool,
}

/// Rows of a SQL statement, as the API shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlRows {
    /// By row, then column.
    pub rows: Vec<Vec<Value>>,
    /// Whether all rows could be read.
    pub complete: bool,
}

/// What the query engine answers. Ranges are of event time.
#[async_trait]
pub trait Questions: Send + Sync + 'static {
    /// How many rows match, by fields; without fields, one group with the total.
    async fn count_by(&self, table: Table, query: &str, range: TimeRange, fields: &[String], limit: usize) -> Result<Counts, QuestionError>;

    /// The patterns of log records that stand in such a way to those of a time before.
    async fn patterns(&self, query: &str, window: &Window, states: &[PatternState], limit: usize) -> Result<PatternCounts, QuestionError>;

    /// The newest rows that match, as the API shows them.
    async fn samples(&self, table: Table, query: &str, range: TimeRange, limit: usize) -> Result<Vec<Value>, QuestionError>;

    /// A statement's rows.
    async fn sql(&self, statement: &str, limit: usize) -> Result<SqlRows, QuestionError>;
}

/// What was read for a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// By group; one entry with an empty group for a rule without groups.
    pub groups: BTreeMap<Group, Observation>,
    /// Whether there were more than [`MAX_GROUPS`].
    pub truncated: bool,
}

/// Asks for everything that one evaluation of `rule` needs. `known` are the groups of its pending and firing alerts.
pub async fn observe(questions: &dyn Questions, rule: &Rule, window: &Window, known: &[Group]) -> Result<Observed, QuestionError> {
    match &rule.source {
        Source::Rows { query, .. } if matches!(rule.condition, Condition::Pattern { .. }) => observe_patterns(questions, rule, query, window, known).await,
        Source::Rows { table, query } => observe_rows(questions, rule, *table, query, window, known).await,
        Source::Metric { name, aggregation, filter } => {
            let statement = metric_statement(name, *aggregation, filter, &rule.group_by, window.current);
            let answer = questions.sql(&statement, MAX_GROUPS + 1).await?;
            let mut observed = Observed {
                truncated: answer.rows.len() > MAX_GROUPS,
                ..Observed::default()
            };
            let complete = answer.complete;
            for row in answer.rows.iter().take(MAX_GROUPS) {
                let (value, keys) = row.split_last().ok_or_else(|| QuestionError("a row without columns".into()))?;
                let group = group_of(&rule.group_by, keys.iter().map(|key| key.as_str().unwrap_or_default().to_string()));
                let observation = Observation {
                    current: number(value),
                    complete,
                    ..Observation::default()
                };
                observed.groups.insert(group, observation);
            }
            let silent = Observation {
                complete: complete && !observed.truncated,
                ..Observation::default()
            };
            add_known(&mut observed, rule, known, silent);
            Ok(observed)
        }
    }
}

/// Longest template of an alert.
const MAX_TEMPLATE_CHARS: usize = 200;
/// Pattern IDs of an alert.
const MAX_PATTERN_IDS: usize = 20;

async fn observe_patterns(questions: &dyn Questions, rule: &Rule, query: &str, window: &Window, known: &[Group]) -> Result<Observed, QuestionError> {
    let Condition::Pattern { states, num_events, .. } = rule.condition else {
        return Err(QuestionError("a rule on patterns without its condition".into()));
    };
    let found = questions.patterns(query, window, &states.named(), MAX_GROUPS).await?;
    // of a table that has nothing before the reference window, everything is new
    let before = TimeRange::new(i64::MIN, window.reference.start_nanos);
    let reference_filled = found.patterns.is_empty() || !questions.samples(Table::Logs, "", before, 1).await?.is_empty();
    let mut observed = Observed {
        truncated: found.truncated,
        ..Observed::default()
    };
    for pattern in found.patterns.iter().filter(|pattern| pattern.count.max(pattern.before) >= num_events) {
        let observation = Observation {
            current: Some(pattern.count as f64),
            reference: Some(pattern.before as f64),
            complete: found.complete,
            reference_filled,
        };
        // a pattern becomes more general as rows come, and stays the same alert
        let is_it = |group: &&Group| ids_of(group).any(|id| pattern.ids.contains(&id));
        let group = match known.iter().find(is_it) {
            Some(known) => known.clone(),
            None => {
                let ids: Vec<String> = pattern.ids.iter().take(MAX_PATTERN_IDS).map(i64::to_string).collect();
                let template = pattern.template.chars().take(MAX_TEMPLATE_CHARS).collect();
                group_of(&rule.group_by, [ids.join(" "), template].into_iter())
            }
        };
        observed.groups.entry(group).or_insert(observation);
    }
    let silent = Observation {
        current: Some(0.0),
        reference: None,
        complete: found.complete && !found.truncated,
        reference_filled,
    };
    add_known(&mut observed, rule, known, silent);
    Ok(observed)
}

/// The pattern IDs of an alert.
fn ids_of(group: &[(String, String)]) -> impl Iterator<Item = i64> {
    let ids = group.iter().find(|(field, _)| field == PATTERN_GROUP[0]).map_or("", |(_, ids)| ids);
    ids.split(' ').filter_map(|id| id.parse().ok())
}

async fn observe_rows(questions: &dyn Questions, rule: &Rule, table: Table, query: &str, window: &Window, known: &[Group]) -> Result<Observed, QuestionError> {
    let current = questions.count_by(table, query, window.current, &rule.group_by, MAX_GROUPS).await?;
    let (is_spike, looks_down, minimum) = match rule.condition {
        Condition::Spike { direction, threshold_ref, .. } => (true, direction != Direction::Up, threshold_ref),
        Condition::Threshold { operator, .. } => (false, operator.looks_down(), 0),
        Condition::Frequency { .. } | Condition::Pattern { .. } => (false, false, 0),
    };
    let reference = if is_spike || (looks_down && !rule.group_by.is_empty()) {
        Some(questions.count_by(table, query, window.reference, &rule.group_by, MAX_GROUPS).await?)
    } else {
        None
    };
    let reference_filled = if is_spike && minimum > 0 {
        let before = TimeRange::new(i64::MIN, window.reference.start_nanos);
        !questions.samples(table, "", before, 1).await?.is_empty()
    } else {
        true
    };
    let reference_counts = reference.as_ref().filter(|_| is_spike);
    let complete = current.complete && reference.as_ref().is_none_or(|counts| counts.complete);
    let truncated = current.truncated || reference.as_ref().is_some_and(|counts| counts.truncated);
    let zero = Observation {
        current: Some(0.0),
        reference: is_spike.then_some(0.0),
        // a group may be missing from a cut list
        complete: complete && !truncated,
        reference_filled,
    };
    let mut observed = Observed {
        truncated,
        ..Observed::default()
    };
    for (values, count) in &current.groups {
        let observation = observed.groups.entry(group_of(&rule.group_by, values.iter().cloned())).or_insert(zero);
        observation.current = Some(*count);
        observation.complete = complete;
    }
    if let Some(counts) = &reference {
        for (values, count) in &counts.groups {
            let observation = observed.groups.entry(group_of(&rule.group_by, values.iter().cloned())).or_insert(zero);
            if reference_counts.is_some() {
                observation.reference = Some(*count);
            }
        }
    }
    add_known(&mut observed, rule, known, zero);
    Ok(observed)
}

/// Groups that are not in the answer: those with an alert, and the one group of a rule without groups.
fn add_known(observed: &mut Observed, rule: &Rule, known: &[Group], silent: Observation) {
    let fields_fit = |group: &&Group| group.iter().map(|(field, _)| field).eq(&rule.group_by);
    for group in known.iter().filter(fields_fit) {
        observed.groups.entry(group.clone()).or_insert(silent);
    }
    if rule.group_by.is_empty() {
        observed.groups.entry(Group::new()).or_insert(silent);
    }
}

fn group_of(fields: &[String], values: impl Iterator<Item = String>) -> Group {
    fields.iter().cloned().zip(values).collect()
}

/// A number as SQL answers write it: NaN, infinities and 64-bit integers are text.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The rule's query narrowed to one group, in the search language; what a person opens to see the rows.
pub fn group_query(query: &str, group: &[(String, String)]) -> String {
    let query = query.trim();
    let mut parts = Vec::new();
    if !query.is_empty() && query != "*" {
        parts.push(if group.is_empty() { query.to_string() } else { format!("({query})") });
    }
    for (field, value) in group {
        if field == PATTERN_GROUP[1] && ids_of(group).next().is_some() {
            // in words what the IDs say
            continue;
        }
        parts.push(match value.as_str() {
            ids if field == PATTERN_GROUP[0] && ids.contains(' ') => {
                let any: Vec<String> = ids_of(group).map(|id| format!("{field}:\"{id}\"")).collect();
                format!("({})", any.join(" OR "))
            }
            "" => format!("NOT {field}:*"),
            value => format!("{field}:\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
        });
    }
    if parts.is_empty() { "*".into() } else { parts.join(" AND ") }
}

/// Text as a SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The SQL expression for an attribute of a metric series.
fn attribute(name: &str) -> String {
    match name {
        "service" | "service_name" | "service.name" => "service_name".to_string(),
        name => {
            let key = literal(name);
            format!("coalesce(attributes[{key}], resource_attributes[{key}])")
        }
    }
}

/// One row a group: its fields as text, then the value as a double.
fn metric_statement(name: &str, aggregation: Aggregation, filter: &[(String, String)], group_by: &[String], range: TimeRange) -> String {
    let name = literal(name);
    let value = "coalesce(value, CAST(value_int AS DOUBLE))";
    let aggregate = match aggregation {
        Aggregation::Avg => "avg(v)",
        Aggregation::Sum => "sum(v)",
        Aggregation::Min => "min(v)",
        Aggregation::Max => "max(v)",
        Aggregation::Last => "last_value(v ORDER BY t)",
        Aggregation::Count => "CAST(count(*) AS DOUBLE)",
    };
    let points = format!(
        "SELECT series_id AS id, time_unix_nano AS t, {value} AS v FROM metric_points \
         WHERE metric_name = {name} AND time_unix_nano >= {} AND time_unix_nano < {} AND {value} IS NOT NULL",
        range.start_nanos, range.end_nanos
    );
    if filter.is_empty() && group_by.is_empty() {
        return format!("SELECT {aggregate} AS v FROM ({points})");
    }
    let keys: Vec<String> = (0..group_by.len()).map(|i| format!("g{i}")).collect();
    let columns: String = group_by
        .iter()
        .zip(&keys)
        .map(|(field, key)| format!(", {} AS {key}", attribute(field)))
        .collect();
    let conditions: String = filter
        .iter()
        .map(|(key, value)| format!(" AND {} = {}", attribute(key), literal(value)))
        .collect();
    // a series has one row a day and flush
    let series = format!("SELECT DISTINCT series_id{columns} FROM metric_series WHERE metric_name = {name}{conditions}");
    let selected: String = keys.iter().map(|key| format!("{key}, ")).collect();
    let grouping = if keys.is_empty() {
        String::new()
    } else {
        format!(" GROUP BY {}", keys.join(", "))
    };
    format!("SELECT {selected}{aggregate} AS v FROM ({points}) AS p JOIN ({series}) AS s ON p.id = s.series_id{grouping}")
}

#[cfg(test)]
mod tests;
