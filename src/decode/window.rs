//! The times that are taken: every hour of event time that a flush meets becomes a block of its own, so a client that
//! sends arbitrary times would make a block of each row.

use std::collections::HashMap;

use arrow::array::{Array, UInt32Array};
use arrow::error::ArrowError;

use super::{Context, Decoded, Reason, Rejections, Sender};
use crate::model::Rows;

const DAY_NANOS: i64 = 24 * 3_600_000_000_000;
/// How far a sender's clock may be ahead (2 hours), where times are bounded at all.
pub const MAX_AHEAD_NANOS: i64 = 2 * 3_600_000_000_000;

/// Which times a request may have; both ends inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    oldest_nanos: i64,
    newest_nanos: i64,
    days: i32,
}

impl Window {
    /// `None`: any time.
    pub(super) fn of(context: &Context) -> Option<Window> {
        (context.retention_days > 0).then(|| Window {
            oldest_nanos: context
                .received_at_nanos
                .saturating_sub(i64::from(context.retention_days).saturating_mul(DAY_NANOS)),
            newest_nanos: context.received_at_nanos.saturating_add(MAX_AHEAD_NANOS),
            days: context.retention_days,
        })
    }

    /// Why a record of that time is not taken, and the words for its sender.
    pub(super) fn objection(&self, time_nanos: i64) -> Option<(Reason, String)> {
        if time_nanos < self.oldest_nanos {
            return Some((Reason::TooOld, format!("older than {} days (ingest.max_age_days)", self.days)));
        }
        let is_ahead = time_nanos > self.newest_nanos;
        is_ahead.then(|| (Reason::TooNew, "more than 2 hours in the future".into()))
    }

    fn holds(&self, rows: &Rows) -> bool {
        rows.time_bounds().is_none_or(|(min, max)| self.oldest_nanos <= min && max <= self.newest_nanos)
    }
}

/// Leaves out the rows outside the window, and counts those that are records.
pub(super) fn keep_inside(mut decoded: Decoded, context: &Context) -> Result<Decoded, ArrowError> {
    let Some(window) = Window::of(context) else { return Ok(decoded) };
    for rows in &mut decoded.batch.rows {
        // series stand at a time of their day, which may be before their points
        let window = Window {
            oldest_nanos: if rows.table().holds_records() {
                window.oldest_nanos
            } else {
                window.oldest_nanos.saturating_sub(DAY_NANOS)
            },
            ..window
        };
        if window.holds(rows) {
            continue;
        }
        let mut kept = Vec::with_capacity(rows.len());
        // of rows with contexts, the sender of each context that has an objection
        let mut senders: HashMap<i32, Sender> = HashMap::new();
        let mut rejections = Rejections::default();
        for (row, time_nanos) in (0u32..).zip(rows.times().values()) {
            let Some((reason, message)) = window.objection(*time_nanos) else {
                kept.push(row);
                continue;
            };
            let row = row as usize;
            match rows.ordinals() {
                Some(ordinals) => {
                    let sender = senders.entry(ordinals.value(row)).or_insert_with(|| Sender::of_row(rows, row));
                    rejections.add(Some(sender), 1, reason, || message);
                }
                None => rejections.add(Some(&Sender::of_row(rows, row)), 1, reason, || message),
            }
        }
        if rows.table().holds_records() {
            decoded.rejected.extend(rejections.finish());
        }
        let kept = UInt32Array::from(kept);
        *rows = rows.take(&kept as &dyn Array)?;
    }
    decoded.batch.rows.retain(|rows| !rows.is_empty());
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, decode};
    use super::*;
    use crate::model::Table;

    const NOW: i64 = 1_795_323_600_000_000_000;
    const HOUR: i64 = 3_600_000_000_000;

    fn context(retention_days: i32) -> Context {
        Context {
            received_at_nanos: NOW,
            retention_days,
        }
    }

    fn logs(times: &[i64], days: i32) -> (usize, Vec<(Reason, u64)>) {
        let records: Vec<_> = times
            .iter()
            .map(|nanos| serde_json::json!({"timeUnixNano": nanos.to_string(), "body": {"stringValue": "x"}}))
            .collect();
        let body = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).to_string();
        let decoded = decode(Kind::OtlpLogsJson, body.as_bytes(), &context(days)).expect("decodes");
        let rejected = decoded.rejected.iter().map(|rejected| (rejected.reason, rejected.count)).collect();
        (decoded.batch.n_rows(), rejected)
    }

    #[test]
    fn records_outside_the_window_are_rejected_with_their_reason() {
        let day = 24 * HOUR;
        let times = [NOW - 31 * day, 1, NOW - 30 * day, NOW, NOW + 2 * HOUR, NOW + 2 * HOUR + 1];
        assert_eq!(logs(&times, 30), (3, vec![(Reason::TooOld, 2), (Reason::TooNew, 1)]));
        assert_eq!(logs(&times, 0), (6, vec![]), "without a bound any time is taken");
        assert_eq!(logs(&times[2..5], 30), (3, vec![]));
        assert_eq!(logs(&times[..2], 30), (0, vec![(Reason::TooOld, 2)]));
    }

    #[test]
    fn a_point_inside_keeps_its_series_and_one_outside_takes_its_own_along() {
        let gauge = |name: &str, nanos: i64| {
            let point = serde_json::json!({"timeUnixNano": nanos.to_string(), "asDouble": 1.0});
            serde_json::json!({"name": name, "gauge": {"dataPoints": [point]}})
        };
        let oldest = NOW - 30 * 24 * HOUR;
        let metrics = [gauge("edge", oldest), gauge("old", oldest - 25 * HOUR), gauge("now", NOW)];
        let body = serde_json::json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).to_string();
        let decoded = decode(Kind::OtlpMetricsJson, body.as_bytes(), &context(30)).expect("decodes");
        let n_rows = |table: Table| decoded.batch.rows.iter().filter(|rows| rows.table() == table).map(Rows::len).sum::<usize>();
        assert_eq!((n_rows(Table::MetricPoints), n_rows(Table::MetricSeries)), (2, 2));
        assert_eq!(decoded.rejected.len(), 1);
        assert_eq!((decoded.rejected[0].reason, decoded.rejected[0].count), (Reason::TooOld, 1));
    }

    #[test]
    fn xray_documents_outside_the_window_are_named() {
        let document = |seconds: i64| {
            format!(
                r#"{{"name":"n","id":"0000000000000001","trace_id":"1-{seconds:08x}-000000000000000000000001","start_time":{seconds},"end_time":{seconds}}}"#
            )
        };
        let now = NOW / 1_000_000_000;
        let documents = [document(now), document(now - 31 * 86_400), document(now + 3 * 3_600)];
        let body = serde_json::to_string(&documents).expect("JSON");
        let decoded = decode(Kind::XraySegments, body.as_bytes(), &context(30)).expect("decodes");
        assert_eq!(decoded.batch.n_rows(), 1);
        let rejected: Vec<_> = decoded.rejected.iter().map(|rejected| (rejected.reason, rejected.index)).collect();
        assert_eq!(rejected, [(Reason::TooOld, Some(1)), (Reason::TooNew, Some(2))]);
        assert_eq!(decode(Kind::XraySegments, body.as_bytes(), &context(0)).expect("decodes").batch.n_rows(), 3);
    }
}
