//! Deletes by query, as the write path sees them: the order, and the rows of the head that it means.
//!
//! An order is one catalog record; what it concerns is told in [`crate::catalog`]. Here the node's own cut is found, the
//! last log position whose rows are concerned: for the node that takes the order the last one acknowledged, for the
//! others the last one acknowledged by the time of the order, as far as their clocks agree. Flushes leave out the rows up
//! to the cut that the query means, in this life or, after a crash and a replay, the next. Blocks are the maintainer's
//! work ([`super::maintain`]). Of which traces spans are deleted is noted ([`super::lost`]): their summaries are corrected.
//!
//! What a query means is the query engine's business: it comes in as a [`Finder`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::buffer::BooleanBuffer;
use parking_lot::Mutex;

use super::accept::lsn_of;
use super::flush::{Remedy, Setback, off_the_runtime};
use super::lost::{Lost, OldTraces};
use super::{Ingest, Inner};
use crate::block::{self, Block};
use crate::catalog::{self, Catalog, Commit, CommitId, CommitKind, Delete, DeleteOrder, Erased, Join};
use crate::fail_point;
use crate::model::{Rows, Table, TimeRange};
use crate::wal::Lsn;

/// Between two notes of how far the log reaches, at first.
const POSITION_EVERY_NANOS: i64 = 250_000_000;
/// Notes kept, 256 KiB: of an hour at first, then of two at half as many an hour, and so on. Only a store that is away makes them many.
const MAX_POSITIONS: usize = 16_384;
/// Notes are kept so long behind the last look at the catalog: an order's time is another clock's, and taken before it is stored.
const POSITION_KEPT_NANOS: i64 = 600_000_000_000;
/// Deletes by people, and as many by ourselves, that may be under way: each stands in every checkpoint of the catalog, with the
/// blocks it has yet to look at.
const MAX_UNDER_WAY: usize = if cfg!(test) { 3 } else { 1_000 };
/// Tries to commit an order; the person who gives it waits.
const ORDER_TRIES: u32 = 4;

/// Tells which rows a query means.
pub trait Finder: Send + Sync + std::fmt::Debug {
    /// Reads a query; relative times in it are counted from `now_nanos`. Says in words what is wrong with it.
    fn compile(&self, table: Table, query: &str, now_nanos: i64) -> Result<Arc<dyn RowTest>, String>;
}

/// Tests rows of one table.
pub trait RowTest: Send + Sync + std::fmt::Debug {
    /// The rows that are meant and lie in the range of time.
    fn in_rows(&self, rows: &Rows, range: &TimeRange) -> Result<BooleanBuffer, String>;
    /// The same of a block, as bits over all of its rows.
    fn in_block(&self, block: &Block, range: &TimeRange) -> Result<BooleanBuffer, String>;
}

/// A delete with its query read.
#[derive(Debug)]
pub(super) struct Erasure {
    pub(super) table: Table,
    pub(super) range: TimeRange,
    pub(super) test: Arc<dyn RowTest>,
}

/// Why a delete's query cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("the query of a delete cannot be read: {0}")]
    Catalog(#[from] catalog::Error),
    #[error("the query of a delete is not understood: {0}")]
    Query(String),
}

impl Remedy for Unread {
    fn retry_helps(&self) -> bool {
        matches!(self, Unread::Catalog(error) if error.retry_helps())
    }
    fn is_overtaken(&self) -> bool {
        false
    }
    fn is_superseded(&self) -> bool {
        matches!(self, Unread::Catalog(error) if error.is_superseded())
    }
}

/// The deletes whose queries are read; those that have ended are forgotten.
#[derive(Debug)]
pub(super) struct Erasures {
    finder: Arc<dyn Finder>,
    read: Mutex<BTreeMap<CommitId, Arc<Erasure>>>,
}

impl Erasures {
    pub(super) fn new(finder: Arc<dyn Finder>) -> Self {
        Self {
            finder,
            read: Mutex::default(),
        }
    }

    /// One that has not ended.
    pub(super) async fn of(&self, catalog: &Catalog, id: &CommitId, delete: &Delete) -> Result<Arc<Erasure>, Unread> {
        if let Some(erasure) = self.read.lock().get(id) {
            return Ok(erasure.clone());
        }
        let query = catalog.query_of(delete).await?;
        let test = match delete.order.table {
            Table::Traces => OldTraces::read(&query),
            table => self.finder.compile(table, &query, delete.at_nanos),
        };
        let test = test.map_err(Unread::Query)?;
        let erasure = Arc::new(Erasure {
            table: delete.order.table,
            range: delete.order.range(),
            test,
        });
        let mut read = self.read.lock();
        let snapshot = catalog.snapshot();
        read.retain(|id, _| snapshot.deletes().get(id).is_some_and(|delete| delete.ended_at_nanos.is_none()));
        read.insert(id.clone(), erasure.clone());
        Ok(erasure)
    }
}

/// How far the log reached at some moments, oldest first. A node may learn of a delete hours after its order, if the store was away: until
/// the catalog is read, a note goes only where its neighbours are kept.
#[derive(Debug)]
pub(super) struct Positions {
    notes: VecDeque<(i64, Lsn)>,
    /// Between two of them.
    every_nanos: i64,
}

impl Default for Positions {
    fn default() -> Positions {
        Positions {
            notes: VecDeque::new(),
            every_nanos: POSITION_EVERY_NANOS,
        }
    }
}

impl Positions {
    /// Whether the next note is due.
    fn is_due(&self, now_nanos: i64) -> bool {
        self.notes.back().is_none_or(|(last, _)| now_nanos >= last.saturating_add(self.every_nanos))
    }

    pub(super) fn note(&mut self, now_nanos: i64, lsn: Lsn) {
        if !self.is_due(now_nanos) {
            return;
        }
        if self.notes.len() >= MAX_POSITIONS {
            let mut number = 0;
            self.notes.retain(|_| {
                number += 1;
                number % 2 == 0
            });
            self.every_nanos = self.every_nanos.saturating_mul(2);
        }
        self.notes.push_back((now_nanos, lsn));
    }

    /// No delete will be learnt of that was ordered before this.
    fn forget_before(&mut self, nanos: i64) {
        let n_old = self.notes.partition_point(|(at, _)| *at < nanos);
        self.notes.drain(..n_old);
        if self.notes.len() < MAX_POSITIONS / 2 {
            self.every_nanos = POSITION_EVERY_NANOS;
        }
    }

    /// The last position that was reached by `nanos`, or a little later; `None` if that is later than the last note.
    fn at(&self, nanos: i64) -> Option<Lsn> {
        let after = self.notes.partition_point(|(at, _)| *at < nanos);
        self.notes.get(after).map(|(_, lsn)| *lsn)
    }
}

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Of which table.
    pub table: Table,
    /// The search language's words for it.
    pub query: String,
    /// Event times.
    pub range: TimeRange,
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// It is no query of this table.
    #[error("{0}")]
    Query(String),
    /// The table is not one that can be searched.
    #[error(
        "rows of table {} cannot be deleted by a query, only those of logs and spans (what is made of spans follows them); other tables lose their rows by age, [retention]",
        .0.name()
    )]
    Table(Table),
    /// So many are under way.
    #[error("{0} deletes are under way, and more are not taken until some have ended; GET /api/v1/deletes tells what each waits for")]
    TooMany(usize),
    /// The store or catalog did not take it; it may have happened all the same.
    #[error("the order could not be stored, or its answer was lost: {0}")]
    Catalog(#[from] catalog::Error),
}

impl Ingest {
    /// Orders the rows that match and are acknowledged by now to be deleted. They are gone from answers and blocks when
    /// [`Delete::todo`] is empty and no node is behind ([`crate::catalog::Snapshot::nodes_behind`]).
    pub async fn delete(&self, request: &DeleteRequest) -> Result<CommitId, DeleteError> {
        let inner = &self.inner;
        if !request.table.is_searchable() {
            return Err(DeleteError::Table(request.table));
        }
        let now_nanos = inner.clock.now_nanos();
        inner
            .erasures
            .finder
            .compile(request.table, &request.query, now_nanos)
            .map_err(DeleteError::Query)?;
        self.order(request.table, &request.query, request.range).await
    }

    /// An error if so many deletes are under way that none of this table is taken.
    pub(super) fn has_room_for_delete(&self, table: Table) -> Result<(), DeleteError> {
        match self.inner.n_under_way(table) {
            n_under_way if n_under_way >= MAX_UNDER_WAY => Err(DeleteError::TooMany(n_under_way)),
            _ => Ok(()),
        }
    }

    /// Orders the rows that a query means, which is understood, to be deleted.
    pub(super) async fn order(&self, table: Table, query: &str, range: TimeRange) -> Result<CommitId, DeleteError> {
        let inner = &self.inner;
        self.has_room_for_delete(table)?;
        let query = inner.catalog.put_query(query).await?;
        fail_point::hit("delete.after_query_put");
        // no flush may take rows above the cut into a block that the order concerns
        let _one_at_a_time = inner.flushing.lock().await;
        let lsn = {
            let _quiescent = inner.publication.write().await;
            inner.wal.stats().last_lsn
        };
        let mut commit = Commit::new(CommitKind::Delete, inner.clock.now_nanos());
        commit.delete = Some(DeleteOrder {
            table,
            start_nanos: range.start_nanos,
            end_nanos: range.end_nanos,
            query,
            lsn,
        });
        let id = commit.id.clone();
        let mut tries = 1;
        while let Err(error) = inner.catalog.commit(commit.clone()).await {
            if !error.retry_helps() || tries == ORDER_TRIES {
                return Err(error.into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50 << tries)).await;
            tries += 1;
        }
        fail_point::hit("delete.after_order");
        tracing::info!(id = id.as_str(), table = table.name(), lsn, "rows are to be deleted by a query");
        inner.flush_wanted.notify_one();
        Ok(id)
    }
}

/// What a flush leaves out.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) parts: Vec<Rows>,
    pub(super) erased: Vec<Erased>,
    pub(super) lost: Lost,
}

impl Inner {
    /// Notes how far the log reaches now, if a note is due.
    pub(super) fn note_position(&self) {
        let now_nanos = self.clock.now_nanos();
        let mut positions = self.positions.lock();
        if positions.is_due(now_nanos) {
            // read after the time: what was acknowledged by then lies below
            positions.note(now_nanos, self.wal.stats().last_lsn);
        }
    }

    /// The catalog was read, and at least what it had at this time is known.
    pub(super) fn forget_positions(&self, looked_nanos: i64) {
        let (snapshot, node) = (self.catalog.snapshot(), self.catalog.node());
        let unknown = snapshot.deletes().values().filter(|delete| delete.is_unknown_to(node));
        let needed = unknown.map(|delete| delete.at_nanos).fold(looked_nanos, i64::min);
        self.positions.lock().forget_before(needed.saturating_sub(POSITION_KEPT_NANOS));
    }

    /// Notes when the frames of the log were received that are about to be replayed. A delete that this node has yet to learn of may lie
    /// between any two, and be joined by the first flush, which comes before the later ones are read.
    pub(super) fn note_received(&self, flushed: Lsn) -> Result<(), crate::wal::Error> {
        if !self.is_delete_unknown() {
            return Ok(());
        }
        let mut positions = self.positions.lock();
        for frame in crate::wal::inspect(self.wal.dir(), flushed)? {
            // what cannot be read is told by the replay
            let Ok((lsn, frame)) = frame else { continue };
            // it was acknowledged later than this, and so was all behind it
            positions.note(frame.received_at_nanos, lsn.saturating_sub(1));
        }
        Ok(())
    }

    /// Deletes that have not ended: those of summaries of traces, which we order ourselves, or all others.
    fn n_under_way(&self, table: Table) -> usize {
        let is_ours = |table: Table| table == Table::Traces;
        let snapshot = self.catalog.snapshot();
        let under_way = snapshot.deletes().values().filter(|delete| delete.ended_at_nanos.is_none());
        under_way.filter(|delete| is_ours(delete.order.table) == is_ours(table)).count()
    }

    /// Whether rows that are to be deleted wait for a flush.
    pub(super) fn is_delete_waiting(&self) -> bool {
        let (snapshot, node) = (self.catalog.snapshot(), self.catalog.node());
        let flushed = snapshot.flushed_lsn(node);
        let mut under_way = snapshot.deletes().values().filter(|delete| delete.ended_at_nanos.is_none());
        under_way.any(|delete| delete.cuts.get(node).is_some_and(|lsn| *lsn > flushed))
    }

    /// Whether another node has ordered a delete of which the catalog does not know that this node knows.
    pub(super) fn is_delete_unknown(&self) -> bool {
        let (snapshot, node) = (self.catalog.snapshot(), self.catalog.node());
        snapshot.deletes().values().any(|delete| delete.is_unknown_to(node))
    }

    /// Tells the catalog up to where this node's log has rows that deletes concern of which it has just learnt.
    pub(super) async fn join_deletes(&self, began_nanos: i64) -> Result<(), Setback> {
        let (snapshot, node) = (self.catalog.snapshot(), self.catalog.node());
        let last_lsn = self.wal.stats().last_lsn;
        let joins: Vec<Join> = {
            let positions = self.positions.lock();
            let joins = snapshot
                .deletes()
                .iter()
                .filter(|(_, delete)| delete.is_unknown_to(node))
                .map(|(id, delete)| Join {
                    delete: id.clone(),
                    lsn: positions.at(delete.at_nanos).unwrap_or(last_lsn),
                });
            joins.collect()
        };
        if joins.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new(CommitKind::Delete, self.clock.now_nanos());
        commit.joins = joins;
        self.commit(commit, began_nanos).await?;
        fail_point::hit("delete.after_join");
        Ok(())
    }

    /// Leaves out of a flush the rows that deletes mean.
    pub(super) async fn without_deleted(&self, parts: Vec<Rows>, flushed: Lsn, began_nanos: i64) -> Result<LeftOut, Setback> {
        let (snapshot, node) = (self.catalog.snapshot(), self.catalog.node());
        let mut concerned = Vec::new();
        for (id, delete) in snapshot.deletes().iter().filter(|(_, delete)| delete.ended_at_nanos.is_none()) {
            match delete.cuts.get(node) {
                Some(lsn) if *lsn > flushed => {
                    let attempt = || self.erasures.of(&self.catalog, id, delete);
                    let erasure = self.until_stored("what is to be deleted", began_nanos, attempt).await?;
                    concerned.push((id.clone(), *lsn, erasure));
                }
                _ => {}
            }
        }
        if concerned.is_empty() {
            return Ok(LeftOut {
                parts,
                erased: vec![],
                lost: Lost::default(),
            });
        }
        Ok(off_the_runtime(move || leave_out(parts, &concerned)).await?)
    }
}

fn leave_out(mut parts: Vec<Rows>, concerned: &[(CommitId, Lsn, Arc<Erasure>)]) -> block::Result<LeftOut> {
    let (mut erased, mut lost) = (Vec::with_capacity(concerned.len()), Lost::default());
    for (id, lsn, erasure) in concerned {
        let mut n_rows = 0;
        for part in parts.iter_mut().filter(|part| part.table() == erasure.table && part.overlaps(&erasure.range)) {
            let meant = erasure.test.in_rows(part, &erasure.range).map_err(block::Error::Build)?;
            let ids = part.ingest_ids().values();
            let stays = |row: &u32| !(meant.value(*row as usize) && lsn_of(ids[*row as usize]) <= *lsn);
            let kept = UInt32Array::from_iter_values((0..part.len() as u32).filter(stays));
            if kept.len() < part.len() {
                n_rows += (part.len() - kept.len()) as u64;
                if erasure.table == Table::Spans {
                    lost.add_from(part, (0..part.len()).filter(|row| !stays(&(*row as u32))))?;
                }
                *part = part.take(&kept)?;
            }
        }
        erased.push(Erased {
            delete: id.clone(),
            rows: n_rows,
            clean: vec![],
        });
    }
    erased.retain(|erased| erased.rows > 0);
    parts.retain(|part| !part.is_empty());
    Ok(LeftOut { parts, erased, lost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_the_first_noted_at_or_after_a_time() {
        let mut positions = Positions::default();
        for n in 0..10i64 {
            positions.note(n * POSITION_EVERY_NANOS, n as Lsn * 10);
            positions.note(n * POSITION_EVERY_NANOS + 1, 999);
        }
        assert_eq!(positions.at(0), Some(0));
        assert_eq!(positions.at(POSITION_EVERY_NANOS + 1), Some(20));
        assert_eq!(positions.at(9 * POSITION_EVERY_NANOS), Some(90));
        assert_eq!(positions.at(9 * POSITION_EVERY_NANOS + 1), None);
    }

    #[test]
    fn positions_of_days_ago_are_known_less_exactly_and_none_is_forgotten() {
        let mut positions = Positions::default();
        let days = 3 * 24 * 3_600 * 4;
        for n in 0..days {
            positions.note(n * POSITION_EVERY_NANOS, n as Lsn);
        }
        assert!(positions.notes.len() <= MAX_POSITIONS && positions.notes.len() > MAX_POSITIONS / 4);
        for n in [0, 1, 1_000, 77_777, days / 2, days - 1_000] {
            let found = positions.at(n * POSITION_EVERY_NANOS).expect("noted") as i64;
            // never before it, and less than a minute and a half later, at twice the interval
            assert!((n..n + 2 * 128 + 1).contains(&found), "{n}: {found}");
        }
        // the store is back, and the catalog read
        positions.forget_before((days - 100) * POSITION_EVERY_NANOS);
        assert!(positions.notes.len() <= 2 && positions.at(0) > Some(days as Lsn - 101));
        positions.note(days * POSITION_EVERY_NANOS, 7);
        positions.note((days + 1) * POSITION_EVERY_NANOS, 8);
        assert_eq!(positions.at((days + 1) * POSITION_EVERY_NANOS), Some(8), "as exact as before");
    }
}
