//! `StartLiveTail`: events of up to ten groups as they are acknowledged, as an event stream.
//!
//! ```text
//!  initial-response, sessionStart, then each second a sessionUpdate … until the client goes, three hours are over, or we end
//! ```
//!
//! The events come from the write path's tail, not out of the store: batches are matched once, aside, and handed over. A
//! `sessionUpdate` has the events of its second, at most 500 and 1 MiB of messages; it says `sampled` when there were more, or when the
//! tail could not look at all of them. Places for live tails are bounded (`[query] max_tails`), shared with our own API's.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::super::answer::{REQUEST_ID, request_id};
use super::arn::group_of_arn;
use super::error::{Error, Result};
use super::event_stream::{self, event, exception};
use super::events::{Event, Streams, check_streams, pattern};
use super::{Receiver, wire};
use crate::decode::awslogs::Validation;
use crate::model::Table;
use crate::query::filter_pattern::FilterPattern;
use crate::query::{self, Query, Tail, TailEvent};

/// Groups of one session.
const MAX_GROUPS: usize = 10;
/// Events of one update.
const MAX_RESULTS: usize = 500;
/// Bytes of an update's messages, unless its first event alone has more.
const MAX_UPDATE_BYTES: usize = 1 << 20;
/// Bytes of a message: SDKs end the session at a frame above 24 MiB, and JSON can write a byte as six. `PutLogEvents` takes no more
/// than 1 MiB, but events come other ways too.
const MAX_MESSAGE_BYTES: usize = 3 << 20;
/// Between updates.
const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// A session ends after this.
const MAX_SESSION: Duration = Duration::from_secs(3 * 3_600);

impl Receiver {
    pub(super) fn start_live_tail(self: &Arc<Self>, call: &wire::StartLiveTail) -> Result<Response<Body>> {
        let session = self.session(call)?;
        let question = Query::Or(session.groups.iter().map(|(name, _)| Query::equals("@log_group", name)).collect())
            .and(session.streams.query())
            .and(session.pattern.prefilter());
        let tail = self.engine()?.tail(Table::Logs, question).map_err(|error| match error {
            query::Error::TooManyTails { .. } => Error::LimitExceeded(error.to_string()),
            other => other.into(),
        })?;
        let id = request_id();
        let start = json!({
            "requestId": id,
            "sessionId": request_id(),
            "logGroupIdentifiers": call.log_group_identifiers.clone().unwrap_or_default(),
            "logStreamNames": call.log_stream_names.clone().unwrap_or_default(),
            "logStreamNamePrefixes": call.log_stream_name_prefixes.clone().unwrap_or_default(),
            "logEventFilterPattern": call.log_event_filter_pattern.clone().unwrap_or_default(),
        });
        let mut first = event("initial-response", &json!({})).to_vec();
        first.extend(event("sessionStart", &start));
        let frames = Frames {
            first: Some(first.into()),
            receiver: self.clone(),
            session,
            tail: Some(tail),
            ticks: ticks(),
            ends: Instant::now() + MAX_SESSION,
            update: Update::default(),
        };
        let mut response = Response::new(Body::from_stream(frames.stream()));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE));
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }

    fn session(&self, call: &wire::StartLiveTail) -> Result<Session> {
        let mut validation = Validation::new();
        let identifiers = validation
            .required(&call.log_group_identifiers, "logGroupIdentifiers")
            .map_or(&[][..], Vec::as_slice);
        if call.log_group_identifiers.is_some() && identifiers.is_empty() {
            validation.violation("[]", "logGroupIdentifiers", "Member must have length greater than or equal to 1");
        }
        if identifiers.len() > MAX_GROUPS {
            let shown = format!("[{} identifiers]", identifiers.len());
            let expected = format_args!("Member must have length less than or equal to {MAX_GROUPS}").to_string();
            validation.violation(shown, "logGroupIdentifiers", expected);
        }
        for identifier in identifiers.iter().take(MAX_GROUPS) {
            validation.log_group_identifier(identifier, "logGroupIdentifiers");
        }
        check_streams(&mut validation, &call.log_stream_names, "logStreamNames");
        check_streams(&mut validation, &call.log_stream_name_prefixes, "logStreamNamePrefixes");
        let written = call.log_event_filter_pattern.as_deref().unwrap_or_default();
        let pattern = pattern(&mut validation, written, "logEventFilterPattern");
        validation.finish().map_err(Error::InvalidParameter)?;
        let streams = match (&call.log_stream_names, &call.log_stream_name_prefixes) {
            (Some(_), Some(_)) => {
                return Err(Error::InvalidParameter(
                    "logStreamNames and logStreamNamePrefixes are mutually exclusive parameters.".into(),
                ));
            }
            (Some(_), None) | (None, Some(_)) if identifiers.len() > 1 => {
                return Err(Error::InvalidParameter(
                    "logStreamNames and logStreamNamePrefixes can be given with one log group only.".into(),
                ));
            }
            (Some(names), None) => Streams::Named(names.clone()),
            (None, Some(prefixes)) => Streams::Beginning(prefixes.clone()),
            (None, None) => Streams::All,
        };
        let mut groups = Vec::with_capacity(identifiers.len());
        for identifier in identifiers {
            // a name is none, and neither is an ARN of all streams
            let name = group_of_arn(identifier).filter(|_| !identifier.ends_with('*'));
            let name = name.ok_or_else(|| Error::InvalidParameter(format!("The log group identifier {identifier:?} is not the ARN of a log group.")))?;
            self.registry.check_streams_exist(name, &Streams::All)?;
            groups.push((name.to_string(), format!("{}:{name}", self.config.account_id)));
        }
        let pattern = pattern.transpose().map_err(|error| Error::InvalidParameter(error.to_string()))?;
        let pattern = pattern.ok_or_else(|| Error::Internal("a pattern that is fit was not read".into()))?;
        Ok(Session { groups, streams, pattern })
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + UPDATE_EVERY, UPDATE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a session shows.
#[derive(Debug)]
struct Session {
    /// Names, and how events name them.
    groups: Vec<(String, String)>,
    streams: Streams,
    pattern: FilterPattern,
}

/// The next update so far.
#[derive(Debug, Default)]
struct Update {
    results: Vec<Value>,
    /// Of the messages.
    bytes: usize,
    is_sampled: bool,
}

impl Update {
    fn take_in(&mut self, tailed: TailEvent, session: &Session, receiver: &Receiver) {
        self.is_sampled |= tailed.dropped > 0 || tailed.missed_batches > 0;
        for event in tailed.hits.into_iter().filter_map(Event::of) {
            // nothing that comes now changes the update
            if self.results.len() >= MAX_RESULTS && self.is_sampled {
                return;
            }
            let Some((_, identifier)) = session.groups.iter().find(|(name, _)| *name == event.group) else {
                continue;
            };
            let is_shown = receiver.registry.shows(&event.group, &event.stream, event.ingestion_millis);
            if !is_shown || !session.streams.have(&event.stream) || !session.pattern.matches(&event.message) {
                continue;
            }
            let bytes = self.bytes + event.message.len();
            let has_room = self.results.is_empty() || self.results.len() < MAX_RESULTS && bytes <= MAX_UPDATE_BYTES;
            if !has_room || event.message.len() > MAX_MESSAGE_BYTES {
                self.is_sampled = true;
                continue;
            }
            self.bytes = bytes;
            self.results.push(json!({
                "logStreamName": event.stream,
                "logGroupIdentifier": identifier,
                "timestamp": event.timestamp_millis(),
                "ingestionTime": event.ingestion_millis,
                "message": event.message,
            }));
        }
    }

    fn frame(self) -> Bytes {
        event(
            "sessionUpdate",
            &json!({ "sessionMetadata": { "sampled": self.is_sampled }, "sessionResults": self.results }),
        )
    }
}

/// A session under way.
struct Frames {
    first: Option<Bytes>,
    receiver: Arc<Receiver>,
    session: Session,
    /// `None` once the last frame was given.
    tail: Option<Tail>,
    ticks: Interval,
    ends: Instant,
    update: Update,
}

impl Frames {
    fn stream(self) -> impl Stream<Item = std::result::Result<Bytes, std::convert::Infallible>> {
        futures::stream::unfold(self, |mut frames| async move {
            let frame = frames.next().await?;
            Some((Ok(frame), frames))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let tail = self.tail.as_mut()?;
            tokio::select! {
                // updates come each second even where events never stop
                biased;
                now = self.ticks.tick() => {
                    if now >= self.ends {
                        self.tail = None;
                        return Some(exception("SessionTimeoutException", &json!({ "message": "The session has ended: it was open for three hours." })));
                    }
                    return Some(std::mem::take(&mut self.update).frame());
                }
                event = tail.next_event() => match event {
                    Some(event) => self.update.take_in(event, &self.session, &self.receiver),
                    None => {
                        self.tail = None;
                        return Some(exception("SessionStreamingException", &json!({ "message": "The server is ending; start another session." })));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
