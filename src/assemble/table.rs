//! Graphs and series out of `service_edges`, summed up by SQL as far as the answer needs it: a row for each pair of services, operation or
//! period, whatever the rows of the table are. Classes of time come packed in a text, so that they are no rows of their own.

use std::collections::BTreeMap;

use serde_json::Value;

use super::graph::{EdgeSums, ServiceGraph, Statistics};
use super::lake::{rows_of, whole};
use super::latency::Histogram;
use super::{CLIENT, CallKey, Calls, MINUTE_NANOS, Series};
use crate::model::TimeRange;
use crate::query::xray::Expression;
use crate::query::xray::expression::Id;
use crate::query::xray::facts::Service;
use crate::query::{self, Coverage, Engine};

/// Parts of a time that are told apart for the first and last call of a service.
const MAX_PERIODS: i64 = 60;
/// Operations of a service, those with the most requests; the others are one.
const MAX_OPERATIONS: usize = 1_000;
/// The name of all other operations.
const OTHERS: &str = "(others)";

const CLIENT_COLUMNS: &str = "client_name, client_type, client_account";
const SERVER_COLUMNS: &str = "server_name, server_type, server_account";

/// Whose requests are asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// Whatever enters from outside.
    Entries,
    /// Those to a service.
    Service(Id),
    /// Those of one service to another.
    Edge(Id, Id),
}

impl Entity {
    fn is_of(&self, key: &CallKey) -> bool {
        match self {
            Entity::Entries => key.client.as_ref().is_some_and(|client| client.kind == CLIENT),
            Entity::Service(id) => id.is_of(&key.server),
            Entity::Edge(from, to) => key.client.as_ref().is_some_and(|client| from.is_of(client)) && to.is_of(&key.server),
        }
    }

    /// What lets every trace through that has such requests.
    pub(super) fn traces(&self) -> Expression {
        match self {
            Entity::Entries => Expression::All,
            Entity::Service(id) => Expression::Service(id.clone(), Box::new(Expression::All)),
            Entity::Edge(from, to) => Expression::Edge(from.clone(), to.clone(), Box::new(Expression::All)),
        }
    }

    /// Sums by period.
    pub(super) fn series_of(&self, calls: &Calls, period_nanos: i64) -> Series {
        let mut series = Series::new();
        for (key, figures) in calls.rows().filter(|(key, _)| self.is_of(key)) {
            let sums = series.entry(key.minute_nanos.div_euclid(period_nanos)).or_default();
            match self.side() {
                Side::Caller => sums.add_caller_view(key, figures),
                Side::Callee => sums.add_callee_view(key, figures),
            }
        }
        series
    }

    fn side(&self) -> Side {
        match self {
            Entity::Edge(..) => Side::Caller,
            _ => Side::Callee,
        }
    }

    fn condition(&self) -> String {
        let of = |id: &Id, side: &str| {
            let parts = [("name", &id.name), ("type", &id.kind), ("account", &id.account_id)];
            let tests = parts
                .into_iter()
                .filter_map(|(column, value)| Some(format!("{side}_{column} = '{}'", value.as_ref()?.replace('\'', "''"))));
            tests.chain([format!("{side}_name IS NOT NULL")]).collect::<Vec<_>>().join(" AND ")
        };
        match self {
            Entity::Entries => format!("client_type = '{CLIENT}'"),
            Entity::Service(id) => of(id, "server"),
            Entity::Edge(from, to) => format!("{} AND {}", of(from, "client"), of(to, "server")),
        }
    }
}

/// Who tells of a call, where it does; else the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Callee,
}

impl Side {
    /// Class, errors, faults, throttles and time: what [`Statistics::add_caller_view`] and its like take.
    fn columns(self) -> [&'static str; 5] {
        match self {
            Side::Caller => [
                "coalesce(caller_class, callee_class)",
                "CASE WHEN caller_class IS NULL THEN errors ELSE caller_errors END",
                "CASE WHEN caller_class IS NULL THEN faults ELSE caller_faults END",
                "CASE WHEN caller_class IS NULL THEN throttles ELSE caller_throttles END",
                "CASE WHEN caller_class IS NULL AND callee_class IS NOT NULL THEN callee_nano ELSE caller_nano END",
            ],
            Side::Callee => [
                "coalesce(callee_class, caller_class)",
                "errors",
                "faults",
                "throttles",
                "CASE WHEN callee_class IS NULL THEN caller_nano ELSE callee_nano END",
            ],
        }
    }
}

/// Sums by some columns: those, then requests, errors, faults, throttles, time, requests of which the callee tells, classes.
fn sums(side: Side, keys: &str, condition: &str) -> String {
    let [class, errors, faults, throttles, nanos] = side.columns();
    let names: Vec<String> = (1..=keys.split(',').count()).map(|place| format!("k{place}")).collect();
    let named: Vec<String> = keys.split(',').zip(&names).map(|(key, name)| format!("{} AS {name}", key.trim())).collect();
    let (names, named) = (names.join(", "), named.join(", "));
    format!(
        "SELECT {names}, SUM(n) AS requests, SUM(e), SUM(f), SUM(t), SUM(nanos), SUM(heard), \
         string_agg(CASE WHEN class IS NOT NULL AND n <> 0 THEN concat(CAST(class AS VARCHAR), ':', CAST(n AS VARCHAR)) END, ' ') FROM (\
         SELECT {names}, class, SUM(requests) AS n, SUM(e) AS e, SUM(f) AS f, SUM(t) AS t, SUM(nanos) AS nanos, \
         SUM(CASE WHEN is_heard THEN requests ELSE 0 END) AS heard FROM (\
         SELECT {named}, {class} AS class, requests, {errors} AS e, {faults} AS f, {throttles} AS t, {nanos} AS nanos, callee_class IS NOT NULL AS is_heard \
         FROM service_edges WHERE {condition}) GROUP BY {names}, class) GROUP BY {names} HAVING SUM(n) <> 0"
    )
}

/// Reads [`sums`] behind so many keys.
fn statistics(row: &[Value], n_keys: usize) -> Option<(Statistics, bool)> {
    let number = |at: usize| row.get(n_keys + at).and_then(whole);
    let mut latency = Histogram::default();
    let packed = row.get(n_keys + 6)?.as_str().unwrap_or_default();
    for entry in packed.split_ascii_whitespace() {
        let (class, requests) = entry.split_once(':')?;
        *latency.entry(class.parse().ok()?).or_default() += requests.parse::<i64>().ok()?;
    }
    let statistics = Statistics {
        requests: number(0)?,
        errors: number(1)?,
        faults: number(2)?,
        throttles: number(3)?,
        nanos: number(4)?,
        latency,
    };
    Some((statistics, number(5)? != 0))
}

fn service(row: &[Value], at: usize) -> Option<Service> {
    let text = |at: usize| Some(row.get(at)?.as_str().unwrap_or_default().to_string());
    Some(Service {
        name: text(at)?,
        kind: text(at + 1)?,
        account_id: text(at + 2)?,
    })
}

/// A pair of services, of which the caller may be nobody.
fn pair(row: &[Value], at: usize) -> Option<(Option<Service>, Service)> {
    let client = match row.get(at)? {
        Value::Null => None,
        _ => Some(service(row, at)?),
    };
    Some((client, service(row, at + 3)?))
}

fn unreadable() -> query::Error {
    query::Error::Internal("a row of service_edges cannot be read".into())
}

fn within(range: TimeRange) -> String {
    format!("time_unix_nano >= {} AND time_unix_nano < {}", range.start_nanos, range.end_nanos)
}

/// The graph of whole minutes, with the operations of services or without; `None` if there are more services and calls between them than
/// an answer has rows.
pub(super) async fn graph_of_table(engine: &Engine, range: TimeRange, with_operations: bool) -> query::Result<Option<(ServiceGraph, Coverage)>> {
    let pairs = format!("{CLIENT_COLUMNS}, {SERVER_COLUMNS}");
    let within = within(range);
    let n_minutes = range.end_nanos.saturating_sub(range.start_nanos) / MINUTE_NANOS;
    let period_nanos = (n_minutes.saturating_add(MAX_PERIODS - 1) / MAX_PERIODS).max(1).saturating_mul(MINUTE_NANOS);
    let times = format!(
        "SELECT {pairs}, MIN(slot), MAX(slot) FROM (SELECT {pairs}, time_unix_nano / {period_nanos} AS slot FROM service_edges WHERE {within} \
         GROUP BY {pairs}, time_unix_nano / {period_nanos} HAVING SUM(requests) <> 0) GROUP BY {pairs}"
    );
    let Some(by_callee) = rows_of(engine, sums(Side::Callee, &pairs, &within)).await? else {
        return Ok(None);
    };
    let by_caller = sums(Side::Caller, &pairs, &format!("{within} AND client_name IS NOT NULL"));
    let Some(by_caller) = rows_of(engine, by_caller).await? else {
        return Ok(None);
    };
    let Some(times) = rows_of(engine, times).await? else { return Ok(None) };
    let mut coverage = by_callee.coverage;
    coverage.merge(by_caller.coverage);
    coverage.merge(times.coverage);

    let mut edges: BTreeMap<(Option<Service>, Service), EdgeSums> = BTreeMap::new();
    for row in &by_callee.rows {
        let read = || Some((pair(row, 0)?, statistics(row, 6)?));
        let (pair, (sums, is_heard)) = read().ok_or_else(unreadable)?;
        let edge = edges.entry(pair).or_default();
        (edge.seen_by_callee, edge.is_heard) = (sums, is_heard);
    }
    for row in &by_caller.rows {
        let read = || Some((pair(row, 0)?, statistics(row, 6)?));
        let (pair, (sums, _)) = read().ok_or_else(unreadable)?;
        edges.entry(pair).or_default().seen_by_caller = sums;
    }
    for row in &times.rows {
        let read = || Some((pair(row, 0)?, whole(row.get(6)?)?, whole(row.get(7)?)?));
        let (pair, first, last) = read().ok_or_else(unreadable)?;
        let edge = edges.entry(pair).or_default();
        edge.first_nanos = first.saturating_mul(period_nanos).max(range.start_nanos);
        edge.end_nanos = last.saturating_add(1).saturating_mul(period_nanos).min(range.end_nanos);
    }
    for edge in edges.values_mut().filter(|edge| edge.end_nanos == 0) {
        // it came between the questions
        (edge.first_nanos, edge.end_nanos) = (range.start_nanos, range.end_nanos);
    }
    let edges = edges.iter().map(|((client, server), sums)| ((client.as_ref(), server), sums.clone())).collect();
    let mut graph = ServiceGraph::of_sums(&edges);
    if with_operations {
        match operations(engine, &within, &mut graph).await? {
            Some(of_operations) => coverage.merge(of_operations),
            None => return Ok(None),
        }
    }
    Ok(Some((graph, coverage)))
}

/// Adds the operations of each service, at most so many that all have room in an answer.
async fn operations(engine: &Engine, within: &str, graph: &mut ServiceGraph) -> query::Result<Option<Coverage>> {
    let keys = format!("{SERVER_COLUMNS}, operation");
    let most = (engine.config().max_sql_rows / 2 / graph.nodes.len().max(1)).clamp(1, MAX_OPERATIONS);
    let query = format!(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY k1, k2, k3 ORDER BY requests DESC, k4) AS place FROM ({})) WHERE place <= {most}",
        sums(Side::Callee, &keys, within)
    );
    let Some(answer) = rows_of(engine, query).await? else { return Ok(None) };
    let numbers: BTreeMap<Service, usize> = graph.nodes.iter().enumerate().map(|(number, node)| (node.service.clone(), number)).collect();
    for row in &answer.rows {
        let read = || Some((service(row, 0)?, row.get(3)?.as_str()?.to_string(), statistics(row, 4)?.0));
        let (service, operation, sums) = read().ok_or_else(unreadable)?;
        // one that came after the graph was read has no place in it
        if let Some(number) = numbers.get(&service) {
            graph.nodes[*number].operations.insert(operation, sums);
        }
    }
    for node in &mut graph.nodes {
        if node.operations.len() >= most {
            let mut others = node.statistics.clone();
            node.operations.values().for_each(|shown| others.take(shown));
            if others.requests > 0 {
                node.operations.insert(OTHERS.into(), others);
            }
        }
    }
    Ok(Some(answer.coverage))
}

/// Sums of each period in which there are requests, by its number since the epoch; `None` if those are too many.
pub(super) async fn series_of_table(engine: &Engine, range: TimeRange, period_nanos: i64, entity: &Entity) -> query::Result<Option<(Series, Coverage)>> {
    let condition = format!("{} AND {}", within(range), entity.condition());
    let query = sums(entity.side(), &format!("time_unix_nano / {period_nanos}"), &condition);
    let Some(answer) = rows_of(engine, query).await? else { return Ok(None) };
    let mut series = Series::new();
    for row in &answer.rows {
        let read = || Some((whole(row.first()?)?, statistics(row, 1)?.0));
        let (period, sums) = read().ok_or_else(unreadable)?;
        series.insert(period, sums);
    }
    Ok(Some((series, answer.coverage)))
}
