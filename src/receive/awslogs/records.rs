//! Single events and what is in them: `GetLogRecord`, `GetLogGroupFields`, `TestMetricFilter`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::describe::{check_group, one_group};
use super::error::{Error, Result};
use super::events::{Streams, pattern};
use super::insights::{Group, event};
use super::pages::unread;
use super::{Receiver, wire};
use crate::access::Caller;
use crate::decode::awslogs::Validation;
use crate::model::{EventId, Table, TimeRange};
use crate::query::insights::Event;
use crate::query::{Hit, Order, Query, SearchRequest};

/// Messages of one `TestMetricFilter`.
const MAX_TEST_MESSAGES: usize = 50;
/// Fields of a group that are told.
const MAX_GROUP_FIELDS: usize = 1_000;
/// The newest events of a group's time that its fields are counted over.
const SAMPLED_EVENTS: usize = 5_000;
const SECOND_NANOS: i64 = 1_000_000_000;
/// Around a given time, on each side; and before now without one.
const AROUND_SECONDS: i64 = 8 * 60;
const RECENT_SECONDS: i64 = 15 * 60;

impl Receiver {
    pub(super) fn test_metric_filter(&self, call: &wire::TestMetricFilter) -> Result<Value> {
        let mut validation = Validation::new();
        let written = validation.required(&call.filter_pattern, "filterPattern").map_or("", String::as_str);
        let pattern = pattern(&mut validation, written, "filterPattern");
        let messages = validation.required(&call.log_event_messages, "logEventMessages").map_or(&[][..], Vec::as_slice);
        let n = messages.len();
        if call.log_event_messages.is_some() && n == 0 {
            validation.violation("[]", "logEventMessages", "Member must have length greater than or equal to 1");
        }
        if n > MAX_TEST_MESSAGES {
            let expected = format_args!("Member must have length less than or equal to {MAX_TEST_MESSAGES}").to_string();
            validation.violation(format_args!("[{n} messages]"), "logEventMessages", expected);
        }
        if messages.iter().any(String::is_empty) {
            validation.violation("", "logEventMessages.member", "Member must have length greater than or equal to 1");
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let pattern = pattern.transpose().map_err(|error| Error::InvalidParameter(error.to_string()))?;
        let Some(pattern) = pattern else {
            return Err(Error::Internal("a pattern that is fit was not read".into()));
        };
        let found = messages.iter().enumerate().filter_map(|(number, message)| {
            let extracted = pattern.extract(message)?;
            Some(json!({ "eventNumber": number + 1, "eventMessage": message, "extractedValues": extracted }))
        });
        Ok(json!({ "matches": found.collect::<Vec<Value>>() }))
    }

    /// `GetLogRecord`: of an event whose group is open to the caller.
    pub(super) async fn get_log_record(&self, call: &wire::GetLogRecord, caller: &Caller) -> Result<Value> {
        let mut validation = Validation::new();
        let pointer = validation.required(&call.log_record_pointer, "logRecordPointer").map_or("", String::as_str);
        validation.finish().map_err(Error::InvalidParameter)?;
        let invalid = || Error::InvalidParameter("The specified logRecordPointer is invalid.".into());
        let id = EventId::parse(pointer).ok_or_else(invalid)?;
        let record = self.engine()?.record(Table::Logs, id.ingest_id, id.time_unix_nano).await?;
        let event = record
            .and_then(|record| self.event_of(record.hit))
            .filter(|event| *event.pointer == *id.pointer() && caller.is_for_group(&event.group))
            .ok_or(Error::NotFound("record"))?;
        let mut record: BTreeMap<String, String> = event.more_fields().map(|(name, value)| (name.to_string(), value)).collect();
        record.insert("@timestamp".into(), event.timestamp_millis.to_string());
        record.insert("@ingestionTime".into(), event.ingestion_millis.to_string());
        record.insert("@log".into(), format!("{}:{}", self.config.account_id, event.group));
        record.insert("@ptr".into(), event.pointer.to_string());
        record.insert("@logStream".into(), event.stream.to_string());
        record.insert("@message".into(), event.message.to_string());
        Ok(json!({ "logRecord": record }))
    }

    /// An event of a stream that exists.
    fn event_of(&self, hit: Hit) -> Option<Event> {
        let event = event(hit, |group| Some(Group::of(&self.registry, group)))?;
        self.registry.shows(&event.group, &event.stream, event.ingestion_millis).then_some(event)
    }

    pub(super) async fn get_log_group_fields(&self, call: &wire::GetLogGroupFields) -> Result<Value> {
        let mut validation = Validation::new();
        check_group(&mut validation, &call.log_group_name, &call.log_group_identifier);
        if let Some(time) = call.time {
            validation.range(time, "time", 0, i64::MAX);
        }
        validation.finish().map_err(Error::InvalidParameter)?;
        let group = one_group(&call.log_group_name, &call.log_group_identifier)?;
        self.registry.check_streams_exist(group, &Streams::All)?;
        let (from, to) = match call.time {
            Some(time) => (time.saturating_sub(AROUND_SECONDS), time.saturating_add(AROUND_SECONDS)),
            None => {
                let now = self.clock.now_nanos().div_euclid(SECOND_NANOS);
                (now - RECENT_SECONDS, now.saturating_add(1))
            }
        };
        let request = SearchRequest {
            table: Table::Logs,
            query: Query::equals("@log_group", group),
            range: TimeRange::new(from.saturating_mul(SECOND_NANOS), to.saturating_mul(SECOND_NANOS)),
            limit: SAMPLED_EVENTS,
            cursor: None,
            order: Order::NewestFirst,
        };
        let answer = self.engine()?.search(&request).await?;
        if !answer.coverage.complete {
            return Err(unread(&answer.coverage));
        }
        let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
        let mut n_events = 0;
        for event in answer.hits.into_iter().filter_map(|hit| self.event_of(hit)) {
            if *event.group != *group {
                continue;
            }
            n_events += 1;
            let own = ["@ingestionTime", "@log", "@logStream", "@message", "@timestamp"].map(Arc::from);
            for name in own.into_iter().chain(event.more_fields().map(|(name, _)| name)) {
                *counts.entry(name).or_default() += 1;
            }
        }
        let mut counts: Vec<(Arc<str>, usize)> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        counts.truncate(MAX_GROUP_FIELDS);
        // a field that is there at all is not nowhere
        let percent = |n: usize| (n * 100).div_ceil(n_events.max(1)).min(100);
        let shown: Vec<Value> = counts.iter().map(|(name, n)| json!({ "name": name, "percent": percent(*n) })).collect();
        Ok(json!({ "logGroupFields": shown }))
    }
}
