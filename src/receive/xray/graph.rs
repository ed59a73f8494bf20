//! What X-Ray's clients draw: the graph of a time, of some traces, and figures over time.
//!
//! `SummaryStatistics` of a service are as it tells itself, and of one that sends no segments as its callers saw it; those of an edge are
//! as the caller saw it, where it tells. Times are whole minutes. `Root` is a service that requests enter at; those come from a node of
//! type `client` and the same name. `EdgeType` and `ReceivedEventAgeHistogram` are told by the service of edges that are links between traces
//! alone; links make no edges here, so no edge has them. Pages have a hundred services with all their edges, and `ReferenceId` goes on over them ([`super::drawn`]).

use axum::body::Body;
use axum::http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reads::{nanos, unreadable};
use super::{Error, Receiver, Result, missing};
use crate::assemble::{Entity, Graphs, Histogram, Node, ServiceGraph, Statistics, Told, middle_of};
use crate::decode::AtMost;
use crate::model::{TimeRange, TraceId};
use crate::query::ProblemKind;
use crate::query::xray::{Expression, facts};

/// Traces of one graph.
const MAX_TRACE_IDS: usize = 100;
/// Shortest period of a series, seconds: requests are counted by minute.
const MINUTE_SECONDS: i64 = 60;
/// Points of one answer.
const MAX_POINTS: i64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetServiceGraph {
    start_time: Option<f64>,
    end_time: Option<f64>,
    group_name: Option<String>,
    #[serde(rename = "GroupARN")]
    group_arn: Option<String>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetTraceGraph {
    trace_ids: Option<AtMost<String, MAX_TRACE_IDS>>,
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetTimeSeriesServiceStatistics {
    start_time: Option<f64>,
    end_time: Option<f64>,
    group_name: Option<String>,
    #[serde(rename = "GroupARN")]
    group_arn: Option<String>,
    entity_selector_expression: Option<String>,
    period: Option<i64>,
    next_token: Option<String>,
}

/// Of what a series is.
fn entity(text: Option<&str>) -> Result<Entity> {
    let Some(text) = text else { return Ok(Entity::Entries) };
    // an id(…) alone is a service's
    let of_id = text.trim_start().starts_with("id(").then(|| format!("service({})", text.trim()));
    let parsed = Expression::parse(of_id.as_deref().unwrap_or(text)).map_err(|error| Error::InvalidRequest(error.to_string()))?;
    match parsed {
        Expression::All => Ok(Entity::Entries),
        Expression::Service(id, inner) if *inner == Expression::All => Ok(Entity::Service(id)),
        Expression::Edge(from, to, inner) if *inner == Expression::All => Ok(Entity::Edge(from, to)),
        _ => Err(Error::InvalidRequest(
            "EntitySelectorExpression is one id(…), service(…) or edge(…, …), without conditions".into(),
        )),
    }
}

fn time_frame(start: Option<f64>, end: Option<f64>) -> Result<TimeRange> {
    let (start, end) = (nanos(start, "startTime")?, nanos(end, "endTime")?);
    match start < end {
        true => Ok(TimeRange::new(start, end)),
        false => Err(Error::InvalidRequest("StartTime must be before EndTime".into())),
    }
}

impl Receiver {
    /// `GetServiceGraph`.
    pub(super) async fn get_service_graph(&self, request: Request<Body>) -> Result<Value> {
        let call: GetServiceGraph = self.call(request).await?;
        let frame = time_frame(call.start_time, call.end_time)?;
        let (name, arn) = (call.group_name.as_deref(), call.group_arn.as_deref());
        let asked = format!("{frame:?} {name:?} {arn:?}");
        let draw = async {
            let filter = self.groups.expression(name, arn)?;
            Ok(readable(self.graphs()?.graph(frame, &filter, false).await?)?.found)
        };
        let mut out = self.drawn.page(&asked, call.next_token.as_deref(), draw).await?;
        out["StartTime"] = facts::seconds(frame.start_nanos).into();
        out["EndTime"] = facts::seconds(frame.end_nanos).into();
        out["ContainsOldGroupVersions"] = false.into();
        Ok(out)
    }

    /// `GetTraceGraph`.
    pub(super) async fn get_trace_graph(&self, request: Request<Body>) -> Result<Value> {
        let call: GetTraceGraph = self.call(request).await?;
        let ids = call.trace_ids.ok_or_else(|| missing("traceIds"))?;
        let too_many = |_| Error::InvalidRequest(format!("at most {MAX_TRACE_IDS} trace IDs are taken"));
        let ids = ids.all().map_err(too_many)?;
        let ids: Vec<TraceId> = ids.iter().filter_map(|id| facts::trace_id(id)).collect();
        self.graph_of_traces(&ids, call.next_token.as_deref()).await
    }

    /// A page of the graph of some traces.
    pub(super) async fn graph_of_traces(&self, ids: &[TraceId], token: Option<&str>) -> Result<Value> {
        let draw = async {
            let calls = match self.graphs()?.calls_of_traces(ids).await? {
                Some(told) => readable_or_cut(told)?.found,
                None => Default::default(),
            };
            Ok(ServiceGraph::of(&calls))
        };
        self.drawn.page(&format!("{ids:?}"), token, draw).await
    }

    /// `GetTimeSeriesServiceStatistics`.
    pub(super) async fn get_time_series_service_statistics(&self, request: Request<Body>) -> Result<Value> {
        let call: GetTimeSeriesServiceStatistics = self.call(request).await?;
        let frame = time_frame(call.start_time, call.end_time)?;
        let entity = entity(call.entity_selector_expression.as_deref())?;
        let period = call.period.unwrap_or(MINUTE_SECONDS);
        if period < MINUTE_SECONDS || period % MINUTE_SECONDS != 0 {
            return Err(Error::InvalidRequest(format!("Period is a multiple of {MINUTE_SECONDS} seconds")));
        }
        let period_nanos = period.saturating_mul(1_000_000_000);
        if frame.end_nanos.saturating_sub(frame.start_nanos) / period_nanos > MAX_POINTS {
            return Err(Error::InvalidRequest(format!("the time has more than {MAX_POINTS} periods")));
        }
        if call.next_token.is_some() {
            return Err(Error::InvalidRequest("NextToken is not valid: there is one page".into()));
        }
        let filter = self.groups.expression(call.group_name.as_deref(), call.group_arn.as_deref())?;
        let series = readable(self.graphs()?.series(frame, period_nanos, &entity, &filter).await?)?.found;
        let member = match entity {
            // of no selector the edges from outside
            Entity::Edge(..) | Entity::Entries => "EdgeSummaryStatistics",
            Entity::Service(_) => "ServiceSummaryStatistics",
        };
        let point = |(number, sums): (i64, Statistics)| {
            json!({
                "Timestamp": facts::seconds(number.saturating_mul(period_nanos)),
                member: statistics(&sums),
                "ResponseTimeHistogram": histogram(&sums.latency),
            })
        };
        Ok(json!({
            "TimeSeriesServiceStatistics": series.into_iter().map(point).collect::<Vec<_>>(),
            "ContainsOldGroupVersions": false,
        }))
    }

    fn graphs(&self) -> Result<&Graphs> {
        self.graphs.get().ok_or_else(|| Error::Internal("there is nothing to draw from".into()))
    }
}

/// All of it, or as much of too large traces as one answer holds, which is what `BatchGetTraces` gives of them too.
fn readable_or_cut<T>(told: Told<T>) -> Result<Told<T>> {
    let coverage = &told.coverage;
    let is_cut = coverage.further_problems == 0 && coverage.problems.iter().all(|problem| problem.kind == ProblemKind::Limit);
    match coverage.complete || is_cut {
        true => Ok(told),
        false => Err(unreadable()),
    }
}

/// All of it, or nothing is said.
fn readable<T>(told: Told<T>) -> Result<Told<T>> {
    let problems = &told.coverage.problems;
    if told.coverage.complete {
        return Ok(told);
    }
    match problems.iter().find(|problem| problem.kind == ProblemKind::Limit) {
        Some(limit) => Err(Error::InvalidRequest(format!("{}: ask for a shorter time", limit.message))),
        None => Err(unreadable()),
    }
}

pub(super) fn service(graph: &ServiceGraph, number: usize, node: &Node) -> Value {
    let of_service = graph.edges.iter().filter(|edge| edge.client == number);
    let edges = of_service.map(|edge| {
        json!({
            "ReferenceId": edge.server,
            "StartTime": facts::seconds(edge.first_nanos),
            "EndTime": facts::seconds(edge.end_nanos),
            "SummaryStatistics": statistics(&edge.seen_by_caller),
            "ResponseTimeHistogram": histogram(&edge.seen_by_caller.latency),
            "Aliases": [],
        })
    });
    let mut out = node.service.to_json();
    out["ReferenceId"] = number.into();
    out["State"] = if node.is_heard { "active" } else { "unknown" }.into();
    out["StartTime"] = facts::seconds(node.first_nanos).into();
    out["EndTime"] = facts::seconds(node.end_nanos).into();
    out["Edges"] = edges.collect();
    if node.is_root {
        out["Root"] = true.into();
    }
    // of who is called by nobody there is nothing to say
    if node.statistics.requests != 0 {
        let times = histogram(&node.statistics.latency);
        out["SummaryStatistics"] = statistics(&node.statistics);
        out["DurationHistogram"] = times.clone();
        out["ResponseTimeHistogram"] = times;
    }
    out
}

fn statistics(sums: &Statistics) -> Value {
    json!({
        "OkCount": sums.ok(),
        "ErrorStatistics": {
            "ThrottleCount": sums.throttles,
            "OtherCount": sums.errors - sums.throttles,
            "TotalCount": sums.errors,
        },
        "FaultStatistics": { "OtherCount": sums.faults, "TotalCount": sums.faults },
        "TotalCount": sums.requests,
        "TotalResponseTime": facts::seconds(sums.nanos),
    })
}

fn histogram(times: &Histogram) -> Value {
    let entry = |(class, count): (&i32, &i64)| json!({ "Value": middle_of(*class) / 1e9, "Count": count });
    times.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::Calls;
    use crate::query::Coverage;

    #[test]
    fn a_trace_that_is_cut_has_a_graph_and_one_that_cannot_be_read_has_none() {
        let with = |kinds: &[ProblemKind]| {
            let mut coverage = Coverage::new(TimeRange::ALL);
            kinds.iter().for_each(|kind| coverage.incomplete(*kind, "spans", "too many"));
            readable_or_cut(Told {
                found: Calls::default(),
                range: TimeRange::ALL,
                coverage,
            })
        };
        assert!(with(&[]).is_ok() && with(&[ProblemKind::Limit]).is_ok());
        for kind in [ProblemKind::Unreachable, ProblemKind::Corrupt, ProblemKind::Timeout] {
            assert!(matches!(with(&[ProblemKind::Limit, kind]), Err(Error::Throttled { .. })), "{kind:?}");
        }
    }
}
