//! Evaluations as rows of the `alerts` table.
//!
//! Not every evaluation becomes a row: a rule evaluated every five seconds would write 17,280 rows a day and group. A
//! row is written when an alert's state changes, when something is told, and else once a minute for alerts that are not
//! inactive and for the group with the highest value, so that the value of a quiet rule can be charted too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::error::ArrowError;

use super::evaluate::State;
use crate::model::schema::memory_schema;
use crate::model::{Rows, Table, TimeRange};

/// Time between two rows of an alert whose state does not change.
pub const ROW_EVERY_NANOS: i64 = 60_000_000_000;

/// One evaluation of one alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// When.
    pub time_unix_nano: i64,
    /// The rule's name.
    pub rule: String,
    /// The group.
    pub group_key: String,
    /// The state after it.
    pub state: State,
    /// What was compared.
    pub value: Option<f64>,
    /// With what.
    pub threshold: Option<f64>,
    /// What was counted.
    pub window: TimeRange,
    /// Whether something was told.
    pub notified: bool,
    /// The verdict, and why it was or was not told.
    pub reason: String,
    /// Path of the page with the rows that were counted.
    pub link: Option<String>,
}

/// A boxed future, so that the sink can be a trait object.
pub type SinkFuture<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Takes rows of the `alerts` table; the write path has one.
pub trait EvaluationSink: Send + Sync + 'static {
    /// Writes the rows. What is refused is lost and counted: the next minute brings more.
    fn write(&self, rows: Rows) -> SinkFuture<'_>;
}

/// A sink that forgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl EvaluationSink for NoSink {
    fn write(&self, _rows: Rows) -> SinkFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The rows, in the schema of [`Table::Alerts`].
pub fn rows(evaluations: &[Evaluation]) -> Result<Rows, ArrowError> {
    let micros = |nanos: fn(&Evaluation) -> i64| {
        let values = evaluations.iter().map(|e| nanos(e).div_euclid(1_000));
        Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC")) as ArrayRef
    };
    let text = |text: fn(&Evaluation) -> Option<&str>| Arc::new(evaluations.iter().map(text).collect::<StringArray>()) as ArrayRef;
    let double = |number: fn(&Evaluation) -> Option<f64>| Arc::new(evaluations.iter().map(number).collect::<Float64Array>()) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        micros(|e| e.time_unix_nano),
        Arc::new(Int64Array::from_iter_values(evaluations.iter().map(|e| e.time_unix_nano))),
        text(|e| Some(&e.rule)),
        text(|e| Some(&e.group_key)),
        text(|e| Some(e.state.name())),
        double(|e| e.value),
        double(|e| e.threshold),
        micros(|e| e.window.start_nanos),
        micros(|e| e.window.end_nanos),
        Arc::new(evaluations.iter().map(|e| Some(e.notified)).collect::<BooleanArray>()),
        text(|e| Some(&e.reason)),
        text(|e| e.link.as_deref()),
        Arc::new(Int64Array::from(vec![0i64; evaluations.len()])),
    ];
    Rows::try_new(Table::Alerts, RecordBatch::try_new(memory_schema(Table::Alerts), columns)?, Arc::from([]))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn evaluations_fit_the_table() {
        let evaluation = Evaluation {
            time_unix_nano: 1_500,
            rule: "r".into(),
            group_key: "service=a".into(),
            state: State::Firing,
            value: Some(1.5),
            threshold: None,
            window: TimeRange::new(-1, 1_500),
            notified: true,
            reason: "because".into(),
            link: None,
        };
        let rows = rows(&[evaluation.clone(), evaluation]).expect("rows");
        assert_eq!((rows.table(), rows.len()), (Table::Alerts, 2));
        assert_eq!(rows.batch().column_by_name("state").expect("a column").as_string::<i32>().value(0), "firing");
        assert_eq!(rows.time_bounds(), Some((1_500, 1_500)));
    }
}
