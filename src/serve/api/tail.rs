//! New rows as they are acknowledged, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use serde_json::json;
use tokio::time::{Instant, interval_at};

use super::{ApiError, Params, Question};
use crate::query::{DEFAULT_MAX_BODY, Tail, TailEvent};
use crate::serve::Server;

/// A silent stream says that it lives.
const PING: Duration = Duration::from_secs(10);

pub(super) async fn tail(State(server): State<Arc<Server>>, Params(question): Params<Question>) -> Result<Response, ApiError> {
    let tail = server.engine.tail(question.table()?, question.query()?)?;
    Ok(Sse::new(events(tail)).into_response())
}

fn events(tail: Tail) -> impl Stream<Item = Result<Event, Infallible>> {
    let ping = interval_at(Instant::now() + PING, PING);
    futures::stream::unfold((tail, ping), |(mut tail, mut ping)| async move {
        tokio::select! {
            event = tail.next() => event.map(|event| (Ok(hits(&event)), (tail, ping))),
            _ = ping.tick() => Some((Ok(Event::default().event("ping").data("{}")), (tail, ping))),
        }
    })
}

fn hits(event: &TailEvent) -> Event {
    let hits: Vec<_> = event
        .hits
        .iter()
        .map(|hit| serde_json::to_value(hit.with_max_body(DEFAULT_MAX_BODY)).unwrap_or_default())
        .collect();
    Event::default()
        .event("hits")
        .data(json!({ "hits": hits, "dropped": event.dropped, "missed_batches": event.missed_batches, "reason": event.reason }).to_string())
}
