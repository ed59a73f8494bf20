//! The door: calls of a time, of traces that a filter lets through, or of some traces.

use std::sync::Arc;

use super::assembler::{Assembler, Report};
use super::calls::{Calls, MINUTE_NANOS};
use super::lake::calls_of_table;
use super::reread::{calls_of_spans, calls_of_traces, whole_minutes};
use crate::model::{TimeRange, TraceId};
use crate::query::xray::Expression;
use crate::query::{self, Coverage, Engine, ProblemKind};

/// Minutes that are told apart in a graph; of longer times, so many parts of them.
const MAX_PERIODS: i64 = 60;

/// Calls, and what they rest on.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was called.
    pub calls: Calls,
    /// The whole minutes looked at.
    pub range: TimeRange,
    /// What it rests on.
    pub coverage: Coverage,
}

/// Answers who called whom. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Graphs {
    engine: Engine,
    assembler: Option<Arc<Assembler>>,
}

impl Graphs {
    /// Reads through `engine`; the tables too, if `assembler` keeps them.
    pub fn new(engine: Engine, assembler: Option<Arc<Assembler>>) -> Graphs {
        Graphs { engine, assembler }
    }

    /// How the tables are kept; `None` if they are not.
    pub fn report(&self) -> Option<Report> {
        self.assembler.as_ref().map(|assembler| assembler.report())
    }

    /// The calls of a time; of more than an hour, their minutes are rounded down to parts of it.
    pub async fn calls(&self, range: TimeRange) -> query::Result<Told> {
        let range = whole_minutes(range);
        let n_minutes = range.end_nanos.saturating_sub(range.start_nanos) / MINUTE_NANOS;
        let minutes = (n_minutes.saturating_add(MAX_PERIODS - 1) / MAX_PERIODS).max(1);
        self.calls_every(range, minutes.saturating_mul(MINUTE_NANOS)).await
    }

    /// The calls of a time, their minutes rounded down to multiples of a period, which is one of a minute.
    pub async fn calls_every(&self, range: TimeRange, period_nanos: i64) -> query::Result<Told> {
        let range = whole_minutes(range);
        let mut behind = None;
        let since_nanos = match &self.assembler {
            Some(assembler) => match assembler.freshen().await {
                Ok(since_nanos) => since_nanos,
                // what was put together before is there all the same
                Err(error) => {
                    let since_nanos = assembler.since_nanos().await;
                    behind = Some(error.clone());
                    since_nanos.ok_or(query::Error::Unreachable(error))?
                }
            },
            None => i64::MAX,
        };
        if range.start_nanos < since_nanos {
            return calls_of_spans(&self.engine, range, &Expression::All).await;
        }
        match calls_of_table(&self.engine, range, period_nanos).await? {
            Some((calls, mut coverage)) => {
                if let Some(error) = behind {
                    coverage.incomplete(
                        ProblemKind::Unreachable,
                        "traces that came lately",
                        format!("they could not be put together: {error}"),
                    );
                }
                Ok(Told { calls, range, coverage })
            }
            None => Err(query::Error::BadRequest {
                message: "there are too many services, operations and times for one answer".into(),
                hint: Some("ask for a shorter time".into()),
            }),
        }
    }

    /// The calls, in a time, of traces that a filter lets through: read from their spans.
    pub async fn calls_of_spans(&self, range: TimeRange, filter: &Expression) -> query::Result<Told> {
        calls_of_spans(&self.engine, range, filter).await
    }

    /// The calls of some traces, whole; `None` if there is nothing of any.
    pub async fn calls_of_traces(&self, ids: &[TraceId]) -> query::Result<Option<Told>> {
        calls_of_traces(&self.engine, ids).await
    }
}
