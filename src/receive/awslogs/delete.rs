//! `DeleteLogGroup` and `DeleteLogStream`: what is gone, and what it leaves behind for a while.
//!
//! 1. The group or stream is taken out of memory: no call sees it any more, and no event is taken for it.
//! 2. Its rows are ordered to be deleted ([`crate::ingest::Ingest::delete`]): all that were acknowledged by then, in memory, log and
//!    blocks.
//! 3. A note of when it went is durable (`loggone/GROUP`, `loggone/GROUP\0STREAM`). Until its rows are gone in truth, and on nodes
//!    that learn of it later, the note keeps them hidden, also behind a group of the same name that is created again.
//! 4. Its documents are removed; then the client has its answer.
//!
//! When 2 or 3 fails, the group is there again as it was, and the client is asked to come again. Notes are kept 30 days.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;

use super::error::{Error, Result};
use super::registry::{Group, Groups, Registry, StreamRecord, check_stream, group_key, group_name, stream_key};
use super::wire;
use crate::decode::awslogs::Validation;
use crate::ingest::{DeleteError, DeleteRequest};
use crate::model::{Table, TimeRange};
use crate::query::Query;

/// Notes of what is gone lie under this.
pub(super) const GONE_KEY: &str = "loggone/";
/// Notes are kept so long: other nodes have learnt of them, and rows are gone.
const KEPT_MILLIS: i64 = 30 * 86_400_000;
/// Documents removed at once.
const REMOVED_AT_ONCE: usize = 64;

/// When groups and streams were deleted, by name; a stream's is `GROUP\0STREAM`.
#[derive(Debug, Default)]
pub(super) struct Gone(BTreeMap<String, i64>);

impl Gone {
    /// When something of this name was deleted last.
    pub(super) fn at(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// When a stream of this name was deleted last, alone or with its group: what came up to then is gone.
    pub(super) fn of_stream(&self, group: &str, stream: &str) -> Option<i64> {
        if self.0.is_empty() {
            return None;
        }
        self.at(group).max(self.at(&format!("{group}\0{stream}")))
    }

    pub(super) fn insert(&mut self, name: &str, at_millis: i64) {
        let at = self.0.entry(name.to_string()).or_default();
        *at = (*at).max(at_millis);
    }
}

impl From<DeleteError> for Error {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Catalog(_) => Error::Unavailable {
                message: error.to_string(),
                retry_after: super::super::answer::BUSY_RETRY_AFTER,
            },
            DeleteError::TooMany(_) => Error::LimitExceeded(error.to_string()),
            DeleteError::Query(_) | DeleteError::Table(_) => Error::Internal(error.to_string()),
        }
    }
}

impl Registry {
    /// Whether events of a stream that came at a time are shown: those of streams that exist, as they are now.
    pub(super) fn shows(&self, group: &str, stream: &str, ingestion_millis: i64) -> bool {
        let groups = self.read();
        let exists = groups.by_name.get(group).is_some_and(|group| group.streams.contains(stream));
        exists && groups.gone.of_stream(group, stream).is_none_or(|at| at < ingestion_millis)
    }

    /// Whether all events of a stream are shown, or none; `None` where some may be of an earlier stream of that name.
    pub(super) fn shows_all(&self, group: &str, stream: &str) -> Option<bool> {
        let groups = self.read();
        if !groups.by_name.get(group).is_some_and(|group| group.streams.contains(stream)) {
            return Some(false);
        }
        groups.gone.of_stream(group, stream).is_none().then_some(true)
    }

    /// `DeleteLogGroup`.
    pub async fn delete_log_group(&self, call: &wire::Delete, now_millis: i64) -> Result<()> {
        let name = group_name(&call.log_group_name)?;
        let _changing = self.changing(name).await;
        let group = {
            let mut groups = self.write();
            let group = groups.by_name.get(name).ok_or(Error::NotFound("group"))?;
            if group.record.deletion_protection {
                return Err(Error::Refused("The log group is protected from being deleted.".into()));
            }
            groups.take_group(name).ok_or(Error::NotFound("group"))?
        };
        let gone_millis = now_millis.max(group.record.created_millis);
        if let Err(error) = self.order(Query::equals("@log_group", name), name, gone_millis).await {
            self.write().put_group(name, group);
            return Err(error);
        }
        self.remove_documents(name, &group).await;
        self.intake().put_state(&group_key(name), None).await?;
        Ok(())
    }

    /// `DeleteLogStream`.
    pub async fn delete_log_stream(&self, call: &wire::Delete, now_millis: i64) -> Result<()> {
        let mut validation = Validation::new();
        check_stream(&mut validation, &call.log_group_name, &call.log_stream_name);
        validation.finish().map_err(Error::InvalidParameter)?;
        let group = call.log_group_name.as_deref().unwrap_or_default();
        let stream = call.log_stream_name.as_deref().unwrap_or_default();
        let _changing = self.changing(&stream_key(group, stream)).await;
        let record = {
            let mut groups = self.write();
            let known = groups.by_name.get(group).ok_or(Error::NotFound("group"))?;
            if known.record.deletion_protection {
                return Err(Error::Refused("The log group is protected from being deleted.".into()));
            }
            groups.take_stream(group, stream).ok_or(Error::NotFound("stream"))?
        };
        let rows = Query::equals("@log_group", group).and(Query::equals("@log_stream", stream));
        let gone_millis = now_millis.max(record.created_millis);
        if let Err(error) = self.order(rows, &format!("{group}\0{stream}"), gone_millis).await {
            self.write().put_stream(group, stream, record);
            return Err(error);
        }
        self.intake().put_state(&stream_key(group, stream), None).await?;
        Ok(())
    }

    /// Orders rows to be deleted, and notes when: not before what is deleted was made, or other nodes would take the note for an old one.
    async fn order(&self, rows: Query, name: &str, now_millis: i64) -> Result<()> {
        let request = DeleteRequest {
            table: Table::Logs,
            query: rows.to_string(),
            range: TimeRange::ALL,
        };
        self.intake().delete(&request).await?;
        self.intake()
            .put_state(&format!("{GONE_KEY}{name}"), Some(now_millis.to_string().into()))
            .await?;
        self.write().gone.insert(name, now_millis);
        self.forget_old_notes(now_millis).await;
        Ok(())
    }

    async fn forget_old_notes(&self, now_millis: i64) {
        let old: Vec<String> = {
            let mut groups = self.write();
            let is_old = |(_, at): &(&String, &i64)| **at < now_millis - KEPT_MILLIS;
            let old = groups.gone.0.iter().filter(is_old).map(|(name, _)| name.clone()).collect();
            groups.gone.0.retain(|_, at| *at >= now_millis - KEPT_MILLIS);
            old
        };
        for name in old {
            // what stays is removed at the next delete behind a restart
            let _ = self.intake().put_state(&format!("{GONE_KEY}{name}"), None).await;
        }
    }

    async fn remove_documents(&self, group: &str, taken: &Group) {
        let keys: Vec<String> = taken.streams.names().map(|stream| stream_key(group, stream)).collect();
        let intake = self.intake();
        let removals = futures::stream::iter(keys).map(|key| {
            let intake = intake.clone();
            async move { intake.put_state(&key, None).await }
        });
        let mut removals = removals.buffer_unordered(REMOVED_AT_ONCE);
        while let Some(removed) = removals.next().await {
            if let Err(error) = removed {
                // without its group it is left out at the next start
                tracing::warn!(group, %error, "the document of a deleted log stream stays for now");
            }
        }
    }

    /// Takes over that another node deleted a group or a stream.
    pub(super) async fn learn_gone(&self, name: &str, value: &Bytes) {
        let Some(at) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()) else {
            return tracing::error!(name, "another node's note of a deleted log group is damaged and is left out");
        };
        if self.read().gone.at(name).is_some_and(|known| known >= at) {
            return;
        }
        let (group, stream) = match name.split_once('\0') {
            Some((group, stream)) => (group, Some(stream)),
            None => (name, None),
        };
        let key = stream.map_or_else(|| group.to_string(), |stream| stream_key(group, stream));
        let _changing = self.changing(&key).await;
        let taken = {
            let mut groups = self.write();
            groups.gone.insert(name, at);
            match stream {
                None => groups
                    .by_name
                    .get(group)
                    .filter(|known| known.record.created_millis <= at)
                    .is_some()
                    .then(|| groups.take_group(group))
                    .flatten(),
                Some(stream) => {
                    let known = groups.by_name.get(group).and_then(|known| known.streams.get(stream));
                    if known.is_some_and(|known| known.created_millis <= at) {
                        groups.take_stream(group, stream);
                    }
                    None
                }
            }
        };
        self.intake().put_state_relaxed(&format!("{GONE_KEY}{name}"), value.clone());
        match (taken, stream) {
            (Some(taken), None) => {
                self.remove_documents(group, &taken).await;
                let _ = self.intake().put_state(&group_key(group), None).await;
            }
            (_, Some(stream)) if self.read().by_name.get(group).is_none_or(|known| !known.streams.contains(stream)) => {
                let _ = self.intake().put_state(&stream_key(group, stream), None).await;
            }
            _ => {}
        }
    }
}

impl Groups {
    fn take_group(&mut self, name: &str) -> Option<Group> {
        let group = self.by_name.remove(name)?;
        self.filters.set(name, &[]);
        self.n_streams -= group.streams.len();
        Some(group)
    }

    fn put_group(&mut self, name: &str, group: Group) {
        self.tell_filters(name, &group.record);
        self.n_streams += group.streams.len();
        self.by_name.insert(name.to_string(), group);
    }

    fn take_stream(&mut self, group: &str, stream: &str) -> Option<StreamRecord> {
        let group = self.by_name.get_mut(group)?;
        let record = group.streams.remove(stream)?;
        group.bytes -= record.bytes;
        self.n_streams -= 1;
        Some(record)
    }

    fn put_stream(&mut self, group: &str, stream: &str, record: StreamRecord) {
        let Some(group) = self.by_name.get_mut(group) else { return };
        group.bytes += record.bytes;
        self.n_streams += 1;
        group.streams.insert(stream, record);
    }
}
