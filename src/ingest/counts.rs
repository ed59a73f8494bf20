//! What the ledger counts and no frame of the log says: refused, repeated and dropped records, requests that are rejected whole. While
//! there are such, a frame of its own says them, at most once a second, so that `kill -9` loses no more than that. A replay
//! counts them again; a flush's sums are without those that no frame below its cut says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::accept::refusal;
use super::{COUNTS_FRAME, Ingest, Outcomes, Refused};
use crate::wal::Frame;

/// How often counts are brought to the log.
const EVERY: Duration = Duration::from_secs(1);

impl Ingest {
    /// Brings counts to the log, for ever.
    pub(super) async fn keep_counts(&self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.log_counts().await;
        }
    }

    /// Brings the counts to the log that nothing there says. If it does not take them, they stay for the next time.
    pub(super) async fn log_counts(&self) {
        let inner = &self.inner;
        if !inner.ledger.has_alone() || inner.is_superseded() || inner.counts_have_ended.load(Ordering::Acquire) {
            return;
        }
        let ingest = self.clone();
        let logged = self.in_own_task(async move { ingest.append_counts().await }).await;
        if let Err(refused) = logged {
            tracing::debug!(%refused, "the log does not take what the ledger has counted; trying again");
        }
    }

    /// Must run to its end.
    async fn append_counts(&self) -> Result<(), Refused> {
        let inner = &self.inner;
        // no cut sees them taken and not yet there
        let _publication = inner.publication.read().await;
        if inner.counts_have_ended.load(Ordering::Acquire) || inner.has_left.load(Ordering::Acquire) {
            return Err(Refused::Draining);
        }
        let taken = inner.ledger.take_alone();
        if taken.sums().is_empty() {
            return Ok(());
        }
        // if it is not taken, they are given back
        inner.wal.append(frame(taken.sums(), inner.clock.now_nanos())?).await.map_err(refusal)?;
        taken.are_logged();
        // a node that takes nothing else flushes for them
        inner.note_state_waits();
        Ok(())
    }

    /// No frame says counts from now on: a flush that begins later covers all that do.
    pub(super) fn end_counts(&self) {
        self.inner.counts_have_ended.store(true, Ordering::Release);
    }
}

/// Of the payload below.
const VERSION: u32 = 1;

/// A frame's payload; sums as in the catalog's records.
#[derive(serde::Deserialize, serde::Serialize)]
struct Payload {
    v: u32,
    #[serde(default)]
    sums: Vec<(String, String, Outcomes)>,
}

/// The frame of counts: a version and the sums, in JSON.
pub(super) fn frame(sums: &[(String, String, Outcomes)], now_nanos: i64) -> Result<Frame, Refused> {
    let payload = Payload {
        v: VERSION,
        sums: sums.to_vec(),
    };
    let payload = serde_json::to_vec(&payload).map_err(|error| Refused::TooLarge(error.to_string()))?;
    Ok(Frame {
        kind: COUNTS_FRAME,
        flags: 0,
        source: 0,
        received_at_nanos: now_nanos,
        payload: payload.into(),
    })
}

/// Reads [`frame`] back.
pub(super) fn read(payload: &[u8]) -> Result<Vec<(String, String, Outcomes)>, String> {
    let payload: Payload = serde_json::from_slice(payload).map_err(|error| format!("its counts cannot be read: {error}"))?;
    match payload.v {
        VERSION => Ok(payload.sums),
        other => Err(format!("its counts have version {other}, and this program reads {VERSION}")),
    }
}
