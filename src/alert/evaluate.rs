//! What an evaluation decides: pure functions from what was counted to the alert's next standing.
//!
//! ```text
//!  window(rule, now) ─▶ questions ─▶ Observation per group ─▶ judge ─▶ Verdict ─▶ step(previous, now) ─▶ Step
//! ```
//!
//! | standing | condition | next | told |
//! |---|---|---|---|
//! | inactive, resolved | met | pending; firing at once if the rule has no `for` | firing, unless within `realert` of the last |
//! | pending | met for `for` | firing | firing, unless within `realert` of the last |
//! | pending | not met | as before it (inactive) | – |
//! | firing | met | firing | firing again when `realert` is over |
//! | firing | not met for `resolve_after` | resolved | resolved, if the firing was told |
//! | any | unknown | unchanged | – |
//!
//! So between two notifications "firing" of one alert lies at least `realert`, flapping or not, and "resolved" is told
//! once for what was told as firing. Unknown means that the engine could not read all it had to, and what it did read
//! does not settle the matter: nobody is told that all is well because a disk was away.
//!
//! No I/O, no clock: `now` is an argument, so that replaying history gives the same answers.

use super::rule::{Condition, Direction, Rule, Source, format_duration, format_number};
use crate::model::TimeRange;

/// Where an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The condition is not met.
    #[default]
    Inactive,
    /// It is met, but not yet for long enough.
    Pending,
    /// It is met.
    Firing,
    /// It was met, fired, and is over.
    Resolved,
}

impl State {
    /// The word in the API, in rows and in notifications.
    pub fn name(self) -> &'static str {
        match self {
            State::Inactive => "inactive",
            State::Pending => "pending",
            State::Firing => "firing",
            State::Resolved => "resolved",
        }
    }
}

/// What an alert remembers between evaluations; times in nanoseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since_nanos: i64,
    /// When the condition was last met. Kept durably only when something else changes; see [`Standing::restored`].
    pub met_at_nanos: Option<i64>,
    /// When it last began to fire.
    pub fired_at_nanos: Option<i64>,
    /// When it was last resolved.
    pub resolved_at_nanos: Option<i64>,
    /// When "firing" was last told.
    pub notified_at_nanos: Option<i64>,
    /// Whether the last thing told was "firing", so that its end must be told too.
    pub announced: bool,
}

impl Standing {
    /// The standing after a restart at `now`. Until how long ago the condition was met is not known exactly, so a firing
    /// alert is taken to have been met just now: it is resolved `resolve_after` later at the earliest, never too soon.
    pub fn restored(mut self, now_nanos: i64) -> Self {
        if self.state == State::Firing {
            self.met_at_nanos = Some(self.met_at_nanos.unwrap_or(now_nanos).max(now_nanos));
        }
        self
    }
}

/// The window of one evaluation and, for spikes, the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What is counted.
    pub current: TimeRange,
    /// What it is compared with.
    pub reference: TimeRange,
}

/// The window by event time that ends at `now` minus the rule's delay, or minus the time after which rows of other nodes are
/// seen if that is longer.
pub fn window(rule: &Rule, now_nanos: i64, lag: std::time::Duration) -> Window {
    let length = nanos(rule.timeframe);
    let end = now_nanos.saturating_sub(nanos(rule.delay.max(lag)));
    let start = end.saturating_sub(length);
    let before = match rule.condition {
        Condition::Pattern { compare_with, .. } => nanos(compare_with),
        _ => length,
    };
    Window {
        current: TimeRange::new(start, end),
        reference: TimeRange::new(start.saturating_sub(before), start),
    }
}

/// A `Duration` as nanoseconds of the epoch's kind.
pub(crate) fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What was read for one group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// Rows in the window, or the metric's value; `None`: the metric has no points there.
    pub current: Option<f64>,
    /// Rows in the window before; only for spikes and patterns, and of patterns only where they are as the rule says.
    pub reference: Option<f64>,
    /// Whether the engine read all it had to; otherwise counts are lower bounds.
    pub complete: bool,
    /// Whether there were any rows in the table before the reference window; if not, it may have been cut short by the
    /// table's beginning and proves nothing.
    pub reference_filled: bool,
}

/// Whether the condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Met,
    /// It does not.
    NotMet,
    /// Not enough could be read to say.
    Unknown,
}

/// What one observation means under a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the condition holds.
    pub outcome: Outcome,
    /// The value that was compared.
    pub value: Option<f64>,
    /// What it was compared with.
    pub threshold: Option<f64>,
    /// `14 log records in 1m, limit 10`.
    pub text: String,
}

/// Compares an observation with the rule's condition.
pub fn judge(rule: &Rule, seen: &Observation) -> Verdict {
    let window = format_duration(rule.timeframe);
    let unit = match &rule.source {
        Source::Rows { table, .. } if *table == crate::model::Table::Spans => "matching spans",
        Source::Rows { .. } => "matching log records",
        Source::Metric { .. } => "",
    };
    let Some(value) = seen.current else {
        let (outcome, text) = if seen.complete {
            (Outcome::NotMet, format!("no points in {window}"))
        } else {
            (Outcome::Unknown, format!("no points in {window}, but not all could be read"))
        };
        let threshold = match rule.condition {
            Condition::Threshold { limit, .. } => Some(limit),
            _ => None,
        };
        return Verdict {
            outcome,
            value: None,
            threshold,
            text,
        };
    };
    let shown = format_number(value);
    match rule.condition {
        Condition::Frequency { num_events } => Verdict {
            outcome: settle(value >= num_events as f64, true, seen.complete),
            value: Some(value),
            threshold: Some(num_events as f64),
            text: format!("{shown} {unit} in {window}, limit {num_events}"),
        },
        Condition::Pattern { compare_with, num_events, .. } => {
            let before = format_duration(compare_with);
            let mut text = match seen.reference {
                Some(reference) => format!("{shown} {unit} in {window}, {} in the {before} before", format_number(reference)),
                None => format!("{shown} {unit} in {window}, or about as many as in the {before} before"),
            };
            // what was not read may hold the pattern
            let outcome = match (seen.reference.is_some(), seen.complete) {
                (_, false) => Outcome::Unknown,
                (is_met, true) if is_met && !seen.reference_filled => {
                    text.push_str(" (the earlier window may begin before the data does)");
                    Outcome::NotMet
                }
                (is_met, true) => settle(is_met, true, true),
            };
            Verdict {
                outcome,
                value: Some(value),
                threshold: Some(num_events as f64),
                text,
            }
        }
        Condition::Threshold { operator, limit } => {
            let subject = if unit.is_empty() { rule.query_text() } else { unit.to_string() };
            // a part of a metric's points proves nothing in either direction, a part of the rows proves "at least so many"
            let outcome = match rule.source {
                Source::Metric { .. } if !seen.complete => Outcome::Unknown,
                _ => settle(operator.holds(value, limit), !operator.looks_down(), seen.complete),
            };
            Verdict {
                outcome,
                value: Some(value),
                threshold: Some(limit),
                text: match rule.source {
                    Source::Metric { .. } => format!("{subject} is {shown} over {window}, limit {} {}", operator.sign(), format_number(limit)),
                    Source::Rows { .. } => format!("{shown} {subject} in {window}, limit {} {}", operator.sign(), format_number(limit)),
                },
            }
        }
        Condition::Spike {
            height,
            direction,
            threshold_ref,
            threshold_cur,
        } => judge_spike(value, seen, &window, unit, height, direction, (threshold_ref, threshold_cur)),
    }
}

/// ElastAlert's spike: both windows at or above their minimum, and the ratio at or above the height.
fn judge_spike(
    current: f64,
    seen: &Observation,
    window: &str,
    unit: &str,
    height: f64,
    direction: Direction,
    (threshold_ref, threshold_cur): (u64, u64),
) -> Verdict {
    let reference = seen.reference.unwrap_or(0.0);
    let up = matches!(direction, Direction::Up | Direction::Both) && current > 0.0 && current >= reference * height;
    let down = matches!(direction, Direction::Down | Direction::Both) && reference > 0.0 && current * height <= reference;
    // which limit to show: the one of the direction that matters
    let looks_down = direction == Direction::Down || (direction == Direction::Both && current < reference);
    let threshold = if looks_down { reference / height } else { reference * height };
    let mut text = format!(
        "{} {unit} in {window}, {} in the {window} before, limit {}",
        format_number(current),
        format_number(reference),
        format_number(threshold)
    );
    let mut met = up || down;
    if met && (current < threshold_cur as f64 || reference < threshold_ref as f64) {
        met = false;
        text.push_str(&format!(" (needs at least {threshold_cur} now and {threshold_ref} before)"));
    }
    if met && up && threshold_ref > 0 && !seen.reference_filled {
        met = false;
        text.push_str(" (the earlier window may begin before the data does)");
    }
    let outcome = if seen.complete {
        settle(met, true, true)
    } else {
        // a ratio of two lower bounds says nothing
        Outcome::Unknown
    };
    Verdict {
        outcome,
        value: Some(current),
        threshold: Some(threshold),
        text,
    }
}

/// With incomplete data a count is a lower bound: it proves "at least", it does not disprove it.
fn settle(met: bool, proven_by_more: bool, complete: bool) -> Outcome {
    match (met, complete) {
        (true, true) => Outcome::Met,
        (false, true) => Outcome::NotMet,
        (true, false) if proven_by_more => Outcome::Met,
        _ => Outcome::Unknown,
    }
}

/// What a notification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// It fires, or fires still.
    Firing,
    /// It is over.
    Resolved,
}

/// The outcome of one evaluation of one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The next standing.
    pub standing: Standing,
    /// Whether the state changed.
    pub changed: bool,
    /// What is to be told.
    pub tell: Option<Tell>,
    /// Why it was or was not told.
    pub reason: String,
}

/// Takes an alert one evaluation further.
pub fn step(rule: &Rule, previous: &Standing, outcome: Outcome, now_nanos: i64) -> Step {
    let mut standing = previous.clone();
    let (tell, reason) = match outcome {
        Outcome::Unknown => (None, "not all data could be read: the state is kept".to_string()),
        Outcome::Met => met(rule, &mut standing, now_nanos),
        Outcome::NotMet => not_met(rule, &mut standing, now_nanos),
    };
    let changed = standing.state != previous.state;
    if changed {
        standing.since_nanos = now_nanos;
    }
    Step {
        standing,
        changed,
        tell,
        reason,
    }
}

fn met(rule: &Rule, standing: &mut Standing, now: i64) -> (Option<Tell>, String) {
    standing.met_at_nanos = Some(now);
    match standing.state {
        State::Inactive | State::Resolved if !rule.hold.is_zero() => {
            standing.state = State::Pending;
            return (None, format!("the condition must hold for {}", format_duration(rule.hold)));
        }
        State::Pending => {
            let held = now.saturating_sub(standing.since_nanos);
            if held < nanos(rule.hold) {
                let held = format_duration(std::time::Duration::from_secs(held.max(0).unsigned_abs() / 1_000_000_000));
                return (None, format!("the condition holds for {held} of {}", format_duration(rule.hold)));
            }
        }
        _ => {}
    }
    let began = standing.state != State::Firing;
    if began {
        standing.state = State::Firing;
        standing.fired_at_nanos = Some(now);
    }
    let last = standing.notified_at_nanos;
    let realert = format_duration(rule.realert);
    match last {
        Some(last) if now.saturating_sub(last) < nanos(rule.realert) => (None, format!("told less than {realert} ago")),
        _ => {
            standing.notified_at_nanos = Some(now);
            standing.announced = true;
            let reason = match last {
                _ if began => "the condition is met".to_string(),
                _ => format!("still firing after {realert}"),
            };
            (Some(Tell::Firing), reason)
        }
    }
}

fn not_met(rule: &Rule, standing: &mut Standing, now: i64) -> (Option<Tell>, String) {
    match standing.state {
        State::Inactive | State::Resolved => (None, "the condition is not met".to_string()),
        State::Pending => {
            // what fired before and was resolved is inactive now: it is the new firing that did not come
            standing.state = State::Inactive;
            (None, "the condition is no longer met".to_string())
        }
        State::Firing => {
            let gone = now.saturating_sub(standing.met_at_nanos.unwrap_or(now));
            if gone < nanos(rule.resolve_after) {
                return (None, format!("the condition must be gone for {}", format_duration(rule.resolve_after)));
            }
            standing.state = State::Resolved;
            standing.resolved_at_nanos = Some(now);
            let announced = std::mem::take(&mut standing.announced);
            match (announced, rule.notify_resolved) {
                (true, true) => (Some(Tell::Resolved), "the condition is no longer met".to_string()),
                (true, false) => (None, "the rule does not tell the end".to_string()),
                (false, _) => (None, "the firing was not told, so its end is not".to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
