//! A rule: what to count, when that is bad, and who is told. Read from one YAML file a rule.
//!
//! In: the text of a file. Out: a [`Rule`] that is whole and checked, or [`Mistakes`], *all* of them, each with its file
//! and field; unknown keys are mistakes. Nothing here asks the clock or the engine.
//!
//! The words are ElastAlert 2's where it has them (`num_events`, `timeframe`, `query_key`, `spike_height`, `threshold_ref`,
//! `threshold_cur`, `realert`) and Prometheus' for the rest (`for`, pending, firing, resolved). Spans of time are written
//! `90s`, `5m`, `1h30m`, or as ElastAlert does, `{minutes: 5}`.

mod read;

use std::time::Duration;

use crate::model::Table;
use crate::query::patterns::State as PatternState;

pub use read::{CheckQuery, Mistake, Mistakes, load, parse};

/// How often a rule is evaluated unless it says so.
pub const DEFAULT_EVERY: Duration = Duration::from_secs(5);
/// A rule is evaluated at most this often: the engine has other askers.
pub const MIN_EVERY: Duration = Duration::from_secs(1);
/// Time between two notifications of one alert while it keeps firing.
pub const DEFAULT_REALERT: Duration = Duration::from_secs(300);
/// The time that patterns are compared with, unless a rule says so.
pub const DEFAULT_COMPARE_WITH: Duration = Duration::from_secs(86_400);
/// How often a rule on patterns is evaluated unless it says so: it reads that longer time again each time.
pub const DEFAULT_PATTERN_EVERY: Duration = Duration::from_secs(60);
/// What the alerts of a rule on patterns are about: the pattern IDs of its rows, and the text they have in common.
pub const PATTERN_GROUP: [&str; 2] = ["pattern_id", "pattern"];
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
    /// Log patterns that a time before did not have, or had less often, or still had.
    Pattern {
        /// Which of them, in what way.
        states: PatternStates,
        /// Length of the time before.
        compare_with: Duration,
        /// Rows that the pattern must have at least; of a vanished one, before.
        num_events: u64,
    },
    /// A count or metric against a limit.
    Threshold {
        /// How they are compared.
        operator: Operator,
        /// The limit.
        limit: f64,
    },
}

/// Ways in which a pattern may differ from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternStates {
    /// There was none.
    pub new: bool,
    /// There were much fewer.
    pub surging: bool,
    /// There is none any more.
    pub vanished: bool,
}

impl PatternStates {
    /// Those that are meant.
    pub fn named(self) -> Vec<PatternState> {
        let all = [
            (PatternState::New, self.new),
            (PatternState::Surging, self.surging),
            (PatternState::Vanished, self.vanished),
        ];
        all.into_iter().filter(|(_, is_meant)| *is_meant).map(|(state, _)| state).collect()
    }
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
    /// `frequency`, `spike`, `pattern` or `threshold`.
    pub fn kind(&self) -> &'static str {
        match self.condition {
            Condition::Frequency { .. } => "frequency",
            Condition::Spike { .. } => "spike",
            Condition::Pattern { .. } => "pattern",
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
            Condition::Pattern {
                states,
                compare_with,
                num_events,
            } => {
                let names: Vec<&str> = states.named().into_iter().map(PatternState::name).collect();
                format!(
                    "a pattern of at least {num_events} {what} in {window} is {}, compared with the {} before",
                    names.join(" or "),
                    format_duration(compare_with)
                )
            }
            Condition::Threshold { operator, limit } => {
                let limit = format_number(limit);
                let subject = if what.is_empty() { self.query_text() } else { format!("number of {what}") };
                format!("{subject} {} {limit} over {window}", operator.sign())
            }
        };
        if !self.group_by.is_empty() && !matches!(self.condition, Condition::Pattern { .. }) {
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

#[cfg(test)]
mod tests;
