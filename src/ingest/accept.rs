//! A request's way in: paced, admitted, appended, acknowledged, and in the head.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::Instrument as _;

use super::ledger::{Senders, Told};
use super::repeats::IsRepeat;
use super::{Ack, Ingest, Inner, Ledger, MAX_PACE, MAX_ROWS_PER_REQUEST, Received, Refused, Rules, STATE_FRAME, links, metrics, rules};
use crate::correlate::correlate;
use crate::correlate::link::{self, Known, Names};
use crate::decode::{Context, Decoded, Kind, Rejected};
use crate::emf;
use crate::model::{Batch, Rows, Signal};
use crate::wal::{self, Frame, Lsn};

impl Ingest {
    /// Makes a decoded request durable and visible. `decoded.rejected` is counted; only `decoded.batch` is kept.
    ///
    /// A batch without rows is acknowledged without touching the log, and so is a request that came before ([`super::repeats`]).
    pub async fn accept(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        let mut unanswered = Unanswered {
            ledger: Some(&self.inner.ledger),
            receiver: received.receiver,
            records: RecordCounts::of_request(&decoded, received.signal),
        };
        self.pace().await;
        unanswered.ledger = None;
        self.accept_now(received, decoded).await
    }

    async fn accept_now(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        let ingest = self.clone();
        self.in_own_task(async move {
            let (receiver, records) = (received.receiver, RecordCounts::of_request(&decoded, received.signal));
            let result = ingest.take(received, decoded).await;
            if result.is_err() {
                records.refused(&ingest.inner.ledger, receiver);
            }
            result
        })
        .await
    }

    /// The same, but nothing waits for blocks, and a refusal is not counted: for a caller that offers the request again,
    /// and counts its end.
    pub async fn offer(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        let ingest = self.clone();
        self.in_own_task(async move { ingest.take(received, decoded).await }).await
    }

    async fn take(&self, received: Received, decoded: Decoded) -> Result<Ack, Refused> {
        let Received {
            receiver,
            signal,
            kind,
            context,
            body,
            encoding,
            repeats_since_nanos,
            share,
        } = received;
        let claim = match decoded.identity.filter(|_| !decoded.batch.is_empty()) {
            None => None,
            Some(identity) => match self.inner.repeats.claim(identity, repeats_since_nanos, context.received_at_nanos).await {
                Ok(claim) => claim,
                Err(IsRepeat) => {
                    RecordCounts::of(&decoded.batch, signal).repeated(&self.inner.ledger, receiver);
                    self.inner.ledger.repeated_of(receiver, &Senders::of(&decoded.batch));
                    self.inner.count_rejected(receiver, signal, &decoded.rejected, Told::Alone);
                    self.inner.count_rejected(receiver, Signal::Metrics, &decoded.rejected_points, Told::Alone);
                    return Ok(Ack { lsn: 0, is_repeat: true });
                }
            },
        };
        let permit = self.admit(&body, &decoded.batch)?;
        let lsn = if decoded.batch.is_empty() {
            self.inner.count_rejected(receiver, signal, &decoded.rejected, Told::Alone);
            self.inner.count_rejected(receiver, Signal::Metrics, &decoded.rejected_points, Told::Alone);
            0
        } else {
            let rules = self.inner.rules.in_effect(&decoded.batch);
            let mut frame = Frame {
                kind: kind as u8,
                flags: encoding as u8,
                // what the decoder knew, so that replay finds the same: at most ten years of days
                source: u16::try_from(context.retention_days).unwrap_or(0),
                received_at_nanos: context.received_at_nanos,
                payload: body,
            };
            if let Some(rules) = &rules {
                rules::write(&mut frame, rules.as_ref());
            }
            let names = link::names(&decoded.batch);
            let known = Known::new(self.inner.book.traces_of(names.wanted(&decoded.batch)));
            links::write(&mut frame, &known);
            let publish = Publish::Batch {
                decoded,
                rules,
                names,
                known,
                received_at_nanos: context.received_at_nanos,
                receiver,
                signal,
            };
            self.append_and_publish(frame, publish).await?
        };
        drop((permit, claim, share));
        Ok(Ack { lsn, is_repeat: false })
    }

    /// Runs to its end whatever becomes of the caller: one that goes away half-way must not leave a frame in the log whose
    /// rows are not in the head, memory that no bound knows of, or a record that no sum counts.
    pub(super) async fn in_own_task<T: Send + 'static>(&self, work: impl Future<Output = Result<T, Refused>> + Send + 'static) -> Result<T, Refused> {
        let task = tokio::spawn(work.in_current_span());
        task.await.unwrap_or_else(|panic| Err(Refused::overloaded(format!("internal error: {panic}"))))
    }

    /// Makes rows that tracelake wrote itself durable and visible.
    pub async fn accept_own(&self, rows: Rows) -> Result<Ack, Refused> {
        self.accept_derived(vec![rows]).await
    }

    /// The same with rows of several tables, at most one entry a table: all of them become durable and visible together, or none.
    pub async fn accept_derived(&self, tables: Vec<Rows>) -> Result<Ack, Refused> {
        let mut body = Vec::new();
        for rows in &tables {
            body.extend(own_body(rows).map_err(|error| Refused::TooLarge(error.to_string()))?);
        }
        let signal = tables.first().map_or(Signal::Logs, |rows| rows.table().signal());
        let context = Context {
            received_at_nanos: self.inner.clock.now_nanos(),
            retention_days: 0,
        };
        let received = Received {
            signal,
            ..Received::plain(Kind::Own, context, body)
        };
        self.accept_now(
            received,
            Decoded {
                batch: Batch { rows: tables },
                ..Decoded::default()
            },
        )
        .await
    }

    /// Waits, for a while, until blocks have caught up.
    async fn pace(&self) {
        let inner = &self.inner;
        let is_ahead = || inner.head.lock().bytes() >= inner.config.pace_bytes && !inner.problems.lock().contains_key("store");
        let caught_up = async {
            loop {
                let has_room = inner.has_room.notified();
                if !is_ahead() {
                    return;
                }
                has_room.await;
            }
        };
        if tokio::time::timeout(MAX_PACE, caught_up).await.is_err() {
            metrics::WAITED_IN_VAIN.inc();
        }
    }

    /// Checks the bounds. The permit stands for the body's bytes on their way to the log.
    fn admit(&self, body: &Bytes, batch: &Batch) -> Result<tokio::sync::OwnedSemaphorePermit, Refused> {
        let inner = &self.inner;
        if inner.draining.load(Ordering::Acquire) {
            return Err(Refused::Draining);
        }
        if let Some(rows) = batch.rows.iter().find(|rows| rows.len() >= MAX_ROWS_PER_REQUEST) {
            return Err(Refused::TooLarge(format!(
                "{} records in one request, at most {} are taken",
                rows.len(),
                MAX_ROWS_PER_REQUEST - 1
            )));
        }
        let head_bytes = inner.head.lock().bytes();
        if head_bytes >= inner.config.max_head_bytes {
            inner.flush_wanted.notify_one();
            return Err(Refused::overloaded(format!(
                "{head_bytes} bytes of rows wait for blocks, ingest.max_head_bytes is {}",
                inner.config.max_head_bytes
            )));
        }
        let permits = permits(body.len()).min(permits(inner.config.max_in_flight_bytes));
        inner.in_flight.clone().try_acquire_many_owned(permits).map_err(|_| {
            Refused::overloaded(format!(
                "request bodies in flight reach ingest.max_in_flight_bytes = {}",
                inner.config.max_in_flight_bytes
            ))
        })
    }

    /// Appends and publishes; must run to its end.
    async fn append_and_publish(&self, frame: Frame, publish: Publish) -> Result<Lsn, Refused> {
        let inner = &self.inner;
        let _publication = inner.publication.read().await;
        if inner.has_left.load(Ordering::Acquire) {
            return Err(Refused::Draining);
        }
        // a flush may hang on the store for hours: a delete that it learns of then must not take what came after the order
        inner.note_position();
        match inner.wal.append(frame).await {
            // it survives a crash
            Ok(lsn) => {
                // and now a query sees it
                inner.publish(lsn, publish);
                Ok(lsn)
            }
            Err(error) => {
                if matches!(error, wal::Error::Full { .. } | wal::Error::DiskFull { .. }) {
                    inner.flush_wanted.notify_one();
                }
                Err(refusal(error))
            }
        }
    }

    /// Sets (`Some`) or removes (`None`) a small document of another part; it survives a crash once this returns.
    pub async fn put_state(&self, key: &str, value: Option<Bytes>) -> Result<(), Refused> {
        if self.inner.draining.load(Ordering::Acquire) {
            return Err(Refused::Draining);
        }
        let frame = state_frame(key, value.as_deref(), self.inner.clock.now_nanos());
        let (ingest, publish) = (self.clone(), Publish::State { key: key.to_string(), value });
        self.in_own_task(async move { ingest.append_and_publish(frame, publish).await }).await?;
        Ok(())
    }
}

/// A request whose client may go away while it waits: it then counts as refused.
struct Unanswered<'a> {
    ledger: Option<&'a Ledger>,
    receiver: &'static str,
    records: RecordCounts,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger {
            self.records.refused(ledger, self.receiver);
        }
    }
}

/// What an appended frame means to the memory.
#[derive(Debug)]
enum Publish {
    Batch {
        decoded: Decoded,
        rules: Option<Arc<dyn Rules>>,
        names: Names,
        known: Known,
        received_at_nanos: i64,
        receiver: &'static str,
        signal: Signal,
    },
    State {
        key: String,
        value: Option<Bytes>,
    },
}

impl Inner {
    fn publish(&self, lsn: Lsn, publish: Publish) {
        match publish {
            Publish::Batch {
                decoded,
                rules,
                names,
                known,
                received_at_nanos,
                receiver,
                signal,
            } => {
                if let Some(identity) = decoded.identity {
                    self.repeats.note(identity, received_at_nanos);
                }
                let (completed, found) = self.completed(decoded, received_at_nanos, rules.as_deref(), (&names, &known));
                let Decoded {
                    batch,
                    rejected,
                    rejected_points,
                    ..
                } = completed;
                if receiver != Kind::Own.origin().0 {
                    self.watermarks.observe(receiver, &batch, self.clock.now_nanos());
                }
                let is_only_derived = batch.rows.iter().all(|rows| rows.table().is_derived());
                if receiver != Kind::SelfLogs.origin().0 && !is_only_derived {
                    self.has_others_rows.store(true, Ordering::Release);
                }
                let (records, senders) = (RecordCounts::of(&batch, signal), Senders::of(&batch));
                self.publish_batch(lsn, batch, &found);
                records.accepted(&self.ledger, receiver);
                self.ledger.accepted_of(receiver, &senders);
                self.count_rejected(receiver, signal, &rejected, Told::InFrame);
                self.count_rejected(receiver, Signal::Metrics, &rejected_points, Told::InFrame);
            }
            Publish::State { key, value } => self.publish_state(lsn, key, value),
        }
    }

    /// What is found in the rows of a request once it is in the log: trace IDs, severities, the metrics that lines hold, and what rules
    /// make of them. The same at replay. What the rows tell of names is remembered, and given with those that wait to be told.
    pub(super) fn completed(
        &self,
        decoded: Decoded,
        received_at_nanos: i64,
        rules: Option<&dyn Rules>,
        (names, known): (&Names, &Known),
    ) -> (Decoded, link::Found) {
        let (batch, found) = link::link(correlate(decoded.batch), names, known);
        link::count(&batch);
        self.book.learn(&found.told);
        let extracted = emf::extract(Decoded { batch, ..decoded }, received_at_nanos);
        let completed = match rules {
            Some(rules) => rules.apply(extracted),
            None => extracted,
        };
        (completed, found)
    }

    pub(super) fn count_rejected(&self, receiver: &'static str, signal: Signal, rejected: &[Rejected], told: Told) {
        for rejected in rejected {
            self.ledger.rejected_of(receiver, signal, rejected, told);
        }
    }

    fn publish_batch(&self, lsn: Lsn, batch: Batch, found: &link::Found) {
        let batch = with_ids(lsn, batch);
        let wants_flush = {
            let mut head = self.head.lock();
            let now_nanos = self.clock.now_nanos();
            for rows in &batch.rows {
                head.push(lsn, rows.clone(), now_nanos);
            }
            head.link(lsn, found);
            metrics::head(&head);
            head.active_bytes() >= self.config.flush_bytes || head.active_rows() >= self.config.flush_rows
        };
        if wants_flush {
            self.flush_wanted.notify_one();
        }
        // no reader is no error
        let _ = self.tail.send(Arc::new(batch));
    }

    pub(super) fn note_state_waits(&self) {
        self.states_since_nanos.lock().get_or_insert_with(|| self.clock.now_nanos());
    }

    /// Sets a document, unless a later frame has set it already: two that are appended together may come here in any order.
    pub(super) fn publish_state(&self, lsn: Lsn, key: String, value: Option<Bytes>) {
        self.note_state_waits();
        let mut states = self.states.lock();
        let mut lsns = self.state_lsns.lock();
        if lsns.get(&key).is_some_and(|later| *later > lsn) {
            return;
        }
        lsns.insert(key.clone(), lsn);
        states.set(key, value);
    }
}

/// The rows of a request that were records to the client, not made beside them, by what they are to the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordCounts {
    counts: [(Signal, u64); 3],
    /// What a request without rows counts as.
    signal: Signal,
}

impl RecordCounts {
    pub(super) fn of(batch: &Batch, signal: Signal) -> RecordCounts {
        let count = |signal: Signal| {
            let records = batch.rows.iter().filter(|rows| rows.table().holds_records() && rows.table().signal() == signal);
            (signal, records.map(Rows::len).sum::<usize>() as u64)
        };
        RecordCounts {
            counts: [Signal::Logs, Signal::Traces, Signal::Metrics].map(count),
            signal,
        }
    }

    /// All of a request: a client that is told to send it again sends its bad records again too. They are rejected once the request is taken.
    fn of_request(decoded: &Decoded, signal: Signal) -> RecordCounts {
        let mut records = RecordCounts::of(&decoded.batch, signal);
        for (of, rejected) in [(signal, &decoded.rejected), (Signal::Metrics, &decoded.rejected_points)] {
            let n: u64 = rejected.iter().map(|rejected| rejected.count).sum();
            if let Some((_, sum)) = records.counts.iter_mut().find(|(signal, _)| *signal == of) {
                *sum += n;
            }
        }
        records
    }

    pub(super) fn accepted(&self, ledger: &Ledger, receiver: &str) {
        for (signal, n) in self.counts {
            ledger.accepted(receiver, signal, n);
        }
    }

    fn repeated(&self, ledger: &Ledger, receiver: &str) {
        for (signal, n) in self.counts {
            ledger.repeated(receiver, signal, n);
        }
    }

    /// At least one: the request.
    fn refused(&self, ledger: &Ledger, receiver: &str) {
        if self.counts.iter().all(|(_, n)| *n == 0) {
            return ledger.refused(receiver, self.signal, 1);
        }
        for (signal, n) in self.counts {
            ledger.refused(receiver, signal, n);
        }
    }
}

/// Gives each row of a request its `ingest_id`, and gives back the memory its builders did not use.
pub(super) fn with_ids(lsn: Lsn, batch: Batch) -> Batch {
    let first = first_ingest_id_of(lsn);
    let numbered = |rows: Rows| {
        let numbered = rows.with_ingest_ids(first);
        // the last other holder of the columns: what nobody shares can be shrunk
        drop(rows);
        numbered.compacted()
    };
    Batch {
        rows: batch.rows.into_iter().map(numbered).collect(),
    }
}

/// The `ingest_id` of the first row of each table that came at a log position.
pub(super) fn first_ingest_id_of(lsn: Lsn) -> i64 {
    (lsn as i64) << 20
}

/// The log position that a row's `ingest_id` tells.
pub(super) fn lsn_of(ingest_id: i64) -> Lsn {
    (ingest_id >> 20) as Lsn
}

/// In-flight permits count KiB, so that their number fits.
pub(super) fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1)
}

pub(super) fn refusal(error: wal::Error) -> Refused {
    match error {
        wal::Error::TooLarge { .. } => Refused::TooLarge(error.to_string()),
        wal::Error::Closed => Refused::Draining,
        other => Refused::overloaded(other.to_string()),
    }
}

/// The frame of a state document: key length, key, 1 + value or 0.
pub(super) fn state_frame(key: &str, value: Option<&[u8]>, now_nanos: i64) -> Frame {
    let mut payload = Vec::with_capacity(key.len() + value.map_or(0, <[u8]>::len) + 5);
    payload.extend_from_slice(&(key.len() as u32).to_le_bytes());
    payload.extend_from_slice(key.as_bytes());
    payload.push(u8::from(value.is_some()));
    payload.extend_from_slice(value.unwrap_or_default());
    Frame {
        kind: STATE_FRAME,
        flags: 0,
        source: 0,
        received_at_nanos: now_nanos,
        payload: payload.into(),
    }
}

/// Reads [`state_frame`] back; `None` if it is damaged.
pub(super) fn read_state(payload: &Bytes) -> Option<(String, Option<Bytes>)> {
    let length = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?) as usize;
    let key = std::str::from_utf8(payload.get(4..4 + length)?).ok()?.to_string();
    let value = (*payload.get(4 + length)? == 1).then(|| payload.slice(5 + length..));
    Some((key, value))
}

/// See [`Kind::Own`].
pub(super) fn own_body(rows: &Rows) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let stored = rows.to_batch(None)?;
    let metadata = [("table".to_string(), rows.table().name().to_string())].into();
    let schema = stored.schema().as_ref().clone().with_metadata(metadata);
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&stored.with_schema(Arc::new(schema))?)?;
    writer.into_inner()
}
