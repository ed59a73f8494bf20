//! What log records say once their values are taken out, and what of it is new.

use std::sync::Arc;

use axum::extract::State as Of;
use axum::response::Json;

use super::{ApiError, Params, Question};
use crate::model::{Table, TimeRange};
use crate::query::patterns::{Patterns, PatternsRequest, State};
use crate::serve::Server;

/// Patterns of an answer unless the client asks otherwise.
const DEFAULT_PATTERNS: usize = 100;
/// Patterns of an answer at most.
const MAX_PATTERNS: usize = 10_000;
/// Bins of a sparkline unless the client asks otherwise.
const DEFAULT_BINS: usize = 30;

#[derive(Debug, serde::Deserialize)]
pub(super) struct Asked {
    limit: Option<usize>,
    bins: Option<usize>,
    compare: Option<String>,
    state: Option<String>,
}

pub(super) async fn patterns(
    Of(server): Of<Arc<Server>>,
    Params(question): Params<Question>,
    Params(asked): Params<Asked>,
) -> Result<Json<Patterns>, ApiError> {
    if question.table()? != Table::Logs {
        return Err(ApiError::bad("bad_table", "patterns are of log records").hint("leave `table` out, or give it logs"));
    }
    let now_nanos = server.clock.now_nanos();
    let range = question.range(now_nanos)?;
    let baseline = match asked.compare.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some("previous") => Some(before(range)?),
        Some(text) => {
            let bad = || ApiError::bad("bad_compare", format!("compare: {text:?} is not another time")).hint("say `previous`, or START..END");
            let (start, end) = text.split_once("..").ok_or_else(bad)?;
            Some(question.at(Some(start.into()), Some(end.into())).range(now_nanos)?)
        }
    };
    let states = states(asked.state.as_deref().unwrap_or_default())?;
    if baseline.is_none() && !states.is_empty() {
        return Err(ApiError::bad("bad_state", "a pattern has a state where it is compared").hint("add compare=previous"));
    }
    let request = PatternsRequest {
        query: question.query()?,
        range,
        baseline,
        bins: asked.bins.unwrap_or(DEFAULT_BINS),
        limit: asked.limit.unwrap_or(DEFAULT_PATTERNS).min(MAX_PATTERNS),
        states,
    };
    Ok(Json(server.engine.patterns(&request).await?))
}

/// As much time before a range.
fn before(range: TimeRange) -> Result<TimeRange, ApiError> {
    match range.end_nanos.checked_sub(range.start_nanos) {
        Some(length) => Ok(TimeRange::new(range.start_nanos.saturating_sub(length), range.start_nanos)),
        None => Err(ApiError::bad("bad_compare", "before an open range there is nothing").hint("give start and end")),
    }
}

/// States apart by commas.
fn states(text: &str) -> Result<Vec<State>, ApiError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let state = |name: &str| {
        State::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| ApiError::bad("bad_state", format!("state: there is no state {name:?}")).hint("there are new, surging, vanished and steady"))
    };
    names.map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_and_unknown_ones_refused() {
        assert_eq!(states("new, surging,").ok(), Some(vec![State::New, State::Surging]));
        assert_eq!(states("").ok(), Some(vec![]));
        assert!(states("old").is_err());
    }

    #[test]
    fn the_time_before_is_as_long() {
        assert_eq!(before(TimeRange::new(100, 130)).ok(), Some(TimeRange::new(70, 100)));
        assert!(before(TimeRange::ALL).is_err());
    }
}
