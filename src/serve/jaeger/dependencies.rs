//! Calls between services: those of our service graph, without the clients outside; databases and others that send no spans are among them.
//!
//! `endTs` (now) and `lookback` (a day) are milliseconds, rounded to the minutes that they touch.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query as QueryString, State};
use serde_json::{Value, json};

use super::{Asked, Params, Result, Told, lacks};
use crate::assemble::CLIENT;
use crate::model::TimeRange;
use crate::query::xray::Expression;
use crate::serve::Server;

const DAY_MILLIS: i64 = 86_400_000;

pub(super) async fn dependencies(State(server): State<Arc<Server>>, QueryString(asked): Asked) -> Result<Told<Value>> {
    let asked = Params(asked);
    let now_millis = server.clock.now_nanos().div_euclid(1_000_000);
    let end = asked.number("endTs")?.unwrap_or(now_millis);
    let start = end.saturating_sub(asked.number("lookback")?.unwrap_or(DAY_MILLIS).max(0));
    // the very millisecond counts
    let range = TimeRange::new(start.saturating_mul(1_000_000), end.saturating_add(1).saturating_mul(1_000_000));
    let told = server.graphs.graph(range, &Expression::All, false).await?;
    let mut calls: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for edge in &told.found.edges {
        let [client, server] = [edge.client, edge.server].map(|number| &told.found.nodes[number].service);
        if client.kind != CLIENT && client.name != server.name {
            *calls.entry((&client.name, &server.name)).or_default() += edge.seen_by_callee.requests;
        }
    }
    let pair = |((parent, child), count)| json!({ "parent": parent, "child": child, "callCount": count });
    Ok(Told {
        data: calls.into_iter().map(pair).collect(),
        lacks: lacks(&told.coverage)?,
    })
}
