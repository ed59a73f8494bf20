//! The door: calls of a time, of traces that a filter lets through, or of some traces.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assembler::{Assembler, Report};
use super::calls::Calls;
use super::graph::{ServiceGraph, Statistics};
use super::reread::{calls_of_spans, calls_of_traces, whole_minutes};
use super::table::{Entity, graph_of_table, series_of_table};
use crate::model::{TimeRange, TraceId};
use crate::query::xray::Expression;
use crate::query::{self, Coverage, Engine, ProblemKind};

/// What was found, and what it rests on.
#[derive(Clone, Debug)]
pub struct Told<T> {
    /// A graph, for one.
    pub found: T,
    /// The whole minutes looked at.
    pub range: TimeRange,
    /// What it rests on.
    pub coverage: Coverage,
}

impl<T> Told<T> {
    /// The same, of which something else is made.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Told<U> {
        Told {
            found: make(self.found),
            range: self.range,
            coverage: self.coverage,
        }
    }
}

/// Sums of each period in which there are requests, by its number since the epoch.
pub type Series = BTreeMap<i64, Statistics>;

/// Where a time's calls are read.
enum Source {
    Spans,
    /// The tables; and why they may lack what came lately.
    Tables(Option<String>),
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

    /// The services and calls of a time, of traces that a filter lets through; with the operations of services, or without.
    pub async fn graph(&self, range: TimeRange, filter: &Expression, with_operations: bool) -> query::Result<Told<ServiceGraph>> {
        let range = whole_minutes(range);
        let Source::Tables(behind) = self.source(range, filter).await? else {
            let told = calls_of_spans(&self.engine, range, filter, filter).await?;
            return Ok(told.map(|calls| ServiceGraph::of(&calls)));
        };
        let found = graph_of_table(&self.engine, range, with_operations).await?;
        told(found, range, behind)
    }

    /// Requests of a time, of traces that a filter lets through, by periods of so many nanoseconds, a multiple of a minute's.
    pub async fn series(&self, range: TimeRange, period_nanos: i64, entity: &Entity, filter: &Expression) -> query::Result<Told<Series>> {
        let range = whole_minutes(range);
        let Source::Tables(behind) = self.source(range, filter).await? else {
            let asked_of = Expression::And(vec![filter.clone(), entity.traces()]);
            let told = calls_of_spans(&self.engine, range, &asked_of, filter).await?;
            return Ok(told.map(|calls| entity.series_of(&calls, period_nanos)));
        };
        let found = series_of_table(&self.engine, range, period_nanos, entity).await?;
        told(found, range, behind)
    }

    async fn source(&self, range: TimeRange, filter: &Expression) -> query::Result<Source> {
        let Some(assembler) = self.assembler.as_ref().filter(|_| *filter == Expression::All) else {
            return Ok(Source::Spans);
        };
        let (since_nanos, behind) = match assembler.freshen().await {
            Ok(since_nanos) => (since_nanos, None),
            // what was put together before is there all the same
            Err(error) => match assembler.since_nanos().await {
                Some(since_nanos) => (since_nanos, Some(error)),
                None => return Err(query::Error::Unreachable(error)),
            },
        };
        Ok(match range.start_nanos < since_nanos {
            true => Source::Spans,
            false => Source::Tables(behind),
        })
    }

    /// The calls of some traces, whole; `None` if there is nothing of any.
    pub async fn calls_of_traces(&self, ids: &[TraceId]) -> query::Result<Option<Told<Calls>>> {
        calls_of_traces(&self.engine, ids).await
    }
}

fn told<T>(found: Option<(T, Coverage)>, range: TimeRange, behind: Option<String>) -> query::Result<Told<T>> {
    let (found, mut coverage) = found.ok_or_else(|| query::Error::BadRequest {
        message: "there are too many services and calls between them for one answer".into(),
        hint: Some("ask for a shorter time".into()),
    })?;
    if let Some(error) = behind {
        coverage.incomplete(
            ProblemKind::Unreachable,
            "traces that came lately",
            format!("they could not be put together: {error}"),
        );
    }
    Ok(Told { found, range, coverage })
}
