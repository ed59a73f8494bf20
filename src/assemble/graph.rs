//! Services and the calls between them, out of [`Calls`]: what service maps, and figures by service and operation, are drawn from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::calls::{CLIENT, CallKey, Calls, Figures, MINUTE_NANOS};
use super::latency::{self, Histogram};
use crate::query::xray::facts::{QUEUE, Service};

/// Sums of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many.
    pub requests: i64,
    /// Errors, throttles among them.
    pub errors: i64,
    /// Throttles.
    pub throttles: i64,
    /// Faults.
    pub faults: i64,
    /// Time of all of them, nanoseconds.
    pub nanos: i64,
    /// Time, by class. Requests that are in progress are in none.
    pub latency: Histogram,
}

impl Statistics {
    fn add(&mut self, requests: i64, [errors, faults, throttles]: [i64; 3], nanos: i64, class: Option<i32>) {
        self.requests += requests;
        self.errors += errors;
        self.faults += faults;
        self.throttles += throttles;
        self.nanos = self.nanos.wrapping_add(nanos);
        if let Some(class) = class {
            *self.latency.entry(class).or_default() += requests;
        }
    }

    /// Adds a row as the callee tells it, where it does.
    pub fn add_callee_view(&mut self, key: &CallKey, figures: &Figures) {
        let outcomes = [figures.errors, figures.faults, figures.throttles];
        // of who sends no segments, the callers tell
        let (nanos, class) = match key.callee_class {
            Some(class) => (figures.callee_nanos, Some(class)),
            None => (figures.caller_nanos, key.caller_class),
        };
        self.add(figures.requests, outcomes, nanos, class);
    }

    /// Adds a row as the caller saw it, where it tells.
    pub fn add_caller_view(&mut self, key: &CallKey, figures: &Figures) {
        match key.caller_class {
            Some(class) => {
                let outcomes = [figures.caller_errors, figures.caller_faults, figures.caller_throttles];
                self.add(figures.requests, outcomes, figures.caller_nanos, Some(class));
            }
            None => self.add_callee_view(key, figures),
        }
    }

    fn each(&mut self, other: &Statistics, with: fn(i64, i64) -> i64) {
        let sums = [
            (&mut self.requests, other.requests),
            (&mut self.errors, other.errors),
            (&mut self.throttles, other.throttles),
            (&mut self.faults, other.faults),
            (&mut self.nanos, other.nanos),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum = with(*sum, more));
        for (class, requests) in &other.latency {
            let sum = self.latency.entry(*class).or_default();
            *sum = with(*sum, *requests);
        }
    }

    /// Adds other requests.
    pub fn merge(&mut self, other: &Statistics) {
        self.each(other, i64::wrapping_add);
    }

    /// Takes requests away that are among these.
    pub fn take(&mut self, some: &Statistics) {
        self.each(some, i64::wrapping_sub);
        self.latency.retain(|_, requests| *requests != 0);
    }

    /// Those that are neither errors nor faults.
    pub fn ok(&self) -> i64 {
        self.requests - self.errors - self.faults
    }

    /// Our API's members; rates are over so many seconds.
    pub fn to_json(&self, seconds: f64) -> Value {
        let share = |part: i64| part as f64 / self.requests.max(1) as f64;
        let millis = |share: f64| latency::quantile(&self.latency, share).map(|nanos| nanos / 1e6);
        let n_timed: i64 = self.latency.values().sum();
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "faults": self.faults,
            "throttles": self.throttles,
            "requests_per_second": self.requests as f64 / seconds.max(1.0),
            "error_share": share(self.errors + self.faults),
            "mean_ms": (n_timed > 0).then(|| self.nanos as f64 / 1e6 / n_timed as f64),
            "p50_ms": millis(0.5),
            "p90_ms": millis(0.9),
            "p99_ms": millis(0.99),
        })
    }
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Which.
    pub service: Service,
    /// Requests enter here.
    pub is_root: bool,
    /// It sent segments itself; of others only callers tell.
    pub is_heard: bool,
    /// Requests to it.
    pub statistics: Statistics,
    /// Requests to it, by operation.
    pub operations: BTreeMap<String, Statistics>,
    /// First minute of it as caller or callee.
    pub first_nanos: i64,
    /// The end of the last one.
    pub end_nanos: i64,
}

impl Node {
    /// What kind of thing it is: `client`, `database`, `queue`, `aws`, `remote` or `service`.
    pub fn kind(&self) -> &'static str {
        let kind = self.service.kind.as_str();
        match kind {
            CLIENT => "client",
            "AWS::SQS::Queue" | "AWS::SNS" | "AWS::SQS" | "AWS::Kinesis" | "AWS::Events" => "queue",
            "AWS::DynamoDB::Table" | "AWS::DynamoDB" => "database",
            "remote" => "remote",
            _ if kind.starts_with("Database::") => "database",
            _ if kind.starts_with(QUEUE) => "queue",
            _ if kind.starts_with("AWS::") && !self.is_heard => "aws",
            _ => "service",
        }
    }

    fn seen(&mut self, first_nanos: i64, end_nanos: i64) {
        if self.end_nanos == 0 {
            self.first_nanos = first_nanos;
        }
        self.first_nanos = self.first_nanos.min(first_nanos);
        self.end_nanos = self.end_nanos.max(end_nanos);
    }
}

/// Calls of one service by another.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// The caller's number.
    pub client: usize,
    /// The callee's number.
    pub server: usize,
    /// As the caller saw them, where it tells; else as the callee did.
    pub seen_by_caller: Statistics,
    /// As the callee saw them, where it tells; else as the caller did.
    pub seen_by_callee: Statistics,
    /// First minute.
    pub first_nanos: i64,
    /// The end of the last one.
    pub end_nanos: i64,
}

/// Calls of one service by another, or by nobody that is known, summed up.
#[derive(Clone, Debug, Default)]
pub(super) struct EdgeSums {
    pub(super) seen_by_caller: Statistics,
    pub(super) seen_by_callee: Statistics,
    /// Whether the callee tells of some itself.
    pub(super) is_heard: bool,
    pub(super) first_nanos: i64,
    pub(super) end_nanos: i64,
}

/// Services, and who calls whom.
#[derive(Clone, Debug, Default)]
pub struct ServiceGraph {
    /// In order of name, then type.
    pub nodes: Vec<Node>,
    /// In order of caller, then callee.
    pub edges: Vec<Edge>,
}

impl ServiceGraph {
    /// The graph of some calls.
    pub fn of(calls: &Calls) -> ServiceGraph {
        let mut edges: BTreeMap<(Option<&Service>, &Service), EdgeSums> = BTreeMap::new();
        for (key, figures) in calls.rows() {
            let edge = edges.entry((key.client.as_ref(), &key.server)).or_insert_with(|| EdgeSums {
                first_nanos: i64::MAX,
                end_nanos: i64::MIN,
                ..EdgeSums::default()
            });
            edge.seen_by_caller.add_caller_view(key, figures);
            edge.seen_by_callee.add_callee_view(key, figures);
            edge.is_heard |= key.callee_class.is_some();
            edge.first_nanos = edge.first_nanos.min(key.minute_nanos);
            edge.end_nanos = edge.end_nanos.max(key.minute_nanos.saturating_add(MINUTE_NANOS));
        }
        let mut graph = ServiceGraph::of_sums(&edges);
        for (key, figures) in calls.rows() {
            if let Ok(number) = graph.nodes.binary_search_by(|node| node.service.cmp(&key.server)) {
                let operations = &mut graph.nodes[number].operations;
                operations.entry(key.operation.clone()).or_default().add_callee_view(key, figures);
            }
        }
        graph
    }

    /// The graph of calls that are summed up by caller, which may be nobody, and callee; without operations.
    pub(super) fn of_sums(edges: &BTreeMap<(Option<&Service>, &Service), EdgeSums>) -> ServiceGraph {
        let services = edges.keys().flat_map(|(client, server)| client.iter().copied().chain([*server]));
        let mut numbers: BTreeMap<&Service, usize> = services.map(|service| (service, 0)).collect();
        numbers.values_mut().enumerate().for_each(|(number, value)| *value = number);
        let node = |service: &&Service| Node {
            service: (*service).clone(),
            ..Node::default()
        };
        let mut graph = ServiceGraph {
            nodes: numbers.keys().map(node).collect(),
            edges: Vec::new(),
        };
        // in the order of services, which is that of their numbers
        for ((client, server), sums) in edges {
            let number = numbers[server];
            let node = &mut graph.nodes[number];
            node.seen(sums.first_nanos, sums.end_nanos);
            node.is_heard |= sums.is_heard;
            node.is_root |= client.is_none_or(|client| client.kind == CLIENT);
            node.statistics.merge(&sums.seen_by_callee);
            let Some(client) = client.map(|client| numbers[client]) else { continue };
            graph.nodes[client].seen(sums.first_nanos, sums.end_nanos);
            graph.edges.push(Edge {
                client,
                server: number,
                seen_by_caller: sums.seen_by_caller.clone(),
                seen_by_callee: sums.seen_by_callee.clone(),
                first_nanos: sums.first_nanos,
                end_nanos: sums.end_nanos,
            });
        }
        graph
    }

    /// Our API's `nodes` and `edges`; rates are over so many seconds.
    pub fn to_json(&self, seconds: f64) -> Value {
        let node = |(number, node): (usize, &Node)| {
            let mut out = node_json(node);
            out["id"] = number.into();
            out["is_root"] = node.is_root.into();
            merge(&mut out, node.statistics.to_json(seconds));
            out
        };
        let edge = |edge: &Edge| {
            json!({
                "client": edge.client,
                "server": edge.server,
                "seen_by_caller": edge.seen_by_caller.to_json(seconds),
                "seen_by_callee": edge.seen_by_callee.to_json(seconds),
            })
        };
        json!({
            "nodes": self.nodes.iter().enumerate().map(node).collect::<Vec<_>>(),
            "edges": self.edges.iter().map(edge).collect::<Vec<_>>(),
        })
    }

    /// Our API's list of services, each with its operations.
    pub fn services_json(&self, seconds: f64) -> Value {
        let operation = |(name, statistics): (&String, &Statistics)| {
            let mut out = json!({ "name": name });
            merge(&mut out, statistics.to_json(seconds));
            out
        };
        let service = |node: &Node| {
            let mut out = node_json(node);
            merge(&mut out, node.statistics.to_json(seconds));
            out["operations"] = node.operations.iter().map(operation).collect();
            out
        };
        let called = self.nodes.iter().filter(|node| node.statistics.requests > 0);
        called.map(service).collect()
    }
}

fn node_json(node: &Node) -> Value {
    json!({
        "name": node.service.name,
        "kind": node.kind(),
        "type": node.service.kind,
        "account_id": node.service.account_id,
    })
}

fn merge(out: &mut Value, more: Value) {
    if let (Value::Object(out), Value::Object(more)) = (out, more) {
        out.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, kind: &str) -> Service {
        Service {
            name: name.into(),
            kind: kind.into(),
            account_id: String::new(),
        }
    }

    #[test]
    fn an_edge_is_told_by_both_sides_and_a_service_by_itself() {
        let mut calls = Calls::default();
        let key = CallKey {
            minute_nanos: MINUTE_NANOS,
            client: Some(service("api", "")),
            server: service("payment", ""),
            operation: "charge".into(),
            caller_class: Some(latency::class_of(8_000_000)),
            callee_class: Some(latency::class_of(2_000_000)),
        };
        let figures = Figures {
            requests: 4,
            faults: 1,
            caller_errors: 2,
            caller_nanos: 32_000_000,
            callee_nanos: 8_000_000,
            ..Figures::default()
        };
        calls.add_row(key.clone(), figures);
        let inferred = CallKey {
            server: service("orders", "AWS::DynamoDB::Table"),
            client: Some(service("payment", "")),
            callee_class: None,
            ..key.clone()
        };
        calls.add_row(inferred, Figures { callee_nanos: 0, ..figures });
        let outside = CallKey {
            client: Some(service("api", CLIENT)),
            server: service("api", ""),
            minute_nanos: 0,
            ..key
        };
        calls.add_row(
            outside,
            Figures {
                requests: 1,
                ..Figures::default()
            },
        );
        let graph = ServiceGraph::of(&calls);
        let names: Vec<_> = graph.nodes.iter().map(|node| (node.service.name.as_str(), node.kind(), node.is_root)).collect();
        assert_eq!(
            names,
            [
                ("api", "service", true),
                ("api", "client", false),
                ("orders", "database", false),
                ("payment", "service", false)
            ]
        );
        let edges: Vec<_> = graph.edges.iter().map(|edge| (edge.client, edge.server)).collect();
        assert_eq!(edges, [(0, 3), (1, 0), (3, 2)]);
        let called = &graph.edges[0];
        assert_eq!(
            (called.seen_by_caller.errors, called.seen_by_caller.faults, called.seen_by_caller.nanos),
            (2, 0, 32_000_000)
        );
        assert_eq!(
            (called.seen_by_callee.errors, called.seen_by_callee.faults, called.seen_by_callee.nanos),
            (0, 1, 8_000_000)
        );
        assert_eq!((graph.nodes[3].statistics.ok(), graph.nodes[3].statistics.nanos), (3, 8_000_000));
        // it tells nothing itself: its callers waited
        assert_eq!((graph.nodes[2].statistics.nanos, graph.nodes[2].is_heard), (32_000_000, false));
        assert_eq!((graph.nodes[0].first_nanos, graph.nodes[0].end_nanos), (0, 2 * MINUTE_NANOS));
        let services = graph.services_json(60.0);
        assert_eq!(services.as_array().map(Vec::len), Some(3), "nobody calls a client");
        assert_eq!(services[2]["operations"][0]["name"], "charge");
    }
}
